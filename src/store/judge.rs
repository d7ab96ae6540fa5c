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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ledger::tree::EMPTY_ROOT;
    use crate::manifest::TableLine;
    use crate::note::sign;
    use crate::policy::{Stale, TrustedSigner};
    use crate::signers::Signer;
    use crate::token::{Domain, DomainKey};

    /// The hour of every test, Unix seconds.
    const NOW: i64 = 1_795_582_800;
    const DAY_S: i64 = 86_400;

    fn signer(name: &str) -> Signer {
        Signer::generate(name).unwrap()
    }

    fn trusts(signers: &[&Signer]) -> Policy {
        let trusted = |signer: &&Signer| TrustedSigner {
            key: signer.verifier_key(),
            roles: vec![Role::Build],
            valid_from: None,
            valid_until: None,
        };
        Policy {
            origin: "acme/adamant".to_owned(),
            domain: Domain {
                key: DomainKey([0xAB; 32]),
                prefix: "acme".parse().unwrap(),
                foreign: None,
            },
            epoch: 5,
            generation_floor: 10,
            stale: Stale::Refuse,
            lifetime_s_max: 7 * DAY_S,
            witnesses_min: 0,
            signers: signers.iter().map(trusted).collect(),
        }
    }

    /// One that is good: of epoch 5, generation 20, issued now for a day.
    fn good() -> Manifest {
        Manifest {
            origin: "acme/adamant".to_owned(),
            epoch: 5,
            generation: 20,
            tables: vec![TableLine {
                hash: [0xAA; 32],
                bytes: 4096,
                records: 3,
                range: (0, 0),
                subjects_hash: [0xBB; 32],
                subjects_bytes: 4100,
            }],
            issued: NOW,
            expires: NOW + DAY_S,
            ledger: (0, EMPTY_ROOT),
            previous: None,
            revocations: 0,
        }
    }

    fn marked(signer: &Signer, epoch: u64, generation: u64) -> Marks {
        let state = tempfile::tempdir().unwrap();
        let mark = Mark { epoch, generation, hash: [7; 32] };
        Marks::record(state.path(), &[(signer.verifier_key(), mark)]).unwrap()
    }

    /// What is said of a manifest that differs from the good one by `change`, where no mark is held.
    fn changed(change: impl FnOnce(&mut Manifest)) -> Result<Judged, Refusal> {
        let ours = signer("a");
        let mut manifest = good();
        change(&mut manifest);
        let note = sign(&manifest.to_text(), &[&ours]);
        judge(note.as_bytes(), &trusts(&[&ours]), &Marks::default(), NOW)
    }

    #[test]
    fn a_good_manifest_is_accepted_as_it_is() {
        let (ours, theirs) = (signer("a"), signer("b"));
        let note = sign(&good().to_text(), &[&ours, &theirs]);
        let judged = judge(note.as_bytes(), &trusts(&[&ours]), &Marks::default(), NOW).unwrap();
        let hash = *blake3::hash(note.as_bytes()).as_bytes();
        assert_eq!(judged.manifest, good());
        assert_eq!(judged.hash, hash);
        assert_eq!(judged.signers, [ours.verifier_key()]);
        assert!(!judged.expired);
        assert_eq!(judged.mark(), Mark { epoch: 5, generation: 20, hash });
    }

    #[test]
    fn a_clock_may_be_five_minutes_off() {
        let ahead = |by_s| changed(|manifest| manifest.issued = NOW + by_s);
        assert!(ahead(AHEAD_S_MAX).is_ok());
        let (issued, ahead_s) = (NOW + AHEAD_S_MAX + 1, AHEAD_S_MAX + 1);
        assert_eq!(ahead(AHEAD_S_MAX + 1), Err(Refusal::FromTheFuture { issued, ahead_s }));
    }

    #[test]
    fn a_life_is_of_one_second_to_the_most_that_the_policy_allows() {
        let lives = |lifetime_s| changed(|manifest| manifest.expires = NOW + lifetime_s);
        for lifetime_s in [1, 7 * DAY_S] {
            assert!(lives(lifetime_s).is_ok(), "{lifetime_s}");
        }
        for lifetime_s in [-1, 0, 7 * DAY_S + 1] {
            let refused = Refusal::Lifetime { lifetime_s, lifetime_s_max: 7 * DAY_S };
            assert_eq!(lives(lifetime_s), Err(refused));
        }
    }

    #[test]
    fn a_life_ends_with_its_second() {
        let ended = |at_s| {
            let judged = changed(|manifest| (manifest.issued, manifest.expires) = (NOW - 9, at_s));
            judged.unwrap().expired
        };
        assert!(!ended(NOW + 1));
        assert!(ended(NOW));
        assert!(ended(NOW - 1));
    }

    #[test]
    fn the_epoch_is_that_of_the_policy_and_the_floor_is_in() {
        for found in [4, 6] {
            let refused = changed(|manifest| manifest.epoch = found);
            assert_eq!(refused, Err(Refusal::Epoch { found, policy: 5 }));
        }
        assert!(changed(|manifest| manifest.generation = 10).is_ok());
        let refused = changed(|manifest| manifest.generation = 9);
        assert_eq!(refused, Err(Refusal::Floor { found: 9, floor: 10 }));
    }

    /// The first generation of an epoch follows the last one before it, and no floor holds it.
    #[test]
    fn what_is_built_upon_may_be_of_an_earlier_epoch() {
        let ours = signer("a");
        let policy = trusts(&[&ours]);
        let previous = |epoch, generation, marks: &Marks| {
            let note = sign(&Manifest { epoch, generation, ..good() }.to_text(), &[&ours]);
            judge_previous(note.as_bytes(), &policy, marks, NOW)
        };
        for epoch in [4, 5] {
            assert!(previous(epoch, 3, &Marks::default()).is_ok(), "epoch {epoch}");
        }
        let refused = previous(6, 30, &Marks::default());
        assert_eq!(refused, Err(Refusal::Epoch { found: 6, policy: 5 }));
        let refused = previous(5, 20, &marked(&ours, 5, 21));
        assert_eq!(refused, Err(Refusal::Rollback { found: 20, mark: 21 }));
    }

    #[test]
    fn nothing_is_older_than_the_highest_mark_of_who_is_trusted() {
        let (ours, other, gone) = (signer("a"), signer("b"), signer("c"));
        let policy = trusts(&[&ours, &other]);
        let note = sign(&good().to_text(), &[&ours]);
        let against =
            |marks: &Marks| judge(note.as_bytes(), &policy, marks, NOW).map(|judged| judged.hash);
        // By epoch first, then by generation; the other signer's mark counts as well.
        for marks in [marked(&ours, 4, 99), marked(&ours, 5, 19), marked(&other, 5, 19)] {
            assert!(against(&marks).is_ok(), "{marks:?}");
        }
        let rollback = |mark| Err(Refusal::Rollback { found: 20, mark });
        assert_eq!(against(&marked(&ours, 5, 21)), rollback(21));
        assert_eq!(against(&marked(&other, 5, 21)), rollback(21));
        assert_eq!(against(&marked(&ours, 6, 1)), rollback(1));
        // A signer of an earlier epoch that is not trusted any more locks nobody out.
        assert!(against(&marked(&gone, 4, 99)).is_ok());

        // What was accepted before is not held to the marks, which may be its successor's.
        let again = judge_again(note.as_bytes(), &policy, &marked(&ours, 5, 21), NOW);
        assert!(again.is_ok());
    }

    #[test]
    fn of_one_number_only_what_was_accepted_is() {
        let ours = signer("a");
        let policy = trusts(&[&ours]);
        let note = sign(&good().to_text(), &[&ours]);
        let state = tempfile::tempdir().unwrap();
        let judged = judge(note.as_bytes(), &policy, &Marks::default(), NOW).unwrap();
        let marks = Marks::record(state.path(), &[(ours.verifier_key(), judged.mark())]).unwrap();
        assert_eq!(judge(note.as_bytes(), &policy, &marks, NOW), Ok(judged));
        let refused = judge(note.as_bytes(), &policy, &marked(&ours, 5, 20), NOW);
        let accepted = "07".repeat(32);
        assert_eq!(refused, Err(Refusal::Replaced { generation: 20, accepted }));
    }

    #[test]
    fn a_signer_leaves_the_policy_with_its_epoch_only() {
        let (ours, dropped) = (signer("a"), signer("b"));
        let note = sign(&good().to_text(), &[&ours]);
        let with_mark_of = |epoch, policy: &Policy| {
            judge_again(note.as_bytes(), policy, &marked(&dropped, epoch, 1), NOW)
        };
        let policy = trusts(&[&ours]);
        assert!(with_mark_of(4, &policy).is_ok());
        for epoch in [5, 6] {
            let name = "b".to_owned();
            let refused = Err(Refusal::PolicyDropsSigner { name, epoch });
            assert_eq!(with_mark_of(epoch, &policy), refused);
        }
        // Named is enough: it may be named with a time that has passed, and its mark is kept.
        let mut named = trusts(&[&ours, &dropped]);
        named.signers[1].valid_until = Some(NOW - 1);
        assert!(with_mark_of(5, &named).is_ok());
    }

    /// Each check is met by a manifest that also fails all that come after it, so the first one
    /// that is broken is the one that is said.
    #[test]
    fn the_first_reason_in_the_order_of_worth_is_the_one_that_is_given() {
        let (ours, stranger) = (signer("a"), signer("c"));
        let marks = marked(&ours, 5, 99);
        let worst = Manifest {
            origin: "other/adamant".to_owned(),
            epoch: 4,
            generation: 9,
            issued: NOW + AHEAD_S_MAX + 1,
            expires: NOW,
            ..good()
        };
        let of = |manifest: &Manifest, signer: &Signer, policy: &Policy| {
            let note = sign(&manifest.to_text(), &[signer]);
            judge(note.as_bytes(), policy, &marks, NOW).unwrap_err()
        };
        let policy = trusts(&[&ours]);
        let refused = of(&worst, &stranger, &trusts(&[]));
        assert!(matches!(refused, Refusal::PolicyDropsSigner { .. }), "{refused}");
        let refused = of(&worst, &stranger, &policy);
        assert!(matches!(refused, Refusal::Note(NoteError::UnknownSigners { .. })), "{refused}");
        let refused = of(&worst, &ours, &policy);
        assert!(matches!(refused, Refusal::Manifest(ManifestError::Origin { .. })), "{refused}");
        let worst = Manifest { origin: "acme/adamant".to_owned(), ..worst };
        let refused = of(&worst, &ours, &policy);
        assert!(matches!(refused, Refusal::FromTheFuture { .. }), "{refused}");
        let worst = Manifest { issued: NOW, ..worst };
        let refused = of(&worst, &ours, &policy);
        assert!(matches!(refused, Refusal::Lifetime { .. }), "{refused}");
        let worst = Manifest { expires: NOW + DAY_S, ..worst };
        assert_eq!(of(&worst, &ours, &policy), Refusal::Epoch { found: 4, policy: 5 });
        let worst = Manifest { epoch: 5, ..worst };
        assert_eq!(of(&worst, &ours, &policy), Refusal::Floor { found: 9, floor: 10 });
        let worst = Manifest { generation: 98, ..worst };
        assert_eq!(of(&worst, &ours, &policy), Refusal::Rollback { found: 98, mark: 99 });
        let last = Manifest { generation: 99, ..worst };
        assert!(matches!(of(&last, &ours, &policy), Refusal::Replaced { generation: 99, .. }));
    }
}
