//! A running daemon whose calls fail while a new generation arrives: it serves the last good one
//! on, says what failed, and takes the new one when the fault is over.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use adamant::claims::Requirement;
use adamant::client::Client;
use adamant::verdict::Verdict;

use crate::ledger::{id_of, issue, on};
use crate::support::{Home, PATIENCE, Server, alone, clean, eventually};

/// strace(1), attached to a daemon: calls of that name that concern the file, or any file, fail. Let go of when
/// dropped.
struct Failing {
    strace: Child,
    trace: PathBuf,
}

impl Failing {
    fn begin(
        server: &Server,
        home: &Home,
        call: &str,
        error: &str,
        file: Option<&Path>,
    ) -> Failing {
        let trace = home.folder().join("trace");
        fs::write(&trace, "").unwrap();
        let mut command = clean("strace");
        command.args(["-f", "-o"]).arg(&trace);
        command.args(file.map(|file| ["-P".as_ref(), file.as_os_str()]).into_iter().flatten());
        command.args(["-e", &format!("trace={call}"), "-e"]);
        command.arg(format!("inject={call}:{error}")).args(["-p", &server.pid().to_string()]);
        let mut strace = command.stderr(Stdio::piped()).spawn().expect("strace is installed");
        let mut said = BufReader::new(strace.stderr.take().unwrap()).lines();
        let attached = said.any(|line| line.unwrap().contains("attached"));
        assert!(attached, "strace cannot attach to a process of the same user");
        Failing { strace, trace }
    }

    /// Ends it where the daemon is dead. strace may wait for the last of its threads for ever.
    fn abandon(mut self) {
        self.strace.kill().unwrap();
    }

    /// How many calls have failed.
    fn count(&self) -> usize {
        fs::read_to_string(&self.trace).unwrap().matches("(INJECTED)").count()
    }
}

impl Drop for Failing {
    /// Asks it to let go. A daemon that dies at that moment may leave it waiting for ever.
    fn drop(&mut self) {
        let pid = self.strace.id().to_string();
        let _ = Command::new("kill").args(["-s", "INT", &pid]).status();
        let began = Instant::now();
        while began.elapsed() < LETTING_GO && matches!(self.strace.try_wait(), Ok(None)) {
            // In steps, because nothing but waiting for a process tells when it ends.
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// How long strace takes at most to let go of a daemon that lives.
const LETTING_GO: Duration = Duration::from_secs(5);

/// Whether a running process can be traced: by root, or where the kernel lets all of a user's be.
fn can_attach() -> bool {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let can = is_root || matches!(scope.trim(), "" | "0");
    assert!(can || std::env::var_os("CI").is_none(), "this test needs root");
    if !can {
        eprintln!("not run: it takes root to trace a process that runs");
    }
    can
}

/// The file of a new overlay that was not delivered yet.
fn undelivered(from: &Home, to: &Home, ending: &str) -> PathBuf {
    let tables = to.store().join("tables");
    let mut names =
        fs::read_dir(from.store().join("tables")).unwrap().map(|e| e.unwrap().file_name());
    let is_new = |name: &std::ffi::OsString| {
        name.to_str().unwrap().ends_with(ending) && !tables.join(name).exists()
    };
    tables.join(names.find(is_new).unwrap())
}

#[test]
fn a_daemon_whose_calls_fail_serves_the_last_good_generation_on() {
    if !can_attach() {
        return;
    }
    let _alone = alone();
    let home = Home::new();
    let (token, _) = issue(&home, &[]);
    let host = home.copy();
    let server = Server::start(&host.path());
    let state = host.path().join("state");
    let is_valid = |server: &Server| {
        let answer = server.client().verify(token.as_bytes(), &Requirement::any()).unwrap();
        answer.verdict() == Verdict::Valid
    };
    let manifest = host.store().join("manifest");
    for (call, error, file) in [
        ("openat", "error=EIO", manifest.clone()),
        ("read", "error=EIO", manifest),
        ("openat", "error=EIO", ".tbl".into()),
        ("openat", "error=EMFILE", ".sub".into()),
        ("mmap", "error=ENOMEM", ".tbl".into()),
        ("mmap", "error=EIO", ".sub".into()),
        ("openat", "error=EIO", state.join("marks")),
        ("read", "error=EIO", state.join("marks")),
        ("openat", "error=ENOSPC", state.join("marks.lock")),
        ("ftruncate", "error=EIO", state.join("marks")),
        ("pwrite64", "error=ENOSPC", state.join("marks")),
        ("pwrite64", "retval=0", state.join("marks")),
        ("fsync", "error=EIO", state.join("marks")),
    ] {
        let (_, said) = issue(&home, &[]);
        let next = said["generation"].as_u64().unwrap();
        let file = match file.to_str() {
            Some(ending) if ending.starts_with('.') => undelivered(&home, &host, ending),
            _ => file,
        };
        let place = format!("{call} of {}, {error}", file.display());
        let failing = Failing::begin(&server, &home, call, error, Some(&file));
        home.deliver_to(&host);
        eventually(&place, || server.status()["refused"].is_string());
        // It looks again, and is not taken in by what the first try has left.
        let once = failing.count();
        assert!(once > 0, "{place}");
        server.signal("HUP");
        eventually(&place, || failing.count() > once);
        assert_eq!(server.generation(), next - 1, "{place}");
        assert!(is_valid(&server), "{place}");
        let named = |text: &str| text.contains(file.to_str().unwrap());
        assert!(named(&server.status()["refused"].to_string()), "{place}");
        let log = server.log();
        let logged = log.lines().rfind(|line| line.contains(" ERROR "));
        assert!(logged.is_some_and(named), "{place}: {log}");
        drop(failing);
        server.signal("HUP");
        server.wait_for_generation(next);
        eventually(&place, || server.status()["refused"].is_null());
        assert!(is_valid(&server), "{place}");
    }
}

/// The calls by which a generation is read, judged, remembered and served.
const ACCEPTING: &[&str] = &[
    "openat",
    "read",
    "mmap",
    "munmap",
    "fcntl",
    "flock",
    "pwrite64",
    "ftruncate",
    "fsync",
    "write",
    "linkat",
    "rename",
    "unlink",
];

/// `None` where no answer came.
fn verdict_if_any(server: &Server, token: &str) -> Option<Verdict> {
    let mut client = Client::with_timeout(server.socket(), PATIENCE).ok()?;
    let answer = client.verify(token.as_bytes(), &Requirement::any()).ok()?;
    Some(answer.verdict())
}

/// Killed at every call while it takes a new generation, between any check and the mark and between
/// the mark and the swap: what it has answered from is never taken back. The generation before,
/// placed again, is refused once anybody was answered from the new one, or its mark was stored.
#[test]
fn a_daemon_that_is_killed_at_any_step_does_not_go_back() {
    if !can_attach() {
        return;
    }
    let _alone = alone();
    let home = Home::new();
    let (token, _) = issue(&home, &[]);
    let before = home.copy();
    on(&home, &["revoke", id_of(&token), "--reason", "compromised"]).expect_code(0);
    let (mut kills, mut marked) = (0, 0);
    for call in ACCEPTING {
        for when in 1.. {
            let host = before.copy();
            let server = Server::start(&host.path());
            let inject = format!("signal=SIGKILL:when={when}");
            let failing = Failing::begin(&server, &host, call, &inject, None);
            home.deliver_to(&host);
            let mut seen = false;
            eventually("it dies, or serves on", || {
                seen |= verdict_if_any(&server, &token) == Some(Verdict::Revoked);
                server.has_ended() || seen
            });
            let died = server.has_ended();
            if !died {
                break;
            }
            failing.abandon();
            drop(server);
            kills += 1;
            let place = format!("killed at {call} number {when}");
            fs::copy(before.store().join("manifest"), host.store().join("new")).unwrap();
            fs::rename(host.store().join("new"), host.store().join("manifest")).unwrap();
            let server = Server::start(&host.path());
            let now = verdict_if_any(&server, &token);
            let refused = server.status()["refused"].to_string();
            if refused.contains("is older than generation") {
                marked += 1;
            } else {
                assert!(!seen, "{place}: {refused}");
            }
            let expected = if refused == "null" { Verdict::Valid } else { Verdict::Revoked };
            assert_eq!(now, Some(expected), "{place}: {refused}");
            // And the delivery, made again, is taken.
            home.deliver_to(&host);
            server.signal("HUP");
            eventually(&place, || verdict_if_any(&server, &token) == Some(Verdict::Revoked));
        }
    }
    println!("killed at {kills} calls, {marked} times with the mark stored");
    assert!(kills > 20 && marked > 0 && marked < kills, "{kills} kills, {marked} with the mark");
}

/// What was accepted must be served though nobody can be told so.
#[test]
fn a_daemon_whose_log_cannot_be_written_serves_on() {
    let _alone = alone();
    let home = Home::new();
    let (token, _) = issue(&home, &[]);
    let host = home.copy();
    let mut command = clean("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2> /dev/full", env!("CARGO_BIN_EXE_adamantd")]);
    command.arg("--home").arg(host.path());
    let server = Server::spawn_command(command);
    server.wait_until_listening();
    let (_, said) = issue(&home, &[]);
    home.deliver_to(&host);
    server.wait_for_generation(said["generation"].as_u64().unwrap());
    File::create(host.policy()).unwrap();
    server.signal("HUP");
    eventually("the policy is refused", || server.status()["refused"].is_string());
    let answer = server.client().verify(token.as_bytes(), &Requirement::any()).unwrap();
    assert_eq!(answer.verdict(), Verdict::Valid);
}
