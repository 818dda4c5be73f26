//! Damage that nobody has met when the node starts: after a clean stop nothing is scanned, and
//! sealed segments are not after a crash either. Whatever is damaged, a consumer gets the records
//! that were written, at their offsets, and an error for every one that it does not get.

mod support;

use std::ops::Range;

use highwater_base::disk::{DiskCompletion, DiskError, DiskOperation};
use highwater_base::{BatchHeader, Offset};
use highwater_store::{AppendError, LogConfig, LogId, Lookup, ReadError, ReadPiece, StoreEvent};
use support::disk::Keep;
use support::{Batch, World, directory, spec, test_config};

const BATCHES: i64 = 200;
const RECORDS: i64 = 3;

/// Header fields: name, first byte, bytes.
const FIELDS: [(&str, usize, usize); 13] = [
    ("base_offset", 0, 8),
    ("batch_length", 8, 4),
    ("partition_leader_epoch", 12, 4),
    ("magic", 16, 1),
    ("crc", 17, 4),
    ("attributes", 21, 2),
    ("last_offset_delta", 23, 4),
    ("base_timestamp", 27, 8),
    ("max_timestamp", 35, 8),
    ("producer_id", 43, 8),
    ("producer_epoch", 51, 2),
    ("base_sequence", 53, 4),
    ("record_count", 57, 4),
];

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 64 << 10,
        ..LogConfig::default()
    }
}

/// A node that stopped, and what its partitions 0 and 1 hold.
struct Stopped {
    world: World,
    written: Vec<BatchHeader>,
}

/// Two partitions of several segments, of the same shape but not of the same records.
fn stopped(clean: bool) -> Stopped {
    let mut world = World::new(test_config());
    let logs = [0, 1].map(|at| world.store.create(spec(at, 0, config()), world.now));
    let mut written = Vec::new();
    for at in 0..BATCHES {
        for (partition, log) in logs.into_iter().enumerate() {
            let mut batch = Batch::of(RECORDS as i32, 1000);
            batch.seed = (at as u64) << 8 | partition as u64;
            let done = world.append(log, &batch).expect("room");
            if partition == 0 {
                let mut bytes = batch.bytes();
                bytes[..8].copy_from_slice(&done.base_offset.0.to_be_bytes());
                written.push(BatchHeader::parse(&bytes).expect("a valid batch"));
            }
        }
        world.settle();
    }
    if clean {
        world.shutdown();
    } else {
        // The marks ledger has caught up.
        for _ in 0..2 {
            world.pass_ms(20);
            world.settle();
        }
    }
    Stopped { world, written }
}

impl Stopped {
    fn segments(&self, partition: i32) -> Vec<String> {
        let paths = self.world.disk.paths(&directory(partition));
        let is_segment = |path: &String| path.ends_with(".log") && !path.contains("prepared");
        paths.into_iter().filter(is_segment).collect()
    }

    /// Where the batches of a file are.
    fn batches(&self, path: &str) -> Vec<Range<usize>> {
        let bytes = self.world.disk.image()[path].clone();
        let mut found = Vec::new();
        let mut at = 4096;
        while let Ok(header) = BatchHeader::parse(&bytes[at..]) {
            found.push(at..at + header.total_bytes());
            at += header.total_bytes();
        }
        found
    }

    fn start(&mut self) -> LogId {
        let image = self.world.restart(test_config(), Keep::All);
        let recovered = self.world.recover(&image, spec(0, 0, config()));
        recovered.expect("recovers").0
    }
}

/// What a consumer that passes over holes got: the number of records, and the holes it met.
fn survey(world: &mut World, log: LogId, written: &[BatchHeader]) -> (i64, Vec<Range<i64>>) {
    let (mut offset, mut got, mut holes) = (0, 0, Vec::new());
    let end = BATCHES * RECORDS;
    while offset < end {
        match world.read(log, offset, 20_000, true) {
            Ok((outcome, headers)) => {
                assert!(!headers.is_empty(), "nothing at {offset} and no error");
                for header in &headers {
                    let original = &written[(header.base_offset / RECORDS) as usize];
                    assert_eq!(header, original, "a batch as it was written, at its offset");
                }
                got += outcome.next_offset.0 - offset;
                offset = outcome.next_offset.0;
            }
            Err(ReadError::Hole { from, to }) => {
                assert!(from.0 <= offset && offset < to.0);
                holes.push(offset..to.0);
                offset = to.0;
            }
            Err(error) => panic!("{error} at {offset}"),
        }
    }
    (got, holes)
}

fn lost(holes: &[Range<i64>]) -> i64 {
    holes.iter().map(|hole| hole.end - hole.start).sum()
}

/// Flips a bit of one field and says what a consumer sees after a start.
fn flipped(clean: bool, segment: usize, batch: usize, at: usize) -> (i64, Vec<Range<i64>>) {
    let mut stopped = stopped(clean);
    let path = stopped.segments(0)[segment].clone();
    let place = stopped.batches(&path)[batch].start + at;
    stopped
        .world
        .disk
        .damage(&path, |bytes| bytes[place] ^= 0x04);
    let log = stopped.start();
    let (got, holes) = survey(&mut stopped.world, log, &stopped.written);
    let before = lost(&holes);
    // It is the same for whoever comes later, and nothing goes behind damage.
    let again = survey(&mut stopped.world, log, &stopped.written);
    assert_eq!(again, (got, holes.clone()));
    if before > 0 {
        let refused = stopped.world.append(log, &Batch::of(1, 10));
        assert_eq!(refused, Err(AppendError::Offline));
    }
    (got, holes)
}

#[test]
fn a_flip_in_any_header_field_costs_the_batch_it_is_in_and_is_an_error() {
    let shape = stopped(true);
    let segments = shape.segments(0);
    assert!(segments.len() >= 3, "{segments:?}");
    for (at_segment, segment) in [
        (0, &segments[0]),
        (segments.len() - 1, &segments[segments.len() - 1]),
    ] {
        let batches = shape.batches(segment).len();
        for batch in [0, batches / 2, batches - 1] {
            for (field, from, bytes) in FIELDS {
                for clean in [true, false] {
                    let case = format!("{field} of batch {batch} of {segment}, clean: {clean}");
                    let (got, holes) = flipped(clean, at_segment, batch, from + bytes - 1);
                    assert_eq!(got + lost(&holes), BATCHES * RECORDS, "{case}");
                    assert_eq!(lost(&holes), RECORDS, "{case}: {holes:?}");
                }
            }
        }
    }
}

#[test]
fn flips_in_records_and_zeroed_blocks_cost_what_they_hit() {
    for segment in [0, 2] {
        for clean in [true, false] {
            let (got, holes) = flipped(clean, segment, 7, 700);
            assert_eq!((got, lost(&holes)), (BATCHES * RECORDS - RECORDS, RECORDS));
            let mut stopped = stopped(clean);
            let path = stopped.segments(0)[segment].clone();
            stopped
                .world
                .disk
                .damage(&path, |bytes| bytes[20_480..24_576].fill(0));
            let log = stopped.start();
            let (got, holes) = survey(&mut stopped.world, log, &stopped.written);
            assert_eq!(got + lost(&holes), BATCHES * RECORDS);
            assert!(lost(&holes) <= 6 * RECORDS, "{holes:?}");
        }
    }
}

#[test]
fn segment_files_that_changed_places_serve_nothing_of_each_other() {
    for clean in [true, false] {
        // Within the partition, and with the partition beside it, whose names are the same.
        for (from, to) in [((0, 0), (0, 1)), ((0, 1), (1, 1)), ((0, 0), (1, 0))] {
            let mut stopped = stopped(clean);
            let paths = [from, to].map(|(partition, at)| stopped.segments(partition)[at].clone());
            let image = stopped.world.disk.image();
            for (path, other) in [(&paths[0], &paths[1]), (&paths[1], &paths[0])] {
                let bytes = image[other].clone();
                stopped.world.disk.damage(path, |place| *place = bytes);
            }
            let image = stopped.world.restart(test_config(), Keep::All);
            let recovered = stopped.world.recover(&image, spec(0, 0, config()));
            // A partition that is not opened serves nothing either.
            if let Ok((log, _)) = recovered {
                let (got, holes) = survey(&mut stopped.world, log, &stopped.written);
                assert_eq!(got + lost(&holes), BATCHES * RECORDS);
                assert!(lost(&holes) >= 30 * RECORDS, "{holes:?}");
            }
        }
    }
}

/// The start has looked at the header blocks; what is behind a name may change after it.
#[test]
fn a_segment_file_that_is_replaced_after_the_start_serves_nothing() {
    let mut stopped = stopped(true);
    let log = stopped.start();
    let path = stopped.segments(0)[0].clone();
    let other = stopped.world.disk.image()[&stopped.segments(1)[0]].clone();
    stopped.world.disk.damage(&path, |bytes| *bytes = other);
    let (got, holes) = survey(&mut stopped.world, log, &stopped.written);
    assert_eq!(got + lost(&holes), BATCHES * RECORDS);
    assert!(
        holes[0].start == 0 && lost(&holes) >= 30 * RECORDS,
        "{holes:?}"
    );
}

#[test]
fn a_damaged_header_block_costs_no_record() {
    let mut stopped = stopped(true);
    for path in stopped.segments(0) {
        stopped.world.disk.damage(&path, |bytes| bytes[50] ^= 1);
    }
    let log = stopped.start();
    let (got, holes) = survey(&mut stopped.world, log, &stopped.written);
    assert_eq!((got, holes), (BATCHES * RECORDS, vec![]));
}

#[test]
fn what_was_found_is_found_again_after_another_stop() {
    let mut stopped = stopped(true);
    let path = stopped.segments(0)[1].clone();
    let place = stopped.batches(&path)[5].start + 7;
    stopped.world.disk.damage(&path, |bytes| bytes[place] ^= 1);
    let log = stopped.start();
    let (_, holes) = survey(&mut stopped.world, log, &stopped.written);
    assert_eq!(lost(&holes), RECORDS);
    stopped.world.settle();
    stopped.world.shutdown();
    let image = stopped.world.restart(test_config(), Keep::All);
    let recovered = stopped.world.recover(&image, spec(0, 0, config()));
    let (_, report) = recovered.expect("recovers");
    assert!(!report.from_checkpoint);
    let found: Vec<_> = report.holes.iter().map(|hole| hole.from..hole.to).collect();
    assert_eq!(found, holes);
}

/// Reads at `offset` while the device refuses one block of a file.
fn read_with_bad_block(stopped: &mut Stopped, log: LogId, block: u64) -> Result<(), ReadError> {
    let offset = 60;
    let mut pieces = Vec::new();
    for _ in 0..10_000 {
        let read = stopped
            .world
            .store
            .read(log, Offset(offset), 1000, true, &mut pieces);
        if read != Err(ReadError::Locating) {
            return read.map(|_| ());
        }
        stopped.world.end_turn();
        let world = &mut stopped.world;
        let hits = |operation: &DiskOperation| match operation {
            DiskOperation::Read { offset, len, .. } => {
                *offset <= block && block < offset + *len as u64
            }
            _ => false,
        };
        if world
            .pending
            .first()
            .is_some_and(|request| hits(&request.operation))
        {
            let token = world.pending.remove(0).token;
            let result = Err(DiskError::Io(5));
            let completion = DiskCompletion { token, result };
            let mut fresh = Vec::new();
            world
                .store
                .complete(world.now, completion, &mut fresh, &mut world.events);
            world.pending.extend(fresh);
        } else {
            world.execute(0);
        }
    }
    panic!("it is never read");
}

#[test]
fn a_block_that_cannot_be_read_is_a_hole_and_the_process_goes_on() {
    let mut stopped = stopped(true);
    let path = stopped.segments(0)[0].clone();
    let batches = stopped.batches(&path);
    let block = (batches[20].start / 4096 * 4096) as u64;
    let log = stopped.start();
    let read = read_with_bad_block(&mut stopped, log, block);
    assert!(matches!(read, Err(ReadError::Hole { .. })), "{read:?}");
    let fatal = |event: &StoreEvent| matches!(event, StoreEvent::Fatal { .. });
    assert!(!stopped.world.events.iter().any(fatal));
    let hole = stopped.world.store.holes(log)[0];
    let hit = |at: &Range<usize>| at.start < block as usize + 4096 && (block as usize) < at.end;
    let damaged = batches.iter().filter(|at| hit(at)).count() as i64;
    assert!(hole.from <= 60 && 60 < hole.to);
    assert!(hole.to - hole.from <= damaged * RECORDS, "{hole:?}");
    let (got, holes) = survey(&mut stopped.world, log, &stopped.written);
    assert_eq!(got + lost(&holes), BATCHES * RECORDS);
    assert_eq!(lost(&holes), hole.to - hole.from);
}

/// The device refuses the last block: producers are told, and the partition takes no more.
#[test]
fn an_append_behind_an_unreadable_block_is_refused_and_not_fatal() {
    let mut stopped = stopped(true);
    let log = stopped.start();
    let end = stopped.world.store.log_end(log);
    stopped.world.append(log, &Batch::of(1, 100)).expect("room");
    stopped.world.end_turn();
    let is_read = |operation: &DiskOperation| matches!(operation, DiskOperation::Read { .. });
    // The block, then the batches around it as one, then block by block.
    for _ in 0..1000 {
        let world = &mut stopped.world;
        let Some(at) = world.pending.iter().position(|it| is_read(&it.operation)) else {
            break;
        };
        let token = world.pending.remove(at).token;
        let result = Err(DiskError::Io(5));
        let completion = DiskCompletion { token, result };
        let mut fresh = Vec::new();
        world
            .store
            .complete(world.now, completion, &mut fresh, &mut world.events);
        world.pending.extend(fresh);
        world.end_turn();
    }
    stopped.world.settle();
    let events = &stopped.world.events;
    let discarded = events.iter().any(|event| match event {
        StoreEvent::Discarded { from, .. } => *from == end,
        _ => false,
    });
    assert!(discarded, "{events:?}");
    let fatal = |event: &StoreEvent| matches!(event, StoreEvent::Fatal { .. });
    assert!(!events.iter().any(fatal));
    assert_eq!(stopped.world.store.log_end(log), end);
    let refused = stopped.world.append(log, &Batch::of(1, 100));
    assert_eq!(refused, Err(AppendError::Offline));
}

#[test]
fn look_ups_by_time_are_not_fooled() {
    let mut stopped = stopped(true);
    let path = stopped.segments(0)[0].clone();
    let place = stopped.batches(&path)[1].start + 7;
    stopped
        .world
        .disk
        .damage(&path, |bytes| bytes[place] ^= 0x40);
    let log = stopped.start();
    let mut fresh = Vec::new();
    let world = &mut stopped.world;
    let found = world
        .store
        .find_timestamp(log, 1000, Offset(0), 1, &mut fresh);
    assert!(matches!(found, Lookup::Pending));
    world.pending.extend(fresh);
    world.settle();
    let failed = world.events.iter().any(|event| match event {
        StoreEvent::LookupRead { result, .. } => result.is_err(),
        _ => false,
    });
    assert!(failed, "{:?}", world.events);
    assert_eq!(world.store.holes(log)[0].from, RECORDS);
}

/// Rot under a running node, in bytes that were checked before: whoever sends a range looks at its
/// head, and what does not fit is checked again.
#[test]
fn the_head_of_a_range_is_not_what_it_was() {
    let mut stopped = stopped(true);
    let log = stopped.start();
    survey(&mut stopped.world, log, &stopped.written);
    let path = stopped.segments(0)[0].clone();
    let place = stopped.batches(&path)[0].start + 7;
    stopped.world.disk.damage(&path, |bytes| bytes[place] ^= 1);
    let mut pieces = Vec::new();
    let read = stopped
        .world
        .store
        .read(log, Offset(0), 9000, true, &mut pieces);
    read.expect("nobody knows yet");
    let ReadPiece::File {
        file,
        offset,
        len,
        first,
        ..
    } = &pieces[0]
    else {
        panic!("{pieces:?} is in memory");
    };
    let bytes = stopped.world.disk.file_bytes(*file, *offset, *len);
    assert!(!first.is_met_by(&bytes[..61]), "a wrong offset is noticed");
    let name = stopped
        .world
        .store
        .file_name(*file)
        .expect("it has one")
        .clone();
    assert!(stopped.world.store.suspect(&name.path, *offset));
    stopped.world.settle();
    let (_, holes) = survey(&mut stopped.world, log, &stopped.written);
    assert_eq!(holes, vec![0..RECORDS]);
}

#[test]
fn a_topic_that_verifies_on_fetch_never_sends_from_a_file() {
    let mut stopped = stopped(true);
    let image = stopped.world.restart(test_config(), Keep::All);
    let config = LogConfig {
        verify_on_fetch: true,
        ..config()
    };
    let recovered = stopped.world.recover(&image, spec(0, 0, config));
    let log = recovered.expect("recovers").0;
    for _ in 0..2 {
        let (got, _) = survey(&mut stopped.world, log, &stopped.written);
        assert_eq!(got, BATCHES * RECORDS);
    }
    let path = stopped.segments(0)[0].clone();
    let place = stopped.batches(&path)[9].start + 500;
    stopped.world.disk.damage(&path, |bytes| bytes[place] ^= 1);
    let (_, holes) = survey(&mut stopped.world, log, &stopped.written);
    assert_eq!(holes, vec![9 * RECORDS..10 * RECORDS]);
}
