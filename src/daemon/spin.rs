//! Whether a worker looks again for questions before it parks.
//!
//! To park and to be woken costs a question some microseconds on the same core and, where an idle
//! virtual core halts, fifty on another. A worker that was asked a moment ago may be asked again in
//! less than that. So it looks for as long as `spin_us`, giving way to whoever else would run, and
//! less and less often while that gains nothing: each look in vain doubles the waits that park at
//! once. A look ends, and was in vain, when somebody else ran because it gave way: then the core is
//! wanted, perhaps by who asks, and to park gives it away at less cost.

use std::fs;
use std::time::{Duration, Instant};

/// Somebody else ran meanwhile if it took longer than this from one glance to the next: that is a
/// system call and a yield, half a microsecond each at most.
const GLANCE: Duration = Duration::from_micros(3);
/// After so many looks in vain the waits between two of them do not grow any more: one in 1,024.
const MISSES_MAX: u32 = 10;

/// Decides for one worker.
#[derive(Debug)]
pub(super) struct Spin {
    /// How long a look takes at most; 0: there is none.
    pub(super) limit: Duration,
    misses: u32,
    /// Waits to come that park at once.
    parks: u32,
}

impl Spin {
    /// On a machine of one core there is nobody to wait for: who asks cannot run meanwhile.
    pub(super) fn new(limit: Duration, is_one_core: bool) -> Spin {
        Spin { limit: if is_one_core { Duration::ZERO } else { limit }, misses: 0, parks: 0 }
    }

    /// Whether the wait that begins now begins with a look.
    pub(super) fn begins(&mut self) -> bool {
        if self.parks > 0 {
            self.parks -= 1;
            return false;
        }
        !self.limit.is_zero()
    }

    /// What a look has come to.
    pub(super) fn ended(&mut self, found: bool) {
        self.misses = if found { 0 } else { MISSES_MAX.min(self.misses + 1) };
        self.parks = (1 << self.misses) - 1;
    }
}

/// A look that is under way: glance after glance, and giving way between them.
#[derive(Debug)]
pub(super) struct Look {
    began: Instant,
    glanced: Instant,
    had_the_core: bool,
}

impl Look {
    pub(super) fn begin() -> Look {
        let now = Instant::now();
        Look { began: now, glanced: now, had_the_core: true }
    }

    /// Whether there is no further glance: it takes too long, or somebody else waits for the core.
    pub(super) fn is_over(&mut self, limit: Duration) -> bool {
        let now = Instant::now();
        self.had_the_core &= now - self.glanced < GLANCE;
        self.glanced = now;
        !self.had_the_core || now - self.began >= limit
    }

    /// Whether nobody else has run on this core since it began.
    pub(super) fn had_the_core(&self) -> bool {
        self.had_the_core && self.glanced.elapsed() < GLANCE
    }
}

/// Whether the machine has one core. What this process may run on says less: who asks may run
/// elsewhere.
pub(super) fn is_one_core() -> bool {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    online.trim().parse::<u32>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_micros(20);

    #[test]
    fn looks_in_vain_become_rare_and_one_that_finds_brings_them_back() {
        let mut spin = Spin::new(LIMIT, false);
        let mut looks = 0;
        for _ in 0..100_000 {
            if spin.begins() {
                looks += 1;
                spin.ended(false);
            }
        }
        assert!((90..120).contains(&looks), "{looks} looks in 100,000 waits");
        while !spin.begins() {}
        spin.ended(true);
        for _ in 0..1000 {
            assert!(spin.begins());
            spin.ended(true);
        }
    }

    #[test]
    fn a_look_notices_that_somebody_else_ran() {
        // Of many, since the machine may be taken from the test at any moment.
        assert!((0..1000).any(|_| Look::begin().had_the_core()));
        let mut look = Look::begin();
        // Another program has the core for so long.
        let began = Instant::now();
        while began.elapsed() < GLANCE {}
        assert!(look.is_over(LIMIT) && !look.had_the_core());
    }

    #[test]
    fn there_is_no_look_on_one_core_or_when_it_is_switched_off() {
        assert!(!Spin::new(LIMIT, true).begins());
        assert!(!Spin::new(Duration::ZERO, false).begins());
    }
}
