//! A name that is taken: no segment is ever created over a file, nor renamed over one. What has the
//! name stays as it is, the process ends, and recovery finds what was acknowledged.

mod support;

use highwater_base::Offset;
use highwater_base::disk::{BootDisk, DiskOperation};
use highwater_store::{LogConfig, StoreEvent};
use support::disk::Keep;
use support::{Batch, World, directory, spec, test_config};

const FOREIGN: &[u8] = b"acknowledged by somebody else";

fn small_segments() -> LogConfig {
    LogConfig {
        segment_bytes: 64 << 10,
        ..LogConfig::default()
    }
}

fn bytes_of(world: &World, path: &str) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let read = world.disk.read(path, 0, &mut bytes).expect("it is there");
    bytes.truncate(read);
    bytes
}

fn has_ended(world: &World) -> bool {
    let is_fatal = |event: &StoreEvent| matches!(event, StoreEvent::Fatal { .. });
    world.events.iter().any(is_fatal)
}

#[test]
fn a_segment_is_not_created_over_a_file() {
    let mut world = World::new(test_config());
    let log = world.store.create(spec(0, 0, small_segments()), world.now);
    let path = format!("{}/{:020}-0.log", directory(0), 0);
    world.disk.write_whole(&path, FOREIGN).expect("written");
    world.append(log, &Batch::of(1, 100)).expect("room");
    world.settle();
    assert!(has_ended(&world), "{:?}", world.events);
    assert_eq!(world.store.high_watermark(log), Offset(0));
    assert_eq!(bytes_of(&world, &path), FOREIGN);
}

#[test]
fn a_segment_made_ahead_is_not_renamed_over_a_file() {
    let mut world = World::new(test_config());
    let log = world.store.create(spec(0, 0, small_segments()), world.now);
    let mut taken = None;
    for _ in 0..400 {
        world.append(log, &Batch::of(1, 900)).expect("room");
        world.end_turn();
        while taken.is_none() && !world.pending.is_empty() {
            if let DiskOperation::Rename { to, .. } = &world.pending[0].operation {
                taken = Some(to.clone());
                world.disk.write_whole(to, FOREIGN).expect("written");
            }
            world.execute(0);
        }
        if taken.is_some() {
            break;
        }
    }
    let taken = taken.expect("a segment is renamed");
    assert!(has_ended(&world), "{:?}", world.events);
    assert_eq!(bytes_of(&world, &taken), FOREIGN);
    let acknowledged = world.store.high_watermark(log);
    assert!(acknowledged > Offset(0));
    let image = world.restart(test_config(), Keep::Nothing);
    let (log, report) = world
        .recover(&image, spec(0, 0, small_segments()))
        .expect("recovers");
    assert!(
        report.end >= acknowledged && report.holes.is_empty(),
        "{report:?}"
    );
    let read = world.consume(log, 0, 1 << 20);
    assert!(read.len() as i64 >= acknowledged.0);
}

#[test]
fn what_a_ledger_replaces_it_removes_first() {
    // Half of a ledger's files are older generations: each start makes one of them anew.
    let mut world = World::new(test_config());
    for _ in 0..4 {
        let image = world.restart(test_config(), Keep::Nothing);
        assert!(image.is_readable());
        let made = world.disk.create_zeroed("marks/core-0-0a", 4096);
        assert!(made.is_err(), "a file with marks is never written over");
    }
}
