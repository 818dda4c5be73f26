//! A log with a hole lives again: when its records before the end of the hole are deleted, or behind
//! the hole, for a host that can tell what is newer than the damage.

mod support;

use highwater_base::Offset;
use highwater_store::{AppendError, Hole, LogConfig, LogId};
use support::disk::Keep;
use support::{Batch, World, directory, spec, test_config};

const BATCHES: i64 = 40;
const BYTES: usize = 1000;
const FIRST_BATCH_AT: usize = 4096;
const BATCH_BYTES: usize = 61 + BYTES;

/// A log of many batches of one record, of which numbers 10 and 11 are damaged; the marks ledger
/// knows that all of them were durable.
fn damaged() -> (World, LogId) {
    let mut world = World::new(test_config());
    let log = world
        .store
        .create(spec(0, 0, LogConfig::default()), world.now);
    for _ in 0..BATCHES {
        world.append(log, &Batch::of(1, BYTES)).expect("room");
        world.settle();
    }
    confirm(&mut world);
    let path = format!("{}/{:020}-0.log", directory(0), 0);
    world.disk.damage(&path, |bytes| {
        for batch in [10, 11] {
            bytes[FIRST_BATCH_AT + batch * BATCH_BYTES + 100] ^= 1;
        }
    });
    let log = recover(&mut world, Keep::All);
    (world, log)
}

/// The power fails, and the log is recovered.
fn crash(world: &mut World) -> LogId {
    recover(world, Keep::Nothing)
}

fn recover(world: &mut World, keep: Keep) -> LogId {
    let image = world.restart(test_config(), keep);
    let recovered = world.recover(&image, spec(0, 0, LogConfig::default()));
    recovered.expect("it recovers").0
}

/// Waits until the marks ledger says what is durable.
fn confirm(world: &mut World) {
    world.settle();
    world.pass_ms(10_000);
    world.settle();
}

fn offsets_from(world: &mut World, log: LogId, from: i64) -> Vec<i64> {
    let found = world.consume(log, from, 1 << 20);
    found.iter().map(|header| header.base_offset).collect()
}

#[test]
fn a_log_takes_records_again_when_those_before_the_end_of_its_hole_are_deleted() {
    let (mut world, log) = damaged();
    assert_eq!(world.store.holes(log), [Hole { from: 10, to: 12 }]);
    let refused = world.append(log, &Batch::of(1, BYTES));
    assert_eq!(refused, Err(AppendError::Offline));
    // Up to the middle of the hole is not enough.
    world
        .store
        .delete_records(log, Offset(11))
        .expect("in range");
    confirm(&mut world);
    assert_eq!(world.store.holes(log), [Hole { from: 11, to: 12 }]);
    let refused = world.append(log, &Batch::of(1, BYTES));
    assert_eq!(refused, Err(AppendError::Offline));
    world
        .store
        .delete_records(log, Offset(12))
        .expect("in range");
    confirm(&mut world);
    assert_eq!(world.store.holes(log), []);
    let appended = world
        .append(log, &Batch::of(1, BYTES))
        .expect("it is whole");
    assert_eq!(appended.base_offset, Offset(BATCHES));
    confirm(&mut world);
    // The damaged bytes are still in the file, and of no offset that exists.
    let log = crash(&mut world);
    assert_eq!(world.store.holes(log), []);
    let expected: Vec<i64> = (12..=BATCHES).collect();
    assert_eq!(offsets_from(&mut world, log, 12), expected);
    world
        .append(log, &Batch::of(1, BYTES))
        .expect("whole after a start");
    confirm(&mut world);
    assert_eq!(world.store.high_watermark(log), Offset(BATCHES + 2));
}

#[test]
fn appends_behind_a_hole_survive_and_the_hole_stays_declared() {
    let (mut world, log) = damaged();
    for round in 0..3 {
        let log = match round {
            0 => log,
            _ => crash(&mut world),
        };
        assert_eq!(world.store.holes(log), [Hole { from: 10, to: 12 }]);
        let refused = world.append(log, &Batch::of(1, BYTES));
        assert_eq!(refused, Err(AppendError::Offline), "nobody has allowed it");
        world.store.allow_appends_behind_holes(log);
        let appended = world.append(log, &Batch::of(1, BYTES)).expect("allowed");
        assert_eq!(appended.base_offset, Offset(BATCHES + round));
        confirm(&mut world);
    }
    let log = crash(&mut world);
    let expected: Vec<i64> = (12..BATCHES + 3).collect();
    assert_eq!(offsets_from(&mut world, log, 12), expected);
    assert_eq!(offsets_from(&mut world, log, BATCHES).len(), 3);
    // Its owner deletes the front at last: nothing is left of the damage.
    world
        .store
        .delete_records(log, Offset(BATCHES))
        .expect("in range");
    confirm(&mut world);
    assert_eq!(world.store.holes(log), []);
    let log = crash(&mut world);
    assert_eq!(offsets_from(&mut world, log, BATCHES).len(), 3);
    world
        .append(log, &Batch::of(1, BYTES))
        .expect("it is whole");
}
