//! What one client does to another, and to the memory of the daemon. Here the daemon is as it is
//! installed: as many threads as cores, pinned nowhere.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use adamant::wire::DIGESTS_MAX;
use anyhow::ensure;

use crate::keys::Random;
use crate::programs::Daemon;
use crate::report::{Fact, Figure, Report};
use crate::settings::Settings;

use super::talk::{Pool, Protocol, Script, Shape, percentile_us};
use super::{Servers, frames, open_loop};

const CONNECTIONS: usize = 64;
/// Batches that each of them asks.
const BATCHES: usize = 4;
/// Requests a second of the client that is measured: what one core can do fifty times.
const RATE: f64 = 1000.0;
const MIB: f64 = (1 << 20) as f64;

pub(crate) fn run(
    settings: &Settings,
    report: &mut Report,
    servers: &Servers,
) -> anyhow::Result<()> {
    report.section("Neighbours: the daemon as installed, nobody pinned");
    let mut daemon = Daemon::start(&servers.home.path, "")?;
    memory(report, &mut daemon, &servers.pool)?;
    neighbour(settings, report, &daemon, &servers.pool)
}

fn connect(daemon: &Daemon) -> anyhow::Result<UnixStream> {
    let mut stream = UnixStream::connect(daemon.socket())?;
    frames::greet(&mut stream)?;
    Ok(stream)
}

fn script(pool: &Pool, keys: usize, turns: usize) -> anyhow::Result<Script> {
    let protocol: std::sync::Arc<dyn Protocol> = std::sync::Arc::new(frames::Digests);
    Script::make(&protocol, pool, &mut Random::new(1), Shape { requests: 1, keys }, turns)
}

/// Private memory while many connections ask the largest batches at once. A daemon whose buffers do
/// not hold them all closes some, which is how it keeps to its memory: it is said how many.
fn memory(report: &mut Report, daemon: &mut Daemon, pool: &Pool) -> anyhow::Result<()> {
    let script = script(pool, DIGESTS_MAX, BATCHES)?;
    let streams: Vec<UnixStream> =
        (0..CONNECTIONS).map(|_| connect(daemon)).collect::<anyhow::Result<_>>()?;
    let mut most = 0;
    let cut = thread::scope(|scope| {
        let script = &script;
        let ask = |mut stream| scope.spawn(move || play(&mut stream, script));
        let threads: Vec<_> = streams.into_iter().map(ask).collect();
        while !threads.iter().all(|thread| thread.is_finished()) {
            most = most.max(daemon.running().private_bytes());
            thread::sleep(Duration::from_millis(1));
        }
        let ends = threads.into_iter().map(|thread| thread.join().expect("no client panics"));
        ends.filter(anyhow::Result::is_err).count()
    });
    let stated = Figure::once(daemon.budget_bytes()? as f64 / MIB);
    let most = Figure::once(most as f64 / MIB);
    report.base("private memory, as the daemon states it", "MiB", &stated);
    let name = format!("private memory, {CONNECTIONS} x {DIGESTS_MAX} digests");
    let part = report.figure(&name, "MiB", &most, ("stated", &stated));
    report.base("    connections that it closed meanwhile", "", &Figure::once(cut as f64));
    report.fact(Fact::ConnectionsMemory, part);
    Ok(())
}

/// All turns, once.
fn play(stream: &mut UnixStream, script: &Script) -> anyhow::Result<()> {
    let mut answer = vec![0; script.answer_bytes_max()];
    for turn in 0..script.turns() {
        let (request, answer_bytes) = script.turn(turn);
        stream.write_all(request)?;
        stream.read_exact(&mut answer[..answer_bytes])?;
    }
    script.check(&answer)
}

/// The p99 of a client alone, and beside one that asks batches without pause.
fn neighbour(
    settings: &Settings,
    report: &mut Report,
    daemon: &Daemon,
    pool: &Pool,
) -> anyhow::Result<()> {
    let single = script(pool, 1, 1024)?;
    let heavy = script(pool, 1024, 16)?;
    let long = Duration::from_millis(if settings.is_quick { 100 } else { 2000 });
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        alone.push(p99_us(daemon, &single, None, long)?);
        beside.push(p99_us(daemon, &single, Some(&heavy), long)?);
    }
    let (alone, beside) = (Figure::of(alone), Figure::of(beside));
    report.base("one request at a time, open loop, p99, alone", "us", &alone);
    let name = "the same beside batches of 1,024 without pause";
    let times = report.figure(name, "us", &beside, ("alone", &alone));
    report.fact(Fact::HeavyNeighbour, times);
    Ok(())
}

fn p99_us(
    daemon: &Daemon,
    single: &Script,
    heavy: Option<&Script>,
    long: Duration,
) -> anyhow::Result<f64> {
    let stop = AtomicBool::new(false);
    let mut stream = connect(daemon)?;
    let heavy = heavy.map(|heavy| Ok::<_, anyhow::Error>((connect(daemon)?, heavy))).transpose()?;
    let outcome =
        thread::scope(|scope| {
            if let Some((mut stream, heavy)) = heavy {
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) && play(&mut stream, heavy).is_ok() {}
                });
            }
            let asking = scope.spawn(|| {
                let any = |_, _: &[u8]| true;
                open_loop::ask(&mut stream, single, RATE, &stop, any)
            });
            thread::sleep(long);
            stop.store(true, Ordering::Relaxed);
            asking.join().expect("the client does not panic")
        })?;
    ensure!(outcome.times.len() > 10, "only {} requests", outcome.times.len());
    Ok(percentile_us(&outcome.times, 99.0))
}
