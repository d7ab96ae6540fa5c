//! Questions to a real daemon over its socket, beside a bare ping-pong of the same sizes.
//!
//! Client and daemon share the machine. So beside each rate stands the processor time that the
//! daemon's workers used for it, which a busy neighbour cannot spoil.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use adamant::builder::{Options, build, publish_empty};
use adamant::claims::Requirement;
use adamant::client::Client;
use adamant::daemon::{Config, Listening, Loader, run as serve};
use adamant::store::Home;
use adamant::token::{Digest, Token};
use adamant::verdict::Verdict;
use anyhow::{Context, ensure};
use tokio::sync::oneshot;

use crate::floors::ping_pong;
use crate::index::Random;
use crate::report::{Figure, Report};
use crate::{Settings, machine};

const BATCH: usize = 1024;
const PIPELINED: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn run(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    let records = settings.records[0];
    let folder = tempfile::tempdir()?;
    let (home, tokens) = make_home(folder.path(), records)?;
    let socket = folder.path().join("socket");
    let daemon = Daemon::start(&home, &socket)?;
    report.section(&format!(
        "Questions over a Unix socket, {records} tokens, client and daemon on two cores"
    ));
    let bare = ping_pong(settings, [0, 1])?;
    let mut asking = Asking::new(&socket, tokens)?;
    let mut single = Vec::new();
    let mut rates = [const { Vec::new() }; 3];
    let mut costs = [const { Vec::new() }; 3];
    for _ in 0..settings.rounds {
        single.push(asking.one_at_a_time_us(settings)?);
        let ways: [fn(&mut Asking, usize) -> anyhow::Result<usize>; 3] =
            [Asking::pipelined, Asking::batches, Asking::raw_tokens];
        for (way, ask) in ways.iter().enumerate() {
            let cpu = machine::thread_cpu_s("worker-");
            let began = Instant::now();
            let asked = ask(&mut asking, settings.lookups)? as f64;
            rates[way].push(asked / began.elapsed().as_secs_f64() / 1e6);
            costs[way].push((machine::thread_cpu_s("worker-") - cpu) * 1e9 / asked);
        }
    }
    report.base("floor: bare ping-pong", "us", &bare);
    report.figure("one question at a time", "us", &Figure::of(single), ("floor", &bare));
    let alone = Figure::of(vec![1.0 / bare.median()]);
    report.base("floor: ping-pongs", "M/s", &alone);
    let names = ["64 pipelined questions", "batches of 1,024 digests", "batches of raw tokens"];
    for ((name, rate), cost) in names.iter().zip(rates).zip(costs) {
        report.figure(
            &format!("{name}, one client"),
            "M keys/s",
            &Figure::of(rate),
            ("floor", &alone),
        );
        report.base("    processor time of the daemon", "ns/key", &Figure::of(cost));
    }
    daemon.stop()
}

/// A home with `records` tokens, of which some are kept as text.
fn make_home(folder: &Path, records: usize) -> anyhow::Result<(Home, Vec<Token>)> {
    let home = Home::init(&folder.join("home"), "bench".parse()?, "bench/adamant")?;
    publish_empty(&home)?;
    let kept: Vec<Token> = (0..records.min(100_000))
        .map(|_| Token::mint("bench".parse()?, "live".parse()?).context("no randomness"))
        .collect::<anyhow::Result<_>>()?;
    let mut list = Vec::new();
    for token in &kept {
        writeln!(list, "{{\"token\":\"{}\"}}", token.expose())?;
    }
    let mut random = Random::new(3);
    for number in kept.len()..records {
        let digest = blake3::Hash::from_bytes(random.digest());
        writeln!(list, "{{\"digest\":\"{digest}\",\"id\":\"{number:014}\",\"kind\":\"live\"}}")?;
    }
    build(&home, &mut &list[..], &Options::default(), &mut |_| {})?;
    Ok((home, kept))
}

/// A daemon on a thread of this process, so that its workers' processor time can be read.
struct Daemon {
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<anyhow::Result<()>>,
}

impl Daemon {
    fn start(home: &Home, socket: &Path) -> anyhow::Result<Daemon> {
        let config = Config::new(home.store().root(), home.policy_path(), home.state());
        let loader = Loader::start(config)?;
        loader.check()?;
        let path = socket.to_owned();
        let listener = std::os::unix::net::UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
            runtime.block_on(async {
                let listener = tokio::net::UnixListener::from_std(listener)?;
                let listening = vec![Listening { socket: path, listener }];
                serve(listening, Vec::new(), loader, async { drop(stopped.await) }).await
            })?;
            Ok(())
        });
        Ok(Daemon { stop, thread })
    }

    fn stop(self) -> anyhow::Result<()> {
        drop(self.stop);
        self.thread.join().expect("the daemon does not panic")
    }
}

struct Asking {
    client: Client,
    tokens: Vec<Token>,
    digests: Vec<Digest>,
    random: Random,
}

impl Asking {
    fn new(socket: &Path, tokens: Vec<Token>) -> anyhow::Result<Asking> {
        let client = Client::with_timeout(socket, TIMEOUT)?;
        let key = client.domain().context("no domain")?.key;
        let digests = tokens.iter().map(|token| token.digest(&key)).collect();
        Ok(Asking { client, tokens, digests, random: Random::new(5) })
    }

    /// Half of them are in the table.
    fn draw(&mut self, count: usize) -> Vec<Digest> {
        let draw = |at: usize| match at % 2 {
            0 => self.digests[self.random.below(self.digests.len())],
            _ => self.random.digest(),
        };
        (0..count).map(draw).collect()
    }

    fn one_at_a_time_us(&mut self, settings: &Settings) -> anyhow::Result<f64> {
        let asked = self.draw(settings.questions);
        let need = Requirement::any();
        let began = Instant::now();
        for (at, digest) in asked.iter().enumerate() {
            let batch = self.client.verify_digests(std::slice::from_ref(digest), &need)?;
            check(at, batch.rows[0].verdict)?;
        }
        Ok(began.elapsed().as_secs_f64() * 1e6 / asked.len() as f64)
    }

    fn pipelined(&mut self, count: usize) -> anyhow::Result<usize> {
        let need = Requirement::any();
        let rounds = (count / PIPELINED / 10).max(1);
        for _ in 0..rounds {
            let mut pipeline = self.client.pipeline();
            for _ in 0..PIPELINED {
                let at = self.random.below(self.tokens.len());
                pipeline.push(self.tokens[at].expose().as_bytes(), &need);
            }
            ensure!(pipeline.run()?.iter().all(|answer| answer.is_valid()), "a wrong answer");
        }
        Ok(rounds * PIPELINED)
    }

    fn batches(&mut self, count: usize) -> anyhow::Result<usize> {
        let rounds = (count / BATCH).max(1);
        let asked = self.draw(rounds * BATCH);
        for batch in asked.chunks(BATCH) {
            let rows = self.client.verify_digests(batch, &Requirement::any())?.rows;
            rows.iter().enumerate().try_for_each(|(at, row)| check(at, row.verdict))?;
        }
        Ok(asked.len())
    }

    fn raw_tokens(&mut self, count: usize) -> anyhow::Result<usize> {
        let rounds = (count / BATCH / 4).max(1);
        for _ in 0..rounds {
            let batch: Vec<&[u8]> = (0..BATCH)
                .map(|_| self.random.below(self.tokens.len()))
                .map(|at| self.tokens[at].expose().as_bytes())
                .collect();
            let rows = self.client.verify_tokens_raw(&batch, &Requirement::any())?.rows;
            ensure!(rows.iter().all(|row| row.verdict == Verdict::Valid), "a wrong answer");
        }
        Ok(rounds * BATCH)
    }
}

/// As drawn: what is in the table and what is not alternate.
fn check(at: usize, verdict: Verdict) -> anyhow::Result<()> {
    let expected = if at.is_multiple_of(2) { Verdict::Valid } else { Verdict::Unknown };
    ensure!(verdict == expected, "{verdict}, expected {expected}");
    Ok(())
}
