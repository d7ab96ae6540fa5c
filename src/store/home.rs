//! The folder that does not travel: policy, private keys, marks, and the store.
//!
//! ```text
//! HOME/
//!   policy.toml      public
//!   signers/         private keys, 0600
//!   private/         for the ledger: openings, indexes
//!   state/           marks, locks
//!   store/           see the module above
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::judge::{Judged, judge, judge_previous};
use super::publish::Previous;
use super::{Marks, Store, StoreError};
use crate::durable::{self, Lock};
use crate::ledger::tree::{self, EMPTY_ROOT};
use crate::ledger::{
    CHECKPOINT, Checkpoint, LedgerError, Openings, SUFFIX, Tiles, Writer, read_checkpoint,
};
use crate::manifest::Manifest;
use crate::note::Note;
use crate::policy::{LIFETIME_DAYS_DEFAULT, Policy, Role, Stale, TrustedSigner};
use crate::signers::Signer;
use crate::time::{EPOCH_UNIX_S, TableTime};
use crate::token::{Domain, DomainKey, Prefix};

/// A home on the host that issues.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
    policy: Policy,
}

impl Home {
    /// Makes a home with a new domain key and a new build signer. Publishes nothing.
    pub fn init(root: &Path, prefix: Prefix, origin: &str) -> Result<Home, StoreError> {
        if policy_path(root).exists() {
            return Err(StoreError::HomeExists { path: root.to_owned() });
        }
        let folders = [("signers", 0o700), ("private", 0o700), ("state", 0o700)];
        durable::create_folder(root, 0o755)?;
        for (name, mode) in folders {
            durable::create_folder(&root.join(name), mode)?;
        }
        for name in ["store", "store/tables", "store/manifests"] {
            durable::create_folder(&root.join(name), 0o755)?;
        }
        let signers = root.join("signers");
        let failed = |source| StoreError::Signer { path: signers.clone(), source };
        let mut trusted = Vec::new();
        for role in [Role::Build, Role::Ledger, Role::Revoke] {
            let signer = Signer::generate(&format!("{origin}/{role}")).map_err(failed)?;
            let name = format!("{role}.key");
            durable::write(&signers, &name, signer.to_file().as_bytes(), 0o600)?;
            trusted.push(TrustedSigner {
                key: signer.verifier_key(),
                roles: vec![role],
                valid_from: None,
                valid_until: None,
            });
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|err| StoreError::Io {
            action: "draw a domain key for",
            path: root.to_owned(),
            source: err.into(),
        })?;
        let policy = Policy {
            origin: origin.to_owned(),
            domain: Domain { key: DomainKey(key), prefix, foreign: None },
            epoch: 1,
            generation_floor: 0,
            stale: Stale::Refuse,
            witnesses_min: 0,
            lifetime_s_max: i64::from(LIFETIME_DAYS_DEFAULT) * 86_400,
            signers: trusted,
        };
        // Last: a folder with a policy is a home.
        durable::write(root, "policy.toml", policy.to_toml().as_bytes(), 0o644)?;
        Ok(Home { root: root.to_owned(), policy })
    }

    /// Opens a home.
    pub fn open(root: &Path) -> Result<Home, StoreError> {
        let path = policy_path(root);
        if !path.exists() {
            return Err(StoreError::NoHome { path: root.to_owned() });
        }
        Ok(Home { root: root.to_owned(), policy: load_policy(&path)? })
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Where the policy is.
    pub fn policy_path(&self) -> PathBuf {
        policy_path(&self.root)
    }

    /// The folder of marks and locks.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The store.
    pub fn store(&self) -> Store {
        Store::at(self.root.join("store"))
    }

    /// The current manifest, judged; `None` when nothing was published yet.
    pub fn current(&self) -> Result<Option<Previous>, StoreError> {
        let store = self.store();
        // Before the manifest: a publisher stores its mark after it, so that what is read then is
        // no older than these marks, whoever publishes meanwhile.
        let marks = Marks::load(&self.state())?;
        let Some(note) = store.read_manifest()? else { return Ok(None) };
        let judged = self.judge_previous(&note, &store.manifest_path(), &marks)?;
        Ok(Some(Previous { judged, store }))
    }

    /// The manifest in `file`, judged, with the store that it is of.
    pub fn previous_in(&self, file: &Path) -> Result<Previous, StoreError> {
        let note = super::read_note(file)?.ok_or_else(|| StoreError::Io {
            action: "read",
            path: file.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        let judged = self.judge_previous(&note, file, &Marks::load(&self.state())?)?;
        Ok(Previous { judged, store: Store::of_manifest(file) })
    }

    pub(super) fn judge(&self, note: &[u8], path: &Path) -> Result<Judged, StoreError> {
        let marks = Marks::load(&self.state())?;
        let refused = |source| StoreError::Refused { path: path.to_owned(), source };
        judge(note, &self.policy, &marks, now_unix_s()).map_err(refused)
    }

    fn judge_previous(
        &self,
        note: &[u8],
        path: &Path,
        marks: &Marks,
    ) -> Result<Judged, StoreError> {
        let refused = |source| StoreError::Refused { path: path.to_owned(), source };
        judge_previous(note, &self.policy, marks, now_unix_s()).map_err(refused)
    }

    /// Whether there is a ledger.
    pub fn has_ledger(&self) -> bool {
        self.store().ledger().join(CHECKPOINT).exists()
    }

    /// The ledger as it is, under its signature, to be read.
    pub fn read_ledger(&self) -> Result<(Checkpoint, Tiles), StoreError> {
        let folder = self.store().ledger();
        let path = folder.join(CHECKPOINT);
        let refused = |source| LedgerError::Checkpoint { path: path.clone(), source };
        let checkpoint = match read_checkpoint(&folder)? {
            None => Checkpoint { origin: self.ledger_origin(), size: 0, root: EMPTY_ROOT },
            Some(note) => {
                let trusted = self.policy.trusted(Role::Ledger, now_unix_s());
                Checkpoint::open(&note, trusted).map_err(refused)?
            }
        };
        let tiles = Tiles::new(&folder, checkpoint.size);
        Ok((checkpoint, tiles))
    }

    /// The ledger, to be appended to, by one at a time.
    pub fn write_ledger(&self) -> Result<Writer, StoreError> {
        let signers = self.signers(Role::Ledger)?;
        let lock = Lock::take_within(&self.state().join("ledger.lock"), LOCK_PATIENCE)?;
        let trusted = self.policy.trusted(Role::Ledger, now_unix_s());
        let folder = self.store().ledger();
        let writer = Writer::open(&folder, &self.ledger_origin(), signers, trusted, lock)?;
        self.check_restored(&writer)?;
        Ok(writer)
    }

    /// What this host has seen of the ledger before is the beginning of what there is.
    fn check_restored(&self, writer: &Writer) -> Result<(), StoreError> {
        let marks = Marks::load(&self.state())?;
        let mark = marks.highest(
            self.policy.trusted(Role::Ledger, now_unix_s()).collect::<Vec<_>>().into_iter(),
        );
        let mark = mark.map(|mark| ("this host", mark.generation, mark.hash));
        let manifest = self.store().read_manifest()?.and_then(|note| {
            let note = Note::parse(&note).ok()?;
            let manifest = Manifest::parse(note.unverified_text(), &self.policy.origin).ok()?;
            Some(("the manifest", manifest.ledger.0, manifest.ledger.1))
        });
        let mut tiles = writer.tiles();
        for (seen_by, seen, root) in mark.into_iter().chain(manifest) {
            let (path, size) = (self.store().ledger(), writer.size());
            if seen > size {
                return Err(LedgerError::Shorter { path, size, seen_by, seen }.into());
            }
            if tree::root(seen, &mut tiles)? != root {
                return Err(LedgerError::Forked { path, seen_by, seen }.into());
            }
        }
        Ok(())
    }

    /// What opens the commitments.
    pub fn openings(&self) -> Openings {
        Openings::at(&self.root.join("private/openings"))
    }

    /// The folder of the index.
    pub fn index(&self) -> PathBuf {
        self.root.join("private/index")
    }

    fn ledger_origin(&self) -> String {
        format!("{}{SUFFIX}", self.policy.origin)
    }

    /// Private keys that the policy trusts now in that role; at least one.
    pub fn signers(&self, role: Role) -> Result<Vec<Signer>, StoreError> {
        let folder = self.root.join("signers");
        let io = |source| StoreError::Io { action: "list", path: folder.clone(), source };
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(&folder).map_err(io)? {
            paths.push(entry.map_err(io)?.path());
        }
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "key"));
        paths.sort();
        let mut signers = Vec::new();
        for path in paths {
            let signer = Signer::load(&path)
                .map_err(|source| StoreError::Signer { path: path.clone(), source })?;
            let key = signer.verifier_key();
            if self.policy.trusted(role, now_unix_s()).any(|trusted| *trusted == key) {
                signers.push(signer);
            }
        }
        if signers.is_empty() {
            Err(StoreError::NoSigner { path: folder, role })
        } else {
            Ok(signers)
        }
    }
}

/// How long one who appends or publishes waits for another.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Reads and checks a policy file.
pub fn load_policy(path: &Path) -> Result<Policy, StoreError> {
    let io = |source| StoreError::Io { action: "read", path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(io)?.len();
    if bytes > crate::policy::POLICY_BYTES_MAX {
        return Err(io(io::Error::new(io::ErrorKind::FileTooLarge, "larger than a policy")));
    }
    let text = fs::read_to_string(path).map_err(io)?;
    Policy::parse(&text).map_err(|source| StoreError::Policy { path: path.to_owned(), source })
}

/// The wall clock in Unix seconds.
pub fn now_unix_s() -> i64 {
    TableTime::wall_clock().unix_s().unwrap_or(EPOCH_UNIX_S)
}

fn policy_path(root: &Path) -> PathBuf {
    root.join("policy.toml")
}
