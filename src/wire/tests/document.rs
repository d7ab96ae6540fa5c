//! The worked examples of docs/protocol.md are what this module writes.

use crate::token::TEXT_BYTES_MAX;

use super::*;

const PROTOCOL: &str = include_str!("../../../docs/protocol.md");
const TOKEN: &[u8] = b"acme_live_1V6T2UmxQamt62tVDZNVAg9lTphK2GsPOMyWeKb5058rZ4QIyYj";

/// The bytes of the example called `name`: the fenced block, without what follows a `;`.
fn example(name: &str) -> Vec<u8> {
    let fence = format!("```hex {name}\n");
    let (_, block) = PROTOCOL.split_once(&fence).unwrap_or_else(|| panic!("no example {name}"));
    let (block, _) = block.split_once("```").unwrap();
    let lines = block.lines().map(|line| line.split(';').next().unwrap());
    let digits: String = lines.collect::<String>().split_whitespace().collect();
    assert!(digits.len().is_multiple_of(2));
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

fn domain() -> Domain {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/vectors/token.json")).unwrap();
    let hex = vectors["hash_key_hex"].as_str().unwrap();
    let key = std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap());
    Domain { key: DomainKey(key), prefix: "acme".parse().unwrap(), foreign: None }
}

#[test]
fn the_example_of_hello_is_what_is_written() {
    assert_eq!(frame(push_hello_request), example("HELLO request"));
    let hello = Hello { domain: Some(domain()), epoch: 1, generation: 42, limits: Limits::OURS };
    assert_eq!(frame(|out| push_hello(out, &hello)), example("HELLO reply"));
}

#[test]
fn the_example_of_verify_is_what_is_written() {
    let need = Requirement::any().kind("live").scope("orders:read");
    let digest = domain().digest(TOKEN).unwrap();
    let written = frame(|out| push_verify(out, false, &need, &[digest]).unwrap());
    assert_eq!(written, example("VERIFY request"));
    let written = frame(|out| push_verify_tokens(out, false, &need, &[TOKEN]).unwrap());
    assert_eq!(written, example("VERIFY_TOKENS request"));
}

#[test]
fn the_example_of_verdicts_is_what_is_written() {
    let id = "V6T2UmxQamt62t".parse().unwrap();
    let expires = TableTime::end(1_798_761_600).unwrap();
    let record = Record { id, table: 0, expires, grant: 3 };
    let row = Row { verdict: Verdict::Valid, record: Some(record) };
    let head = VerdictsHead { stale: false, epoch: 1, generation: 42, revocations: 7, age_s: 3600 };
    let written = frame(|out| push_verdicts(out, &head, &[row.encode()], &[]));
    assert_eq!(written, example("VERDICTS reply"));
}

#[test]
fn the_example_of_error_is_what_is_written() {
    let written = frame(|out| push_error(out, ErrorCode::HelloFirst, "say hello first"));
    assert_eq!(written, example("ERROR reply"));
}

/// Every row `| number | name |` of a table is there for each number.
#[test]
fn verdicts_errors_and_limits_are_listed_as_they_are() {
    for verdict in Verdict::ALL {
        let row = format!("| {} | `{verdict}` |", verdict as u32);
        assert!(PROTOCOL.contains(&row), "{row}");
    }
    for code in ErrorCode::ALL {
        let closes = if code.closes() { "yes" } else { "no" };
        let row = format!("| {} | {code} | {closes} |", code as u32);
        assert!(PROTOCOL.contains(&row), "{row}");
    }
    let limits = [
        ("frame_bytes_max", FRAME_BYTES_MAX),
        ("digests_max", DIGESTS_MAX),
        ("tokens_max", TOKENS_MAX),
        ("claims_rows_max", CLAIMS_ROWS_MAX),
        ("least `frame_bytes_max`", FRAME_BYTES_MIN),
        ("kind", KIND_BYTES_MAX),
        ("audience", AUDIENCE_BYTES_MAX),
        ("scope", SCOPE_BYTES_MAX),
        ("scopes", SCOPES_MAX),
        ("token", TEXT_BYTES_MAX),
        ("message", MESSAGE_BYTES_MAX),
    ];
    for (name, limit) in limits {
        let name = if name.contains('`') { name.to_owned() } else { format!("`{name}`") };
        let row = format!("| {name} | {limit} |");
        assert!(PROTOCOL.contains(&row), "{row}");
    }
}
