//! Clients that ask without pause and know the right answer to each question.
//!
//! What is right depends on the token and on the generation that the answer names, and on nothing
//! else: all tokens are valid, but for one, which is valid up to some generation and revoked from
//! the next on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use adamant::claims::Requirement;
use adamant::client::{Answer, Client};
use adamant::verdict::Verdict;
use anyhow::{Context, ensure};

/// Each client asks about the token that gets revoked once in so many questions.
const VICTIM_EVERY: usize = 16;

/// What the clients saw.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Answers from the generation that was there at the start.
    pub(super) before: u64,
    /// Answers from later ones.
    pub(super) after: u64,
    /// Questions without an answer.
    pub(super) failed: u64,
    /// Answers that are not right for the generation that they name.
    pub(super) wrong: u64,
    /// Last generation in which the one token was valid.
    pub(super) last_valid: u64,
    /// First generation in which it was revoked.
    pub(super) first_revoked: u64,
}

pub(super) struct Clients {
    threads: Vec<JoinHandle<Tally>>,
    shared: Arc<Shared>,
}

struct Shared {
    stop: AtomicBool,
    asked: AtomicU64,
    swapped: OnceLock<Instant>,
}

impl Clients {
    /// Starts `count` of them; `before` is the generation served now.
    pub(super) fn start(
        count: usize,
        socket: &Path,
        tokens: &[String],
        victim: usize,
        before: u64,
    ) -> anyhow::Result<Clients> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            swapped: OnceLock::new(),
        });
        let tokens: Arc<[String]> = tokens.into();
        let mut threads = Vec::with_capacity(count);
        for number in 0..count {
            let client = Client::with_timeout(socket, super::TIMEOUT)?;
            let (tokens, shared) = (Arc::clone(&tokens), Arc::clone(&shared));
            let asking = Asking { client, tokens, victim, before, shared };
            threads.push(thread::spawn(move || asking.run(number)));
        }
        Ok(Clients { threads, shared })
    }

    /// Lets them ask for a while, and makes sure that they do.
    pub(super) fn go_on_for(&self, time: Duration) -> anyhow::Result<()> {
        let asked = self.shared.asked.load(Ordering::Relaxed);
        thread::sleep(time);
        ensure!(self.shared.asked.load(Ordering::Relaxed) > asked, "the clients do not ask");
        Ok(())
    }

    /// Waits for the first answer from a later generation, and says when it came.
    pub(super) fn wait_for_swap(&self, limit: Duration) -> anyhow::Result<Instant> {
        let began = Instant::now();
        while began.elapsed() < limit {
            if let Some(&swapped) = self.shared.swapped.get() {
                return Ok(swapped);
            }
            thread::sleep(Duration::from_micros(200));
        }
        self.shared.swapped.get().copied().context("the daemon does not serve the new generation")
    }

    pub(super) fn stop(self) -> anyhow::Result<Tally> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut sum = Tally { first_revoked: u64::MAX, ..Tally::default() };
        for thread in self.threads {
            let tally = thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
            sum.before += tally.before;
            sum.after += tally.after;
            sum.failed += tally.failed;
            sum.wrong += tally.wrong;
            sum.last_valid = sum.last_valid.max(tally.last_valid);
            sum.first_revoked = sum.first_revoked.min(tally.first_revoked);
        }
        Ok(sum)
    }
}

struct Asking {
    client: Client,
    tokens: Arc<[String]>,
    victim: usize,
    before: u64,
    shared: Arc<Shared>,
}

impl Asking {
    fn run(mut self, number: usize) -> Tally {
        let mut tally = Tally { first_revoked: u64::MAX, ..Tally::default() };
        let need = Requirement::any().scope("orders:read");
        // A stride of its own for each client, prime to most counts, so that they differ.
        let mut at = number * 7919;
        let mut question = 0_usize;
        while !self.shared.stop.load(Ordering::Relaxed) {
            question += 1;
            at += 104_729;
            let is_victim = question.is_multiple_of(VICTIM_EVERY);
            let index = if is_victim { self.victim } else { at % self.tokens.len() };
            match self.client.verify(self.tokens[index].as_bytes(), &need) {
                Ok(answer) => self.check(index, &answer, &mut tally),
                Err(_) => tally.failed += 1,
            }
            self.shared.asked.fetch_add(1, Ordering::Relaxed);
        }
        tally
    }

    fn check(&self, index: usize, answer: &Answer, tally: &mut Tally) {
        let evidence = match answer {
            Answer::Valid(access) => Some(access.evidence),
            Answer::Denied(denial) => denial.evidence,
        };
        let Some(generation) = evidence.map(|evidence| evidence.generation.number) else {
            tally.wrong += 1;
            return;
        };
        let is_old = generation == self.before;
        if is_old {
            tally.before += 1;
        } else {
            self.shared.swapped.get_or_init(Instant::now);
            tally.after += 1;
        }
        let is_victim = index == self.victim;
        let expected = if is_victim && !is_old { Verdict::Revoked } else { Verdict::Valid };
        if answer.verdict() != expected {
            tally.wrong += 1;
        } else if is_victim && is_old {
            tally.last_valid = tally.last_valid.max(generation);
        } else if is_victim {
            tally.first_revoked = tally.first_revoked.min(generation);
        }
    }
}
