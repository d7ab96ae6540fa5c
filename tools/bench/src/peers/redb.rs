//! redb, with all of it in its cache.

use std::path::Path;

use adamant::token::Digest;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use super::Peer;
use crate::keys::{Answers, Value, value_of};
use crate::report::Fact;

const TABLE: TableDefinition<&Digest, &Value> = TableDefinition::new("tokens");
/// More than the file takes.
const CACHE_BYTES: usize = 8 << 30;

pub(crate) struct Redb {
    database: Database,
}

impl Redb {
    pub(crate) fn new(folder: &Path, sorted: &[Digest]) -> anyhow::Result<Redb> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = builder.create(folder.join("redb"))?;
        let mut writing = database.begin_write()?;
        writing.set_durability(Durability::None)?;
        {
            let mut table = writing.open_table(TABLE)?;
            for digest in sorted {
                table.insert(digest, &value_of(digest))?;
            }
        }
        writing.commit()?;
        Ok(Redb { database })
    }
}

impl Peer for Redb {
    fn name(&self) -> &'static str {
        "redb"
    }

    fn look_up(&self, block: &[Digest]) -> anyhow::Result<Answers> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let mut answers = Answers::default();
        for digest in block {
            if let Some(value) = table.get(digest)? {
                answers.add_value(value.value());
            }
        }
        Ok(answers)
    }

    fn fact(&self) -> Option<Fact> {
        Some(Fact::RedbOverOurs)
    }
}
