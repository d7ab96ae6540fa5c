//! Asks a daemon, blocking, with nothing but std.
//!
//! ```no_run
//! use adamant::claims::Requirement;
//! use adamant::client::{Answer, Client};
//!
//! # fn main() -> Result<(), adamant::client::CouldNotAsk> {
//! let mut client = Client::from_env()?;
//! let need = Requirement::any().audience("orders").scope("orders:read");
//! if let Answer::Denied(denial) = client.verify(b"acme_live_1...", &need)? {
//!     println!("401: {}", denial.verdict);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What a reader can rely on:
//!
//! - *Denied* and *could not ask* are two types. A daemon that has no generation to answer from
//!   is [`CouldNotAsk::Unavailable`], and never an [`Answer`].
//! - The token stays here: the client hashes it. What is no token at all is answered here, too.
//! - A call ends within its timeout, connecting included.
//! - A connection that broke is opened anew once in a call. After a timeout it is closed, so that
//!   a late reply never answers a later question.
//! - The generations of the answers never go back, also over several connections: else
//!   [`CouldNotAsk::WentBack`].
//!
//! A `Client` is one connection for one thread. Open one for each; the daemon keeps them apart.
//!
//! Read next: `session.rs` for what happens in a call, `link.rs` for the bytes of a connection.

#[cfg(feature = "tokio")]
pub mod aio;
mod answer;
mod dialer;
mod error;
#[cfg(feature = "fake")]
pub mod fake;
mod link;
mod pipeline;
mod session;
#[cfg(feature = "tower")]
pub mod tower;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::claims::Requirement;
use crate::token::{Digest, Domain};
use crate::wire::{
    COUNT_BYTES, FRAME_BYTES_MIN, FrameError, QUESTION_BYTES_MAX, Reply, push_status_request,
    push_verify, push_verify_tokens,
};

pub use crate::wire::{Claims, ErrorCode, Record, Row};
pub use answer::{Access, Answer, Batch, Denial, Evidence, Generation};
pub use error::CouldNotAsk;
pub use pipeline::Pipeline;

use dialer::Dialer;
use error::Failure;
use link::{Deadline, Link};
use session::{Order, Session, check_claims};

/// Where a packaged daemon listens.
pub const DEFAULT_SOCKET: &str = "/run/adamant/adamant.sock";
/// The environment variable that names another socket.
pub const SOCKET_VARIABLE: &str = "ADAMANT_SOCKET";
/// How long a call may take unless told otherwise. A daemon answers within microseconds; one that
/// needs this long is not well, and a request that waits for it is not helped by waiting on.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(50);

/// Most rows of one frame. Enough that the frame costs nothing beside its rows, and little enough
/// that every daemon takes it and the first rows come back while the last ones are hashed.
const ROWS_A_FRAME: usize = 1024;

const _: () = assert!(QUESTION_BYTES_MAX + ROWS_A_FRAME * size_of::<Digest>() <= FRAME_BYTES_MIN);

/// A connection to a daemon, opened anew when it has to be.
pub struct Client {
    dialer: Dialer,
    timeout: Duration,
    link: Option<Link>,
    order: Order,
}

impl Client {
    /// Connects to the daemon at `socket`, with [`DEFAULT_TIMEOUT`].
    pub fn connect(socket: impl AsRef<Path>) -> Result<Client, CouldNotAsk> {
        Client::with_timeout(socket, DEFAULT_TIMEOUT)
    }

    /// Connects to the daemon that [`SOCKET_VARIABLE`] names, or else to [`DEFAULT_SOCKET`].
    pub fn from_env() -> Result<Client, CouldNotAsk> {
        Client::connect(socket_from_env())
    }

    /// Connects to the daemon at `socket`. `timeout` bounds each call as a whole, this one too.
    pub fn with_timeout(
        socket: impl AsRef<Path>,
        timeout: Duration,
    ) -> Result<Client, CouldNotAsk> {
        let dialer = Dialer::new(socket.as_ref());
        let mut client = Client { dialer, timeout, link: None, order: Order::default() };
        client.call(|_| Ok(()))?;
        Ok(client)
    }

    /// Changes the timeout, say for a batch of a million.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// How this deployment hashes tokens, as the daemon last said. `None` without a connection,
    /// or when the daemon had no generation yet.
    pub fn domain(&self) -> Option<&Domain> {
        self.link.as_ref()?.domain()
    }

    /// Asks whether `token` is valid and has what `need` names.
    pub fn verify(&mut self, token: &[u8], need: &Requirement) -> Result<Answer, CouldNotAsk> {
        self.verify_one(token, need, false)
    }

    /// As [`Client::verify`], and a valid token comes with its claims.
    pub fn verify_with_claims(
        &mut self,
        token: &[u8],
        need: &Requirement,
    ) -> Result<Answer, CouldNotAsk> {
        self.verify_one(token, need, true)
    }

    fn verify_one(
        &mut self,
        token: &[u8],
        need: &Requirement,
        claims_wanted: bool,
    ) -> Result<Answer, CouldNotAsk> {
        self.call(|session| {
            let Some(digest) = session.digest(token)? else {
                return Ok(Answer::malformed());
            };
            let mut answer = Answer::malformed();
            session.ask(
                1,
                |_, out| push_verify(out, claims_wanted, need, &[digest]),
                |_| 1,
                |evidence, row, claims| answer = Answer::of_row(evidence, &row, claims),
            )?;
            check_claims(&answer, claims_wanted)?;
            Ok(answer)
        })
    }

    /// Asks about many tokens with one requirement; the answers come in their order. They may be
    /// of several generations, each of which is named.
    pub fn verify_many(
        &mut self,
        tokens: &[&[u8]],
        need: &Requirement,
    ) -> Result<Vec<Answer>, CouldNotAsk> {
        self.call(|session| {
            let mut answers = vec![Answer::malformed(); tokens.len()];
            let (places, digests) = session.digests(tokens)?;
            let mut places = places.into_iter();
            ask_digests(session, &digests, need, |evidence, row, claims| {
                let place = places.next().expect("as many rows as digests");
                answers[place] = Answer::of_row(evidence, &row, claims);
            })?;
            Ok(answers)
        })
    }

    /// Asks about digests, and gives the rows as they come: the fast form for gateways that hash
    /// with [`Client::domain`] themselves.
    pub fn verify_digests(
        &mut self,
        digests: &[Digest],
        need: &Requirement,
    ) -> Result<Batch, CouldNotAsk> {
        self.call(|session| {
            let mut batch = Batch::with_capacity(digests.len());
            ask_digests(session, digests, need, |evidence, row, _| batch.push(evidence, row))?;
            Ok(batch)
        })
    }

    /// Hands the tokens themselves to the daemon, as clients without BLAKE3 do.
    pub fn verify_tokens_raw(
        &mut self,
        tokens: &[&[u8]],
        need: &Requirement,
    ) -> Result<Batch, CouldNotAsk> {
        self.call(|session| {
            let mut batch = Batch::with_capacity(tokens.len());
            let frames = cut_tokens(tokens, session.rows_a_tokens_frame(ROWS_A_FRAME));
            session.ask(
                frames.len(),
                |index, out| push_verify_tokens(out, false, need, &tokens[frames[index].clone()]),
                |index| frames[index].len(),
                |evidence, row, _| batch.push(evidence, row),
            )?;
            Ok(batch)
        })
    }

    /// Many single questions, each with a requirement of its own, in flight at once.
    pub fn pipeline<'q>(&mut self) -> Pipeline<'_, 'q> {
        Pipeline::new(self)
    }

    /// How the daemon is, as JSON.
    pub fn status(&mut self) -> Result<String, CouldNotAsk> {
        self.call(|session| {
            let mut status = String::new();
            let push = |_, out: &mut Vec<u8>| {
                push_status_request(out);
                Ok(())
            };
            session.exchange(1, push, |_, reply| match reply {
                Reply::Status(json) => {
                    json.clone_into(&mut status);
                    Ok(())
                }
                _ => Err(FrameError::Unasked.into()),
            })?;
            Ok(status)
        })
    }

    /// Runs one call: on the connection there is, or on a new one, and a second time on a new one
    /// if the first was there before the call and turns out to be broken or out of date. All
    /// requests may be repeated: none changes anything.
    fn call<T>(
        &mut self,
        mut run: impl FnMut(&mut Session<'_>) -> Result<T, Failure>,
    ) -> Result<T, CouldNotAsk> {
        let deadline = Deadline::after(self.timeout);
        let mut fresh = false;
        loop {
            let mut link = match self.link.take() {
                Some(link) => link,
                None => {
                    fresh = true;
                    self.open(deadline)?
                }
            };
            let order = &mut self.order;
            let result = run(&mut Session { link: &mut link, order, deadline, fresh });
            if link.is_idle() && result.as_ref().err().is_none_or(Failure::leaves_link_usable) {
                self.link = Some(link);
            }
            match result {
                Ok(value) => return Ok(value),
                Err(Failure::Broken(_) | Failure::OldHello) if !fresh => {}
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    fn open(&mut self, deadline: Deadline) -> Result<Link, CouldNotAsk> {
        let stream = self.dialer.dial(deadline)?;
        let link = Link::open(stream, deadline)?;
        self.order.accept_hello(link.hello())?;
        Ok(link)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("socket", &self.dialer.socket())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

fn socket_from_env() -> PathBuf {
    let named = std::env::var_os(SOCKET_VARIABLE).filter(|socket| !socket.is_empty());
    named.map_or_else(|| PathBuf::from(DEFAULT_SOCKET), PathBuf::from)
}

fn ask_digests(
    session: &mut Session<'_>,
    digests: &[Digest],
    need: &Requirement,
    take: impl FnMut(Evidence, Row, Option<Claims>),
) -> Result<(), Failure> {
    let rows = session.rows_a_digests_frame(ROWS_A_FRAME);
    let frame = |index: usize| &digests[index * rows..digests.len().min((index + 1) * rows)];
    session.ask(
        digests.len().div_ceil(rows),
        |index, out| push_verify(out, false, need, frame(index)),
        |index| frame(index).len(),
        take,
    )
}

/// Cuts `tokens` into runs that any daemon takes in one frame.
fn cut_tokens(tokens: &[&[u8]], rows_max: usize) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let (mut start, mut bytes) = (0, QUESTION_BYTES_MAX);
    for (index, token) in tokens.iter().enumerate() {
        let more = COUNT_BYTES + token.len();
        let full = bytes + more > FRAME_BYTES_MIN || index - start == rows_max;
        if full && index > start {
            runs.push(start..index);
            (start, bytes) = (index, QUESTION_BYTES_MAX);
        }
        bytes += more;
    }
    if start < tokens.len() {
        runs.push(start..tokens.len());
    }
    runs
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
