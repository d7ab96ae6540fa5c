//! What systemd gives and wants to be told: sockets, readiness, one line of status, the watchdog.
//! Without systemd nothing of it does anything. See sd_notify(3) and sd_listen_fds(3).

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::live::Live;
use super::probe::Probe;
use super::{log, status};

/// How often the line of status is looked at.
const TICK: Duration = Duration::from_secs(1);

/// The sockets that systemd passed.
pub(super) fn passed_sockets() -> io::Result<Vec<OwnedFd>> {
    let numbers = sd_notify::listen_fds()?;
    let owned = numbers.map(|number| {
        // SAFETY: 3 <= number < 3 + LISTEN_FDS: the protocol makes these ours, they were open
        // before `main`, and they are asked for once, so nobody else owns them.
        unsafe { OwnedFd::from_raw_fd(number) }
    });
    Ok(owned.collect())
}

/// Ready, or ready again after [`reloading`].
pub(super) fn ready(live: &Live) {
    tell(&[NotifyState::Ready, NotifyState::Status(&status::line(live))]);
}

/// Has begun to look at store and policy since it was told to.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(err) => tracing::debug!(error = %err, "no monotonic clock"),
    }
}

/// Drains.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Keeps the line of status as the daemon is, and feeds the watchdog while all workers answer
/// right.
pub(super) async fn report(live: Arc<Live>, mut probe: Probe) {
    // Twice as often as it is due, so that one late look starves nobody.
    let feed_every = sd_notify::watchdog_enabled().map(|due| due / 2);
    let mut fed_at: Option<Instant> = None;
    let mut told = String::new();
    let mut tick = interval(feed_every.map_or(TICK, |every| every.min(TICK)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let line = status::line(&live);
        if line != told {
            tell(&[NotifyState::Status(&line)]);
            told = line;
        }
        let is_due = |every| fed_at.is_none_or(|at| at.elapsed() >= every);
        if !feed_every.is_some_and(is_due) {
            continue;
        }
        match probe.ask(&live).await {
            Ok(()) => {
                tell(&[NotifyState::Watchdog]);
                fed_at = Some(Instant::now());
            }
            Err(reason) => {
                tracing::error!(
                    message_id = log::PROBE_FAILED,
                    reason,
                    "the daemon does not answer itself: the watchdog is not fed"
                );
            }
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(err) = sd_notify::notify(states) {
        tracing::debug!(error = %err, "systemd cannot be told");
    }
}
