//! What a start makes of what earlier processes left: checkpoints and ledgers of former cores,
//! missing files, missing marks.

mod support;

use highwater_base::disk::BootDisk;
use highwater_base::{ClusterId, CoreId, DiskId, NodeId, Offset};
use highwater_store::{
    LogConfig, LogId, RecoveryReport, StoreConfig, StoreEvent, Superblock, SuperblockError,
    forget_former_process,
};
use support::disk::{Keep, TestDisk};
use support::{Batch, World, directory, spec, test_config};

fn config_of(core: u16) -> StoreConfig {
    StoreConfig {
        core: CoreId(core),
        ..test_config()
    }
}

fn small_segments() -> LogConfig {
    LogConfig {
        segment_bytes: 64 << 10,
        ..LogConfig::default()
    }
}

/// A log of partition 0 with so many records, each a batch of 500 bytes, all of them durable.
fn filled(world: &mut World, records: usize) -> LogId {
    let log = world.store.create(spec(0, 0, small_segments()), world.now);
    append(world, log, records);
    log
}

fn append(world: &mut World, log: LogId, records: usize) {
    for _ in 0..records {
        world.append(log, &Batch::of(1, 439)).expect("it fits");
    }
    come_to_rest(world);
}

/// Everything is durable, the marks as well.
fn come_to_rest(world: &mut World) {
    for _ in 0..3 {
        world.settle();
        world.pass_ms(11);
    }
    world.settle();
}

/// The next process, with `cores` cores, recovers partition 0 on `core` and serves.
fn start(world: &mut World, core: u16, cores: usize) -> (LogId, RecoveryReport) {
    let image = world.restart(config_of(core), Keep::All);
    let found = world.recover(&image, spec(0, 0, small_segments()));
    forget_former_process(&mut world.disk, cores).expect("removable");
    found.expect("recovers")
}

#[test]
fn a_checkpoint_counts_only_for_the_stop_it_was_written_at() {
    let mut world = World::new(config_of(3));
    filled(&mut world, 400);
    world.shutdown();
    let (log, report) = start(&mut world, 0, 1);
    assert!(report.from_checkpoint, "{report:?}");
    // The log loses its front, its end stays where it was.
    let mut disk = Vec::new();
    world
        .store
        .delete_records(log, Offset(300), &mut disk)
        .expect("within the log");
    world.pending.extend(disk);
    come_to_rest(&mut world);
    assert_eq!(world.store.log_start(log), Offset(300));
    world.shutdown();
    let (log, report) = start(&mut world, 0, 1);
    assert_eq!(report.log_start, Offset(300), "{report:?}");
    assert_eq!(report.holes, vec![]);
    assert!(report.from_checkpoint, "{report:?}");
    assert_eq!(world.consume(log, 300, 1 << 20).len(), 100);
    let checkpoints = world.disk.paths("checkpoint/");
    assert!(checkpoints.is_empty(), "{checkpoints:?} outlive the start");
}

#[test]
fn a_clean_mark_of_a_former_core_does_not_outlive_the_start() {
    let mut world = World::new(config_of(3));
    filled(&mut world, 10);
    world.shutdown();
    let (log, _) = start(&mut world, 0, 1);
    // Acknowledged, and the marks did not get to the disk.
    world.append(log, &Batch::of(1, 439)).expect("it fits");
    world.settle();
    assert_eq!(world.store.high_watermark(log), Offset(11));
    let (_, report) = start(&mut world, 0, 1);
    assert_eq!(report.end, Offset(11), "{report:?}");
}

#[test]
fn a_checkpoint_that_names_missing_files_gives_way_to_the_walk() {
    let mut world = World::new(config_of(0));
    filled(&mut world, 400);
    world.shutdown();
    let first = &world.disk.paths(&directory(0))[..2];
    assert!(first[0].ends_with(".index") && first[1].ends_with(".log"));
    for path in first.to_vec() {
        world.disk.remove(&path).expect("removable");
    }
    let (_, report) = start(&mut world, 0, 1);
    assert!(!report.from_checkpoint, "{report:?}");
    assert_eq!(report.end, Offset(400));
    assert_eq!(report.holes.len(), 1, "{report:?}");
}

#[test]
fn a_stop_is_complete_only_when_its_marks_are_written() {
    let mut world = World::new(config_of(0));
    let log = world.store.create(spec(0, 0, small_segments()), world.now);
    let mut disk = Vec::new();
    world.store.shutdown(world.now, &mut disk);
    world.pending.extend(disk);
    let complete = |world: &World| {
        let is_complete = |event: &StoreEvent| matches!(event, StoreEvent::ShutdownComplete);
        world.events.iter().any(is_complete)
    };
    while let Some(next) = world.pending.first() {
        assert!(!complete(&world), "{next:?} is still under way");
        world.execute(0);
    }
    assert!(complete(&world));
    assert_eq!(world.store.log_end(log), Offset(0));
    let (_, report) = start(&mut world, 0, 1);
    assert!(report.from_checkpoint, "{report:?}");
}

fn formatted() -> (TestDisk, Superblock) {
    let mut disk = TestDisk::default();
    let superblock = Superblock::format(&mut disk, ClusterId([1; 16]), NodeId(1), DiskId([2; 16]));
    (disk, superblock.expect("formats"))
}

fn blank_copies(disk: &mut TestDisk, copies: &[usize]) {
    disk.damage("superblock", |bytes| {
        for copy in copies {
            bytes[copy * 4096..(copy + 1) * 4096].fill(0);
        }
    });
}

#[test]
fn one_copy_of_the_first_superblock_alone_was_never_formatted() {
    for kept in 0..4 {
        let (mut disk, _) = formatted();
        let others: Vec<usize> = (0..4).filter(|copy| *copy != kept).collect();
        blank_copies(&mut disk, &others);
        assert_eq!(Superblock::open(&disk), Err(SuperblockError::Absent));
    }
    let (mut disk, superblock) = formatted();
    blank_copies(&mut disk, &[0, 3]);
    assert_eq!(Superblock::open(&disk), Ok(superblock));
}

#[test]
fn one_copy_of_a_later_or_damaged_superblock_is_not_overlooked() {
    let (mut disk, mut superblock) = formatted();
    superblock.mark_running(&mut disk).expect("writes");
    blank_copies(&mut disk, &[1, 2, 3]);
    let unreadable = |damaged| {
        Err(SuperblockError::Unreadable {
            agreeing: 0,
            damaged,
        })
    };
    assert_eq!(Superblock::open(&disk), unreadable(0));
    let (mut disk, _) = formatted();
    blank_copies(&mut disk, &[1, 2]);
    disk.damage("superblock", |bytes| bytes[3 * 4096] ^= 1);
    assert_eq!(Superblock::open(&disk), unreadable(1));
}
