//! Checks a store as somebody does who trusts neither the operator nor this program's other parts:
//! every leaf, every tile, every law, every generation that was published, and every record of the
//! tables that are current.
//!
//! What it needs is in the store. A policy adds whose signatures count; a checkpoint that was kept
//! from an earlier day shows that nothing was taken back since.
//!
//! Read `laws.rs` for what events may say, `tables.rs` for what tables may.

mod laws;
mod tables;

use std::fs;
use std::path::Path;

use crate::ledger::tree::{consistency_proof, root, verify_consistency};
use crate::ledger::{
    CHECKPOINT, Checkpoint, Finding, LedgerError, Openings, Tiles, check_tree, read_checkpoint,
};
use crate::manifest::{FileHash, Manifest, hex, parse_hash};
use crate::note::Note;
use crate::policy::{Policy, Role};
use crate::revocations::RevocationsNote;
use crate::store::{Store, StoreError, judge_revocations, read_note};

use laws::Laws;

/// Findings that are kept; more are only counted.
pub const FINDINGS_MAX: usize = 50;

/// What an audit saw.
#[derive(Debug, Default)]
pub struct Report {
    /// What is wrong, and where.
    pub findings: Vec<Finding>,
    /// How many findings there were.
    pub count: u64,
    /// The checkpoint that all of it is about.
    pub checkpoint: Option<Checkpoint>,
    /// Events of each type.
    pub events: Vec<(&'static str, u64)>,
    /// Tokens that were issued.
    pub tokens: u64,
    /// Manifests that were checked against the event of their publication.
    pub manifests: u64,
    /// Records of the current tables that were compared with the events.
    pub records: u64,
    /// What was not checked, and why.
    pub unchecked: Vec<String>,
}

impl Report {
    fn find(&mut self, finding: Finding) {
        self.count += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

/// What an auditor brings along.
#[derive(Default)]
pub struct Means<'a> {
    /// Whose signatures count.
    pub policy: Option<&'a Policy>,
    /// A checkpoint that was kept from before.
    pub kept: Option<&'a [u8]>,
    /// What opens the commitments, where the auditor has it.
    pub openings: Option<Openings>,
}

/// Audits the store.
pub fn audit(store: &Store, means: &Means<'_>) -> Result<Report, StoreError> {
    let mut report = Report::default();
    let folder = store.ledger();
    let Some(note) = read_checkpoint(&folder)? else {
        return Err(LedgerError::Io {
            action: "read",
            path: folder.join(CHECKPOINT),
            source: std::io::ErrorKind::NotFound.into(),
        }
        .into());
    };
    let checkpoint = match open_checkpoint(&note, means.policy) {
        Ok(checkpoint) => checkpoint,
        Err(said) => {
            report.find(format!("the checkpoint is refused: {said}"));
            return Ok(report);
        }
    };
    if means.policy.is_none() {
        report.unchecked.push("signers are not pinned: say --policy FILE".to_owned());
    }
    let mut tiles = Tiles::new(&folder, checkpoint.size);
    match means.kept {
        Some(kept) => check_kept(kept, means.policy, &checkpoint, &mut tiles, &mut report),
        None => report.unchecked.push(
            "whether entries were taken back since an earlier checkpoint: keep the checkpoint of \
             today, and say --checkpoint FILE tomorrow"
                .to_owned(),
        ),
    }
    let mut laws = Laws::default();
    let mut findings = Vec::new();
    let mut law_findings = Vec::new();
    check_tree(
        &tiles,
        &checkpoint.root,
        &mut |index, entry| laws.take(index, entry, &mut |finding| law_findings.push(finding)),
        &mut |finding| findings.push(finding),
    );
    laws.finish(&mut |finding| law_findings.push(finding));
    findings.into_iter().chain(law_findings).for_each(|finding| report.find(finding));
    report.events = laws.events();
    report.tokens = laws.tokens();
    check_manifests(store, means.policy, &laws, &mut tiles, &mut report);
    check_revocations(store, means.policy, &laws, &mut report);
    let is_whole = report.count == 0;
    match current(store, means.policy) {
        Ok(Some((manifest, _))) if is_whole => {
            let (epoch, generation) = laws.last_published();
            if (manifest.epoch, manifest.generation) < (epoch, generation) {
                report.find(format!(
                    "the current manifest is generation {}, and generation {generation} was published: a rollback",
                    manifest.generation
                ));
            }
            tables::check(store, &manifest, &tiles, means, &mut report)?;
        }
        Ok(Some(_)) => report
            .unchecked
            .push("the tables, since the ledger that they are made from is damaged".to_owned()),
        Ok(None) => report.unchecked.push("tables: there is no manifest".to_owned()),
        Err(said) => report.find(said),
    }
    check_witnesses(&note, means.policy, &mut report);
    report.checkpoint = Some(checkpoint);
    Ok(report)
}

fn open_checkpoint(note: &[u8], policy: Option<&Policy>) -> Result<Checkpoint, String> {
    match policy {
        Some(policy) => {
            // Whoever was trusted at any time may have signed what is old.
            let keys = policy.signers.iter().filter(|s| s.roles.contains(&Role::Ledger));
            let checkpoint = Checkpoint::open(note, keys.map(|signer| &signer.key));
            checkpoint.map_err(|err| err.to_string())
        }
        None => Checkpoint::open_unverified(note).map_err(|err| err.to_string()),
    }
}

/// So many witnesses of the policy have cosigned as it asks for.
fn check_witnesses(note: &[u8], policy: Option<&Policy>, report: &mut Report) {
    let count = policy.map_or(0, |policy| witnesses_of(note, policy));
    let least = policy.map_or(0, |policy| policy.witnesses_min);
    if count < least {
        report.find(format!(
            "{count} witnesses have cosigned the checkpoint, the policy asks for {least}"
        ));
    }
    if count == 0 {
        report.unchecked.push(
            "whether somebody else was shown another ledger: no outside witness has cosigned it"
                .to_owned(),
        );
    }
}

/// How many witnesses of the policy have cosigned a checkpoint.
pub fn witnesses_of(checkpoint: &[u8], policy: &Policy) -> u32 {
    let keys = policy.signers.iter().filter(|signer| signer.roles.contains(&Role::Witness));
    let note = Note::parse(checkpoint).ok();
    let signed = note.as_ref().and_then(|note| note.verify(keys.map(|signer| &signer.key)).ok());
    signed.map_or(0, |(_, witnesses)| u32::try_from(witnesses.len()).unwrap_or(u32::MAX))
}

/// What was shown before is the beginning of what is shown now.
fn check_kept(
    kept: &[u8],
    policy: Option<&Policy>,
    now: &Checkpoint,
    tiles: &mut Tiles,
    report: &mut Report,
) {
    let before = match open_checkpoint(kept, policy) {
        Ok(before) => before,
        Err(said) => return report.find(format!("the kept checkpoint is refused: {said}")),
    };
    if before.origin != now.origin {
        return report.find(format!("the kept checkpoint is of {}", before.origin));
    }
    if before.size > now.size {
        return report.find(format!(
            "the ledger was cut: it has {} entries, and had {} when the checkpoint was kept",
            now.size, before.size
        ));
    }
    let holds = consistency_proof(before.size, now.size, tiles).is_ok_and(|proof| {
        let (old, new) = ((before.size, &before.root), (now.size, &now.root));
        verify_consistency(old, new, &proof)
    });
    if !holds {
        report.find(format!(
            "two histories: the first {} entries are not those that the kept checkpoint covers",
            before.size
        ));
    }
}

/// The revocations note: signed by its signer, with the list that it names; every earlier list
/// that is kept is held by it; and what the ledger has not absorbed yet.
fn check_revocations(store: &Store, policy: Option<&Policy>, laws: &Laws, report: &mut Report) {
    let Ok(Some(bytes)) = read_note(&store.revocations_path()) else { return };
    let parsed = match policy {
        Some(policy) => judge_revocations(&bytes, policy).map(|(note, _)| note).ok(),
        None => Note::parse(&bytes).ok().and_then(|note| {
            let text = note.unverified_text();
            let origin = text.lines().next()?.strip_suffix("/revocations")?;
            RevocationsNote::parse(text, origin)
        }),
    };
    let Some(note) = parsed else {
        return report.find("the revocations note is refused".to_owned());
    };
    let Some(list) = store.read_revocations_of(&note.hash) else {
        return report.find("the list of the revocations note is missing, or damaged".to_owned());
    };
    let names = fs::read_dir(store.tables()).into_iter().flatten().flatten();
    for name in names.map(|entry| entry.file_name().to_string_lossy().into_owned()) {
        let Some(hash) = name.strip_suffix(".rev").and_then(parse_hash) else { continue };
        if hash == note.hash {
            continue;
        }
        let earlier = store.read_revocations_of(&hash);
        if earlier.is_some_and(|earlier| list.forgets(&earlier).is_some()) {
            report.find(format!(
                "revocations note {} forgets a token that {} revokes",
                note.sequence,
                short(&hash)
            ));
        }
    }
    let pending = laws.pending(&list);
    if pending > 0 {
        report.unchecked.push(format!(
            "{pending} revocations of note {} are pending: the ledger has not absorbed them",
            note.sequence
        ));
    }
}

/// The current manifest with its identity.
fn current(
    store: &Store,
    policy: Option<&Policy>,
) -> Result<Option<(Manifest, FileHash)>, Finding> {
    let note = store.read_manifest().map_err(|err| err.to_string())?;
    let Some(bytes) = note else { return Ok(None) };
    let manifest = read_manifest(&bytes, policy)
        .map_err(|said| format!("the current manifest is refused: {said}"))?;
    Ok(Some((manifest, *blake3::hash(&bytes).as_bytes())))
}

fn read_manifest(bytes: &[u8], policy: Option<&Policy>) -> Result<Manifest, String> {
    let note = Note::parse(bytes).map_err(|err| err.to_string())?;
    let text = match policy {
        Some(policy) => {
            let keys = policy.signers.iter().filter(|s| s.roles.contains(&Role::Build));
            let verified = note.verify(keys.map(|signer| &signer.key));
            verified.map_err(|err| err.to_string())?.0
        }
        None => note.unverified_text(),
    };
    let origin = text.lines().next().and_then(|line| line.strip_suffix("/manifest"));
    Manifest::parse(text, origin.unwrap_or_default()).map_err(|err| err.to_string())
}

/// Every manifest that is kept: named by its bytes, of a root that the ledger has, and, unless it
/// is the current one, published by an event.
fn check_manifests(
    store: &Store,
    policy: Option<&Policy>,
    laws: &Laws,
    tiles: &mut Tiles,
    report: &mut Report,
) {
    let mut paths: Vec<_> = match fs::read_dir(store.manifests()) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_) => Vec::new(),
    };
    paths.sort();
    paths.push(store.manifest_path());
    let pending = pending(store, laws);
    let mut seen: Vec<FileHash> = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let named = parse_hash(&name);
        let Ok(Some(bytes)) = read_note(&path) else { continue };
        let hash = *blake3::hash(&bytes).as_bytes();
        if seen.contains(&hash) || (named.is_none() && name != "manifest") {
            continue;
        }
        seen.push(hash);
        report.manifests += 1;
        if named.is_some_and(|named| named != hash) {
            report.find(format!("manifests/{name}: its bytes are not those that its name says"));
            continue;
        }
        match read_manifest(&bytes, policy) {
            Err(said) => report.find(format!("{}: {said}", place(store, &path))),
            Ok(manifest) => {
                let unpublished = !laws.has_published(&hash) && !pending.contains(&hash);
                let finding = unpublished.then(|| {
                    let generation = manifest.generation;
                    format!("generation {generation} was signed, and no event says that it was published")
                });
                for finding in finding.into_iter().chain(wrong_root(&manifest, tiles)) {
                    report.find(format!("{}: {finding}", place(store, &path)));
                }
            }
        }
    }
    let gone = laws.published().filter(|hash| !seen.contains(hash)).count();
    if gone > 0 {
        report
            .unchecked
            .push(format!("{gone} generations that were published and are not kept here"));
    }
    if !pending.is_empty() {
        report.unchecked.push(format!(
            "the publication of the last {} generations, which becomes an event with the next one",
            pending.len()
        ));
    }
}

/// The current manifest, and those before it that no event has published yet.
fn pending(store: &Store, laws: &Laws) -> Vec<FileHash> {
    let mut pending = Vec::new();
    let mut next = store.read_manifest().ok().flatten();
    while let Some(bytes) = next {
        let hash = *blake3::hash(&bytes).as_bytes();
        if laws.has_published(&hash) || pending.contains(&hash) {
            break;
        }
        pending.push(hash);
        let previous = read_manifest(&bytes, None).ok().and_then(|manifest| manifest.previous);
        next = previous.and_then(|hash| store.read_manifest_of(&hash).ok().flatten());
    }
    pending
}

fn wrong_root(manifest: &Manifest, tiles: &mut Tiles) -> Option<Finding> {
    let (size, claimed) = manifest.ledger;
    if size > tiles.size() {
        let has = tiles.size();
        return Some(format!("it is made from {size} entries, and the ledger has {has}"));
    }
    match root(size, tiles) {
        Ok(root) if root == claimed => None,
        Ok(_) => Some(format!("it names another root of the first {size} entries")),
        Err(err) => Some(err.to_string()),
    }
}

fn place(store: &Store, path: &Path) -> String {
    path.strip_prefix(store.root()).unwrap_or(path).display().to_string()
}

/// As [`hex`], for findings.
fn short(hash: &FileHash) -> String {
    hex(hash)[..16].to_owned()
}
