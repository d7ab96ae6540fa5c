//! A file in memory, for as long as anybody looks at it.
//!
//! A map stays whole while its file is renamed over or removed; only a file that is cut or
//! overwritten *in place* can hurt a reader. That is why tables are never written twice, and why
//! a store checks owner and mode before it maps one. The contract of [`Map::of`] is therefore:
//! **nobody writes to a named table**, and the only `unsafe` block rests on it.
//!
//! The kernel is asked for 2 MiB pages, and for all of them now: a look-up must not wait for a
//! page fault. Where the file system has no huge pages in its cache, 4 KiB pages are mapped.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::{Advice, Mmap};

/// A whole file, mapped.
#[derive(Debug)]
pub struct Map(Mmap);

impl Map {
    /// Maps `file` from its first to its last byte.
    pub fn of(file: &File) -> io::Result<Map> {
        // SAFETY: the file is not written to while it is mapped, 0 bytes of it, by the contract of
        // this module; bytes that a damaged medium changes are refused by `Table::verify`.
        let map = unsafe { Mmap::map(file) }?;
        // Both only make the map faster, and old kernels know neither.
        let _ = map.advise(Advice::HugePage);
        let _ = map.advise(Advice::PopulateRead);
        Ok(Map(map))
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
