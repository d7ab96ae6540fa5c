//! Adamant: digests in VERIFY frames, or tokens that the daemon hashes, in VERIFY_TOKENS.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use adamant::claims::Requirement;
use adamant::verdict::Verdict;
use adamant::wire::{
    PREFIX_BYTES, ROW_BYTES, Reply, cut_frame, push_hello_request, push_verify, push_verify_tokens,
};
use anyhow::{Context, bail, ensure};

use super::server::Server;
use super::talk::{Key, Pool, Protocol};
use crate::programs::Daemon;

/// A VERDICTS frame without its rows: length, number, flags, four numbers, two counts.
const REPLY_BYTES: usize = PREFIX_BYTES + 4 + 4 + 4 * 8 + 8 + 8;

/// One thread that answers, as peers have it.
pub(crate) const ONE_WORKER: &str = "workers = 1\n";

/// A daemon on that home, pinned as the caller is.
pub(crate) fn start(
    name: &'static str,
    home: &Path,
    pool: &Arc<Pool>,
    protocol: Arc<dyn Protocol>,
) -> anyhow::Result<Server> {
    let daemon = Daemon::start(home, ONE_WORKER)?;
    let socket = daemon.socket();
    let (running, folder) = daemon.into_parts();
    let pool = Arc::clone(pool);
    Ok(Server { name, running, socket, protocol, pool, bytes_a_key: None, _folder: folder })
}

pub(crate) struct Digests;

impl Protocol for Digests {
    fn greet(&self, stream: &mut UnixStream) -> anyhow::Result<()> {
        greet(stream)
    }

    fn push_request(&self, out: &mut Vec<u8>, keys: &[Key]) -> anyhow::Result<()> {
        let digests: Vec<_> = keys.iter().map(|key| key.digest).collect();
        Ok(push_verify(out, false, &Requirement::any(), &digests)?)
    }

    fn answer_bytes(&self, keys: &[Key]) -> usize {
        REPLY_BYTES + keys.len() * ROW_BYTES
    }

    fn check(&self, answer: &[u8], keys: &[Key]) -> anyhow::Result<()> {
        check(answer, keys)
    }
}

pub(crate) struct Tokens(pub(crate) Arc<Pool>);

impl Protocol for Tokens {
    fn greet(&self, stream: &mut UnixStream) -> anyhow::Result<()> {
        greet(stream)
    }

    fn push_request(&self, out: &mut Vec<u8>, keys: &[Key]) -> anyhow::Result<()> {
        let tokens: Vec<&[u8]> = keys.iter().map(|key| self.0.text(key)).collect();
        Ok(push_verify_tokens(out, false, &Requirement::any(), &tokens)?)
    }

    fn answer_bytes(&self, keys: &[Key]) -> usize {
        REPLY_BYTES + keys.len() * ROW_BYTES
    }

    fn check(&self, answer: &[u8], keys: &[Key]) -> anyhow::Result<()> {
        check(answer, keys)
    }
}

/// The first exchange of a connection.
pub(crate) fn greet(stream: &mut UnixStream) -> anyhow::Result<()> {
    let mut request = Vec::new();
    push_hello_request(&mut request);
    stream.write_all(&request)?;
    let mut reply = vec![0; PREFIX_BYTES];
    stream.read_exact(&mut reply)?;
    let length = u32::from_le_bytes(*reply.first_chunk().expect("it has that length"));
    reply.resize(PREFIX_BYTES + usize::try_from(length)?, 0);
    stream.read_exact(&mut reply[PREFIX_BYTES..])?;
    match decode(&reply)? {
        Reply::Hello(_) => Ok(()),
        other => bail!("no greeting: {other:?}"),
    }
}

fn check(answer: &[u8], keys: &[Key]) -> anyhow::Result<()> {
    let Reply::Verdicts(verdicts) = decode(answer)? else { bail!("no verdicts") };
    ensure!(verdicts.rows.len() == keys.len(), "{} rows", verdicts.rows.len());
    for (row, key) in verdicts.rows.zip(keys) {
        let expected = if key.is_hit { Verdict::Valid } else { Verdict::Unknown };
        ensure!(row.verdict == expected, "{}, expected {expected}", row.verdict);
    }
    Ok(())
}

fn decode(frame: &[u8]) -> anyhow::Result<Reply<'_>> {
    let (body, _) = cut_frame(frame)?.context("not a whole frame")?;
    Ok(Reply::decode(body)?)
}
