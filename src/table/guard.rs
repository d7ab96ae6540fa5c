//! What happens when the bytes under a map are gone: the file was cut by somebody whom no lease
//! kept away, or its medium fails. The kernel sends SIGBUS, which ends a process that does not
//! handle it, and with it all verdicts of the host.
//!
//! The handler marks the map, puts zeros under the rest of it, and returns: whoever read there
//! reads zeros on. Nothing unwinds and nothing jumps, so no code on the way has to expect it. Zeros
//! are no answer: **whoever answers from a map looks at the mark when the answer is made, and before
//! it is given** ([`super::Table::is_poisoned`]). The mark is set before the zeros are there, so
//! nobody sees zeros without it.
//!
//! A fault anywhere else ends the process as if there were no handler.

#![allow(unsafe_code)]

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Maps that are guarded at once: six of a generation, of at most a handful. One beyond is not
/// guarded, which is how all were before.
const PLACES: usize = 64;

/// A map that is guarded. Free while `len` is 0 and nobody has claimed it.
struct Place {
    claimed: AtomicBool,
    from: AtomicUsize,
    len: AtomicUsize,
    poisoned: AtomicBool,
}

static GUARDED: [Place; PLACES] = [const {
    Place {
        claimed: AtomicBool::new(false),
        from: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        poisoned: AtomicBool::new(false),
    }
}; PLACES];

/// Maps that were ever poisoned.
static POISONED: AtomicU64 = AtomicU64::new(0);
/// Bytes of a page; 0 until the handler is installed.
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The right of a map to be guarded. To be dropped before the map is.
#[derive(Debug)]
pub(super) struct Guard(Option<usize>);

impl Guard {
    /// Guards the bytes of a map, from their first page to their last.
    pub(super) fn of(bytes: &[u8]) -> Guard {
        let free = |place: &&Place| !place.claimed.swap(true, Ordering::AcqRel);
        let Some(at) = GUARDED.iter().position(|place| free(&place)) else { return Guard(None) };
        let place = &GUARDED[at];
        place.poisoned.store(false, Ordering::SeqCst);
        place.from.store(bytes.as_ptr().addr(), Ordering::SeqCst);
        // Last: a length makes it count.
        place.len.store(bytes.len(), Ordering::SeqCst);
        Guard(Some(at))
    }

    /// A guard of what cannot be cut.
    pub(super) fn none() -> Guard {
        Guard(None)
    }

    /// Whether bytes of the map are gone.
    pub(super) fn is_poisoned(&self) -> bool {
        self.0.is_some_and(|at| GUARDED[at].poisoned.load(Ordering::SeqCst))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(at) = self.0 {
            GUARDED[at].len.store(0, Ordering::SeqCst);
            GUARDED[at].claimed.store(false, Ordering::Release);
        }
    }
}

/// How many maps were ever poisoned: whoever sees it grow has something to load anew.
pub fn poisoned_maps() -> u64 {
    POISONED.load(Ordering::SeqCst)
}

/// Handles SIGBUS from now on.
pub fn install() -> io::Result<()> {
    PAGE_BYTES.store(rustix::param::page_size(), Ordering::SeqCst);
    // SAFETY: a `sigaction` of zeros is one: 0 of its fields is a reference.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_sigbus as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `action` outlives the call, and `on_sigbus` has the type that SA_SIGINFO asks for and
    // calls only what signal-safety(7) allows: 0 locks, 0 allocations.
    let failed = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) };
    if failed == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

extern "C" fn on_sigbus(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands over one siginfo_t, alive until the handler returns.
    let info = unsafe { &*info };
    // SAFETY: for SIGBUS the kernel has set the address: it is the field that is read.
    let address = unsafe { info.si_addr() }.addr();
    let found = GUARDED.iter().find(|place| place.covers(address));
    if !found.is_some_and(|place| place.poison(address)) {
        // Not ours: without a handler the same instruction ends the process now.
        // SAFETY: SIG_DFL is a handler, and 0 bytes of our memory are touched.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
    }
}

impl Place {
    fn end(&self) -> usize {
        let page = PAGE_BYTES.load(Ordering::SeqCst).max(1);
        let len = self.len.load(Ordering::SeqCst);
        self.from.load(Ordering::SeqCst) + len.next_multiple_of(page)
    }

    fn covers(&self, address: usize) -> bool {
        let is_used = self.len.load(Ordering::SeqCst) > 0;
        is_used && (self.from.load(Ordering::SeqCst)..self.end()).contains(&address)
    }

    /// Marks the map, and puts zeros under it from the page of `address` to its end.
    fn poison(&self, address: usize) -> bool {
        let page = PAGE_BYTES.load(Ordering::SeqCst).max(1);
        let from = address - address % page;
        if !self.poisoned.swap(true, Ordering::SeqCst) {
            POISONED.fetch_add(1, Ordering::SeqCst);
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let at = ptr::with_exposed_provenance_mut(from);
        // SAFETY: start of the map <= from < its end, which is alive while its guard is, and
        // from + (end - from) = end: no page of another owner is replaced. The bytes under shared
        // references change from those of the file to zeros; the mark that was set says so.
        let put = unsafe { libc::mmap(at, self.end() - from, libc::PROT_READ, flags, -1, 0) };
        put != libc::MAP_FAILED
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write as _;

    use super::super::map::{Load, Map};
    use super::*;

    #[test]
    fn a_map_whose_file_is_cut_reads_as_zeros_and_is_marked() {
        install().unwrap();
        let page = rustix::param::page_size();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 4 * page]).unwrap();
        let mut other = tempfile::tempfile().unwrap();
        other.write_all(&vec![9; page]).unwrap();
        let (cut, whole) =
            (Map::of(&file, Load::Map).unwrap(), Map::of(&other, Load::Map).unwrap());
        let copy = cut.to_private().unwrap();
        assert_eq!((cut[0], cut[4 * page - 1], cut.is_poisoned()), (7, 7, false));
        let before = poisoned_maps();
        file.set_len(u64::try_from(page).unwrap()).unwrap();
        assert_eq!(cut[2 * page], 0);
        assert!(cut.is_poisoned());
        assert_eq!(poisoned_maps(), before + 1);
        // What is left of the file is still there, and so is what lies between.
        assert_eq!((cut[0], cut[page], cut[4 * page - 1]), (7, 0, 0));
        assert!(!whole.is_poisoned() && !copy.is_poisoned());
        assert_eq!((whole[page - 1], copy[4 * page - 1]), (9, 7));
        drop(cut);
        // Its place is free for another, which is whole.
        file.set_len(u64::try_from(page).unwrap()).unwrap();
        assert!(!Map::of(&file, Load::Map).unwrap().is_poisoned());
    }
}
