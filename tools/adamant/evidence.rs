//! `adamant evidence`: all that shows what became of one token, in one file, for somebody who has
//! neither the store nor this program.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::PathBuf;

use adamant::ledger::CHECKPOINT;
use adamant::manifest::hex;
use adamant::store::{Home, now_unix_s};
use adamant::time::to_rfc3339;
use anyhow::Context;

use crate::exit;
use crate::ledger::{self, parse_id};
use crate::prove::{in_words, prove};

/// The verifier that shares no code with this program.
const SECOND_VERIFIER: &str = include_str!("../verify_evidence.py");

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The home
    #[arg(long, env = "ADAMANT_HOME")]
    home: PathBuf,
    /// The id of the token
    #[arg(long)]
    token: String,
    /// Where to write the archive, a tar file
    #[arg(long)]
    out: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let id = parse_id(&arguments.token)?;
    let home = Home::open(&arguments.home)?;
    let history = ledger::open(&home)?.history(&id)?;
    let failed = || format!("cannot write {}", arguments.out.display());
    let file = File::create(&arguments.out).with_context(failed)?;
    let mut archive = tar::Builder::new(BufWriter::new(file));
    let mut summary = format!(
        "Evidence about token {id} of {}, {}\n\n",
        home.policy().origin,
        to_rfc3339(now_unix_s())
    );
    let state = history.state().name(now_unix_s());
    summary.push_str(&format!("The token is {state}. What happened to it:\n\n"));
    let mut checkpoint = Vec::new();
    for (index, event) in &history.events {
        let proof = prove(&home, *index)?;
        checkpoint.clone_from(&proof.checkpoint);
        add(&mut archive, &format!("proofs/{index}.tlog-proof"), &proof.to_bytes())?;
        summary.push_str(&format!("  event {index}  {}\n", in_words(event)));
    }
    let previous = home.current()?;
    if let Some(previous) = previous {
        let manifest = &previous.judged.manifest;
        summary.push_str(&format!(
            "\nGeneration {} is current: manifest {}, made from {} events.\n",
            manifest.generation,
            hex(&previous.judged.hash),
            manifest.ledger.0
        ));
    }
    summary.push_str(EXPLAINED);
    let policy = std::fs::read(home.policy_path())?;
    add(&mut archive, CHECKPOINT, &checkpoint)?;
    add(&mut archive, "policy.toml", &policy)?;
    add(&mut archive, "summary.txt", summary.as_bytes())?;
    add(&mut archive, "verify_evidence.py", SECOND_VERIFIER.as_bytes())?;
    archive.into_inner().with_context(failed)?.into_inner().with_context(failed)?.sync_all()?;
    say!("{} events proven in {}", history.events.len(), arguments.out.display())?;
    Ok(exit::OK)
}

const EXPLAINED: &str = "
How to check it: each file under proofs/ holds an event, its place in the ledger, and a checkpoint
that the ledger's signer signed. `python3 verify_evidence.py THIS-FILE --key KEY` checks them all;
take KEY, and the verifier, from where you trust them, and not from this archive.

What it shows: that these events are in the ledger of the checkpoint. What it does not: that the
ledger has no other events about the token (`adamant audit STORE` shows that), or that nobody was
shown another ledger (compare checkpoints, or ask a witness).
";

fn add(archive: &mut tar::Builder<BufWriter<File>>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(u64::try_from(now_unix_s()).unwrap_or(0));
    archive.append_data(&mut header, name, bytes)
}
