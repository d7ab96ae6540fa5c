//! A folder with a store, written anew for each input: whatever the files are, what names and signs
//! them is made to fit.

use std::fs;
use std::path::{Path, PathBuf};

use adamant::ledger::tree::{Hash, Hashes, leaf_hash, root};
use adamant::ledger::{Checkpoint, complete_root};
use adamant::manifest::{Manifest, TableLine};
use adamant::note;
use adamant::policy::Policy;
use adamant::signers::Signer;
use adamant::store::{Generation, Marks, Store, judge};
use tempfile::TempDir;

use crate::sample::{NOW_UNIX_S, policy};
use crate::{ORIGIN, folder, number, put, reseal_subjects, reseal_table, signer};

/// A store that holds one generation at a time.
pub struct Shop {
    folder: TempDir,
    policy: Policy,
    signer: Signer,
    tables: Vec<PathBuf>,
}

impl Shop {
    /// An empty store.
    pub fn open() -> Shop {
        let folder = folder();
        for name in ["tables", "ledger/tile/0/000.p", "ledger/tile/entries/000.p"] {
            fs::create_dir_all(folder.path().join(name)).expect("a folder in a temporary folder");
        }
        Shop { folder, policy: policy(), signer: signer(), tables: Vec::new() }
    }

    /// The store.
    pub fn store(&self) -> Store {
        Store::at(self.folder.path())
    }

    /// The policy of whoever reads it.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Opens a base and its subjects, and overlays with theirs, as [`Shop::sign`] publishes them.
    pub fn publish(&mut self, files: Vec<Vec<u8>>, generation: u64) -> Option<Generation> {
        let note = self.sign(files, generation, NOW_UNIX_S, None);
        // A table may claim more records than a manifest can say.
        let judged = judge(note.as_bytes(), &self.policy, &Marks::default(), NOW_UNIX_S).ok()?;
        self.store().open(&judged).ok()
    }

    /// Writes tables and subjects, and signs a manifest that names them as they are, with their own
    /// hashes, counts and ranges. The tree is that of `ledger`, or else nobody's.
    pub fn sign(
        &mut self,
        mut files: Vec<Vec<u8>>,
        generation: u64,
        issued: i64,
        ledger: Option<(u64, Hash)>,
    ) -> String {
        self.tables.drain(..).for_each(|old| drop(fs::remove_file(old)));
        let tables: Vec<TableLine> =
            files.chunks_exact_mut(2).map(|pair| self.put_pair(pair)).collect();
        let end = tables.last().map_or(0, |table| table.range.1);
        let manifest = Manifest {
            origin: ORIGIN.to_owned(),
            epoch: 1,
            generation,
            ledger: ledger.unwrap_or((end, [7; 32])),
            tables,
            issued,
            expires: issued + 86_400,
            previous: None,
            revocations: 0,
        };
        note::sign(&manifest.to_text(), &[&self.signer])
    }

    /// Writes a ledger of up to 255 leaves with the tile and the checkpoint that fit them.
    pub fn write_ledger(&self, leaves: &[Vec<u8>]) -> (u64, Hash) {
        let ledger = self.folder.path().join("ledger");
        let mut bundle = Vec::new();
        for leaf in leaves {
            let len = u16::try_from(leaf.len()).expect("edits keep a leaf short");
            bundle.extend_from_slice(&len.to_be_bytes());
            bundle.extend_from_slice(leaf);
        }
        let mut hashes = Memory(leaves.iter().map(|leaf| leaf_hash(leaf)).collect());
        let size = leaves.len() as u64;
        put(&ledger.join(format!("tile/entries/000.p/{size}")), &bundle, 0o444);
        put(&ledger.join(format!("tile/0/000.p/{size}")), hashes.0.as_flattened(), 0o444);
        let root = root(size, &mut hashes).expect("all hashes are there");
        let checkpoint = Checkpoint { origin: format!("{ORIGIN}/ledger"), size, root };
        put(&ledger.join("checkpoint"), checkpoint.sign(&[&self.signer]).as_bytes(), 0o444);
        (size, root)
    }

    fn put_pair(&mut self, pair: &mut [Vec<u8>]) -> TableLine {
        let [table, subjects] = pair else { unreachable!("chunks of two") };
        reseal_table(table);
        reseal_subjects(subjects);
        let field = |at: usize| table.get(at..at + 8).map_or(0, |_| number(table, at));
        let (records, range) = (field(144), (field(168), field(176)));
        TableLine {
            hash: self.put_table(table, "tbl"),
            bytes: table.len() as u64,
            records,
            range,
            subjects_hash: self.put_table(subjects, "sub"),
            subjects_bytes: subjects.len() as u64,
        }
    }

    fn put_table(&mut self, bytes: &[u8], extension: &str) -> [u8; 32] {
        let hash = blake3::hash(bytes);
        let path = Path::new("tables").join(format!("{}.{extension}", hash.to_hex()));
        let path = self.folder.path().join(path);
        put(&path, bytes, 0o440);
        self.tables.push(path);
        *hash.as_bytes()
    }
}

/// Leaf hashes in memory.
struct Memory(Vec<Hash>);

impl Hashes for Memory {
    type Error = std::convert::Infallible;

    fn hash(&mut self, height: u32, index: u64) -> Result<Hash, Self::Error> {
        let first = usize::try_from(index << height).expect("a small tree");
        Ok(complete_root(&self.0[first..first + (1 << height)]))
    }
}
