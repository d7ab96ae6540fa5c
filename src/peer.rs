//! Who is at the other end of a Unix socket, as the kernel knows it, and who a rule means by a name.
//!
//! A peer is judged by uid and gid, as they were at `connect()`. A pid is no ground for any
//! decision, since it may belong to another process by now.

#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use serde::Deserialize;

/// Most groups that are asked for; Linux allows a process 65,536.
const GROUPS_MAX: usize = 65_536;

/// The user that stands for all who have no number in this user namespace. It is nobody, and may
/// nothing.
const OVERFLOW_UID: &str = "/proc/sys/kernel/overflowuid";
const OVERFLOW_UID_DEFAULT: u32 = 65_534;

/// A peer, as it was at `connect()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its first group.
    pub gid: u32,
    /// For the log alone.
    pub pid: i32,
}

/// A user or a group, as a rule names it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Name {
    /// By number.
    Number(u32),
    /// By its name on this host.
    Name(String),
}

impl Name {
    /// The uid of a user, by `/etc/passwd`.
    pub fn uid(self) -> Result<u32, UnknownName> {
        self.number("/etc/passwd")
    }

    /// The gid of a group, by `/etc/group`.
    pub fn gid(self) -> Result<u32, UnknownName> {
        self.number("/etc/group")
    }

    /// Both files have the number in their third column.
    fn number(self, file: &'static str) -> Result<u32, UnknownName> {
        let name = match self {
            Name::Number(number) => return Ok(number),
            Name::Name(name) => name,
        };
        let lines = fs::read_to_string(file).unwrap_or_default();
        let mut lines = lines.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let line = lines.find(|columns| columns[0] == name);
        let number = line.and_then(|columns| columns.get(2)?.parse().ok());
        number.ok_or(UnknownName { name, file })
    }
}

/// No such user or group.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` is not in {file}: use its number")]
pub struct UnknownName {
    name: String,
    file: &'static str,
}

/// The user that is nobody.
pub fn overflow_uid() -> u32 {
    let uid = fs::read_to_string(OVERFLOW_UID).ok();
    uid.and_then(|uid| uid.trim().parse().ok()).unwrap_or(OVERFLOW_UID_DEFAULT)
}

/// The peer of a connection.
pub fn of(stream: &impl AsFd) -> io::Result<Peer> {
    let found = rustix::net::sockopt::socket_peercred(stream)?;
    let pid = found.pid.as_raw_nonzero().get();
    Ok(Peer { uid: found.uid.as_raw(), gid: found.gid.as_raw(), pid })
}

/// All groups of the peer, the first one too.
pub fn groups(stream: &impl AsFd, peer: &Peer) -> Vec<u32> {
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
fn supplementary(stream: &impl AsFd, groups: &mut [u32]) -> io::Result<usize> {
    let bytes = std::mem::size_of_val(groups);
    let mut len = libc::socklen_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `len` bytes to `groups`, and len = size_of_val(groups).
    let failed = unsafe {
        libc::getsockopt(
            stream.as_fd().as_raw_fd(),
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
    use std::os::unix::net::UnixStream;

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
