//! A generation that was named on the command line: a store, a home, or a manifest in one of them.

use std::path::{Path, PathBuf};

use adamant::manifest::Manifest;
use adamant::note::Note;
use adamant::policy::Stale;
use adamant::store::{
    Generation, Judged, Marks, Refusal, Store, StoreError, judge, load_policy, now_unix_s,
    read_note,
};

/// A generation, verified to the last byte, and the signers that the policy trusts of those who
/// signed it; none without a policy.
pub(crate) struct Opened {
    pub(crate) generation: Generation,
    pub(crate) signers: Vec<String>,
    pub(crate) store: PathBuf,
}

/// Opens what `path` names, as `policy` judges it, or as it says of itself.
pub(crate) fn open(path: &Path, policy: Option<&Path>) -> anyhow::Result<Opened> {
    let (store, manifest) = if path.is_file() {
        (Store::of_manifest(path), path.to_owned())
    } else {
        let is_home = path.join("store").is_dir();
        let store = Store::at(if is_home { path.join("store") } else { path.to_owned() });
        let manifest = store.manifest_path();
        (store, manifest)
    };
    let note = read_note(&manifest)?;
    let note = note.ok_or_else(|| StoreError::NoManifest { path: store.root().to_owned() })?;
    let refused = |source| StoreError::Refused { path: manifest.clone(), source };
    let judged = match policy {
        Some(policy) => {
            let policy = load_policy(policy)?;
            let judged = judge(&note, &policy, &Marks::default(), now_unix_s()).map_err(refused)?;
            if judged.expired && policy.stale == Stale::Refuse {
                return Err(refused(Refusal::Expired { at: judged.manifest.expires }).into());
            }
            judged
        }
        None => unpinned(&note).map_err(refused)?,
    };
    let generation = store.open(&judged)?;
    let signers = judged.signers.iter().map(|key| key.name().to_owned()).collect();
    Ok(Opened { generation, signers, store: store.root().to_owned() })
}

/// What the manifest says, whoever signed it.
fn unpinned(note: &[u8]) -> Result<Judged, Refusal> {
    let hash = *blake3::hash(note).as_bytes();
    let note = Note::parse(note)?;
    let text = note.unverified_text();
    let origin = text.lines().next().and_then(|line| line.strip_suffix("/manifest"));
    let manifest = Manifest::parse(text, origin.unwrap_or_default())?;
    let expired = now_unix_s() >= manifest.expires;
    Ok(Judged { manifest, hash, signers: Vec::new(), expired })
}
