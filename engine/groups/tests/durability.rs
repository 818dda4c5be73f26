//! What is committed is seen when it is durable, and the log of offsets never loses its front before
//! what is live in it stands behind.

mod harness;

use std::sync::Arc;

use harness::{GROUP, World, commit_request, config, identity};
use highwater_base::BatchHeader;
use highwater_groups::{
    CommitRequest, CommittedOffset, Coordinator, GroupAnswer, GroupRequest, Outbox,
};

/// What readers see now, of the partition they name and of all: nothing becomes durable meanwhile.
fn seen(world: &mut World) -> [Vec<i64>; 2] {
    [Some(vec![(Arc::from("topic"), vec![0])]), None].map(|topics| {
        let ticket = world.send(GroupRequest::FetchOffsets {
            group: GROUP.into(),
            member: String::new(),
            member_epoch: -1,
            topics,
            require_stable: true,
        });
        match world.answer(ticket) {
            GroupAnswer::FetchOffsets(offsets) => {
                let topics = offsets.topics.iter();
                let rows = topics.flat_map(|(_, rows)| rows);
                rows.map(|row| row.committed.offset).collect()
            }
            other => panic!("not offsets: {other:?}"),
        }
    })
}

#[test]
fn a_commit_under_way_is_seen_by_nobody() {
    let mut world = World::new(config());
    world.send(commit_request("", -1, 1));
    assert_eq!(seen(&mut world), [vec![-1], vec![]]);
    world.durable_one();
    world.send(commit_request("", -1, 2));
    assert_eq!(seen(&mut world), [vec![1], vec![1]]);
    world.durable_one();
    assert_eq!(seen(&mut world), [vec![2], vec![2]]);
}

/// Commits an offset of every partition, with so much metadata that they take several parts.
fn commit_all(world: &mut World, partitions: i32, offset: i64) {
    for partition in 0..partitions {
        let committed = CommittedOffset {
            partition,
            offset,
            leader_epoch: -1,
            metadata: "m".repeat(4096),
        };
        world.send(GroupRequest::Commit(CommitRequest {
            identity: identity("", -1),
            offsets: vec![(Arc::from("topic"), vec![committed])],
        }));
    }
}

/// Offsets that a start would find in the log as it is.
fn keys_in_log(world: &World) -> usize {
    let mut coordinator = Coordinator::new(config(), 1);
    coordinator.begin_loading(0);
    for batch in &world.log {
        let header = BatchHeader::parse(batch).expect("valid");
        coordinator.load_batch(0, &header, batch).expect("valid");
    }
    let mut out = Outbox::new();
    coordinator.finish_loading(world.now, 0, &|_| true, &mut out);
    coordinator.committed_offsets().count()
}

#[test]
fn the_log_is_cut_when_the_last_part_of_the_snapshot_is_durable_and_not_before() {
    const PARTITIONS: i32 = 400;
    let mut world = World::new(config());
    commit_all(&mut world, PARTITIONS, 0);
    world.flush();
    for offset in 1.. {
        commit_all(&mut world, PARTITIONS, offset);
        while !world.in_flight.is_empty() {
            let cuts = world.truncations;
            world.durable_one();
            if world.truncations > cuts {
                assert_eq!(keys_in_log(&world), PARTITIONS as usize);
            }
        }
        if world.truncations == 2 {
            return;
        }
        assert!(offset < 50, "the log is never cut");
    }
}
