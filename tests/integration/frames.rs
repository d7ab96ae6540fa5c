//! What a hostile or careless client can send. After each, an honest one gets right answers.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use adamant::claims::Requirement;
use adamant::token::Digest;
use adamant::verdict::Verdict;
use adamant::wire::{
    DIGESTS_MAX, ErrorCode, FRAME_BYTES_MAX, Reply, cut_frame, push_hello_request, push_verify,
};

use crate::support::{Home, PATIENCE, Server, eventually};

/// HELLO of version 1, as it stands in docs/protocol.md.
const HELLO: [u8; 12] = [8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
/// STATUS.
const STATUS: [u8; 8] = [4, 0, 0, 0, 3, 0, 0, 0];

struct Setting {
    server: Server,
    digest: Digest,
    _home: Home,
}

impl Setting {
    fn new() -> Setting {
        let home = Home::new();
        let token = home.issue(1).remove(0);
        home.build();
        let server = Server::start(&home.path());
        let digest = server.client().domain().unwrap().key.digest(token.as_bytes());
        Setting { server, digest, _home: home }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.server.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A connection that has said HELLO.
    fn greeted(&self) -> UnixStream {
        let mut stream = self.connect();
        stream.write_all(&HELLO).unwrap();
        assert!(is_hello(&frame(&mut stream)));
        stream
    }

    fn honest_client_is_served(&self) {
        let rows = self.server.client().verify_digests(&[self.digest], &Requirement::any());
        assert_eq!(rows.unwrap().rows[0].verdict, Verdict::Valid);
    }

    /// Sends `bytes` as the first thing, and gives the code of the error that ends the connection.
    fn refused(&self, bytes: &[u8]) -> (ErrorCode, String) {
        let mut stream = self.connect();
        // The daemon may close before it has all of it.
        let _ = stream.write_all(bytes);
        let error = error(&frame(&mut stream));
        assert_is_closed(&mut stream);
        self.honest_client_is_served();
        error
    }

    fn refused_after_hello(&self, bytes: &[u8]) -> (ErrorCode, String) {
        let mut stream = self.greeted();
        let _ = stream.write_all(bytes);
        let error = error(&frame(&mut stream));
        if error.0.closes() {
            assert_is_closed(&mut stream);
        } else {
            stream.write_all(&STATUS).unwrap();
            assert!(matches!(Reply::decode(&frame(&mut stream)), Ok(Reply::Status(_))));
        }
        self.honest_client_is_served();
        error
    }
}

fn frame(stream: &mut UnixStream) -> Vec<u8> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).unwrap();
    let mut body = vec![0; u32::from_le_bytes(prefix) as usize];
    stream.read_exact(&mut body).unwrap();
    body
}

fn is_hello(body: &[u8]) -> bool {
    matches!(Reply::decode(body), Ok(Reply::Hello(_)))
}

fn error(body: &[u8]) -> (ErrorCode, String) {
    match Reply::decode(body) {
        Ok(Reply::Error { code, message }) => (code, message.to_owned()),
        other => panic!("not an error: {other:?}"),
    }
}

fn assert_is_closed(stream: &mut UnixStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => assert!(rest.is_empty(), "{} bytes after the error", rest.len()),
        Err(err) => assert_eq!(err.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], body].concat()
}

fn verify(digests: &[Digest]) -> Vec<u8> {
    let mut out = Vec::new();
    push_verify(&mut out, false, &Requirement::any(), digests).unwrap();
    out
}

#[test]
fn what_is_no_frame_of_the_protocol_is_refused_with_its_reason() {
    let setting = Setting::new();
    let (code, said) = setting.refused(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(code, ErrorCode::FrameTooLarge);
    assert!(said.contains("at most 1048576"), "{said}");
    assert_eq!(setting.refused(&[0, 0, 0, 0]).0, ErrorCode::Malformed);
    assert_eq!(setting.refused(&framed(&[9, 0, 0, 0])).0, ErrorCode::Malformed);
    assert_eq!(setting.refused(&framed(&[1])).0, ErrorCode::Malformed);
    let (code, said) = setting.refused(&framed(&[0, 0, 0, 0, 2, 0, 0, 0]));
    assert_eq!((code, said.as_str()), (ErrorCode::Version, "this daemon speaks version 1, not 2"));
    let (code, said) = setting.refused(&STATUS);
    assert_eq!((code, said.as_str()), (ErrorCode::HelloFirst, "the first frame must be HELLO"));

    let good = verify(&[setting.digest]);
    let body = &good[4..];
    let trailing = [body, &[0]].concat();
    assert_eq!(setting.refused_after_hello(&framed(&trailing)).0, ErrorCode::Malformed);
    assert_eq!(setting.refused_after_hello(&framed(&body[..40])).0, ErrorCode::Malformed);
    let mut flags = body.to_vec();
    flags[4] = 2;
    let (code, said) = setting.refused_after_hello(&framed(&flags));
    assert_eq!((code, said.as_str()), (ErrorCode::Malformed, "unknown flags 0x2"));
    let mut count = body.to_vec();
    let at = count.len() - 32 - 8;
    count[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(setting.refused_after_hello(&framed(&count)).0, ErrorCode::Malformed);
}

/// Refused by its four bytes of length, without waiting for the body, and without reading it.
#[test]
fn an_oversized_frame_is_refused_at_once() {
    let setting = Setting::new();
    let over = u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_le_bytes();
    let mut stream = setting.greeted();
    stream.write_all(&over).unwrap();
    assert_eq!(error(&frame(&mut stream)).0, ErrorCode::FrameTooLarge);
    assert_is_closed(&mut stream);

    // The same with a body that never ends.
    let mut stream = setting.greeted();
    let endless = [&over[..], &[0xAA; 1 << 20]].concat();
    let mut sent = 0_usize;
    while stream.write_all(&endless).is_ok() {
        sent += endless.len();
        assert!(sent < 64 << 20, "the daemon reads without end");
    }
    setting.honest_client_is_served();
}

#[test]
fn more_digests_than_allowed_are_refused_and_the_connection_goes_on() {
    let setting = Setting::new();
    let mut body = verify(&[setting.digest])[4..].to_vec();
    let at = body.len() - 32 - 8;
    body[at..at + 8].copy_from_slice(&(DIGESTS_MAX as u64 + 1).to_le_bytes());
    body.extend(vec![7; DIGESTS_MAX * 32]);
    let (code, said) = setting.refused_after_hello(&framed(&body));
    assert_eq!(code, ErrorCode::TooMany);
    assert!(said.contains("16385 digests"), "{said}");
}

#[test]
fn half_a_frame_is_told_and_holds_nobody_up() {
    let setting = Setting::new();
    let good = verify(&[setting.digest]);
    // Half closed: the client still reads.
    let mut stream = setting.greeted();
    stream.write_all(&good[..good.len() / 2]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let (code, said) = error(&frame(&mut stream));
    assert_eq!(
        (code, said.as_str()),
        (ErrorCode::Malformed, "the connection ended inside a frame")
    );
    assert_is_closed(&mut stream);
    // Gone altogether, and silent.
    let mut gone = setting.greeted();
    gone.write_all(&good[..7]).unwrap();
    drop(gone);
    let mut silent = setting.greeted();
    silent.write_all(&good[..7]).unwrap();
    setting.honest_client_is_served();
    // The rest of the silent one's frame is still taken.
    silent.write_all(&good[7..]).unwrap();
    assert!(matches!(Reply::decode(&frame(&mut silent)), Ok(Reply::Verdicts(_))));
}

/// However a stream is cut into writes, the answers are the same.
#[test]
fn frames_cut_anywhere_are_answered_as_whole_ones() {
    let setting = Setting::new();
    let asked = [verify(&[setting.digest]), verify(&[[3; 32]]), verify(&[])].concat();
    let answers = |cuts: &[usize]| {
        let mut stream = setting.greeted();
        let mut from = 0;
        for &to in cuts.iter().chain([&asked.len()]) {
            stream.write_all(&asked[from..to]).unwrap();
            from = to;
        }
        let rows = |body: &[u8]| match Reply::decode(body) {
            Ok(Reply::Verdicts(verdicts)) => {
                verdicts.rows.map(|row| row.verdict).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        let all: Vec<Vec<Verdict>> = (0..3).map(|_| rows(&frame(&mut stream))).collect();
        all
    };
    let whole = answers(&[]);
    assert_eq!(whole, [vec![Verdict::Valid], vec![Verdict::Unknown], vec![]]);
    for cut in 1..asked.len() {
        assert_eq!(answers(&[cut]), whole, "cut at {cut}");
    }
    let bytes: Vec<usize> = (1..asked.len()).collect();
    assert_eq!(answers(&bytes), whole);
}

#[test]
fn ten_thousand_pipelined_questions_are_answered_in_order() {
    let setting = Setting::new();
    let count = 10_000;
    let stream = setting.greeted();
    let mut sending = stream.try_clone().unwrap();
    let (digest, absent) = (setting.digest, [9; 32]);
    let writer = std::thread::spawn(move || {
        let asked: Vec<u8> = (0..count)
            .flat_map(|at| verify(&[if at % 3 == 0 { digest } else { absent }]))
            .collect();
        sending.write_all(&asked).unwrap();
    });
    let mut stream = stream;
    for at in 0..count {
        let body = frame(&mut stream);
        let Ok(Reply::Verdicts(mut verdicts)) = Reply::decode(&body) else { panic!() };
        let expected = if at % 3 == 0 { Verdict::Valid } else { Verdict::Unknown };
        assert_eq!(verdicts.rows.next().unwrap().verdict, expected, "answer {at}");
    }
    writer.join().unwrap();
}

/// Clients that ask for as much as they can and never read cost a bounded amount of memory.
/// What a grant came to for one question says nothing about the next, which has the same grant.
#[test]
fn questions_in_one_write_are_answered_each_by_its_own_requirement() {
    let home = Home::new();
    let token = home.issue(1).remove(0);
    home.build();
    let server = Server::start(&home.path());
    let ways = [
        (Requirement::any(), Verdict::Valid),
        (Requirement::any().scope("orders:read"), Verdict::Valid),
        (Requirement::any().scope("orders:write"), Verdict::InsufficientScope),
        (Requirement::any().kind("other"), Verdict::WrongKind),
        (Requirement::any().audience("other"), Verdict::WrongAudience),
    ];
    // Each way comes after each other, and after itself.
    let asked: Vec<_> =
        (0..ways.len()).flat_map(|a| (0..ways.len()).flat_map(move |b| [a, b])).collect();
    let mut client = server.client();
    let mut pipeline = client.pipeline();
    for &way in &asked {
        pipeline.push(token.as_bytes(), &ways[way].0);
    }
    for (answer, &way) in pipeline.run().unwrap().iter().zip(&asked) {
        assert_eq!(answer.verdict(), ways[way].1, "{:?}", ways[way].0);
    }
}

#[test]
fn clients_that_never_read_do_not_fill_the_memory() {
    let setting = Setting::new();
    let mut question = Vec::new();
    let digests = [setting.digest; 64];
    push_verify(&mut question, true, &Requirement::any(), &digests).unwrap();
    let before = resident_kib(setting.server.pid());
    let deaf: Vec<UnixStream> = (0..8)
        .map(|_| {
            let mut stream = setting.greeted();
            stream.set_nonblocking(true).unwrap();
            // Until both socket buffers are full.
            while stream.write(&question).is_ok() {}
            stream
        })
        .collect();
    setting.honest_client_is_served();
    let grown = resident_kib(setting.server.pid()).saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB more for {} deaf clients", deaf.len());
    drop(deaf);
    eventually("their connections are closed", || setting.server.status()["connections_open"] == 1);
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A thousand connections of random bytes, and of frames with one byte changed.
#[test]
fn noise_is_refused_and_the_daemon_serves_on() {
    let setting = Setting::new();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let good = verify(&[setting.digest]);
    for round in 0..1000 {
        let mut stream = if round % 2 == 0 { setting.connect() } else { setting.greeted() };
        let bytes: Vec<u8> = if round % 4 < 2 {
            (0..next() % 200).map(|_| next().to_le_bytes()[0]).collect()
        } else {
            let mut bytes = good.clone();
            let at = usize::try_from(next()).unwrap() % bytes.len();
            bytes[at] ^= 1 << (next() % 8);
            bytes
        };
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        // Whatever it was, the connection ends.
        let _ = stream.read_to_end(&mut answer);
        while let Ok(Some((body, taken))) = cut_frame(&answer) {
            assert!(Reply::decode(body).is_ok());
            answer.drain(..taken);
        }
    }
    setting.honest_client_is_served();
    let mut hello = Vec::new();
    push_hello_request(&mut hello);
    assert_eq!(hello, HELLO);
}
