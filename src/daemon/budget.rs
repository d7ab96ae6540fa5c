//! What a configuration comes to: descriptors and private memory, at most.

use std::fmt;

use super::Config;
use super::answer::BATCH_BYTES_MAX;
use super::connection::{Connection, KEPT_BYTES, SCRATCH_BYTES};

/// Descriptors for all that is no connection: standard ones, sockets, watches, files while they
/// are opened, the reserve.
const DESCRIPTORS_BESIDE: u64 = 64;
/// Descriptors of a worker: epoll, wake-up, and both ends of the watchdog's connection.
const DESCRIPTORS_A_WORKER: u64 = 4;
/// Stacks as far as they are touched, code and heap that is none of the below.
const MEMORY_BESIDE: usize = 8 << 20;

/// What a daemon may use at most, beside the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The limit that the process has.
    pub descriptors_max: u64,
    /// Connections that are taken in: as configured, or as the limit allows.
    pub connections_max: usize,
    /// Connections that were configured.
    pub connections_wanted: usize,
    /// Bytes of private memory.
    pub memory_bytes_max: usize,
}

impl Budget {
    /// The budget under a limit of descriptors. `None`: too few for even one connection.
    pub fn of(config: &Config, descriptors_max: u64) -> Option<Budget> {
        let beside = DESCRIPTORS_BESIDE + DESCRIPTORS_A_WORKER * config.workers as u64;
        let room = usize::try_from(descriptors_max.checked_sub(beside)?).unwrap_or(usize::MAX);
        let connections_max = config.connections_max.min(room);
        let idle_bytes = connections_max * size_of::<Option<Connection>>();
        let worker_bytes = config.workers * (SCRATCH_BYTES + BATCH_BYTES_MAX + KEPT_BYTES);
        (connections_max > 0).then_some(Budget {
            descriptors_max,
            connections_max,
            connections_wanted: config.connections_max,
            memory_bytes_max: MEMORY_BESIDE + config.buffer_bytes_max + idle_bytes + worker_bytes,
        })
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connections {}", self.connections_max)?;
        if self.connections_max < self.connections_wanted {
            write!(f, " (of {} wanted)", self.connections_wanted)?;
        }
        let mib = self.memory_bytes_max.div_ceil(1 << 20);
        write!(
            f,
            " under {} descriptors, at most {mib} MiB beside the tables",
            self.descriptors_max
        )
    }
}
