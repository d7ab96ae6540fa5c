//! Commands that are killed: at every call that changes a file, and at random under load. What was
//! acknowledged stays, what is served is whole, and the next command repairs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::ledger::{audit_is_clean, id_of, issue, on};
use crate::support::{Home, alone, run, scaled};

/// The calls that change what is on the disk. Between two of them nothing does, so a kill at any
/// other call leaves what a kill at the next of these leaves. (A file that is created is empty
/// until the next.)
const CHANGING: &[&str] = &[
    "write",
    "pwrite64",
    "fsync",
    "rename",
    "renameat2",
    "linkat",
    "unlink",
    "unlinkat",
    "ftruncate",
    "mkdir",
    "fchmod",
    "rmdir",
];

/// How often each of the calls is made by a thread of the command that makes it most often.
fn calls_of(home: &Home, arguments: &[&str]) -> BTreeMap<String, usize> {
    let trace = home.folder().join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-e", &format!("trace={}", CHANGING.join(",")), "-o"]).arg(&trace);
    command.arg(env!("CARGO_BIN_EXE_adamant")).args(arguments);
    let ran = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(ran.expect("strace is not installed").success());
    let mut by_thread: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in fs::read_to_string(&trace).unwrap().lines() {
        let mut words = line.split_whitespace();
        let (thread, call) = (words.next().unwrap().to_owned(), words.next().unwrap_or_default());
        if let Some((name, _)) = call.split_once('(') {
            *by_thread.entry((thread, name.to_owned())).or_default() += 1;
        }
    }
    let mut calls = BTreeMap::new();
    for ((_, name), count) in by_thread {
        let most: &mut usize = calls.entry(name).or_default();
        *most = count.max(*most);
    }
    calls
}

/// Runs the command, killed at the `when`-th such call of any of its threads.
fn killed_at(arguments: &[&str], call: &str, when: usize) -> String {
    let mut command = Command::new("strace");
    let inject = format!("inject={call}:signal=SIGKILL:when={when}");
    command.args(["-f", "-o", "/dev/null", "-e", "trace=none", "-e", &inject]);
    command.arg(env!("CARGO_BIN_EXE_adamant")).args(arguments);
    let output = command.stderr(Stdio::null()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// One command, killed at each of its calls on a fresh copy of the home.
fn killed_everywhere(
    home: &Home,
    known: &[String],
    arguments: &dyn Fn(&Home) -> Vec<String>,
) -> usize {
    let text = |home: &Home| -> Vec<&'static str> {
        let words = arguments(home).into_iter();
        words.map(|word| &*Box::leak(word.into_boxed_str())).collect()
    };
    let traced = home.copy();
    let calls = calls_of(&traced, &text(&traced));
    let mut kills = 0;
    for (call, count) in &calls {
        for when in 1..=*count {
            let copy = home.copy();
            let printed = killed_at(&text(&copy), call, when);
            let place = format!("{call} number {when}");
            let store = copy.store();
            let policy = copy.policy();
            let whole =
                ["verify-store", store.to_str().unwrap(), "--policy", policy.to_str().unwrap()];
            let checked = run(&whole, b"");
            assert_eq!(checked.code, 0, "after {place}: {}", checked.stderr);
            let (after, _) = issue(&copy, &[]);
            let listed = on(&copy, &["list", "--json"]).expect_code(0).stdout;
            let printed = printed.lines().filter(|line| line.starts_with("acme_"));
            for token in known.iter().map(String::as_str).chain(printed).chain([after.as_str()]) {
                assert!(listed.contains(id_of(token)), "after {place}: {} is lost", id_of(token));
            }
            audit_is_clean(&copy);
            assert_eq!(left_over(&copy.store().join("ledger")), 0, "after {place}");
            kills += 1;
        }
    }
    kills
}

fn left_over(folder: &Path) -> usize {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(".new-")).count()
}

/// A home whose next events fill a tile, so that full files, partial ones and their removal are
/// all in the way.
fn home_before_a_full_tile() -> (Home, Vec<String>) {
    let home = Home::new();
    let first = on(&home, &["issue", "--kind", "live", "--count", "252"]).expect_code(0);
    let mut tokens: Vec<String> = first.stdout.lines().map(str::to_owned).collect();
    tokens.push(issue(&home, &[]).0);
    (home, tokens)
}

#[test]
fn issue_killed_at_every_call_loses_nothing() {
    let _alone = alone();
    let (home, tokens) = home_before_a_full_tile();
    let words = |home: &Home| -> Vec<String> {
        let words = ["issue", "--home", home.text(), "--kind", "live", "--subject", "x"];
        words.map(str::to_owned).to_vec()
    };
    let kills = killed_everywhere(&home, &tokens, &words);
    assert!(kills > 25, "only {kills} calls");
    println!("issue killed at {kills} calls");
}

#[test]
fn revoke_and_rotate_killed_at_every_call_lose_nothing() {
    let _alone = alone();
    let (home, tokens) = home_before_a_full_tile();
    for command in ["revoke", "rotate"] {
        let words = |home: &Home| -> Vec<String> {
            let mut words = vec![command, id_of(&tokens[7]), "--home", home.text()];
            words.extend(match command {
                "revoke" => ["--reason", "other"],
                _ => ["--overlap", "1h"],
            });
            words.into_iter().map(str::to_owned).collect()
        };
        let kills = killed_everywhere(&home, &tokens, &words);
        assert!(kills > 25, "only {kills} calls");
        println!("{command} killed at {kills} calls");
    }
}

#[test]
fn publish_and_build_killed_at_every_call_lose_nothing() {
    let _alone = alone();
    let (home, mut tokens) = home_before_a_full_tile();
    tokens.push(issue(&home, &["--no-publish"]).0);
    for command in [&["publish"][..], &["publish", "--renew"], &["build"]] {
        let words = |home: &Home| -> Vec<String> {
            let words = [command, &["--home", home.text()]].concat();
            words.into_iter().map(str::to_owned).collect()
        };
        let kills = killed_everywhere(&home, &tokens, &words);
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
