//! What one client does to another, and to the memory of the daemon. Here the daemon is as it is
//! installed: as many threads as cores, pinned nowhere.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

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
    let (mut alone, mut busy, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        alone.push(p99_us(daemon, &single, Neighbour::Nobody, long)?);
        busy.push(p99_us(daemon, &single, Neighbour::Elsewhere, long)?);
        beside.push(p99_us(daemon, &single, Neighbour::Heavy(&heavy), long)?);
    }
    let [alone, busy, beside] = [alone, busy, beside].map(Figure::of);
    report.base("one request at a time, open loop, p99, alone", "us", &alone);
    let name = "the same beside two threads that ask nobody";
    report.figure(name, "us", &busy, ("alone", &alone));
    let name = "the same beside batches of 1,024 without pause";
    let times = report.figure(name, "us", &beside, ("alone", &alone));
    report.fact(Fact::HeavyNeighbour, times);
    Ok(())
}

/// Who keeps the machine busy meanwhile.
#[derive(Clone, Copy)]
enum Neighbour<'a> {
    Nobody,
    /// Two threads that have nothing to do with the daemon, each for as long as a batch takes and
    /// then again: what comes of it is the machine's doing.
    Elsewhere,
    /// A client without pause, and so the worker that answers it.
    Heavy(&'a Script),
}

/// About what a batch of 1,024 keeps a worker.
const BATCH: Duration = Duration::from_micros(40);

impl Neighbour<'_> {
    fn go_on(self, daemon: &Daemon, stop: &AtomicBool) -> anyhow::Result<()> {
        let stopped = || stop.load(Ordering::Relaxed);
        match self {
            Neighbour::Nobody => {}
            Neighbour::Elsewhere => {
                while !stopped() {
                    let began = Instant::now();
                    while began.elapsed() < BATCH {}
                    // Because a client waits for its answer, too.
                    thread::sleep(Duration::from_nanos(1));
                }
            }
            Neighbour::Heavy(script) => {
                let mut stream = connect(daemon)?;
                while !stopped() {
                    play(&mut stream, script)?;
                }
            }
        }
        Ok(())
    }
}

fn p99_us(
    daemon: &Daemon,
    single: &Script,
    neighbour: Neighbour<'_>,
    long: Duration,
) -> anyhow::Result<f64> {
    let stop = AtomicBool::new(false);
    let mut stream = connect(daemon)?;
    let threads = if matches!(neighbour, Neighbour::Elsewhere) { 2 } else { 1 };
    let outcome = thread::scope(|scope| {
        let go_on = |_| scope.spawn(|| neighbour.go_on(daemon, &stop));
        let neighbours: Vec<_> = (0..threads).map(go_on).collect();
        let asking = scope.spawn(|| {
            let any = |_, _: &[u8]| true;
            open_loop::ask(&mut stream, single, RATE, &stop, any)
        });
        thread::sleep(long);
        stop.store(true, Ordering::Relaxed);
        for neighbour in neighbours {
            neighbour.join().expect("a neighbour does not panic")?;
        }
        asking.join().expect("the client does not panic")
    })?;
    ensure!(outcome.times.len() > 10, "only {} requests", outcome.times.len());
    Ok(percentile_us(&outcome.times, 99.0))
}
