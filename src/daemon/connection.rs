//! One connection: bytes in, frames to the batch, replies out.
//!
//! A client that does not read its replies is not read from: its output is bounded by what one
//! tick may plan for it, its input by one frame.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::answer::{Asker, Batch, Flow, LIGHT_BYTES, Told};
use super::callers::Caller;
use super::live::Serving;
use super::seats::Seat;
use crate::wire::{ErrorCode, cut_frame};

/// Bytes read from a connection in a tick: more than a socket's buffer holds.
pub(super) const SCRATCH_BYTES: usize = 256 << 10;
/// Replies that a tick may plan for one connection, before its other frames wait for the next.
const REPLY_BYTES_MAX: usize = 1 << 20;
/// Buffers above this are not kept for a connection that is idle.
pub(super) const KEPT_BYTES: usize = 64 << 10;

/// One connection.
pub(super) struct Connection {
    stream: UnixStream,
    /// A frame that is not complete yet, or frames that had to wait, from `planned` on.
    input: Vec<u8>,
    /// Bytes in front of `input` that were planned. They leave when the rest is shorter, so that
    /// no byte is moved twice.
    planned: usize,
    output: Vec<u8>,
    sent: usize,
    caller: Arc<Caller>,
    /// `None` for a connection of the daemon's own.
    seat: Option<Seat>,
    /// Since when a frame is unfinished, or a reply untaken.
    pub(super) stalled_since: Option<Instant>,
    /// Bytes of its buffers that are in its worker's sum.
    pub(super) counted_bytes: usize,
    /// When it asked last.
    pub(super) asked_at: Instant,
    told: Told,
    /// Close as soon as all replies are sent.
    closing: bool,
    /// The peer sends no more, or we do not listen any more.
    ended: bool,
    /// Waits in the worker's list of connections with frames left.
    pub(super) is_listed: bool,
    /// What epoll was asked for last.
    pub(super) waits_to_write: bool,
}

/// What a connection needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// To be told when there is more to read.
    Read,
    /// To be told when there is room to write.
    Write,
    /// A turn in the next tick: it has complete frames left.
    Turn,
    /// To be closed.
    Close,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, caller: Arc<Caller>, seat: Option<Seat>) -> Connection {
        Connection {
            stream,
            input: Vec::new(),
            planned: 0,
            output: Vec::new(),
            sent: 0,
            caller,
            seat,
            stalled_since: None,
            counted_bytes: 0,
            asked_at: Instant::now(),
            told: None,
            closing: false,
            ended: false,
            is_listed: false,
            waits_to_write: false,
        }
    }

    /// Sockets of the data plane never block.
    pub(super) fn prepare(&self) -> io::Result<()> {
        self.stream.set_nonblocking(true)
    }

    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Whether the daemon asks itself.
    pub(super) fn is_own(&self) -> bool {
        self.seat.is_none()
    }

    /// Bytes that its buffers hold.
    pub(super) fn held_bytes(&self) -> usize {
        self.input.capacity() + self.output.capacity()
    }

    /// Where the replies go.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Takes no more from the peer than what has arrived.
    pub(super) fn stop_listening(&self) {
        let _ = self.stream.shutdown(Shutdown::Read);
    }

    /// Reads what is there and plans the frames that are complete.
    pub(super) fn receive(
        &mut self,
        index: usize,
        scratch: &mut [u8],
        batch: &mut Batch,
        serving: &Serving,
        now: Instant,
    ) {
        if self.has_output() || self.closing {
            return;
        }
        // What was read and had to wait comes first: a client that sends faster than it is
        // answered waits in its own socket, and not in our memory.
        let read = if self.has_whole_frame() {
            0
        } else {
            let bytes_max = if batch.is_busy() { LIGHT_BYTES } else { SCRATCH_BYTES };
            self.read(&mut scratch[..bytes_max])
        };
        let received = &mut scratch[..read];
        let planned = if self.input.is_empty() {
            let planned = self.plan(index, received, batch, serving);
            self.input.extend_from_slice(&received[planned..]);
            planned
        } else {
            self.input.extend_from_slice(received);
            let input = std::mem::take(&mut self.input);
            let planned = self.plan(index, &input[self.planned..], batch, serving);
            self.input = input;
            self.forget_planned(planned);
            planned
        };
        // There may have been tokens in it.
        received.fill(0);
        if planned > 0 {
            self.stalled_since = None;
            self.asked_at = now;
        }
        if self.ended && !self.closing && !self.has_whole_frame() {
            self.end(index, batch);
        }
    }

    fn forget_planned(&mut self, more: usize) {
        self.planned += more;
        if self.planned >= self.input.len() - self.planned {
            // Not drained, which would leave what was moved where it stood.
            let kept = self.input.len() - self.planned;
            self.input.copy_within(self.planned.., 0);
            self.input[kept..].fill(0);
            self.input.truncate(kept);
            self.planned = 0;
        }
    }

    /// Reads once, and says how many bytes.
    fn read(&mut self, scratch: &mut [u8]) -> usize {
        match rustix::io::read(&self.stream, &mut *scratch) {
            Ok(0) => self.ended = true,
            Ok(read) => return read,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.ended = true;
                self.closing = true;
            }
        }
        0
    }

    /// Plans complete frames from the front of `bytes`, and says how many bytes they were.
    fn plan(&mut self, index: usize, bytes: &[u8], batch: &mut Batch, serving: &Serving) -> usize {
        let mut at = 0;
        let mut reply_bytes = 0;
        while !self.closing && reply_bytes < REPLY_BYTES_MAX && !batch.is_full() {
            match cut_frame(&bytes[at..]) {
                Ok(None) => break,
                Ok(Some((body, _))) if body.len() > LIGHT_BYTES && batch.is_busy() => break,
                Ok(Some((body, taken))) => {
                    let asker =
                        Asker { connection: index, caller: &self.caller, is_own: self.is_own() };
                    let planned = batch.plan(&asker, &mut self.told, body, serving);
                    self.closing = planned.flow == Flow::Close;
                    reply_bytes += planned.reply_bytes;
                    at += taken;
                }
                Err(err) => {
                    batch.refuse(index, err.code(), &err.to_string());
                    self.closing = true;
                }
            }
        }
        // Told another way to hash than is right by now, the client must say HELLO again. All
        // that it asked so far is answered.
        let is_outdated = self.told.is_some_and(|told| told != serving.domain.foreign);
        if is_outdated && at > 0 {
            self.closing = true;
        }
        if self.closing { bytes.len() } else { at }
    }

    /// The peer is done. Half a frame is told to it, in case it still listens.
    fn end(&mut self, index: usize, batch: &mut Batch) {
        if !self.input.is_empty() {
            batch.refuse(index, ErrorCode::Malformed, "the connection ended inside a frame");
        }
        self.closing = true;
    }

    /// Sends what there is to send and says what comes next.
    pub(super) fn send(&mut self, now: Instant) -> Next {
        let next = self.send_now();
        if next == Next::Write || (next == Next::Read && !self.input.is_empty()) {
            self.stalled_since.get_or_insert(now);
        } else if self.input.is_empty() {
            self.stalled_since = None;
        }
        next
    }

    fn send_now(&mut self) -> Next {
        while self.has_output() {
            match send(&self.stream, &self.output[self.sent..], SendFlags::NOSIGNAL) {
                Ok(sent) => self.sent += sent,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Next::Write,
                Err(_) => return Next::Close,
            }
        }
        self.output.clear();
        self.sent = 0;
        self.forget_large_buffers();
        if self.closing {
            Next::Close
        } else if self.has_whole_frame() || self.ended {
            Next::Turn
        } else {
            Next::Read
        }
    }

    fn has_output(&self) -> bool {
        self.sent < self.output.len()
    }

    fn has_whole_frame(&self) -> bool {
        !matches!(cut_frame(&self.input[self.planned..]), Ok(None))
    }

    fn forget_large_buffers(&mut self) {
        if self.output.capacity() > KEPT_BYTES {
            self.output = Vec::new();
        }
        if self.input.is_empty() && self.input.capacity() > KEPT_BYTES {
            self.input = Vec::new();
        }
    }
}
