//! Whether a manifest may be served: the checks that need no table, in the order of their worth.
//!
//! Pure: bytes, policy, marks and a clock in, a manifest or the reason against it out. So the same
//! judge serves the daemon's loading, its judging anew of what it serves, `verify-store`, and the
//! builder.

use crate::manifest::{FileHash, Manifest, ManifestError, hex};
use crate::note::{Note, NoteError};
use crate::policy::{Policy, Role};
use crate::signers::VerifierKey;
use crate::store::{Mark, Marks};
use crate::time::to_rfc3339;

/// How far `issued` may lie ahead of this host's clock.
const AHEAD_S_MAX: i64 = 300;

/// A manifest that the policy accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What it says.
    pub manifest: Manifest,
    /// Its identity.
    pub hash: FileHash,
    /// Those of its signers that are trusted.
    pub signers: Vec<VerifierKey>,
    /// Its life has ended. What that means is for the policy's `stale` to say, and for nobody who
    /// only builds upon it.
    pub expired: bool,
}

impl Judged {
    /// The mark to store when it is accepted.
    pub fn mark(&self) -> Mark {
        let Manifest { epoch, generation, .. } = self.manifest;
        Mark { epoch, generation, hash: self.hash }
    }
}

/// Judges the bytes of a manifest that is to be served.
pub fn judge(
    note: &[u8],
    policy: &Policy,
    marks: &Marks,
    now_unix_s: i64,
) -> Result<Judged, Refusal> {
    let judged = judge_again(note, policy, marks, now_unix_s)?;
    check_marks(&judged, policy, marks, now_unix_s)?;
    Ok(judged)
}

/// Judges what was accepted before, under the policy as it is now. The marks say nothing against
/// it: on the host that publishes they may already be those of its successor.
pub fn judge_again(
    note: &[u8],
    policy: &Policy,
    marks: &Marks,
    now_unix_s: i64,
) -> Result<Judged, Refusal> {
    let judged = read(note, policy, marks, now_unix_s)?;
    let Manifest { epoch, generation, .. } = judged.manifest;
    if epoch != policy.epoch {
        return Err(Refusal::Epoch { found: epoch, policy: policy.epoch });
    }
    if generation < policy.generation_floor {
        return Err(Refusal::Floor { found: generation, floor: policy.generation_floor });
    }
    Ok(judged)
}

/// Judges a manifest that is only to be built upon. It may be of an earlier epoch, since the first
/// generation of an epoch follows the last one before it.
pub fn judge_previous(
    note: &[u8],
    policy: &Policy,
    marks: &Marks,
    now_unix_s: i64,
) -> Result<Judged, Refusal> {
    let judged = read(note, policy, marks, now_unix_s)?;
    if judged.manifest.epoch > policy.epoch {
        return Err(Refusal::Epoch { found: judged.manifest.epoch, policy: policy.epoch });
    }
    check_marks(&judged, policy, marks, now_unix_s)?;
    Ok(judged)
}

/// What is asked of every manifest.
fn read(note: &[u8], policy: &Policy, marks: &Marks, now_unix_s: i64) -> Result<Judged, Refusal> {
    check_policy(policy, marks)?;
    let hash = *blake3::hash(note).as_bytes();
    let note = Note::parse(note)?;
    let trusted = policy.trusted(Role::Build, now_unix_s);
    let (text, signers) = note.verify(trusted)?;
    let signers: Vec<VerifierKey> = signers.into_iter().cloned().collect();
    let manifest = Manifest::parse(text, &policy.origin)?;
    let ahead_s = manifest.issued - now_unix_s;
    if ahead_s > AHEAD_S_MAX {
        return Err(Refusal::FromTheFuture { issued: manifest.issued, ahead_s });
    }
    let lifetime_s = manifest.expires - manifest.issued;
    if lifetime_s <= 0 || lifetime_s > policy.lifetime_s_max {
        return Err(Refusal::Lifetime { lifetime_s, lifetime_s_max: policy.lifetime_s_max });
    }
    let expired = now_unix_s >= manifest.expires;
    Ok(Judged { manifest, hash, signers, expired })
}

/// A signer whose mark is held may leave the policy only together with its epoch: otherwise its
/// mark would be forgotten, and with it the protection against what it signed before.
fn check_policy(policy: &Policy, marks: &Marks) -> Result<(), Refusal> {
    for (key, mark) in marks.iter() {
        let named = policy.signers.iter().any(|signer| signer.key == *key);
        if !named && mark.epoch >= policy.epoch {
            let (name, epoch) = (key.name().to_owned(), mark.epoch);
            return Err(Refusal::PolicyDropsSigner { name, epoch });
        }
    }
    Ok(())
}

/// Not older than the highest mark of all signers that are trusted now, and of its number the one
/// that was accepted.
fn check_marks(
    judged: &Judged,
    policy: &Policy,
    marks: &Marks,
    now_unix_s: i64,
) -> Result<(), Refusal> {
    let trusted: Vec<&VerifierKey> = policy.trusted(Role::Build, now_unix_s).collect();
    let Some(mark) = marks.highest(trusted.into_iter()) else { return Ok(()) };
    let Manifest { epoch, generation, .. } = judged.manifest;
    if (epoch, generation) < (mark.epoch, mark.generation) {
        return Err(Refusal::Rollback { found: generation, mark: mark.generation });
    }
    if (epoch, generation) == (mark.epoch, mark.generation) && judged.hash != mark.hash {
        return Err(Refusal::Replaced { generation, accepted: hex(&mark.hash) });
    }
    Ok(())
}

/// Why a manifest is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Not a note, forged, or signed by nobody who is trusted.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The signed text is not a revocations note.
    #[error("not a revocations note of this deployment")]
    NotRevocations,
    /// The manifest asks for a later revocations note than this host has.
    #[error(
        "it asks for revocations note {least} or a later one, and this host has {found}: fetch `revocations` as well"
    )]
    WithoutRevocations {
        /// The least sequence.
        least: u64,
        /// The one that is here; 0 for none.
        found: u64,
    },
    /// The signed text is not a manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Of another epoch than the policy's.
    #[error("epoch {found}, the policy asks for epoch {policy}")]
    Epoch {
        /// The manifest's.
        found: u64,
        /// The policy's.
        policy: u64,
    },
    /// Below the policy's floor.
    #[error("generation {found} is below the policy's floor of {floor}")]
    Floor {
        /// The manifest's.
        found: u64,
        /// The policy's.
        floor: u64,
    },
    /// Older than what this host accepted before.
    #[error(
        "generation {found} is older than generation {mark}, which this host accepted before: a rollback, or a restored backup"
    )]
    Rollback {
        /// The manifest's.
        found: u64,
        /// The host's mark.
        mark: u64,
    },
    /// Another manifest with a generation that was accepted.
    #[error(
        "generation {generation} was accepted as manifest {accepted}; this is another one of the same number"
    )]
    Replaced {
        /// The generation.
        generation: u64,
        /// The manifest that this host accepted.
        accepted: String,
    },
    /// Dated ahead of this host's clock.
    #[error("issued {}, {ahead_s} s ahead of this host's clock: one of the two clocks is wrong", to_rfc3339(*.issued))]
    FromTheFuture {
        /// Unix seconds.
        issued: i64,
        /// How far ahead.
        ahead_s: i64,
    },
    /// Valid for longer than the policy allows, or not at all.
    #[error("lives {lifetime_s} s, the policy allows 1 to {lifetime_s_max}")]
    Lifetime {
        /// From issued to expires.
        lifetime_s: i64,
        /// The policy's cap.
        lifetime_s_max: i64,
    },
    /// Its life has ended, and the policy refuses what is stale.
    #[error("expired {}: publish a new generation, or set `stale = \"serve-flagged\"` in the policy to serve on", to_rfc3339(*.at))]
    Expired {
        /// Unix seconds.
        at: i64,
    },
    /// The policy leaves out a signer whose mark this host holds.
    #[error(
        "the policy no longer names {name}, whose mark of epoch {epoch} this host holds: raise the policy's epoch above it, or name the signer with a `valid_until`"
    )]
    PolicyDropsSigner {
        /// The signer.
        name: String,
        /// Its mark's epoch.
        epoch: u64,
    },
}
