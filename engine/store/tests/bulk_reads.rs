//! Reading a whole log back, batch by batch, as a host does that keeps state in one.

mod support;

use highwater_base::disk::BootDisk;
use highwater_base::{BatchHeader, Offset};
use highwater_store::{LogConfig, LogId, Lookup, StoreConfig, StoreEvent};
use support::disk::Keep;
use support::{Batch, World, directory, spec, test_config};

/// More than any read of a small cache may bring.
const READ_BYTES_MAX: usize = 64 << 10;

fn small_segments() -> LogConfig {
    LogConfig {
        segment_bytes: 64 << 10,
        ..LogConfig::default()
    }
}

/// The bytes a read brings, whether from memory or from the disk; `None` at the end.
fn read_once(world: &mut World, log: LogId, from: Offset) -> Option<Vec<u8>> {
    let mut requests = Vec::new();
    match world.store.read_batches(log, from, 5, &mut requests) {
        Lookup::Empty => None,
        Lookup::Ready(slice) => Some(slice.bytes().to_vec()),
        Lookup::Busy => panic!("nothing else is read"),
        Lookup::Pending => {
            world.pending.extend(requests);
            world.events.clear();
            world.settle();
            let read = world.events.iter().find_map(|event| match event {
                StoreEvent::LookupRead { lookup: 5, result } => Some(result.clone()),
                _ => None,
            });
            let slice = read.expect("the read ended").expect("it succeeded");
            let bytes = slice.bytes().to_vec();
            world.events.clear();
            Some(bytes)
        }
    }
}

/// Base offsets of all batches from `from` on.
fn read_all(world: &mut World, log: LogId, mut from: Offset) -> Vec<i64> {
    let mut found = Vec::new();
    while let Some(bytes) = read_once(world, log, from) {
        assert!(bytes.len() <= READ_BYTES_MAX, "{} at once", bytes.len());
        let (mut rest, before) = (&bytes[..], from);
        while !rest.is_empty() {
            let header = BatchHeader::parse(rest).expect("whole batches");
            header
                .verify_crc(&rest[..header.total_bytes()])
                .expect("they are undamaged");
            rest = &rest[header.total_bytes()..];
            if header.next_offset() > from {
                found.push(header.base_offset);
                from = header.next_offset();
            }
        }
        assert!(from > before, "the read brought nothing new");
    }
    found
}

fn filled(batches: i64) -> (World, LogId) {
    let mut world = World::new(StoreConfig {
        tail_cache_bytes: 1 << 20,
        ..test_config()
    });
    let log = world.store.create(spec(0, 0, small_segments()), world.now);
    for at in 0..batches {
        world
            .append(log, &Batch::of(3, 900 + at as usize % 400))
            .expect("it fits");
        world.settle();
    }
    (world, log)
}

fn restarted(world: &mut World) -> LogId {
    let image = world.restart(test_config(), Keep::All);
    let found = world.recover(&image, spec(0, 0, small_segments()));
    found.expect("recovers").0
}

#[test]
fn a_log_is_read_back_whole_in_bounded_reads_before_and_after_a_restart() {
    let (mut world, log) = filled(400);
    let all: Vec<i64> = (0..400).map(|at| at * 3).collect();
    assert_eq!(read_all(&mut world, log, Offset::ZERO), all);
    let log = restarted(&mut world);
    assert_eq!(read_all(&mut world, log, Offset::ZERO), all);
    assert_eq!(read_all(&mut world, log, Offset(600)), all[200..]);
    // The batch that holds an offset is the first one.
    assert_eq!(read_all(&mut world, log, Offset(601)), all[200..]);
    assert_eq!(read_all(&mut world, log, Offset(1200)), [0i64; 0]);
}

#[test]
fn what_is_not_durable_is_not_read() {
    let (mut world, log) = filled(10);
    world.append(log, &Batch::of(3, 900)).expect("it fits");
    let all: Vec<i64> = (0..10).map(|at| at * 3).collect();
    assert_eq!(read_all(&mut world, log, Offset::ZERO), all);
}

#[test]
fn a_hole_is_passed_over() {
    let (mut world, _) = filled(400);
    // The marks know how far the log is durable.
    world.pass_ms(100);
    world.settle();
    let logs = world.disk.paths(&directory(0));
    let segments: Vec<String> = logs
        .into_iter()
        .filter(|path| path.ends_with(".log") && !path.contains("prepared"))
        .collect();
    world.disk.remove(&segments[1]).expect("removable");
    let log = restarted(&mut world);
    let holes = world.store.holes(log).to_vec();
    assert_eq!(holes.len(), 1, "{holes:?}");
    let left = |at: &i64| *at < holes[0].from || *at >= holes[0].to;
    let expected: Vec<i64> = (0..400).map(|at| at * 3).filter(left).collect();
    assert!(expected.len() < 400);
    assert_eq!(read_all(&mut world, log, Offset::ZERO), expected);
}
