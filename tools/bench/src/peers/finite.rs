//! fst, a finite-state transducer from digests to numbers: it stores no values of 16 bytes.

use adamant::token::Digest;
use fst::{Map, MapBuilder};

use super::Peer;
use crate::keys::{Answers, number_of, value_of};
use crate::report::Fact;

pub(crate) struct Finite {
    map: Map<Vec<u8>>,
}

impl Finite {
    pub(crate) fn new(sorted: &[Digest]) -> anyhow::Result<Finite> {
        let mut builder = MapBuilder::memory();
        for digest in sorted {
            builder.insert(digest, number_of(&value_of(digest)))?;
        }
        Ok(Finite { map: builder.into_map() })
    }
}

impl Peer for Finite {
    fn name(&self) -> &'static str {
        "fst, to numbers"
    }

    fn look_up(&self, block: &[Digest]) -> anyhow::Result<Answers> {
        let mut answers = Answers::default();
        block.iter().filter_map(|digest| self.map.get(digest)).for_each(|it| answers.add(it));
        Ok(answers)
    }

    fn fact(&self) -> Option<Fact> {
        Some(Fact::FstOverOurs)
    }
}
