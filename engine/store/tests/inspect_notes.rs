//! What a kill or a crash leaves is noted, not called damage; and a checkpoint that lies is damage.

mod support;

use highwater_base::disk::BootDisk;
use highwater_base::{ClusterId, DiskId, NodeId, Offset};
use highwater_store::inspect::FindingKind;
use highwater_store::{LogConfig, LogId, Superblock};
use support::disk::Keep;
use support::verification::{
    BATCH, BATCHES, BLOCK, base_of, files, planted, small_segments, stopped, verify, world, written,
};
use support::{Batch, World, directory, spec, test_config};

const END: i64 = 2 * BATCHES as i64;

/// A log whose marks are up to date, and one more batch of two records behind them.
fn with_one_more() -> (World, u64) {
    let mut world = written();
    world.pass_ms(10_000);
    world.settle();
    let last = files(&world, "-0.log").pop().expect("a segment");
    let bytes = world.disk.image()[&last].clone();
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("written") + 1;
    let more = Batch::of(2, 1000).by_producer(9, 0, END as i32);
    world.append(LogId(0), &more).expect("room");
    world.settle();
    world.disk.crash(Keep::All);
    (world, used as u64)
}

#[test]
fn whole_batches_behind_the_mark_are_unconfirmed_and_a_torn_one_is_the_tail() {
    let (mut world, position) = with_one_more();
    let (found, verdicts) = verify(&world.disk);
    assert_eq!(
        found.of(FindingKind::UnconfirmedTail).offset,
        Some(Offset(END))
    );
    assert_eq!(found.damages().len(), 0, "{:#?}", found.findings);
    assert_eq!(verdicts[0].end, Offset(END + 2));

    let last = files(&world, "-0.log").pop().expect("a segment");
    let found = planted(&last, &mut world, |bytes| {
        bytes[position as usize + 200] ^= 1
    });
    let torn = found.of(FindingKind::TornTail);
    assert_eq!(torn.file, last);
    assert_eq!(
        (torn.position, torn.offset),
        (Some(position), Some(Offset(END)))
    );
    assert!(torn.detail.contains("CRC"), "{torn:?}");
    assert_eq!(found.damages().len(), 0, "{:#?}", found.findings);

    // The batch before it was confirmed: the same damage there is damage.
    let found = planted(&last, &mut world, |bytes| {
        bytes[position as usize + 200] ^= 1;
        bytes[position as usize - BATCH + 200] ^= 1;
    });
    let damage = found.of(FindingKind::BatchCrc);
    assert_eq!(damage.position, Some(position - BATCH as u64));
    assert_eq!(damage.offset, Some(Offset(END - 2)));
}

#[test]
fn segments_behind_a_torn_tail_are_told_with_it() {
    let mut world = world();
    let log = world.store.create(spec(0, 0, small_segments()), world.now);
    world.append(log, &Batch::of(2, 1000)).expect("room");
    world.settle();
    world.pass_ms(10_000);
    world.settle();
    for _ in 0..100 {
        world.append(log, &Batch::of(2, 1000)).expect("room");
        world.settle();
    }
    world.disk.crash(Keep::All);
    let segments = files(&world, "-0.log");
    let found = planted(&segments[0], &mut world, |bytes| {
        bytes[BLOCK + 2 * BATCH + 80] ^= 1
    });
    assert_eq!(found.of(FindingKind::TornTail).offset, Some(Offset(4)));
    assert_eq!(found.of(FindingKind::TornSegment).file, segments[1]);
    assert_eq!(found.damages().len(), 0, "{:#?}", found.findings);
}

#[test]
fn a_header_torn_with_its_first_batch_is_noted() {
    let mut world = written();
    world.pass_ms(10_000);
    world.settle();
    let before = files(&world, "-0.log").len();
    let mut sequence = END as i32;
    while files(&world, "-0.log").len() == before {
        let batch = Batch::of(2, 1000).by_producer(9, 0, sequence);
        world.append(LogId(0), &batch).expect("room");
        world.settle();
        sequence += 2;
    }
    world.disk.crash(Keep::All);
    let last = files(&world, "-0.log").pop().expect("a segment");
    let found = planted(&last, &mut world, |bytes| bytes[..BLOCK].fill(0));
    let torn = found.of(FindingKind::TornHeader);
    assert_eq!(
        (torn.file.as_str(), torn.position),
        (last.as_str(), Some(0))
    );
    assert_eq!(found.damages().len(), 0, "{:#?}", found.findings);
}

#[test]
fn files_on_their_way_between_two_names_are_noted() {
    let mut world = written();
    world.pass_ms(10_000);
    world.settle();
    world.disk.crash(Keep::All);
    let prepared = format!("{}/prepared-90.log", directory(0));
    world.disk.create_zeroed(&prepared, 65536).expect("created");
    let unnamed = format!("{}/prepared-91.log", directory(0));
    let last = files(&world, "-0.log").pop().expect("a segment");
    world.disk.rename(&last, &unnamed).expect("renamed");
    let (found, verdicts) = verify(&world.disk);
    let of = |kind| {
        let findings = found.findings.iter().filter(move |it| it.kind == kind);
        findings.map(|it| it.file.clone()).collect::<Vec<_>>()
    };
    assert!(of(FindingKind::PreparedSegment).contains(&prepared));
    assert_eq!(of(FindingKind::UnnamedSegment), [unnamed]);
    assert_eq!(found.damages().len(), 0, "{:#?}", found.findings);
    assert_eq!(verdicts[0].end, Offset(END));
}

#[test]
fn segments_that_retention_was_about_to_remove_are_noted() {
    let mut world = written();
    let segments = files(&world, "-0.log");
    let start = base_of(&segments[1]) + 2;
    let before = world.disk.image();
    world
        .store
        .delete_records(LogId(0), Offset(start))
        .expect("in range");
    world.settle();
    world.pass_ms(10_000);
    world.settle();
    assert!(!files(&world, "-0.log").contains(&segments[0]), "removed");
    world.shutdown();
    world
        .disk
        .write_whole(&segments[0], &before[&segments[0]])
        .expect("written");
    let (found, verdicts) = verify(&world.disk);
    let below = found.of(FindingKind::SegmentBelowStart);
    assert_eq!(below.file, segments[0]);
    assert_eq!(found.damages().len(), 0, "{:#?}", found.findings);
    assert_eq!(
        (verdicts[0].log_start, verdicts[0].end),
        (Offset(start), Offset(END))
    );
}

#[test]
fn a_log_without_marks_is_noted() {
    let world = written();
    let (found, verdicts) = verify(&world.disk);
    assert_eq!(found.of(FindingKind::NoMarks).file, directory(0));
    assert_eq!(found.damages().len(), 0, "{:#?}", found.findings);
    assert_eq!((verdicts[0].end, verdicts[0].durable), (Offset(END), None));
}

#[test]
fn an_index_of_the_beginning_of_a_segment_is_stale() {
    let mut world = stopped();
    let last = files(&world, ".index").pop().expect("an index");
    let old = world.disk.image()[&last].clone();
    let image = world.restart(test_config(), Keep::All);
    let (log, _) = world
        .recover(&image, spec(0, 0, small_segments()))
        .expect("recovers");
    for at in 0..100 {
        let batch = Batch::of(2, 1000).by_producer(9, 0, (END + 2 * at) as i32);
        world.append(log, &batch).expect("room");
        world.settle();
    }
    world.shutdown();
    assert_eq!(verify(&world.disk).0.kinds(), Vec::<&str>::new());
    let found = planted(&last, &mut world, |bytes| *bytes = old);
    assert_eq!(found.kinds(), ["index-stale"]);
    assert_eq!(found.findings[0].file, last);
}

#[test]
fn the_superblock_of_a_killed_node_and_an_interrupted_update_are_noted() {
    let mut world = stopped();
    let before = world.disk.image()["superblock"].clone();
    let mut superblock = Superblock::open(&world.disk).expect("opens");
    superblock
        .mark_running(&mut world.disk, 0)
        .expect("written");
    let (found, _) = verify(&world.disk);
    assert_eq!(found.kinds(), ["unclean-stop"]);
    assert_eq!(found.findings[0].file, "superblock");

    let found = planted("superblock", &mut world, |bytes| {
        bytes[2 * BLOCK..].copy_from_slice(&before[2 * BLOCK..]);
    });
    assert_eq!(found.kinds(), ["superblock-update", "unclean-stop"]);
    assert_eq!(
        found.of(FindingKind::SuperblockUpdate).position,
        Some(2 * BLOCK as u64)
    );
}

#[test]
fn a_checkpoint_of_other_segments_is_damage() {
    let mut other = World::new(test_config());
    let (cluster, node) = (ClusterId([1; 16]), NodeId(1));
    Superblock::format(&mut other.disk, cluster, node, DiskId([5; 16])).expect("formatted");
    let config = LogConfig {
        segment_bytes: 128 << 10,
        ..LogConfig::default()
    };
    let log = other.store.create(spec(0, 0, config), other.now);
    for at in 0..BATCHES {
        let batch = Batch::of(2, 1000).by_producer(9, 0, at as i32 * 2);
        other.append(log, &batch).expect("room");
        other.settle();
    }
    other.shutdown();
    let lying = other.disk.image()["checkpoint/core-0"].clone();
    let mut world = stopped();
    let found = planted("checkpoint/core-0", &mut world, |bytes| *bytes = lying);
    assert_eq!(found.kinds(), ["checkpoint-mismatch"]);
    assert_eq!(found.findings[0].file, "checkpoint/core-0");
}
