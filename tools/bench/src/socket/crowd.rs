//! Many clients at once, each with one turn under way, in one thread: as many sockets, and no more
//! work for the machine than the questions themselves.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use anyhow::{Context, ensure};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::talk::Script;

pub(crate) struct Crowd {
    epoll: OwnedFd,
    clients: Vec<Client>,
}

struct Client {
    stream: UnixStream,
    answer: Vec<u8>,
    turn: usize,
    /// Bytes of the answer that are there, and that there will be.
    read: usize,
    expected: usize,
}

impl Crowd {
    pub(crate) fn over(streams: Vec<UnixStream>) -> anyhow::Result<Crowd> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut clients = Vec::new();
        for (at, stream) in streams.into_iter().enumerate() {
            epoll::add(&epoll, &stream, EventData::new_u64(at as u64), EventFlags::IN)?;
            clients.push(Client { stream, answer: vec![], turn: 0, read: 0, expected: 0 });
        }
        Ok(Crowd { epoll, clients })
    }

    /// Seconds until all clients are through with their scripts.
    pub(crate) fn play(&mut self, scripts: &[Script]) -> anyhow::Result<f64> {
        ensure!(scripts.len() == self.clients.len(), "a script for each client");
        for (client, script) in self.clients.iter_mut().zip(scripts) {
            client.answer.resize(script.answer_bytes_max().max(client.answer.len()), 0);
        }
        let mut events: Vec<Event> = Vec::with_capacity(self.clients.len());
        let began = Instant::now();
        for (client, script) in self.clients.iter_mut().zip(scripts) {
            client.begin(script, 0)?;
        }
        let mut left = self.clients.len();
        while left > 0 {
            events.clear();
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None)?;
            for event in &events {
                let at = usize::try_from(event.data.u64()).context("a client's number")?;
                left -= usize::from(self.clients[at].go_on(&scripts[at])?);
            }
        }
        let took = began.elapsed();
        for (client, script) in self.clients.iter().zip(scripts) {
            script.check(&client.answer[..client.expected])?;
        }
        Ok(took.as_secs_f64())
    }
}

impl Client {
    fn begin(&mut self, script: &Script, turn: usize) -> anyhow::Result<()> {
        let (request, answer_bytes) = script.turn(turn);
        (self.turn, self.read, self.expected) = (turn, 0, answer_bytes);
        Ok(self.stream.write_all(request)?)
    }

    /// Reads what is there, which never blocks. Whether the script has ended.
    fn go_on(&mut self, script: &Script) -> anyhow::Result<bool> {
        let count = self.stream.read(&mut self.answer[self.read..self.expected])?;
        ensure!(count > 0, "the server has closed the connection");
        self.read += count;
        if self.read < self.expected {
            return Ok(false);
        }
        let next = self.turn + 1;
        if next == script.turns() {
            return Ok(true);
        }
        self.begin(script, next)?;
        Ok(false)
    }
}
