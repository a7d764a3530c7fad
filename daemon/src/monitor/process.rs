//! What every process says of itself, under the names that Prometheus' own libraries use.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::Page;

/// Writes the numbers of this process. What the system does not tell is left out.
pub(super) fn write(page: &mut Page, began: u64) {
    page.number(
        "process_start_time_seconds",
        "When it began, in seconds since 1970.",
        began,
    );
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    page.number(
        "process_cpu_seconds_total",
        "Processor time.",
        format_args!("{}.{:09}", cpu.tv_sec, cpu.tv_nsec),
    );
    if let Some(bytes) = resident() {
        page.number("process_resident_memory_bytes", "Memory in use.", bytes);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // Without the one of the listing.
        let open = open.count().saturating_sub(1);
        page.number("process_open_fds", "Open file descriptors.", open);
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        page.number("process_max_fds", "The most of them.", most);
    }
}

fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
