//! `adamant demo`: the whole story in a minute, with the real commands and a real daemon.
//!
//! It exits 0 only if every step did what it says: the answers are compared with what is known
//! about each token, and one that is wrong or missing fails the demo.

mod clients;
mod life;
mod process;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use adamant::claims::Requirement;
use adamant::client::Client;
use adamant::store::now_unix_s;
use adamant::time::to_rfc3339;
use adamant::verdict::Verdict;
use anyhow::{Context, ensure};
use serde_json::Value;

use crate::exit;
use crate::output::thousands;
use clients::{Clients, Tally};
use process::{Daemon, adamant, adamant_fed};

const CLIENTS: usize = 4;
/// How long the clients ask before the new generation is published, and after.
const STEADY: Duration = Duration::from_millis(1500);
const BATCH: usize = 1024;
const BATCHES: usize = 2000;
/// Far more than any answer takes, so that a busy machine does not fail the demo.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many tokens to issue
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..))]
    count: u64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let began = Instant::now();
    println!("One token's life, in a ledger");
    life::tell(folder.path())?;
    println!("\nA release pipeline: a token list, a hundred thousand tokens, a swap under load");
    let story = Story::begin(folder.path(), arguments.count)?;
    let daemon = Daemon::start(&story.home, &story.socket)?;
    story.answers()?;
    story.swap()?;
    story.throughput()?;
    daemon.stop()?;
    println!(
        "\nAll of it held. {:.1} s, and nothing is left behind.",
        began.elapsed().as_secs_f64()
    );
    Ok(exit::OK)
}

/// What the demo knows while it runs. Tokens stay in memory.
struct Story {
    home: PathBuf,
    list: PathBuf,
    socket: PathBuf,
    /// Valid until the demo revokes the first of them.
    tokens: Vec<String>,
    expired: String,
    revoked: String,
}

impl Story {
    fn begin(folder: &Path, count: u64) -> anyhow::Result<Story> {
        let (home, list) = (folder.join("home"), folder.join("tokens.ndjson"));
        say("adamant init HOME --prefix acme");
        adamant(&["init".as_ref(), home.as_ref(), "--prefix".as_ref(), "acme".as_ref()])?;

        let began = Instant::now();
        let issue = |count: &str, expires: &str| {
            adamant(&[
                "issue".as_ref(),
                "--home".as_ref(),
                home.as_ref(),
                "--kind".as_ref(),
                "live".as_ref(),
                "--subject".as_ref(),
                "customer-42".as_ref(),
                "--scope".as_ref(),
                "orders:read".as_ref(),
                "--expires".as_ref(),
                expires.as_ref(),
                "--count".as_ref(),
                count.as_ref(),
                "--list".as_ref(),
                list.as_ref(),
            ])
        };
        say("adamant issue --count N --list tokens.ndjson");
        let tokens: Vec<String> =
            issue(&count.to_string(), "90d")?.lines().map(str::to_owned).collect();
        let expired = issue("1", "2021-01-01T00:00:00Z")?.trim_end().to_owned();
        let revoked = issue("1", "90d")?.trim_end().to_owned();
        revoke_last(&list)?;
        ensure!(tokens.len() as u64 == count, "{} tokens issued, not {count}", tokens.len());
        println!("  {} tokens, {:.2} s", thousands(count + 2), began.elapsed().as_secs_f64());

        let story =
            Story { home, list, socket: folder.join("adamant.sock"), tokens, expired, revoked };
        say("adamant build --from tokens.ndjson");
        let began = Instant::now();
        let built = story.build()?;
        println!(
            "  generation {}: {} tokens, sorted, indexed and signed, {:.2} s",
            built["generation"],
            thousands(built["records"].as_u64().unwrap_or(0)),
            began.elapsed().as_secs_f64()
        );
        Ok(story)
    }

    fn build(&self) -> anyhow::Result<Value> {
        let list = fs::read(&self.list)?;
        let said = adamant_fed(
            &[
                "build".as_ref(),
                "--json".as_ref(),
                "--home".as_ref(),
                self.home.as_ref(),
                "--from".as_ref(),
                "-".as_ref(),
            ],
            &list,
        )?;
        serde_json::from_str(&said).context("build does not say JSON")
    }

    /// One token of each sort.
    fn answers(&self) -> anyhow::Result<()> {
        say("adamant verify");
        let mut client = Client::with_timeout(&self.socket, TIMEOUT)?;
        let unknown = self.unknown()?;
        let mistyped = mistype(&self.tokens[0]);
        let need = Requirement::any().scope("orders:read");
        let more = Requirement::any().scope("orders:write");
        for (what, token, need, expected) in [
            ("a valid token", &self.tokens[0], &need, Verdict::Valid),
            ("one that was never issued here", &unknown, &need, Verdict::Unknown),
            ("one with a typing error", &mistyped, &need, Verdict::Malformed),
            ("an expired one", &self.expired, &need, Verdict::Expired),
            ("a revoked one", &self.revoked, &need, Verdict::Revoked),
            (
                "a valid one, for a scope it lacks",
                &self.tokens[0],
                &more,
                Verdict::InsufficientScope,
            ),
        ] {
            let found = client.verify(token.as_bytes(), need)?.verdict();
            println!("  {what:<34} {found}");
            ensure!(found == expected, "{what}: {found}, should be {expected}");
        }
        Ok(())
    }

    /// A well-formed token of this deployment that is in no list.
    fn unknown(&self) -> anyhow::Result<String> {
        let (prefix, kind) = ("acme".parse()?, "live".parse()?);
        Ok(adamant::token::Token::mint(prefix, kind)?.expose().to_owned())
    }

    /// Revokes one token while all clients ask without pause.
    fn swap(&self) -> anyhow::Result<()> {
        let victim = 0;
        println!(
            "\n{CLIENTS} clients ask without pause; one token is revoked in the next generation"
        );
        let before = self.generation()?;
        let clients = Clients::start(CLIENTS, &self.socket, &self.tokens, victim, before)?;
        clients.go_on_for(STEADY)?;
        revoke_first(&self.list)?;
        let published = Instant::now();
        let built = self.build()?;
        let built_in = published.elapsed();
        let told = clients.wait_for_swap(TIMEOUT)?;
        clients.go_on_for(STEADY)?;
        let Tally { before: asked_before, after, failed, wrong, last_valid, first_revoked } =
            clients.stop()?;
        println!(
            "  generation {before}                       {:>10} answers",
            thousands(asked_before)
        );
        println!("  `adamant build`, start to published  {:>8.1} ms", built_in.as_secs_f64() * 1e3);
        println!(
            "  start to the first answer from it    {:>8.1} ms  <- the swap",
            told.duration_since(published).as_secs_f64() * 1e3
        );
        println!(
            "  generation {}                       {:>10} answers",
            built["generation"],
            thousands(after)
        );
        println!(
            "  the token: last `valid` in generation {last_valid}, first `revoked` in {first_revoked}"
        );
        println!("  {failed} failed, {wrong} wrong");
        ensure!(failed == 0 && wrong == 0, "{failed} failed, {wrong} wrong");
        ensure!(asked_before > 0 && after > 0, "the clients did not ask on both sides of the swap");
        ensure!(
            built["generation"].as_u64() == Some(first_revoked) && last_valid == before,
            "the revocation is not where the generation is"
        );
        Ok(())
    }

    fn generation(&self) -> anyhow::Result<u64> {
        let status = Client::with_timeout(&self.socket, TIMEOUT)?.status()?;
        let status: Value = serde_json::from_str(&status)?;
        status["generation"].as_u64().context("the daemon says no generation")
    }

    fn throughput(&self) -> anyhow::Result<()> {
        println!("\nThroughput of one client, on this machine, which the client shares");
        let mut client = Client::with_timeout(&self.socket, TIMEOUT)?;
        let need = Requirement::any();
        let key = client.domain().context("no domain")?.key;
        let digests: Vec<_> =
            self.tokens.iter().skip(1).map(|t| key.digest(t.as_bytes())).collect();
        let began = Instant::now();
        let mut asked = 0_u64;
        for batch in digests.chunks_exact(BATCH.min(digests.len())).cycle().take(BATCHES) {
            let rows = client.verify_digests(batch, &need)?.rows;
            ensure!(
                rows.iter().all(|row| row.verdict == Verdict::Valid),
                "a batch has a wrong answer"
            );
            asked += rows.len() as u64;
        }
        let rate = asked as f64 / began.elapsed().as_secs_f64();
        println!("  batches of {BATCH}: {:.1} million verdicts a second", rate / 1e6);
        Ok(())
    }
}

fn say(command: &str) {
    println!("$ {command}");
    let _ = std::io::stdout().flush();
}

fn revoke_first(list: &Path) -> anyhow::Result<()> {
    edit_line(list, |lines| lines.first_mut())
}

fn revoke_last(list: &Path) -> anyhow::Result<()> {
    edit_line(list, |lines| lines.last_mut())
}

/// Writes a time of revocation into one line of a list.
fn edit_line(
    list: &Path,
    choose: impl for<'l> Fn(&'l mut Vec<String>) -> Option<&'l mut String>,
) -> anyhow::Result<()> {
    let mut lines: Vec<String> = fs::read_to_string(list)?.lines().map(str::to_owned).collect();
    let line = choose(&mut lines).context("the list is empty")?;
    let mut token: Value = serde_json::from_str(line)?;
    token["revoked_at"] = to_rfc3339(now_unix_s()).into();
    token["reason"] = "compromised".into();
    *line = token.to_string();
    lines.push(String::new());
    fs::write(list, lines.join("\n"))?;
    Ok(())
}

/// Another character in the middle of the secret.
fn mistype(token: &str) -> String {
    let at = token.len() - 20;
    let other = if token.as_bytes()[at] == b'x' { "y" } else { "x" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}
