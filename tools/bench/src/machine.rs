//! What the figures were measured on, and where a thread runs.

use std::fs;

use anyhow::Context;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::{Value, json};

pub(crate) fn describe() -> Value {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "processor": model.map_or("unknown", |(_, model)| model.trim()),
        "cores": cores(),
        "kernel": kernel.trim(),
    })
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Keeps the calling thread on one core.
pub(crate) fn pin(core: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(core % cores());
    sched_setaffinity(None, &set).context("cannot pin a thread")
}

/// The calling thread may run anywhere.
pub(crate) fn unpin() -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    (0..cores()).for_each(|core| set.set(core));
    sched_setaffinity(None, &set).context("cannot unpin a thread")
}

/// KiB of this process's maps of `file` that are in 2 MiB pages.
pub(crate) fn huge_kib(file: &str) -> u64 {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let mut ours = false;
    let mut sum = 0;
    for line in smaps.lines() {
        if line.contains('-') && line.split(' ').nth(1).is_some_and(|mode| mode.len() == 4) {
            ours = line.contains(file);
        } else if let Some(rest) = line.strip_prefix("FilePmdMapped:")
            && ours
        {
            sum += rest.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    sum
}

/// Seconds of processor time that this process's threads of that name have used.
pub(crate) fn thread_cpu_s(name_begins: &str) -> f64 {
    let mut ticks = 0_u64;
    for entry in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((head, rest)) = stat.rsplit_once(") ") else { continue };
        if head.split_once('(').is_some_and(|(_, name)| name.starts_with(name_begins)) {
            let fields: Vec<&str> = rest.split(' ').collect();
            // utime and stime, the 14th and 15th field of proc(5).
            ticks +=
                fields[11..13].iter().filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        }
    }
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}
