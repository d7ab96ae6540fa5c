//! `adamant prove` and `adamant verify-proof`: an event, shown to somebody who has nothing else.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use adamant::audit::witnesses_of;
use adamant::ledger::{
    Checkpoint, Event, PROOF_BYTES_MAX, Proof, Proven, Tiles, What, read_checkpoint,
};
use adamant::policy::Role;
use adamant::signers::VerifierKey;
use adamant::store::{Home, load_policy};
use adamant::time::to_rfc3339;
use anyhow::Context;
use serde_json::{Value, json};

use crate::ledger::{self, parse_id};
use crate::{exit, output};

/// What is to be proven about a token.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum About {
    /// That it was issued, with which claims
    Issued,
    /// That its trust ended, or will
    Revoked,
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What is to be proven
    about: About,
    /// The id of the token
    id: String,
    /// The home
    #[arg(long, env = "ADAMANT_HOME")]
    home: PathBuf,
    /// Where to write the proof; standard output if it is not said
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let id = parse_id(&arguments.id)?;
    let home = Home::open(&arguments.home)?;
    let history = ledger::open(&home)?.history(&id)?;
    let is_wanted = |event: &Event| match arguments.about {
        About::Issued => matches!(event.what, What::Issue(_)),
        About::Revoked => matches!(event.what, What::Revoke { .. }),
    };
    let found = history.events.iter().rev().find(|(_, event)| is_wanted(event));
    let Some((index, _)) = found else {
        return Err(exit::Data(format!(
            "token {id} was never revoked, so there is nothing to prove"
        ))
        .into());
    };
    let proof = prove(&home, *index)?.to_bytes();
    match &arguments.out {
        Some(path) => {
            fs::write(path, proof).with_context(|| format!("cannot write {}", path.display()))?
        }
        None => io::stdout().write_all(&proof).context(output::UNWRITABLE)?,
    }
    Ok(exit::OK)
}

/// Proves one event under the current checkpoint.
pub(crate) fn prove(home: &Home, index: u64) -> anyhow::Result<Proof> {
    let folder = home.store().ledger();
    let note = read_checkpoint(&folder)?.context("the home has no ledger")?;
    let checkpoint = Checkpoint::open_unverified(&note)?;
    Ok(Proof::of(index, &mut Tiles::new(&folder, checkpoint.size), note)?)
}

#[derive(clap::Args)]
pub(crate) struct VerifyArguments {
    /// The proof
    file: PathBuf,
    /// The policy that says who signs checkpoints
    #[arg(long, conflicts_with = "key")]
    policy: Option<PathBuf>,
    /// The verifier key of who signs checkpoints
    #[arg(long)]
    key: Option<VerifierKey>,
}

pub(crate) fn verify(arguments: &VerifyArguments, json: bool) -> anyhow::Result<u8> {
    let path = &arguments.file;
    let read = || format!("cannot read {}", path.display());
    if fs::metadata(path).with_context(read)?.len() > PROOF_BYTES_MAX as u64 {
        return Err(exit::Data(format!("{}: larger than a proof", path.display())).into());
    }
    let bytes = fs::read(path).with_context(read)?;
    let refused = |err| {
        let err: adamant::ledger::ProofError = err;
        anyhow::Error::new(err).context(exit::Data(format!("{}: refused", path.display())))
    };
    let proof = Proof::parse(&bytes).map_err(refused)?;
    let proven = match (&arguments.policy, &arguments.key) {
        (Some(policy), _) => {
            let policy = load_policy(policy)?;
            let witnesses = witnesses_of(&proof.checkpoint, &policy);
            if witnesses < policy.witnesses_min {
                let why = format!(
                    "{}: {witnesses} witnesses have cosigned its checkpoint, the policy asks for {}",
                    path.display(),
                    policy.witnesses_min
                );
                return Err(exit::Data(why).into());
            }
            let keys = policy.signers.iter().filter(|signer| signer.roles.contains(&Role::Ledger));
            proof.verify(keys.map(|signer| &signer.key))
        }
        (None, Some(key)) => proof.verify([key]),
        (None, None) => proof.verify_unpinned(),
    };
    let proven = proven.map_err(refused)?;
    let is_pinned = arguments.policy.is_some() || arguments.key.is_some();
    report(&proven, is_pinned, json)?;
    Ok(exit::OK)
}

fn report(proven: &Proven, is_pinned: bool, json: bool) -> anyhow::Result<()> {
    let Proven { event, index, checkpoint } = proven;
    if json {
        let mut entry = Vec::new();
        event.encode(&mut entry);
        let leaf: Value = serde_json::from_slice(&entry).map_err(io::Error::other)?;
        return output::json(&json!({
            "proven": true, "event": leaf, "index": index, "origin": checkpoint.origin,
            "size": checkpoint.size, "pinned": is_pinned,
        }));
    }
    say!("proven: event {index} of the {} of {}", checkpoint.size, checkpoint.origin)?;
    say!("  {}", in_words(event))?;
    if !is_pinned {
        say!("self-consistent, signers not pinned: say --policy FILE or --key KEY")?;
    }
    Ok(())
}

/// An event in plain words.
pub(crate) fn in_words(event: &Event) -> String {
    let when = to_rfc3339(event.time);
    let by = &event.origin.actor;
    match &event.what {
        What::Issue(issued) => {
            let grant = &issued.grant;
            let mut said =
                format!("{when}: token {} issued by {by}, kind {}", issued.id, grant.kind);
            if !grant.audience.is_empty() {
                said.push_str(&format!(", audience {}", grant.audience));
            }
            if !grant.scopes.is_empty() {
                said.push_str(&format!(", scopes {}", grant.scopes.join(" ")));
            }
            match issued.expires {
                Some(at) => said.push_str(&format!(", expires {}", to_rfc3339(at))),
                None => said.push_str(", never expires"),
            }
            if let Some(old) = issued.predecessor {
                said.push_str(&format!(", in the place of {old}"));
            }
            said
        }
        What::Revoke { id, at, reason, successor, .. } => {
            let then = if *at <= event.time {
                "at once".to_owned()
            } else {
                format!("from {} on", to_rfc3339(*at))
            };
            let for_whom = successor.map_or_else(String::new, |new| format!(", for {new}"));
            format!("{when}: token {id} revoked by {by} {then}, reason {}{for_whom}", reason.name())
        }
        What::Erase { id, .. } => format!("{when}: who token {id} is for was erased by {by}"),
        What::Publish { epoch, generation, manifest } => format!(
            "{when}: generation {generation} of epoch {epoch} published, manifest {}",
            adamant::manifest::hex(manifest)
        ),
        What::SignerAdded { key, roles } => {
            format!("{when}: signer {key} added for {}", roles.join(", "))
        }
        What::SignerRetired { key, at } => {
            format!("{when}: signer {key} retires at {}", to_rfc3339(*at))
        }
        _ => format!("{when}: {}", event.type_name()),
    }
}
