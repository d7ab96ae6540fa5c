//! Sorts more items than fit in memory, by the first bytes of each.
//!
//! Items are bytes with a key in front. Keys are hashes, so the first byte of a key spreads the
//! items evenly over 256 buckets; each bucket is then sorted on its own, in memory, several at a
//! time. What exceeds the memory goes to one unnamed scratch file, in blocks of 64 KiB; a bucket
//! that is still too large, which only skewed keys can bring about, is split by its next key byte
//! in the same way. Nothing depends on how many threads there are or when a block was spilled:
//! items come out by key, and equal keys in the order in which they went in.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

const BLOCK_BYTES: usize = 64 << 10;
const BUCKETS: usize = 256;
/// Length of an item, in front of it.
const LEN_BYTES: usize = 2;
/// With less, the blocks that are being filled would not fit.
const MEMORY_MIN: usize = 2 * BUCKETS * BLOCK_BYTES;

/// Sorts items by their keys.
pub struct Sorter {
    key_bytes: usize,
    /// Key bytes that all items here have in common.
    depth: usize,
    memory_max: usize,
    folder: PathBuf,
    buckets: Vec<Bucket>,
    /// Bytes of all blocks in memory.
    held: usize,
    scratch: Option<Scratch>,
}

#[derive(Default)]
struct Bucket {
    blocks: Vec<Vec<u8>>,
    /// Offset and length of each block in the scratch file; they come before those in memory.
    spilled: Vec<(u64, usize)>,
    bytes: usize,
}

struct Scratch {
    file: File,
    end: u64,
}

impl Sorter {
    /// Sorts by the first `key_bytes` bytes of each item, within about `memory_max` bytes, and
    /// with a scratch file in `folder` if need be.
    pub fn new(key_bytes: usize, memory_max: usize, folder: &Path) -> Sorter {
        Sorter::at_depth(key_bytes, 0, memory_max.max(MEMORY_MIN), folder)
    }

    fn at_depth(key_bytes: usize, depth: usize, memory_max: usize, folder: &Path) -> Sorter {
        Sorter {
            key_bytes,
            depth,
            memory_max,
            folder: folder.to_owned(),
            buckets: (0..BUCKETS).map(|_| Bucket::default()).collect(),
            held: 0,
            scratch: None,
        }
    }

    /// Adds an item, which is at least a key long and at most 65,535 bytes.
    pub fn push(&mut self, item: &[u8]) -> io::Result<()> {
        self.push_parts(&[item])
    }

    /// As [`Sorter::push`], in parts, of which the first is not empty.
    pub fn push_parts(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let needed = LEN_BYTES + parts.iter().map(|part| part.len()).sum::<usize>();
        let bucket = &mut self.buckets[usize::from(parts[0][self.depth])];
        let block = match bucket.blocks.last_mut() {
            Some(block) if block.capacity() - block.len() >= needed => block,
            _ => {
                bucket.blocks.push(Vec::with_capacity(BLOCK_BYTES.max(needed)));
                self.held += BLOCK_BYTES;
                bucket.blocks.last_mut().expect("just pushed")
            }
        };
        push_item(block, parts);
        bucket.bytes += needed;
        if self.held > self.memory_max { self.spill() } else { Ok(()) }
    }

    /// Gives all items to `each`, sorted.
    pub fn drain<E: From<io::Error>>(
        mut self,
        each: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let together = std::thread::available_parallelism().map_or(1, usize::from);
        // Two groups are in memory, one sorted and one that is being sorted.
        let share = self.memory_max / (8 * together);
        let buckets = std::mem::take(&mut self.buckets).into_iter();
        let mut buckets = buckets.filter(|bucket| bucket.bytes > 0);
        // Taken out, so that a group's memory is free when it is done.
        let mut next = || buckets.by_ref().take(together).collect::<Vec<Bucket>>();
        let mut sorted = self.sort_group(next(), share);
        while !sorted.is_empty() {
            let group = next();
            let bytes: usize = group.iter().map(|bucket| bucket.bytes).sum();
            let mut following = Vec::new();
            // Waking threads costs more than sorting a little.
            if bytes < BLOCK_BYTES {
                self.give_group(sorted, each)?;
                following = self.sort_group(group, share);
            } else {
                rayon::in_place_scope(|scope| {
                    scope.spawn(|_| following = self.sort_group(group, share));
                    self.give_group(sorted, each)
                })?;
            }
            sorted = following;
        }
        Ok(())
    }

    /// Sorts the buckets of a group. One that was spilled and has more than `share` bytes stays as
    /// it is.
    fn sort_group(&self, group: Vec<Bucket>, share: usize) -> Vec<io::Result<Drained>> {
        let sort = |bucket: Bucket| {
            if bucket.bytes > share && !bucket.spilled.is_empty() {
                return Ok(Drained::Large(bucket));
            }
            Ok(Drained::Sorted(Sorted::of(&self.blocks_of(bucket)?, self.key_bytes)))
        };
        let bytes: usize = group.iter().map(|bucket| bucket.bytes).sum();
        if bytes < BLOCK_BYTES {
            group.into_iter().map(sort).collect()
        } else {
            group.into_par_iter().map(sort).collect()
        }
    }

    fn give_group<E: From<io::Error>>(
        &self,
        group: Vec<io::Result<Drained>>,
        each: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for drained in group {
            match drained? {
                Drained::Sorted(Sorted(items)) => items_of(&items).try_for_each(&mut *each)?,
                Drained::Large(bucket) => self.drain_large(&bucket, each)?,
            }
        }
        Ok(())
    }

    /// Splits a bucket by its next key byte. Where no key byte is left all keys are equal, and the
    /// items are in order as they are.
    fn drain_large<E: From<io::Error>>(
        &self,
        bucket: &Bucket,
        each: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let depth = self.depth + 1;
        if depth == self.key_bytes {
            return self.each_block(bucket, |block| items_of(block).try_for_each(&mut *each));
        }
        let half = (self.memory_max / 2).max(MEMORY_MIN);
        let mut finer = Sorter::at_depth(self.key_bytes, depth, half, &self.folder);
        self.each_block(bucket, |block| {
            items_of(block).try_for_each(|item| finer.push(item).map_err(E::from))
        })?;
        finer.drain(each)
    }

    fn each_block<E: From<io::Error>>(
        &self,
        bucket: &Bucket,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for &(at, len) in &bucket.spilled {
            each(&self.read_block(at, len)?)?;
        }
        bucket.blocks.iter().try_for_each(|block| each(block))
    }

    /// All blocks of a bucket, in the order in which they were filled.
    fn blocks_of(&self, bucket: Bucket) -> io::Result<Vec<Vec<u8>>> {
        let spilled = bucket.spilled.iter().map(|&(at, len)| self.read_block(at, len));
        spilled.chain(bucket.blocks.into_iter().map(Ok)).collect()
    }

    fn read_block(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let scratch = self.scratch.as_ref().expect("a block was spilled to it");
        let mut block = vec![0; len];
        scratch.file.read_exact_at(&mut block, at)?;
        Ok(block)
    }

    /// Writes out all blocks, those of one bucket beside each other.
    fn spill(&mut self) -> io::Result<()> {
        if self.scratch.is_none() {
            self.scratch = Some(Scratch { file: tempfile::tempfile_in(&self.folder)?, end: 0 });
        }
        let scratch = self.scratch.as_mut().expect("just made");
        for bucket in &mut self.buckets {
            for block in bucket.blocks.drain(..) {
                scratch.file.write_all_at(&block, scratch.end)?;
                bucket.spilled.push((scratch.end, block.len()));
                scratch.end += block.len() as u64;
            }
        }
        self.held = 0;
        Ok(())
    }
}

/// A bucket whose turn has come.
enum Drained {
    Sorted(Sorted),
    /// More than fits in memory beside the others.
    Large(Bucket),
}

/// The items of a bucket, in their order.
struct Sorted(Vec<u8>);

/// Where an item is, behind the first eight bytes of its key: one number, since those are what
/// sorts fastest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u128);

impl Sorted {
    fn of(blocks: &[Vec<u8>], key_bytes: usize) -> Sorted {
        let mut order = Vec::new();
        for (number, block) in (0..).zip(blocks) {
            let mut at = 0;
            while at < block.len() {
                let item = item_at(block, at);
                order.push(Place::of(&item[..key_bytes], number, at));
                at += LEN_BYTES + item.len();
            }
        }
        order.sort_unstable();
        // The first bytes decide nearly always. Equal keys stay in the order in which they came.
        for alike in order.chunk_by_mut(|a, b| a.head() == b.head()).filter(|it| it.len() > 1) {
            alike.sort_by(|a, b| a.item(blocks)[..key_bytes].cmp(&b.item(blocks)[..key_bytes]));
        }
        // Copied in order here, on one of several threads: who takes the items is alone.
        let mut bytes = Vec::with_capacity(blocks.iter().map(Vec::len).sum());
        for place in order {
            push_item(&mut bytes, &[place.item(blocks)]);
        }
        Sorted(bytes)
    }
}

impl Place {
    fn of(key: &[u8], block: u32, at: usize) -> Place {
        let mut head = [0; 8];
        let shown = key.len().min(head.len());
        head[..shown].copy_from_slice(&key[..shown]);
        let at = u32::try_from(at).expect("an item or a block, under 128 KiB");
        let place = u64::from(block) << 32 | u64::from(at);
        Place(u128::from(u64::from_be_bytes(head)) << 64 | u128::from(place))
    }

    fn head(self) -> u128 {
        self.0 >> 64
    }

    #[expect(clippy::cast_possible_truncation, reason = "block and place have 32 bits each")]
    fn item(self, blocks: &[Vec<u8>]) -> &[u8] {
        let [block, at] = [self.0 >> 32, self.0].map(|part| part as u32 as usize);
        item_at(&blocks[block], at)
    }
}

/// Appends an item, in parts, with its length in front.
fn push_item(block: &mut Vec<u8>, parts: &[&[u8]]) {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    let len = u16::try_from(bytes).expect("items are bounded by the caller");
    block.extend_from_slice(&len.to_le_bytes());
    parts.iter().for_each(|part| block.extend_from_slice(part));
}

fn items_of(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    std::iter::from_fn(move || {
        (at < block.len()).then(|| {
            let item = item_at(block, at);
            at += LEN_BYTES + item.len();
            item
        })
    })
}

fn item_at(bytes: &[u8], at: usize) -> &[u8] {
    let from = at + LEN_BYTES;
    &bytes[from..from + usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The same items through a model: a stable sort by key.
    fn check(items: &[Vec<u8>], key_bytes: usize, memory_max: usize) {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::at_depth(key_bytes, 0, memory_max, folder.path());
        items.iter().for_each(|item| sorter.push(item).unwrap());
        let mut sorted: Vec<Vec<u8>> = Vec::new();
        sorter
            .drain(&mut |item: &[u8]| {
                sorted.push(item.to_vec());
                Ok::<_, io::Error>(())
            })
            .unwrap();
        let mut expected = items.to_vec();
        expected.sort_by(|a, b| a[..key_bytes].cmp(&b[..key_bytes]));
        assert!(sorted == expected);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "scratch has no name");
    }

    fn numbered(count: u32, key: impl Fn(u32) -> [u8; 4]) -> Vec<Vec<u8>> {
        let item = |i: u32| [&key(i)[..], &i.to_le_bytes(), &vec![7; (i % 900) as usize]].concat();
        (0..count).map(item).collect()
    }

    fn mixed(i: u32) -> [u8; 4] {
        i.wrapping_mul(0x9E37_79B1).to_be_bytes()
    }

    #[test]
    fn items_are_sorted_in_memory_and_through_a_scratch_file() {
        check(&[], 4, MEMORY_MIN);
        check(&numbered(1, mixed), 4, MEMORY_MIN);
        check(&numbered(20_000, mixed), 4, 1 << 30);
        check(&numbered(20_000, mixed), 4, 1 << 20);
    }

    /// All keys in one bucket, down to the last key byte, with so little memory that every bucket
    /// is split.
    #[test]
    fn skewed_keys_are_split_until_they_fit() {
        check(&numbered(20_000, |i| [0, 0, 0, mixed(i)[0]]), 4, 1 << 20);
        check(&numbered(20_000, |i| [9, 9, 9, u8::from(i % 3 == 0)]), 4, 1 << 20);
    }

    #[test]
    fn equal_keys_keep_their_order() {
        check(&numbered(20_000, |_| [1, 2, 3, 4]), 4, 1 << 20);
        check(&numbered(20_000, |i| [0, 0, 0, mixed(i)[0] % 4]), 4, 1 << 30);
    }
}
