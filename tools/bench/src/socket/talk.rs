//! One client for all servers, so that none is measured with a better one.
//!
//! Requests are made before the clock runs. What is stored is known, so it is known as well how
//! long each answer will be: the client writes, reads that many bytes, and understands none of
//! them. The last answer of a script is checked afterwards.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use adamant::token::{Digest, DomainKey, Token};
use anyhow::{Context, bail};
use hdrhistogram::Histogram;

use crate::keys::{Keys, Random, Way};

/// A key that is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub(crate) digest: Digest,
    pub(crate) is_hit: bool,
    /// Of the token, in a pool that has tokens.
    number: usize,
}

/// Where keys are drawn from, half of them stored.
pub(crate) enum Pool {
    Derived(Keys),
    /// The first half of the tokens is stored.
    Minted {
        tokens: Vec<Token>,
        digests: Vec<Digest>,
    },
}

impl Pool {
    /// Tokens, of which `stored` are to be stored and as many are not.
    pub(crate) fn mint(stored: usize, key: &DomainKey) -> anyhow::Result<Pool> {
        let (prefix, kind) = ("acme".parse()?, "live".parse()?);
        let mint = || Token::mint(prefix, kind).context("no randomness");
        let tokens: Vec<Token> = (0..2 * stored).map(|_| mint()).collect::<anyhow::Result<_>>()?;
        let digests = tokens.iter().map(|token| token.digest(key)).collect();
        Ok(Pool::Minted { tokens, digests })
    }

    /// Digests that are stored.
    pub(crate) fn stored(&self) -> Box<dyn Iterator<Item = Digest> + '_> {
        match self {
            Pool::Derived(keys) => Box::new(keys.all()),
            Pool::Minted { digests, .. } => Box::new(digests[..digests.len() / 2].iter().copied()),
        }
    }

    /// Tokens that are stored.
    pub(crate) fn stored_tokens(&self) -> &[Token] {
        match self {
            Pool::Derived(_) => &[],
            Pool::Minted { tokens, .. } => &tokens[..tokens.len() / 2],
        }
    }

    pub(crate) fn text(&self, key: &Key) -> &[u8] {
        match self {
            Pool::Derived(_) => &[],
            Pool::Minted { tokens, .. } => tokens[key.number].expose().as_bytes(),
        }
    }

    fn draw(&self, random: &mut Random) -> Key {
        match self {
            Pool::Derived(keys) => {
                let (digest, is_hit) = keys.draw(random, Way::Half);
                Key { digest, is_hit, number: 0 }
            }
            Pool::Minted { digests, .. } => {
                let number = random.below(digests.len());
                Key { digest: digests[number], is_hit: number < digests.len() / 2, number }
            }
        }
    }
}

/// How a server is asked.
pub(crate) trait Protocol: Send + Sync {
    /// What comes before the first request of a connection.
    fn greet(&self, _stream: &mut UnixStream) -> anyhow::Result<()> {
        Ok(())
    }

    /// Appends one request for these keys.
    fn push_request(&self, out: &mut Vec<u8>, keys: &[Key]) -> anyhow::Result<()>;

    /// The length of its answer.
    fn answer_bytes(&self, keys: &[Key]) -> usize;

    /// Whether that is its answer.
    fn check(&self, answer: &[u8], keys: &[Key]) -> anyhow::Result<()>;
}

/// What a client does again and again: so many requests in one write, each for so many keys.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) requests: usize,
    pub(crate) keys: usize,
}

/// Turns of a client: each is written at once, and answered before the next.
pub(crate) struct Script {
    requests: Vec<u8>,
    turns: Vec<Turn>,
    /// Of each key, whether it is stored. All turns have as many keys.
    stored: Vec<bool>,
    last: Vec<Vec<Key>>,
    protocol: Arc<dyn Protocol>,
}

#[derive(Clone, Copy)]
struct Turn {
    /// Where its requests end.
    end: usize,
    answer_bytes: usize,
}

impl Script {
    pub(crate) fn make(
        protocol: &Arc<dyn Protocol>,
        pool: &Pool,
        random: &mut Random,
        shape: Shape,
        turns: usize,
    ) -> anyhow::Result<Script> {
        let protocol = Arc::clone(protocol);
        let mut script =
            Script { requests: vec![], turns: vec![], stored: vec![], last: vec![], protocol };
        for _ in 0..turns {
            script.last.clear();
            let mut answer_bytes = 0;
            for _ in 0..shape.requests {
                let keys: Vec<Key> = (0..shape.keys).map(|_| pool.draw(random)).collect();
                script.protocol.push_request(&mut script.requests, &keys)?;
                answer_bytes += script.protocol.answer_bytes(&keys);
                script.stored.extend(keys.iter().map(|key| key.is_hit));
                script.last.push(keys);
            }
            script.turns.push(Turn { end: script.requests.len(), answer_bytes });
        }
        Ok(script)
    }

    pub(crate) fn turns(&self) -> usize {
        self.turns.len()
    }

    /// The requests of a turn, and the length of their answers.
    pub(crate) fn turn(&self, number: usize) -> (&[u8], usize) {
        let begin = number.checked_sub(1).map_or(0, |before| self.turns[before].end);
        let Turn { end, answer_bytes } = self.turns[number];
        (&self.requests[begin..end], answer_bytes)
    }

    /// Whether each key of a turn is stored.
    pub(crate) fn keys_of(&self, number: usize) -> impl Iterator<Item = bool> + '_ {
        let per_turn = self.stored.len() / self.turns.len();
        self.stored[number * per_turn..][..per_turn].iter().copied()
    }

    pub(crate) fn answer_bytes_max(&self) -> usize {
        self.turns.iter().map(|turn| turn.answer_bytes).max().unwrap_or(0)
    }

    /// Whether `answer` is that to the last turn.
    pub(crate) fn check(&self, answer: &[u8]) -> anyhow::Result<()> {
        let mut left = answer;
        for keys in &self.last {
            let bytes = self.protocol.answer_bytes(keys);
            let (answer, rest) = left.split_at_checked(bytes).context("a short answer")?;
            self.protocol.check(answer, keys)?;
            left = rest;
        }
        if left.is_empty() { Ok(()) } else { bail!("a long answer") }
    }
}

/// What a client does until there is an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// It sleeps in `read`.
    Sleeping,
    /// It looks again and again, and keeps its core.
    Spinning,
}

/// One client on one connection.
pub(crate) struct Line {
    stream: UnixStream,
    answer: Vec<u8>,
}

impl Line {
    pub(crate) fn over(stream: UnixStream) -> Line {
        Line { stream, answer: Vec::new() }
    }

    /// Seconds for all turns.
    pub(crate) fn play(&mut self, script: &Script) -> anyhow::Result<f64> {
        self.make_room(script);
        let began = Instant::now();
        let mut last = 0;
        for number in 0..script.turns() {
            let (request, answer_bytes) = script.turn(number);
            self.stream.write_all(request)?;
            self.stream.read_exact(&mut self.answer[..answer_bytes])?;
            last = answer_bytes;
        }
        let took = began.elapsed();
        script.check(&self.answer[..last])?;
        Ok(took.as_secs_f64())
    }

    /// The time of each turn, in nanoseconds.
    pub(crate) fn play_timed(
        &mut self,
        script: &Script,
        waiting: Waiting,
    ) -> anyhow::Result<Histogram<u64>> {
        self.make_room(script);
        self.stream.set_nonblocking(waiting == Waiting::Spinning)?;
        let mut times = histogram();
        let mut last = 0;
        for number in 0..script.turns() {
            let (request, answer_bytes) = script.turn(number);
            let began = Instant::now();
            self.stream.write_all(request)?;
            match waiting {
                Waiting::Sleeping => self.stream.read_exact(&mut self.answer[..answer_bytes])?,
                Waiting::Spinning => spin(&mut self.stream, &mut self.answer[..answer_bytes])?,
            }
            times.saturating_record(u64::try_from(began.elapsed().as_nanos())?);
            last = answer_bytes;
        }
        self.stream.set_nonblocking(false)?;
        script.check(&self.answer[..last])?;
        Ok(times)
    }

    fn make_room(&mut self, script: &Script) {
        self.answer.resize(script.answer_bytes_max().max(self.answer.len()), 0);
    }
}

/// `read_exact` on a stream that does not block.
fn spin(stream: &mut UnixStream, mut answer: &mut [u8]) -> anyhow::Result<()> {
    while !answer.is_empty() {
        match stream.read(answer) {
            Ok(0) => bail!("the server has closed the connection"),
            Ok(count) => answer = &mut answer[count..],
            Err(err) if err.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(err) => return Err(err.into()),
        }
    }
    Ok(())
}

/// For times from a nanosecond to a minute, to a thousandth of each.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order")
}

/// Microseconds within which that part of the times lies, in percent.
pub(crate) fn percentile_us(times: &Histogram<u64>, percent: f64) -> f64 {
    times.value_at_percentile(percent) as f64 / 1e3
}
