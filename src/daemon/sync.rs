//! The threads, channels, locks and atomics of the code that changes what is served.
//!
//! They are those of std. Built with `--cfg shuttle` they are those of the crate `shuttle`, which
//! runs a test again and again, each time in another order of the threads' steps: `tests/mod.rs`.
//! There is no time in such a run and no kernel, so nothing here may wait for either: what sleeps
//! is a [`pause`], and what is atomic to us but unknown to shuttle has a [`step`] beside it.

#[cfg(not(shuttle))]
pub(super) use self::real::*;
#[cfg(shuttle)]
pub(super) use self::tried::*;

#[cfg(not(shuttle))]
mod real {
    use std::time::Duration;

    pub(in super::super) use std::sync::{Mutex, PoisonError, atomic, mpsc};
    pub(in super::super) use std::thread;

    /// Gives way to others for that long.
    pub(in super::super) fn pause(time: Duration) {
        thread::sleep(time);
    }

    /// Another thread may do something here. It always may; this is for shuttle to know.
    #[inline(always)]
    pub(in super::super) fn step() {}

    /// That long, or as long as it takes where there is no clock.
    pub(in super::super) const fn limit(time: Duration) -> Duration {
        time
    }
}

#[cfg(shuttle)]
mod tried {
    use std::time::Duration;

    pub(in super::super) use shuttle::sync::{Mutex, PoisonError, atomic, mpsc};
    pub(in super::super) use shuttle::thread;

    pub(in super::super) fn pause(_: Duration) {
        // Not shuttle's `sleep`: a schedule with priorities would run the one that waits for ever.
        thread::yield_now();
    }

    pub(in super::super) fn step() {
        thread::sleep(Duration::ZERO);
    }

    pub(in super::super) const fn limit(_: Duration) -> Duration {
        Duration::MAX
    }
}
