//! Reads a whole table and makes sure that it is what a writer would have written.
//!
//! After this, look-ups answer exactly as the set of records does. One pass over each section: the
//! checksums first, so that a torn write is called that, and not a broken rule.

use xxhash_rust::xxh3::xxh3_64;
use zerocopy::{FromBytes, IntoBytes};

use super::Table;
use super::directory::LineMaker;
use super::error::TableError;
use super::format::{
    FLAGS_KNOWN, HEADER_BYTES, Header, Line, REVOKED, Reason, Record, SECTION_NAMES, Section,
};
use crate::claims::Grant;
use crate::token::TokenId;

impl Table {
    /// Reads everything and checks every byte.
    pub fn verify(&self) -> Result<(), TableError> {
        let (header, _) = Header::ref_from_prefix(&self.map).expect("checked by open");
        self.verify_sections(&header.sections)?;
        self.verify_padding()?;
        self.verify_grants()?;
        self.verify_records()?;
        self.verify_directory()
    }

    fn verify_sections(&self, sections: &[Section]) -> Result<(), TableError> {
        for (number, (section, part)) in sections.iter().zip(SECTION_NAMES).enumerate() {
            if xxh3_64(self.section(number)) != section.check.get() {
                return Err(TableError::Damaged { part });
            }
        }
        Ok(())
    }

    fn verify_padding(&self) -> Result<(), TableError> {
        let mut end = HEADER_BYTES;
        for (from, to) in self.places.sections {
            if self.map[end..from].iter().any(|&byte| byte != 0) {
                return Err(TableError::Padding);
            }
            end = to;
        }
        Ok(())
    }

    fn verify_grants(&self) -> Result<(), TableError> {
        let wrong = |number, rule| TableError::Grant { number, rule };
        let (offsets, bytes) = self.grant_columns();
        let mut end = 0;
        let mut last: &[u8] = &[];
        for (number, begins) in offsets.iter().enumerate().take(self.places.grants) {
            let known = u32::try_from(number).ok().and_then(|number| self.grant_bytes(number));
            let grant = known.ok_or(wrong(number, "its offsets are out of order"))?;
            if begins.get() as usize != end {
                return Err(wrong(number, "it does not begin where the one before ends"));
            }
            if Grant::decode(grant).is_err() {
                return Err(wrong(number, "not the canonical bytes of a grant"));
            }
            if last >= grant {
                return Err(wrong(number, "grants are not strictly ascending"));
            }
            end += grant.len();
            last = grant;
        }
        let ends = offsets.last().map(|end| end.get() as usize);
        if ends != Some(end) || end != bytes.len() {
            return Err(wrong(self.places.grants, "grants do not end with their section"));
        }
        Ok(())
    }

    fn verify_records(&self) -> Result<(), TableError> {
        let mut used = vec![false; self.places.grants];
        let mut last: Option<&Record> = None;
        for (rank, (record, cold)) in self.records().iter().zip(self.cold_rows()).enumerate() {
            let wrong = |rule| TableError::Record { rank, rule };
            if last.is_some_and(|last| last.digest >= record.digest) {
                return Err(wrong("digests are not strictly ascending"));
            }
            if TokenId::from_bytes(record.id).is_none() {
                return Err(wrong("its id is none that 14 base62 digits can write"));
            }
            if record.flags & !FLAGS_KNOWN != 0 || record.reserved.get() != 0 {
                return Err(wrong("it has flags that this build does not know"));
            }
            let grant = usize::try_from(record.grant.get()).ok();
            let Some(used) = grant.and_then(|number| used.get_mut(number)) else {
                return Err(wrong("its grant is not in the table"));
            };
            *used = true;
            let revoked = record.flags & REVOKED != 0 || record.revoked_at.get() != 0;
            let reasoned = Reason::from_number(cold.reason).is_some();
            if revoked != reasoned || (!reasoned && cold.reason != 0) {
                return Err(wrong("revocation and reason do not agree"));
            }
            last = Some(record);
        }
        match used.iter().position(|&used| !used) {
            Some(number) => Err(TableError::Grant { number, rule: "no record names it" }),
            None => Ok(()),
        }
    }

    fn verify_directory(&self) -> Result<(), TableError> {
        let mut lines = self.lines().iter();
        let mut bucket = 0;
        let mut compare = |made: &Line| {
            let found = lines.next();
            if found.is_some_and(|found| found.as_bytes() == made.as_bytes()) {
                bucket += 1;
                Ok(())
            } else {
                Err(TableError::Directory { bucket })
            }
        };
        let mut maker = LineMaker::new(self.places.buckets);
        for record in self.records() {
            maker.push(&record.digest, &mut compare)?;
        }
        maker.finish(&mut compare)
    }
}
