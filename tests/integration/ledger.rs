//! A home with a ledger: events first, tables from them, and what can be proven about both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use adamant::claims::Requirement;
use adamant::client::Client;
use adamant::verdict::Verdict;
use serde_json::Value;

use crate::support::{Home, Ran, Server, eventually, run, run_with};

/// Runs a command on a home that issues.
pub(crate) fn on(home: &Home, arguments: &[&str]) -> Ran {
    on_with(home, arguments, b"")
}

fn on_with(home: &Home, arguments: &[&str], input: &[u8]) -> Ran {
    // Before the first option: `signers rotate` is two words.
    let at = arguments.iter().position(|word| word.starts_with("--")).unwrap_or(arguments.len());
    let (command, options) = arguments.split_at(at);
    run(&[command, &["--home", home.text()], options].concat(), input)
}

/// Issues one token; gives it and what else was said.
pub(crate) fn issue(home: &Home, more: &[&str]) -> (String, Value) {
    let mut arguments = vec!["issue", "--json"];
    for (name, value) in [("--kind", "live"), ("--subject", "ann@example.com")] {
        if !more.contains(&name) {
            arguments.extend([name, value]);
        }
    }
    arguments.extend(more);
    let said = on(home, &arguments).expect_code(0).json();
    (said["token"].as_str().unwrap().to_owned(), said)
}

pub(crate) fn id_of(token: &str) -> &str {
    &token[token.len() - 50..token.len() - 36]
}

fn verdict(server: &Server, token: &str) -> Verdict {
    server.client().verify(token.as_bytes(), &Requirement::any()).unwrap().verdict()
}

#[track_caller]
pub(crate) fn audit_is_clean(home: &Home) -> Value {
    let policy = home.policy();
    let said = run(&["audit", "--json", home.text(), "--policy", policy.to_str().unwrap()], b"");
    let said = said.expect_code(0).json();
    assert_eq!(said["clean"], true);
    said
}

/// Issue, valid, rotate with an overlap, both valid, the old one dies on time; each step proven to
/// somebody who has a proof file and a key.
#[test]
fn one_tokens_life() {
    let home = Home::new();
    let server = Server::start(&home.path());
    let (old, said) = issue(&home, &["--scope", "orders:read", "--expires", "90d"]);
    assert_eq!(said["generation"], 2);
    server.wait_for_generation(2);
    assert_eq!(verdict(&server, &old), Verdict::Valid);

    let rotated = on(&home, &["rotate", id_of(&old), "--overlap", "3s", "--json"]);
    let rotated = rotated.expect_code(0).json();
    let new = rotated["token"].as_str().unwrap().to_owned();
    server.wait_for_generation(3);
    assert_eq!((verdict(&server, &old), verdict(&server, &new)), (Verdict::Valid, Verdict::Valid));
    let show = on(&home, &["show", id_of(&old), "--json"]).expect_code(0).json();
    let at = show["events"][1]["at"].as_str().unwrap().to_owned();
    eventually("the old one dies", || verdict(&server, &old) == Verdict::Revoked);
    let now = adamant::time::to_rfc3339(adamant::store::now_unix_s());
    assert!(now >= at, "{now} is before {at}");
    assert_eq!(verdict(&server, &new), Verdict::Valid);

    let policy = home.policy();
    for (about, token, part) in [
        ("issued", &old, "scopes orders:read"),
        ("revoked", &old, "reason superseded, for"),
        ("issued", &new, "in the place of"),
    ] {
        let proof = home.folder().join("proof");
        let file = proof.to_str().unwrap();
        on(&home, &["prove", about, id_of(token), "--out", file]).expect_code(0);
        let pinned = ["verify-proof", file, "--policy", policy.to_str().unwrap()];
        let said = run(&pinned, b"").expect_code(0);
        assert!(
            said.stdout.contains(part) && said.stdout.contains(id_of(token)),
            "{}",
            said.stdout
        );
        let unpinned = run(&["verify-proof", file], b"").expect_code(0);
        assert!(unpinned.stdout.contains("signers not pinned"), "{}", unpinned.stdout);
        every_change_of_a_proof_is_refused(&proof, &policy);
    }
    let none = on(&home, &["prove", "revoked", id_of(&new)]).expect_code(65);
    none.expect_error("was never revoked");
    let audit = audit_is_clean(&home);
    assert_eq!(audit["tokens"], 2);
    assert_eq!(audit["events"]["rotate"], 1);
}

/// One changed character on each line, and each line left out.
fn every_change_of_a_proof_is_refused(proof: &Path, policy: &Path) {
    let whole = fs::read_to_string(proof).unwrap();
    let other = proof.with_extension("changed");
    let refused = |text: String| {
        fs::write(&other, text).unwrap();
        let file = other.to_str().unwrap();
        run(&["verify-proof", file, "--policy", policy.to_str().unwrap()], b"").expect_code(65);
    };
    let lines: Vec<&str> = whole.lines().collect();
    for at in 0..lines.len() {
        let without: Vec<&str> = lines
            .iter()
            .enumerate()
            .filter(|(line, _)| *line != at)
            .map(|(_, line)| *line)
            .collect();
        refused(without.join("\n") + "\n");
        let Some(last) = lines[at].chars().last() else { continue };
        let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let swapped = if last == 'A' { 'B' } else { 'A' };
        changed[at].pop();
        changed[at].push(swapped);
        refused(changed.join("\n") + "\n");
    }
}

#[test]
fn a_revoked_token_stays_revoked_and_says_by_which_event() {
    let home = Home::new();
    let server = Server::start(&home.path());
    let (token, _) = issue(&home, &[]);
    let id = id_of(&token).to_owned();
    let scheduled = ["revoke", &id, "--reason", "policy", "--at", "2099-01-01T00:00:00Z"];
    on(&home, &scheduled).expect_code(0);
    let later = ["revoke", &id, "--reason", "policy", "--at", "2099-06-01T00:00:00Z"];
    let said = on(&home, &later).expect_code(0);
    assert!(said.stdout.contains("was revoked before, by event 3"), "{}", said.stdout);
    let now = on_with(&home, &["revoke", "-", "--reason", "compromised"], token.as_bytes());
    assert!(now.expect_code(0).stdout.contains("1 revoked"));
    server.wait_for_generation(4);
    assert_eq!(verdict(&server, &token), Verdict::Revoked);
    let again = on(&home, &["revoke", &id, "--reason", "other"]).expect_code(0);
    assert!(again.stdout.contains("0 revoked"), "{}", again.stdout);
    on(&home, &["rotate", &id]).expect_code(65).expect_error("revoked by event 5");

    let as_argument = on(&home, &["revoke", &token, "--reason", "other"]).expect_code(64);
    as_argument.expect_error("a token must not be an argument");
    assert!(!as_argument.stderr.contains(&token));
    let unknown = on(&home, &["revoke", "00000000000001", "--reason", "other"]).expect_code(65);
    unknown.expect_error("no token 00000000000001 was issued here");
    on(&home, &["revoke", &id]).expect_code(64).expect_error("--reason");
    audit_is_clean(&home);
}

#[test]
fn a_request_made_again_does_nothing_and_shows_no_token() {
    let home = Home::new();
    let request = ["issue", "--kind", "live", "--count", "3", "--request-id", "order-77"];
    let first = on(&home, &request).expect_code(0);
    let tokens: Vec<&str> = first.stdout.lines().collect();
    let again = on(&home, &request).expect_code(73);
    assert_eq!(again.stdout, "");
    for token in tokens {
        again.expect_error(id_of(token));
        assert!(!again.stderr.contains(token));
    }
    assert_eq!(audit_is_clean(&home)["tokens"], 3);
}

#[test]
fn what_is_recorded_and_not_published_is_published_by_the_next_command() {
    let home = Home::new();
    let (early, said) = issue(&home, &["--no-publish"]);
    assert_eq!(said["generation"], Value::Null);
    let server = Server::start(&home.path());
    assert_eq!(verdict(&server, &early), Verdict::Unknown);
    // A store that nobody can write to: recorded, exit 75, and the token is shown all the same.
    let store = home.store();
    let blocked = store.join("tables/blocked");
    fs::create_dir(&blocked).unwrap();
    fs::rename(store.join("tables"), store.join("away")).unwrap();
    let said = on(&home, &["issue", "--json", "--kind", "live"]).expect_code(75);
    said.expect_error("recorded in the ledger, but not published");
    let late = said.json()["token"].as_str().unwrap().to_owned();
    fs::rename(store.join("away"), store.join("tables")).unwrap();
    on(&home, &["publish"]).expect_code(0);
    server.wait_for_generation(2);
    assert_eq!(
        (verdict(&server, &early), verdict(&server, &late)),
        (Verdict::Valid, Verdict::Valid)
    );
}

#[test]
fn a_home_is_built_from_lists_or_from_its_ledger() {
    let home = Home::new();
    home.issue(2);
    home.build_from(&fs::read(home.list()).unwrap(), &[]).expect_code(0);
    let refused = on(&home, &["issue", "--kind", "live"]).expect_code(78);
    refused.expect_error("built from token lists");
    let other = Home::new();
    issue(&other, &[]);
    let refused = other.build_from(&fs::read(home.list()).unwrap(), &[]).expect_code(78);
    refused.expect_error("built from its ledger");
}

/// The subject is in no file of the home; the token is valid; what the ledger says is as it was.
#[test]
fn an_erased_subject_is_nowhere() {
    let home = Home::new();
    let (token, _) = issue(&home, &["--subject", "erase-me@example.com", "--meta", "also-me"]);
    let (other, _) = issue(&home, &[]);
    on(&home, &["build"]).expect_code(0);
    on(&home, &["rotate", id_of(&other), "--overlap", "1h"]).expect_code(0);
    let server = Server::start(&home.path());
    let subject = |token: &str| {
        let answer = server.client().verify_with_claims(token.as_bytes(), &Requirement::any());
        match answer.unwrap() {
            adamant::client::Answer::Valid(access) => access.claims.unwrap().subject,
            denied => panic!("{denied:?}"),
        }
    };
    assert_eq!(subject(&token), "erase-me@example.com");
    let said = on(&home, &["erase", id_of(&token), "--json"]).expect_code(0).json();
    server.wait_for_generation(said["generation"].as_u64().unwrap());
    assert_eq!(subject(&token), "");
    assert_eq!(subject(&other), "ann@example.com");
    for word in ["erase-me", "also-me"] {
        let found = Command::new("grep").args(["-rl", word]).arg(home.path()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{word} is still there");
    }
    let audit = audit_is_clean(&home);
    assert_eq!(audit["events"]["erase"], 1);
    assert!(audit["unchecked"].to_string().contains("1 subjects were erased"), "{audit}");
    // Again, as after an interruption: the same.
    on(&home, &["erase", id_of(&token)]).expect_code(0);
    assert_eq!(audit_is_clean(&home)["events"]["erase"], 1);
}

#[test]
fn tokens_of_another_system_are_imported_once() {
    let home = Home::new();
    let server = Server::start(&home.path());
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let list = format!("sha256,kind,scopes,subject\n{hash},live,a b,bob\n");
    let import = ["import", "--algorithm", "sha256", "--from", "-", "--json"];
    let refused = on_with(&home, &import, list.as_bytes()).expect_code(65);
    assert!(!refused.stderr.is_empty());
    let import = [&import[..], &["--high-entropy"]].concat();
    let said = on_with(&home, &import, list.as_bytes()).expect_code(0).json();
    assert_eq!((said["imported"].as_u64(), said["before"].as_u64()), (Some(1), Some(0)));
    server.wait_for_generation(2);
    assert_eq!(verdict(&server, "test"), Verdict::Valid);
    let again = on_with(&home, &import, list.as_bytes()).expect_code(0).json();
    assert_eq!((again["imported"].as_u64(), again["before"].as_u64()), (Some(0), Some(1)));
    let audit = audit_is_clean(&home);
    assert_eq!(audit["events"]["import"], 1);
    let listed = on(&home, &["list", "--json"]).expect_code(0).json();
    let id = listed["id"].as_str().unwrap();
    on(&home, &["revoke", id, "--reason", "superseded"]).expect_code(0);
    server.wait_for_generation(3);
    assert_eq!(verdict(&server, "test"), Verdict::Revoked);
}

/// Base, lower and upper overlay at once, with tokens of each revoked from above; then all of it
/// moved down. The answers stay, and every stage is what the ledger makes it.
#[test]
fn overlays_say_what_one_table_would() {
    let home = Home::new();
    let server = Server::start(&home.path());
    let issue_many = |count: &str| -> Vec<String> {
        let said = on(&home, &["issue", "--kind", "live", "--subject", "s", "--count", count]);
        said.expect_code(0).stdout.lines().map(str::to_owned).collect()
    };
    let base = issue_many("500");
    on(&home, &["build"]).expect_code(0);
    // More than the upper overlay holds, so that the first becomes the lower one.
    let lower = issue_many("9000");
    let upper = issue_many("9000");
    let tables = |expected: usize| {
        let manifest = fs::read_to_string(home.store().join("manifest")).unwrap();
        let found = manifest.lines().filter(|line| line.starts_with("table ")).count();
        assert_eq!(found, expected, "{manifest}");
    };
    let mut dead = Vec::new();
    for (at, token) in [&base[0], &lower[0], &upper[0], &base[9], &lower[9]].into_iter().enumerate()
    {
        on(&home, &["revoke", id_of(token), "--reason", "other"]).expect_code(0);
        dead.push(token.clone());
        audit_is_clean(&home);
        check(&server, &home, &[&base, &lower, &upper], &dead);
        assert_eq!(dead.len(), at + 1);
    }
    let published = on(&home, &["build"]).expect_code(0);
    assert!(published.stdout.contains("18,500 records"), "{}", published.stdout);
    tables(1);
    check(&server, &home, &[&base, &lower, &upper], &dead);
    let policy = home.policy();
    let policy = policy.to_str().unwrap();
    let store = home.store();
    let rebuilt = ["verify-store", store.to_str().unwrap(), "--policy", policy, "--rebuild"];
    run(&rebuilt, b"").expect_code(0);
}

fn check(server: &Server, home: &Home, tokens: &[&Vec<String>], dead: &[String]) {
    let manifest = fs::read_to_string(home.store().join("manifest")).unwrap();
    let generation = manifest.lines().nth(2).unwrap().strip_prefix("generation ").unwrap();
    server.wait_for_generation(generation.parse().unwrap());
    let key = home.domain().key;
    let mut client: Client = server.client();
    for token in tokens.iter().flat_map(|tokens| tokens.iter()).collect::<Vec<_>>().chunks(4096) {
        let digests: Vec<_> = token.iter().map(|token| key.digest(token.as_bytes())).collect();
        let rows = client.verify_digests(&digests, &Requirement::any()).unwrap().rows;
        for (token, row) in token.iter().zip(rows) {
            let expected = if dead.contains(token) { Verdict::Revoked } else { Verdict::Valid };
            assert_eq!(row.verdict, expected, "{}", id_of(token));
            assert_eq!(row.record.unwrap().id.to_string(), id_of(token));
        }
    }
}

/// Without its index a home makes it anew, and refuses what was issued before all the same.
#[test]
fn the_index_is_made_from_the_ledger_alone() {
    let home = Home::new();
    let hash = "ab".repeat(32);
    let list = format!("sha256,kind\n{hash},live\n");
    let import = ["import", "--algorithm", "sha256", "--from", "-", "--high-entropy", "--json"];
    on_with(&home, &import, list.as_bytes()).expect_code(0);
    let many = on(&home, &["issue", "--kind", "live", "--count", "20000"]).expect_code(0);
    let token = many.stdout.lines().last().unwrap().to_owned();
    let index = home.path().join("private/index");
    assert!(index.join("upper").exists(), "20,000 tokens are more than the tail holds");
    for remove in [&["base", "upper", "tail"][..], &["tail"], &["upper"]] {
        for name in remove {
            let _ = fs::remove_file(index.join(name));
        }
        let again = on_with(&home, &import, list.as_bytes()).expect_code(0).json();
        assert_eq!(again["before"], 1, "without {remove:?}");
        let shown = on(&home, &["show", id_of(&token), "--json"]).expect_code(0).json();
        assert_eq!(shown["state"], "valid");
    }
    // Rows that a crash has torn.
    issue(&home, &[]);
    issue(&home, &[]);
    let tail = fs::read(index.join("tail")).unwrap();
    for len in [1, tail.len() / 2, tail.len() - 1] {
        fs::write(index.join("tail"), &tail[..len]).unwrap();
        issue(&home, &[]);
    }
    fs::write(index.join("tail"), vec![0; 4800]).unwrap();
    let (token, _) = issue(&home, &[]);
    on(&home, &["show", id_of(&token)]).expect_code(0);
    audit_is_clean(&home);
}

/// The store alone, copied elsewhere, other time zone, locale and threads: the same bytes for 50
/// ranges of the ledger.
#[test]
fn tables_are_the_same_bytes_anywhere() {
    let home = Home::new();
    let (first, _) = issue(&home, &["--expires", "30d", "--not-before", "1h"]);
    on(&home, &["issue", "--kind", "test", "--scope", "b", "--scope", "a", "--count", "300"])
        .expect_code(0);
    on(&home, &["rotate", id_of(&first), "--overlap", "1h"]).expect_code(0);
    on(&home, &["revoke", id_of(&first), "--reason", "unused"]).expect_code(0);
    let elsewhere = home.copy();
    let size = audit_is_clean(&home)["entries"].as_u64().unwrap();
    for sample in 0..50 {
        let at = (sample * size / 49).to_string();
        let (here, there) = (home.folder().join("here"), home.folder().join("there"));
        let build = |home: &Home, out: &PathBuf, environment: &[(&str, &str)]| {
            let out = out.to_str().unwrap().to_owned();
            run_with(
                &["build", "--home", home.text(), "--at", &at, "--out", &out],
                b"",
                environment,
            )
            .expect_code(0)
        };
        build(&home, &here, &[]);
        let other =
            [("TZ", "Asia/Kathmandu"), ("LC_ALL", "tr_TR.UTF-8"), ("RAYON_NUM_THREADS", "1")];
        build(&elsewhere, &there, &other);
        let same = Command::new("cmp").args([&here, &there]).status().unwrap();
        assert!(same.success(), "events 0 to {at}");
    }
}

/// A backup of the ledger that is put back under a store that has seen more.
#[test]
fn a_restored_ledger_is_not_appended_to() {
    let home = Home::new();
    issue(&home, &[]);
    let copy = home.copy();
    issue(&home, &[]);
    let ledger = home.store().join("ledger");
    fs::remove_dir_all(&ledger).unwrap();
    let restored =
        Command::new("cp").arg("-a").arg(copy.store().join("ledger")).arg(&ledger).status();
    assert!(restored.unwrap().success());
    let refused = on(&home, &["issue", "--kind", "live"]).expect_code(78);
    refused.expect_error("restored backup");
    // And one that went another way from there.
    issue(&copy, &["--subject", "somebody else"]);
    issue(&copy, &["--subject", "somebody else"]);
    fs::remove_dir_all(&ledger).unwrap();
    let other = Command::new("cp").arg("-a").arg(copy.store().join("ledger")).arg(&ledger).status();
    assert!(other.unwrap().success());
    let refused = on(&home, &["issue", "--kind", "live"]).expect_code(78);
    refused.expect_error("with another root");
}

/// A command line that issues one by one, and another one in bulk, on one ledger.
#[test]
fn two_writers_lose_no_event() {
    let home = Home::new();
    let bulk = 9_800;
    let single = 200;
    let text = home.text();
    let writer = thread::spawn(move || {
        let mut tokens = Vec::new();
        for _ in 0..14 {
            let count = (bulk / 14).to_string();
            let said = run(&["issue", "--home", text, "--kind", "live", "--count", &count], b"");
            tokens.extend(said.expect_code(0).stdout.lines().map(str::to_owned));
        }
        tokens
    });
    let mut tokens: Vec<String> = (0..single).map(|_| issue(&home, &[]).0).collect();
    tokens.extend(writer.join().unwrap());
    assert_eq!(tokens.len(), bulk + single);
    let audit = audit_is_clean(&home);
    assert_eq!(audit["tokens"].as_u64(), Some(tokens.len() as u64));
    assert_eq!(audit["records"].as_u64(), Some(tokens.len() as u64));
    let listed = on(&home, &["list", "--json", "--state", "valid"]).expect_code(0);
    let listed: Vec<&str> = listed.stdout.lines().collect();
    assert_eq!(listed.len(), tokens.len());
    for token in &tokens {
        assert!(listed.iter().any(|line| line.contains(id_of(token))), "{}", id_of(token));
    }
}

/// Who was valid then.
#[test]
fn tokens_are_listed_as_they_were() {
    let home = Home::new();
    let (ann, _) = issue(&home, &["--scope", "orders:read"]);
    let (bob, _) = issue(&home, &["--subject", "bob", "--kind", "test"]);
    let before = adamant::time::to_rfc3339(adamant::store::now_unix_s());
    // Times are whole seconds, so the next event waits for another one.
    eventually("the next second", || {
        adamant::time::to_rfc3339(adamant::store::now_unix_s()) > before
    });
    on(&home, &["revoke", id_of(&ann), "--reason", "unused"]).expect_code(0);
    let listed = |options: &[&str]| -> Vec<String> {
        let said = on(&home, &[&["list", "--json"], options].concat()).expect_code(0);
        let id = |line: &str| {
            serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned()
        };
        said.stdout.lines().map(id).collect()
    };
    let (ann, bob) = (id_of(&ann).to_owned(), id_of(&bob).to_owned());
    assert_eq!(listed(&[]), [ann.clone(), bob.clone()]);
    assert_eq!(listed(&["--state", "valid"]), std::slice::from_ref(&bob));
    assert_eq!(listed(&["--state", "valid", "--at", &before]), [ann.clone(), bob.clone()]);
    assert_eq!(listed(&["--subject", "bob"]), std::slice::from_ref(&bob));
    assert_eq!(listed(&["--kind", "test"]), [bob]);
    assert_eq!(listed(&["--scope", "orders:read"]), [ann]);
    let log = on(&home, &["log", "--json"]).expect_code(0);
    assert_eq!(log.stdout.lines().count(), 6);
}
