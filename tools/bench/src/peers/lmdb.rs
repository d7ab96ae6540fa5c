//! LMDB, through heed.

#![allow(unsafe_code)]

use std::path::Path;

use adamant::token::Digest;
use anyhow::Context;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, PutFlags};

use super::Peer;
use crate::keys::{Answers, Value, value_of};
use crate::report::Fact;

/// Address space a key: more than its tree takes.
const MAP_BYTES: usize = 200;
const PAGE_BYTES: usize = 4096;

pub(crate) struct Lmdb {
    env: Env,
    database: Database<'static, Bytes, Bytes>,
}

impl Lmdb {
    /// Appends sorted digests in one transaction, and waits until they are on the disk.
    pub(crate) fn new(folder: &Path, sorted: &[Digest]) -> anyhow::Result<Lmdb> {
        let folder = folder.join("lmdb");
        std::fs::create_dir(&folder)?;
        let map_bytes = (sorted.len() * MAP_BYTES + (16 << 20)).next_multiple_of(PAGE_BYTES);
        let mut options = EnvOpenOptions::new();
        options.map_size(map_bytes);
        // SAFETY: the folder was made above, so 0 others have mapped a file in it, or will.
        let env = unsafe { options.open(&folder) }?;
        let writing = env.write_txn()?;
        let filled = env.create_databases_and_commit(writing, |opener, writing| {
            let database = opener.create_database::<Bytes, Bytes>(writing, None)?;
            for digest in sorted {
                database.put_with_flags(writing, PutFlags::APPEND, digest, &value_of(digest))?;
            }
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(database))
        })?;
        let database = filled.unwrap_commit();
        Ok(Lmdb { env, database })
    }
}

impl Peer for Lmdb {
    fn name(&self) -> &'static str {
        "LMDB"
    }

    fn look_up(&self, block: &[Digest]) -> anyhow::Result<Answers> {
        let reading = self.env.read_txn()?;
        let mut answers = Answers::default();
        for digest in block {
            if let Some(value) = self.database.get(&reading, digest)? {
                let value: &Value = value.first_chunk().context("a short value")?;
                answers.add_value(value);
            }
        }
        Ok(answers)
    }

    fn fact(&self) -> Option<Fact> {
        Some(Fact::LmdbOverOurs)
    }
}
