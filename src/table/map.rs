//! A file in memory, for as long as anybody looks at it.
//!
//! A map stays whole while its file is renamed over or removed; only a file that is cut or
//! overwritten *in place* can hurt a reader. That is why tables are never written twice, and why
//! a store checks owner and mode before it maps one, and has the kernel tell it of a writer
//! (`store/lease.rs`). A file that is cut nevertheless is no answer (`guard.rs`). The contract of [`Map::of`] is therefore: **nobody writes to a named
//! table**, and the only `unsafe` block rests on it.
//!
//! The kernel is asked for 2 MiB pages, and for all of them now: a look-up must not wait for a
//! page fault. Where the file system has no huge pages in its cache, 4 KiB pages are mapped.

#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::FileExt;

use memmap2::{Advice, Mmap, MmapMut};
use rustix::fs::{Advice as CacheAdvice, fadvise};

use super::format::HUGE_PAGE_BYTES;
use super::guard::Guard;

/// The first kernel on which ext4 keeps files in huge pages.
const HUGE_SINCE: (u32, u32) = (6, 16);
/// Below this share of huge pages, in percent, a file is read anew.
const HUGE_PERCENT_MIN: u64 = 90;

/// Where the bytes of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// In the page cache, shared with all who map the same file.
    Map,
    /// The same, read as it is needed: for those who look at little of it.
    Lazy,
    /// In memory of this process alone, which nobody else can change or cut.
    Copy,
}

/// A whole file in memory.
#[derive(Debug)]
pub struct Map {
    // Dropped before the bytes that it guards.
    guard: Guard,
    bytes: Mmap,
    huge_bytes: u64,
}

impl Map {
    /// Brings `file` into memory, from its first to its last byte.
    pub fn of(file: &File, load: Load) -> io::Result<Map> {
        let bytes = match load {
            Load::Map => map_whole(file)?,
            Load::Lazy => {
                let bytes = map_lazily(file)?;
                return Ok(Map { guard: Guard::of(&bytes), bytes, huge_bytes: 0 });
            }
            Load::Copy => {
                let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
                private(len, |bytes| file.read_exact_at(bytes, 0))?
            }
        };
        let guard = if load == Load::Copy { Guard::none() } else { Guard::of(&bytes) };
        Ok(Map { guard, huge_bytes: huge_bytes_of(&bytes), bytes })
    }

    /// The same bytes in memory of this process alone.
    pub fn to_private(&self) -> io::Result<Map> {
        let bytes = private(self.len(), |bytes| {
            bytes.copy_from_slice(self);
            Ok(())
        })?;
        Ok(Map { guard: Guard::none(), huge_bytes: huge_bytes_of(&bytes), bytes })
    }

    /// Whether bytes of its file are gone, and zeros are read in their place. See `guard.rs`.
    pub fn is_poisoned(&self) -> bool {
        self.guard.is_poisoned()
    }

    /// Bytes that were in 2 MiB pages when the map was made.
    pub fn huge_bytes(&self) -> u64 {
        self.huge_bytes
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Maps `file`. A file that arrived in small writes lies in small pages; where the kernel could do
/// better it is dropped from the cache, and so read in large ones.
fn map_whole(file: &File) -> io::Result<Mmap> {
    let map = map_once(file)?;
    let bytes = map.len() as u64;
    let share = huge_bytes_of(&map) * 100 / bytes.max(1);
    if bytes < 2 * HUGE_PAGE_BYTES || share >= HUGE_PERCENT_MIN || !kernel_has_huge_files() {
        return Ok(map);
    }
    drop(map);
    // Nothing is lost by it: the cache refuses to drop what is not on the disk yet.
    let _ = fadvise(file, 0, None, CacheAdvice::DontNeed);
    map_once(file)
}

fn map_lazily(file: &File) -> io::Result<Mmap> {
    // SAFETY: the file is not written to while it is mapped, 0 bytes of it, by the contract of
    // this module; bytes that a damaged medium changes are refused by `Table::verify`.
    unsafe { Mmap::map(file) }
}

fn map_once(file: &File) -> io::Result<Mmap> {
    let map = map_lazily(file)?;
    // Both only make the map faster, and old kernels know neither.
    let _ = map.advise(Advice::HugePage);
    let _ = map.advise(Advice::PopulateRead);
    Ok(map)
}

fn private(len: usize, fill: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<Mmap> {
    let mut map = MmapMut::map_anon(len)?;
    let _ = map.advise(Advice::HugePage);
    fill(&mut map)?;
    map.make_read_only()
}

/// Whether the running kernel is of [`HUGE_SINCE`] or later. A wrong no costs speed, and a wrong
/// yes one reading of the file.
fn kernel_has_huge_files() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().ok());
    let version = (numbers.next().flatten(), numbers.next().flatten());
    matches!(version, (Some(major), Some(minor)) if (major, minor) >= HUGE_SINCE)
}

/// Bytes of a map in 2 MiB pages, as the kernel reports them. 0 where it does not.
fn huge_bytes_of(map: &[u8]) -> u64 {
    if (map.len() as u64) < HUGE_PAGE_BYTES {
        return 0;
    }
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let (from, mut ours, mut sum) = (map.as_ptr().addr(), false, 0);
    for line in smaps.lines() {
        if let Some(start) = start_of_range(line) {
            ours = (from..from + map.len()).contains(&start);
        } else if ours
            && let Some(kib) =
                line.strip_prefix("FilePmdMapped:").or(line.strip_prefix("AnonHugePages:"))
        {
            sum += kib.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024;
        }
    }
    sum
}

/// Where a range begins, if the line is the first one of a range: `from-to rwxp ...`, in hex.
fn start_of_range(line: &str) -> Option<usize> {
    let (range, _) = line.split_once(' ')?;
    let (from, _) = range.split_once('-')?;
    usize::from_str_radix(from, 16).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// What is copied stays as it was, whatever becomes of its file.
    #[test]
    fn a_copy_does_not_follow_its_file() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"as it was").unwrap();
        let copies = [
            Map::of(&file, Load::Copy).unwrap(),
            Map::of(&file, Load::Map).unwrap().to_private().unwrap(),
        ];
        file.write_all_at(b"as it is!", 0).unwrap();
        for copy in &copies {
            assert_eq!(&copy[..], b"as it was");
        }
        file.set_len(0).unwrap();
        assert_eq!(&copies[0][..], b"as it was");
    }

    #[test]
    fn ranges_are_told_from_their_figures() {
        let range = "7f12a000-7f12c000 r--s 00000000 fe:00 12 /some/file";
        assert_eq!(start_of_range(range), Some(0x7f12_a000));
        assert_eq!(start_of_range("FilePmdMapped:     2048 kB"), None);
        assert_eq!(start_of_range("VmFlags: rd mr-mw me"), None);
    }
}
