//! Commands under strace(1): which of their calls change what is on the disk, and one of these
//! made to fail, or to be the last.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::ledger::{issue, on};
use crate::support::{Home, Ran, clean, ran};

/// The calls that change what is on the disk. Between two of them nothing does, so a kill at any
/// other call leaves what a kill at the next of these leaves. (A file that is created is empty
/// until the next.)
pub(crate) const CHANGING: &[&str] = &[
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

/// What is run on a home, or on a copy of it.
pub(crate) type Words<'a> = &'a (dyn Fn(&Home) -> Vec<String> + Sync);

/// Which calls the threads of a command make.
pub(crate) type Calls = BTreeMap<String, BTreeSet<usize>>;

/// The calls of these names, each by its number: 1 is a thread's first call of that name. An
/// injection counts by thread as well.
pub(crate) fn calls_of(home: &Home, words: &[String], names: &[&str]) -> Calls {
    let (ran, lines) = traced(home, words, names, None);
    ran.expect_code(0);
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut calls = Calls::new();
    for line in &lines {
        let Some((thread, name)) = thread_and_name(line) else { continue };
        let count = counts.entry((thread, name)).or_default();
        *count += 1;
        // A program opens many files that are not of the home.
        if name != "openat" || line.contains(home.folder().to_str().unwrap()) {
            calls.entry(name.to_owned()).or_default().insert(*count);
        }
    }
    calls
}

/// Runs the command with that done to the `when`-th call of the name of any of its threads:
/// `error=EIO`, `retval=0`, `signal=SIGKILL`. Gives the calls that it was done to, as strace
/// writes them.
pub(crate) fn injected(
    home: &Home,
    words: &[String],
    (name, when): (&str, usize),
    done: &str,
) -> (Ran, Vec<String>) {
    let inject = format!("inject={name}:{done}:when={when}");
    let (ran, mut lines) = traced(home, words, &[name], Some(&inject));
    lines.retain(|line| line.contains("(INJECTED)"));
    (ran, lines)
}

/// Runs the command, and gives what strace wrote about the calls of these names, a line a call.
fn traced(
    home: &Home,
    words: &[String],
    names: &[&str],
    inject: Option<&str>,
) -> (Ran, Vec<String>) {
    let trace = home.folder().join("trace");
    let mut command = clean("strace");
    // Descriptors with the names of their files, and names in full. Only calls that are traced are
    // injected into, and with --seccomp-bpf no signal is.
    command.args(["-f", "-y", "-s", "4096", "-o"]).arg(&trace);
    command.arg("-e").arg(format!("trace={}", names.join(",")));
    if let Some(inject) = inject {
        command.args(["-e", inject]);
    }
    command.arg(env!("CARGO_BIN_EXE_adamant")).args(words);
    let ran = ran(command, b"");
    let trace = fs::read_to_string(&trace).expect("strace is installed, and can trace");
    (ran, joined(&trace))
}

/// `1234  fsync(3</a/file>) = 0`: a call's line, with the thread.
fn thread_and_name(line: &str) -> Option<(&str, &str)> {
    let (thread, rest) = line.split_once(' ')?;
    let (name, _) = rest.trim_start().split_once('(')?;
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_').then_some((thread, name))
}

/// A call that another thread's came between stands on two lines: they become one.
fn joined(trace: &str) -> Vec<String> {
    let (mut lines, mut begun) = (Vec::new(), BTreeMap::new());
    for line in trace.lines() {
        let thread = line.split(' ').next().unwrap_or_default();
        if let Some(head) = line.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, head);
        } else if let Some((_, rest)) = line.split_once(" resumed>") {
            lines.push(format!("{}{rest}", begun.remove(thread).unwrap_or_default()));
        } else {
            lines.push(line.to_owned());
        }
    }
    lines.extend(begun.into_values().map(str::to_owned));
    lines
}

/// How many files of an append that came to nothing there are.
pub(crate) fn left_over(home: &Home) -> usize {
    let names = fs::read_dir(home.store().join("ledger")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(".new-")).count()
}

/// A home whose next events fill a tile, so that full files, partial ones and their removal are
/// all in the way.
pub(crate) fn home_before_a_full_tile() -> (Home, Vec<String>) {
    let home = Home::new();
    let first = on(&home, &["issue", "--kind", "live", "--count", "252"]).expect_code(0);
    let mut tokens: Vec<String> = first.stdout.lines().map(str::to_owned).collect();
    tokens.push(issue(&home, &[]).0);
    (home, tokens)
}

/// A command on the home: what is to follow `--home` stands in its place.
pub(crate) fn words(home: &Home, words: &[&str]) -> Vec<String> {
    let (command, options) = words.split_first().unwrap();
    let words = [&[*command, "--home", home.text()], options].concat();
    words.into_iter().map(str::to_owned).collect()
}
