//! One connection that many tasks share: one task writes, one reads, and replies go to those who
//! asked in the order in which they asked.
//!
//! ```text
//!   calls --queue--> writer --frames--> daemon --frames--> reader --oneshot--> calls
//!                       \------- who waits for a reply, in order -------/
//! ```
//!
//! Whoever asks is in that order before its frame is written, and stays in it when it gives up:
//! its reply is then dropped, and nobody gets the reply of another. When the connection ends, all
//! who wait find their channel closed, which is [`Failure::Broken`].

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::decode;
use crate::client::CouldNotAsk;
use crate::client::error::Failure;
use crate::wire::{FrameError, Hello, Reply, cut_frame, push_hello_request};

/// Questions that wait to be written.
const QUEUE: usize = 1024;
/// Questions that are written at once.
const WRITTEN_AT_ONCE: usize = 256;

/// Who waits for a reply. `Err`: what the daemon sends is no reply.
type Waiter = oneshot::Sender<Result<Vec<u8>, FrameError>>;

struct Question {
    frame: Vec<u8>,
    waiter: Waiter,
}

pub(super) struct Link {
    questions: mpsc::Sender<Question>,
    hello: Hello,
    hello_at: Instant,
    /// Nobody but the call that opened it has used it.
    fresh: AtomicBool,
}

impl Link {
    /// Connects and says HELLO.
    pub(super) async fn open(socket: &Path) -> Result<Link, Failure> {
        let stream = UnixStream::connect(socket).await;
        let stream = stream.map_err(|err| Failure::from(CouldNotAsk::Connect(err)))?;
        let (reading, writing) = stream.into_split();
        let (questions, asked) = mpsc::channel(QUEUE);
        let (waiters, waiting) = mpsc::unbounded_channel();
        tokio::spawn(write(writing, asked, waiters));
        tokio::spawn(read(reading, waiting));
        let mut frame = Vec::new();
        push_hello_request(&mut frame);
        let hello_at = Instant::now();
        let reply = ask(&questions, frame).await?;
        let Reply::Hello(hello) = decode(&reply)? else {
            return Err(FrameError::Unasked.into());
        };
        Ok(Link { questions, hello, hello_at, fresh: AtomicBool::new(true) })
    }

    pub(super) fn hello(&self) -> &Hello {
        &self.hello
    }

    /// How old the HELLO is; zero for the call that opened the connection.
    pub(super) fn hello_age(&self) -> Duration {
        if self.is_fresh() { Duration::ZERO } else { self.hello_at.elapsed() }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.questions.is_closed()
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.fresh.load(Ordering::Relaxed)
    }

    /// A later call uses it.
    pub(super) fn used(&self) {
        self.fresh.store(false, Ordering::Relaxed);
    }

    /// Asks one question and gives the body of the reply.
    pub(super) async fn ask(&self, frame: Vec<u8>) -> Result<Vec<u8>, Failure> {
        ask(&self.questions, frame).await
    }

    /// Asks all questions at once, and gives the replies in their order.
    pub(super) async fn ask_all(&self, frames: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Failure> {
        let mut receivers = Vec::with_capacity(frames.len());
        for frame in frames {
            receivers.push(enqueue(&self.questions, frame).await?);
        }
        let mut replies = Vec::with_capacity(receivers.len());
        for receiver in receivers {
            replies.push(reply(receiver).await?);
        }
        Ok(replies)
    }
}

type Receiver = oneshot::Receiver<Result<Vec<u8>, FrameError>>;

async fn ask(questions: &mpsc::Sender<Question>, frame: Vec<u8>) -> Result<Vec<u8>, Failure> {
    reply(enqueue(questions, frame).await?).await
}

async fn enqueue(questions: &mpsc::Sender<Question>, frame: Vec<u8>) -> Result<Receiver, Failure> {
    let (waiter, receiver) = oneshot::channel();
    questions.send(Question { frame, waiter }).await.map_err(|_| broken())?;
    Ok(receiver)
}

async fn reply(receiver: Receiver) -> Result<Vec<u8>, Failure> {
    Ok(receiver.await.map_err(|_| broken())??)
}

fn broken() -> Failure {
    Failure::Broken(io::ErrorKind::ConnectionReset.into())
}

/// Writes what is asked, as much as is there at once. Ends when nobody can ask any more, or when
/// the reader has ended.
async fn write(
    mut stream: OwnedWriteHalf,
    mut questions: mpsc::Receiver<Question>,
    waiters: mpsc::UnboundedSender<Waiter>,
) {
    let (mut batch, mut frames) = (Vec::new(), Vec::new());
    loop {
        tokio::select! {
            count = questions.recv_many(&mut batch, WRITTEN_AT_ONCE) => if count == 0 { return },
            () = waiters.closed() => return,
        }
        for Question { frame, waiter } in batch.drain(..) {
            frames.extend_from_slice(&frame);
            if waiters.send(waiter).is_err() {
                return;
            }
        }
        if stream.write_all(&frames).await.is_err() {
            // The reader may still find why in what the daemon said last.
            return;
        }
        frames.clear();
    }
}

/// Hands replies to those who wait for them. Ends with the connection, or at the first bytes that
/// nobody waits for.
async fn read(mut stream: OwnedReadHalf, mut waiting: mpsc::UnboundedReceiver<Waiter>) {
    let mut bytes = Vec::new();
    loop {
        let mut start = 0;
        loop {
            let frame = cut_frame(&bytes[start..]);
            let (reply, len) = match frame {
                Ok(None) => break,
                Ok(Some((body, len))) => (Ok(body.to_vec()), len),
                Err(err) => (Err(err), 0),
            };
            let is_lost = reply.is_err();
            let Ok(waiter) = waiting.try_recv() else { return };
            let _ = waiter.send(reply);
            if is_lost {
                return;
            }
            start += len;
        }
        bytes.drain(..start);
        if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            return;
        }
    }
}
