//! The process's descriptors: raises the limit, and cuts the bounds of connections and open files to
//! what it allows, so that clients can never use up what the log needs.

use crate::config::ReactorConfig;

/// Descriptors of a core besides its files: ring, doorbells.
const PER_CORE: usize = 16;
/// Descriptors for listeners, the disk helper, and whatever else the process opens.
const RESERVED: usize = 128;
/// Open files a core cannot do without: each operation under way may need one of its own.
const FILES_PER_CORE_MIN: usize = 64;

/// Uses as many descriptors as the system allows; how many that is.
pub(crate) fn raise_limit() -> usize {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the struct lives for both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            let soft = limit.rlim_cur;
            limit.rlim_cur = limit.rlim_max;
            if libc::setrlimit(libc::RLIMIT_NOFILE, &limit) != 0 {
                limit.rlim_cur = soft;
            }
        }
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// What a limit of descriptors is enough for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorBudget {
    /// Connections of the process.
    pub connections_max: usize,
    /// Data files each core keeps open.
    pub open_files_max: usize,
    /// The limit at which the bounds asked for would not be cut.
    pub wanted: usize,
}

impl DescriptorBudget {
    /// Cuts the bounds to what `limit` allows: three quarters of what is free for connections at the
    /// most, and the rest for the files of the cores.
    #[must_use]
    pub fn of(
        limit: usize,
        cores: usize,
        connections_max: usize,
        open_files_max: usize,
    ) -> DescriptorBudget {
        let fixed = RESERVED + (PER_CORE + FILES_PER_CORE_MIN) * cores;
        let free = limit.saturating_sub(fixed);
        let connections = connections_max.min(free / 4 * 3).max(1);
        let files = free.saturating_sub(connections) / cores.max(1);
        let for_files = open_files_max.saturating_sub(FILES_PER_CORE_MIN) * cores;
        // A third more than the connections, so that three quarters are enough for them.
        let for_both = connections_max + for_files.max(connections_max.div_ceil(3) + 4);
        DescriptorBudget {
            connections_max: connections,
            open_files_max: open_files_max.min(files.saturating_add(FILES_PER_CORE_MIN)),
            wanted: fixed + for_both,
        }
    }
}

/// Cuts the bounds of a configuration to what `limit` allows, and says so.
pub(crate) fn fit(mut config: ReactorConfig, limit: usize) -> ReactorConfig {
    let (connections, files) = (config.connections_max, config.open_files_max);
    let budget = DescriptorBudget::of(limit, config.cores, connections, files);
    if budget.connections_max < connections {
        tracing::warn!(
            descriptors = limit,
            wanted = connections,
            connections_max = budget.connections_max,
            "the limit of open files is too low for so many connections; raise it (ulimit -n, \
             LimitNOFILE)"
        );
    }
    if budget.open_files_max < files {
        tracing::info!(
            descriptors = limit,
            wanted = files,
            open_files_max = budget.open_files_max,
            "fewer data files stay open than configured: the limit of open files is lower"
        );
    }
    config.connections_max = budget.connections_max;
    config.open_files_max = budget.open_files_max;
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_the_limit_it_names_nothing_is_cut() {
        for (cores, connections, files) in [(1, 20_000, 1024), (4, 20_000, 65_536), (64, 9, 64)] {
            let wanted = DescriptorBudget::of(0, cores, connections, files).wanted;
            let budget = DescriptorBudget::of(wanted, cores, connections, files);
            assert_eq!(budget.connections_max, connections);
            assert_eq!(budget.open_files_max, files);
        }
    }

    #[test]
    fn clients_cannot_use_up_what_files_need() {
        for limit in [300, 1024, 4096, 20_000, 65_536] {
            for cores in [1, 2, 16] {
                let budget = DescriptorBudget::of(limit, cores, 20_000, 65_536);
                let (connections, files) = (budget.connections_max, budget.open_files_max);
                let used = RESERVED + cores * (PER_CORE + files) + connections;
                let least = RESERVED + cores * (PER_CORE + FILES_PER_CORE_MIN) + 1;
                assert!(used <= limit.max(least), "{cores} cores, {limit}: {used}");
                assert!(files >= FILES_PER_CORE_MIN && connections >= 1);
            }
        }
    }
}
