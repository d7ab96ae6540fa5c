//! Commands that are killed: at every call that changes a file, and at random under load. What was
//! acknowledged stays, what is served is whole, and the next command repairs.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::ledger::{audit_is_clean, id_of, issue, on};
use crate::strace::{
    CHANGING, Words, calls_of, home_before_a_full_tile, injected, left_over, words,
};
use crate::support::{Home, alone, run, scaled};

/// The code that a [`Ran`](crate::support::Ran) has which a signal has ended.
const KILLED: i32 = -1;

/// One command, killed at each of its calls on a fresh copy of the home.
fn killed_everywhere(home: &Home, known: &[String], command: Words<'_>) -> usize {
    let traced = home.copy();
    let calls = calls_of(&traced, &command(&traced), CHANGING);
    let mut kills = 0;
    for (name, numbers) in &calls {
        for &when in numbers {
            let copy = home.copy();
            let (killed, _) = injected(&copy, &command(&copy), (name, when), "signal=SIGKILL");
            // Threads share their work anew each time, so the call may not have come.
            if killed.code != KILLED {
                continue;
            }
            let place = format!("{name} number {when}");
            let store = copy.store();
            let policy = copy.policy();
            let whole =
                ["verify-store", store.to_str().unwrap(), "--policy", policy.to_str().unwrap()];
            let checked = run(&whole, b"");
            assert_eq!(checked.code, 0, "after {place}: {}", checked.stderr);
            let (after, _) = issue(&copy, &[]);
            let listed = on(&copy, &["list", "--json"]).expect_code(0).stdout;
            let printed = killed.stdout.lines().filter(|line| line.starts_with("acme_"));
            for token in known.iter().map(String::as_str).chain(printed).chain([after.as_str()]) {
                assert!(listed.contains(id_of(token)), "after {place}: {} is lost", id_of(token));
            }
            audit_is_clean(&copy);
            assert_eq!(left_over(&copy), 0, "after {place}");
            kills += 1;
        }
    }
    kills
}

#[test]
fn issue_killed_at_every_call_loses_nothing() {
    let _alone = alone();
    let (home, tokens) = home_before_a_full_tile();
    let kills = killed_everywhere(&home, &tokens, &|home| {
        words(home, &["issue", "--kind", "live", "--subject", "x"])
    });
    assert!(kills > 25, "only {kills} calls");
    println!("issue killed at {kills} calls");
}

#[test]
fn revoke_and_rotate_killed_at_every_call_lose_nothing() {
    let _alone = alone();
    let (home, tokens) = home_before_a_full_tile();
    let id = id_of(&tokens[7]);
    for command in [["revoke", id, "--reason", "other"], ["rotate", id, "--overlap", "1h"]] {
        let kills = killed_everywhere(&home, &tokens, &|home| words(home, &command));
        assert!(kills > 25, "only {kills} calls");
        println!("{} killed at {kills} calls", command[0]);
    }
}

#[test]
fn publish_and_build_killed_at_every_call_lose_nothing() {
    let _alone = alone();
    let (home, mut tokens) = home_before_a_full_tile();
    tokens.push(issue(&home, &["--no-publish"]).0);
    for command in [&["publish"][..], &["publish", "--renew"], &["build"]] {
        let kills = killed_everywhere(&home, &tokens, &|home| words(home, command));
        assert!(kills > 15, "only {kills} calls");
        println!("{command:?} killed at {kills} calls");
    }
}

/// 500 kills at random moments of bulk appends.
#[test]
fn random_kills_under_load_lose_nothing() {
    let _alone = alone();
    let home = Home::new();
    let mut acknowledged = Vec::new();
    let mut seed = 7_u64;
    for kill in 0..scaled(500, 10_000) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adamant"));
        command.args(["issue", "--home", home.text(), "--kind", "live", "--subject", "x"]);
        command.args(["--count", "500"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The moment of the kill is what is tested, because every one must be survived.
        thread::sleep(Duration::from_micros((seed >> 33) % 30_000));
        let _ = child.kill();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        let whole = said.rfind('\n').map_or("", |end| &said[..end]);
        acknowledged.extend(whole.lines().map(str::to_owned));
        if kill % 250 == 249 {
            issue(&home, &[]);
            audit_is_clean(&home);
        }
    }
    let listed = on(&home, &["list", "--json"]).expect_code(0).stdout;
    let listed: std::collections::BTreeSet<String> = listed
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["id"].as_str().unwrap().to_owned()
        })
        .collect();
    for token in &acknowledged {
        assert!(listed.contains(id_of(token)), "{} was acknowledged and is lost", id_of(token));
    }
    assert!(acknowledged.len() > 10_000, "only {} were acknowledged", acknowledged.len());
    println!(
        "500 kills, {} tokens acknowledged, none lost of {}",
        acknowledged.len(),
        listed.len()
    );
}
