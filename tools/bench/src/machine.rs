//! What the figures were measured on, where a thread runs, and what a process has used.

use std::fs;
use std::path::Path;

use anyhow::Context;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::{Value, json};

pub(crate) fn describe() -> Value {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    json!({
        "processor": model.map_or("unknown", |(_, model)| model.trim()),
        "cores": cores(),
        "kernel": line("/proc/sys/kernel/osrelease"),
        "memory": format!("{} GiB", meminfo_bytes("MemTotal:").div_ceil(1 << 30)),
        "huge pages": line("/sys/kernel/mm/transparent_hugepage/enabled"),
        "load before": line("/proc/loadavg"),
    })
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Keeps the calling thread on one core, and what it starts.
pub(crate) fn pin(core: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(core % all_cores());
    sched_setaffinity(None, &set).context("cannot pin a thread")
}

/// The calling thread may run anywhere.
pub(crate) fn unpin() -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    (0..all_cores()).for_each(|core| set.set(core));
    sched_setaffinity(None, &set).context("cannot unpin a thread")
}

/// Cores of the machine, however the calling thread is pinned.
fn all_cores() -> usize {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let last = online.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<usize>().ok());
    last.map_or_else(cores, |last| last + 1)
}

/// Bytes of this process in 2 MiB pages, in the range that begins at `bytes`.
pub(crate) fn huge_bytes(bytes: &[u8]) -> u64 {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let (from, mut ours, mut sum) = (bytes.as_ptr().addr(), false, 0);
    for line in smaps.lines() {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Some((start, _)) = first.split_once('-')
            && let Ok(start) = usize::from_str_radix(start, 16)
        {
            ours = (from..from + bytes.len()).contains(&start);
        } else if ours && (first == "FilePmdMapped:" || first == "AnonHugePages:") {
            sum += kib_of(rest) * 1024;
        }
    }
    sum
}

/// Seconds of processor time that all threads of a process have used.
pub(crate) fn process_cpu_s(pid: u32) -> f64 {
    let mut nanoseconds = 0_u64;
    for entry in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        // The first number: time on a processor. proc(5) counts it in hundredths of a second only.
        let stat = fs::read_to_string(entry.path().join("schedstat")).unwrap_or_default();
        let first = stat.split(' ').next().and_then(|first| first.parse::<u64>().ok());
        nanoseconds += first.unwrap_or(0);
    }
    nanoseconds as f64 / 1e9
}

/// A line of /proc/PID/status in bytes: `RssAnon:` is private memory, `VmRSS:` all that is mapped,
/// `VmHWM:` the most that ever was. 0 when the process is gone.
pub(crate) fn process_bytes(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix(name)).map_or(0, kib_of) * 1024
}

pub(crate) fn memory_free_bytes() -> u64 {
    meminfo_bytes("MemAvailable:")
}

pub(crate) fn disk_free_bytes(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(0, |stat| stat.f_bavail * stat.f_frsize)
}

fn meminfo_bytes(name: &str) -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    info.lines().find_map(|line| line.strip_prefix(name)).map_or(0, kib_of) * 1024
}

fn kib_of(rest: &str) -> u64 {
    rest.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0)
}
