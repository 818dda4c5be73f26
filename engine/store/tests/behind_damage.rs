//! What recovery believes of the bytes behind damage, when the values of records hold whole batches:
//! nothing that is not proven to be of the log. And that nothing of a damaged log is changed.

mod support;

use std::collections::BTreeMap;

use highwater_base::crc::crc32c;
use highwater_base::disk::{BootDisk, DirectoryEntry, DiskError};
use highwater_base::record_batch::{HEADER_BYTES, patch_offset_and_epoch};
use highwater_base::{BatchHeader, Epoch, Offset};
use highwater_store::segment::SegmentHeader;
use highwater_store::{AppendError, Hole, LogConfig, LogId, RecoveryReport};
use support::disk::{Keep, TestDisk};
use support::verification::{small_segments, verify};
use support::{Batch, World, directory, spec, test_config};

const BLOCK: usize = 4096;
const RECORDS: i64 = 36;
/// The batch with the planted value; two records, so that offsets 20 and 21 are its.
const OUTER: i64 = 20;

/// A whole batch of one record as it could be in a record's value, with these offsets.
fn planted(base: i64, payload: usize) -> Vec<u8> {
    let mut bytes = Batch::of(1, payload).bytes();
    patch_offset_and_epoch(&mut bytes, Offset(base), Epoch(0));
    bytes
}

/// A batch of `records` records that consists of these bytes.
fn batch_of(records: i32, value: &[u8]) -> Vec<u8> {
    let mut bytes = Batch::of(records, value.len()).bytes();
    bytes[HEADER_BYTES..].copy_from_slice(value);
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// A value with a planted batch of offset `base` after 50 bytes, and `behind` bytes behind it.
fn value_with(base: i64, behind: usize) -> Vec<u8> {
    let mut value = vec![0x55; 50];
    value.extend_from_slice(&planted(base, 80));
    value.extend(std::iter::repeat_n(0x66, behind));
    value
}

fn append(world: &mut World, log: LogId, bytes: &[u8]) {
    let header = BatchHeader::parse(bytes).expect("a batch");
    let appended = world.store.append(log, world.now, &header, bytes, None);
    appended.expect("it fits");
    world.settle();
}

fn come_to_rest(world: &mut World) {
    for _ in 0..3 {
        world.pass_ms(11);
        world.settle();
    }
}

/// A log of [`RECORDS`] records in one segment, the two of [`OUTER`] with this value.
fn log_with(value: &[u8], config: &LogConfig) -> World {
    let mut world = World::new(test_config());
    let log = world.store.create(spec(0, 0, config.clone()), world.now);
    for at in 0..RECORDS - 1 {
        let bytes = match at {
            OUTER => batch_of(2, value),
            _ => Batch::of(1, 90).bytes(),
        };
        append(&mut world, log, &bytes);
        // The ledger hears of each.
        come_to_rest(&mut world);
    }
    world
}

fn segments(world: &World) -> Vec<String> {
    let mut paths = world.disk.paths(&directory(0));
    paths.retain(|path| path.ends_with(".log") && !path.contains("prepared"));
    paths
}

/// Where the batch with this offset begins in a file.
fn position_of(bytes: &[u8], offset: i64) -> usize {
    let mut at = BLOCK;
    loop {
        let header = BatchHeader::parse(&bytes[at..]).expect("a batch");
        if header.base_offset == offset {
            return at;
        }
        at += header.total_bytes();
    }
}

/// The segment that this offset is in.
fn segment_of(world: &World, offset: i64) -> String {
    let paths = segments(world).into_iter();
    let mut before = paths.filter(|path| base_of(path) <= offset);
    before.next_back().expect("the log begins at 0")
}

/// Checksums of the segment files.
fn contents(world: &World) -> BTreeMap<String, u32> {
    let files = world.disk.image().into_iter();
    files
        .filter(|(path, _)| path.ends_with(".log") && !path.contains("prepared"))
        .map(|(path, bytes)| (path, crc32c(&bytes)))
        .collect()
}

/// Damages the outer batch.
fn damage(world: &mut World, change: impl FnOnce(&mut [u8])) {
    let path = segment_of(world, OUTER);
    world.disk.damage(&path, |bytes| {
        let at = position_of(bytes, OUTER);
        change(&mut bytes[at..]);
    });
}

/// The next process recovers the log; verification must say the same, and no byte may change.
fn recover(world: &mut World, config: &LogConfig) -> (LogId, RecoveryReport) {
    let before = contents(world);
    let (_, verdicts) = verify(&world.disk);
    let image = world.restart(test_config(), Keep::All);
    let recovered = world.recover(&image, spec(0, 0, config.clone()));
    let (log, report) = recovered.expect("recovers");
    // What is done in the background afterwards changes nothing either.
    for _ in 0..3 {
        world.pass_ms(1100);
        world.settle();
    }
    assert_eq!(contents(world), before, "a byte of the log was changed");
    assert_eq!(verdicts[0].holes, report.holes, "verification differs");
    assert_eq!(verdicts[0].end, report.end, "verification differs");
    (log, report)
}

/// Only the outer batch may be lost, and all others are served.
fn assert_only_outer_is_lost(world: &mut World, config: &LogConfig, what: &str) {
    let (log, report) = recover(world, config);
    let lost = Hole {
        from: OUTER,
        to: OUTER + 2,
    };
    assert_eq!(report.holes, [lost], "{what}");
    assert_eq!(report.end, Offset(RECORDS), "{what}");
    assert!(!report.torn, "{what}");
    let (front, _) = world.read(log, 0, 1 << 20, true).expect("readable");
    assert_eq!(front.next_offset, Offset(OUTER), "{what}");
    let behind = world.consume(log, OUTER + 2, 1 << 20);
    assert_eq!(behind.len() as i64, RECORDS - OUTER - 2, "{what}");
    world.read(log, OUTER, 1 << 20, true).expect_err(what);
    let refused = world.append(log, &Batch::of(1, 90));
    assert_eq!(refused, Err(AppendError::Offline), "{what}");
}

/// Stops the node, or leaves it to be killed. Without a checkpoint the next start scans.
fn end(world: &mut World, cleanly: bool) {
    if cleanly {
        world.shutdown();
        world.events.clear();
        world.disk.remove("checkpoint").expect("removable");
    }
}

#[test]
fn a_batch_in_a_value_with_offsets_far_above_does_not_end_the_log() {
    for cleanly in [false, true] {
        let mut world = log_with(&value_with(1_000_000_000_000, 60), &small_segments());
        end(&mut world, cleanly);
        damage(&mut world, |batch| batch[HEADER_BYTES + 3] ^= 1);
        assert_only_outer_is_lost(&mut world, &small_segments(), "10^12");
    }
}

#[test]
fn a_batch_in_a_value_is_not_served_as_the_record_whose_offset_it_claims() {
    for base in [
        OUTER - 5,
        OUTER,
        OUTER + 1,
        OUTER + 2,
        OUTER + 5,
        RECORDS,
        RECORDS + 1,
    ] {
        for cleanly in [false, true] {
            let mut world = log_with(&value_with(base, 60), &small_segments());
            end(&mut world, cleanly);
            damage(&mut world, |batch| batch[HEADER_BYTES + 3] ^= 1);
            let what = format!("base {base}, clean {cleanly}");
            assert_only_outer_is_lost(&mut world, &small_segments(), &what);
        }
    }
}

#[test]
fn a_batch_that_ends_with_its_batch_and_continues_the_offsets_is_not_served() {
    // It claims the second offset of the batch that it is in, and the chain goes on behind it.
    for at in 0..HEADER_BYTES + 40 {
        let mut world = log_with(&value_with(OUTER + 1, 0), &small_segments());
        damage(&mut world, |batch| batch[at] ^= 1 << (at % 8));
        let what = format!("byte {at} of the batch");
        assert_only_outer_is_lost(&mut world, &small_segments(), &what);
    }
}

#[test]
fn where_a_header_is_gone_the_batch_that_ended_with_its_batch_is_not_served() {
    let mut world = log_with(&value_with(OUTER + 1, 0), &small_segments());
    damage(&mut world, |batch| batch[..HEADER_BYTES].fill(0));
    assert_only_outer_is_lost(&mut world, &small_segments(), "its header is gone");
    // Without a mark that names a boundary nothing behind it is proven, and nothing is made up.
    let mut world = log_with(&value_with(OUTER + 1, 0), &small_segments());
    world.disk.remove("marks").expect("removable");
    damage(&mut world, |batch| batch[..HEADER_BYTES].fill(0));
    let (log, report) = recover(&mut world, &small_segments());
    assert_eq!(report.holes.len(), 1, "{report:?}");
    assert_eq!(report.holes[0].from, OUTER, "{report:?}");
    assert!(!report.torn, "{report:?}");
    world.read(log, OUTER, 1 << 20, true).expect_err("lost");
    let (behind, _) = world.read(log, OUTER + 1, 1 << 20, true).expect("the end");
    assert_eq!(behind.bytes, 0, "nothing there is proven");
}

#[test]
fn a_damaged_last_batch_is_lost_and_the_batch_in_its_value_is_not_the_end() {
    for at in 0..HEADER_BYTES + 40 {
        let mut world = World::new(test_config());
        let log = world.store.create(spec(0, 0, small_segments()), world.now);
        for _ in 0..OUTER {
            append(&mut world, log, &Batch::of(1, 90).bytes());
        }
        append(&mut world, log, &batch_of(2, &value_with(OUTER + 1, 0)));
        come_to_rest(&mut world);
        damage(&mut world, |batch| batch[at] ^= 1 << (at % 8));
        let (log, report) = recover(&mut world, &small_segments());
        assert_eq!(report.end, Offset(OUTER + 2), "byte {at}");
        let served = world.consume_front(log, OUTER);
        assert_eq!(served, OUTER, "byte {at}: {report:?}");
        world.read(log, OUTER, 1 << 20, true).expect_err("lost");
    }
}

#[test]
fn without_marks_a_batch_in_a_value_does_not_raise_the_end() {
    for base in [OUTER + 1, OUTER + 5, RECORDS + 100, 1_000_000_000_000] {
        let mut world = log_with(&value_with(base, 60), &small_segments());
        world.disk.remove("marks").expect("removable");
        damage(&mut world, |batch| batch[HEADER_BYTES + 3] ^= 1);
        assert_only_outer_is_lost(&mut world, &small_segments(), &format!("base {base}"));
    }
}

#[test]
fn a_search_among_hostile_headers_ends() {
    // Headers that claim long batches with plausible offsets, every 61 bytes of a large value.
    let mut value = Vec::new();
    while value.len() < 200_000 {
        let mut head = planted(OUTER + 1, 0);
        head[8..12].copy_from_slice(&100_000i32.to_be_bytes());
        value.extend_from_slice(&head);
    }
    let config = LogConfig::default();
    let mut world = log_with(&value, &config);
    damage(&mut world, |batch| batch[..200].fill(0));
    assert_only_outer_is_lost(&mut world, &config, "hostile headers");
}

#[test]
fn two_damaged_batches_are_two_holes() {
    let mut world = log_with(&value_with(OUTER + 1, 60), &small_segments());
    let path = segments(&world).remove(0);
    world.disk.damage(&path, |bytes| {
        let (first, second) = (position_of(bytes, 5), position_of(bytes, 30));
        bytes[first + 70] ^= 1;
        bytes[second + 70] ^= 1;
    });
    let (_, report) = recover(&mut world, &small_segments());
    let lost = |at| Hole {
        from: at,
        to: at + 1,
    };
    assert_eq!(report.holes, [lost(5), lost(30)]);
    assert_eq!(report.end, Offset(RECORDS));
}

#[test]
fn exchanged_segment_files_are_a_hole_and_stay_as_they_are() {
    for cleanly in [false, true] {
        let mut world = written_in_segments();
        end(&mut world, cleanly);
        let paths = segments(&world);
        let image = world.disk.image();
        for (path, other) in [(&paths[0], &paths[1]), (&paths[1], &paths[0])] {
            world
                .disk
                .damage(path, |bytes| *bytes = image[other].clone());
        }
        let third = base_of(&paths[2]);
        let (log, report) = recover(&mut world, &small_segments());
        assert_eq!(report.holes, [Hole { from: 0, to: third }]);
        assert_eq!(report.set_aside.len(), 2, "{report:?}");
        let behind = world.consume(log, third, 1 << 20);
        assert_eq!(behind.first().map(|it| it.base_offset), Some(third));
    }
}

#[test]
fn a_segment_of_another_partition_is_a_hole() {
    let mut world = written_in_segments();
    let paths = segments(&world);
    world.disk.damage(&paths[1], |bytes| {
        let header = SegmentHeader::decode(&bytes[..BLOCK]).expect("undamaged");
        let foreign = SegmentHeader {
            topic_id: highwater_base::TopicId([9; 16]),
            ..header
        };
        foreign.encode(&mut bytes[..BLOCK]);
    });
    let (from, to) = (base_of(&paths[1]), base_of(&paths[2]));
    let (_, report) = recover(&mut world, &small_segments());
    assert_eq!(report.holes, [Hole { from, to }]);
}

#[test]
fn a_log_that_outgrew_the_marks_of_its_clean_stop_is_kept_whole() {
    let mut world = World::new(test_config());
    let log = world.store.create(spec(0, 0, small_segments()), world.now);
    for _ in 0..10 {
        append(&mut world, log, &Batch::of(1, 90).bytes());
    }
    world.shutdown();
    let old = world.disk.image();
    let image = world.restart(test_config(), Keep::All);
    let recovered = world.recover(&image, spec(0, 0, small_segments()));
    let (log, _) = recovered.expect("recovers");
    for _ in 0..12 {
        append(&mut world, log, &Batch::of(1, 90).bytes());
    }
    world.events.clear();
    world.shutdown();
    // Ledger and checkpoint of the stop before are put back.
    for directory in ["marks", "checkpoint"] {
        world.disk.remove(directory).expect("removable");
    }
    for (path, bytes) in old {
        if path.starts_with("marks/") || path.starts_with("checkpoint/") {
            world.disk.write_whole(&path, &bytes).expect("written");
        }
    }
    let (log, report) = recover(&mut world, &small_segments());
    assert_eq!(report.end, Offset(22), "{report:?}");
    assert!(!report.from_checkpoint && !report.vouch, "{report:?}");
    let appended = world.append(log, &Batch::of(1, 90)).expect("it fits");
    assert!(format!("{appended:?}").contains("22"), "{appended:?}");
}

#[test]
fn a_finished_segment_does_not_give_way_to_a_prepared_file_that_holds_less() {
    let mut world = written_in_segments();
    let paths = segments(&world);
    let last = paths.last().expect("some").clone();
    let image = world.disk.image();
    let mut older = image[&last].clone();
    let second = position_of(&older, base_of(&last) + 3);
    older[second..].fill(0);
    let prepared = format!("{}/prepared-77.log", directory(0));
    world.disk.write_whole(&prepared, &older).expect("written");
    let image = world.restart(test_config(), Keep::All);
    let recovered = world.recover(&image, spec(0, 0, small_segments()));
    let (_, report) = recovered.expect("recovers");
    assert_eq!(report.end, Offset(200), "{report:?}");
    assert_eq!(report.holes, []);
    let aside = world.disk.paths(&format!("{prepared}.superseded"));
    assert_eq!(aside.len(), 1, "what holds batches is kept");
}

#[test]
fn a_prepared_file_with_a_damaged_header_and_first_batch_is_not_removed() {
    let mut world = written_in_segments();
    let last = segments(&world).pop().expect("some");
    let prepared = format!("{}/prepared-77.log", directory(0));
    world.disk.rename(&last, &prepared).expect("renamed");
    world
        .disk
        .damage(&prepared, |bytes| bytes[..BLOCK + 100].fill(0xee));
    let image = world.restart(test_config(), Keep::All);
    let recovered = world.recover(&image, spec(0, 0, small_segments()));
    let (_, report) = recovered.expect("recovers");
    assert_eq!(report.end, Offset(200));
    assert_eq!(report.holes.len(), 1, "{report:?}");
    assert_eq!(
        world.disk.paths(&prepared).len(),
        1,
        "it holds valid batches"
    );
}

#[test]
fn a_block_that_cannot_be_read_is_a_hole() {
    let mut world = written_in_segments();
    let last = segments(&world).pop().expect("some");
    let image = world.restart(test_config(), Keep::All);
    let mut disk = BadBlocks {
        disk: &mut world.disk,
        path: last.clone(),
        bad: (3 * BLOCK as u64, 4 * BLOCK as u64),
    };
    let spec = spec(0, 0, small_segments());
    let recovered = world.store.recover(&mut disk, spec, &image, world.now);
    let (_, report) = recovered.expect("recovers");
    assert_eq!(report.holes.len(), 1, "{report:?}");
    let hole = report.holes[0];
    assert!(hole.from > base_of(&last) && hole.to < 200, "{hole:?}");
    assert_eq!(report.end, Offset(200));
}

#[test]
fn an_unreadable_block_behind_the_marks_is_not_cut_as_a_torn_tail() {
    let mut world = World::new(test_config());
    let log = world.store.create(spec(0, 0, small_segments()), world.now);
    for _ in 0..10 {
        append(&mut world, log, &Batch::of(1, 900).bytes());
    }
    let path = segments(&world).remove(0);
    let image = world.restart(test_config(), Keep::All);
    let before = contents(&world);
    let mut disk = BadBlocks {
        disk: &mut world.disk,
        path,
        bad: (2 * BLOCK as u64, 3 * BLOCK as u64),
    };
    let marked = spec(0, 0, small_segments());
    let recovered = world.store.recover(&mut disk, marked, &image, world.now);
    recovered.expect_err("what was acknowledged is not known");
    assert_eq!(contents(&world), before);
}

/// A log of several segments, one record a batch.
fn written_in_segments() -> World {
    let mut world = World::new(test_config());
    let log = world.store.create(spec(0, 0, small_segments()), world.now);
    for _ in 0..50 {
        for _ in 0..4 {
            append(&mut world, log, &Batch::of(1, 1000).bytes());
        }
        come_to_rest(&mut world);
    }
    assert!(segments(&world).len() > 3, "several segments");
    world
}

fn base_of(path: &str) -> i64 {
    support::verification::base_of(path)
}

trait ConsumeFront {
    fn consume_front(&mut self, log: LogId, upto: i64) -> i64;
}

impl ConsumeFront for World {
    /// Reads from 0 on until an offset is reached or nothing comes; where it got to.
    fn consume_front(&mut self, log: LogId, upto: i64) -> i64 {
        let mut at = 0;
        while at < upto {
            let (outcome, headers) = self.read(log, at, 1 << 20, true).expect("readable");
            if headers.is_empty() {
                break;
            }
            at = outcome.next_offset.0;
        }
        at
    }
}

/// A disk with a range of one file that gives EIO.
struct BadBlocks<'a> {
    disk: &'a mut TestDisk,
    path: String,
    bad: (u64, u64),
}

impl BootDisk for BadBlocks<'_> {
    fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, DiskError> {
        self.disk.list(path)
    }

    fn read(&self, path: &str, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let end = offset + into.len() as u64;
        match path == self.path && offset < self.bad.1 && self.bad.0 < end {
            true => Err(DiskError::Io(5)),
            false => self.disk.read(path, offset, into),
        }
    }

    fn write(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.disk.write(path, offset, bytes)
    }

    fn create_zeroed(&mut self, path: &str, size_bytes: u64) -> Result<(), DiskError> {
        self.disk.create_zeroed(path, size_bytes)
    }

    fn write_whole(&mut self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.disk.write_whole(path, bytes)
    }

    fn truncate(&mut self, path: &str, size_bytes: u64) -> Result<(), DiskError> {
        self.disk.truncate(path, size_bytes)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        self.disk.remove(path)
    }
}
