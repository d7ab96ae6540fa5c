//! Commands that are killed: at every call that changes a file, and at random under load. What was
//! acknowledged stays, what is served is whole, and the next command repairs.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::ledger::{audit_is_clean, id_of, issue, on};
use crate::strace::{
    CHANGING, Words, calls_of, home_before_a_full_tile, injected, left_over, words,
};
use crate::support::{Home, alone, clean, ran, run, scaled};

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

/// The turn of eight in which one token is revoked.
const REVOKES: u64 = 1;

/// What is killed at random, in turn: half of the kills hit bulk appends.
fn any_command(home: &Home, turn: u64, known: Option<&str>) -> Vec<String> {
    // Before a release many more kills, and not many more tokens: the audits would take hours.
    let count = scaled(500, 50).to_string();
    let bulk = words(home, &["issue", "--kind", "live", "--subject", "x", "--count", &count]);
    match (turn % 8, known) {
        (REVOKES, Some(token)) => words(home, &["revoke", id_of(token), "--reason", "other"]),
        (3, _) => words(home, &["publish"]),
        (5, _) => words(home, &["publish", "--renew"]),
        (7, _) => words(home, &["build"]),
        _ => bulk,
    }
}

/// What a command takes now that nobody kills: it grows with the store, and with the machine's load.
/// Within one and a half times as long, a third of the commands ends before its kill.
fn time_of_a_command(home: &Home) -> Duration {
    let mut command = clean(env!("CARGO_BIN_EXE_adamant"));
    command.args(any_command(home, 0, None));
    let began = Instant::now();
    ran(command, b"").expect_code(0);
    began.elapsed()
}

/// 500 kills at random moments of bulk appends, revocations, publications and builds.
#[test]
fn random_kills_under_load_lose_nothing() {
    let _alone = alone();
    let home = Home::new();
    let kills = scaled(500, 10_000);
    let audited_every = scaled(250, 2_500);
    let mut acknowledged: Vec<String> = Vec::new();
    let mut revoked = Vec::new();
    let measured_every = kills / 20;
    let mut within = Duration::ZERO;
    let mut seed = 7_u64;
    for kill in 0..kills {
        if kill % measured_every == 0 {
            within = time_of_a_command(&home) * 3 / 2;
        }
        let known = acknowledged.last().map(String::as_str);
        let mut command = clean(env!("CARGO_BIN_EXE_adamant"));
        command.args(any_command(&home, kill, known));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The moment of the kill is what is tested, because every one must be survived.
        thread::sleep(within.mul_f64((seed >> 33) as f64 / f64::from(1_u32 << 31)));
        let _ = child.kill();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let succeeded = child.wait().unwrap().success();
        if kill % 8 == REVOKES && succeeded {
            revoked.extend(known.map(|token| id_of(token).to_owned()));
        }
        let whole = said.rfind('\n').map_or("", |end| &said[..end]);
        let printed = whole.lines().filter(|line| line.starts_with("acme_"));
        acknowledged.extend(printed.map(str::to_owned));
        if kill % audited_every == audited_every - 1 {
            issue(&home, &[]);
            audit_is_clean(&home);
        }
    }
    let listed = on(&home, &["list", "--json"]).expect_code(0).stdout;
    let listed: BTreeMap<String, String> = listed
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            (text("id"), text("state"))
        })
        .collect();
    for token in &acknowledged {
        assert!(listed.contains_key(id_of(token)), "{} was acknowledged, lost", id_of(token));
    }
    for id in &revoked {
        assert_eq!(listed[id], "revoked", "{id}");
    }
    println!(
        "{kills} kills; acknowledged: {} tokens, {} revocations; none lost of {}",
        acknowledged.len(),
        revoked.len(),
        listed.len()
    );
    assert!(acknowledged.len() > 5_000, "only {} were acknowledged", acknowledged.len());
    assert!(revoked.len() > 5, "only {} were revoked", revoked.len());
}
