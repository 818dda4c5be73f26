//! Topics that come and go.

mod support;

use highwater_base::disk::{DiskOperation, DiskRequest};
use highwater_base::prng::Prng;
use highwater_base::{BatchHeader, Offset};
use highwater_store::{LogConfig, LogId, StoreConfig, StoreEvent};
use support::{Batch, World, spec, test_config};

fn small_segments() -> LogConfig {
    LogConfig {
        segment_bytes: 64 << 10,
        ..LogConfig::default()
    }
}

/// What a topic leaves behind must not grow with every topic there ever was.
#[test]
fn topics_that_come_and_go_leave_nothing_behind() {
    let mut world = World::new(test_config());
    let mut ids = 0;
    for at in 0..2000 {
        let log = world.store.create(spec(at, 0, small_segments()), world.now);
        world.append(log, &Batch::of(1, 1000)).expect("room");
        world.settle();
        world.drop_partition(log);
        world.settle();
        ids = ids.max(log.0);
    }
    assert!(ids < 8, "{ids} ids");
    // A window of the log that is left has the cache to itself.
    let log = world
        .store
        .create(spec(0, 0, LogConfig::default()), world.now);
    let mut largest = 0;
    for _ in 0..200 {
        world.append(log, &Batch::of(1, 10_000)).expect("room");
        world.end_turn();
        let writes = world.pending.iter();
        let windows = writes.filter_map(|request: &DiskRequest| match &request.operation {
            DiskOperation::Write { buffer, .. } => Some(buffer.capacity()),
            _ => None,
        });
        largest = largest.max(windows.max().unwrap_or(0));
        world.settle();
    }
    assert!(largest >= 128 << 10, "windows of {largest} bytes");
}

/// Logs are dropped with anything under way, their ids used again, and no log sees another's end.
fn random_churn(seed: u64) {
    let mut prng = Prng::new(seed);
    let mut world = World::new(StoreConfig {
        tail_cache_bytes: 1 << 20,
        ..test_config()
    });
    let mut live: Vec<(LogId, Vec<u32>)> = Vec::new();
    let (mut created, mut ids) = (0, 0);
    for _ in 0..600 {
        if live.len() < 8 && prng.chance(1, 3) {
            let spec = spec(created, 0, small_segments());
            let log = world.store.create(spec, world.now);
            created += 1;
            ids = ids.max(log.0);
            live.push((log, Vec::new()));
        }
        for _ in 0..prng.below(10) {
            if live.is_empty() {
                break;
            }
            let at = prng.below(live.len() as u64) as usize;
            let mut batch = Batch::of(1, prng.below(5000) as usize);
            batch.seed = prng.next_u64();
            let crc = BatchHeader::parse(&batch.bytes()).expect("valid").crc;
            if world.append(live[at].0, &batch).is_ok() {
                live[at].1.push(crc);
            }
        }
        world.end_turn();
        world.execute_some(&mut prng, 40);
        if let Some(at) = (!live.is_empty()).then(|| prng.below(live.len() as u64) as usize) {
            let (log, high_watermark) = (live[at].0, world.store.high_watermark(live[at].0));
            if prng.chance(1, 4) {
                let upto = Offset(prng.below(high_watermark.0 as u64 + 1) as i64);
                world.store.delete_records(log, upto).expect("in range");
            }
            let mut pieces = Vec::new();
            let from = Offset(prng.below(high_watermark.0 as u64 + 1) as i64);
            let _ = world.store.read(log, from, 10_000, true, &mut pieces);
            if prng.chance(1, 5) {
                live.swap_remove(at);
                world.drop_partition(log);
            }
        }
        if prng.chance(1, 20) {
            world.pass_ms(300);
        }
    }
    world.settle();
    let fatal = |event: &&StoreEvent| matches!(event, StoreEvent::Fatal { .. });
    let fatal = world.events.iter().find(fatal);
    assert!(fatal.is_none(), "{seed}: {fatal:?}");
    assert!(created > 60, "{created}");
    assert!(ids < 40, "{ids} ids for {created} logs");
    for (log, crcs) in live {
        let start = world.store.log_start(log).0;
        let found = world.consume(log, start, 20_000);
        let found: Vec<u32> = found.iter().map(|header| header.crc).collect();
        assert_eq!(found, crcs[start as usize..], "{seed}");
    }
    world.shutdown();
}

#[test]
fn ids_of_dropped_logs_serve_again() {
    for seed in 0..100 {
        random_churn(seed);
    }
}
