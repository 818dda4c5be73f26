//! Crashes at any moment, again and again: everything below the high-water mark is still there,
//! what follows it is a prefix of what was appended, nothing is taken for rot, and recovering twice
//! finds the same as once.

mod support;

use highwater_base::prng::Prng;
use highwater_base::{BatchHeader, Offset};
use highwater_store::{AppendError, Barrier, LogConfig, StoreConfig, StoreEvent};
use support::disk::{Device, Keep};
use support::{Batch, World, spec, test_config};

fn config_of(prng: &mut Prng) -> (StoreConfig, Device) {
    let (barrier, device) = [
        (Barrier::DeviceFlush, Device::Cached),
        (Barrier::DeviceFlush, Device::Cached),
        (Barrier::PerWrite, Device::ForcedUnitAccess),
        (Barrier::WriteThrough, Device::WriteThrough),
    ][prng.below(4) as usize];
    let config = StoreConfig {
        barrier,
        tail_cache_bytes: [512 << 10, 1 << 20][prng.below(2) as usize],
        ..test_config()
    };
    (config, device)
}

/// Power losses that each seed goes through.
const LIVES: u64 = 6;

fn lives(seed: u64) {
    let mut prng = Prng::new(seed);
    let (config, device) = config_of(&mut prng);
    let log_config = LogConfig {
        segment_bytes: 48 << 10,
        ..LogConfig::default()
    };
    let mut world = World::new(config.clone());
    world.disk.media.device = device;
    let count = 1 + prng.below(5) as usize;
    let mut expected: Vec<Vec<BatchHeader>> = vec![Vec::new(); count];
    let mut logs: Vec<_> = (0..count as i32)
        .map(|at| {
            world
                .store
                .create(spec(at, 0, log_config.clone()), world.now)
        })
        .collect();
    for life in 0..LIVES {
        for _ in 0..prng.below(120) {
            for _ in 0..prng.below(5) {
                let at = prng.below(count as u64) as usize;
                let most = [300, 300, 3000, 20_000][prng.below(4) as usize];
                let payload = prng.below(most);
                let mut batch = Batch::of(1 + prng.below(3) as i32, payload as usize);
                batch.seed = prng.next_u64();
                let mut header = BatchHeader::parse(&batch.bytes()).expect("valid");
                match world.append(logs[at], &batch) {
                    Ok(done) => {
                        header.base_offset = done.base_offset.0;
                        expected[at].push(header);
                    }
                    Err(error) => {
                        let full = matches!(error, AppendError::Busy | AppendError::DiskFull);
                        assert!(full, "{error}");
                    }
                }
            }
            world.end_turn();
            world.execute_some(&mut prng, 6);
            if prng.chance(1, 30) {
                world.disk.full = !world.disk.full;
            }
            if prng.chance(1, 10) {
                world.pass_ms(prng.below(200));
            }
            take_back(&mut world, &logs, &mut expected);
        }
        let acked: Vec<Offset> = logs
            .iter()
            .map(|log| world.store.high_watermark(*log))
            .collect();
        let keep = [Keep::All, Keep::Nothing, Keep::Some(prng.next_u64())][prng.below(3) as usize];
        let image = world.crash_now(config.clone(), keep, prng.next_u64());
        for at in 0..count {
            let spec = spec(at as i32, 0, log_config.clone());
            let context = format!("seed {seed} life {life} partition {at} {keep:?} {device:?}");
            let (log, report) = world.recover(&image, spec.clone()).expect("recovers");
            assert_eq!(report.holes, vec![], "{context} {report:?}");
            assert!(
                report.end >= acked[at],
                "{context} {report:?} acked {}",
                acked[at]
            );
            let found = world.consume(log, 0, 30_000);
            assert!(found.len() <= expected[at].len(), "{context}");
            for (found, expected) in found.iter().zip(&expected[at]) {
                let same = (found.base_offset, found.crc) == (expected.base_offset, expected.crc);
                assert!(same, "{context}: {found:?} is not {expected:?}");
            }
            expected[at].truncate(found.len());
            logs[at] = log;
        }
        recover_again(&mut world, &config, &log_config, &logs, seed);
        logs = reopened(&mut world, &config, &log_config, count);
    }
}

/// Appends that were taken back are not expected any more.
fn take_back(
    world: &mut World,
    logs: &[highwater_store::LogId],
    expected: &mut [Vec<BatchHeader>],
) {
    for event in world.events.drain(..) {
        match event {
            StoreEvent::Discarded { log, from, .. } => {
                let at = logs.iter().position(|it| *it == log).expect("one of ours");
                expected[at].retain(|header| header.base_offset < from.0);
            }
            StoreEvent::Fatal { path, error } => panic!("{path}: {error}"),
            _ => {}
        }
    }
}

fn recover_again(
    world: &mut World,
    config: &StoreConfig,
    log_config: &LogConfig,
    logs: &[highwater_store::LogId],
    seed: u64,
) {
    let ends: Vec<_> = logs.iter().map(|log| world.store.log_end(*log)).collect();
    let before = world.disk.image();
    let image = world.restart(config.clone(), Keep::Nothing);
    for (at, end) in ends.iter().enumerate() {
        let spec = spec(at as i32, 0, log_config.clone());
        let (_, report) = world.recover(&image, spec).expect("recovers");
        assert_eq!(report.end, *end, "seed {seed} partition {at}");
        assert!(!report.torn, "seed {seed} partition {at}: {report:?}");
    }
    let data = |image: std::collections::BTreeMap<String, Vec<u8>>| -> Vec<_> {
        let logs = |entry: &(String, Vec<u8>)| entry.0.starts_with("topics/");
        image.into_iter().filter(logs).collect()
    };
    assert_eq!(data(before), data(world.disk.image()), "seed {seed}");
}

fn reopened(
    world: &mut World,
    config: &StoreConfig,
    log_config: &LogConfig,
    count: usize,
) -> Vec<highwater_store::LogId> {
    let image = world.restart(config.clone(), Keep::Nothing);
    (0..count as i32)
        .map(|at| {
            let spec = spec(at, 0, log_config.clone());
            world.recover(&image, spec).expect("recovers").0
        })
        .collect()
}

/// Power losses simulated by default; the variable asks for more.
const POWER_LOSSES: &str = "TEST_POWER_LOSSES";

#[test]
fn crash_after_crash_loses_nothing_acknowledged() {
    let losses: u64 = std::env::var(POWER_LOSSES)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(480);
    for seed in 0..losses.div_ceil(LIVES) {
        lives(seed);
    }
}
