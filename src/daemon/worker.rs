//! The loop that answers: one thread a core, each with connections of its own.
//!
//! A tick reads every connection that is ready, plans all complete frames, answers them as one
//! batch and writes each connection once. The served generation is taken at the beginning of the
//! tick and used to its end. The loop is plain epoll: a tick sees all ready connections at once,
//! which is what makes one batch of them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

use super::SharedLive;
use super::answer::Batch;
use super::connection::{Connection, Next, SCRATCH_BYTES, prepare};

/// Events taken from the kernel at once.
const EVENTS: usize = 256;
/// Connections that wait to be taken in. When a worker is that far behind, new ones are dropped.
const INBOX: usize = 1024;
/// The wake-up descriptor among the connections' numbers.
const WAKE: u64 = u64::MAX;
/// How often a draining worker looks at the clock.
const DRAIN_TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// All workers of a daemon.
pub(super) struct Workers {
    workers: Vec<Handle>,
}

struct Handle {
    inbox: SyncSender<UnixStream>,
    wake: Arc<OwnedFd>,
    connections: Arc<AtomicUsize>,
    draining: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Workers {
    pub(super) fn start(live: &SharedLive, count: usize) -> io::Result<Workers> {
        let workers = (0..count.max(1)).map(|number| Handle::start(live, number));
        Ok(Workers { workers: workers.collect::<io::Result<_>>()? })
    }

    /// Gives a connection to the worker that has the fewest.
    pub(super) fn give(&mut self, stream: UnixStream) -> io::Result<()> {
        prepare(&stream)?;
        let fewest = self.workers.iter().min_by_key(|w| w.connections.load(Ordering::Relaxed));
        let worker = fewest.expect("there is at least one worker");
        worker.connections.fetch_add(1, Ordering::Relaxed);
        match worker.inbox.try_send(stream) {
            Ok(()) => worker.wake(),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                worker.connections.fetch_sub(1, Ordering::Relaxed);
                Err(io::Error::other("the worker takes no more connections now"))
            }
        }
    }

    /// Answers what has arrived, closes all connections, and ends the threads, within `limit`.
    pub(super) fn drain(self, limit: Duration) {
        for worker in &self.workers {
            worker.draining.store(true, Ordering::Release);
            let _ = worker.wake();
        }
        let deadline = Instant::now() + limit;
        for worker in self.workers {
            drop(worker.inbox);
            while !worker.thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

impl Handle {
    fn start(live: &SharedLive, number: usize) -> io::Result<Handle> {
        let (inbox, arriving) = sync_channel(INBOX);
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let connections = Arc::new(AtomicUsize::new(0));
        let draining = Arc::new(AtomicBool::new(false));
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, wake.as_fd(), EventData::new_u64(WAKE), EventFlags::IN)?;
        let worker = Worker {
            live: Arc::clone(live),
            epoll,
            wake: Arc::clone(&wake),
            arriving,
            count: Arc::clone(&connections),
            draining: Arc::clone(&draining),
            is_draining: false,
            connections: Vec::new(),
            free: Vec::new(),
            turns: Vec::new(),
            scratch: Vec::with_capacity(SCRATCH_BYTES),
            batch: Batch::default(),
        };
        let name = format!("worker-{number}");
        let thread = thread::Builder::new().name(name).spawn(move || worker.run())?;
        Ok(Handle { inbox, wake, connections, draining, thread })
    }

    fn wake(&self) -> io::Result<()> {
        // Any number but 0 wakes, so the order of its bytes does not matter.
        rustix::io::write(&self.wake, &[1; size_of::<u64>()])?;
        Ok(())
    }
}

struct Worker {
    live: SharedLive,
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    arriving: Receiver<UnixStream>,
    /// Connections given to this worker, those in the inbox too.
    count: Arc<AtomicUsize>,
    draining: Arc<AtomicBool>,
    is_draining: bool,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Connections that have complete frames left.
    turns: Vec<usize>,
    scratch: Vec<u8>,
    batch: Batch,
}

impl Worker {
    fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        let mut ready = Vec::with_capacity(EVENTS);
        while !(self.is_draining && self.count.load(Ordering::Relaxed) == 0) {
            events.clear();
            let timeout = match (self.turns.is_empty(), self.is_draining) {
                (false, _) => Some(&AT_ONCE),
                (true, true) => Some(&DRAIN_TICK),
                (true, false) => None,
            };
            let waited =
                epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout);
            if let Err(err) = waited
                && err != Errno::INTR
            {
                // Our own descriptor: nothing that a peer does can bring this about.
                panic!("epoll_wait failed: {err}");
            }
            ready.append(&mut self.turns);
            let mut woken = false;
            for event in &events {
                match event.data.u64() {
                    WAKE => woken = true,
                    number => ready.extend(usize::try_from(number)),
                }
            }
            self.tick(&ready);
            ready.clear();
            if woken {
                self.take_in();
            }
        }
    }

    fn tick(&mut self, ready: &[usize]) {
        let live = Arc::clone(&self.live);
        let serving = live.serving();
        for &index in ready {
            if let Some(connection) = self.connections[index].as_mut() {
                connection.is_listed = false;
                connection.receive(index, &mut self.scratch, &mut self.batch, &serving);
            }
        }
        let connections = &mut self.connections;
        self.batch.answer(&live, &serving, |index, reply| {
            let connection = connections[index].as_mut().expect("it asked in this tick");
            reply(connection.output());
        });
        self.batch.clear();
        drop(serving);
        for &index in ready {
            self.send(index);
        }
    }

    fn send(&mut self, index: usize) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        let next = connection.send();
        let waits_to_write = next == Next::Write;
        if waits_to_write != connection.waits_to_write {
            let flags = if waits_to_write { EventFlags::OUT } else { EventFlags::IN };
            let data = EventData::new_u64(index as u64);
            connection.waits_to_write = waits_to_write;
            if epoll::modify(&self.epoll, connection.stream(), data, flags).is_err() {
                return self.close(index);
            }
        }
        match next {
            Next::Read | Next::Write => {}
            Next::Close => self.close(index),
            Next::Turn if connection.is_listed => {}
            Next::Turn => {
                connection.is_listed = true;
                self.turns.push(index);
            }
        }
    }

    /// Takes in new connections, and the order to drain.
    fn take_in(&mut self) {
        let mut counter = [0; size_of::<u64>()];
        let _ = rustix::io::read(&self.wake, &mut counter);
        while let Ok(stream) = self.arriving.try_recv() {
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let data = EventData::new_u64(index as u64);
            if let Err(err) = epoll::add(&self.epoll, &stream, data, EventFlags::IN) {
                tracing::warn!(error = %err, "a connection could not be taken in");
                self.free.push(index);
                self.count.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            self.live.counters.opened();
            self.connections[index] = Some(Connection::new(stream));
        }
        if self.draining.load(Ordering::Acquire) && !self.is_draining {
            self.is_draining = true;
        }
        if self.is_draining {
            self.connections.iter().flatten().for_each(Connection::stop_listening);
        }
    }

    fn close(&mut self, index: usize) {
        // The descriptor leaves epoll when it is closed.
        if self.connections[index].take().is_some() {
            self.free.push(index);
            self.count.fetch_sub(1, Ordering::Relaxed);
            self.live.counters.closed();
        }
    }
}
