//! A running daemon in this process: bytes of the fuzzer's on a socket of frames, or, when the
//! first of them is even, on one of HTTP. Whatever comes in, it answers or closes in time; what it
//! answers can be read; and it lets nothing pass, since no token of its table is known to anybody.

#![no_main]

use std::fs;
use std::future::pending;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use adamant::daemon::{Config, Door, Listening, Loader, run};
use adamant::store::now_unix_s;
use adamant::wire::{Reply, cut_frame, push_hello_request};
use adamant_fuzz::sample::files;
use adamant_fuzz::shop::Shop;
use libfuzzer_sys::fuzz_target;

/// Longer than any answer takes, and shorter than the daemon's patience with a stalled peer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

static SOCKETS: LazyLock<[PathBuf; 2]> = LazyLock::new(start);

fuzz_target!(|input: &[u8]| {
    let Some((&door, sent)) = input.split_first() else { return };
    let is_http = door % 2 == 0;
    // With a greeting of its own a connection gets further; without, it is the fuzzer's to send.
    let mut bytes = Vec::new();
    if door % 4 == 1 {
        push_hello_request(&mut bytes);
    }
    bytes.extend_from_slice(sent);
    let answer = ask(&SOCKETS[usize::from(is_http)], &bytes);
    if is_http { check_http(&answer) } else { check_frames(&answer) }
});

fn ask(socket: &PathBuf, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).expect("the daemon listens");
    stream.set_read_timeout(Some(ANSWERED_WITHIN)).expect("a timeout that is not zero");
    // It may close before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(err) if err.kind() == ErrorKind::WouldBlock => panic!("neither answered nor closed"),
        _ => answer,
    }
}

fn check_frames(mut answer: &[u8]) {
    while let Some((body, took)) = cut_frame(answer).expect("the daemon writes frames") {
        if let Reply::Verdicts(verdicts) = Reply::decode(body).expect("and replies in them") {
            assert!(verdicts.rows.into_iter().all(|row| row.verdict.name() != "valid"));
        }
        answer = &answer[took..];
    }
}

fn check_http(answer: &[u8]) {
    let text = String::from_utf8_lossy(answer);
    assert!(answer.is_empty() || text.starts_with("HTTP/1."), "{text}");
    assert!(!text.contains("\"active\":true"), "{text}");
    let ids = text.lines().filter_map(|line| line.strip_prefix("x-token-id:"));
    assert!(ids.into_iter().all(|id| id.trim().is_empty()), "{text}");
}

/// Starts the daemon, which lives as long as this process.
fn start() -> [PathBuf; 2] {
    let mut shop = Shop::open();
    let root = shop.store().root().to_owned();
    let note = shop.sign(files(), 1, now_unix_s(), None);
    fs::write(shop.store().manifest_path(), note).expect("a file in a temporary folder");
    let (policy, state) = (root.join("policy.toml"), root.join("state"));
    fs::write(&policy, shop.policy().to_toml()).expect("a file in a temporary folder");
    fs::create_dir(&state).expect("a folder in a temporary folder");
    let sockets = [root.join("frames.sock"), root.join("http.sock")];
    let mut config = Config::new(&root, policy, state);
    (config.workers, config.sockets) = (1, vec![sockets[0].clone()]);
    let listen = |socket: &PathBuf| {
        let listener = UnixListener::bind(socket).expect("a socket in a temporary folder");
        listener.set_nonblocking(true).expect("our own socket");
        listener
    };
    let (frames, http) = (listen(&sockets[0]), listen(&sockets[1]));
    let door = Door::Unix { socket: sockets[1].clone(), listener: http };
    let loader = Loader::start(config).expect("a policy that can be read");
    loader.check().expect("there is a generation to serve");
    let listening = sockets[0].clone();
    thread::spawn(move || {
        // Its folder is gone with it.
        let _shop = shop;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let listener = tokio::net::UnixListener::from_std(frames).expect("a socket");
            let listening = vec![Listening { socket: listening, listener }];
            run(listening, vec![door], loader, pending()).await.expect("it goes on for ever")
        });
    });
    sockets
}
