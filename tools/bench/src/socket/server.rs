//! A server that is measured: its process, how it is asked, and the keys that it stores.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::ensure;
use tempfile::TempDir;

use super::talk::{Pool, Protocol};
use crate::programs::Running;

pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) running: Running,
    pub(crate) socket: PathBuf,
    pub(crate) protocol: Arc<dyn Protocol>,
    pub(crate) pool: Arc<Pool>,
    /// Memory that it took to store a key; `None` where that is a file.
    pub(crate) bytes_a_key: Option<f64>,
    /// Where its socket is, removed with the server.
    pub(crate) _folder: TempDir,
}

impl Server {
    /// A connection that is ready for questions.
    pub(crate) fn connect(&self) -> anyhow::Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.socket)?;
        self.protocol.greet(&mut stream)?;
        Ok(stream)
    }
}

/// Sends commands and reads an answer of a known length that must come: how peers are filled.
pub(crate) fn send(
    stream: &mut UnixStream,
    commands: &[u8],
    expected: &[u8],
) -> anyhow::Result<()> {
    stream.write_all(commands)?;
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer)?;
    ensure!(answer == expected, "unexpected: {}", String::from_utf8_lossy(&answer));
    Ok(())
}
