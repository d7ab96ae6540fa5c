//! `adamant diff A B`: what lies between two generations, and whether one may follow the other.

use std::path::PathBuf;

use adamant::store::Succession;
use serde_json::json;

use crate::output::thousands;
use crate::{exit, generation, output};

/// Exits 0 when B may follow A by the laws, and dies within `--max-revoked`; else 65. For
/// pipelines: a release that this refuses, every daemon would refuse.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What is served: a store, a home, or a manifest
    before: PathBuf,
    /// What is to be served
    after: PathBuf,
    /// The policy that says whose signature counts
    #[arg(long)]
    policy: Option<PathBuf>,
    /// Refuse it when more tokens than this are revoked, or scheduled to be, or sooner
    #[arg(long, value_name = "N")]
    max_revoked: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<u8> {
    let policy = arguments.policy.as_deref();
    let before = generation::open(&arguments.before, policy)?.generation;
    let after = generation::open(&arguments.after, policy)?.generation;
    let found = Succession::between(&before, &after);
    let too_many = arguments.max_revoked.is_some_and(|max| found.revoked > max);
    let (from, to) = (&before.manifest, &after.manifest);
    let goes_back = (to.epoch, to.generation) < (from.epoch, from.generation);
    let named: Vec<String> = found.first.iter().map(ToString::to_string).collect();
    if json {
        output::json(&json!({
            "before": { "epoch": from.epoch, "generation": from.generation },
            "after": { "epoch": to.epoch, "generation": to.generation },
            "added": found.added,
            "revoked": found.revoked,
            "left": found.left,
            "violations": found.violations,
            "first_violations": named,
            "goes_back": goes_back,
        }))?;
    } else {
        say!("generation {} -> {}", from.generation, to.generation)?;
        say!("  added    {}", thousands(found.added))?;
        say!("  revoked  {}", thousands(found.revoked))?;
        say!("  left     {}", thousands(found.left))?;
        for violation in &named {
            say!("  broken   {violation}")?;
        }
    }
    if found.violations > 0 {
        let count = thousands(found.violations);
        tell!(
            "adamant: refused: {count} tokens break a law; no daemon that serves the first would serve the second"
        );
    }
    if goes_back {
        tell!("adamant: refused: the second is the older generation");
    }
    if too_many {
        tell!(
            "adamant: refused: {} tokens are revoked, more than --max-revoked",
            thousands(found.revoked)
        );
    }
    let refused = found.violations > 0 || too_many || goes_back;
    Ok(if refused { exit::DATA } else { exit::OK })
}
