//! The broker: shards over the log store, the Kafka protocol and the reactor.
//!
//! The data path, in file names: `admission` (frame to request) -> `handlers/produce` -> `produce`
//! -> the store's tail cache -> disk -> `produce` (high-water mark) -> answer; and
//! `handlers/fetch` -> `fetch/round` -> tail cache or segment file -> socket.

#![forbid(unsafe_code)]

pub mod admission;
pub mod answer_text;
pub mod barrier;
pub mod boot;
pub mod config;
pub mod connection;
pub mod dev;
pub mod doctor;
#[cfg(test)]
mod durability_tests;
pub mod fetch;
pub mod groups;
pub mod handlers;
pub mod log_tool;
pub mod logging;
pub mod memory_budget;
pub mod message;
pub mod metadata;
pub mod metadata_log;
pub mod meters;
pub mod offline;
pub mod ops;
pub mod partition_table;
pub mod produce;
pub mod producer_ids;
pub mod quarantine;
pub mod query;
mod scrubbing;
pub mod serve;
pub mod shard;
pub mod slab;
#[cfg(test)]
mod test_shard;
#[cfg(test)]
mod testing;
pub mod timestamp_lookup;

/// Rules that were taken out of this build for a test of the tests: none in a build for use.
const MUTANTS: &str = env!("HIGHWATER_MUTANTS");
/// The version this build calls itself, mutants included.
pub const VERSION: &str = match MUTANTS.is_empty() {
    true => env!("CARGO_PKG_VERSION"),
    false => concat!(
        env!("CARGO_PKG_VERSION"),
        " MUTANT ",
        env!("HIGHWATER_MUTANTS")
    ),
};

#[cfg(test)]
mod tests {
    #[test]
    fn a_build_has_only_the_mutants_it_was_asked_for() {
        let asked = std::env::var("HIGHWATER_MUTANT").unwrap_or_default();
        assert_eq!(super::MUTANTS, asked.replace(',', " "));
        assert_eq!(
            super::VERSION == env!("CARGO_PKG_VERSION"),
            asked.is_empty()
        );
    }
}
