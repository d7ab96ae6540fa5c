//! What the disk allows, measured in the folder where the measurements write.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{Advice, fadvise};

const CHUNK_BYTES: usize = 4 << 20;

/// Bytes a second, one after the other: written with an fsync at the end, and read from the disk.
#[derive(Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) write: f64,
    pub(crate) read: f64,
}

impl Rates {
    pub(crate) fn measure(folder: &Path, bytes: usize) -> anyhow::Result<Rates> {
        let path = folder.join("disk");
        let mut chunk = vec![0_u8; CHUNK_BYTES];
        // Nothing that a disk could make smaller.
        blake3::Hasher::new().finalize_xof().fill(&mut chunk);
        let mut file = File::create(&path)?;
        let began = Instant::now();
        for _ in 0..bytes.div_ceil(CHUNK_BYTES) {
            file.write_all(&chunk)?;
        }
        file.sync_all()?;
        let written_s = began.elapsed().as_secs_f64();
        let bytes = file.metadata()?.len() as f64;
        let mut file = File::open(&path)?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
        let began = Instant::now();
        while file.read(&mut chunk)? > 0 {}
        let read_s = began.elapsed().as_secs_f64();
        std::fs::remove_file(&path)?;
        Ok(Rates { write: bytes / written_s, read: bytes / read_s })
    }
    /// Between two measurements.
    pub(crate) fn mean(self, other: Rates) -> Rates {
        Rates {
            write: f64::midpoint(self.write, other.write),
            read: f64::midpoint(self.read, other.read),
        }
    }
}
