//! What the kernel says about this process.

use std::fs;

/// Its resources at a moment. A figure that cannot be read is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessUse {
    pub resident_bytes: u64,
    pub open_descriptors: u64,
    pub descriptors_max: u64,
    /// Processor time of all threads.
    pub cpu_seconds: f64,
    pub threads: u64,
}

/// Fields of `/proc/self/stat` behind the process's name.
const STAT_USER_TICKS: usize = 11;
const STAT_SYSTEM_TICKS: usize = 12;
const STAT_THREADS: usize = 17;
const STAT_RESIDENT_PAGES: usize = 21;

/// Reads them from `/proc`.
#[must_use]
pub fn process_use() -> ProcessUse {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in parentheses, may hold anything.
    let fields: Vec<u64> = stat.rsplit(')').next().map_or_else(Vec::new, |rest| {
        let words = rest.split_whitespace();
        words.map(|word| word.parse().unwrap_or(0)).collect()
    });
    let field = |at: usize| fields.get(at).copied().unwrap_or(0);
    let ticks = field(STAT_USER_TICKS) + field(STAT_SYSTEM_TICKS);
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the struct lives for the call; sysconf reads no memory of ours.
    let (ticks_per_second, page_bytes) = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        (
            libc::sysconf(libc::_SC_CLK_TCK),
            libc::sysconf(libc::_SC_PAGESIZE),
        )
    };
    ProcessUse {
        resident_bytes: field(STAT_RESIDENT_PAGES) * page_bytes.max(0) as u64,
        open_descriptors: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
        descriptors_max: limit.rlim_cur,
        cpu_seconds: ticks as f64 / ticks_per_second.max(1) as f64,
        threads: field(STAT_THREADS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_descriptors_and_threads() {
        let used = process_use();
        assert!(used.resident_bytes > 64 << 10, "{used:?}");
        assert!(used.open_descriptors >= 3, "{used:?}");
        assert!(used.open_descriptors <= used.descriptors_max, "{used:?}");
        assert!(used.threads >= 1, "{used:?}");
    }
}
