//! Asks a daemon from tokio: the client of services that have many requests at once.
//!
//! ```no_run
//! use adamant::claims::Requirement;
//! use adamant::client::{Answer, aio::Client};
//!
//! # async fn run() -> Result<(), adamant::client::CouldNotAsk> {
//! let client = Client::from_env();
//! let need = Requirement::any().audience("orders").scope("orders:read");
//! if let Answer::Denied(denial) = client.verify(b"acme_live_1...", &need).await? {
//!     println!("401: {}", denial.verdict);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What a reader can rely on, beside what the blocking client promises:
//!
//! - A `Client` is a handle: cloned, it shares a few connections, and questions of many tasks
//!   share their way to the daemon, which answers them as one batch.
//! - No answer is of an earlier generation than one that this client had seen when the call began.
//! - A call that is dropped shifts no answer to another one.
//! - Questions wait in a queue of bounded length; where it is full, a call waits within its
//!   timeout.
//!
//! Read next: `link.rs` for one connection.

mod link;

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use super::error::Failure;
use super::session::{Order, check_claims, digest_of, digests_of, least, take_verdicts};
use super::{Answer, CouldNotAsk, DEFAULT_TIMEOUT, Generation, ROWS_A_FRAME, socket_from_env};
use crate::claims::Requirement;
use crate::token::Digest;
use crate::wire::{FrameError, Reply, push_status_request, push_verify};

use link::Link;

/// Connections of a client. The daemon gives each to one of its threads; more of them than it has
/// cores to spare would only make the batches smaller.
const CONNECTIONS: usize = 4;

/// A handle on a few connections to a daemon.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    socket: PathBuf,
    timeout: Duration,
    places: [Place; CONNECTIONS],
    next: AtomicUsize,
    /// The latest generation that an answer came from.
    seen: Mutex<Generation>,
}

/// Where a connection is, or will be. Locked while it is opened, so that those who wait for the
/// same one open it once.
type Place = tokio::sync::Mutex<Option<Arc<Link>>>;

impl Client {
    /// A client of the daemon at `socket`, with [`DEFAULT_TIMEOUT`]. It connects when it is asked.
    pub fn new(socket: impl AsRef<Path>) -> Client {
        Client::with_timeout(socket, DEFAULT_TIMEOUT)
    }

    /// A client of the daemon that [`super::SOCKET_VARIABLE`] names, or else of the one at
    /// [`super::DEFAULT_SOCKET`].
    pub fn from_env() -> Client {
        Client::new(socket_from_env())
    }

    /// A client of the daemon at `socket`. `timeout` bounds each call as a whole, connecting too.
    pub fn with_timeout(socket: impl AsRef<Path>, timeout: Duration) -> Client {
        Client {
            shared: Arc::new(Shared {
                socket: socket.as_ref().to_owned(),
                timeout,
                places: Default::default(),
                next: AtomicUsize::new(0),
                seen: Mutex::default(),
            }),
        }
    }

    /// Asks whether `token` is valid and has what `need` names.
    pub async fn verify(&self, token: &[u8], need: &Requirement) -> Result<Answer, CouldNotAsk> {
        self.verify_one(token, need, false).await
    }

    /// As [`Client::verify`], and a valid token comes with its claims.
    pub async fn verify_with_claims(
        &self,
        token: &[u8],
        need: &Requirement,
    ) -> Result<Answer, CouldNotAsk> {
        self.verify_one(token, need, true).await
    }

    /// Asks about many tokens with one requirement; the answers come in their order. They may be
    /// of several generations, each of which is named.
    pub async fn verify_many(
        &self,
        tokens: &[&[u8]],
        need: &Requirement,
    ) -> Result<Vec<Answer>, CouldNotAsk> {
        self.call(|link, mut order| async move {
            let mut answers = vec![Answer::malformed(); tokens.len()];
            let (places, digests) = digests_of(tokens, link.hello(), link.hello_age())?;
            let rows = least(ROWS_A_FRAME, link.hello().limits.digests_max).max(1);
            let runs: Vec<&[Digest]> = digests.chunks(rows).collect();
            let frames = runs.iter().map(|run| frame(false, need, run));
            let replies = link.ask_all(frames.collect::<Result<_, _>>()?).await?;
            let mut places = places.into_iter();
            for (reply, run) in replies.iter().zip(runs) {
                take_verdicts(
                    decode(reply)?,
                    run.len(),
                    &mut order,
                    &mut |evidence, row, claims| {
                        let place = places.next().expect("as many rows as digests");
                        answers[place] = Answer::of_row(evidence, &row, claims);
                    },
                )?;
            }
            Ok((answers, order))
        })
        .await
    }

    /// How the daemon is, as JSON.
    pub async fn status(&self) -> Result<String, CouldNotAsk> {
        self.call(|link, order| async move {
            let mut question = Vec::new();
            push_status_request(&mut question);
            match decode(&link.ask(question).await?)? {
                Reply::Status(json) => Ok((json.to_owned(), order)),
                _ => Err(FrameError::Unasked.into()),
            }
        })
        .await
    }

    async fn verify_one(
        &self,
        token: &[u8],
        need: &Requirement,
        claims_wanted: bool,
    ) -> Result<Answer, CouldNotAsk> {
        self.call(|link, mut order| async move {
            let Some(digest) = digest_of(token, link.hello(), link.hello_age())? else {
                return Ok((Answer::malformed(), order));
            };
            let reply = link.ask(frame(claims_wanted, need, &[digest])?).await?;
            let mut answer = Answer::malformed();
            take_verdicts(decode(&reply)?, 1, &mut order, &mut |evidence, row, claims| {
                answer = Answer::of_row(evidence, &row, claims);
            })?;
            check_claims(&answer, claims_wanted)?;
            Ok((answer, order))
        })
        .await
    }

    /// Runs one call within the timeout: on a connection that is there, and a second time on a new
    /// one if the first turns out to be broken or out of date. `run` is handed the generation that
    /// was seen when the call began, and gives back the one it has seen.
    async fn call<T, F: Future<Output = Result<(T, Order), Failure>>>(
        &self,
        run: impl Fn(Arc<Link>, Order) -> F,
    ) -> Result<T, CouldNotAsk> {
        let shared = &*self.shared;
        let place = &shared.places[shared.next.fetch_add(1, Ordering::Relaxed) % CONNECTIONS];
        let seen = shared.seen();
        let called = timeout(shared.timeout, async {
            let link = shared.link(place, seen).await?;
            match run(Arc::clone(&link), Order::since(seen)).await {
                Err(Failure::Broken(_) | Failure::OldHello) if !link.is_fresh() => {
                    shared.forget(place, &link).await;
                    run(shared.link(place, seen).await?, Order::since(seen)).await
                }
                result => result,
            }
        });
        match called.await {
            Ok(result) => {
                let (value, order) = result?;
                shared.advance(order.seen());
                Ok(value)
            }
            Err(_) => {
                // A daemon that is stuck may be stuck on this connection alone.
                if let Ok(mut link) = place.try_lock() {
                    *link = None;
                }
                Err(CouldNotAsk::Timeout { after: shared.timeout })
            }
        }
    }
}

impl Shared {
    /// The connection of that place, opened if need be.
    async fn link(&self, place: &Place, seen: Generation) -> Result<Arc<Link>, Failure> {
        let mut place = place.lock().await;
        if let Some(link) = place.as_ref().filter(|link| !link.is_closed()) {
            link.used();
            return Ok(Arc::clone(link));
        }
        let link = Arc::new(Link::open(&self.socket).await?);
        Order::since(seen).accept_hello(link.hello())?;
        *place = Some(Arc::clone(&link));
        Ok(link)
    }

    /// Opens another connection next time, unless somebody did already.
    async fn forget(&self, place: &Place, link: &Arc<Link>) {
        let mut place = place.lock().await;
        if place.as_ref().is_some_and(|held| Arc::ptr_eq(held, link)) {
            *place = None;
        }
    }

    fn seen(&self) -> Generation {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advance(&self, to: Generation) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = to.max(*seen);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("socket", &self.shared.socket)
            .field("timeout", &self.shared.timeout)
            .finish_non_exhaustive()
    }
}

fn frame(
    claims_wanted: bool,
    need: &Requirement,
    digests: &[Digest],
) -> Result<Vec<u8>, CouldNotAsk> {
    let mut out = Vec::new();
    push_verify(&mut out, claims_wanted, need, digests).map_err(CouldNotAsk::Question)?;
    Ok(out)
}

/// A reply that is no error.
fn decode(body: &[u8]) -> Result<Reply<'_>, Failure> {
    match Reply::decode(body)? {
        Reply::Error { code, message } => {
            Err(CouldNotAsk::Refused { code, message: message.to_owned() }.into())
        }
        reply => Ok(reply),
    }
}
