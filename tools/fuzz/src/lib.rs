//! What the targets share: files in memory, checks made anew, keys that are the same in each run.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use adamant::signers::{Signer, VerifierKey};
use adamant::table::format::HEADER_BYTES;
use rustix::fs::{MemfdFlags, memfd_create};
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

pub mod sample;
pub mod shop;

/// The deployment of all samples.
pub const ORIGIN: &str = "acme/adamant";
/// A key that protects nothing: the first test vector of RFC 8032. It signs whatever a target needs
/// signed, so that its corpus means the same in each run.
const PRIVATE_KEY: &str =
    "PRIVATE+KEY+acme/adamant/fuzz+d63da3eb+AZ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g";

/// A file in memory that holds `bytes`.
pub fn file_of(bytes: &[u8]) -> File {
    let mut file =
        File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("memory for a small file"));
    file.write_all(bytes).expect("memory for a small file");
    file
}

/// A folder for the files that a target needs by name, in memory where the system has such a place.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a temporary folder")
}

/// Writes a file that nobody else can write to, whatever was there before.
pub fn put(path: &Path, bytes: &[u8], mode: u32) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).expect("a file in a temporary folder");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
}

/// The key that signs all samples.
pub fn signer() -> Signer {
    let folder = folder();
    let path = folder.path().join("key");
    put(&path, PRIVATE_KEY.as_bytes(), 0o600);
    Signer::load(&path).expect("the key is well-formed")
}

/// Its public half.
pub fn verifier_key() -> VerifierKey {
    signer().verifier_key()
}

/// Makes the checks of a table (four sections, named from byte 192 on) or of a subjects file (two,
/// from byte 24 on) anew, so that what was changed gets past them.
pub fn reseal(bytes: &mut [u8], sections_at: usize, sections: usize) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    for at in (0..sections).map(|number| sections_at + 32 * number) {
        let from = usize::try_from(number(bytes, at)).unwrap_or(usize::MAX);
        let len = usize::try_from(number(bytes, at + 8)).unwrap_or(usize::MAX);
        if let Some(part) = bytes.get(from..from.saturating_add(len)) {
            let check = xxh3_64(part);
            bytes[at + 16..at + 24].copy_from_slice(&check.to_le_bytes());
        }
    }
    let check_at = HEADER_BYTES - 8;
    let check = xxh3_64(&bytes[..check_at]);
    bytes[check_at..HEADER_BYTES].copy_from_slice(&check.to_le_bytes());
}

/// [`reseal`] for a table.
pub fn reseal_table(bytes: &mut [u8]) {
    reseal(bytes, 192, 4);
}

/// [`reseal`] for a subjects file.
pub fn reseal_subjects(bytes: &mut [u8]) {
    reseal(bytes, 24, 2);
}

/// The little-endian number at `at`, which is there.
pub fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("eight bytes"))
}

/// Cuts an input into parts, each behind its length of two bytes; the last part may be short.
pub fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (len, after) = rest.split_first_chunk()?;
        let (part, left) = after.split_at(usize::from(u16::from_le_bytes(*len)).min(after.len()));
        rest = left;
        Some(part)
    })
}

/// Applies the input's edits to `files`: each is six bytes, which file, what to do, where, and with
/// what. Whatever the bytes are, they are edits.
pub fn edit(files: &mut [Vec<u8>], edits: &[u8]) {
    for &[file, action, low, high, a, b] in edits.as_chunks::<6>().0.iter().take(EDITS_MAX) {
        let file = usize::from(file) % files.len();
        let bytes = &mut files[file];
        if bytes.is_empty() {
            continue;
        }
        let at = usize::from(u16::from_le_bytes([low, high])) % bytes.len();
        let end = (at + usize::from(b)).min(bytes.len());
        match action % 8 {
            0 | 1 => bytes[at] = a,
            2 => bytes[at] ^= 1 << (a % 8),
            3 => bytes[at] = bytes[at].wrapping_add(a),
            4 => bytes[at..end].fill(a),
            5 => {
                let to = usize::from(a) * 16 % (bytes.len() - (end - at) + 1);
                bytes.copy_within(at..end, to);
            }
            6 => bytes.truncate(at),
            _ => bytes.extend(std::iter::repeat_n(a, usize::from(b))),
        }
    }
}

/// More edits than this leave nothing of a sample.
const EDITS_MAX: usize = 32;
