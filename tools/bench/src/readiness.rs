//! What it costs to wait for a question: blocking in `read`, with epoll as the daemon's workers do,
//! and with tokio's readiness. One question at a time over one connection, no work, one core.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::floors::{ANSWER_BYTES, PingPong, QUESTION_BYTES};
use crate::machine;
use crate::report::{Figure, Report};
use crate::settings::Settings;

/// A server that ends when its line is closed.
type Server = fn(UnixStream) -> anyhow::Result<()>;

const SERVERS: [(&str, Server); 3] =
    [("blocking in read", blocking), ("epoll", with_epoll), ("tokio, current thread", with_tokio)];

pub(crate) fn run(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    report.section("Waiting for a question: a server without work, client and server on one core");
    machine::pin(0)?;
    let mut lines = Vec::new();
    for (_, serve) in SERVERS {
        let (client, server) = UnixStream::pair()?;
        // The thread is pinned as the caller is.
        thread::spawn(move || serve(server));
        lines.push((PingPong::over(client), Vec::new()));
    }
    for _ in 0..settings.rounds {
        for (line, rounds) in &mut lines {
            rounds.push(line.p50_us(settings.questions)?);
        }
    }
    machine::unpin()?;
    let figures: Vec<Figure> = lines.into_iter().map(|(_, rounds)| Figure::of(rounds)).collect();
    let name = |number: usize| format!("{}, p50", SERVERS[number].0);
    report.base(&name(0), "us", &figures[0]);
    report.figure(&name(1), "us", &figures[1], (SERVERS[0].0, &figures[0]));
    report.figure(&name(2), "us", &figures[2], (SERVERS[1].0, &figures[1]));
    Ok(())
}

fn blocking(mut stream: UnixStream) -> anyhow::Result<()> {
    let mut question = [0; QUESTION_BYTES];
    while stream.read_exact(&mut question).is_ok() {
        stream.write_all(&[0; ANSWER_BYTES])?;
    }
    Ok(())
}

fn with_epoll(mut stream: UnixStream) -> anyhow::Result<()> {
    stream.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &stream, EventData::new_u64(0), EventFlags::IN)?;
    let mut events: Vec<Event> = Vec::with_capacity(16);
    loop {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        let mut question = [0; QUESTION_BYTES];
        if stream.read(&mut question)? == 0 {
            return Ok(());
        }
        stream.write_all(&[0; ANSWER_BYTES])?;
    }
}

fn with_tokio(stream: UnixStream) -> anyhow::Result<()> {
    stream.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let stream = tokio::net::UnixStream::from_std(stream)?;
        loop {
            stream.readable().await?;
            let mut question = [0; QUESTION_BYTES];
            match stream.try_read(&mut question) {
                Ok(0) => return Ok(()),
                Ok(_) => drop(stream.try_write(&[0; ANSWER_BYTES])?),
                // What tokio knew was out of date.
                Err(err) if err.kind() == ErrorKind::WouldBlock => {}
                Err(err) => return Err(io::Error::into(err)),
            }
        }
    })
}
