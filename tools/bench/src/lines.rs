//! How many cache lines a look-up reads, counted from the bytes of a table by the rules of
//! docs/format.md, not by asking the code that looks up: its line of the directory, the records
//! whose tag is that of the digest until one is it, and the steps of a binary search in a bucket
//! that has more records than tags.

use adamant::table::Table;
use adamant::table::format::{COUNT_FROM_NEXT, DIRECTORY, Header, LINE_TAGS, Line, Record};
use adamant::token::Digest;
use anyhow::Context;
use zerocopy::FromBytes;

use crate::keys::{Draw, Way};

pub(crate) struct Counter<'a> {
    buckets: u64,
    lines: &'a [Line],
    records: &'a [Record],
}

impl<'a> Counter<'a> {
    pub(crate) fn new(table: &'a Table) -> anyhow::Result<Counter<'a>> {
        let (header, _) = Header::ref_from_prefix(table.bytes()).ok().context("a header")?;
        let section = &header.sections[DIRECTORY];
        let begin = usize::try_from(section.offset.get())?;
        let end = begin + usize::try_from(section.bytes.get())?;
        let lines = <[Line]>::ref_from_bytes(&table.bytes()[begin..end]).ok().context("lines")?;
        Ok(Counter { buckets: header.buckets.get(), lines, records: table.records() })
    }

    /// Lines of one look-up, over `count` of them.
    pub(crate) fn mean(&self, draw: &mut Draw, way: Way, count: usize) -> f64 {
        let mut digests = Vec::new();
        draw.fill(&mut digests, count, way);
        digests.iter().map(|digest| self.of(digest)).sum::<usize>() as f64 / count as f64
    }

    #[expect(clippy::cast_possible_truncation, reason = "the high half, and the 16 bits below it")]
    fn of(&self, digest: &Digest) -> usize {
        let (head, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
        let product = u128::from(u64::from_be_bytes(*head)) * u128::from(self.buckets);
        let (bucket, tag) = ((product >> 64) as usize, (product >> 48) as u16);
        let line = &self.lines[bucket];
        let first = line.rank.get() as usize;
        let (count, mut read) = match line.count.get() {
            COUNT_FROM_NEXT => (self.lines[bucket + 1].rank.get() as usize - first, 2),
            count => (usize::from(count), 1),
        };
        let tagged = count.min(LINE_TAGS);
        for (record, found) in self.records[first..first + tagged].iter().zip(&line.tags) {
            if found.get() == tag {
                read += 1;
                if record.digest == *digest {
                    return read;
                }
            }
        }
        let rest = &self.records[first + tagged..first + count];
        let _ = rest.binary_search_by(|record| {
            read += 1;
            record.digest.cmp(digest)
        });
        read
    }
}
