//! A daemon that does as its scripts say.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;

use crate::wire::{EncodedRow, Hello, Row, VerdictsHead, cut_frame, push_hello, push_verdicts};

/// What is done with one connection. It is closed at the end.
pub(super) type Script = Box<dyn FnOnce(&mut Peer) + Send>;

pub(super) struct Daemon {
    folder: tempfile::TempDir,
    thread: JoinHandle<()>,
}

impl Daemon {
    /// Runs the scripts, one for each connection, and then listens no longer.
    pub(super) fn start(scripts: Vec<Script>) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let thread = std::thread::spawn(move || {
            for script in scripts {
                let (stream, _) = listener.accept().unwrap();
                script(&mut Peer { stream });
            }
        });
        Daemon { folder, thread }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// All scripts have run, and none has failed.
    pub(super) fn finish(self) {
        self.thread.join().unwrap();
    }
}

/// The client, seen from the daemon.
pub(super) struct Peer {
    pub(super) stream: UnixStream,
}

impl Peer {
    /// The next frame, length and all; `None` when the client has closed.
    pub(super) fn read_frame(&mut self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 4];
        self.stream.read_exact(&mut frame).ok()?;
        let len = u32::from_le_bytes(*frame.first_chunk().unwrap());
        frame.resize(4 + usize::try_from(len).unwrap(), 0);
        self.stream.read_exact(&mut frame[4..]).ok()?;
        assert!(cut_frame(&frame).unwrap().is_some());
        Some(frame)
    }

    pub(super) fn expect(&mut self, frame: &[u8]) {
        assert_eq!(self.read_frame().as_deref(), Some(frame));
    }

    pub(super) fn expect_close(&mut self) {
        assert_eq!(self.read_frame(), None);
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(super) fn say(&mut self, push: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        push(&mut out);
        self.write(&out);
    }

    /// Answers HELLO.
    pub(super) fn greet(&mut self, hello: &Hello) {
        self.expect(&[8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        self.say(|out| push_hello(out, hello));
    }

    /// Reads a question and answers it with `rows`.
    pub(super) fn answer(&mut self, head: &VerdictsHead, rows: &[Row]) {
        self.read_frame().unwrap();
        let rows: Vec<EncodedRow> = rows.iter().map(Row::encode).collect();
        self.say(|out| push_verdicts(out, head, &rows, &[]));
    }
}
