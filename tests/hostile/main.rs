//! Promise 11: hostile local clients starve nobody. In a program of its own, since it measures:
//! other tests beside it would be in the figures.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use adamant::claims::Requirement;
use adamant::client::{Client, CouldNotAsk};
use adamant::wire::{DIGESTS_MAX, ErrorCode, push_hello_request, push_verify};

// The other binary of tests uses the rest.
#[allow(dead_code)]
#[path = "../integration/support.rs"]
mod support;

use support::{Home, Server, eventually};

const SLOW: usize = 1000;
const DEAF: usize = 1000;
const GARBAGE: u64 = 10_000;
const QUESTIONS: usize = 5_000;
/// How much slower than on an idle daemon one in a hundred answers may be.
const SLOWER_MAX: u32 = 5;

/// A round of one attacker's connections takes at least so long: they are many, not fast.
const PACE: Duration = Duration::from_secs(1);

/// Connections that have begun a long frame and add a byte a round.
fn write_slowly(socket: &Path, stop: &AtomicBool) {
    let mut begun = Vec::new();
    push_hello_request(&mut begun);
    begun.extend(600_000_u32.to_le_bytes());
    begun.extend([1; 1000]);
    let mut held: Vec<Option<UnixStream>> = (0..SLOW).map(|_| None).collect();
    while !stop.load(Ordering::Relaxed) {
        for place in &mut held {
            let kept = place.take().filter(|mut stream| stream.write_all(&[1]).is_ok());
            *place = kept.or_else(|| connect(socket, &begun));
        }
        // Slept, because slowness is what this attacker is about.
        thread::sleep(PACE);
    }
}

/// Connections that ask for large replies and never read one.
fn never_read(socket: &Path, stop: &AtomicBool) {
    let mut question = Vec::new();
    push_hello_request(&mut question);
    let digests = vec![[7; 32]; DIGESTS_MAX / 16];
    push_verify(&mut question, false, &Requirement::any(), &digests).unwrap();
    let mut held: Vec<Option<UnixStream>> = (0..DEAF).map(|_| None).collect();
    while !stop.load(Ordering::Relaxed) {
        for place in &mut held {
            let kept = place.take().filter(|mut stream| match stream.write(&question) {
                Ok(_) => true,
                Err(err) => err.kind() == io::ErrorKind::WouldBlock,
            });
            *place = kept.or_else(|| connect(socket, &question));
        }
        // Slept, because slowness is what this attacker is about.
        thread::sleep(PACE);
    }
}

/// Ends all attackers.
struct StopOnDrop<'a>(&'a AtomicBool, &'a AtomicU64);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.store(GARBAGE, Ordering::Relaxed);
    }
}

fn connect(socket: &Path, first: &[u8]) -> Option<UnixStream> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_nonblocking(true).unwrap();
    let _ = stream.write(first);
    Some(stream)
}

/// One after the other, each on a connection of its own.
fn send_garbage(socket: &Path, sent: &AtomicU64) {
    let mut noise = blake3::Hasher::new().update(b"garbage").finalize_xof();
    let mut frame = [0; 200];
    while sent.load(Ordering::Relaxed) < GARBAGE {
        noise.fill(&mut frame);
        let Ok(mut stream) = UnixStream::connect(socket) else { continue };
        let _ = stream.write_all(&frame);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// The time within which 99 of 100 single questions are answered.
fn p99(client: &mut Client, token: &str) -> Duration {
    let mut times: Vec<Duration> = (0..QUESTIONS)
        .map(|_| {
            let began = Instant::now();
            let answer = client.verify(token.as_bytes(), &Requirement::any()).unwrap();
            assert!(answer.is_valid());
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

fn private_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Processor time that a process has used, in clock ticks of a hundredth of a second.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Processor time in a second in which nobody asks, in hundredths of one core.
fn load_percent(pid: u32) -> u64 {
    let before = ticks(pid);
    // Slept, because nothing is to happen in that second.
    thread::sleep(Duration::from_secs(1));
    ticks(pid) - before
}

/// Private memory that the daemon said it may use.
fn budget_kib(server: &Server) -> u64 {
    let log = server.log();
    let (_, rest) = log.split_once("at most ").unwrap();
    rest.split(' ').next().unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn slow_deaf_and_noisy_clients_starve_nobody() {
    raise_own_limit();
    let home = Home::new();
    let token = home.issue(1).remove(0);
    home.build();
    let server = Server::start(&home.path());
    let pid = server.pid();
    let mut honest = server.client();
    let idle = (0..3).map(|_| p99(&mut honest, &token)).min().unwrap();
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let (attacked, memory_kib) = thread::scope(|scope| {
        // Also when an assertion fails: the scope waits for its threads.
        let _stop = StopOnDrop(&stop, &sent);
        scope.spawn(|| write_slowly(server.socket(), &stop));
        scope.spawn(|| never_read(server.socket(), &stop));
        scope.spawn(|| send_garbage(server.socket(), &sent));
        let open = || server.status()["connections_open"].as_u64().unwrap();
        eventually("all attackers are there", || open() >= 1500);
        // The best of some, as for the idle daemon: this machine has other things to do as well.
        let (mut best, mut memory_kib) = (Duration::MAX, 0);
        let mut rounds = 0;
        while rounds < 5 || sent.load(Ordering::Relaxed) < GARBAGE {
            best = best.min(p99(&mut honest, &token));
            memory_kib = memory_kib.max(private_kib(pid));
            rounds += 1;
        }
        (best, memory_kib)
    });
    let status = server.status();
    println!(
        "p99 idle {idle:?}, attacked {attacked:?}; private memory {memory_kib} of {} KiB; {} cut, \
         {} frames refused",
        budget_kib(&server),
        status["connections_cut"],
        status["frames_refused"],
    );
    assert!(attacked < idle * SLOWER_MAX, "{attacked:?} after {idle:?}");
    assert!(memory_kib <= budget_kib(&server));
    assert!(status["connections_cut"].as_u64().unwrap() > 0);
    assert!(status["frames_refused"].as_u64().unwrap() >= GARBAGE);
    eventually("attackers are gone", || server.status()["connections_open"].as_u64().unwrap() <= 2);
    let load = load_percent(pid);
    assert!(load <= 5, "{load} % of a core with nothing to do");
}

/// Out of descriptors: who is connected is served on, the next is told, nothing spins, and it
/// mends itself.
#[test]
fn exhausted_descriptors_are_told_and_survived() {
    let home = Home::new();
    let token = home.issue(1).remove(0);
    home.build();
    let server = Server::start(&home.path());
    let pid = server.pid();
    let mut honest = server.client();
    let numbers = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let numbers = numbers.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // The limit is on the number of a descriptor, and numbers that were closed are used again.
    let limited = 5 + numbers.map(|number| number.parse::<usize>().unwrap()).max().unwrap();
    let limit = |count: usize| {
        let nofile = format!("--nofile={count}:");
        let set = Command::new("prlimit").args(["--pid", &pid.to_string(), &nofile]).status();
        assert!(set.unwrap().success(), "prlimit of util-linux");
    };
    limit(limited);
    let connect = || Client::with_timeout(server.socket(), Duration::from_secs(5));
    let mut held = Vec::new();
    let refused = loop {
        match connect() {
            Ok(client) => held.push(client),
            Err(err) => break err,
        }
    };
    let CouldNotAsk::Refused { code: ErrorCode::Busy, message } = refused else {
        panic!("{refused:?}")
    };
    assert!(message.contains("out of descriptors"), "{message}");
    assert!(held.len() < limited);
    assert!(honest.verify(token.as_bytes(), &Requirement::any()).unwrap().is_valid());
    let waiting = UnixStream::connect(server.socket()).unwrap();
    let load = load_percent(pid);
    assert!(load <= 10, "{load} % of a core with nothing to do");
    drop(waiting);
    limit(1000);
    eventually("it accepts again", || connect().is_ok());
    assert!(server.log().contains("cannot accept connections; trying on"));
    assert!(honest.status().unwrap().contains("\"accepts_failed\":"));
}

/// This process holds the other ends.
fn raise_own_limit() {
    let pid = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &pid, "--nofile=8192:"]).status();
    assert!(raised.unwrap().success(), "prlimit of util-linux");
}
