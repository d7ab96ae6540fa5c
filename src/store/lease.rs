//! Keeps writers away from a file that is being served: a read lease, fcntl(2) `F_SETLEASE`.
//!
//! While it is held, the kernel lets nobody open the file for writing, or cut it, before the holder
//! was told by SIGIO and has let go; it waits for `/proc/sys/fs/lease-break-time` seconds, 45 by
//! default, which is long enough to copy the table into private memory. So a file that somebody
//! overwrites or cuts under the map costs neither a wrong answer nor the process.
//!
//! A lease is given to the owner of the file and to whoever has CAP_LEASE, on local file systems.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// A file that nobody writes to without our letting go. Dropped, it lets go.
#[derive(Debug)]
pub(super) struct Lease(File);

impl Lease {
    /// Takes the lease. `WouldBlock`: somebody has the file open for writing.
    pub(super) fn take(file: File) -> io::Result<Lease> {
        // SAFETY: the descriptor is open, and the command takes an integer: 0 bytes of our memory
        // are read or written.
        let taken = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
        if taken == -1 { Err(io::Error::last_os_error()) } else { Ok(Lease(file)) }
    }

    /// Whether somebody waits to write.
    pub(super) fn is_contested(&self) -> bool {
        // SAFETY: the descriptor is open, and the command takes nothing: 0 bytes of our memory are
        // read or written.
        let held = unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_GETLEASE) };
        held != libc::F_RDLCK
    }
}

// With the daemon, which is what brings a handler for the signal.
#[cfg(all(test, feature = "daemon"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::OpenOptionsExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_writer_waits_and_is_seen() {
        let told = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGIO, Arc::clone(&told)).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let lease = Lease::take(File::open(file.path()).unwrap());
        assert_eq!(lease.unwrap_err().kind(), io::ErrorKind::WouldBlock, "it is open for writing");
        let path = file.into_temp_path();
        let lease = Lease::take(File::open(&path).unwrap()).unwrap();
        assert!(!lease.is_contested());
        let mut impatient = OpenOptions::new();
        impatient.write(true).custom_flags(libc::O_NONBLOCK);
        assert_eq!(impatient.open(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(lease.is_contested());
        assert!(told.load(Ordering::Relaxed));
        drop(lease);
        assert!(impatient.open(&path).is_ok());
    }
}
