//! Writes one section of a file, in chunks of 2 MiB at multiples of 2 MiB.
//!
//! Where a section begins depends on whether it reaches 2 MiB ([`super::format::alignment_of`]),
//! which its writer does not know in advance. So the first chunk is held until it is full or the
//! section ends. On ext4 since Linux 6.16, writes of this size and alignment leave huge folios in
//! the page cache, which a reader then maps as huge pages.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use xxhash_rust::xxh3::Xxh3;

use super::format::{HUGE_PAGE_BYTES, Section, alignment_of};

const CHUNK_BYTES: usize = 2 << 20;
const _: () = assert!(CHUNK_BYTES as u64 == HUGE_PAGE_BYTES);

/// A section that is being written.
pub(super) struct SectionWriter<'a> {
    file: &'a File,
    /// The section begins at the next multiple of its alignment.
    earliest: u64,
    written: u64,
    chunk: Vec<u8>,
    hash: Xxh3,
}

impl<'a> SectionWriter<'a> {
    /// A section that begins at `earliest` or at its alignment after it.
    pub(super) fn new(file: &'a File, earliest: u64) -> SectionWriter<'a> {
        SectionWriter { file, earliest, written: 0, chunk: Vec::new(), hash: Xxh3::new() }
    }

    /// Appends `bytes`.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = CHUNK_BYTES - self.chunk.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.chunk.extend_from_slice(now);
            if self.chunk.len() == CHUNK_BYTES {
                self.flush(HUGE_PAGE_BYTES)?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// Bytes pushed so far.
    pub(super) fn bytes(&self) -> u64 {
        self.written + self.chunk.len() as u64
    }

    /// Writes what is held and says where the section is.
    pub(super) fn finish(mut self) -> io::Result<Section> {
        let bytes = self.bytes();
        let alignment = alignment_of(bytes);
        self.flush(alignment)?;
        Ok(Section {
            offset: self.earliest.next_multiple_of(alignment).into(),
            bytes: bytes.into(),
            check: self.hash.digest().into(),
            reserved: 0.into(),
        })
    }

    fn flush(&mut self, alignment: u64) -> io::Result<()> {
        let at = self.earliest.next_multiple_of(alignment) + self.written;
        self.file.write_all_at(&self.chunk, at)?;
        self.hash.update(&self.chunk);
        self.written += self.chunk.len() as u64;
        self.chunk.clear();
        Ok(())
    }
}

/// First byte after a section.
pub(super) fn end_of(section: &Section) -> u64 {
    section.offset.get() + section.bytes.get()
}

/// Reads `bytes` bytes of `file` from `at` on, in chunks of whole items of `item_bytes`.
pub(super) fn each_chunk(
    file: &File,
    at: u64,
    bytes: u64,
    item_bytes: usize,
    mut each: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<()> {
    let whole = CHUNK_BYTES / item_bytes * item_bytes;
    let mut chunk = vec![0; whole.min(usize::try_from(bytes).unwrap_or(usize::MAX))];
    let mut done = 0;
    while done < bytes {
        let left = usize::try_from(bytes - done).unwrap_or(usize::MAX);
        let len = chunk.len().min(left);
        let now = &mut chunk[..len];
        file.read_exact_at(now, at + done)?;
        each(at + done, now)?;
        done += now.len() as u64;
    }
    Ok(())
}
