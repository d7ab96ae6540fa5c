//! memcached: `get` of one key and of many, in its text protocol.

use std::process::{Command, Stdio};
use std::sync::Arc;

use adamant::token::Digest;
use anyhow::ensure;

use super::server::{Server, send};
use super::talk::{Key, Pool, Protocol};
use crate::keys::value_of;
use crate::machine;
use crate::programs::Running;

/// Keys that are stored in one write, while the server is filled.
const FILLED_AT_ONCE: usize = 1000;
/// More than a million keys take; it keeps nothing that it has no room for.
const MEMORY_MIB: &str = "2048";

/// `None`: the program is not there.
pub(crate) fn start(pool: &Arc<Pool>) -> anyhow::Result<Option<Server>> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("socket");
    let mut command = Command::new("memcached");
    // One thread, as the others have it. The user matters only to the superuser, who must name one.
    command.args(["-t", "1", "-m", MEMORY_MIB, "-B", "ascii", "-u", "root", "-s"]).arg(&socket);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Some(mut running) = Running::start(&mut command)? else { return Ok(None) };
    let mut stream = running.listens(&socket)?;
    let before = machine::process_bytes(running.pid(), "VmRSS:");
    let mut stored = 0_usize;
    let digests: Vec<Digest> = pool.stored().collect();
    for digests in digests.chunks(FILLED_AT_ONCE) {
        let mut sets = Vec::new();
        for digest in digests {
            sets.extend(b"set ");
            sets.extend(name(digest));
            sets.extend(b" 0 0 16\r\n");
            sets.extend(value_of(digest));
            sets.extend(b"\r\n");
        }
        send(&mut stream, &sets, &b"STORED\r\n".repeat(digests.len()))?;
        stored += digests.len();
    }
    let bytes = machine::process_bytes(running.pid(), "VmRSS:").saturating_sub(before);
    Ok(Some(Server {
        name: "memcached",
        running,
        socket,
        protocol: Arc::new(Text),
        pool: Arc::clone(pool),
        bytes_a_key: Some(bytes as f64 / stored as f64),
        _folder: folder,
    }))
}

struct Text;

impl Protocol for Text {
    fn push_request(&self, out: &mut Vec<u8>, keys: &[Key]) -> anyhow::Result<()> {
        out.extend(b"get");
        for key in keys {
            out.push(b' ');
            out.extend(name(&key.digest));
        }
        out.extend(b"\r\n");
        Ok(())
    }

    fn answer_bytes(&self, keys: &[Key]) -> usize {
        answer(keys).len()
    }

    fn check(&self, found: &[u8], keys: &[Key]) -> anyhow::Result<()> {
        ensure!(found == answer(keys), "a wrong answer");
        Ok(())
    }
}

fn answer(keys: &[Key]) -> Vec<u8> {
    let mut out = Vec::new();
    for key in keys.iter().filter(|key| key.is_hit) {
        out.extend(b"VALUE ");
        out.extend(name(&key.digest));
        out.extend(b" 0 16\r\n");
        out.extend(value_of(&key.digest));
        out.extend(b"\r\n");
    }
    out.extend(b"END\r\n");
    out
}

/// A key of 32 bytes. It may hold no space and nothing that controls a terminal, so those bytes are
/// given their top bit.
fn name(digest: &Digest) -> Digest {
    digest.map(|byte| if byte <= b' ' || byte == 0x7F { byte | 0x80 } else { byte })
}
