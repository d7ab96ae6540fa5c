//! Writes one section of a file, in chunks of 2 MiB at multiples of 2 MiB.
//!
//! Where a section begins depends on whether it reaches 2 MiB ([`super::format::alignment_of`]),
//! which its writer does not know in advance. So the first chunk is held until it is full or the
//! section ends. On ext4 since Linux 6.16, writes of this size and alignment leave huge folios in
//! the page cache, which a reader then maps as huge pages.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

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
    /// What writes and hashes the chunks of a section that has more than one.
    behind: Option<Behind>,
}

impl<'a> SectionWriter<'a> {
    /// A section that begins at `earliest` or at its alignment after it.
    pub(super) fn new(file: &'a File, earliest: u64) -> SectionWriter<'a> {
        SectionWriter { file, earliest, written: 0, chunk: Vec::new(), behind: None }
    }

    /// Appends `bytes`.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = CHUNK_BYTES - self.chunk.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.chunk.extend_from_slice(now);
            if self.chunk.len() == CHUNK_BYTES {
                self.hand_on()?;
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
    pub(super) fn finish(self) -> io::Result<Section> {
        let bytes = self.bytes();
        let offset = self.earliest.next_multiple_of(alignment_of(bytes));
        let mut hash = self.behind.map_or_else(|| Ok(Xxh3::new()), Behind::finish)?;
        self.file.write_all_at(&self.chunk, offset + self.written)?;
        hash.update(&self.chunk);
        Ok(Section {
            offset: offset.into(),
            bytes: bytes.into(),
            check: hash.digest().into(),
            reserved: 0.into(),
        })
    }

    fn hand_on(&mut self) -> io::Result<()> {
        let at = self.earliest.next_multiple_of(HUGE_PAGE_BYTES) + self.written;
        let mut behind = match self.behind.take() {
            Some(behind) => behind,
            None => Behind::start(self.file.try_clone()?)?,
        };
        self.written += self.chunk.len() as u64;
        let Some(empty) = behind.write(std::mem::take(&mut self.chunk), at) else {
            return Err(behind.failure());
        };
        self.chunk = empty;
        self.behind = Some(behind);
        Ok(())
    }
}

/// A thread that writes chunks, in order, while the next is filled.
struct Behind {
    chunks: SyncSender<(Vec<u8>, u64)>,
    emptied: Receiver<Vec<u8>>,
    thread: JoinHandle<io::Result<Xxh3>>,
}

/// Chunks that wait to be written.
const WAITING: usize = 2;

impl Behind {
    fn start(file: File) -> io::Result<Behind> {
        let (chunks, filled) = sync_channel::<(Vec<u8>, u64)>(WAITING);
        let (returned, emptied) = channel();
        let write = move || {
            let mut hash = Xxh3::new();
            for (mut chunk, at) in filled {
                file.write_all_at(&chunk, at)?;
                hash.update(&chunk);
                chunk.clear();
                // Nobody takes it any more once the last one is handed on.
                let _ = returned.send(chunk);
            }
            Ok(hash)
        };
        let thread = thread::Builder::new().name("section".to_owned()).spawn(write)?;
        Ok(Behind { chunks, emptied, thread })
    }

    /// Takes a chunk for its place in the file and gives an empty one. `None`: one before it could
    /// not be written.
    fn write(&mut self, chunk: Vec<u8>, at: u64) -> Option<Vec<u8>> {
        self.chunks.send((chunk, at)).ok()?;
        Some(self.emptied.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK_BYTES)))
    }

    /// Why it takes no more.
    fn failure(self) -> io::Error {
        self.finish().err().expect("a thread that ends before its last chunk has failed")
    }

    /// Waits until all is written, and gives the hash of it.
    fn finish(self) -> io::Result<Xxh3> {
        drop(self.chunks);
        self.thread.join().expect("to write and to hash does not panic")
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
