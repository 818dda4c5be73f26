//! What a start makes of what earlier processes left: checkpoints and ledgers of former cores,
//! missing files, missing marks.

mod support;

use highwater_base::disk::BootDisk;
use highwater_base::{ClusterId, CoreId, DiskId, NodeId, Offset};
use highwater_store::{
    AppendError, Appended, LedgerImage, LogConfig, LogId, MarksLedger, RecoveryReport, StoreConfig,
    StoreEvent, Superblock, SuperblockError, forget_former_process,
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
    let deleted = world.store.delete_records(log, Offset(300));
    deleted.expect("within the log");
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

/// Also where nothing follows the end that it names: what was acknowledged behind it is damaged.
#[test]
fn a_checkpoint_that_is_put_back_after_a_crash_is_not_believed() {
    for is_damaged in [false, true] {
        let mut world = World::new(config_of(0));
        filled(&mut world, 10);
        world.shutdown();
        let old = world.disk.image()["checkpoint/core-0"].clone();
        let (log, _) = start(&mut world, 0, 1);
        append(&mut world, log, 5);
        assert_eq!(world.store.high_watermark(log), Offset(15));
        world.disk.crash(Keep::All);
        if is_damaged {
            let path = last_segment(&world);
            let zeros = |bytes: &mut Vec<u8>| bytes[4096 + 10 * 500..].fill(0);
            world.disk.damage(&path, zeros);
        }
        let put_back = world.disk.write_whole("checkpoint/core-0", &old);
        put_back.expect("it is written");
        let (_, report) = start(&mut world, 0, 1);
        assert!(!report.from_checkpoint, "{report:?}");
        assert_eq!(report.end, Offset(15), "{report:?}");
        assert_eq!(report.holes.len(), usize::from(is_damaged), "{report:?}");
    }
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
    for path in first {
        world.disk.remove(path).expect("removable");
    }
    let (_, report) = start(&mut world, 0, 1);
    assert!(!report.from_checkpoint, "{report:?}");
    assert_eq!(report.end, Offset(400));
    assert_eq!(report.holes.len(), 1, "{report:?}");
}

#[test]
fn a_checkpoint_that_names_a_shortened_file_gives_way_to_the_walk() {
    let mut world = World::new(config_of(0));
    filled(&mut world, 400);
    world.shutdown();
    let path = last_segment(&world);
    world.disk.damage(&path, |bytes| bytes.truncate(8192));
    let (log, report) = start(&mut world, 0, 1);
    assert!(!report.from_checkpoint, "{report:?}");
    assert_eq!(report.holes.len(), 1, "{report:?}");
    let refused = world.append(log, &Batch::of(1, 439));
    assert_eq!(refused, Err(AppendError::Offline));
}

/// A log whose first segments retention took: it begins at 300 inside its third segment.
fn trimmed() -> (World, Offset) {
    let mut world = World::new(config_of(0));
    let log = filled(&mut world, 400);
    let deleted = world.store.delete_records(log, Offset(300));
    deleted.expect("within the log");
    come_to_rest(&mut world);
    let first = world.store.segments(log).next().expect("one is left");
    (world, first.base_offset)
}

fn last_segment(world: &World) -> String {
    let paths = world.disk.paths(&directory(0));
    let mut logs = paths.into_iter().filter(|path| path.ends_with(".log"));
    logs.next_back().expect("one is left")
}

fn damage_last_batch(world: &mut World) {
    let path = last_segment(world);
    world.disk.damage(&path, |bytes| {
        let last = bytes.iter().rposition(|byte| *byte != 0);
        bytes[last.expect("it holds batches") - 10] ^= 1;
    });
}

#[test]
fn data_whose_marks_are_gone_is_kept() {
    let (mut world, base) = trimmed();
    world.disk.remove("marks").expect("removable");
    let (log, report) = start(&mut world, 0, 1);
    assert!(!report.vouch, "{report:?}");
    assert_eq!((report.log_start, report.end), (base, Offset(400)));
    assert_eq!(report.holes, vec![]);
    assert_eq!(world.consume(log, 300, 1 << 20).len(), 100);
    // The ledger of this process knows it again, and that marks were lost once.
    come_to_rest(&mut world);
    let (_, report) = start(&mut world, 0, 1);
    assert!(!report.vouch, "{report:?}");
    assert_eq!((report.log_start, report.end), (base, Offset(400)));
}

#[test]
fn data_that_a_readable_ledger_does_not_know_is_kept() {
    let (mut world, base) = trimmed();
    let image = LedgerImage::read(&world.disk).expect("readable");
    MarksLedger::create(&mut world.disk, CoreId(0), &image, |_| false).expect("writes");
    let (_, report) = start(&mut world, 0, 1);
    assert!(report.vouch, "{report:?}");
    assert_eq!((report.log_start, report.end), (base, Offset(400)));
    assert_eq!(report.holes, vec![]);
}

#[test]
fn damage_in_data_whose_marks_are_gone_is_a_hole() {
    let (mut world, base) = trimmed();
    world.disk.remove("marks").expect("removable");
    let path = last_segment(&world);
    world.disk.damage(&path, |bytes| bytes[5000] ^= 1);
    let (_, report) = start(&mut world, 0, 1);
    assert_eq!((report.log_start, report.end), (base, Offset(400)));
    assert_eq!(report.holes.len(), 1, "{report:?}");
    let hole = report.holes[0];
    assert_eq!(hole.to - hole.from, 1, "one batch is lost");
}

#[test]
fn a_segment_that_is_damaged_in_front_of_others_is_no_torn_tail_without_marks() {
    let mut world = World::new(config_of(0));
    filled(&mut world, 400);
    world.disk.remove("marks").expect("removable");
    let first = world.disk.paths(&directory(0)).into_iter();
    let first = first.filter(|path| path.ends_with(".log")).min();
    let damage = |bytes: &mut Vec<u8>| bytes[4096..].fill(0xee);
    world.disk.damage(&first.expect("there is one"), damage);
    let (_, report) = start(&mut world, 0, 1);
    assert_eq!(report.end, Offset(400), "{report:?}");
    assert_eq!(report.holes.len(), 1, "{report:?}");
}

#[test]
fn the_tail_that_is_torn_is_cut_without_marks_as_well() {
    let (mut world, _) = trimmed();
    world.disk.remove("marks").expect("removable");
    damage_last_batch(&mut world);
    let (log, report) = start(&mut world, 0, 1);
    assert!(report.torn && report.ambiguous_tail, "{report:?}");
    assert_eq!((report.end, report.holes.len()), (Offset(399), 0));
    append(&mut world, log, 1);
    assert_eq!(world.store.high_watermark(log), Offset(400));
}

#[test]
fn what_recovery_found_reaches_the_ledger_of_an_idle_core() {
    let mut world = World::new(config_of(0));
    let log = filled(&mut world, 5);
    for _ in 0..3 {
        world.append(log, &Batch::of(1, 439)).expect("it fits");
    }
    world.write_without_flush();
    let (_, report) = start(&mut world, 0, 1);
    assert_eq!(report.end, Offset(8), "{report:?}");
    // Nothing is appended; what is served is vouched for all the same.
    come_to_rest(&mut world);
    damage_last_batch(&mut world);
    let (_, report) = start(&mut world, 0, 1);
    assert!(!report.torn, "{report:?}");
    assert_eq!(report.end, Offset(8));
    assert_eq!(report.holes.len(), 1);
}

/// The batches it covers were lost in front of the segment it was written for.
#[test]
fn what_a_snapshot_beyond_the_marks_says_of_producers_is_not_believed() {
    let mut world = World::new(config_of(0));
    let log = world.store.create(spec(0, 0, small_segments()), world.now);
    let batch = |sequence: i32| Batch::of(1, 439).by_producer(9, 0, sequence);
    for sequence in 0..3 {
        world.append(log, &batch(sequence)).expect("it fits");
    }
    come_to_rest(&mut world);
    let mut next = 3;
    while world.store.segments(log).count() < 2 {
        world.append(log, &batch(next)).expect("it fits");
        world.settle();
        next += 1;
    }
    let first = world.store.segments(log).next().expect("it is there");
    let lost = first.next_offset.0 - 1;
    world.disk.crash(Keep::All);
    let path = world.disk.paths(&directory(0)).into_iter();
    let path = path.filter(|path| path.ends_with(".log")).min();
    let from = 4096 + lost as usize * 500;
    let torn = |bytes: &mut Vec<u8>| bytes[from..].fill(0);
    world.disk.damage(&path.expect("it is there"), torn);
    let (log, report) = start(&mut world, 0, 1);
    assert_eq!((report.end, report.holes), (Offset(lost), vec![]));
    let again = world.append(log, &batch(lost as i32)).expect("it fits");
    assert!(
        !again.duplicate,
        "the lost batch is answered as if it were there"
    );
    assert_eq!(again.base_offset, Offset(lost));
}

/// Nobody acknowledged what lies behind a hole and behind the marks.
#[test]
fn a_hole_does_not_raise_the_mark_to_what_lies_behind_it() {
    let mut world = World::new(config_of(0));
    let log = filled(&mut world, 10);
    for _ in 0..3 {
        world.append(log, &Batch::of(1, 439)).expect("it fits");
    }
    world.write_without_flush();
    world.disk.crash(Keep::All);
    let path = last_segment(&world);
    world.disk.damage(&path, |bytes| bytes[4096 + 700] ^= 1);
    let (_, report) = start(&mut world, 0, 1);
    assert_eq!(report.holes.len(), 1, "{report:?}");
    come_to_rest(&mut world);
    let image = LedgerImage::read(&world.disk).expect("readable");
    let marks = image.keys().next().and_then(|key| image.get(key));
    assert_eq!(marks.map(|it| it.persisted_end), Some(Offset(10)));
}

/// A batch of producer 9 went with the log's only segment, which retention took.
fn without_segments() -> (World, LogId) {
    let mut world = World::new(config_of(0));
    let config = LogConfig {
        retention_ms: 100_000,
        ..small_segments()
    };
    let log = world.store.create(spec(0, 0, config), world.now);
    resend(&mut world, log).expect("it fits");
    come_to_rest(&mut world);
    assert_eq!(world.store.segments(log).count(), 0);
    assert_eq!(world.store.log_start(log), Offset(1));
    (world, log)
}

fn resend(world: &mut World, log: LogId) -> Result<Appended, AppendError> {
    world.append(log, &Batch::of(1, 439).by_producer(9, 0, 0))
}

#[test]
fn producers_outlive_the_segments_retention_took() {
    // A crash with no segment at all, one behind the next segment's first batch, a clean stop.
    for case in 0..3 {
        let (mut world, log) = without_segments();
        match case {
            1 => append(&mut world, log, 1),
            2 => world.shutdown(),
            _ => {}
        }
        let (log, report) = start(&mut world, 0, 1);
        assert_eq!(report.from_checkpoint, case == 2, "{report:?}");
        assert_eq!(report.log_start, Offset(1), "case {case} {report:?}");
        let appended = resend(&mut world, log).expect("known");
        assert!(appended.duplicate, "case {case}");
    }
}

#[test]
fn marks_of_partitions_that_are_no_more_leave_the_ledger() {
    let mut world = World::new(config_of(0));
    filled(&mut world, 10);
    let image = world.restart(config_of(0), Keep::All);
    let keys: Vec<_> = image.keys().copied().collect();
    assert_eq!(keys.len(), 1);
    world.store.forget_marks(world.now, keys.into_iter());
    come_to_rest(&mut world);
    let image = LedgerImage::read(&world.disk).expect("readable");
    assert_eq!(image.keys().count(), 0);
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
fn a_sector_that_cannot_be_read_costs_one_copy_of_the_superblock() {
    let (mut disk, mut superblock) = formatted();
    superblock.mark_running(&mut disk, 0).expect("writes");
    disk.unreadable.insert(("superblock".to_owned(), 0));
    assert_eq!(Superblock::open(&disk), Ok(superblock));
    let rest = (1..4).map(|block| ("superblock".to_owned(), block));
    disk.unreadable.extend(rest);
    let error = Superblock::open(&disk).expect_err("nothing can be read");
    assert!(
        error.to_string().contains("restore the directory"),
        "{error}"
    );
}

#[test]
fn one_copy_of_a_later_or_damaged_superblock_is_not_overlooked() {
    let (mut disk, mut superblock) = formatted();
    superblock.mark_running(&mut disk, 0).expect("writes");
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
