//! A builder that breaks a law, with a good key: what a stolen signer or a fault of ours would do.
//!
//! Two homes share their keys from generation 1 on. One publishes what is served; the store of the
//! other, which never knew of it, is then put in its place with a higher generation.

use std::fs;

use adamant::claims::Requirement;
use adamant::verdict::Verdict;

use crate::support::{Home, Server, eventually};

/// A line of a list, about the token whose digest is 32 times `byte`.
fn line(byte: u8, id: &str, more: &str) -> String {
    let digest = format!("{byte:02x}").repeat(32);
    format!("{{\"digest\":\"{digest}\",\"id\":\"{id}\",\"kind\":\"live\"{more}}}\n")
}

const A: &str = "00000000000aaA";
const B: &str = "00000000000bbB";
const C: &str = "00000000000ccC";

/// Serves `before`, and is then handed `after` with a good signature and a higher generation.
/// Gives what the daemon said of it, which it also said after a restart.
fn refusal(before: &str, after: &str) -> String {
    let home = Home::new();
    let other = home.copy();
    home.build_from(before.as_bytes(), &[]).expect_code(0);
    other.build_from(after.as_bytes(), &[]).expect_code(0);
    // Another generation, so that it is higher than the mark.
    let more = line(0xEE, "00000000000eeE", "");
    other.build_from(format!("{after}{more}").as_bytes(), &[]).expect_code(0);

    let mut server = Server::start(&home.path());
    assert_eq!(server.generation(), 2);
    other.deliver_to(&home);
    let refused = |server: &Server| {
        eventually("it is refused", || server.status()["refused"].is_string());
        assert_eq!(server.generation(), 2);
        server.status()["refused"].as_str().unwrap().to_owned()
    };
    let said = refused(&server);
    server.signal("TERM");
    server.wait();
    let again = Server::start(&home.path());
    assert_eq!(refused(&again), said);
    said
}

#[test]
fn a_record_that_is_gone_is_named() {
    let both = line(1, A, "") + &line(2, B, "");
    let said = refusal(&both, &line(2, B, ""));
    assert!(said.contains("1 token breaks a law against what is served"), "{said}");
    assert!(said.contains(&format!("{A} is missing before 30 days after its expiry")), "{said}");
}

#[test]
fn a_revoked_token_does_not_come_back() {
    let revoked = line(1, A, ",\"revoked_at\":\"2021-01-01T00:00:00Z\"") + &line(2, B, "");
    let said = refusal(&revoked, &(line(1, A, "") + &line(2, B, "")));
    assert!(
        said.contains(&format!("{A} was revoked and is trusted again, or for longer")),
        "{said}"
    );

    let soon = line(1, A, ",\"revoked_at\":\"2040-01-01T00:00:00Z\"");
    let later = line(1, A, ",\"revoked_at\":\"2041-01-01T00:00:00Z\"");
    let said = refusal(&soon, &later);
    assert!(
        said.contains(&format!("{A} was revoked and is trusted again, or for longer")),
        "{said}"
    );
}

#[test]
fn what_is_frozen_stays_as_it_was() {
    let before = line(1, A, ",\"scopes\":[\"read\"],\"subject\":\"x\"") + &line(2, B, "");
    let cases = [
        (
            line(1, A, ",\"scopes\":[\"read\",\"write\"],\"subject\":\"x\""),
            "kind, audience or scopes",
        ),
        (line(1, A, ",\"scopes\":[\"read\"],\"subject\":\"y\""), "subject or meta"),
        (
            line(
                1,
                A,
                ",\"scopes\":[\"read\"],\"subject\":\"x\",\"expires\":\"2090-01-01T00:00:00Z\"",
            ),
            "expires",
        ),
        (
            line(
                1,
                A,
                ",\"scopes\":[\"read\"],\"subject\":\"x\",\"not_before\":\"2021-01-01T00:00:00Z\"",
            ),
            "not_before",
        ),
        (line(1, C, ",\"scopes\":[\"read\"],\"subject\":\"x\""), "id"),
    ];
    for (after, field) in cases {
        let said = refusal(&before, &(after + &line(2, B, "")));
        assert!(said.contains(&format!("{A} has another {field}")), "{said}");
    }
}

#[test]
fn an_id_is_not_given_to_another_token() {
    let said = refusal(&line(1, A, ""), &line(2, A, ""));
    assert!(said.contains(&format!("{A} has lost its id to another token")), "{said}");
}

#[test]
fn at_most_ten_are_named_and_all_are_counted() {
    let id = |n: u8| format!("000000000000{n:02}");
    let many: String = (1..=12).map(|n| line(n, &id(n), "")).collect();
    let said = refusal(&(many + &line(0xDD, A, "")), &line(0xDD, A, ""));
    assert!(said.contains("12 tokens break a law"), "{said}");
    assert_eq!(said.matches("is missing").count(), 10);
}

/// Records leave 30 days after their expiry, new grants renumber the old, tokens are added and
/// revoked: all of that is lawful, also by way of generations that this host never saw.
#[test]
fn what_the_laws_allow_is_served() {
    let home = Home::new();
    let other = home.copy();
    let before =
        line(1, A, ",\"expires\":\"2021-01-01T00:00:00Z\"") + &line(2, B, ",\"scopes\":[\"read\"]");
    home.build_from(before.as_bytes(), &[]).expect_code(0);
    let token = home.issue(1).remove(0);
    let listed = fs::read_to_string(home.list()).unwrap();
    let server = Server::start(&home.path());

    other.build_from((before.clone() + &listed).as_bytes(), &[]).expect_code(0);
    let after = line(2, B, ",\"scopes\":[\"read\"],\"revoked_at\":\"2040-01-01T00:00:00Z\"")
        + &line(3, C, ",\"audience\":\"a\"")
        + &listed;
    other.build_from(after.as_bytes(), &[]).expect_code(0);
    other.deliver_to(&home);
    server.wait_for_generation(3);
    let answer = server.client().verify(token.as_bytes(), &Requirement::any()).unwrap();
    assert_eq!(answer.verdict(), Verdict::Valid);
    assert!(server.status()["refused"].is_null());
}
