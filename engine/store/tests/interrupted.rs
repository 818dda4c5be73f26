//! Recovery that loses power in the middle: the next one finds what the first would have.

mod support;

use highwater_base::Offset;
use highwater_store::{LogConfig, LogId, RecoveryReport};
use support::disk::fate::Fate;
use support::disk::{Keep, TestDisk};
use support::{Batch, World, directory, spec, test_config};

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 16 << 10,
        ..LogConfig::default()
    }
}

/// The disk of a partition that is younger than the ledger's lag: several segments, no marks, and a
/// batch that was torn in the first.
fn torn_without_marks() -> TestDisk {
    let mut world = World::new(test_config());
    let log = world.store.create(spec(0, 0, config()), world.now);
    for _ in 0..60 {
        world.append(log, &Batch::of(1, 900)).expect("room");
        world.settle();
    }
    world.disk.crash(Keep::All);
    let files = world.disk.paths(&directory(0));
    let mut segments = files.iter().filter(|path| path.ends_with(".log"));
    let first = segments.next().expect("there are some").clone();
    assert!(segments.count() > 3, "{files:?}");
    world.disk.damage(&first, |bytes| bytes[8000] ^= 1);
    world.disk
}

fn recover(disk: TestDisk) -> (World, Option<(LogId, RecoveryReport)>) {
    let mut world = World::new(test_config());
    world.disk = disk;
    let Ok(image) = world.try_start(test_config()) else {
        return (world, None);
    };
    let recovered = world.recover(&image, spec(0, 0, config())).ok();
    (world, recovered)
}

#[test]
fn segments_behind_a_torn_tail_go_from_the_back() {
    let disk = torn_without_marks();
    let (whole, report) = recover(disk.clone());
    let (_, report) = report.expect("recovers");
    assert!(report.torn && report.holes.is_empty(), "{report:?}");
    assert!(report.end > Offset(0) && report.segments == 1, "{report:?}");
    let steps = whole.disk.steps;
    assert!(steps > 10, "only {steps} steps");
    for step in 0..steps {
        for fate in [Fate::Lost, Fate::Front(3), Fate::Kept] {
            let mut disk = disk.clone();
            disk.crash_at = Some((step, fate.clone()));
            let (mut world, died) = recover(disk);
            assert_eq!(died, None, "step {step}");
            world.disk.crash_at = None;
            world.disk.crash(Keep::Nothing);
            let (mut world, again) = recover(world.disk);
            let (log, again) = again.expect("recovers");
            let found = (again.end, again.holes, again.segments);
            let expected = (report.end, vec![], 1);
            assert_eq!(found, expected, "step {step} {fate:?}");
            world.append(log, &Batch::of(1, 900)).expect("it goes on");
            world.settle();
        }
    }
}
