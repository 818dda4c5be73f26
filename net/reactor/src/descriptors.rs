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

/// Cuts the bounds to what `limit` allows: three quarters of it for connections at the most, and the
/// rest for the files of the cores.
pub(crate) fn fit(mut config: ReactorConfig, limit: usize) -> ReactorConfig {
    let fixed = RESERVED + PER_CORE * config.cores;
    let least_files = FILES_PER_CORE_MIN * config.cores;
    let free = limit.saturating_sub(fixed + least_files);
    let connections = config.connections_max.min(free / 4 * 3).max(1);
    let files =
        (free.saturating_sub(connections) / config.cores.max(1)).saturating_add(FILES_PER_CORE_MIN);
    if connections < config.connections_max {
        tracing::warn!(
            descriptors = limit,
            wanted = config.connections_max,
            connections_max = connections,
            "the limit of open files is too low for so many connections; raise it (ulimit -n, \
             LimitNOFILE)"
        );
    }
    if files < config.open_files_max {
        tracing::info!(
            descriptors = limit,
            wanted = config.open_files_max,
            open_files_max = files,
            "fewer data files stay open than configured: the limit of open files is lower"
        );
    }
    config.connections_max = connections;
    config.open_files_max = config.open_files_max.min(files);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(cores: usize, connections: usize, files: usize, limit: usize) -> (usize, usize) {
        let config = ReactorConfig {
            cores,
            connections_max: connections,
            open_files_max: files,
            ..ReactorConfig::default()
        };
        let fitted = fit(config, limit);
        (fitted.connections_max, fitted.open_files_max)
    }

    #[test]
    fn bounds_that_fit_stay() {
        assert_eq!(fitted(2, 20_000, 65_536, 1 << 20), (20_000, 65_536));
    }

    #[test]
    fn clients_cannot_use_up_what_files_need() {
        for limit in [300, 1024, 4096, 20_000, 65_536] {
            for cores in [1, 2, 16] {
                let (connections, files) = fitted(cores, 20_000, 65_536, limit);
                let used = RESERVED + cores * (PER_CORE + files) + connections;
                let least = RESERVED + cores * (PER_CORE + FILES_PER_CORE_MIN) + 1;
                assert!(used <= limit.max(least), "{cores} cores, {limit}: {used}");
                assert!(files >= FILES_PER_CORE_MIN && connections >= 1);
            }
        }
    }
}
