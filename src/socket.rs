//! Unix sockets in the file system: bound over what a process that ended has left, and never over
//! what somebody else owns.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Who may connect to a socket that is bound here: its owner and its group.
const SOCKET_MODE: u32 = 0o660;

/// Listens on `path`, without blocking.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    clear_stale(path)?;
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Removes a socket that nobody listens on, so that its name can be bound again. One that answers
/// belongs to another process, and what is no socket belongs to somebody else.
fn clear_stale(path: &Path) -> io::Result<()> {
    let facts = match fs::symlink_metadata(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !facts.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is no socket is there",
        ));
    }
    match UnixStream::connect(path) {
        Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(err) => Err(err),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it")),
    }
}
