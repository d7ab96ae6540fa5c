//! What is served right now: one pointer, swapped whole.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::Sandbox;
use super::sync::{self, atomic::AtomicU32};
use crate::policy::Stale;
use crate::store::{Generation, Judged, Revoking};
use crate::time::TableTime;
use crate::token::Domain;
use crate::verdict::Verdict;
use crate::wire::VerdictsHead;

/// What answers come from. Never changed; a change is another one.
#[derive(Clone, Debug)]
pub struct Serving {
    /// How this deployment hashes. Known from the policy alone, but for foreign tokens.
    pub domain: Domain,
    /// The manifest served now, or served last. What is `unavailable` still says how far it was.
    pub judged: Option<Judged>,
    /// Its tables; `None` when they may not be answered from.
    pub generation: Option<Arc<Generation>>,
    /// What is revoked beside that, if a note says so.
    pub revoking: Option<Arc<Revoking>>,
    /// The highest sequence of a note that was served. What lapses does not go back.
    pub sequence: u64,
    /// What the policy says of a manifest that has expired.
    pub stale: Stale,
    /// Why there is no generation, for people.
    pub unavailable: Option<String>,
}

impl Serving {
    /// The generation that may be answered from at that second: the served one, unless its
    /// manifest has expired and the policy refuses that.
    pub fn usable(&self, now: TableTime) -> Option<&Generation> {
        let generation = self.generation.as_deref().filter(|it| !it.is_poisoned())?;
        (!self.is_expired(now) || self.stale == Stale::ServeFlagged).then_some(generation)
    }

    /// Whether what was read in the place of a record may be nothing but zeros.
    pub fn is_poisoned(&self) -> bool {
        self.generation.as_deref().is_some_and(Generation::is_poisoned)
    }

    /// The head of a reply at that second.
    pub fn head(&self, now: TableTime) -> VerdictsHead {
        let Some(judged) = &self.judged else { return VerdictsHead::default() };
        let manifest = &judged.manifest;
        let age_s = now.unix_s().map_or(0, |now| now - manifest.issued);
        VerdictsHead {
            stale: self.generation.is_some()
                && self.is_expired(now)
                && self.stale == Stale::ServeFlagged,
            epoch: manifest.epoch,
            generation: manifest.generation,
            revocations: self.sequence,
            age_s: u64::try_from(age_s).unwrap_or(0),
        }
    }

    /// Whether the manifest has expired at that second.
    pub fn is_expired(&self, now: TableTime) -> bool {
        let expires = self.judged.as_ref().map(|judged| judged.manifest.expires);
        match (expires, now.unix_s()) {
            (Some(expires), Some(now)) => now >= expires,
            _ => true,
        }
    }
}

/// Shared by the threads of a daemon.
#[derive(Debug)]
pub struct Live {
    serving: ArcSwap<Serving>,
    /// The latest second that was taken for now. In memory only: a clock that was set wrong once
    /// does no harm after a restart.
    clock: AtomicU32,
    /// Why what is current is not what is served, if so.
    pub(super) refused: ArcSwapOption<String>,
    /// What the process has given up, once that was tried.
    sandbox: OnceLock<Sandbox>,
    /// What was counted.
    pub counters: Counters,
}

impl Live {
    pub(super) fn new(serving: Serving) -> Live {
        Live {
            serving: ArcSwap::from_pointee(serving),
            clock: AtomicU32::new(0),
            refused: ArcSwapOption::empty(),
            sandbox: OnceLock::new(),
            counters: Counters::new(),
        }
    }

    pub(super) fn set_sandbox(&self, sandbox: Sandbox) {
        // Once in a process: what was given up cannot be taken back.
        let _ = self.sandbox.set(sandbox);
    }

    /// What the process has given up; `None`: nobody tried.
    pub fn sandbox(&self) -> Option<Sandbox> {
        self.sandbox.get().copied()
    }

    /// What is served. Take it once for all that must come from one generation.
    pub fn serving(&self) -> arc_swap::Guard<Arc<Serving>> {
        sync::step();
        let serving = self.serving.load();
        sync::step();
        serving
    }

    pub(super) fn swap(&self, serving: Serving) -> Arc<Serving> {
        sync::step();
        let before = self.serving.swap(Arc::new(serving));
        sync::step();
        before
    }

    /// Now: the latest of the wall clock, the manifest's `issued` and any now before. A clock that
    /// is set back brings nothing expired or revoked to life.
    pub(super) fn now(&self, serving: &Serving) -> TableTime {
        let issued =
            serving.judged.as_ref().and_then(|judged| TableTime::end(judged.manifest.issued));
        let now = TableTime::wall_clock().max(issued.unwrap_or_default());
        let before = self.clock.fetch_max(now.0, Ordering::Relaxed);
        TableTime(now.0.max(before))
    }
}

/// Where questions come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surface {
    /// Frames on a Unix socket.
    Socket = 0,
    /// HTTP.
    Http = 1,
}

const SURFACES: usize = 2;

/// Upper bounds of the buckets of durations, in nanoseconds.
pub(super) const DURATIONS_NS: [u64; 9] =
    [1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// What is counted at each surface.
#[derive(Debug, Default)]
struct SurfaceCounters {
    verdicts: [AtomicU64; Verdict::ALL.len()],
    /// Answers that took no longer than each bound and longer than the one before; the last: longer.
    buckets: [AtomicU64; DURATIONS_NS.len() + 1],
    sum_ns: AtomicU64,
}

impl SurfaceCounters {
    fn took(&self, answers: u64, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = DURATIONS_NS.iter().position(|&bound| took_ns <= bound);
        self.buckets[bucket.unwrap_or(DURATIONS_NS.len())].fetch_add(answers, Ordering::Relaxed);
        self.sum_ns.fetch_add(took_ns.saturating_mul(answers), Ordering::Relaxed);
    }

    fn read(&self) -> SurfaceCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SurfaceCounts {
            verdicts: std::array::from_fn(|i| get(&self.verdicts[i])),
            buckets: std::array::from_fn(|i| get(&self.buckets[i])),
            sum_ns: get(&self.sum_ns),
        }
    }
}

/// What was counted at a surface.
pub(super) struct SurfaceCounts {
    pub(super) verdicts: [u64; Verdict::ALL.len()],
    pub(super) buckets: [u64; DURATIONS_NS.len() + 1],
    pub(super) sum_ns: u64,
}

/// Counts of a daemon. Each worker adds once a batch, not once a token.
#[derive(Debug)]
pub struct Counters {
    surfaces: [SurfaceCounters; SURFACES],
    frames_refused: AtomicU64,
    connections: AtomicU64,
    connections_open: AtomicU64,
    turned_away: AtomicU64,
    callers_denied: AtomicU64,
    cut: AtomicU64,
    accepts_failed: AtomicU64,
    loads: AtomicU64,
    loads_failed: AtomicU64,
    /// Of the last swap, in nanoseconds; 0: there was none yet.
    propagation_ns: AtomicU64,
    pub(super) started: Instant,
    pub(super) started_unix_s: u64,
}

impl Counters {
    fn new() -> Counters {
        let since_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Counters {
            surfaces: Default::default(),
            frames_refused: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            connections_open: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            callers_denied: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            accepts_failed: AtomicU64::new(0),
            loads: AtomicU64::new(0),
            loads_failed: AtomicU64::new(0),
            propagation_ns: AtomicU64::new(0),
            started: Instant::now(),
            started_unix_s: since_unix.as_secs(),
        }
    }

    /// The verdicts of a tick, and how long it took to come to them.
    pub(super) fn verdicts(&self, counts: &[u64; Verdict::ALL.len()], frames: u64, took: Duration) {
        let counters = &self.surfaces[Surface::Socket as usize];
        for (total, &count) in counters.verdicts.iter().zip(counts) {
            if count > 0 {
                total.fetch_add(count, Ordering::Relaxed);
            }
        }
        counters.took(frames, took);
    }

    /// One verdict, and how long it took to come to it.
    pub(super) fn verdict(&self, surface: Surface, verdict: Verdict, took: Duration) {
        let counters = &self.surfaces[surface as usize];
        counters.verdicts[verdict as usize].fetch_add(1, Ordering::Relaxed);
        counters.took(1, took);
    }

    pub(super) fn frame_refused(&self) {
        self.frames_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn opened(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.connections_open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self) {
        self.connections_open.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection for which there was no seat.
    pub(super) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection of somebody whom no rule lets in.
    pub(super) fn caller_denied(&self) {
        self.callers_denied.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection that was closed since it stalled, or asked nothing.
    pub(super) fn cut(&self) {
        self.cut.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn accepts_failed(&self) {
        self.accepts_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn load(&self, succeeded: bool) {
        let counter = if succeeded { &self.loads } else { &self.loads_failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A generation is served that was put into the store so long ago.
    pub(super) fn propagated(&self, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.propagation_ns.store(took_ns.max(1), Ordering::Relaxed);
    }

    /// All counts, with their names.
    pub(super) fn read(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            surfaces: std::array::from_fn(|i| self.surfaces[i].read()),
            frames_refused: get(&self.frames_refused),
            connections: get(&self.connections),
            connections_open: get(&self.connections_open),
            turned_away: get(&self.turned_away),
            callers_denied: get(&self.callers_denied),
            cut: get(&self.cut),
            accepts_failed: get(&self.accepts_failed),
            loads: get(&self.loads),
            loads_failed: get(&self.loads_failed),
            propagation_ns: get(&self.propagation_ns),
        }
    }
}

/// [`Counters`] at one moment.
pub(super) struct Counts {
    pub(super) surfaces: [SurfaceCounts; SURFACES],
    pub(super) frames_refused: u64,
    pub(super) connections: u64,
    pub(super) connections_open: u64,
    pub(super) turned_away: u64,
    pub(super) callers_denied: u64,
    pub(super) cut: u64,
    pub(super) accepts_failed: u64,
    pub(super) loads: u64,
    pub(super) loads_failed: u64,
    pub(super) propagation_ns: u64,
}
