//! One connection: frames out, frames in, in order, within a deadline.
//!
//! Any number of frames may be in flight, and it cannot come to a deadlock with a daemon that
//! stops reading while its replies are not read. The rule: **this side waits to write only while
//! no reply is outstanding**. Then the daemon has nothing to write, and so it reads. As soon as
//! one whole frame is out, writing takes what the kernel takes at once, and all waiting is for
//! the reply, which the daemon can give without another byte from here.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::token::Domain;
use crate::wire::{
    FRAME_BYTES_MAX, FrameError, Hello, Limits, PREFIX_BYTES, Reply, cut_frame, push_hello_request,
};

use super::CouldNotAsk;
use super::error::Failure;

/// Most frames in flight. More would only wait in the daemon's receive buffer.
const FRAMES_IN_FLIGHT_MAX: usize = 256;
/// Frames are put together until they have this many bytes, and then written at once.
const WRITE_BYTES: usize = 1 << 16;
/// The receive buffer at first; it grows to the longest frame that comes.
const READ_BYTES: usize = 1 << 15;

/// When a call has to have ended.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    timeout: Duration,
    /// `None`: so far away that the clock cannot say when.
    at: Option<Instant>,
}

impl Deadline {
    pub(super) fn after(timeout: Duration) -> Deadline {
        Deadline { timeout, at: Instant::now().checked_add(timeout) }
    }

    /// What is left of the time, and more than nothing.
    pub(super) fn left(&self) -> Result<Duration, CouldNotAsk> {
        let Some(at) = self.at else { return Ok(self.timeout) };
        match at.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(self.passed()),
            left => Ok(left),
        }
    }

    pub(super) fn passed(&self) -> CouldNotAsk {
        CouldNotAsk::Timeout { after: self.timeout }
    }
}

pub(super) struct Link {
    stream: UnixStream,
    hello: Hello,
    pub(super) hello_at: Instant,
    outgoing: Outgoing,
    incoming: Incoming,
    /// Frames put together or sent, to which no reply was read.
    unanswered: usize,
}

impl Link {
    /// Says HELLO on a new connection.
    pub(super) fn open(stream: UnixStream, deadline: Deadline) -> Result<Link, Failure> {
        let unknown = Hello { domain: None, epoch: 0, generation: 0, limits: Limits::OURS };
        let mut link = Link {
            stream,
            hello: unknown,
            hello_at: Instant::now(),
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            unanswered: 0,
        };
        let mut found = None;
        let push = |_, out: &mut Vec<u8>| {
            push_hello_request(out);
            Ok(())
        };
        link.exchange(deadline, 1, push, |_, reply| match reply {
            Reply::Hello(hello) => {
                found = Some(hello);
                Ok(())
            }
            _ => Err(FrameError::Unasked.into()),
        })?;
        link.hello = found.expect("the exchange ends with a reply or an error");
        Ok(link)
    }

    pub(super) fn hello(&self) -> &Hello {
        &self.hello
    }

    /// How long ago the HELLO was asked for.
    pub(super) fn hello_age(&self) -> Duration {
        self.hello_at.elapsed()
    }

    pub(super) fn domain(&self) -> Option<&Domain> {
        self.hello.domain.as_ref()
    }

    /// Whether the next bytes from the daemon will answer the next question.
    pub(super) fn is_idle(&self) -> bool {
        self.unanswered == 0 && self.incoming.is_empty()
    }

    /// Sends `count` frames, made by `push`, and hands each reply to `take`, in order. An ERROR
    /// reply ends it.
    pub(super) fn exchange(
        &mut self,
        deadline: Deadline,
        count: usize,
        mut push: impl FnMut(usize, &mut Vec<u8>) -> Result<(), FrameError>,
        mut take: impl FnMut(usize, Reply<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (mut pushed, mut answered) = (0, 0);
        while answered < count {
            if self.outgoing.is_empty() {
                pushed += self.fill(pushed..count, &mut push)?;
            }
            if self.in_flight() == 0 {
                let written = self.outgoing.write_frame(&self.stream, deadline);
                written.map_err(|failure| self.last_words(failure, deadline))?;
            }
            self.outgoing.write_at_once(&self.stream)?;
            self.incoming.read(&self.stream, deadline)?;
            while let Some(reply) = self.incoming.next()? {
                if self.outgoing.frames_unsent() == self.unanswered {
                    return Err(FrameError::Unasked.into());
                }
                self.unanswered -= 1;
                take_reply(reply, |reply| take(answered, reply))?;
                answered += 1;
            }
        }
        if self.is_idle() { Ok(()) } else { Err(FrameError::Unasked.into()) }
    }

    /// A daemon that closes without having been asked says why first.
    fn last_words(&mut self, failure: Failure, deadline: Deadline) -> Failure {
        if !matches!(failure, Failure::Broken(_)) {
            return failure;
        }
        match self.incoming.read(&self.stream, deadline).and_then(|()| Ok(self.incoming.next()?)) {
            Ok(Some(Reply::Error { code, message })) => {
                CouldNotAsk::Refused { code, message: message.to_owned() }.into()
            }
            _ => failure,
        }
    }

    /// Puts together as many of the `frames` as may be written next, and says how many.
    fn fill(
        &mut self,
        frames: Range<usize>,
        push: &mut impl FnMut(usize, &mut Vec<u8>) -> Result<(), FrameError>,
    ) -> Result<usize, Failure> {
        self.outgoing.clear();
        let room = frames.len().min(FRAMES_IN_FLIGHT_MAX - self.unanswered);
        for index in frames.clone().take(room) {
            push(index, &mut self.outgoing.bytes)
                .map_err(|err| Failure::Told(CouldNotAsk::Question(err)))?;
            self.outgoing.end_frame();
            self.unanswered += 1;
            if self.outgoing.bytes.len() >= WRITE_BYTES {
                return Ok(index + 1 - frames.start);
            }
        }
        Ok(room)
    }

    /// Whole frames sent, to which no reply was read.
    fn in_flight(&self) -> usize {
        self.unanswered - self.outgoing.frames_unsent()
    }
}

fn take_reply(
    reply: Reply<'_>,
    take: impl FnOnce(Reply<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    match reply {
        Reply::Error { code, message } => {
            Err(CouldNotAsk::Refused { code, message: message.to_owned() }.into())
        }
        reply => take(reply),
    }
}

/// Frames on their way out.
#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    /// Where each frame in `bytes` ends.
    ends: Vec<usize>,
    frames_sent: usize,
}

impl Outgoing {
    fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        (self.sent, self.frames_sent) = (0, 0);
    }

    fn end_frame(&mut self) {
        self.ends.push(self.bytes.len());
    }

    fn frames_unsent(&self) -> usize {
        self.ends.len() - self.frames_sent
    }

    /// Writes until the next frame is out, and waits for that.
    fn write_frame(&mut self, stream: &UnixStream, deadline: Deadline) -> Result<(), Failure> {
        let end = self.ends[self.frames_sent];
        while self.sent < end {
            let left = deadline.left()?;
            let written = stream
                .set_write_timeout(Some(left))
                .and_then(|()| (&*stream).write(&self.bytes[self.sent..end]));
            self.advance(written, deadline.timeout)?;
        }
        Ok(())
    }

    /// Writes what the kernel takes without waiting.
    fn write_at_once(&mut self, stream: &UnixStream) -> Result<(), Failure> {
        if self.is_empty() {
            return Ok(());
        }
        let local = |err| Failure::Told(CouldNotAsk::Io(err));
        stream.set_nonblocking(true).map_err(local)?;
        let result = self.write_until_full(stream);
        stream.set_nonblocking(false).map_err(local)?;
        result
    }

    fn write_until_full(&mut self, mut stream: &UnixStream) -> Result<(), Failure> {
        while !self.is_empty() {
            match stream.write(&self.bytes[self.sent..]) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
                written => self.advance(written, Duration::ZERO)?,
            }
        }
        Ok(())
    }

    fn advance(&mut self, written: io::Result<usize>, timeout: Duration) -> Result<(), Failure> {
        match written {
            Ok(written) => self.sent += written,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(Failure::of_io(err, timeout)),
        }
        while self.ends.get(self.frames_sent).is_some_and(|&end| end <= self.sent) {
            self.frames_sent += 1;
        }
        Ok(())
    }
}

/// Bytes that came in and were not looked at: those from `start` to `end`.
#[derive(Default)]
struct Incoming {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Incoming {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Waits for bytes.
    fn read(&mut self, mut stream: &UnixStream, deadline: Deadline) -> Result<(), Failure> {
        self.make_room();
        loop {
            let left = deadline.left()?;
            let read = stream
                .set_read_timeout(Some(left))
                .and_then(|()| stream.read(&mut self.buffer[self.end..]));
            match read {
                Ok(0) => return Err(Failure::Broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => {
                    self.end += read;
                    return Ok(());
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(Failure::of_io(err, deadline.timeout)),
            }
        }
    }

    /// A frame that is too long is refused before it is read, so the buffer grows no further than
    /// to the longest one.
    fn make_room(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end == self.buffer.len() {
            let len = (2 * self.buffer.len()).clamp(READ_BYTES, PREFIX_BYTES + FRAME_BYTES_MAX);
            self.buffer.resize(len, 0);
        }
    }

    /// The next reply that is there as a whole.
    fn next(&mut self) -> Result<Option<Reply<'_>>, FrameError> {
        let Some((body, len)) = cut_frame(&self.buffer[self.start..self.end])? else {
            return Ok(None);
        };
        self.start += len;
        Reply::decode(body).map(Some)
    }
}
