//! What a node's memory adds up to: every large consumer has a bound of its own, and their sum is
//! what the process stays within. Said by the log at the start, by `highwater doctor` and with the
//! counters; `perf/run isolation` holds the process to it.
//!
//! Not counted: the page cache, which is the system's, and what grows with the number of topics and
//! partitions (`idle_partition_bytes` in `perf/README.md`).

use highwater_base::limits::FOREIGN_COPY_BYTES_MAX;

use crate::config::NodeConfig;

/// The program, its threads and rings, and what core 0 keeps of the metadata of few topics.
const PROCESS_BYTES: usize = 64 << 20;
/// A connection that asks nothing: its receive buffer, its tasks, its place in the tables.
const IDLE_CONNECTION_BYTES: usize = 8 << 10;
/// A consumer group with a few members or committed offsets (`scripts/chaos/group_load`). One may
/// have more, up to `group_bytes_max`.
const GROUP_BYTES: usize = 2 << 10;

/// The bounds in bytes, over all cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBudget {
    /// Recent records, and what waits for the disk (`tail_cache_mb`).
    pub tail_cache_bytes: usize,
    /// Requests that are being received (`receive_buffers_mb`).
    pub receive_bytes: usize,
    /// Records copied for consumers of other cores.
    pub copies_bytes: usize,
    /// Connections that ask nothing (`connections_max`).
    pub connections_bytes: usize,
    /// Consumer groups and their committed offsets (`groups_max`).
    pub groups_bytes: usize,
}

impl MemoryBudget {
    /// What a configuration allows on so many cores.
    #[must_use]
    pub fn of(config: &NodeConfig, cores: usize) -> MemoryBudget {
        let copies_bytes = match cores {
            1 => 0,
            _ => FOREIGN_COPY_BYTES_MAX * cores,
        };
        MemoryBudget {
            tail_cache_bytes: (config.tail_cache_mb << 20) * cores,
            receive_bytes: (config.receive_buffers_mb << 20) * cores,
            copies_bytes,
            connections_bytes: config.connections_max * IDLE_CONNECTION_BYTES,
            groups_bytes: config.groups_max * GROUP_BYTES,
        }
    }

    /// The parts by name, for the operations endpoint.
    #[must_use]
    pub fn pools(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("process", PROCESS_BYTES),
            ("tail_cache", self.tail_cache_bytes),
            ("receive_buffers", self.receive_bytes),
            ("copies", self.copies_bytes),
            ("connections", self.connections_bytes),
            ("groups", self.groups_bytes),
        ]
    }

    /// All of it.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.pools().into_iter().map(|(_, bytes)| bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_follows_the_keys_and_the_cores() {
        let sets = [
            ("tail_cache_mb".to_string(), "100".to_string()),
            ("receive_buffers_mb".to_string(), "256".to_string()),
            ("connections_max".to_string(), "1024".to_string()),
            ("groups_max".to_string(), "2048".to_string()),
        ];
        let config = NodeConfig::load(None, [], &sets).expect("valid");
        let one = MemoryBudget::of(&config, 1);
        assert_eq!(one.total_bytes(), (64 + 100 + 256 + 8 + 4) << 20);
        let four = MemoryBudget::of(&config, 4);
        assert_eq!(
            four.total_bytes(),
            (64 + 4 * (100 + 256 + 64) + 8 + 4) << 20
        );
    }
}
