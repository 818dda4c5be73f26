//! When files of segments get their names, and when they go.

mod support;

use highwater_base::Offset;
use highwater_base::disk::DiskOperation;
use highwater_base::prng::Prng;
use highwater_store::{LogConfig, LogId};
use support::disk::Keep;
use support::{Batch, World, spec, test_config};

fn world_with(config: LogConfig) -> (World, LogId) {
    let mut world = World::new(test_config());
    let log = world.store.create(spec(0, 0, config), world.now);
    (world, log)
}

#[test]
fn the_segment_that_is_written_to_is_not_removed() {
    let config = LogConfig {
        segment_bytes: 64 << 10,
        retention_bytes: 0,
        ..LogConfig::default()
    };
    let (mut world, log) = world_with(config.clone());
    for round in 1..=5 {
        world.append(log, &Batch::of(1, 900)).expect("room");
        world.settle();
        match round % 2 {
            0 => world.pass_ms(2_000),
            _ => {
                let end = world.store.high_watermark(log);
                world.store.delete_records(log, end).expect("in range");
            }
        }
        world.settle();
        assert_eq!(world.store.segments(log).count(), 1, "round {round}");
        let (start, end) = (world.store.log_start(log), world.store.log_end(log));
        assert_eq!(
            world.consume(log, start.0, 1 << 20).len() as i64,
            end.0 - start.0
        );
    }
    let image = world.restart(test_config(), Keep::Nothing);
    let (_, report) = world.recover(&image, spec(0, 0, config)).expect("recovers");
    assert_eq!((report.end, report.segments), (Offset(5), 1));
}

/// The base offset in the name of a segment.
fn base_of(path: &str) -> Offset {
    let name = path.rsplit('/').next().expect("a name");
    Offset(name[..20].parse().expect("a base offset"))
}

/// A file without a batch that bore a segment's name would be damage to whoever verifies the log.
#[test]
fn a_prepared_file_is_named_behind_its_first_durable_batch() {
    let (mut world, log) = world_with(LogConfig {
        segment_bytes: 48 << 10,
        ..LogConfig::default()
    });
    let mut prng = Prng::new(1);
    let mut renames = 0;
    for _ in 0..600 {
        let _ = world.append(log, &Batch::of(1, 900));
        world.end_turn();
        world.execute_some(&mut prng, 2);
        for request in &world.pending {
            if let DiskOperation::Rename { to, .. } = &request.operation {
                renames += 1;
                assert!(world.store.high_watermark(log) > base_of(to), "{to}");
            }
        }
    }
    assert!(renames > 5, "only {renames} renames");
}
