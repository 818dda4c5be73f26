//! Disks that are full and disks that fail.

mod support;

use highwater_base::Offset;
use highwater_base::disk::{DiskCompletion, DiskError, DiskOperation};
use highwater_store::{AppendError, LogConfig, MarksLedger, StoreConfig, StoreEvent};
use support::disk::Keep;
use support::{Batch, World, spec, test_config};

fn small_segments() -> LogConfig {
    LogConfig {
        segment_bytes: 64 << 10,
        ..LogConfig::default()
    }
}

#[test]
fn a_full_disk_takes_back_what_nobody_was_told_and_recovers_by_itself() {
    let mut world = World::new(test_config());
    let log = world.store.create(spec(0, 0, small_segments()), world.now);
    let first = Batch::of(2, 100).by_producer(9, 0, 0);
    world.append(log, &first).expect("room");
    world.settle();
    world.disk.full = true;
    let mut sequence = 2;
    let mut refused = None;
    for _ in 0..300 {
        let batch = Batch::of(1, 1000).by_producer(9, 0, sequence);
        match world.append(log, &batch) {
            Ok(_) => sequence += 1,
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
        world.settle();
    }
    assert_eq!(refused, Some(AppendError::DiskFull));
    let from = world.events.iter().find_map(|event| match event {
        StoreEvent::Discarded { from, .. } => Some(*from),
        _ => None,
    });
    let from = from.expect("appends were taken back");
    assert_eq!(world.store.log_end(log), from);
    assert_eq!(world.store.high_watermark(log), from);
    world.disk.full = false;
    world.pass_ms(600);
    world.settle();
    // The sequence stands where the log stands.
    let next = Batch::of(1, 1000).by_producer(9, 0, from.0 as i32);
    let done = world.append(log, &next).expect("there is room again");
    assert_eq!(done.base_offset, from);
    world.settle();
    let image = world.restart(test_config(), Keep::Nothing);
    let (log, report) = world
        .recover(&image, spec(0, 0, small_segments()))
        .expect("recovers");
    assert_eq!(report.end, from.plus(1));
    assert_eq!(
        world
            .consume(log, 0, 10_000)
            .last()
            .map(|last| last.base_offset),
        Some(from.0)
    );
}

#[test]
fn all_logs_go_on_soon_after_a_full_disk() {
    let mut world = World::new(StoreConfig {
        tail_cache_bytes: 16 << 20,
        ..test_config()
    });
    let logs: Vec<_> = (0..200)
        .map(|at| {
            let spec = spec(at, 0, LogConfig::default());
            world.store.create(spec, world.now)
        })
        .collect();
    world.disk.full = true;
    for &log in &logs {
        world.append(log, &Batch::of(1, 100)).expect("room");
    }
    world.settle();
    for &log in &logs {
        let refused = world.append(log, &Batch::of(1, 100));
        assert_eq!(refused, Err(AppendError::DiskFull));
    }
    world.disk.full = false;
    world.pass_ms(600);
    world.settle();
    for &log in &logs {
        world.append(log, &Batch::of(1, 100)).expect("room again");
    }
    world.settle();
    for &log in &logs {
        assert_eq!(world.store.high_watermark(log), Offset(1));
    }
}

#[test]
fn a_failed_write_is_fatal() {
    let mut world = World::new(test_config());
    let log = world
        .store
        .create(spec(0, 0, LogConfig::default()), world.now);
    world.append(log, &Batch::of(1, 10)).expect("room");
    world.end_turn();
    let request = world.pending.pop().expect("a write");
    let completion = DiskCompletion {
        token: request.token,
        result: Err(DiskError::Io(5)),
    };
    let mut fresh = Vec::new();
    world
        .store
        .complete(world.now, completion, &mut fresh, &mut world.events);
    assert!(matches!(
        world.events.last(),
        Some(StoreEvent::Fatal { .. })
    ));
    assert_eq!(world.store.high_watermark(log), Offset(0));
}

/// The device reports a write it lost from its cache to whoever flushes next: that may be work
/// nobody would miss, and the next barrier would acknowledge what is not there.
#[test]
fn an_input_output_error_of_any_write_is_fatal() {
    type Matches = fn(&DiskOperation) -> bool;
    let kinds: [(&str, Matches); 4] = [
        ("zero", |it| matches!(it, DiskOperation::Zero { .. })),
        ("rename", |it| matches!(it, DiskOperation::Rename { .. })),
        ("whole", |it| matches!(it, DiskOperation::WriteWhole { .. })),
        ("remove", |it| matches!(it, DiskOperation::Remove { .. })),
    ];
    for (name, is_kind) in kinds {
        for error in [DiskError::Full, DiskError::NotFound, DiskError::Io(5)] {
            let mut world = World::new(test_config());
            let log = world.store.create(spec(0, 0, small_segments()), world.now);
            let mut failed = false;
            for at in 0..400 {
                // A full disk may refuse it: the log goes on when there is room.
                let _ = world.append(log, &Batch::of(1, 900));
                if at == 300 {
                    let end = world.store.high_watermark(log);
                    world.store.delete_records(log, end).expect("in range");
                }
                world.end_turn();
                while !failed && !world.pending.is_empty() {
                    if !is_kind(&world.pending[0].operation) {
                        world.execute(0);
                        continue;
                    }
                    let completion = DiskCompletion {
                        token: world.pending.remove(0).token,
                        result: Err(error),
                    };
                    let mut fresh = Vec::new();
                    world
                        .store
                        .complete(world.now, completion, &mut fresh, &mut world.events);
                    failed = true;
                    world.pending.extend(fresh);
                }
                let fatal = |event: &StoreEvent| matches!(event, StoreEvent::Fatal { .. });
                let is_fatal = world.events.iter().any(fatal);
                assert_eq!(is_fatal, failed && error == DiskError::Io(5), "{name}");
                if failed {
                    break;
                }
            }
            assert!(failed, "{name} never came");
        }
    }
}

/// What is on disk behind a write that was cut short is not known: it is never gone on with.
#[test]
fn a_short_write_is_fatal() {
    for of_the_ledger in [false, true] {
        let mut world = World::new(test_config());
        let logs: Vec<_> = (0..8)
            .map(|at| {
                let spec = spec(at, 0, LogConfig::default());
                world.store.create(spec, world.now)
            })
            .collect();
        let mut is_short = false;
        for _ in 0..40 {
            for &log in &logs {
                world.append(log, &Batch::of(1, 900)).expect("room");
            }
            world.end_turn();
            while !is_short && !world.pending.is_empty() {
                let request = &world.pending[0];
                let is_write = matches!(request.operation, DiskOperation::Write { .. });
                if !is_write || MarksLedger::owns(request.token) != of_the_ledger {
                    world.execute(0);
                    continue;
                }
                let completion = DiskCompletion {
                    token: world.pending.remove(0).token,
                    result: Ok(0),
                };
                let mut fresh = Vec::new();
                world
                    .store
                    .complete(world.now, completion, &mut fresh, &mut world.events);
                is_short = true;
            }
            if is_short {
                break;
            }
        }
        assert!(is_short, "no such write came");
        let fatal = |event: &StoreEvent| matches!(event, StoreEvent::Fatal { .. });
        assert!(world.events.iter().any(fatal), "ledger: {of_the_ledger}");
    }
}

#[test]
fn a_failed_write_of_a_dropped_partition_is_fatal() {
    let mut world = World::new(test_config());
    let log = world
        .store
        .create(spec(0, 0, LogConfig::default()), world.now);
    world.append(log, &Batch::of(1, 10)).expect("room");
    world.end_turn();
    let mut fresh = Vec::new();
    world.store.drop_partition(log, &mut fresh);
    let completion = DiskCompletion {
        token: world.pending.pop().expect("a write").token,
        result: Err(DiskError::Io(5)),
    };
    world
        .store
        .complete(world.now, completion, &mut fresh, &mut world.events);
    assert!(matches!(
        world.events.last(),
        Some(StoreEvent::Fatal { .. })
    ));
}
