//! All that is written about one token, and its bytes on the way through the sorter.

use zerocopy::{FromBytes, IntoBytes};

use super::format::{Cold, Record};

/// A record, its cold row, and what goes into the subjects file.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// The record. Its grant is a number in the writer's list.
    pub record: Record,
    /// The cold row.
    pub cold: Cold,
    /// Who the token is for.
    pub personal: Personal<'a>,
    /// Where it was read, for messages: a line number, or 0.
    pub line: u64,
}

/// What is known of a person. It can be erased without touching the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Personal<'a> {
    /// Who the token is for, and what its issuer noted. Either may be empty.
    Known {
        /// The subject.
        subject: &'a str,
        /// The meta text.
        meta: &'a str,
    },
    /// It was there, and was erased.
    Erased,
}

impl Personal<'_> {
    /// Nothing was noted.
    pub const NOTHING: Personal<'static> = Personal::Known { subject: "", meta: "" };
}

/// Digest first, so that a sorter sorts by it.
const FIXED_BYTES: usize = size_of::<Record>() + size_of::<Cold>() + size_of::<u64>() + 2;
const ERASED: u16 = u16::MAX;

impl<'a> Entry<'a> {
    /// Appends the entry as a sorter's item to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.record.as_bytes());
        out.extend_from_slice(self.cold.as_bytes());
        out.extend_from_slice(&self.line.to_le_bytes());
        match self.personal {
            Personal::Erased => out.extend_from_slice(&ERASED.to_le_bytes()),
            Personal::Known { subject, meta } => {
                let len = u16::try_from(subject.len()).expect("a subject has at most 255 bytes");
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(subject.as_bytes());
                out.extend_from_slice(meta.as_bytes());
            }
        }
    }

    /// Reads what [`Entry::encode`] wrote.
    pub fn decode(item: &'a [u8]) -> Entry<'a> {
        const WRITTEN: &str = "written by encode";
        let (fixed, texts) = item.split_at(FIXED_BYTES);
        let (record, rest) = Record::read_from_prefix(fixed).expect(WRITTEN);
        let (cold, rest) = Cold::read_from_prefix(rest).expect(WRITTEN);
        let (line, rest) = rest.split_first_chunk().expect(WRITTEN);
        let len = u16::from_le_bytes(rest.try_into().expect(WRITTEN));
        let personal = if len == ERASED {
            Personal::Erased
        } else {
            let texts = std::str::from_utf8(texts).expect(WRITTEN);
            let (subject, meta) = texts.split_at(usize::from(len));
            Personal::Known { subject, meta }
        };
        Entry { record, cold, personal, line: u64::from_le_bytes(*line) }
    }
}
