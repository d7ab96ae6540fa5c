//! One token's life, with a ledger: issued, rotated with an overlap, dead on time; and each step
//! proven by this program and by the second verifier, which shares no code with it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use adamant::claims::Requirement;
use adamant::client::Client;
use adamant::verdict::Verdict;
use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::process::{Daemon, adamant};
use super::{TIMEOUT, say};

const SECOND_VERIFIER: &str = include_str!("../../verify_evidence.py");
const OVERLAP: &str = "2s";

pub(super) fn tell(folder: &Path) -> anyhow::Result<()> {
    let (home, socket) = (folder.join("life"), folder.join("life.sock"));
    say("adamant init HOME --prefix acme");
    adamant(&["init".as_ref(), home.as_ref(), "--prefix".as_ref(), "acme".as_ref()])?;
    let daemon = Daemon::start(&home, &socket)?;
    let mut life = Life { home, client: Client::with_timeout(&socket, TIMEOUT)? };

    let began = Instant::now();
    let options = ["--kind", "live", "--scope", "orders:read", "--expires", "90d"];
    let old = life.run("issue", &options)?;
    life.wait_for(&old, Verdict::Valid)?;
    println!("  valid over the socket {:.1} ms after the command began", ms(began));
    let began = Instant::now();
    let new = life.run("rotate", &[id(&old), "--overlap", OVERLAP])?;
    life.wait_for(&new, Verdict::Valid)?;
    ensure!(life.verdict(&old)? == Verdict::Valid, "the old token died before its time");
    println!("  the old token and the new one are both valid");
    life.wait_for(&old, Verdict::Revoked)?;
    println!(
        "  the old one is dead {:.1} s later, the new one lives",
        began.elapsed().as_secs_f64()
    );
    ensure!(life.verdict(&new)? == Verdict::Valid, "the new token died with the old one");

    life.prove(folder, "issued", &old)?;
    life.prove(folder, "issued", &new)?;
    life.prove(folder, "revoked", &old)?;
    say("adamant audit HOME --policy HOME/policy.toml");
    let policy = life.home.join("policy.toml");
    let said =
        adamant(&["audit".as_ref(), life.home.as_ref(), "--policy".as_ref(), policy.as_ref()])?;
    println!("  {}", said.lines().next().unwrap_or_default());
    daemon.stop()
}

struct Life {
    home: PathBuf,
    client: Client,
}

impl Life {
    /// Runs a command that prints a token.
    fn run(&self, command: &str, options: &[&str]) -> anyhow::Result<String> {
        say(&format!("adamant {command}"));
        let mut arguments: Vec<&OsStr> = vec![command.as_ref(), "--json".as_ref()];
        arguments.extend(["--home".as_ref(), self.home.as_os_str()]);
        arguments.extend(options.iter().map(OsStr::new));
        let said: Value = serde_json::from_str(&adamant(&arguments)?)?;
        Ok(said["token"].as_str().context("no token was printed")?.to_owned())
    }

    fn verdict(&mut self, token: &str) -> anyhow::Result<Verdict> {
        Ok(self.client.verify(token.as_bytes(), &Requirement::any())?.verdict())
    }

    fn wait_for(&mut self, token: &str, wanted: Verdict) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.verdict(token)? != wanted {
            ensure!(began.elapsed() < TIMEOUT, "{} never was {wanted}", id(token));
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn prove(&self, folder: &Path, about: &str, token: &str) -> anyhow::Result<()> {
        let (proof, policy) = (folder.join("proof"), self.home.join("policy.toml"));
        adamant(&[
            "prove".as_ref(),
            about.as_ref(),
            id(token).as_ref(),
            "--home".as_ref(),
            self.home.as_ref(),
            "--out".as_ref(),
            proof.as_ref(),
        ])?;
        let pinned: [&OsStr; 2] = ["--policy".as_ref(), policy.as_ref()];
        adamant(&[&["verify-proof".as_ref(), proof.as_os_str()], &pinned[..]].concat())?;
        let script = folder.join("verify_evidence.py");
        fs::write(&script, SECOND_VERIFIER)?;
        let by = match Command::new("python3").arg(&script).arg(&proof).args(pinned).output() {
            Ok(output) if output.status.success() => "by both verifiers",
            Ok(output) => bail!("the second verifier: {}", String::from_utf8_lossy(&output.stdout)),
            Err(_) => "(python3 is not installed: by one verifier)",
        };
        println!("  proven {by}: {} was {about}", id(token));
        Ok(())
    }
}

/// The public part of a token.
fn id(token: &str) -> &str {
    &token[token.len() - 50..token.len() - 36]
}

fn ms(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}
