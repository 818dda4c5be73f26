//! Verification over the disk in memory, and the logs it is tried on.

use highwater_base::disk::BootDisk;
use highwater_base::{DiskId, NodeId};
use highwater_store::inspect::{
    BatchAt, Finding, FindingKind, Gravity, PartitionVerdict, VerifyHost, find_partitions,
    verify_node, verify_partition,
};
use highwater_store::{LogConfig, Superblock};

use super::{Batch, CLUSTER, World, directory, spec, test_config};

pub const BLOCK: usize = 4096;
/// Bytes of each batch of the planted log.
pub const BATCH: usize = 61 + 1000;
pub const BATCHES: usize = 200;

#[derive(Default)]
pub struct Found {
    pub findings: Vec<Finding>,
    pub batches: usize,
}

impl VerifyHost for Found {
    fn finding(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn batch(&mut self, batch: &BatchAt<'_>) {
        assert!(batch.header.verify_crc(batch.bytes).is_ok());
        self.batches += 1;
    }

    fn scanned(&mut self, _bytes: u64) {}
}

impl Found {
    pub fn of(&self, kind: FindingKind) -> &Finding {
        let found = self.findings.iter().find(|finding| finding.kind == kind);
        found.unwrap_or_else(|| panic!("no {}: {:#?}", kind.name(), self.findings))
    }

    pub fn damages(&self) -> Vec<&Finding> {
        let damage = |finding: &&Finding| finding.kind.gravity() == Gravity::Damage;
        self.findings.iter().filter(damage).collect()
    }

    pub fn kinds(&self) -> Vec<&'static str> {
        let mut kinds: Vec<_> = self.findings.iter().map(|it| it.kind.name()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
}

pub fn verify(disk: &dyn BootDisk) -> (Found, Vec<PartitionVerdict>) {
    let mut found = Found::default();
    let facts = verify_node(disk, &mut found);
    let mut verdicts = Vec::new();
    for place in find_partitions(disk, &mut found) {
        let verdict = verify_partition(disk, &place, &facts, &mut found);
        facts.compare_checkpoint(
            place.key.expect("in a data directory"),
            &verdict,
            &mut found,
        );
        verdicts.push(verdict);
    }
    (found, verdicts)
}

pub fn small_segments() -> LogConfig {
    LogConfig {
        segment_bytes: 64 << 10,
        ..LogConfig::default()
    }
}

pub fn world() -> World {
    let mut world = World::new(test_config());
    Superblock::format(&mut world.disk, CLUSTER, NodeId(1), DiskId([5; 16])).expect("formatted");
    world
}

/// A log of several segments, two records a batch, of a node that was stopped cleanly.
pub fn stopped() -> World {
    let mut world = written();
    world.shutdown();
    world
}

/// The same before the stop.
pub fn written() -> World {
    let mut world = world();
    let log = world.store.create(spec(0, 0, small_segments()), world.now);
    for at in 0..BATCHES {
        let batch = Batch::of(2, 1000).by_producer(9, 0, at as i32 * 2);
        world
            .append(log, &batch.at(1000 + at as i64))
            .expect("room");
        world.settle();
    }
    world
}

/// The files of the log with this ending, in order.
pub fn files(world: &World, ending: &str) -> Vec<String> {
    let mut paths = world.disk.paths(&directory(0));
    paths.retain(|path| path.ends_with(ending));
    paths
}

pub fn base_of(path: &str) -> i64 {
    let name = path.rsplit('/').next().expect("a name");
    name[..20].parse().expect("a base offset")
}

/// Plants damage in one file of the log and verifies.
pub fn planted(path: &str, world: &mut World, change: impl FnOnce(&mut Vec<u8>)) -> Found {
    world.disk.damage(path, change);
    verify(&world.disk).0
}
