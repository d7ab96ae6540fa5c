//! The daemon: load a generation, swap it in, answer from it, drain.
//!
//! ```text
//!   control (tokio, one thread)      accept -> the worker with the fewest connections
//!   workers (one a core)             epoll: read, decode, look up as one batch, write
//!   loader  (one thread)             judge, verify, store the mark, swap one pointer
//!   retire  (one thread)             wait for the last reader of an old map, unmap it
//! ```
//!
//! What a reader can rely on: a worker takes the pointer once a tick, so each answer is from one
//! whole generation, and on a connection generations never go back. No lock is on that path. What
//! is *not* here: anything that writes to the store, and anything that sees the network.
//!
//! Read `live.rs` for what is served, `loader.rs` for how it comes to be, `answer.rs` for frames
//! to verdicts, `worker.rs` for the loop.

mod answer;
mod connection;
mod live;
mod loader;
mod serve;
mod status;
mod watch;
mod worker;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;

pub use live::{Live, Serving};
pub use loader::{LoadError, Loader};
pub use serve::{Options, ServeError, init_log, serve};
pub use watch::Trigger;

use worker::Workers;

/// How often the store and the policy are looked at, whatever was or was not heard of them.
pub const POLL_DEFAULT: Duration = Duration::from_secs(5);
/// How long a drain may take before connections are cut.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// How long accepting rests after it failed, so that a daemon out of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a daemon serves.
#[derive(Clone, Debug)]
pub struct Config {
    /// The store.
    pub store: PathBuf,
    /// The policy file.
    pub policy: PathBuf,
    /// The folder of marks, which must be writable.
    pub state: PathBuf,
    /// How often to look at store and policy.
    pub poll: Duration,
    /// Threads that answer. One a core.
    pub workers: usize,
}

impl Config {
    /// A configuration with the defaults.
    pub fn new(
        store: impl Into<PathBuf>,
        policy: impl Into<PathBuf>,
        state: impl Into<PathBuf>,
    ) -> Config {
        Config {
            store: store.into(),
            policy: policy.into(),
            state: state.into(),
            poll: POLL_DEFAULT,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// Answers on `listener` until `shutdown` completes, then drains: every complete frame that was
/// received is answered.
///
/// `loader` has loaded what there was to load; without a generation all answers are `unavailable`
/// until one arrives.
pub async fn run(
    listener: UnixListener,
    loader: Loader,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let live = loader.live();
    let mut workers = Workers::start(&live, loader.config().workers)?;
    let keeper = loader.keep()?;
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let given = stream.into_std().and_then(|stream| workers.give(stream));
                if let Err(err) = given {
                    tracing::warn!(error = %err, "a connection could not be taken in");
                }
            }
            Err(err) => {
                live.counters.accepts_failed();
                tracing::warn!(error = %err, "cannot accept; trying again shortly");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tracing::info!("draining");
    let drained = tokio::task::spawn_blocking(move || workers.drain(DRAIN_MAX)).await;
    drop(keeper);
    drained.map_err(io::Error::other)
}

/// Shared by all threads of a daemon.
type SharedLive = Arc<Live>;
