//! What the machine allows: one random cache line, and one question between two bare threads.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memmap2::{Advice, MmapMut};
use zerocopy::FromBytes;

use crate::keys::{BLOCK, Keys, Random};
use crate::machine;
use crate::prefetch::{Line as CacheLine, read_chain, read_prefetched};
use crate::readiness;
use crate::report::{Figure, Report};
use crate::settings::Settings;
use crate::socket::talk::{Key, Line, Pool, Protocol, Script, Shape, Waiting, percentile_us};

/// The size of a question about one digest, and of its answer.
pub(crate) const QUESTION_BYTES: usize = 62;
pub(crate) const ANSWER_BYTES: usize = 84;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    report.section("Floors");
    machine::pin(0)?;
    for &records in &settings.sizes.index {
        if let Some(why) = settings.leaves_out(records, region_bytes(records), 0) {
            report.note(&format!("{records} lines: not measured, {why}"));
            continue;
        }
        let region = Region::new(records)?;
        let mut random = Random::new(1);
        let rounds = settings.rounds;
        let prefetched = (0..rounds).map(|_| region.prefetched_ns(settings.lookups, &mut random));
        let prefetched = Figure::of(prefetched.collect());
        let chain = Figure::of((0..rounds).map(|_| region.chain_ns(settings.lookups)).collect());
        let huge = region.huge_percent();
        report.base(&format!("random line, prefetched, {records} lines"), "ns", &prefetched);
        report.base(&format!("random line, each names the next, {records}"), "ns", &chain);
        report.note(&format!("{huge:.0} % of it in 2 MiB pages, one core"));
    }
    machine::unpin()?;
    for (name, cores) in [("one core", [0, 0]), ("two cores", [0, 1])] {
        let mut ping_pong = PingPong::start(cores[1], 1)?;
        machine::pin(cores[0])?;
        let questions = settings.questions;
        let rounds = (0..settings.rounds).map(|_| ping_pong.p50_us(questions));
        let figure = Figure::of(rounds.collect::<anyhow::Result<_>>()?);
        machine::unpin()?;
        report.base(&format!("ping-pong over a Unix socket, {name}, p50"), "us", &figure);
    }
    readiness::run(settings, report)
}

/// What a region takes, and the order in which it is filled.
pub(crate) fn region_bytes(records: usize) -> u64 {
    (records * (size_of::<CacheLine>() + size_of::<u32>())) as u64
}

/// Anonymous memory as large as the records of a table, in huge pages where there are any.
pub(crate) struct Region {
    memory: MmapMut,
}

impl Region {
    pub(crate) fn new(records: usize) -> anyhow::Result<Region> {
        let mut memory = MmapMut::map_anon(records * size_of::<CacheLine>())?;
        // Before the first touch. Where there are no huge pages the floor is that of small ones.
        let _ = memory.advise(Advice::HugePage);
        let lines = <[CacheLine]>::mut_from_bytes(&mut memory).expect("a map is aligned to a page");
        // Sattolo's shuffle: one cycle through all lines.
        let mut order: Vec<u32> = (0..u32::try_from(records)?).collect();
        let mut random = Random::new(7);
        for at in (1..records).rev() {
            order.swap(at, random.below(at));
        }
        for at in 0..records {
            let next = order[(at + 1) % records];
            lines[order[at] as usize][1] = u64::from(next);
        }
        Ok(Region { memory })
    }

    fn lines(&self) -> &[CacheLine] {
        <[CacheLine]>::ref_from_bytes(&self.memory).expect("a map is aligned to a page")
    }

    pub(crate) fn huge_percent(&self) -> f64 {
        100.0 * machine::huge_bytes(&self.memory) as f64 / self.memory.len() as f64
    }

    /// Nanoseconds a line. Numbers are drawn in blocks outside the timed region, as digests are.
    pub(crate) fn prefetched_ns(&self, reads: usize, random: &mut Random) -> f64 {
        let below = self.lines().len();
        let mut order = vec![0_u32; BLOCK];
        let (mut took, mut done) = (Duration::ZERO, 0);
        while done < reads {
            for number in &mut order {
                *number = u32::try_from(random.below(below)).expect("fewer than 2^32 lines");
            }
            let began = Instant::now();
            std::hint::black_box(read_prefetched(self.lines(), &order));
            took += began.elapsed();
            done += BLOCK;
        }
        took.as_secs_f64() * 1e9 / done as f64
    }

    fn chain_ns(&self, reads: usize) -> f64 {
        let steps = reads / 10;
        let began = Instant::now();
        std::hint::black_box(read_chain(self.lines(), steps));
        began.elapsed().as_secs_f64() * 1e9 / steps as f64
    }
}

/// Questions and their answers between two blocking threads that do nothing else.
pub(crate) struct PingPong {
    line: Line,
    /// So many questions in one write, and as many answers.
    together: usize,
    protocol: Arc<dyn Protocol>,
}

impl PingPong {
    /// With the answering thread on that core.
    pub(crate) fn start(core: usize, together: usize) -> anyhow::Result<PingPong> {
        let (client, mut server) = UnixStream::pair()?;
        // Ends when the line is closed.
        std::thread::spawn(move || -> anyhow::Result<()> {
            machine::pin(core)?;
            let mut question = vec![0; QUESTION_BYTES * together];
            let answer = vec![0; ANSWER_BYTES * together];
            while server.read_exact(&mut question).is_ok() {
                server.write_all(&answer)?;
            }
            Ok(())
        });
        Ok(PingPong { together, ..PingPong::over(client) })
    }

    /// One question at a time, to whoever answers at the other end.
    pub(crate) fn over(client: UnixStream) -> PingPong {
        PingPong { line: Line::over(client), together: 1, protocol: Arc::new(Nothing) }
    }

    /// Microseconds of one turn, from the core that the caller is on.
    pub(crate) fn p50_us(&mut self, turns: usize) -> anyhow::Result<f64> {
        let pool = Pool::Derived(Keys::new(1, 1));
        let shape = Shape { requests: self.together, keys: 1 };
        let mut random = Random::new(1);
        let script = Script::make(&self.protocol, &pool, &mut random, shape, turns)?;
        Ok(percentile_us(&self.line.play_timed(&script, Waiting::Sleeping)?, 50.0))
    }
}

struct Nothing;

impl Protocol for Nothing {
    fn push_request(&self, out: &mut Vec<u8>, _keys: &[Key]) -> anyhow::Result<()> {
        out.extend([0; QUESTION_BYTES]);
        Ok(())
    }

    fn answer_bytes(&self, _keys: &[Key]) -> usize {
        ANSWER_BYTES
    }

    fn check(&self, _answer: &[u8], _keys: &[Key]) -> anyhow::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::frames::Digests;

    #[test]
    fn the_floor_is_of_the_same_size_as_a_question() -> anyhow::Result<()> {
        let pool = Pool::Derived(Keys::new(1, 1));
        let protocol: Arc<dyn Protocol> = Arc::new(Digests);
        let shape = Shape { requests: 1, keys: 1 };
        let script = Script::make(&protocol, &pool, &mut Random::new(1), shape, 1)?;
        let (request, answer_bytes) = script.turn(0);
        assert_eq!((request.len(), answer_bytes), (QUESTION_BYTES, ANSWER_BYTES));
        Ok(())
    }
}
