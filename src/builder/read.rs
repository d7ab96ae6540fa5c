//! Reads a token list in blocks of whole lines, understands blocks side by side, and hands the
//! entries on in the order of the lines.
//!
//! The order in which blocks are understood depends on the machine; what is handed on does not.

use std::borrow::Cow;
use std::io::{self, Read};

use csv_core::{ReadRecordResult, ReaderBuilder};
use memchr::{memchr, memchr_iter, memrchr};
use rayon::prelude::*;
use zeroize::{Zeroize, Zeroizing};

use super::grants::Grants;
use super::list::{COLUMNS, Fields, LINE_BYTES_MAX, Rules};
use crate::table::format::FOREIGN;
use crate::table::{Entry, Personal};

/// Bytes of a block; a line is a small part of it.
const BLOCK_BYTES: usize = 1 << 20;
/// Blocks that are understood at once; three times as many are in memory.
const BLOCKS: usize = 8;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
const LINE_TOO_LONG: &str = "longer than 64 KiB";

const _: () = assert!(LINE_BYTES_MAX == 64 << 10 && LINE_BYTES_MAX < BLOCK_BYTES);

/// A line that was refused, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Its number, from 1.
    pub line: u64,
    /// The reason. Holds nothing of the line.
    pub reason: String,
}

/// The entries of a block, in order.
#[derive(Default)]
pub(super) struct Parsed {
    /// Lengths of the sorter items in `bytes`.
    lens: Vec<usize>,
    bytes: Vec<u8>,
    pub(super) rejects: Vec<Reject>,
    pub(super) foreign: bool,
    /// Canonical bytes of the grants; items name them by position here.
    pub(super) grants: Vec<Vec<u8>>,
}

impl Parsed {
    /// The sorter items.
    pub(super) fn items(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let mut rest = &mut self.bytes[..];
        self.lens.iter().map(move |&len| {
            let (item, left) = std::mem::take(&mut rest).split_at_mut(len);
            rest = left;
            item
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lens.len()
    }
}

/// Reads `list` to its end and gives each block to `each`, which says whether to go on.
pub(super) fn read_list(
    list: &mut dyn Read,
    rules: &Rules,
    each: &mut dyn FnMut(Parsed) -> io::Result<bool>,
) -> Result<(), ReadError> {
    let mut blocks = Blocks::new(list);
    let Some(first) = blocks.next()? else { return Ok(()) };
    let (shape, first) = Shape::of(first)?;
    let mut read = blocks.group(vec![first])?;
    let mut understood = Vec::new();
    // A group is understood while the one before it is handed on and the one after it is read.
    loop {
        let (group, before) = (read, understood);
        (read, understood) = (Vec::new(), Vec::new());
        let goes_on = rayon::in_place_scope(|scope| {
            scope.spawn(|_| {
                understood = group.par_iter().map(|block| shape.parse(block, rules)).collect();
            });
            for block in before {
                if !each(block)? {
                    return Ok(false);
                }
            }
            read = blocks.group(Vec::new())?;
            io::Result::Ok(true)
        })?;
        if !goes_on || understood.is_empty() {
            return Ok(());
        }
    }
}

/// Whole lines. Wiped when dropped: they may hold tokens.
struct Block {
    bytes: Zeroizing<Vec<u8>>,
    first_line: u64,
}

impl Block {
    /// The lines, without their ends.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let ends = memchr_iter(b'\n', &self.bytes).chain([self.bytes.len()]);
        let mut from = 0;
        ends.map(move |end| &self.bytes[std::mem::replace(&mut from, end + 1)..end])
    }
}

/// Cuts a stream into blocks at line ends.
struct Blocks<'a> {
    list: &'a mut dyn Read,
    /// The beginning of a line whose end was not read yet.
    rest: Zeroizing<Vec<u8>>,
    next_line: u64,
}

impl<'a> Blocks<'a> {
    fn new(list: &'a mut dyn Read) -> Blocks<'a> {
        Blocks { list, rest: Zeroizing::default(), next_line: 1 }
    }

    /// Reads on until `group` is full.
    fn group(&mut self, mut group: Vec<Block>) -> io::Result<Vec<Block>> {
        while group.len() < BLOCKS {
            let Some(block) = self.next()? else { break };
            group.push(block);
        }
        Ok(group)
    }

    fn next(&mut self) -> io::Result<Option<Block>> {
        let mut bytes = std::mem::take(&mut self.rest);
        let capacity = BLOCK_BYTES + LINE_BYTES_MAX;
        // Once, so that no copy with tokens in it is left behind by growing.
        if bytes.capacity() < capacity {
            let mut larger = Zeroizing::new(Vec::with_capacity(capacity));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        let room = (BLOCK_BYTES - bytes.len()) as u64;
        (&mut *self.list).take(room).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.len() == BLOCK_BYTES {
            self.keep_last_line(&mut bytes)?;
        }
        let first_line = self.next_line;
        self.next_line += memchr_iter(b'\n', &bytes).count() as u64;
        Ok(Some(Block { bytes, first_line }))
    }

    /// Leaves an unfinished line for the next block. One that fills a block is cut to what is
    /// refused as too long, and its end is skipped.
    fn keep_last_line(&mut self, bytes: &mut Zeroizing<Vec<u8>>) -> io::Result<()> {
        if let Some(end) = memrchr(b'\n', bytes) {
            self.rest.extend_from_slice(&bytes[end + 1..]);
            bytes[end + 1..].zeroize();
            bytes.truncate(end + 1);
            return Ok(());
        }
        bytes.truncate(LINE_BYTES_MAX + 1);
        bytes.push(b'\n');
        let mut skipped = Zeroizing::new(vec![0; LINE_BYTES_MAX]);
        loop {
            let read = self.list.read(&mut skipped)?;
            let seen = &skipped[..read];
            if let Some(end) = memchr(b'\n', seen) {
                self.rest.extend_from_slice(&seen[end + 1..]);
                return Ok(());
            }
            if read == 0 {
                return Ok(());
            }
        }
    }
}

/// How the lines of a list are to be read.
enum Shape {
    Json,
    /// The column of each field, by position.
    Csv(Vec<usize>),
}

impl Shape {
    /// Decides by the first byte, and takes the header line off the first block.
    fn of(mut block: Block) -> Result<(Shape, Block), ReadError> {
        if block.bytes.starts_with(BYTE_ORDER_MARK) {
            block.bytes.drain(..BYTE_ORDER_MARK.len());
        }
        let first = block.bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        if first.is_none_or(|&byte| byte == b'{') {
            return Ok((Shape::Json, block));
        }
        let end = memchr(b'\n', &block.bytes);
        let end = end.unwrap_or(block.bytes.len());
        let columns = csv_fields(&block.bytes[..end], |fields| {
            fields.iter().map(|name| column_of(name)).collect::<Result<Vec<usize>, String>>()
        });
        let columns = columns.and_then(|columns| columns).map_err(ReadError::Header)?;
        let rest = (end + 1).min(block.bytes.len());
        block.bytes.drain(..rest);
        block.first_line += 1;
        Ok((Shape::Csv(columns), block))
    }

    fn parse(&self, block: &Block, rules: &Rules) -> Parsed {
        let mut parsed = Parsed::default();
        let mut grants = Grants::default();
        for (line, text) in (block.first_line..).zip(block.lines()) {
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if text.is_empty() {
                continue;
            }
            let row = self.fields(text).and_then(|mut fields| {
                let row = fields.take_row(rules, &mut grants)?;
                parsed.foreign |= row.record.flags & FOREIGN != 0;
                let personal = Personal::Known { subject: &row.subject, meta: &row.meta };
                let from = parsed.bytes.len();
                let entry = Entry { record: row.record, cold: row.cold, personal, line };
                entry.encode(&mut parsed.bytes);
                parsed.lens.push(parsed.bytes.len() - from);
                Ok(())
            });
            if let Err(reason) = row {
                parsed.rejects.push(Reject { line, reason });
            }
        }
        parsed.grants = grants.into_canonical();
        parsed
    }

    fn fields<'a>(&self, line: &'a [u8]) -> Result<Fields<'a>, String> {
        if line.len() > LINE_BYTES_MAX {
            return Err(LINE_TOO_LONG.to_owned());
        }
        let columns = match self {
            Shape::Json => return Fields::from_json(line),
            Shape::Csv(columns) => columns,
        };
        csv_fields(line, |values| {
            if values.len() != columns.len() {
                let (found, expected) = (values.len(), columns.len());
                return Err(format!("{found} fields, the header has {expected}"));
            }
            let mut fields = Fields::default();
            for (&column, value) in columns.iter().zip(values) {
                fields.set(column, Cow::Owned((*value).to_owned()));
            }
            Ok(fields)
        })?
    }
}

fn column_of(name: &str) -> Result<usize, String> {
    let position = COLUMNS.iter().position(|column| *column == name.trim());
    position.ok_or_else(|| {
        format!("the first line is neither JSON nor a CSV header of {}", COLUMNS.join(", "))
    })
}

/// Cuts one line of CSV (RFC 4180) and gives its fields to `with`.
fn csv_fields<T>(line: &[u8], with: impl FnOnce(&[&str]) -> T) -> Result<T, String> {
    let mut reader = ReaderBuilder::new().build();
    let mut output = Zeroizing::new(vec![0; line.len() + 1]);
    let mut ends = vec![0; line.len() + 2];
    let (_, read, mut written, mut count) = reader.read_record(line, &mut output, &mut ends);
    // The end of the line, told by an empty input, completes the last field.
    let (result, _, more, further) =
        reader.read_record(&line[read..], &mut output[written..], &mut ends[count..]);
    written += more;
    count += further;
    if !matches!(result, ReadRecordResult::Record | ReadRecordResult::End) || read < line.len() {
        return Err("not one line of CSV".to_owned());
    }
    // An opening quote without its end swallows all that follows.
    if line.iter().filter(|&&byte| byte == b'"').count() % 2 != 0 {
        return Err("a quote is not closed on this line".to_owned());
    }
    let text = std::str::from_utf8(&output[..written]).map_err(|_| "not UTF-8".to_owned())?;
    let mut from = 0;
    let fields: Vec<&str> = ends[..count]
        .iter()
        .map(|&to| {
            let field = text.get(from..to).unwrap_or_default();
            from = to;
            field
        })
        .collect();
    Ok(with(&fields))
}

/// Why a list cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system refused.
    #[error("cannot read the list")]
    Io(#[from] io::Error),
    /// The first line says nothing about the others.
    #[error("{0}")]
    Header(String),
}
