//! The daemon over HTTP, for proxies, OAuth libraries, scrapers and health checks: `/auth`,
//! `/introspect`, `/health/live`, `/health/ready`, `/metrics`, `/status`. `docs/http.md` has every
//! answer.
//!
//! ```text
//!   http (tokio, one thread)     accept -> who is it -> a seat -> hyper -> route -> the same
//!                                generation, rules and verdicts as the frames have
//! ```
//!
//! What a reader can rely on: it runs on a thread of its own and never waits for a worker, nor a
//! worker for it. Nothing here allows by mistake: whatever is not a verdict of `valid` is answered
//! with another status than 2xx. A token is taken out of a header or a form, hashed, and forgotten.
//!
//! Read `route.rs` for what is answered where.

mod auth;
mod bearer;
mod form;
mod introspect;
mod reply;
mod route;
mod visit;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use http::header::HeaderName;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use visit::Visit;

use super::callers::Callers;
use super::seats::Seats;
use super::{Config, SharedLive, log};
use crate::peer;

/// How long accepting rests after it failed, so that a daemon out of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection may take from one request's end to the end of the next one's head. A
/// proxy that keeps connections for longer connects anew.
const HEAD_WITHIN: Duration = Duration::from_secs(75);
/// The longest head of a request. Tokens have at most 4 KiB.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Most header fields of a request: a browser behind two proxies sends some forty.
const HEADERS_MAX: usize = 100;
/// Who asks over loopback has no uid; they share the seats of this one, which is nobody's.
const LOOPBACK_UID: u32 = u32::MAX;

/// Where HTTP is spoken. The sockets do not block; they are registered with the thread that answers.
#[derive(Debug)]
pub enum Door {
    /// A Unix socket.
    Unix {
        /// Its name, as rules about callers name it.
        socket: PathBuf,
        /// The socket.
        listener: std::os::unix::net::UnixListener,
    },
    /// A loopback address, passed by systemd. Who asks there is not known.
    Loopback {
        /// The address, as rules about callers name it.
        address: SocketAddr,
        /// The socket.
        listener: std::net::TcpListener,
    },
}

/// The thread that answers HTTP.
pub(super) struct Http {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Http {
    /// Answers at all `doors`.
    pub(super) fn start(
        doors: Vec<Door>,
        config: &Config,
        live: &SharedLive,
        seats: &Arc<Seats>,
    ) -> io::Result<Http> {
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let doors = doors.into_iter().map(Entrance::of).collect::<io::Result<_>>()?;
        drop(entered);
        let hall = Hall {
            doors,
            callers: config.callers.clone(),
            token_header: config.http_token_header.clone(),
            seats: Arc::clone(seats),
            live: Arc::clone(live),
        };
        let body = move || runtime.block_on(hall.run(stopped));
        let thread = thread::Builder::new().name("http".to_owned()).spawn(body)?;
        Ok(Http { stop, thread })
    }

    /// Answers what was begun, closes all connections, and ends the thread, within `limit`.
    pub(super) fn drain(self, limit: Duration) {
        // A thread that has ended listens to nobody.
        let _ = self.stop.send(true);
        let deadline = Instant::now() + limit;
        while !self.thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Hall {
    doors: Vec<Entrance>,
    callers: Callers,
    token_header: Option<HeaderName>,
    seats: Arc<Seats>,
    live: SharedLive,
}

/// A door, registered.
enum Entrance {
    Unix { socket: PathBuf, listener: tokio::net::UnixListener },
    Loopback { address: SocketAddr, listener: tokio::net::TcpListener },
}

impl Entrance {
    /// Within the runtime that will wait for it.
    fn of(door: Door) -> io::Result<Entrance> {
        Ok(match door {
            Door::Unix { socket, listener } => {
                let listener = tokio::net::UnixListener::from_std(listener)?;
                Entrance::Unix { socket, listener }
            }
            Door::Loopback { address, listener } => {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                Entrance::Loopback { address, listener }
            }
        })
    }
}

/// A connection that may ask.
enum Guest {
    Unix(tokio::net::UnixStream),
    Loopback(tokio::net::TcpStream),
}

impl Hall {
    async fn run(self, stopped: watch::Receiver<bool>) {
        // Dropped by each connection when it ends; all are gone when nobody can send any more.
        let (guests, mut all_gone) = tokio::sync::mpsc::channel::<()>(1);
        let mut stopping = stopped.clone();
        loop {
            let accepted = tokio::select! {
                () = stop(&mut stopping) => break,
                accepted = self.accept() => accepted,
            };
            match accepted {
                Ok((at, guest)) => {
                    if let Some(visit) = self.admit(at, &guest) {
                        let (stopped, guests) = (stopped.clone(), guests.clone());
                        tokio::spawn(async move {
                            match guest {
                                Guest::Unix(stream) => serve(stream, visit, stopped).await,
                                Guest::Loopback(stream) => serve(stream, visit, stopped).await,
                            }
                            drop(guests);
                        });
                    }
                }
                Err(err) => {
                    self.live.counters.accepts_failed();
                    tracing::error!(message_id = log::CANNOT_ACCEPT, error = %err, "cannot accept HTTP connections; trying on");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop((self, guests));
        let _ = all_gone.recv().await;
    }

    async fn accept(&self) -> io::Result<(usize, Guest)> {
        poll_fn(|cx| {
            for (at, door) in self.doors.iter().enumerate() {
                let accepted = match door {
                    Entrance::Unix { listener, .. } => {
                        listener.poll_accept(cx).map_ok(|(stream, _)| Guest::Unix(stream))
                    }
                    Entrance::Loopback { listener, .. } => {
                        listener.poll_accept(cx).map_ok(|(stream, _)| Guest::Loopback(stream))
                    }
                };
                if let Poll::Ready(accepted) = accepted {
                    return Poll::Ready(accepted.map(|guest| (at, guest)));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Who it is and what they may. `None`: they are shown out, and it is told why in the log.
    fn admit(&self, at: usize, guest: &Guest) -> Option<Visit> {
        let (caller, uid, loopback) = match (&self.doors[at], guest) {
            (Entrance::Unix { socket, .. }, Guest::Unix(stream)) => {
                let peer = peer::of(stream).ok()?;
                let caller = self.callers.judge(socket, stream, &peer);
                if caller.is_none() {
                    let (uid, gid, pid) = (peer.uid, peer.gid, peer.pid);
                    tracing::warn!(
                        message_id = log::CALLER_REFUSED,
                        uid,
                        gid,
                        pid,
                        "caller refused: no rule fits"
                    );
                }
                (caller, peer.uid, None)
            }
            (Entrance::Loopback { address, .. }, _) => {
                (self.callers.judge_loopback(*address), LOOPBACK_UID, Some(*address))
            }
            (Entrance::Unix { .. }, Guest::Loopback(_)) => {
                unreachable!("a door has one sort of guest")
            }
        };
        let Some(caller) = caller else {
            self.live.counters.caller_denied();
            return None;
        };
        let Ok(seat) = self.seats.take(uid) else {
            self.live.counters.turned_away();
            return None;
        };
        let (live, token_header) = (Arc::clone(&self.live), self.token_header.clone());
        Some(Visit { live, caller, loopback, token_header, _seat: seat })
    }
}

/// Waits until a drain begins, or whoever could begin one is gone.
async fn stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Answers one connection until it closes, or a drain does.
async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    visit: Visit,
    mut stopped: watch::Receiver<bool>,
) {
    visit.live.counters.opened();
    let live = Arc::clone(&visit.live);
    let visit = Arc::new(visit);
    let service = service_fn(move |request| {
        let visit = Arc::clone(&visit);
        async move { Ok::<_, Infallible>(route::respond(&visit, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stop(&mut stopped) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(err) = ended {
        // Of the other side's making: it sent no HTTP, or closed in the middle.
        tracing::debug!(error = %err, "an HTTP connection ended");
    }
    live.counters.closed();
}

/// Bodies that never fail, since they are there.
type Response = hyper::Response<http_body_util::Full<hyper::body::Bytes>>;

/// A request with a body that may still be on its way.
type Request = hyper::Request<hyper::body::Incoming>;

/// Waits for `future`, and no longer than a request's body may take.
async fn in_time<F: Future>(future: F) -> Option<F::Output> {
    const BODY_WITHIN: Duration = Duration::from_secs(5);
    tokio::time::timeout(BODY_WITHIN, future).await.ok()
}
