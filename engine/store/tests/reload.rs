//! Appends to a log that rested: its last block is read back from disk, and they do not wait.

mod support;

use highwater_base::prng::Prng;
use highwater_base::{BatchHeader, Offset};
use highwater_store::{LogConfig, LogId};
use support::disk::Keep;
use support::{Batch, World, spec, test_config};

fn segments_of(segment_bytes: u64) -> LogConfig {
    LogConfig {
        segment_bytes,
        ..LogConfig::default()
    }
}

/// A log recovered after `appended` batches of 1,000 bytes: none of it is in memory.
fn rested(config: LogConfig, appended: usize) -> (World, LogId) {
    let mut world = World::new(test_config());
    let log = world.store.create(spec(0, 0, config.clone()), world.now);
    for _ in 0..appended {
        world.append(log, &Batch::of(1, 1000)).expect("room");
        world.settle();
    }
    let image = world.restart(test_config(), Keep::All);
    let recovered = world.recover(&image, spec(0, 0, config));
    let (log, report) = recovered.expect("recovers");
    assert_eq!(report.end, Offset(appended as i64));
    (world, log)
}

fn assert_all_there(world: &mut World, log: LogId, batches: usize) {
    let found = world.consume(log, 0, 1 << 20);
    let bases: Vec<_> = found.iter().map(|header| header.base_offset).collect();
    assert_eq!(bases, (0..batches as i64).collect::<Vec<_>>());
}

/// Appends of `sizes` while nothing of the disk's work ends, then everything is read, before and
/// after a restart.
fn appends_do_not_wait(config: &LogConfig, appended: usize, sizes: &[usize]) {
    let (mut world, log) = rested(config.clone(), appended);
    for (at, &size) in sizes.iter().enumerate() {
        let done = world.append(log, &Batch::of(1, size));
        let offset = done.expect("room while the block is read").base_offset;
        assert_eq!(offset, Offset((appended + at) as i64));
        world.end_turn();
        assert_eq!(world.store.high_watermark(log), Offset(appended as i64));
    }
    let batches = appended + sizes.len();
    world.settle();
    assert_eq!(world.store.high_watermark(log), Offset(batches as i64));
    assert_all_there(&mut world, log, batches);
    let image = world.restart(test_config(), Keep::All);
    let recovered = world.recover(&image, spec(0, 0, config.clone()));
    let (log, report) = recovered.expect("recovers");
    assert_eq!((report.end, report.holes), (Offset(batches as i64), vec![]));
    assert_all_there(&mut world, log, batches);
}

/// Producers whose requests came in the milliseconds after a start were told NOT_ENOUGH_REPLICAS
/// when the segment was nearly full.
#[test]
fn a_segment_ends_while_its_last_block_is_read_back() {
    for appended in [1, 30, 55, 56, 57, 58, 59, 60] {
        appends_do_not_wait(&segments_of(64 << 10), appended, &[1000; 130]);
    }
}

#[test]
fn a_window_fills_while_its_last_block_is_read_back() {
    // Its room is for twice the first append, at least 64 KiB; the segment could take more.
    let config = segments_of(16 << 20);
    for appended in [1, 100, 300] {
        appends_do_not_wait(&config, appended, &[100; 3000]);
        // The last block is not in memory when the window is full.
        appends_do_not_wait(&config, appended, &[10, 100_000, 10, 100_000]);
    }
}

#[test]
fn appends_and_the_disk_in_any_order() {
    for seed in 0..300 {
        let mut prng = Prng::new(seed);
        let appended = 1 + prng.below(70) as usize;
        let (mut world, log) = rested(segments_of(64 << 10), appended);
        let mut expected = Vec::new();
        for _ in 0..prng.below(60) {
            let size = match prng.below(8) {
                0 => prng.below(55_000),
                _ => prng.below(2000),
            };
            let mut batch = Batch::of(1, size as usize);
            batch.seed = prng.next_u64();
            let crc = BatchHeader::parse(&batch.bytes()).expect("valid").crc;
            world.append(log, &batch).expect("room");
            expected.push(crc);
            world.end_turn();
            if prng.chance(1, 3) {
                world.execute_some(&mut prng, 3);
            }
        }
        world.settle();
        let from = appended as i64;
        let found = world.consume(log, from, 1 << 20);
        let found: Vec<_> = found.iter().map(|header| header.crc).collect();
        assert_eq!(found, expected, "seed {seed}");
    }
}
