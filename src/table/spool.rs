//! Bytes that wait until their place in a file is known: in memory while they are few, then in a
//! scratch file that has no name.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::section::each_chunk;

/// Bytes that are held in memory, and written at once. A small table makes no scratch file: to
/// make and remove one costs more than all that is in it.
const HELD_BYTES: usize = 1 << 20;

/// Bytes that wait.
pub(super) struct Spool {
    folder: PathBuf,
    held: Vec<u8>,
    spilled: Option<File>,
    spilled_bytes: u64,
}

impl Spool {
    /// With a scratch file in `folder`, if need be.
    pub(super) fn new(folder: &Path) -> Spool {
        Spool { folder: folder.to_owned(), held: Vec::new(), spilled: None, spilled_bytes: 0 }
    }

    /// Appends `bytes`.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.held.len() + bytes.len() > HELD_BYTES {
            self.spill()?;
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    /// Gives all bytes to `each`, in their order, in chunks of whole items of `item_bytes`.
    pub(super) fn drain(
        self,
        item_bytes: usize,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if let Some(file) = &self.spilled {
            each_chunk(file, 0, self.spilled_bytes, item_bytes, |_, chunk| each(chunk))?;
        }
        each(&self.held)
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.spilled.is_none() {
            self.spilled = Some(tempfile::tempfile_in(&self.folder)?);
        }
        self.spilled.as_mut().expect("just made").write_all(&self.held)?;
        self.spilled_bytes += self.held.len() as u64;
        self.held.clear();
        Ok(())
    }
}
