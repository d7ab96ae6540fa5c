//! Connects within a deadline.
//!
//! std cannot bound a connect to a Unix socket, and the kernel lets one wait for as long as the
//! daemon's backlog is full. So a thread of its own connects. A connect that outlasts a call is
//! kept for the next one: a client never has more than one such thread.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::{io, thread};

use super::CouldNotAsk;
use super::link::Deadline;

pub(super) struct Dialer {
    socket: PathBuf,
    pending: Option<Receiver<io::Result<UnixStream>>>,
}

impl Dialer {
    pub(super) fn new(socket: &Path) -> Dialer {
        Dialer { socket: socket.to_owned(), pending: None }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn dial(&mut self, deadline: Deadline) -> Result<UnixStream, CouldNotAsk> {
        if let Some(earlier) = self.pending.take()
            && let Ok(stream) = self.wait(earlier, deadline)?
        {
            return Ok(stream);
        }
        let connecting = self.start().map_err(CouldNotAsk::Connect)?;
        self.wait(connecting, deadline)?.map_err(CouldNotAsk::Connect)
    }

    fn start(&self) -> io::Result<Receiver<io::Result<UnixStream>>> {
        let (sender, receiver) = sync_channel(1);
        let socket = self.socket.clone();
        let connect = move || {
            // Nobody may be waiting any more; then the stream is closed, as it should be.
            let _ = sender.send(UnixStream::connect(socket));
        };
        thread::Builder::new().name("adamant-connect".to_owned()).spawn(connect)?;
        Ok(receiver)
    }

    fn wait(
        &mut self,
        connecting: Receiver<io::Result<UnixStream>>,
        deadline: Deadline,
    ) -> Result<io::Result<UnixStream>, CouldNotAsk> {
        match connecting.recv_timeout(deadline.left()?) {
            Ok(result) => Ok(result),
            Err(RecvTimeoutError::Disconnected) => Ok(Err(io::ErrorKind::Other.into())),
            Err(RecvTimeoutError::Timeout) => {
                self.pending = Some(connecting);
                Err(deadline.passed())
            }
        }
    }
}
