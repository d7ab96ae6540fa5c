//! One attempt of a call: hash, ask, and hold the answers to the order of generations.

use std::time::Duration;

use crate::token::{Digest, Domain, ForeignAlgorithm};
use crate::verdict::Verdict;
use crate::wire::{Claims, FrameError, Hello, Reply, Row, VerdictsHead};

use super::error::Failure;
use super::link::{Deadline, Link};
use super::{Answer, CouldNotAsk, Evidence, Generation};

/// How old a HELLO may be that makes us call a text malformed which an import could make a token.
/// Long enough that a flood of such texts does not become a flood of connections.
const HELLO_AGE_MAX: Duration = Duration::from_secs(1);

pub(super) struct Session<'a> {
    pub(super) link: &'a mut Link,
    pub(super) order: &'a mut Order,
    pub(super) deadline: Deadline,
    /// The connection was opened in this call.
    pub(super) fresh: bool,
}

impl Session<'_> {
    /// What to ask about for `token`; `None` when it is no token.
    pub(super) fn digest(&self, token: &[u8]) -> Result<Option<Digest>, Failure> {
        digest_of(token, self.link.hello(), self.hello_age())
    }

    /// The places of those that are tokens, and what to ask about for them.
    pub(super) fn digests(&self, tokens: &[&[u8]]) -> Result<(Vec<usize>, Vec<Digest>), Failure> {
        digests_of(tokens, self.link.hello(), self.hello_age())
    }

    fn hello_age(&self) -> Duration {
        if self.fresh { Duration::ZERO } else { self.link.hello_age() }
    }

    pub(super) fn rows_a_digests_frame(&self, ours: usize) -> usize {
        least(ours, self.link.hello().limits.digests_max)
    }

    pub(super) fn rows_a_tokens_frame(&self, ours: usize) -> usize {
        least(ours, self.link.hello().limits.tokens_max)
    }

    pub(super) fn exchange(
        &mut self,
        count: usize,
        push: impl FnMut(usize, &mut Vec<u8>) -> Result<(), FrameError>,
        take: impl FnMut(usize, Reply<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.link.exchange(self.deadline, count, push, take)
    }

    /// Asks `count` questions, made by `push`, and hands on all rows in order. `rows` says how
    /// many rows a question must be answered with.
    pub(super) fn ask(
        &mut self,
        count: usize,
        push: impl FnMut(usize, &mut Vec<u8>) -> Result<(), FrameError>,
        rows: impl Fn(usize) -> usize,
        mut take: impl FnMut(Evidence, Row, Option<Claims>),
    ) -> Result<(), Failure> {
        let order = &mut *self.order;
        self.link.exchange(self.deadline, count, push, |index, reply| {
            take_verdicts(reply, rows(index), order, &mut take)
        })
    }
}

/// What to ask about for `token`; `None` when it is no token. `age` is that of the HELLO; zero is
/// one of this call.
pub(super) fn digest_of(
    token: &[u8],
    hello: &Hello,
    age: Duration,
) -> Result<Option<Digest>, Failure> {
    let domain = domain_of(hello, age)?;
    match domain.digest(token) {
        Ok(digest) => Ok(Some(digest)),
        Err(_) if may_become_a_token(token, domain, age) => Err(Failure::OldHello),
        Err(_) => Ok(None),
    }
}

/// As [`digest_of`] for many tokens, several of which are hashed at once: the places of those that
/// are tokens, and their digests.
pub(super) fn digests_of(
    tokens: &[&[u8]],
    hello: &Hello,
    age: Duration,
) -> Result<(Vec<usize>, Vec<Digest>), Failure> {
    if tokens.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let domain = domain_of(hello, age)?;
    let (mut digests, mut malformed) = (Vec::with_capacity(tokens.len()), Vec::new());
    domain.digest_many(tokens.iter().copied(), &mut digests, &mut malformed);
    if malformed.iter().any(|&place| may_become_a_token(tokens[place], domain, age)) {
        return Err(Failure::OldHello);
    }
    let mut malformed = malformed.into_iter().peekable();
    let is_token = |place: &usize| malformed.next_if_eq(place).is_none();
    let places: Vec<usize> = (0..tokens.len()).filter(is_token).collect();
    let digests = places.iter().map(|&place| digests[place]).collect();
    Ok((places, digests))
}

fn domain_of(hello: &Hello, age: Duration) -> Result<&Domain, Failure> {
    match &hello.domain {
        Some(domain) => Ok(domain),
        None if age.is_zero() => Err(CouldNotAsk::Unavailable.into()),
        None => Err(Failure::OldHello),
    }
}

/// Hands on the rows of a reply, of which there must be `expected`.
pub(super) fn take_verdicts(
    reply: Reply<'_>,
    expected: usize,
    order: &mut Order,
    take: &mut impl FnMut(Evidence, Row, Option<Claims>),
) -> Result<(), Failure> {
    let Reply::Verdicts(verdicts) = reply else {
        return Err(FrameError::Unasked.into());
    };
    let found = verdicts.rows.len();
    if expected != found {
        return Err(FrameError::RowCount { expected, found }.into());
    }
    if verdicts.rows.clone().any(|row| row.verdict == Verdict::Unavailable) {
        return Err(CouldNotAsk::Unavailable.into());
    }
    let evidence = order.accept(&verdicts.head)?;
    let mut claims = verdicts.claims.into_iter();
    verdicts.rows.for_each(|row| take(evidence, row, claims.next().flatten()));
    Ok(())
}

/// A valid token whose claims were asked for comes with them.
pub(super) fn check_claims(answer: &Answer, claims_wanted: bool) -> Result<(), Failure> {
    match answer {
        Answer::Valid(access) if claims_wanted && access.claims.is_none() => {
            Err(FrameError::RowCount { expected: 1, found: 0 }.into())
        }
        _ => Ok(()),
    }
}

/// Whether a text that is malformed by a HELLO of that age would be looked up if tokens of another
/// system were imported since. All else is malformed for ever.
fn may_become_a_token(text: &[u8], domain: &Domain, age: Duration) -> bool {
    let later = Domain { foreign: Some(ForeignAlgorithm::Sha256), ..domain.clone() };
    age >= HELLO_AGE_MAX && domain.foreign.is_none() && later.digest(text).is_ok()
}

pub(super) fn least(ours: usize, theirs: u32) -> usize {
    usize::try_from(theirs).map_or(ours, |theirs| ours.min(theirs))
}

/// The latest generation that this client has seen, on any connection.
#[derive(Default)]
pub(super) struct Order {
    seen: Generation,
}

impl Order {
    /// An order that begins at a generation.
    #[cfg(feature = "tokio")]
    pub(super) fn since(seen: Generation) -> Order {
        Order { seen }
    }

    /// The latest generation.
    #[cfg(feature = "tokio")]
    pub(super) fn seen(&self) -> Generation {
        self.seen
    }

    /// Takes the generation of a reply, unless it is an earlier one.
    fn accept(&mut self, head: &VerdictsHead) -> Result<Evidence, CouldNotAsk> {
        if head.epoch == 0 && head.generation == 0 {
            return Err(CouldNotAsk::Unavailable);
        }
        let evidence = Evidence::from(head);
        self.advance(evidence.generation)?;
        Ok(evidence)
    }

    /// Takes the generation of a HELLO, which does not name the revocations.
    pub(super) fn accept_hello(&mut self, hello: &Hello) -> Result<(), CouldNotAsk> {
        let (epoch, number) = (hello.epoch, hello.generation);
        if (epoch, number) == (0, 0) || (epoch, number) == (self.seen.epoch, self.seen.number) {
            return Ok(());
        }
        self.advance(Generation { epoch, number, revocations: 0 })
    }

    fn advance(&mut self, found: Generation) -> Result<(), CouldNotAsk> {
        let seen = self.seen;
        if found < seen {
            return Err(CouldNotAsk::WentBack { found, seen });
        }
        self.seen = found;
        Ok(())
    }
}
