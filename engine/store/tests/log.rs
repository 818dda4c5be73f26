//! The log as its host uses it: append, group commit, read back, roll, evict, retain, stop,
//! recover.

mod support;

use highwater_base::prng::Prng;
use highwater_base::{BatchHeader, Offset};
use highwater_store::{
    AppendError, Barrier, LogConfig, Lookup, ReadError, ReadPiece, StoreConfig, StoreEvent,
};
use support::disk::{Device, Keep};
use support::{Batch, World, directory, spec, test_config};

fn small_segments() -> LogConfig {
    LogConfig {
        segment_bytes: 64 << 10,
        ..LogConfig::default()
    }
}

#[test]
fn an_append_is_visible_when_it_is_durable_and_not_before() {
    let mut world = World::new(test_config());
    let log = world
        .store
        .create(spec(0, 0, LogConfig::default()), world.now);
    let appended = world.append(log, &Batch::of(3, 100)).expect("room");
    assert_eq!(appended.base_offset, Offset(0));
    assert_eq!(appended.next_offset, Offset(3));
    assert_eq!(world.store.high_watermark(log), Offset(0));
    assert!(world.consume(log, 0, 1 << 20).is_empty());
    world.settle();
    assert_eq!(world.store.high_watermark(log), Offset(3));
    assert_eq!(world.consume(log, 0, 1 << 20).len(), 1);
    assert!(world.events.iter().any(|event| matches!(
        event,
        StoreEvent::HighWatermark {
            offset: Offset(3),
            ..
        }
    )));
    assert_eq!(
        world.read(log, 4, 100, true).expect_err("beyond the end"),
        ReadError::OutOfRange {
            log_start: Offset(0),
            high_watermark: Offset(3)
        }
    );
}

#[test]
fn what_is_in_memory_can_be_read_as_a_file_range_too() {
    let mut world = World::new(test_config());
    let log = world
        .store
        .create(spec(0, 0, LogConfig::default()), world.now);
    let mut written = Vec::new();
    for _ in 0..50 {
        let appended = world.append(log, &Batch::of(3, 1000)).expect("room");
        written.push(appended.base_offset.0);
        world.settle();
    }
    let (mut offset, mut read) = (0, Vec::new());
    while offset < 150 {
        let mut pieces = Vec::new();
        let (store, at) = (&mut world.store, Offset(offset));
        let outcome = store.read_files(log, at, 10_000, true, &mut pieces);
        for piece in pieces {
            let ReadPiece::File {
                file,
                offset: from,
                len,
                ..
            } = piece
            else {
                panic!("memory was lent");
            };
            let bytes = world.disk.file_bytes(file, from, len);
            let mut at = 0;
            while at < len {
                let header = BatchHeader::parse(&bytes[at..]).expect("a batch");
                header.verify_crc(&bytes[at..]).expect("undamaged");
                at += header.total_bytes();
                if header.base_offset >= offset {
                    read.push(header.base_offset);
                }
            }
        }
        offset = outcome.expect("in range").next_offset.0;
    }
    assert_eq!(read, written);
}

#[test]
fn many_dirty_logs_share_one_barrier() {
    let mut world = World::new(test_config());
    let logs: Vec<_> = (0..16)
        .map(|at| {
            world
                .store
                .create(spec(at, 0, LogConfig::default()), world.now)
        })
        .collect();
    for &log in &logs {
        world.append(log, &Batch::of(1, 100)).expect("room");
    }
    world.settle();
    for round in 0..40 {
        for &log in &logs {
            world.append(log, &Batch::of(1, 1000)).expect("room");
        }
        world.end_turn();
        let plain = |request: &highwater_base::disk::DiskRequest| {
            matches!(
                request.operation,
                highwater_base::disk::DiskOperation::Write { durable: false, .. }
            )
        };
        if round > 30 {
            assert!(
                world.pending.iter().filter(|it| plain(it)).count() > 8,
                "{round}"
            );
        }
        world.settle();
    }
    for &log in &logs {
        assert_eq!(world.store.high_watermark(log), Offset(41));
        assert_eq!(world.consume(log, 0, 4096).len(), 41);
    }
}

/// The device may write the ledger's block to the platter before the data blocks it is flushed
/// with. A mark that covers data of its own barrier would then make a torn tail look like rot.
#[test]
fn a_mark_is_never_ahead_of_its_data() {
    let mut world = World::new(test_config());
    let config = LogConfig::default();
    let logs: Vec<_> = (0..4)
        .map(|at| world.store.create(spec(at, 0, config.clone()), world.now))
        .collect();
    for _ in 0..30 {
        for &log in &logs {
            world.append(log, &Batch::of(1, 1000)).expect("room");
        }
        world.settle();
    }
    let acked = world.store.high_watermark(logs[0]);
    for &log in &logs {
        world.append(log, &Batch::of(1, 1000)).expect("room");
    }
    world.write_without_flush();
    assert_eq!(world.store.high_watermark(logs[0]), acked);
    let image = world.restart(test_config(), Keep::Marks);
    for at in 0..4 {
        let recovered = world.recover(&image, spec(at, 0, config.clone()));
        let (_, report) = recovered.expect("recovers");
        assert_eq!((report.end, report.holes), (acked, vec![]));
    }
}

/// Random appends, completions in random order, reads of random size: every read is whole batches,
/// contiguous, and everything is there in the end.
fn random_life(seed: u64, config: StoreConfig) {
    let mut prng = Prng::new(seed);
    let mut world = World::new(config.clone());
    world.disk.media.device = match config.barrier {
        Barrier::DeviceFlush => Device::Cached,
        Barrier::PerWrite => Device::ForcedUnitAccess,
        Barrier::WriteThrough => Device::WriteThrough,
    };
    let count = 1 + prng.below(6) as i32;
    let logs: Vec<_> = (0..count)
        .map(|at| world.store.create(spec(at, 0, small_segments()), world.now))
        .collect();
    let mut appended: Vec<Vec<BatchHeader>> = vec![Vec::new(); logs.len()];
    for _ in 0..400 {
        for _ in 0..prng.below(6) {
            let at = prng.below(logs.len() as u64) as usize;
            let payload = match prng.below(10) {
                0 => prng.below(40_000),
                1..4 => prng.below(5000),
                _ => prng.below(300),
            };
            let mut batch = Batch::of(1 + prng.below(5) as i32, payload as usize);
            batch.seed = prng.next_u64();
            let bytes = batch.bytes();
            let mut header = BatchHeader::parse(&bytes).expect("valid");
            match world.append(logs[at], &batch) {
                Ok(done) => {
                    header.base_offset = done.base_offset.0;
                    appended[at].push(header);
                }
                Err(error) => assert_eq!(error, AppendError::Busy),
            }
        }
        world.end_turn();
        world.execute_some(&mut prng, 8);
        let at = prng.below(logs.len() as u64) as usize;
        let end = world.store.high_watermark(logs[at]).0 as u64;
        let from = prng.below(end + 1) as i64;
        let most = prng.below(100_000) as usize;
        let _ = world
            .read(logs[at], from, most, prng.chance(1, 2))
            .expect("in range");
        if prng.chance(1, 20) {
            world.pass_ms(10);
        }
    }
    world.settle();
    for (log, expected) in logs.iter().zip(&appended) {
        let size = 1 + prng.below(50_000) as usize;
        let found = world.consume(*log, 0, size);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(
                (found.base_offset, found.crc),
                (expected.base_offset, expected.crc)
            );
        }
    }
    // And again, after each kind of end.
    if prng.chance(1, 2) {
        world.shutdown();
    }
    let keep = [Keep::All, Keep::Nothing, Keep::Some(seed)][prng.below(3) as usize];
    let image = world.restart(config, keep);
    for (partition, expected) in appended.iter().enumerate() {
        let (log, report) = world
            .recover(&image, spec(partition as i32, 0, small_segments()))
            .expect("recovers");
        assert_eq!(report.holes, vec![], "{report:?}");
        let found = world.consume(log, 0, 10_000);
        let ends = (found.last(), expected.last());
        assert_eq!(
            found.len(),
            expected.len(),
            "{seed}: {report:?} {keep:?} {ends:?}"
        );
        world.append(log, &Batch::of(1, 10)).expect("goes on");
        world.settle();
    }
}

#[test]
fn random_lives_with_a_device_cache() {
    for seed in 0..60 {
        random_life(seed, test_config());
    }
}

#[test]
fn random_lives_with_fua_or_write_through() {
    for seed in 0..20 {
        for barrier in [Barrier::PerWrite, Barrier::WriteThrough] {
            random_life(
                seed,
                StoreConfig {
                    barrier,
                    ..test_config()
                },
            );
        }
    }
}

#[test]
fn random_lives_in_little_memory() {
    for seed in 100..130 {
        random_life(
            seed,
            StoreConfig {
                tail_cache_bytes: 320 << 10,
                ..test_config()
            },
        );
    }
}

#[test]
fn a_log_that_rested_reads_its_last_block_back() {
    let config = StoreConfig {
        tail_cache_bytes: 256 << 10,
        ..test_config()
    };
    let mut world = World::new(config);
    let logs: Vec<_> = (0..40)
        .map(|at| {
            world
                .store
                .create(spec(at, 0, LogConfig::default()), world.now)
        })
        .collect();
    for round in 0..5i64 {
        for &log in &logs {
            world.append(log, &Batch::of(1, 700)).expect("room");
            world.settle();
            assert_eq!(world.store.high_watermark(log), Offset(round + 1));
        }
    }
    for &log in &logs {
        assert_eq!(world.consume(log, 0, 1 << 20).len(), 5);
    }
}

#[test]
fn duplicates_are_answered_with_the_original_offsets_after_a_crash_too() {
    for clean in [false, true] {
        let mut world = World::new(test_config());
        let log = world.store.create(spec(0, 0, small_segments()), world.now);
        for at in 0..200 {
            world
                .append(log, &Batch::of(1, 900).by_producer(5, 1, at))
                .expect("room");
            world.settle();
        }
        if clean {
            world.shutdown();
        }
        let image = world.restart(test_config(), Keep::Nothing);
        let (log, report) = world
            .recover(&image, spec(0, 0, small_segments()))
            .expect("recovers");
        assert_eq!(report.from_checkpoint, clean);
        assert!(report.segments > 2);
        let again = world
            .append(log, &Batch::of(1, 900).by_producer(5, 1, 197))
            .expect("known");
        assert!(again.duplicate);
        assert_eq!(again.base_offset, Offset(197));
        assert_eq!(
            world.append(log, &Batch::of(1, 900).by_producer(5, 1, 201)),
            Err(AppendError::OutOfOrderSequence {
                expected: 200,
                found: 201
            })
        );
        assert_eq!(
            world.append(log, &Batch::of(1, 900).by_producer(5, 0, 200)),
            Err(AppendError::InvalidProducerEpoch {
                current: 1,
                found: 0
            })
        );
    }
}

#[test]
fn delete_records_and_retention_remove_whole_segments_once_durable() {
    let mut world = World::new(test_config());
    let config = LogConfig {
        retention_ms: 60_000,
        ..small_segments()
    };
    let log = world.store.create(spec(0, 0, config.clone()), world.now);
    for _ in 0..300 {
        let batch = Batch::of(1, 900).at(world.now.wall_ms);
        world.append(log, &batch).expect("room");
        world.settle();
    }
    let before = world.store.segments(log).count();
    assert!(before >= 4);
    world
        .store
        .delete_records(log, Offset(200))
        .expect("in range");
    assert_eq!(
        world.store.log_start(log),
        Offset(0),
        "not before it is durable"
    );
    world.settle();
    assert_eq!(world.store.log_start(log), Offset(200));
    assert!(world.store.segments(log).count() < before);
    assert!(world.read(log, 100, 1000, true).is_err());
    let image = world.restart(test_config(), Keep::Nothing);
    let (log, report) = world
        .recover(&image, spec(0, 0, config.clone()))
        .expect("recovers");
    assert_eq!((report.log_start, report.end), (Offset(200), Offset(300)));
    assert_eq!(world.consume(log, 200, 5000).len(), 100);
    // Everything expires: the active segment is rolled and goes as well.
    world.pass_ms(120_000);
    world.settle();
    world.pass_ms(2_000);
    world.settle();
    assert_eq!(world.store.log_start(log), Offset(300));
    assert_eq!(world.store.segments(log).count(), 0);
    let logs = world.disk.paths(&directory(0));
    assert!(logs.iter().all(|path| !path.contains("-0.")), "{logs:?}");
    let image = world.restart(test_config(), Keep::Nothing);
    let (log, report) = world.recover(&image, spec(0, 0, config)).expect("recovers");
    assert_eq!((report.end, report.holes.len()), (Offset(300), 0));
    let next = world.append(log, &Batch::of(1, 10)).expect("room");
    assert_eq!(next.base_offset, Offset(300));
}

#[test]
fn retention_by_size_keeps_what_the_bound_allows() {
    let mut world = World::new(test_config());
    let config = LogConfig {
        retention_bytes: 100_000,
        ..small_segments()
    };
    let log = world.store.create(spec(0, 0, config), world.now);
    for _ in 0..500 {
        world.append(log, &Batch::of(1, 900)).expect("room");
        world.settle();
    }
    world.pass_ms(2_000);
    world.settle();
    let size = world.store.size_bytes(log);
    assert!((100_000..200_000).contains(&size), "{size}");
    assert_eq!(world.store.log_end(log), Offset(500));
}

#[test]
fn timestamps_lead_to_the_bytes_that_hold_them() {
    let mut world = World::new(test_config());
    let log = world.store.create(spec(0, 0, small_segments()), world.now);
    for at in 0..300i64 {
        world
            .append(log, &Batch::of(1, 900).at(at * 10))
            .expect("room");
        world.settle();
    }
    for wanted in [0, 5, 1234, 2990] {
        let mut fresh = Vec::new();
        let found = world
            .store
            .find_timestamp(log, wanted, Offset::ZERO, 77, &mut fresh);
        let slice = match found {
            Lookup::Ready(slice) => slice,
            Lookup::Pending => {
                world.pending.extend(fresh);
                world.settle();
                let found = world.events.iter().rev().find_map(|event| match event {
                    StoreEvent::LookupRead { lookup: 77, result } => Some(result.clone()),
                    _ => None,
                });
                found.expect("the read ends").expect("and well")
            }
            other => panic!("{other:?}"),
        };
        let bytes = slice.bytes();
        let mut at = 0;
        let mut first = None;
        while at < bytes.len() {
            let header = BatchHeader::parse(&bytes[at..]).expect("boundary");
            if header.max_timestamp >= wanted && first.is_none() {
                first = Some(header.base_offset);
            }
            at += header.total_bytes();
        }
        assert_eq!(first, Some((wanted + 9) / 10), "timestamp {wanted}");
    }
    let mut fresh = Vec::new();
    let beyond = world
        .store
        .find_timestamp(log, 2991, Offset::ZERO, 1, &mut fresh);
    assert!(matches!(beyond, Lookup::Empty));
}

#[test]
fn epochs_begin_segments_and_answer_where_they_end() {
    let mut world = World::new(test_config());
    let log = world
        .store
        .create(spec(0, 3, LogConfig::default()), world.now);
    for _ in 0..5 {
        world.append(log, &Batch::of(1, 10)).expect("room");
    }
    world.settle();
    let image = world.restart(test_config(), Keep::Nothing);
    let (log, _) = world
        .recover(&image, spec(0, 7, LogConfig::default()))
        .expect("recovers");
    world.append(log, &Batch::of(2, 10)).expect("room");
    world.settle();
    assert_eq!(world.store.segments(log).count(), 2);
    use highwater_base::Epoch;
    assert_eq!(
        world.store.epoch_end(log, Epoch(3)),
        Some((Epoch(3), Offset(5)))
    );
    assert_eq!(
        world.store.epoch_end(log, Epoch(5)),
        Some((Epoch(3), Offset(5)))
    );
    assert_eq!(
        world.store.epoch_end(log, Epoch(9)),
        Some((Epoch(7), Offset(7)))
    );
    assert_eq!(world.store.epoch_end(log, Epoch(2)), None);
    assert_eq!(world.consume(log, 0, 1000).len(), 6);
    let image = world.restart(test_config(), Keep::Nothing);
    assert!(
        world
            .recover(&image, spec(0, 6, LogConfig::default()))
            .is_err()
    );
}

#[test]
fn twenty_thousand_idle_partitions_are_cheap_and_restart_from_the_checkpoint() {
    let mut world = World::new(test_config());
    let logs: Vec<_> = (0..20_000)
        .map(|at| {
            world
                .store
                .create(spec(at, 0, LogConfig::default()), world.now)
        })
        .collect();
    world.append(logs[5], &Batch::of(1, 10)).expect("room");
    world.settle();
    let idle: usize = logs.iter().map(|log| world.store.memory_bytes(*log)).sum();
    assert!(idle / logs.len() < 2048, "{} bytes each", idle / logs.len());
    world.shutdown();
    let image = world.restart(test_config(), Keep::Nothing);
    for at in 0..20_000 {
        let (log, report) = world
            .store
            .recover(
                &mut world.disk,
                spec(at, 0, LogConfig::default()),
                &image,
                world.now,
            )
            .expect("recovers");
        assert!(report.from_checkpoint);
        assert_eq!(world.store.log_end(log), Offset(i64::from(at == 5)));
    }
}

#[test]
fn dropping_a_partition_waits_for_its_writes_and_removes_its_directory() {
    let mut world = World::new(test_config());
    let log = world
        .store
        .create(spec(0, 0, LogConfig::default()), world.now);
    world.append(log, &Batch::of(1, 10)).expect("room");
    world.end_turn();
    let mut fresh = Vec::new();
    world.store.drop_partition(log, &mut fresh);
    assert!(fresh.iter().all(|request| !matches!(
        request.operation,
        highwater_base::disk::DiskOperation::Remove { .. }
    )));
    world.settle();
    assert_eq!(world.disk.paths(&directory(0)), Vec::<String>::new());
}

#[test]
fn slow_readers_cannot_take_the_cache_from_producers() {
    let mut world = World::new(StoreConfig {
        tail_cache_bytes: 512 << 10,
        ..test_config()
    });
    let log = world
        .store
        .create(spec(0, 0, LogConfig::default()), world.now);
    let mut held = Vec::new();
    let mut from_file = 0;
    for at in 0..2000 {
        world
            .append(log, &Batch::of(1, 900))
            .expect("producers go on");
        world.settle();
        // A consumer that keeps up but never finishes sending what it was given.
        world
            .store
            .read(log, Offset(at), 10_000, true, &mut held)
            .expect("in range");
        let last = held.last().expect("a piece");
        from_file += usize::from(matches!(last, highwater_store::ReadPiece::File { .. }));
    }
    assert!(from_file > 1000, "{from_file}");
    held.clear();
    for at in 2000..2100 {
        world
            .append(log, &Batch::of(1, 900))
            .expect("producers go on");
        world.settle();
        world
            .store
            .read(log, Offset(at), 10_000, true, &mut held)
            .expect("in range");
        let last = held.last().expect("a piece");
        assert!(
            matches!(last, highwater_store::ReadPiece::Memory(_)),
            "{at}"
        );
        held.clear();
    }
}

/// Each flush of the ledger is a barrier of its own: a request may name thousands of partitions.
#[test]
fn log_starts_moved_in_one_turn_share_one_flush() {
    let mut world = World::new(test_config());
    let logs: Vec<_> = (0..50)
        .map(|at| {
            let spec = spec(at, 0, LogConfig::default());
            world.store.create(spec, world.now)
        })
        .collect();
    for &log in &logs {
        for _ in 0..10 {
            world.append(log, &Batch::of(1, 10)).expect("room");
        }
    }
    world.settle();
    world.pass_ms(1000);
    world.settle();
    for upto in [3, 7, 7, 5] {
        for &log in &logs {
            let deleted = world.store.delete_records(log, Offset(upto));
            deleted.expect("in range");
        }
    }
    assert!(world.pending.is_empty());
    world.end_turn();
    let barrier = |request: &&highwater_base::disk::DiskRequest| {
        matches!(
            request.operation,
            highwater_base::disk::DiskOperation::Write { durable: true, .. }
        )
    };
    assert_eq!(world.pending.iter().filter(barrier).count(), 1);
    // A later one while that is under way: each is told when it is durable.
    let deleted = world.store.delete_records(logs[0], Offset(9));
    deleted.expect("in range");
    world.settle();
    let told = |log| {
        let events = world.events.iter();
        let starts = events.filter_map(move |event| match event {
            StoreEvent::LogStart { log: of, offset } if *of == log => Some(offset.0),
            _ => None,
        });
        starts.collect::<Vec<_>>()
    };
    assert_eq!((told(logs[0]), told(logs[1])), (vec![7, 9], vec![7]));
    assert_eq!(world.store.log_start(logs[0]), Offset(9));
}
