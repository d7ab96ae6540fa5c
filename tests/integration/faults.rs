//! Calls that fail: each one of a command that changes a file, or opens one of the home. The error
//! is reported and names the file, the old state or the new one is whole, and the command works
//! when it is given again.
//!
//! One fault a call and of each sort in turn; with `ADAMANT_RELEASE` in the environment, of every
//! sort.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::ledger::{audit_is_clean, id_of, issue, on};
use crate::strace::{
    CHANGING, Words, calls_of, home_before_a_full_tile, injected, left_over, words,
};
use crate::support::{Home, Ran, alone, clean, ran, run};

/// A command, what it is run on, and what must hold after a run that failed and after another.
struct Case<'a> {
    home: &'a Home,
    words: Words<'a>,
    is_whole: &'a (dyn Fn(&Home, &[&Ran]) + Sync),
}

/// Which call fails, by name and number, and how.
type Fault = (String, usize, &'static str);

/// What a call may fail with. A write that writes nothing, and says so, is the shortest of all.
fn sorts_of(name: &str) -> &'static [&'static str] {
    match name {
        "openat" => &["error=EIO"],
        "write" | "pwrite64" => &["error=EIO", "error=ENOSPC", "retval=0"],
        _ => &["error=EIO", "error=ENOSPC"],
    }
}

/// Why a call may fail without a word, if it may. `call` is as strace writes it.
fn harmless(call: &str) -> Option<&'static str> {
    let (_, call) = call.split_once(' ')?;
    let call = call.trim_start();
    if call.starts_with("unlink(") && call.contains("/.new-") {
        return Some("it has its name, or nobody needs it; what is left is swept later");
    }
    let is_partials = call.contains(".p\"") || call.contains(".p>");
    if is_partials && (call.starts_with("unlinkat(") || call.contains("O_NOFOLLOW")) {
        return Some("partial tiles beside a full one are only clutter");
    }
    call.starts_with("write(2<").then_some("where nothing can be said, nobody can be told so")
}

/// The command fails at each of its calls, on a fresh copy of the home. Gives how often.
fn fails_everywhere(case: &Case<'_>) -> usize {
    let traced = case.home.copy();
    let names = [CHANGING, &["openat"]].concat();
    let calls = calls_of(&traced, &(case.words)(&traced), &names);
    let is_release = std::env::var_os("ADAMANT_RELEASE").is_some();
    let faults: Vec<Fault> = calls
        .iter()
        .flat_map(|(name, numbers)| numbers.iter().map(move |&when| (name, when)))
        .flat_map(|(name, when)| {
            let sorts = sorts_of(name);
            let one = &sorts[when % sorts.len()..][..1];
            let sorts = if is_release { sorts } else { one };
            sorts.iter().map(move |sort| (name.clone(), when, *sort))
        })
        .collect();
    let came = AtomicUsize::new(0);
    on_both_cores(&faults, |fault| {
        came.fetch_add(usize::from(fails_at(case, fault)), Ordering::Relaxed);
    });
    came.into_inner()
}

/// Whether the call came at all: threads share their work anew each time.
fn fails_at(case: &Case<'_>, (name, when, sort): &Fault) -> bool {
    let copy = case.home.copy();
    let (failed, mut calls) = injected(&copy, &(case.words)(&copy), (name, *when), sort);
    // Another thread's call of that number may open what is not of the home.
    calls.retain(|call| name != "openat" || call.contains(copy.folder().to_str().unwrap()));
    if calls.is_empty() {
        return false;
    }
    let place = format!("{name} number {when}, {sort}: {calls:?}\n{}", failed.stderr);
    assert!(failed.code != 101 && !failed.stderr.contains("panicked"), "a panic after {place}");
    let is_harmless = calls.iter().all(|call| harmless(call).is_some());
    assert!(failed.code != 0 || is_harmless, "exit code 0 after {place}");
    let is_named = calls.iter().any(|call| is_named(&copy, call, &failed.stderr));
    assert!(failed.code == 0 || is_named, "no file is named after {place}");
    works_again(case, &copy, failed, &place);
    true
}

fn works_again(case: &Case<'_>, copy: &Home, failed: Ran, place: &str) {
    (case.is_whole)(copy, &[&failed]);
    let words = (case.words)(copy);
    let again = run(&words.iter().map(String::as_str).collect::<Vec<_>>(), b"");
    assert_eq!(again.code, 0, "a second time, after {place}: {}", again.stderr);
    (case.is_whole)(copy, &[&failed, &again]);
    let left = if copy.store().join("ledger").exists() { left_over(copy) } else { 0 };
    assert_eq!(left, 0, "after {place}");
}

/// Whether the message names a file of the call. One that has no name yet is known by its folder.
fn is_named(home: &Home, call: &str, message: &str) -> bool {
    if call.contains(" write(1<") {
        return message.contains("standard output");
    }
    if call.contains(" write(2<") {
        // That was the message.
        return true;
    }
    let home = home.folder().to_str().unwrap();
    let mut paths = call.split(['"', '<', '>']).filter(|part| part.starts_with(home));
    paths.any(|path| {
        let nameless = path.split_once("/.new-").map(|(folder, _)| folder);
        message.contains(path) || nameless.is_some_and(|folder| message.contains(folder))
    })
}

/// Two at a time.
fn on_both_cores<T: Sync>(items: &[T], each: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    each(item);
                }
            });
        }
    });
}

/// The command with no file allowed to grow beyond a limit, which cuts a write short: half of each
/// file that it writes, and all but a byte. Gives how many limits.
fn writes_cut_short(case: &Case<'_>) -> usize {
    let tried = case.home.copy();
    let before = sizes(&tried.path());
    let words = (case.words)(&tried);
    run(&words.iter().map(String::as_str).collect::<Vec<_>>(), b"").expect_code(0);
    let written = sizes(&tried.path());
    let written = written.difference(&before).map(|(_, bytes)| *bytes).filter(|bytes| *bytes > 0);
    let limits: BTreeSet<u64> = written.flat_map(|bytes| [bytes / 2, bytes - 1]).collect();
    let limits: Vec<u64> = limits.into_iter().collect();
    on_both_cores(&limits, |limit| {
        let copy = case.home.copy();
        let mut command = clean("prlimit");
        // Without the signal, a write beyond the limit is an error like any other.
        command.arg(format!("--fsize={limit}")).args([
            "sh",
            "-c",
            "trap '' XFSZ; exec \"$@\"",
            "sh",
        ]);
        command.arg(env!("CARGO_BIN_EXE_adamant")).args((case.words)(&copy));
        let failed = ran(command, b"");
        let place = format!("files of at most {limit} bytes: {}", failed.stderr);
        assert!(failed.code > 0 && failed.code != 101, "exit code {} with {place}", failed.code);
        assert!(failed.stderr.contains(copy.text()), "no file is named with {place}");
        works_again(case, &copy, failed, &place);
    });
    limits.len()
}

/// All files beneath a folder.
fn sizes(folder: &Path) -> BTreeSet<(String, u64)> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(sizes(&path)),
            false => {
                let (name, bytes) = (path.to_str().unwrap(), fs::metadata(&path).unwrap().size());
                found.insert((name.to_owned(), bytes));
            }
        }
    }
    found
}

fn store_is_whole(home: &Home) -> Ran {
    let (store, policy) = (home.store(), home.policy());
    let whole = ["verify-store", store.to_str().unwrap(), "--policy", policy.to_str().unwrap()];
    run(&whole, b"").expect_code(0)
}

/// Audit and store are clean, and each token that was printed at any time is in the ledger.
fn ledger_is_whole(home: &Home, known: &[String], runs: &[&Ran]) {
    audit_is_clean(home);
    store_is_whole(home);
    let listed = on(home, &["list", "--json"]).expect_code(0).stdout;
    let printed = runs.iter().flat_map(|ran| ran.stdout.lines());
    let printed = printed.filter(|line| line.starts_with("acme_"));
    for token in known.iter().map(String::as_str).chain(printed) {
        assert!(listed.contains(id_of(token)), "{} is lost", id_of(token));
    }
}

/// The kind of the last event about a token.
fn last_of(home: &Home, id: &str) -> String {
    let shown = on(home, &["show", id, "--json"]).expect_code(0).json();
    shown["events"].as_array().unwrap().last().unwrap()["type"].as_str().unwrap().to_owned()
}

fn every_call(what: &str, least: usize, case: &Case<'_>) {
    let (faults, limits) = (fails_everywhere(case), writes_cut_short(case));
    assert!(faults >= least, "{what}: only {faults} calls");
    assert!(limits > 3, "{what}: only {limits} limits");
    println!("{what}: failed at {faults} calls, and with writes cut short at {limits} sizes");
}

#[test]
fn issue_with_every_call_failing() {
    let _alone = alone();
    let (home, tokens) = home_before_a_full_tile();
    let command = |home: &Home| words(home, &["issue", "--kind", "live", "--subject", "x"]);
    let is_whole = |home: &Home, runs: &[&Ran]| ledger_is_whole(home, &tokens, runs);
    let case = Case { home: &home, words: &command, is_whole: &is_whole };
    every_call("issue", 100, &case);
}

#[test]
fn revoke_and_rotate_with_every_call_failing() {
    let _alone = alone();
    let (home, tokens) = home_before_a_full_tile();
    let id = id_of(&tokens[7]);
    for options in [["revoke", id, "--reason", "other"], ["rotate", id, "--overlap", "1h"]] {
        let command = |home: &Home| words(home, &options);
        let is_whole = |home: &Home, runs: &[&Ran]| {
            ledger_is_whole(home, &tokens, runs);
            if runs.last().unwrap().code == 0 {
                assert_eq!(last_of(home, id), options[0]);
            }
        };
        let case = Case { home: &home, words: &command, is_whole: &is_whole };
        every_call(options[0], 100, &case);
    }
}

#[test]
fn publish_and_build_with_every_call_failing() {
    let _alone = alone();
    let (home, mut tokens) = home_before_a_full_tile();
    tokens.push(issue(&home, &["--no-publish"]).0);
    for (options, least) in [(&["publish", "--renew"][..], 50), (&["build"], 50)] {
        let command = |home: &Home| words(home, options);
        let is_whole = |home: &Home, runs: &[&Ran]| ledger_is_whole(home, &tokens, runs);
        let case = Case { home: &home, words: &command, is_whole: &is_whole };
        every_call(options[0], least, &case);
    }
}

#[test]
fn build_from_a_list_with_every_call_failing() {
    let _alone = alone();
    let home = Home::new();
    home.issue(200);
    home.build();
    home.issue(100);
    let list = home.list().to_str().unwrap().to_owned();
    let command = |home: &Home| words(home, &["build", "--from", &list]);
    let is_whole = |home: &Home, runs: &[&Ran]| {
        let said = store_is_whole(home).stdout;
        let is_done = runs.last().unwrap().code == 0;
        let is_old = !is_done && said.contains(": 200 records");
        assert!(said.contains(": 300 records") || is_old, "{said}");
    };
    let case = Case { home: &home, words: &command, is_whole: &is_whole };
    every_call("build --from", 40, &case);
}

/// A kept manifest that cannot be read may name any table, so no table goes.
#[test]
fn nothing_is_collected_while_a_manifest_cannot_be_read() {
    let home = Home::new();
    home.issue(10);
    home.build();
    let current = fs::read(home.store().join("manifest")).unwrap();
    let name = adamant::manifest::hex(blake3::hash(&current).as_bytes());
    let archived = home.store().join("manifests").join(name);
    fs::remove_file(&archived).unwrap();
    fs::create_dir(&archived).unwrap();
    let before = sizes(&home.store().join("tables"));
    let mut aging = Command::new("find");
    aging.arg(home.store()).args(["-exec", "touch", "-d", "2 days ago", "{}", "+"]);
    assert!(aging.status().unwrap().success());
    home.issue(10);
    let list = fs::read(home.list()).unwrap();
    let said = home.build_from(&list, &[]).expect_code(74);
    said.expect_error(archived.to_str().unwrap());
    assert!(before.is_subset(&sizes(&home.store().join("tables"))), "a table is gone");
}
