//! Connections on their way in: who it is, whether there is a seat, which worker takes it.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use tokio::net::UnixListener;

use super::callers::Callers;
use super::connection::Connection;
use super::seats::Seats;
use super::worker::Workers;
use super::{Config, SharedLive, log};
use crate::peer;
use crate::wire::{ErrorCode, push_error};

/// How long accepting rests after it failed, so that a daemon out of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often a failure that goes on is told.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// A socket that is listened on.
#[derive(Debug)]
pub struct Listening {
    /// Its name, as rules about callers name it.
    pub socket: PathBuf,
    /// The socket.
    pub listener: UnixListener,
}

/// Takes connections in.
pub(super) struct Porter {
    listening: Vec<Listening>,
    callers: Callers,
    seats: Arc<Seats>,
    live: SharedLive,
    /// A descriptor to give up when there is no other, so that a caller can be told so.
    reserve: Option<File>,
    told_at: Option<Instant>,
}

impl Porter {
    pub(super) fn new(
        listening: Vec<Listening>,
        config: &Config,
        live: SharedLive,
        seats: Arc<Seats>,
    ) -> Porter {
        Porter {
            listening,
            callers: config.callers.clone(),
            seats,
            live,
            reserve: reserve(),
            told_at: None,
        }
    }

    /// Waits for a connection at any of the sockets, and takes it in.
    pub(super) async fn take_next(&mut self, workers: &Workers) {
        let (at, accepted) = poll_fn(|cx| {
            for (at, Listening { listener, .. }) in self.listening.iter().enumerate() {
                if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                    return Poll::Ready((at, accepted));
                }
            }
            Poll::Pending
        })
        .await;
        match accepted.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => self.take_in(at, stream, workers),
            Err(err) => {
                self.live.counters.accepts_failed();
                if [Errno::MFILE, Errno::NFILE]
                    .map(|e| Some(e.raw_os_error()))
                    .contains(&err.raw_os_error())
                {
                    self.turn_one_away(at);
                }
                if self.told_at.is_none_or(|at| at.elapsed() >= TELL_AGAIN) {
                    self.told_at = Some(Instant::now());
                    tracing::error!(message_id = log::CANNOT_ACCEPT, error = %err, "cannot accept connections; trying on");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn take_in(&self, at: usize, stream: UnixStream, workers: &Workers) {
        let peer = match peer::of(&stream) {
            Ok(peer) => peer,
            Err(err) => {
                tracing::warn!(error = %err, "a connection whose peer is not known is refused");
                return;
            }
        };
        let socket = &self.listening[at].socket;
        let Some(caller) = self.callers.judge(socket, &stream, &peer) else {
            self.live.counters.caller_denied();
            tracing::warn!(
                message_id = log::CALLER_REFUSED,
                uid = peer.uid,
                gid = peer.gid,
                pid = peer.pid,
                "caller refused: no rule fits"
            );
            let message = format!("no rule lets uid {} ask at {}", peer.uid, socket.display());
            return turn_away(&stream, ErrorCode::NotPermitted, &message);
        };
        let given = match self.seats.take(peer.uid) {
            Ok(seat) => workers.give(Connection::new(stream, caller, Some(seat))),
            Err(full) => {
                self.live.counters.turned_away();
                return turn_away(&stream, ErrorCode::Busy, &full.to_string());
            }
        };
        if let Err(err) = given {
            tracing::warn!(error = %err, "a connection could not be taken in");
        }
    }

    /// Gives up the descriptor in reserve to tell one caller that there are no others.
    fn turn_one_away(&mut self, at: usize) {
        self.reserve = None;
        if let Ok(stream) = rustix::net::accept(self.listening[at].listener.as_fd()) {
            self.live.counters.turned_away();
            turn_away(stream, ErrorCode::Busy, "the daemon is out of descriptors: ask again later");
        }
        self.reserve = reserve();
    }
}

/// Tells a caller why it is not taken in, if it can be told at once.
fn turn_away(stream: impl AsFd, code: ErrorCode, message: &str) {
    let mut frame = Vec::new();
    push_error(&mut frame, code, message);
    let _ = send(stream, &frame, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
}

fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Raises the soft limit of descriptors to the hard one, and gives it.
pub(super) fn raise_descriptor_limit() -> io::Result<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.unwrap_or(u64::MAX))
}
