//! New bases under load: generations that were built before, each of which trusts less than the one
//! before it, become current one after the other while clients ask. No request may fail, no answer
//! may be one that no generation gives, and how much slower the slowest become is measured.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use adamant::builder::{Options, build};
use adamant::verdict::Verdict;
use adamant::wire::{Reply, cut_frame};
use anyhow::{Context, ensure};
use serde_json::Value;

use crate::homes::{self, List};
use crate::keys::{Keys, Random};
use crate::programs::{Daemon, PATIENCE, connect};
use crate::report::{Fact, Figure, Report};
use crate::settings::Settings;
use crate::socket::frames;
use crate::socket::open_loop::{self, Outcome};
use crate::socket::talk::{Pool, Protocol, Script, Shape, percentile_us};

/// Requests a second of the client that is measured, and of the one that asks batches beside it.
const SINGLES_RATE: f64 = 2000.0;
const BATCHES_RATE: f64 = 200.0;
const BATCH: usize = 1024;
/// Bytes on disk of a token in one generation.
const MADE_BYTES: u64 = 110;

/// How much is rotated.
struct Plan {
    bases: usize,
    every: Duration,
}

pub(crate) fn run(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    let records = settings.sizes.rotate;
    let plan = match settings.is_quick {
        true => Plan { bases: 3, every: Duration::from_millis(500) },
        false => Plan { bases: 6, every: Duration::from_secs(5) },
    };
    report.section(&format!(
        "A new base every {:.1} s under load, {records} tokens, {} bases, {SINGLES_RATE} single \
         requests and {BATCHES_RATE} batches of {BATCH} a second",
        plan.every.as_secs_f64(),
        plan.bases
    ));
    let needed = records as u64 * MADE_BYTES;
    let disk = needed * (plan.bases as u64 + 2);
    if let Some(why) = settings.leaves_out(records, 4 * needed, disk) {
        report.note(&format!("not measured: {why}"));
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let keys = Keys::new(13, records);
    let prepared = Prepared::make(folder.path(), &keys, plan.bases)?;
    let daemon = prepared.serve(folder.path())?;
    let (steady, rotated) = measure(&plan, &prepared, &daemon, &Pool::Derived(keys))?;
    for percent in [50.0, 99.0, 99.9] {
        let of = |outcome: &Outcome| Figure::once(percentile_us(&outcome.times, percent));
        let (steady, rotated) = (of(&steady), of(&rotated));
        report.base(&format!("one request, p{percent}, steady"), "us", &steady);
        let name = format!("one request, p{percent}, while bases change");
        let times = report.figure(&name, "us", &rotated, ("steady", &steady));
        if percent > 99.0 {
            report.fact(Fact::RotateOverSteady, times);
        }
    }
    let failed = (steady.failed + rotated.failed) as f64;
    report.base("requests that failed", "", &Figure::once(failed));
    report.fact(Fact::RotateFailed, failed);
    Ok(())
}

/// The steady state, before and after, so that a machine that becomes busier is in both; and what
/// lies between.
fn measure(
    plan: &Plan,
    prepared: &Prepared,
    daemon: &Daemon,
    pool: &Pool,
) -> anyhow::Result<(Outcome, Outcome)> {
    let half = plan.every * u32::try_from(plan.bases)? / 2;
    let rest = || -> anyhow::Result<()> {
        thread::sleep(half);
        Ok(())
    };
    let mut steady = load(daemon, pool, rest)?;
    let rotated = load(daemon, pool, || prepared.rotate(daemon, plan.every))?;
    let after = load(daemon, pool, rest)?;
    steady.times.add(&after.times)?;
    steady.failed += after.failed;
    Ok((steady, rotated))
}

/// A home whose manifests were taken away one by one, oldest first.
struct Prepared {
    home: PathBuf,
    manifests: Vec<PathBuf>,
}

impl Prepared {
    fn make(folder: &Path, keys: &Keys, bases: usize) -> anyhow::Result<Prepared> {
        let path = folder.join("home");
        let home = homes::init(&path)?;
        let mut manifests = Vec::new();
        for number in 0..=bases {
            // So many more are revoked each time. Few enough to need nobody's consent.
            let revoked = number * keys.count() / 1000;
            build(
                &home,
                &mut List::of_keys(keys, revoked, false),
                &Options::default(),
                &mut |_| {},
            )?;
            let manifest = folder.join(format!("manifest-{number}"));
            fs::copy(path.join("store/manifest"), &manifest)?;
            manifests.push(manifest);
        }
        Ok(Prepared { home: path, manifests })
    }

    /// Makes the manifest of that number the current one.
    fn publish(&self, number: usize) -> anyhow::Result<()> {
        // Renamed, since a reader may be at the old one; and the prepared one is kept.
        let new = self.home.join("store/manifests/next");
        fs::copy(&self.manifests[number], &new)?;
        Ok(fs::rename(new, self.home.join("store/manifest"))?)
    }

    /// A daemon at the first of them, as on a host that has seen none.
    fn serve(&self, folder: &Path) -> anyhow::Result<Daemon> {
        self.publish(0)?;
        let state = folder.join("state");
        fs::create_dir(&state)?;
        let (store, policy) = (self.home.join("store"), self.home.join("policy.toml"));
        let arguments: [&OsStr; 6] = [
            "--store".as_ref(),
            store.as_os_str(),
            "--policy".as_ref(),
            policy.as_os_str(),
            "--state".as_ref(),
            state.as_os_str(),
        ];
        let daemon = Daemon::spawn(&arguments, "")?;
        connect(&daemon.socket())?;
        Ok(daemon)
    }

    /// Each of the others in turn, and each is served before the next.
    fn rotate(&self, daemon: &Daemon, every: Duration) -> anyhow::Result<()> {
        let mut client = connect(&daemon.socket())?;
        let mut generation = move || -> anyhow::Result<u64> {
            let status: Value = serde_json::from_str(&client.status()?)?;
            status["generation"].as_u64().context("a generation")
        };
        for number in 1..self.manifests.len() {
            let before = generation()?;
            self.publish(number)?;
            thread::sleep(every);
            let mut waited = Duration::ZERO;
            while generation()? == before {
                ensure!(waited < PATIENCE, "base {number} was never served");
                thread::sleep(every / 10);
                waited += every / 10;
            }
        }
        Ok(())
    }
}

/// What clients see at a fixed rate while `act` runs.
fn load(
    daemon: &Daemon,
    pool: &Pool,
    act: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Outcome> {
    let protocol: Arc<dyn Protocol> = Arc::new(frames::Digests);
    let script = |keys, turns| {
        Script::make(&protocol, pool, &mut Random::new(1), Shape { requests: 1, keys }, turns)
    };
    let (singles, batches) = (script(1, 4096)?, script(BATCH, 16)?);
    let stop = AtomicBool::new(false);
    let connect = || -> anyhow::Result<UnixStream> {
        let mut stream = UnixStream::connect(daemon.socket())?;
        frames::greet(&mut stream)?;
        Ok(stream)
    };
    let (mut one, mut other) = (connect()?, connect()?);
    let ask = |stream, script: &Script, rate| {
        let check = |turn: usize, answer: &[u8]| is_answer(script, turn, answer);
        open_loop::ask(stream, script, rate, &stop, check)
    };
    thread::scope(|scope| {
        let singles = scope.spawn(|| ask(&mut one, &singles, SINGLES_RATE));
        let batches = scope.spawn(|| ask(&mut other, &batches, BATCHES_RATE));
        let acted = act();
        stop.store(true, Ordering::Relaxed);
        let join = "no client panics";
        let (mut outcome, beside) = (singles.join().expect(join)?, batches.join().expect(join)?);
        outcome.failed += beside.failed;
        acted.map(|()| outcome)
    })
}

/// What is stored is valid, or revoked by now; what is not stored is unknown.
fn is_answer(script: &Script, turn: usize, answer: &[u8]) -> bool {
    let Ok(Some((body, _))) = cut_frame(answer) else { return false };
    let Ok(Reply::Verdicts(verdicts)) = Reply::decode(body) else { return false };
    verdicts.rows.zip(script.keys_of(turn)).all(|(row, is_hit)| match row.verdict {
        Verdict::Valid | Verdict::Revoked => is_hit,
        Verdict::Unknown => !is_hit,
        _ => false,
    })
}
