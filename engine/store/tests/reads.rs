//! Reads of what memory no longer holds: they begin with the batch that holds the offset.

mod support;

use highwater_base::disk::{DiskCompletion, DiskError, DiskOperation};
use highwater_base::prng::Prng;
use highwater_base::{BatchHeader, Offset};
use highwater_store::{LogConfig, LogId, ReadError, StoreConfig};
use support::disk::Keep;
use support::{Batch, World, spec, test_config};

/// A log of batches of three records, and a cache that holds only its end.
fn cold_log(config: &LogConfig, batches: usize, payload: u64) -> (World, LogId) {
    let mut world = World::new(StoreConfig {
        tail_cache_bytes: 512 << 10,
        ..test_config()
    });
    let log = world.store.create(spec(0, 0, config.clone()), world.now);
    let mut prng = Prng::new(payload);
    for _ in 0..batches {
        let batch = Batch::of(3, prng.below(payload) as usize);
        world.append(log, &batch).expect("room");
        world.settle();
    }
    (world, log)
}

fn wide_index() -> LogConfig {
    LogConfig {
        index_interval_bytes: 300 << 10,
        ..LogConfig::default()
    }
}

/// Kafka begins with that batch, and there are clients that count on it.
#[test]
fn a_cold_read_starts_with_the_batch_that_holds_the_offset() {
    for config in [LogConfig::default(), wide_index()] {
        let (mut world, log) = cold_log(&config, 1000, 1500);
        for offset in (0..1500).step_by(7) {
            let (_, headers) = world.read(log, offset, 10_000, true).expect("in range");
            assert_eq!(headers[0].base_offset, offset / 3 * 3);
        }
        assert!(world.located() > 100, "{}", world.located());
        let image = world.restart(test_config(), Keep::All);
        let (log, _) = world.recover(&image, spec(0, 0, config)).expect("recovers");
        for offset in (0..3000).step_by(71) {
            let (_, headers) = world.read(log, offset, 10_000, true).expect("in range");
            assert_eq!(headers[0].base_offset, offset / 3 * 3);
        }
    }
}

#[test]
fn a_batch_larger_than_a_chunk_is_stepped_over() {
    let (mut world, log) = cold_log(&wide_index(), 60, 120_000);
    for offset in (0..120).rev() {
        let (_, headers) = world.read(log, offset, 1000, true).expect("in range");
        assert_eq!(headers[0].base_offset, offset / 3 * 3);
    }
}

/// Going on where the last answer ended is the normal case: no disk read may stand before it.
#[test]
fn a_reader_that_goes_on_where_it_stopped_needs_no_look_up() {
    for config in [LogConfig::default(), wide_index()] {
        for max_bytes in [1, 5000, 70_000] {
            let (mut world, log) = cold_log(&config, 1000, 1500);
            assert_eq!(world.consume(log, 0, max_bytes).len(), 1000);
            assert_eq!(world.located(), 0, "{max_bytes}");
        }
    }
}

/// The batches a reader was given from memory may be gone from there when it comes back.
#[test]
fn a_reader_that_memory_forgot_goes_on_without_a_look_up() {
    let (mut world, log) = cold_log(&wide_index(), 1000, 1500);
    let (outcome, _) = world.read(log, 2500, 100, true).expect("in range");
    let before = world.located();
    for _ in 0..1000 {
        world.append(log, &Batch::of(3, 700)).expect("room");
        world.settle();
        // A reader at the end takes no other reader's place.
        let end = world.store.high_watermark(log).0;
        world.read(log, end - 3, 100, true).expect("in range");
    }
    let next = outcome.next_offset.0;
    world.read(log, next, 100_000, true).expect("in range");
    assert_eq!(world.located(), before);
}

/// Ends the look-up under way badly and returns what the next read says.
fn read_after(
    world: &mut World,
    log: LogId,
    offset: i64,
    result: Result<usize, DiskError>,
) -> Result<(), ReadError> {
    let mut pieces = Vec::new();
    let read = |world: &mut World, pieces: &mut Vec<_>| {
        let outcome = world.store.read(log, Offset(offset), 1000, true, pieces);
        outcome.map(|_| ())
    };
    assert_eq!(read(world, &mut pieces), Err(ReadError::Locating));
    world.end_turn();
    assert_eq!(read(world, &mut pieces), Err(ReadError::Locating));
    world.end_turn();
    let is_read = |it: &DiskOperation| matches!(it, DiskOperation::Read { .. });
    let reads = world.pending.iter().filter(|it| is_read(&it.operation));
    assert_eq!(reads.count(), 1, "one look-up for both");
    let at = world.pending.iter().position(|it| is_read(&it.operation));
    let token = world.pending.remove(at.expect("a look-up")).token;
    let completion = DiskCompletion { token, result };
    let mut fresh = Vec::new();
    world
        .store
        .complete(world.now, completion, &mut fresh, &mut world.events);
    read(world, &mut pieces)
}

#[test]
fn a_position_that_cannot_be_read_is_an_error_and_tried_again() {
    // Out of descriptors: it says nothing about the bytes.
    let error = DiskError::Io(24);
    let (mut world, log) = cold_log(&wide_index(), 1000, 1500);
    let offset = Offset(301);
    assert_eq!(
        read_after(&mut world, log, 301, Err(error)),
        Err(ReadError::Unreadable { offset, error })
    );
    let (_, headers) = world.read(log, 301, 1000, true).expect("tried again");
    assert_eq!(headers[0].base_offset, 300);
}

#[test]
fn a_look_up_that_brings_nothing_is_followed_by_a_check_of_what_is_there() {
    for result in [Err(DiskError::Io(5)), Ok(0)] {
        let (mut world, log) = cold_log(&wide_index(), 1000, 1500);
        let waits = read_after(&mut world, log, 301, result);
        assert_eq!(waits, Err(ReadError::Locating));
        let (_, headers) = world.read(log, 301, 1000, true).expect("nothing is wrong");
        assert_eq!(headers[0].base_offset, 300);
        assert_eq!(world.store.holes(log), []);
    }
}

#[test]
fn damage_on_the_way_to_a_position_costs_what_it_hit() {
    let (mut world, log) = cold_log(&wide_index(), 1000, 1500);
    let paths = world.disk.paths(&support::directory(0));
    let path = paths.into_iter().find(|path| path.ends_with(".log"));
    let path = path.expect("the first segment");
    world.disk.damage(&path, |bytes| {
        let header = BatchHeader::parse(&bytes[4096..]).expect("the first batch");
        bytes[4096 + header.total_bytes()..][..61].fill(0);
    });
    // Its header is gone, and the index is too wide to name a boundary behind it.
    let error = world.read(log, 100, 1000, true).expect_err("not proven");
    let ReadError::Hole { from, to } = error else {
        panic!("{error:?}");
    };
    assert_eq!(from, Offset(3));
    let (_, headers) = world.read(log, to.0, 1000, true).expect("the next segment");
    assert_eq!(headers[0].base_offset, to.0);
    let (_, headers) = world.read(log, 0, 1000, true).expect("undamaged");
    assert_eq!(headers[0].base_offset, 0);
}

#[test]
fn a_partition_dropped_while_a_position_is_looked_up_is_forgotten() {
    let (mut world, log) = cold_log(&wide_index(), 1000, 1500);
    let mut pieces = Vec::new();
    let outcome = world.store.read(log, Offset(301), 1000, true, &mut pieces);
    assert_eq!(outcome, Err(ReadError::Locating));
    world.end_turn();
    let mut fresh = Vec::new();
    world.store.drop_partition(log, &mut fresh);
    world.pending.extend(fresh);
    world.settle();
    assert_eq!(world.located(), 0);
    world.shutdown();
}
