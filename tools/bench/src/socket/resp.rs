//! Redis and Valkey: GET and MGET of binary keys, no persistence.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use adamant::token::Digest;
use anyhow::ensure;

use super::server::{Server, send};
use super::talk::{Key, Pool, Protocol};
use crate::keys::value_of;
use crate::machine;
use crate::programs::Running;

/// Keys of one MSET, while the server is filled.
const FILLED_AT_ONCE: usize = 1000;

/// `None`: the program is not there.
pub(crate) fn start(
    name: &'static str,
    program: &Path,
    pool: &Arc<Pool>,
) -> anyhow::Result<Option<Server>> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("socket");
    let mut command = Command::new(program);
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]);
    command.arg(&socket).current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let Some(mut running) = Running::start(&mut command)? else { return Ok(None) };
    let mut stream = running.listens(&socket)?;
    let before = machine::process_bytes(running.pid(), "VmRSS:");
    let mut stored = 0_usize;
    let digests: Vec<Digest> = pool.stored().collect();
    for digests in digests.chunks(FILLED_AT_ONCE) {
        let mut mset = format!("*{}\r\n$4\r\nMSET\r\n", 1 + 2 * digests.len()).into_bytes();
        for digest in digests {
            push_bulk(&mut mset, digest);
            push_bulk(&mut mset, &value_of(digest));
        }
        send(&mut stream, &mset, b"+OK\r\n")?;
        stored += digests.len();
    }
    let bytes = machine::process_bytes(running.pid(), "VmRSS:").saturating_sub(before);
    let bytes_a_key = Some(bytes as f64 / stored as f64);
    let pool = Arc::clone(pool);
    Ok(Some(Server {
        name,
        running,
        socket,
        protocol: Arc::new(Resp),
        pool,
        bytes_a_key,
        _folder: folder,
    }))
}

struct Resp;

impl Protocol for Resp {
    fn push_request(&self, out: &mut Vec<u8>, keys: &[Key]) -> anyhow::Result<()> {
        match keys {
            [key] => {
                out.extend(b"*2\r\n$3\r\nGET\r\n");
                push_bulk(out, &key.digest);
            }
            keys => {
                out.extend(format!("*{}\r\n$4\r\nMGET\r\n", 1 + keys.len()).into_bytes());
                keys.iter().for_each(|key| push_bulk(out, &key.digest));
            }
        }
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
    if keys.len() > 1 {
        out.extend(format!("*{}\r\n", keys.len()).into_bytes());
    }
    for key in keys {
        match key.is_hit {
            true => push_bulk(&mut out, &value_of(&key.digest)),
            false => out.extend(b"$-1\r\n"),
        }
    }
    out
}

fn push_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(format!("${}\r\n", bytes.len()).into_bytes());
    out.extend(bytes);
    out.extend(b"\r\n");
}
