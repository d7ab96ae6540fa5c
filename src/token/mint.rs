//! New tokens from the operating system's randomness.

use zeroize::Zeroize;

use super::base62::{DIGITS, encode_check};
use super::{BODY_CHARS, CHECK_CHARS, Kind, Parts, Prefix, TOKEN_BYTES_MAX, Token, VERSION};

/// Bytes from here on are drawn again: 248 is the largest multiple of 62 in a byte, so `mod 62`
/// of what remains favours no digit.
const REJECT_FROM: u8 = 248;

impl Token {
    /// A new token. Fails only when the operating system has no randomness to give.
    pub fn mint(prefix: Prefix, kind: Kind) -> Result<Token, getrandom::Error> {
        let mut text = Vec::with_capacity(TOKEN_BYTES_MAX);
        text.extend_from_slice(prefix.as_str().as_bytes());
        text.push(b'_');
        text.extend_from_slice(kind.as_str().as_bytes());
        text.push(b'_');
        text.push(VERSION);
        push_random_digits(&mut text, BODY_CHARS - 1 - CHECK_CHARS)?;
        let check = encode_check(crc32fast::hash(&text));
        text.extend_from_slice(&check);
        let token = Token::from_parts(&Parts::parse(&text).expect("minted as the format says"));
        text.zeroize();
        Ok(token)
    }
}

fn push_random_digits(text: &mut Vec<u8>, count: usize) -> Result<(), getrandom::Error> {
    let wanted = text.len() + count;
    let mut pool = [0_u8; 64];
    while text.len() < wanted {
        getrandom::fill(&mut pool)?;
        let digits = pool.iter().filter(|&&byte| byte < REJECT_FROM);
        let missing = wanted - text.len();
        text.extend(digits.map(|byte| DIGITS[usize::from(byte % 62)]).take(missing));
    }
    pool.zeroize();
    Ok(())
}
