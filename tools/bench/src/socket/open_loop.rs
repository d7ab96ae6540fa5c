//! A client that asks at a fixed rate, whether or not the answers come in time.
//!
//! A client that waits for each answer before it asks again asks less while the server is slow, and
//! so leaves out what it should measure (coordinated omission). Here each request has a time at
//! which it is due. One that had to wait for the answer before it counts from that time on; one for
//! which the client slept counts from its sending, since the sleep is the client's own.

use std::io::{Read, Write};
use std::num::NonZeroU64;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::talk::{Script, histogram};

/// The kernel may let a thread sleep so much longer than it wants to.
const TIMER_SLACK_NS: NonZeroU64 = NonZeroU64::MIN;

/// What came of the requests.
pub(crate) struct Outcome {
    pub(crate) times: Histogram<u64>,
    /// Requests that were not answered, or answered otherwise than `check` allows.
    pub(crate) failed: u64,
}

/// Asks the turns of `script`, over and over, until told to stop.
pub(crate) fn ask(
    stream: &mut UnixStream,
    script: &Script,
    rate_a_second: f64,
    stop: &AtomicBool,
    check: impl Fn(usize, &[u8]) -> bool,
) -> anyhow::Result<Outcome> {
    rustix::thread::set_current_timer_slack(Some(TIMER_SLACK_NS))?;
    let mut outcome = Outcome { times: histogram(), failed: 0 };
    let mut answer = vec![0; script.answer_bytes_max()];
    let began = Instant::now();
    let mut asked = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        let due = began + Duration::from_secs_f64(f64::from(asked) / rate_a_second);
        let begin = match due.checked_duration_since(Instant::now()) {
            None => due,
            Some(early) => {
                thread::sleep(early);
                Instant::now()
            }
        };
        let turn = asked as usize % script.turns();
        let (request, answer_bytes) = script.turn(turn);
        let answer = &mut answer[..answer_bytes];
        stream.write_all(request)?;
        stream.read_exact(answer)?;
        outcome.times.saturating_record(u64::try_from(begin.elapsed().as_nanos())?);
        outcome.failed += u64::from(!check(turn, answer));
        asked += 1;
    }
    Ok(outcome)
}
