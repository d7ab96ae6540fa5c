//! What the machine allows.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use memmap2::{Advice, MmapMut};
use zerocopy::FromBytes;

use crate::index::Random;
use crate::prefetch::{Line, read_chain, read_prefetched};
use crate::report::{Figure, Report};
use crate::{Settings, machine};

/// The size of a question about one digest, and of its answer.
const QUESTION_BYTES: usize = 70;
const ANSWER_BYTES: usize = 84;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    report.section("Floors");
    for &records in &settings.records {
        let region = Region::new(records)?;
        let mut random = Random::new(1);
        let prefetched = (0..settings.rounds).map(|_| region.prefetched_ns(settings, &mut random));
        let prefetched = Figure::of(prefetched.collect());
        let chain = (0..settings.rounds).map(|_| region.chain_ns(settings));
        let chain = Figure::of(chain.collect());
        report.base(&format!("random line, prefetched, {records} lines"), "ns", &prefetched);
        report.base(&format!("random line, each names the next, {records}"), "ns", &chain);
    }
    for (name, cores) in [("one core", [0, 0]), ("two cores", [0, 1])] {
        report.base(
            &format!("ping-pong over a Unix socket, {name}"),
            "us",
            &ping_pong(settings, cores)?,
        );
    }
    Ok(())
}

/// Anonymous memory as large as the records of a table, in huge pages where there are any.
pub(crate) struct Region {
    memory: MmapMut,
}

impl Region {
    pub(crate) fn new(records: usize) -> anyhow::Result<Region> {
        let mut memory = MmapMut::map_anon(records * size_of::<Line>())?;
        // Before the first touch. Where there are no huge pages the floor is that of small ones.
        let _ = memory.advise(Advice::HugePage);
        let lines = <[Line]>::mut_from_bytes(&mut memory).expect("a map is aligned to a page");
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

    fn lines(&self) -> &[Line] {
        <[Line]>::ref_from_bytes(&self.memory).expect("a map is aligned to a page")
    }

    pub(crate) fn prefetched_ns(&self, settings: &Settings, random: &mut Random) -> f64 {
        let below = self.lines().len();
        let order: Vec<u32> = (0..settings.lookups)
            .map(|_| u32::try_from(random.below(below)).expect("fewer than 2^32 lines"))
            .collect();
        let began = Instant::now();
        std::hint::black_box(read_prefetched(self.lines(), &order));
        began.elapsed().as_secs_f64() * 1e9 / settings.lookups as f64
    }

    fn chain_ns(&self, settings: &Settings) -> f64 {
        let steps = settings.lookups / 10;
        let began = Instant::now();
        std::hint::black_box(read_chain(self.lines(), steps));
        began.elapsed().as_secs_f64() * 1e9 / steps as f64
    }
}

/// Microseconds for a question and its answer between two blocking threads that do nothing else.
pub(crate) fn ping_pong(settings: &Settings, cores: [usize; 2]) -> anyhow::Result<Figure> {
    let (mut client, mut server) = UnixStream::pair()?;
    let thread = std::thread::spawn(move || -> anyhow::Result<()> {
        machine::pin(cores[1])?;
        let (mut question, answer) = ([0; QUESTION_BYTES], [0; ANSWER_BYTES]);
        while server.read_exact(&mut question).is_ok() {
            server.write_all(&answer)?;
        }
        Ok(())
    });
    machine::pin(cores[0])?;
    let (question, mut answer) = ([0; QUESTION_BYTES], [0; ANSWER_BYTES]);
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds {
        let began = Instant::now();
        for _ in 0..settings.questions {
            client.write_all(&question)?;
            client.read_exact(&mut answer)?;
        }
        rounds.push(began.elapsed().as_secs_f64() * 1e6 / settings.questions as f64);
    }
    drop(client);
    thread.join().expect("the ping-pong thread does not panic")?;
    machine::unpin()?;
    Ok(Figure::of(rounds))
}
