//! Promise 10: a restart loses no request. The listening socket outlives the daemon, as with
//! systemd; here the test holds it and passes it on, the way sd_listen_fds(3) says.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use adamant::claims::Requirement;
use adamant::client::Client;
use adamant::verdict::Verdict;

use crate::support::{Home, PATIENCE, alone, eventually, scaled};

const TOKENS: usize = 100;

/// Takes the socket from standard input, and names it as systemd would.
const PASS: &str =
    "exec 3<&0 </dev/null; LISTEN_PID=$$; LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec \"$@\"";

fn activate(listener: &UnixListener, socket: &Path, home: &Path, log: Stdio) -> Child {
    let passed = OwnedFd::from(listener.try_clone().unwrap());
    Command::new("sh")
        .args(["-c", PASS, "sh", env!("CARGO_BIN_EXE_adamantd"), "--home"])
        .arg(home)
        .arg("--socket")
        .arg(socket)
        .stdin(Stdio::from(passed))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn terminate(daemon: &mut Child) {
    let sent = Command::new("kill").arg(daemon.id().to_string()).status();
    assert!(sent.unwrap().success());
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
}

type Ask = fn(&mut Client, &[&[u8]]) -> usize;

fn ask_one(client: &mut Client, tokens: &[&[u8]]) -> usize {
    assert!(client.verify(tokens[0], &Requirement::any()).unwrap().is_valid());
    1
}

fn ask_pipelined(client: &mut Client, tokens: &[&[u8]]) -> usize {
    let need = Requirement::any();
    let mut pipeline = client.pipeline();
    for token in tokens {
        pipeline.push(token, &need);
    }
    let answers = pipeline.run().unwrap();
    assert!(answers.iter().all(|answer| answer.is_valid()));
    answers.len()
}

fn ask_batch(client: &mut Client, tokens: &[&[u8]]) -> usize {
    let answers = client.verify_many(tokens, &Requirement::any()).unwrap();
    assert!(answers.iter().all(|answer| answer.is_valid()));
    answers.len()
}

fn ask_raw(client: &mut Client, tokens: &[&[u8]]) -> usize {
    let batch = client.verify_tokens_raw(tokens, &Requirement::any()).unwrap();
    assert!(batch.rows.iter().all(|row| row.verdict == Verdict::Valid));
    batch.rows.len()
}

#[test]
fn a_hundred_restarts_lose_no_request() {
    let restarts = scaled(100, 2_000);
    let _alone = alone();
    let home = Home::new();
    let tokens = home.issue(TOKENS);
    home.build();
    let texts: Vec<&[u8]> = tokens.iter().map(String::as_bytes).collect();
    let socket = home.folder().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let start = || activate(&listener, &socket, &home.path(), Stdio::null());
    let mut daemon = start();
    let stop = AtomicBool::new(false);
    let asks: [Ask; 4] = [ask_one, ask_pipelined, ask_batch, ask_raw];
    let calls: Vec<AtomicU64> = asks.iter().map(|_| AtomicU64::new(0)).collect();
    let all = thread::scope(|scope| {
        let clients: Vec<_> = asks
            .iter()
            .zip(&calls)
            .map(|(ask, calls)| {
                let (stop, socket, texts) = (&stop, &socket, &texts);
                scope.spawn(move || {
                    let mut client = Client::with_timeout(socket, PATIENCE).unwrap();
                    let mut answers = 0;
                    while !stop.load(Ordering::Relaxed) {
                        answers += ask(&mut client, texts);
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                    answers
                })
            })
            .collect();
        let has_failed = || clients.iter().any(|client| client.is_finished());
        for _ in 0..restarts {
            let before: Vec<u64> = calls.iter().map(|c| c.load(Ordering::Relaxed)).collect();
            eventually("every client was answered", || {
                let answered =
                    |(c, before): (&AtomicU64, &u64)| c.load(Ordering::Relaxed) > before + 1;
                has_failed() || calls.iter().zip(&before).all(answered)
            });
            terminate(&mut daemon);
            daemon = start();
        }
        stop.store(true, Ordering::Relaxed);
        let answers = clients.into_iter().map(|client| client.join().unwrap());
        answers.sum::<usize>()
    });
    terminate(&mut daemon);
    println!("{all} answers over {restarts} restarts, 0 lost");
}

/// A daemon takes no socket that its configuration does not name.
#[test]
fn a_socket_that_is_not_configured_is_refused() {
    let home = Home::new();
    let socket = home.folder().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let other = home.folder().join("other");
    let daemon = activate(&listener, &other, &home.path(), Stdio::piped());
    let output = daemon.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("was passed, and is not one of `sockets`"), "{said}");
}
