//! Against `tests/vectors/token.json`, which was made by a path that shares no code with this one.

use serde_json::Value;

use super::*;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/vectors/token.json")).unwrap()
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn vector_key() -> DomainKey {
    DomainKey(hex(text(&vectors(), "hash_key_hex")).try_into().unwrap())
}

fn domain(prefix: &str, foreign: Option<ForeignAlgorithm>) -> Domain {
    Domain { key: vector_key(), prefix: prefix.parse().unwrap(), foreign }
}

#[test]
fn every_well_formed_vector_is_read_and_hashed_as_it_says() {
    let vectors = vectors();
    let rows = vectors["well_formed"].as_array().unwrap();
    assert_eq!(rows.len(), 24);
    for row in rows {
        let token = Token::parse(text(row, "token").as_bytes()).unwrap();
        let parts = Parts::parse(text(row, "token").as_bytes()).unwrap();
        assert_eq!(parts.prefix().as_str(), text(row, "prefix"));
        assert_eq!(parts.kind().as_str(), text(row, "kind"));
        assert_eq!(token.id().to_string(), text(row, "id"));
        assert_eq!(parts.id(), token.id());
        assert_eq!(token.id().bytes().to_vec(), hex(text(row, "id_bytes_big_endian_hex")));
        assert_eq!(token.redacted(), text(row, "redacted"));
        assert_eq!(token.digest(&vector_key()).to_vec(), hex(text(row, "digest_hex")));
        assert_eq!(TokenId::from_bytes(token.id().bytes()), Some(token.id()));
        assert_eq!(text(row, "id").parse(), Ok(token.id()));
    }
}

#[test]
fn every_malformed_vector_is_refused() {
    let vectors = vectors();
    let rows = vectors["malformed"].as_array().unwrap();
    assert_eq!(rows.len(), 20);
    for row in rows {
        let malformed = text(row, "text").as_bytes();
        assert!(Token::parse(malformed).is_err(), "{}", row["why"]);
        assert!(domain("acme", None).digest(malformed).is_err(), "{}", row["why"]);
    }
}

#[test]
fn the_uri_form_is_the_token() {
    let vectors = vectors();
    let row = &vectors["uri_form"];
    let token = Token::parse(text(row, "text").as_bytes()).unwrap();
    assert_eq!(token.expose(), text(row, "token"));
    let upper = text(row, "text").replace("secret-token:", "Secret-Token:");
    assert_eq!(Token::parse(upper.as_bytes()).unwrap().expose(), text(row, "token"));
}

#[test]
fn the_foreign_vector_has_its_digest_and_id() {
    let vectors = vectors();
    let row = &vectors["foreign"];
    let algorithm = ForeignAlgorithm::from_name(text(row, "algorithm")).unwrap();
    let stored = hex(text(row, "stored_hex"));
    let digest = vector_key().foreign_digest(algorithm, &stored);
    assert_eq!(digest.to_vec(), hex(text(row, "digest_hex")));
    assert_eq!(format!("foreign:{}", TokenId::of_foreign(&digest)), text(row, "id"));
    let presented = text(row, "of_text").as_bytes();
    assert_eq!(domain("acme", Some(algorithm)).digest(presented), Ok(digest));
    assert_eq!(domain("acme", None).digest(presented), Err(TokenError::Shape));
}

#[test]
fn a_mistyped_token_of_ours_is_malformed_even_where_foreign_tokens_exist() {
    let good = "acme_live_1V6T2UmxQamt62tVDZNVAg9lTphK2GsPOMyWeKb5058rZ4QIyYj";
    let typo = good.replace("62tVDZ", "62tVDY");
    let with_foreign = domain("acme", Some(ForeignAlgorithm::Sha256));
    assert_eq!(with_foreign.digest(typo.as_bytes()), Err(TokenError::Check));
    assert!(with_foreign.digest(good.as_bytes()).is_ok());
    // Another length, or another prefix, is another system's token.
    assert!(with_foreign.digest(b"acme_old-style-key").is_ok());
    assert!(with_foreign.digest(typo.replace("acme", "acne").as_bytes()).is_ok());
    assert_eq!(with_foreign.digest(b""), Err(TokenError::Length { found: 0 }));
    let endless = vec![b'x'; TEXT_BYTES_MAX + 1];
    assert!(with_foreign.digest(&endless).is_err());
}

/// Our own that fit a block of the hash and that do not, foreign ones and nonsense, of every number
/// up to three fillings of the lanes: each has its place, whichever were hashed together.
#[test]
fn many_texts_are_hashed_as_each_of_them_is() {
    for (prefix, fits_a_block) in [("acme", true), ("abcdefghij", false)] {
        let vectors = vectors();
        let rows = vectors["well_formed"].as_array().unwrap();
        let ours = rows.iter().filter(|row| text(row, "prefix") == prefix);
        let ours: Vec<&str> = ours.map(|row| text(row, "token")).collect();
        assert!(!ours.is_empty() && ours.iter().all(|token| (token.len() <= 64) == fits_a_block));
        let texts: Vec<String> = (ours.iter().cycle().zip(0..25))
            .map(|(&token, number)| match number % 6 {
                3 => format!("secret-token:{token}"),
                4 => token.replace(prefix, "elsewhere"),
                5 => String::new(),
                _ => token.to_owned(),
            })
            .collect();
        for foreign in [None, Some(ForeignAlgorithm::Sha256)] {
            (0..=texts.len())
                .for_each(|count| same_as_each(&domain(prefix, foreign), &texts[..count]));
        }
    }
}

fn same_as_each(domain: &Domain, texts: &[String]) {
    let texts = texts.iter().map(String::as_bytes);
    // Appended to what others asked.
    let (mut digests, mut malformed) = (vec![[9; 32]], Vec::new());
    domain.digest_many(texts.clone(), &mut digests, &mut malformed);
    let each: Vec<_> = texts.map(|text| domain.digest(text)).collect();
    let expected = each.iter().map(|digest| digest.unwrap_or_default());
    assert!(digests.into_iter().eq([[9; 32]].into_iter().chain(expected)));
    let wrong = (1..).zip(&each).filter(|(_, digest)| digest.is_err());
    assert!(malformed.into_iter().eq(wrong.map(|(place, _)| place)));
}

#[cfg(feature = "store")]
#[test]
fn minted_tokens_are_well_formed_and_differ() {
    let (prefix, kind) = ("acme".parse().unwrap(), "live".parse().unwrap());
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..1000 {
        let token = Token::mint(prefix, kind).unwrap();
        assert_eq!(Token::parse(token.expose().as_bytes()).unwrap().id(), token.id());
        assert!(ids.insert(token.id()));
    }
}

/// All 62 digits in equal shares: a chi-squared over a million digits, far beyond its 1e-9 tail.
#[cfg(feature = "store")]
#[test]
fn minted_digits_are_uniform() {
    let (prefix, kind) = ("ab".parse().unwrap(), "a".parse().unwrap());
    let mut seen = [0_u32; 256];
    let tokens = 20_000;
    for _ in 0..tokens {
        let token = Token::mint(prefix, kind).unwrap();
        for &digit in &token.as_bytes()[6..6 + ID_CHARS + SECRET_CHARS] {
            seen[usize::from(digit)] += 1;
        }
    }
    let expected = f64::from(tokens * 44) / 62.0;
    let chi: f64 = (0..=255_u8)
        .filter(|&byte| base62::are_digits(&[byte]))
        .map(|byte| (f64::from(seen[usize::from(byte)]) - expected).powi(2) / expected)
        .sum();
    assert!(chi < 160.0, "chi-squared of 61 degrees of freedom: {chi}");
}

#[test]
fn a_token_prints_only_redacted() {
    let text = "acme_live_1V6T2UmxQamt62tVDZNVAg9lTphK2GsPOMyWeKb5058rZ4QIyYj";
    let token = Token::parse(text.as_bytes()).unwrap();
    assert_eq!(
        format!("{token:?} {token:#?}"),
        "acme_live_1V6T2UmxQamt62t... acme_live_1V6T2UmxQamt62t..."
    );
}

#[test]
fn ids_that_fourteen_digits_cannot_write_are_no_ids() {
    let largest = TokenId::from_chars(b"zzzzzzzzzzzzzz").unwrap();
    assert_eq!(TokenId::from_bytes(largest.bytes()), Some(largest));
    let above = base62::ID_LIMIT.to_be_bytes();
    assert_eq!(TokenId::from_bytes(*above.last_chunk().unwrap()), None);
    assert_eq!(TokenId::from_chars(b"zzzzzzzzzzzzz"), None);
    assert_eq!(TokenId::from_chars(b"zzzzzzzzzzzzz_"), None);
}
