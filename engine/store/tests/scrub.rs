//! The scrubber: what it finds without any reader, in what time, and where it goes on.

mod support;

use highwater_base::disk::DiskOperation;
use highwater_store::{Hole, LogConfig, LogId, ScrubConfig, ScrubProgress, StoreEvent};
use support::disk::Keep;
use support::{Batch, World, directory, spec, test_config};

const BATCHES: i64 = 150;
const BYTES_PER_BATCH: i64 = 1061;
const PARTITIONS: i32 = 3;

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 64 << 10,
        ..LogConfig::default()
    }
}

/// A node that stopped cleanly, with three partitions of three segments each.
fn stopped() -> World {
    let mut world = World::new(test_config());
    let logs: Vec<LogId> = (0..PARTITIONS)
        .map(|at| world.store.create(spec(at, 0, config()), world.now))
        .collect();
    for at in 0..BATCHES {
        for log in &logs {
            let mut batch = Batch::of(1, 1000);
            batch.seed = at as u64;
            world.append(*log, &batch).expect("room");
        }
        world.settle();
    }
    world.shutdown();
    world
}

/// Starts it with a scrubber of so many bytes a second.
fn start(world: &mut World, bytes_per_second: u64) -> Vec<LogId> {
    let image = world.restart(test_config(), Keep::All);
    let logs = (0..PARTITIONS).map(|at| {
        let recovered = world.recover(&image, spec(at, 0, config()));
        recovered.expect("recovers").0
    });
    let logs = logs.collect();
    world.store.resume_scrub(&world.disk);
    world.store.set_scrub(ScrubConfig {
        bytes_per_second,
        interval_ms: 0,
    });
    logs
}

fn segments(world: &World, partition: i32) -> Vec<String> {
    let paths = world.disk.paths(&directory(partition));
    paths
        .into_iter()
        .filter(|path| path.ends_with(".log"))
        .collect()
}

/// Lets so many tenths of a second pass, or fewer until a pass has ended.
fn scrub(world: &mut World, rounds: usize) -> ScrubProgress {
    for _ in 0..10 * rounds {
        world.pass_ms(10);
        for request in &world.pending {
            if let DiskOperation::Read { aside, .. } = request.operation {
                assert!(aside, "nobody waits for it");
            }
        }
        world.settle();
        let progress = world.store.scrub_progress();
        if progress.passes > 0 {
            return progress;
        }
    }
    world.store.scrub_progress()
}

#[test]
fn rot_is_found_in_every_segment_though_nobody_reads() {
    let mut world = stopped();
    for (partition, segment, place) in [(0, 0, 5000), (1, 1, 20_000), (2, 2, 4096 + 7)] {
        let path = segments(&world, partition)[segment].clone();
        world.disk.damage(&path, |bytes| bytes[place] ^= 1);
    }
    let logs = start(&mut world, 1 << 20);
    assert_eq!(scrub(&mut world, 20).bytes, 0, "nobody asked for it");
    world.store.request_scrub(world.now.wall_ms);
    let progress = scrub(&mut world, 2000);
    assert_eq!((progress.passes, progress.holes), (1, 3));
    for log in logs {
        let holes = world.store.holes(log).to_vec();
        let lost: i64 = holes.iter().map(|hole: &Hole| hole.to - hole.from).sum();
        assert_eq!((holes.len(), lost), (1, 1), "{holes:?}");
    }
    let told = |event: &&StoreEvent| matches!(event, StoreEvent::Damaged { .. });
    assert_eq!(world.events.iter().filter(told).count(), 3);
    let all = i64::from(PARTITIONS) * BATCHES * BYTES_PER_BATCH;
    assert!(progress.bytes as i64 >= all, "{progress:?} of {all}");
}

#[test]
fn it_keeps_its_pace() {
    let mut world = stopped();
    start(&mut world, 40_000);
    world.store.request_scrub(world.now.wall_ms);
    let progress = scrub(&mut world, 50);
    // Five seconds' worth, and what is read at once.
    assert!(
        (150_000..=220_000).contains(&progress.bytes),
        "{progress:?}"
    );
    assert!(progress.running && progress.logs_done < progress.logs);
}

#[test]
fn another_process_goes_on_where_it_stopped() {
    let mut world = stopped();
    start(&mut world, 100_000);
    world.store.request_scrub(world.now.wall_ms);
    let first = scrub(&mut world, 20);
    assert!(first.running && first.bytes > 150_000, "{first:?}");
    world.shutdown();
    start(&mut world, 100_000);
    let second = scrub(&mut world, 2000);
    assert_eq!(second.passes, 1);
    let all = (i64::from(PARTITIONS) * BATCHES * BYTES_PER_BATCH) as u64;
    let both = first.bytes + second.bytes;
    assert!(both >= all && both <= all + 20_000, "{both} of {all}");
    assert!(second.last_pass_began_ms > 0);
    // And it is not begun again.
    world.shutdown();
    start(&mut world, 100_000);
    assert_eq!(scrub(&mut world, 30).bytes, 0);
}

#[test]
fn a_pass_is_due_after_the_interval() {
    let mut world = stopped();
    start(&mut world, 10 << 20);
    world.store.set_scrub(ScrubConfig {
        bytes_per_second: 10 << 20,
        interval_ms: 3_600_000,
    });
    assert_eq!(scrub(&mut world, 2000).passes, 1, "none is known");
    let ended = world.store.scrub_progress();
    world.pass_ms(3_000_000);
    world.settle();
    assert!(!world.store.scrub_progress().running);
    world.pass_ms(700_000);
    world.settle();
    assert!(world.store.scrub_progress().bytes > ended.bytes);
}
