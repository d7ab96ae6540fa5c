//! The loop that answers: one thread a core, each with connections of its own.
//!
//! A tick reads every connection that is ready, plans all complete frames, answers them as one
//! batch and writes each connection once. The served generation is taken at the beginning of the
//! tick and used to its end. The loop is plain epoll: a tick sees all ready connections at once,
//! which is what makes one batch of them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

use super::answer::Batch;
use super::connection::{Connection, KEPT_BYTES, Next, SCRATCH_BYTES};
use super::spin::{Look, Spin, is_one_core};
use super::{Config, SharedLive};

/// Events taken from the kernel at once.
const EVENTS: usize = 256;
/// Connections that wait to be taken in. When a worker is that far behind, new ones are dropped.
const INBOX: usize = 1024;
/// The wake-up descriptor among the connections' numbers.
const WAKE: u64 = u64::MAX;
/// How often a draining worker looks at the clock.
const DRAIN_TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// How often stalled and idle connections are looked for. Workers are woken for it: with a timeout
/// of its own each wait would set a timer, which costs more than a look-up.
pub(super) const SWEEP: Duration = Duration::from_secs(1);
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// All workers of a daemon.
pub(super) struct Workers {
    workers: Vec<Handle>,
}

struct Handle {
    inbox: SyncSender<Connection>,
    wake: Arc<OwnedFd>,
    connections: Arc<AtomicUsize>,
    draining: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Workers {
    pub(super) fn start(live: &SharedLive, config: &Config) -> io::Result<Workers> {
        let limits = Limits {
            buffer_bytes_max: config.buffer_bytes_max / config.workers,
            stalled: config.stalled,
            idle: config.idle,
            spin: config.spin,
        };
        let workers = (0..config.workers).map(|number| Handle::start(live, limits, number));
        Ok(Workers { workers: workers.collect::<io::Result<_>>()? })
    }

    /// Gives a connection to the worker that has the fewest.
    pub(super) fn give(&self, connection: Connection) -> io::Result<()> {
        let fewest = self.workers.iter().min_by_key(|w| w.connections.load(Ordering::Relaxed));
        fewest.expect("there is at least one worker").give(connection)
    }

    /// Gives each worker a connection of its own.
    pub(super) fn give_each(
        &self,
        connections: impl Iterator<Item = Connection>,
    ) -> io::Result<()> {
        self.workers.iter().zip(connections).try_for_each(|(worker, own)| worker.give(own))
    }

    /// Has each worker look for stalled and idle connections.
    pub(super) fn sweep(&self) {
        for worker in &self.workers {
            // A worker that cannot be woken has ended, and has no connections.
            let _ = worker.wake();
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
    fn start(live: &SharedLive, limits: Limits, number: usize) -> io::Result<Handle> {
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
            limits,
            spin: Spin::new(limits.spin, is_one_core()),
            held_bytes: 0,
            swept_at: Instant::now(),
            connections: Vec::new(),
            free: Vec::new(),
            turns: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES],
            batch: Batch::default(),
        };
        let name = format!("worker-{number}");
        let thread = thread::Builder::new().name(name).spawn(move || worker.run())?;
        Ok(Handle { inbox, wake, connections, draining, thread })
    }

    fn give(&self, connection: Connection) -> io::Result<()> {
        connection.prepare()?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        match self.inbox.try_send(connection) {
            Ok(()) => self.wake(),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.connections.fetch_sub(1, Ordering::Relaxed);
                Err(io::Error::other("the worker takes no more connections now"))
            }
        }
    }

    fn wake(&self) -> io::Result<()> {
        match rustix::io::write(&self.wake, &1_u64.to_le_bytes()) {
            // A counter that is full wakes as well.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }
}

/// What a worker lets its connections do.
#[derive(Clone, Copy)]
struct Limits {
    buffer_bytes_max: usize,
    stalled: Duration,
    idle: Option<Duration>,
    spin: Duration,
}

struct Worker {
    live: SharedLive,
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    arriving: Receiver<Connection>,
    /// Connections given to this worker, those in the inbox too.
    count: Arc<AtomicUsize>,
    draining: Arc<AtomicBool>,
    is_draining: bool,
    limits: Limits,
    spin: Spin,
    /// Bytes in the buffers of all connections.
    held_bytes: usize,
    swept_at: Instant,
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
            self.wait(&mut events, timeout);
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
                self.sweep();
            }
        }
    }

    /// Waits for events; before it sleeps it may look for a while.
    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<&Timespec>) {
        if timeout.is_none() && self.spin.begins() {
            let mut look = Look::begin();
            loop {
                self.poll(events, Some(&AT_ONCE));
                if !events.is_empty() || look.is_over(self.spin.limit) {
                    break;
                }
                thread::yield_now();
            }
            self.spin.ended(!events.is_empty() && look.had_the_core());
        }
        if events.is_empty() {
            self.poll(events, timeout);
        }
    }

    fn poll(&self, events: &mut Vec<Event>, timeout: Option<&Timespec>) {
        let waited = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), timeout);
        if let Err(err) = waited
            && err != Errno::INTR
        {
            // Our own descriptor: nothing that a peer does can bring this about.
            panic!("epoll_wait failed: {err}");
        }
    }

    fn tick(&mut self, ready: &[usize]) {
        if ready.is_empty() {
            return;
        }
        let live = Arc::clone(&self.live);
        let serving = live.serving();
        let now = Instant::now();
        for &index in ready {
            if let Some(connection) = self.connections[index].as_mut() {
                connection.is_listed = false;
                connection.receive(index, &mut self.scratch, &mut self.batch, &serving, now);
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
            self.send(index, now);
        }
        self.keep_within_budget();
    }

    fn send(&mut self, index: usize, now: Instant) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        let next = connection.send(now);
        let held_bytes = connection.held_bytes();
        self.held_bytes = self.held_bytes + held_bytes - connection.counted_bytes;
        connection.counted_bytes = held_bytes;
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
        while let Ok(connection) = self.arriving.try_recv() {
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let data = EventData::new_u64(index as u64);
            if let Err(err) = epoll::add(&self.epoll, connection.stream(), data, EventFlags::IN) {
                tracing::warn!(error = %err, "a connection could not be taken in");
                self.free.push(index);
                self.count.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            if !connection.is_own() {
                self.live.counters.opened();
            }
            self.connections[index] = Some(connection);
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
        if let Some(connection) = self.connections[index].take() {
            self.held_bytes -= connection.counted_bytes;
            self.free.push(index);
            self.count.fetch_sub(1, Ordering::Relaxed);
            if !connection.is_own() {
                self.live.counters.closed();
            }
        }
    }

    fn cut(&mut self, index: usize) {
        self.live.counters.cut();
        self.close(index);
    }

    /// While buffers hold more than they may, closes the connection that has stalled for longest.
    fn keep_within_budget(&mut self) {
        while self.held_bytes > self.limits.buffer_bytes_max {
            let connections = self.connections.iter().enumerate();
            let stalled = connections.filter_map(|(index, connection)| {
                let connection = connection.as_ref()?;
                let holds = connection.held_bytes() > KEPT_BYTES;
                Some((connection.stalled_since.filter(|_| holds)?, index))
            });
            let Some((_, index)) = stalled.min() else { return };
            self.cut(index);
        }
    }

    /// Closes what has stalled, or was idle, for longer than it may.
    fn sweep(&mut self) {
        let now = Instant::now();
        if now.saturating_duration_since(self.swept_at) < SWEEP / 2 {
            return;
        }
        self.swept_at = now;
        for index in 0..self.connections.len() {
            let Some(connection) = &self.connections[index] else { continue };
            let since = |at: Instant| now.saturating_duration_since(at);
            let stalled =
                connection.stalled_since.is_some_and(|at| since(at) > self.limits.stalled);
            let idle = self.limits.idle.is_some_and(|idle| since(connection.asked_at) > idle);
            if stalled || (idle && !connection.is_own()) {
                self.cut(index);
            }
        }
    }
}
