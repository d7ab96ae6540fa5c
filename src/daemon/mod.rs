//! The daemon: load a generation, swap it in, answer from it, drain.
//!
//! ```text
//!   control (tokio, one thread)      accept -> the worker with the fewest connections
//!   workers (one a core)             epoll: read, decode, look up as one batch, write
//!   http    (tokio, one thread)      hyper: proxies, OAuth libraries, scrapers
//!   loader  (one thread)             judge, verify, store the mark, swap one pointer
//!   retire  (one thread)             wait for the last reader of an old map, unmap it
//! ```
//!
//! What a reader can rely on: a worker takes the pointer once a tick, so each answer is from one
//! whole generation, and on a connection generations never go back. No lock is on that path. What
//! is *not* here: anything that writes to the store, and anything that sees the network.
//!
//! Read `live.rs` for what is served, `loader.rs` for how it comes to be, `retire.rs` for how it
//! ceases to be, `answer.rs` for frames to verdicts, `worker.rs` for the loop.

mod accept;
mod answer;
mod budget;
mod callers;
mod config;
mod connection;
mod http;
mod live;
mod loader;
mod log;
mod metrics;
mod probe;
mod question;
mod retire;
mod sandbox;
mod seats;
mod serve;
mod spin;
mod status;
mod sync;
mod systemd;
#[cfg(all(test, shuttle))]
mod tests;
mod watch;
mod worker;

use std::future::Future;
use std::io;
use std::sync::Arc;

pub use self::http::Door;
pub use accept::Listening;
pub use budget::Budget;
pub use callers::{Caller, Callers, Operation, Rule, RuleError};
pub use config::{CONFIG_BYTES_MAX, Config, ConfigError, DEFAULTS, Log, Said};
pub use live::{Live, Serving};
pub use loader::{LoadError, Loader};
pub use log::init_log;
pub use metrics::openmetrics;
pub use sandbox::Sandbox;
pub use serve::{ServeError, check_config, serve};
pub use watch::Trigger;

use crate::table;
use accept::Porter;
use seats::Seats;
use worker::Workers;

/// Answers on all of `listening`, and over HTTP at all `doors`, until `shutdown` completes, then drains: every complete frame
/// that was received is answered.
///
/// `loader` has loaded what there was to load; without a generation all answers are `unavailable`
/// until one arrives.
pub async fn run(
    listening: Vec<Listening>,
    doors: Vec<Door>,
    loader: Loader,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let live = loader.live();
    let config = loader.config().clone();
    let workers = Workers::start(&live, &config)?;
    let trigger = loader.trigger();
    let keeper = loader.keep()?;
    let reporting =
        tokio::spawn(systemd::report(Arc::clone(&live), probe::Probe::new(&workers, &config)?));
    let seats = Seats::new(config.connections_max, config.connections_uid_max);
    let http = http::Http::start(doors, &config, &live, &seats)?;
    let mut porter = Porter::new(listening, &config, Arc::clone(&live), seats);
    let mut shutdown = std::pin::pin!(shutdown);
    let mut sweep = tokio::time::interval(worker::SWEEP);
    let mut poisoned = table::poisoned_maps();
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            () = porter.take_next(&workers) => {}
            _ = sweep.tick() => {
                workers.sweep();
                if poisoned != table::poisoned_maps() {
                    poisoned = table::poisoned_maps();
                    trigger.pull();
                }
            }
        }
    }
    drop(porter);
    reporting.abort();
    systemd::stopping();
    tracing::info!(message_id = log::DRAINING, "draining");
    let drain = move || {
        http.drain(config.drain);
        workers.drain(config.drain);
    };
    let drained = tokio::task::spawn_blocking(drain).await;
    drop(keeper);
    drained.map_err(io::Error::other)
}

/// Shared by all threads of a daemon.
type SharedLive = Arc<Live>;
