//! Old copies that somebody put back: of the marks, the checkpoint, the superblock and the segments,
//! each alone and together, after a clean stop and after a kill. Nothing that was acknowledged may be
//! lost without a word, and no offset given out twice.

mod support;

use std::collections::BTreeMap;

use highwater_base::disk::BootDisk;
use highwater_base::{CoreId, DiskId, NodeId, Offset};
use highwater_store::{
    LedgerImage, LogConfig, LogId, MarksLedger, RecoveryReport, Store, Superblock,
    forget_former_process,
};
use support::disk::Keep;
use support::{Batch, CLUSTER, World, directory, spec, test_config};

/// Records of the first run, and of each later one.
const RECORDS: i64 = 6;

fn small_segments() -> LogConfig {
    LogConfig {
        segment_bytes: 64 << 10,
        ..LogConfig::default()
    }
}

/// A node of one core, started and stopped as the broker does it.
struct Node {
    world: World,
    log: LogId,
    report: RecoveryReport,
    image: LedgerImage,
}

impl Node {
    fn format() -> Node {
        let mut world = World::new(test_config());
        world.disk.remove("marks").expect("removable");
        let (node, disk) = (NodeId(1), DiskId([5; 16]));
        Superblock::format(&mut world.disk, CLUSTER, node, disk).expect("formatted");
        Node::start(world)
    }

    fn start(mut world: World) -> Node {
        world.pending.clear();
        world.events.clear();
        world.disk.crash(Keep::All);
        let mut superblock = Superblock::open(&world.disk).expect("readable");
        let read = LedgerImage::read_of(&world.disk, superblock.runs());
        let mut image = read.expect("readable");
        let run = superblock.mark_running(&mut world.disk, image.newest_run());
        let run = run.expect("written");
        image.begin_run(run);
        let ledger = MarksLedger::create(&mut world.disk, CoreId(0), &image, |_| true);
        world.store = Store::new(test_config(), CLUSTER, ledger.expect("written"));
        let recovered = world.recover(&image, spec(0, 0, small_segments()));
        let (log, report) = recovered.expect("recovers");
        superblock
            .mark_serving(&mut world.disk, run, 1)
            .expect("written");
        forget_former_process(&mut world.disk, 1).expect("removed");
        Node {
            world,
            log,
            report,
            image,
        }
    }

    fn append(&mut self, records: i64) {
        for _ in 0..records {
            self.world
                .append(self.log, &Batch::of(1, 900))
                .expect("it fits");
            self.world.settle();
        }
        for _ in 0..3 {
            self.world.pass_ms(11);
            self.world.settle();
        }
    }

    fn stop(mut self) -> World {
        self.world.shutdown();
        let mut superblock = Superblock::open(&self.world.disk).expect("readable");
        superblock
            .mark_clean(&mut self.world.disk)
            .expect("written");
        self.world
    }
}

type Files = BTreeMap<String, Vec<u8>>;

/// The files of these kinds as they were.
fn put_back(world: &mut World, old: &Files, kinds: &[&str]) {
    for kind in kinds {
        if *kind != "superblock" {
            world.disk.remove(kind).expect("removable");
        }
    }
    for (path, bytes) in old {
        if kinds.iter().any(|kind| path.starts_with(kind)) {
            world.disk.write_whole(path, bytes).expect("written");
        }
    }
}

/// A node that was stopped with [`RECORDS`] records and ran again with as many more; what its
/// directory was at the first stop.
fn lived(cleanly: bool) -> (World, Files) {
    let mut first = Node::format();
    first.append(RECORDS);
    let world = first.stop();
    let old = world.disk.image();
    let mut second = Node::start(world);
    assert!(second.report.from_checkpoint && second.report.vouch);
    second.append(RECORDS);
    let world = match cleanly {
        true => second.stop(),
        false => second.world,
    };
    (world, old)
}

#[test]
fn old_copies_lose_nothing_and_give_no_offset_out_again() {
    let kinds = ["marks", "checkpoint", "superblock"];
    for set in 1..8 {
        for cleanly in [true, false] {
            let chosen = (0..3).filter(|at| set & 1 << at != 0);
            let chosen: Vec<&str> = chosen.map(|at| kinds[at]).collect();
            let (mut world, old) = lived(cleanly);
            put_back(&mut world, &old, &chosen);
            let mut node = Node::start(world);
            let what = format!("{chosen:?} put back, clean {cleanly}: {:?}", node.report);
            assert_eq!(node.report.end, Offset(2 * RECORDS), "{what}");
            assert_eq!(node.report.holes, [], "{what}");
            let served = node.world.consume(node.log, 0, 1 << 20);
            assert_eq!(served.len() as i64, 2 * RECORDS, "{what}");
            let appended = node.world.append(node.log, &Batch::of(1, 900));
            let base = appended.map(|appended| appended.base_offset);
            assert_eq!(base, Ok(Offset(2 * RECORDS)), "{what}");
            let is_old = chosen.contains(&"marks");
            assert!(!is_old || !node.report.vouch, "{what}");
            node.append(1);
            let again = Node::start(node.stop());
            assert_eq!(again.report.end, Offset(2 * RECORDS + 2), "{what}");
            assert_eq!(
                again.report.vouch, !is_old,
                "{what}: until the log begins behind it"
            );
            assert!(again.report.from_checkpoint, "{what}");
        }
    }
}

#[test]
fn an_old_segment_is_a_hole_up_to_what_was_acknowledged() {
    for cleanly in [true, false] {
        let (mut world, old) = lived(cleanly);
        let path = format!("{}/{:020}-0.log", directory(0), 0);
        world.disk.write_whole(&path, &old[&path]).expect("written");
        let node = Node::start(world);
        assert_eq!(node.report.end, Offset(2 * RECORDS));
        assert_eq!(node.report.holes.len(), 1, "{:?}", node.report);
        assert_eq!(node.report.holes[0].from, RECORDS);
    }
}

#[test]
fn what_was_kept_for_lack_of_marks_is_kept_by_the_next_start_too() {
    for kinds in [
        &["marks"][..],
        &["marks", "checkpoint"],
        &["superblock", "marks", "checkpoint"],
    ] {
        let mut first = Node::format();
        first.append(RECORDS);
        let world = first.stop();
        let old = world.disk.image();
        let mut second = Node::start(world);
        second.append(200);
        let mut world = second.stop();
        let end = Offset(RECORDS + 200);
        let paths = world.disk.paths(&directory(0)).into_iter();
        let segments: Vec<_> = paths.filter(|path| path.ends_with(".log")).collect();
        assert!(segments.len() > 2, "later segments stay");
        put_back(&mut world, &old, kinds);
        world
            .disk
            .write_whole(&segments[0], &old[&segments[0]])
            .expect("written");
        for start in 0..3 {
            let node = Node::start(world);
            assert_eq!(
                node.report.end, end,
                "{kinds:?}, start {start}: {:?}",
                node.report
            );
            assert_eq!(
                node.report.holes.len(),
                1,
                "{kinds:?}, start {start}: {:?}",
                node.report
            );
            let left = segments
                .iter()
                .all(|path| node.world.disk.paths(path).len() == 1);
            assert!(left, "{kinds:?}, start {start}: a segment is gone");
            world = node.world;
            for _ in 0..3 {
                world.pass_ms(11);
                world.settle();
            }
        }
    }
}

#[test]
fn a_node_that_served_and_lost_its_marks_is_not_vouched_for_even_without_topics() {
    for gone in [
        &["marks"][..],
        &["marks", "topics"],
        &["marks", "topics", "checkpoint"],
    ] {
        let (mut world, _) = lived(true);
        for path in gone {
            world.disk.remove(path).expect("removable");
        }
        let node = Node::start(world);
        assert!(!node.image.is_readable() && !node.report.vouch, "{gone:?}");
        assert_eq!(node.image.missing(), [CoreId(0)]);
        let mut node = node;
        node.append(0);
        let again = Node::start(node.stop());
        assert!(again.image.is_readable() && !again.report.vouch, "{gone:?}");
    }
}

#[test]
fn a_log_whose_marks_were_lost_is_not_vouched_for_until_it_begins_behind_that() {
    let (mut world, _) = lived(true);
    world.disk.remove("marks").expect("removable");
    for start in 0..3 {
        let mut node = Node::start(world);
        assert!(!node.report.vouch, "start {start}");
        node.append(1);
        world = node.stop();
    }
    let mut node = Node::start(world);
    let end = node.report.end;
    node.world
        .store
        .delete_records(node.log, end)
        .expect("within the log");
    node.append(1);
    let node = Node::start(node.stop());
    assert!(node.report.vouch, "{:?}", node.report);
}

#[test]
fn ledgers_cut_to_their_snapshot_are_not_believed() {
    let (mut world, _) = lived(false);
    for path in world.disk.paths("marks/") {
        world.disk.damage(&path, |bytes| bytes.truncate(4096));
    }
    let node = Node::start(world);
    assert!(!node.image.is_readable() && !node.report.vouch);
    assert_eq!(node.report.end, Offset(2 * RECORDS));
}

#[test]
fn damage_behind_lost_marks_of_a_clean_stop_is_no_torn_tail() {
    let (mut world, _) = lived(true);
    world.disk.remove("marks").expect("removable");
    let path = format!("{}/{:020}-0.log", directory(0), 0);
    world.disk.damage(&path, |bytes| {
        let last = bytes.iter().rposition(|byte| *byte != 0);
        bytes[last.expect("it holds batches") - 10] ^= 1;
    });
    let before = world.disk.image()[&path].clone();
    let node = Node::start(world);
    assert_eq!(node.report.holes.len(), 1, "{:?}", node.report);
    assert_eq!(node.report.end, Offset(2 * RECORDS), "{:?}", node.report);
    assert!(
        node.world.disk.image()[&path] == before,
        "bytes were changed"
    );
}

#[test]
fn a_start_that_was_interrupted_before_it_served_is_no_old_copy() {
    let (mut world, _) = lived(false);
    // Its ledger is durable, and it did not come to serve.
    let mut superblock = Superblock::open(&world.disk).expect("readable");
    let mut image = LedgerImage::read_of(&world.disk, superblock.runs()).expect("readable");
    let run = superblock.mark_running(&mut world.disk, image.newest_run());
    image.begin_run(run.expect("written"));
    MarksLedger::create(&mut world.disk, CoreId(0), &image, |_| true).expect("written");
    let node = Node::start(world);
    assert!(node.image.is_readable() && node.report.vouch);
    assert_eq!(node.report.end, Offset(2 * RECORDS));
    // And once more before even that.
    let mut world = node.world;
    let mut superblock = Superblock::open(&world.disk).expect("readable");
    superblock
        .mark_running(&mut world.disk, 0)
        .expect("written");
    let node = Node::start(world);
    assert!(node.image.is_readable() && node.report.vouch);
}
