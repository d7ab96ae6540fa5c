//! Whether the daemon answers, asked by itself: one digest that is there and one that is not, to
//! every worker, over a socket, in frames. What the watchdog is fed for.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::Config;
use super::callers::Caller;
use super::connection::Connection;
use super::live::Live;
use super::worker::Workers;
use crate::claims::Requirement;
use crate::table::Table;
use crate::token::Digest;
use crate::verdict::Verdict;
use crate::wire::{Reply, cut_frame, push_hello_request, push_verify};

/// A worker that takes longer for two digests is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A connection to each worker.
pub(super) struct Probe(Vec<UnixStream>);

impl Probe {
    pub(super) fn new(workers: &Workers, config: &Config) -> io::Result<Probe> {
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..config.workers {
            let (our, their) = StdStream::pair()?;
            our.set_nonblocking(true)?;
            ours.push(UnixStream::from_std(our)?);
            theirs.push(Connection::new(their, Arc::new(Caller::anybody()), None));
        }
        workers.give_each(theirs.into_iter())?;
        Ok(Probe(ours))
    }

    /// Asks all workers. `Err` says what was wrong with which.
    pub(super) async fn ask(&mut self, live: &Live) -> Result<(), String> {
        for (number, stream) in self.0.iter_mut().enumerate() {
            let asked = tokio::time::timeout(ANSWER_WITHIN, ask(stream, live)).await;
            let asked = asked.unwrap_or_else(|_| Err(format!("no answer in {ANSWER_WITHIN:?}")));
            asked.map_err(|reason| format!("worker {number}: {reason}"))?;
        }
        Ok(())
    }
}

async fn ask(stream: &mut UnixStream, live: &Live) -> Result<(), String> {
    // Held while the answer is awaited, so that both are of one generation.
    let serving = Arc::clone(&live.serving());
    let base = serving.generation.as_ref().map(|generation| &generation.base().table);
    let present = base.and_then(|base| base.records().first()).map(|record| record.digest);
    let absent = base.map_or([0; size_of::<Digest>()], absent_from);
    let digests: Vec<Digest> = present.into_iter().chain([absent]).collect();
    let mut frames = Vec::new();
    push_hello_request(&mut frames);
    push_verify(&mut frames, false, &Requirement::any(), &digests).expect("two digests fit");
    let io = |err: io::Error| format!("its connection failed: {err}");
    stream.write_all(&frames).await.map_err(io)?;
    let mut replies = Vec::new();
    loop {
        if stream.read_buf(&mut replies).await.map_err(io)? == 0 {
            return Err("it closed the connection".to_owned());
        }
        let broken = |err| format!("its reply cannot be read: {err}");
        let Some((_, hello)) = cut_frame(&replies).map_err(broken)? else { continue };
        let Some((body, _)) = cut_frame(&replies[hello..]).map_err(broken)? else { continue };
        let Reply::Verdicts(verdicts) = Reply::decode(body).map_err(broken)? else {
            return Err("its reply has no verdicts".to_owned());
        };
        let swapped = serving.judged.as_ref().map_or(0, |judged| judged.manifest.generation)
            != verdicts.head.generation;
        let found: Vec<Verdict> = verdicts.rows.map(|row| row.verdict).collect();
        return if swapped || is_right(&found, present.is_some()) {
            Ok(())
        } else {
            Err(format!("it answered {found:?}"))
        };
    }
}

/// `unavailable` is an answer too: a daemon without a generation is not mended by a restart.
fn is_right(found: &[Verdict], has_present: bool) -> bool {
    let unavailable = found.iter().all(|verdict| *verdict == Verdict::Unavailable);
    let (absent, present) = match found {
        [present, absent] if has_present => (absent, Some(present)),
        [absent] if !has_present => (absent, None),
        _ => return false,
    };
    let known = |present: &Verdict| *present > Verdict::CallerNotAllowed;
    unavailable || (*absent == Verdict::Unknown && present.is_none_or(known))
}

/// A digest that no record has.
fn absent_from(base: &Table) -> Digest {
    let mut digest = [0; size_of::<Digest>()];
    while base.records().binary_search_by(|record| record.digest.cmp(&digest)).is_ok() {
        digest[digest.len() - 1] += 1;
    }
    digest
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_right_answers_feed_the_watchdog() {
        use Verdict::{CallerNotAllowed, Revoked, Unavailable, Unknown, Valid};
        assert!(is_right(&[Valid, Unknown], true));
        assert!(is_right(&[Revoked, Unknown], true));
        assert!(is_right(&[Unavailable, Unavailable], true));
        assert!(is_right(&[Unknown], false));
        assert!(!is_right(&[Unknown, Unknown], true));
        assert!(!is_right(&[Valid, Valid], true));
        assert!(!is_right(&[CallerNotAllowed, Unknown], true));
        assert!(!is_right(&[Unavailable, Unknown], true));
        assert!(!is_right(&[Valid], false));
        assert!(!is_right(&[], false));
    }
}
