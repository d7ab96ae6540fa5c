//! Who is at the other end of a Unix socket, as the kernel knows it.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// Most groups that are asked for; Linux allows a process 65,536.
const GROUPS_MAX: usize = 65_536;

/// A peer, as it was at `connect()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// For the log alone.
    pub(super) pid: i32,
}

/// The peer of a connection.
pub(super) fn of(stream: &UnixStream) -> io::Result<Peer> {
    let found = rustix::net::sockopt::socket_peercred(stream)?;
    let pid = found.pid.as_raw_nonzero().get();
    Ok(Peer { uid: found.uid.as_raw(), gid: found.gid.as_raw(), pid })
}

/// All groups of the peer, the first one too.
pub(super) fn groups(stream: &UnixStream, peer: &Peer) -> Vec<u32> {
    let mut groups = vec![0_u32; 64];
    loop {
        match supplementary(stream, &mut groups) {
            Ok(count) => {
                groups.truncate(count);
                groups.push(peer.gid);
                return groups;
            }
            Err(err) if err.raw_os_error() == Some(libc::ERANGE) && groups.len() < GROUPS_MAX => {
                groups.resize(groups.len() * 4, 0);
            }
            // Fewer groups than it has may only close doors.
            Err(_) => return vec![peer.gid],
        }
    }
}

/// Fills `groups` and says how many there are: socket(7), `SO_PEERGROUPS`.
fn supplementary(stream: &UnixStream, groups: &mut [u32]) -> io::Result<usize> {
    let bytes = std::mem::size_of_val(groups);
    let mut len = libc::socklen_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `len` bytes to `groups`, and len = size_of_val(groups).
    let failed = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if failed == -1 { Err(io::Error::last_os_error()) } else { Ok(len as usize / size_of::<u32>()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_peer_in_this_process_is_this_process() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = of(&ours).unwrap();
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert_eq!(peer.gid, rustix::process::getegid().as_raw());
        assert_eq!(u32::try_from(peer.pid).unwrap(), std::process::id());
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
        let mut expected: Vec<u32> = line.split_whitespace().map(|g| g.parse().unwrap()).collect();
        expected.push(peer.gid);
        assert_eq!(groups(&ours, &peer), expected);
    }
}
