//! Token text: what parses is written again as it was read, shows nothing of its secret, and has
//! one digest.

#![no_main]

use std::sync::LazyLock;

use adamant::token::{Domain, ForeignAlgorithm, ID_CHARS, Parts, Token, TokenId, strip_scheme};
use adamant_fuzz::sample::domain;
use libfuzzer_sys::fuzz_target;

static OURS: LazyLock<Domain> = LazyLock::new(domain);
static BOTH: LazyLock<Domain> =
    LazyLock::new(|| Domain { foreign: Some(ForeignAlgorithm::Sha256), ..domain() });

fuzz_target!(|text: &[u8]| {
    let digest = OURS.digest(text);
    if let Ok(digest) = digest {
        assert_eq!(BOTH.digest(text), Ok(digest), "our tokens are ours beside foreign ones");
    }
    let bare = strip_scheme(text);
    let id = TokenId::from_chars(bare);
    assert!(id.is_none_or(|id| id.chars() == bare));
    // A scheme is taken off once: a text that has it twice is no token.
    let (parts, token) = (Parts::parse(bare), Token::parse(text));
    assert_eq!(parts.is_ok(), token.is_ok());
    let (Ok(parts), Ok(token)) = (parts, token) else { return };
    assert_eq!(token.expose().as_bytes(), bare);
    assert_eq!(token.id(), parts.id());
    assert_eq!(TokenId::from_bytes(parts.id().bytes()), Some(parts.id()));
    let secret = &token.expose()[token.expose().len() - 36..];
    assert!(!format!("{token:?} {}", token.redacted()).contains(secret));
    assert_eq!(parts.id().chars().len(), ID_CHARS);
    assert_eq!(digest.is_ok(), parts.prefix() == OURS.prefix);
});
