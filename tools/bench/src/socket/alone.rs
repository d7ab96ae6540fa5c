//! One client, one request at a time: what a question costs that nobody else shares the way with.

use crate::floors::PingPong;
use crate::keys::Random;
use crate::machine;
use crate::report::{Fact, Figure, Report};
use crate::settings::Settings;

use super::server::Server;
use super::talk::{Line, Script, Shape, Waiting, percentile_us};
use super::{PLACEMENTS, SERVER_CORE};

const ONE: Shape = Shape { requests: 1, keys: 1 };

/// What a client does while it waits, on which core. A client that spins on the server's own core
/// would only keep it from answering. The servers wait as they were started: ours as
/// [`frames::ONE_WORKER`](super::frames::ONE_WORKER) says.
const WAYS: [(&str, usize, Waiting); 3] = [
    (PLACEMENTS[0].0, PLACEMENTS[0].1, Waiting::Sleeping),
    (PLACEMENTS[1].0, PLACEMENTS[1].1, Waiting::Sleeping),
    ("two cores, the client spins", PLACEMENTS[1].1, Waiting::Spinning),
];

pub(crate) fn run(
    settings: &Settings,
    report: &mut Report,
    servers: &[&Server],
) -> anyhow::Result<()> {
    for (name, core, waiting) in WAYS {
        report.section(&format!("One client, one request at a time, p50, {name}"));
        let (floor, times) = report.steady(
            settings.tries,
            || measure(settings, servers, core, waiting),
            |(floor, _)| floor,
        )?;
        let floor = Figure::of(floor);
        report.base("floor: bare ping-pong, both ends sleep", "us", &floor);
        for (server, times) in servers.iter().zip(times) {
            let times = Figure::of(times);
            let ratio = report.figure(server.name, "us", &times, ("ping-pong", &floor));
            if server.bytes_a_key.is_none() {
                match (core == SERVER_CORE, waiting) {
                    (true, _) => report.fact(Fact::AloneOverPingPongOneCore, ratio),
                    (false, Waiting::Spinning) => {
                        report.fact(Fact::AloneSpinningOverPingPongTwoCores, ratio);
                    }
                    (false, Waiting::Sleeping) => (),
                }
            }
        }
    }
    Ok(())
}

/// Microseconds of the floor in each round, and of each server.
fn measure(
    settings: &Settings,
    servers: &[&Server],
    core: usize,
    waiting: Waiting,
) -> anyhow::Result<(Vec<f64>, Vec<Vec<f64>>)> {
    let mut ping_pong = PingPong::start(SERVER_CORE, 1)?;
    machine::pin(core)?;
    let streams = servers.iter().map(|server| server.connect().map(Line::over));
    let mut lines: Vec<Line> = streams.collect::<anyhow::Result<_>>()?;
    let mut floor = Vec::new();
    let mut times = vec![Vec::new(); servers.len()];
    for round in 0..settings.rounds {
        let mut random = Random::new(round as u64 + 1);
        floor.push(ping_pong.p50_us(settings.questions)?);
        for ((server, line), times) in servers.iter().zip(&mut lines).zip(&mut times) {
            let (protocol, pool) = (&server.protocol, &server.pool);
            let script = Script::make(protocol, pool, &mut random, ONE, settings.questions)?;
            times.push(percentile_us(&line.play_timed(&script, waiting)?, 50.0));
        }
    }
    machine::unpin()?;
    Ok((floor, times))
}
