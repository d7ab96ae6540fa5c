//! How much is measured: sizes, rounds, and what the machine has room for.

use std::path::Path;

use crate::Arguments;
use crate::machine;

const MILLION: usize = 1_000_000;
/// Tables of this size and more take minutes, and a large part of a machine.
const LARGE: usize = 100 * MILLION;
const GIB: u64 = 1 << 30;

/// What every measurement needs to know.
pub(crate) struct Settings {
    pub(crate) sizes: Sizes,
    /// Small sizes and few rounds: figures mean nothing.
    pub(crate) is_quick: bool,
    /// Sizes of 100 M are left out.
    no_large: bool,
    pub(crate) rounds: usize,
    /// How often a measurement is begun at most, when its floor drifts.
    pub(crate) tries: usize,
    /// Look-ups of one round.
    pub(crate) lookups: usize,
    /// Questions of one round, one at a time.
    pub(crate) questions: usize,
    /// Tokens that are issued and revoked one by one.
    pub(crate) lives: usize,
    /// Seconds between two of them.
    pub(crate) pace_s: u64,
}

/// Records of what is measured.
#[derive(Clone)]
pub(crate) struct Sizes {
    /// Tables that are looked up in.
    pub(crate) index: Vec<usize>,
    /// Those of them that the goals name, the smaller and the larger.
    pub(crate) middle: usize,
    pub(crate) large: usize,
    /// Beside other indexes.
    pub(crate) peers: usize,
    /// Over the socket, beside other servers.
    pub(crate) socket: usize,
    /// Over the socket, alone.
    pub(crate) socket_large: usize,
    /// Built in memory, and with files.
    pub(crate) build: usize,
    pub(crate) build_large: usize,
    pub(crate) rotate: usize,
    pub(crate) life: usize,
    /// Whether they were asked for: then nobody looks whether there is room.
    is_asked: bool,
}

impl Settings {
    pub(crate) fn of(arguments: &Arguments) -> Settings {
        let sizes = match (&arguments.records[..], arguments.quick) {
            ([], false) => Sizes::of_goals(),
            ([], true) => Sizes::of(&[20_000, 40_000]),
            (asked, _) => Sizes { is_asked: true, ..Sizes::of(asked) },
        };
        let quick = Settings {
            sizes,
            is_quick: true,
            no_large: arguments.no_large,
            rounds: 3,
            tries: 1,
            lookups: 20_000,
            questions: 300,
            lives: arguments.lives.unwrap_or(3),
            pace_s: arguments.pace_s,
        };
        if arguments.quick {
            return quick;
        }
        Settings {
            is_quick: false,
            rounds: 9,
            tries: 3,
            lookups: 2_000_000,
            questions: 20_000,
            lives: arguments.lives.unwrap_or(200),
            ..quick
        }
    }

    /// Why that size is not measured: nobody wants it, or the machine has less than it needs.
    pub(crate) fn leaves_out(
        &self,
        records: usize,
        memory_bytes: u64,
        disk_bytes: u64,
    ) -> Option<String> {
        if self.no_large && records >= LARGE {
            return Some("--no-large was given".to_owned());
        }
        self.sizes.lacks(memory_bytes, disk_bytes)
    }
}

impl Sizes {
    fn of_goals() -> Sizes {
        Sizes {
            index: vec![MILLION, 10 * MILLION, 16 * MILLION, 100 * MILLION],
            middle: 16 * MILLION,
            large: 100 * MILLION,
            peers: 10 * MILLION,
            socket: MILLION,
            socket_large: 10 * MILLION,
            build: 10 * MILLION,
            build_large: 100 * MILLION,
            rotate: 10 * MILLION,
            life: MILLION,
            is_asked: false,
        }
    }

    fn of(asked: &[usize]) -> Sizes {
        let (small, large) = (asked[0], asked[asked.len() - 1]);
        Sizes {
            index: asked.to_vec(),
            middle: small,
            large,
            peers: small,
            socket: small,
            socket_large: large,
            build: small,
            build_large: large,
            rotate: small,
            life: small,
            is_asked: false,
        }
    }

    /// What the machine has less of than is needed. Nothing, if the sizes were asked for.
    fn lacks(&self, memory_bytes: u64, disk_bytes: u64) -> Option<String> {
        let memory = machine::memory_free_bytes();
        let disk = machine::disk_free_bytes(&std::env::temp_dir());
        let gib = |bytes: u64| bytes.div_ceil(GIB);
        let lacks = |what: &str, needed: u64, found: u64| {
            format!("needs {} GiB of {what}, there are {}", gib(needed), found / GIB)
        };
        if self.is_asked {
            None
        } else if memory < memory_bytes {
            Some(lacks("memory", memory_bytes, memory))
        } else if disk < disk_bytes {
            Some(lacks("disk", disk_bytes, disk))
        } else {
            None
        }
    }
}

/// `path` as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder has a plain name")
}
