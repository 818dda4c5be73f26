//! A damaged log of offsets through the whole node: what clients are told, how an operator ends it,
//! and what crashes leave of that.

use highwater_base::ErrorCode;
use highwater_groups::{OFFSETS_TOPIC, offsets_partition};
use highwater_reactor::ConnectionId;
use highwater_wire::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};
use highwater_wire::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
};
use highwater_wire::{ApiKey, Array};

use super::tests::{FETCH, OFFSETS_PARTITIONS, commit, group_on, node};
use crate::config::TopicConfig;
use crate::metadata::{Image, MetadataRecord};
use crate::testing::TestNode;

const DELETE_RECORDS: i16 = 1;
const HEADER_BLOCK_BYTES: usize = 4096;

/// Code and offset of partition 0 of `orders`, as a consumer of the group is told.
fn told(node: &mut TestNode, client: ConnectionId, group: &str) -> (ErrorCode, i64) {
    let topics = [OffsetFetchRequestTopics {
        name: "orders",
        partition_indexes: Array::from(&[0]),
        ..Default::default()
    }];
    let groups = [OffsetFetchRequestGroup {
        group_id: group,
        topics: Some(Array::from(&topics)),
        ..Default::default()
    }];
    let request = OffsetFetchRequest {
        groups: Array::from(&groups),
        ..Default::default()
    };
    let mut body = Vec::new();
    request.encode(FETCH, &mut body).expect("encodes");
    node.request(0, client, ApiKey::OffsetFetch, FETCH, &body);
    node.settle();
    let answers = node.answers(0, client, ApiKey::OffsetFetch, FETCH);
    let response = OffsetFetchResponse::parse(FETCH, &answers[0]).expect("decodes");
    let group = response.groups.iter().next().expect("one group");
    let code = |code| match code {
        0 => ErrorCode::None,
        88 => ErrorCode::UnstableOffsetCommit,
        other => panic!("code {other}"),
    };
    assert_eq!(group.error_code, 0);
    let topic = group.topics.iter().next().expect("one topic");
    let row = topic.partitions.iter().next().expect("one partition");
    (code(row.error_code), row.committed_offset)
}

const UNCERTAIN: (ErrorCode, i64) = (ErrorCode::UnstableOffsetCommit, -1);

/// Asks for the decision about a partition; nothing is on disk by that.
fn ask_to_accept(node: &mut TestNode, client: ConnectionId, partition: u32) {
    let partitions = [DeleteRecordsPartition {
        partition_index: partition as i32,
        offset: -1,
        ..Default::default()
    }];
    let topics = [DeleteRecordsTopic {
        name: OFFSETS_TOPIC,
        partitions: Array::from(&partitions),
        ..Default::default()
    }];
    let request = DeleteRecordsRequest {
        topics: Array::from(&topics),
        ..Default::default()
    };
    let mut body = Vec::new();
    request.encode(DELETE_RECORDS, &mut body).expect("encodes");
    node.request(0, client, ApiKey::DeleteRecords, DELETE_RECORDS, &body);
    node.settle();
}

/// Code and log start of the answer, if there is one.
fn accepted(node: &mut TestNode, client: ConnectionId) -> Option<(i16, i64)> {
    let answers = node.answers(0, client, ApiKey::DeleteRecords, DELETE_RECORDS);
    let answer = answers.first()?;
    let response = DeleteRecordsResponse::parse(DELETE_RECORDS, answer).expect("decodes");
    let topic = response.topics.iter().next().expect("one topic");
    let row = topic.partitions.iter().next().expect("one partition");
    Some((row.error_code, row.low_watermark))
}

/// Another group with the same partition of offsets.
fn sibling_of(group: &str) -> String {
    let partition = |name: &str| offsets_partition(name, OFFSETS_PARTITIONS);
    let names = (0..).map(|at| format!("sibling-{at}"));
    let mut of_same = names.filter(|name| partition(name) == partition(group));
    of_same.next().expect("hashes go round")
}

/// What is on disk of a partition of offsets.
fn directory_of(node: &TestNode, partition: u32) -> String {
    let entry = node.cores[0].shard.table.by_name(OFFSETS_TOPIC);
    let id = entry.expect("it exists").id;
    format!("topics/{OFFSETS_TOPIC}/{id}/{partition}")
}

/// Three commits of a group on a core, 5 and 6 and, of another group, 7; then the power fails, and
/// the batch with this number is damaged.
fn damaged(core: u32, batch: usize) -> (TestNode, ConnectionId, String, String) {
    let (mut node, client) = node();
    let group = group_on(core);
    let other = sibling_of(&group);
    for (name, offset) in [(&group, 5), (&group, 6), (&other, 7)] {
        assert_eq!(
            commit(&mut node, client, name, "orders", &[(0, offset)]),
            [0]
        );
    }
    // The marks ledger says so too.
    node.pass_ms(60_000);
    let partition = offsets_partition(&group, OFFSETS_PARTITIONS);
    let path = format!("{}/{:020}-0.log", directory_of(&node, partition), 0);
    node.damage(core as usize, &path, |bytes| {
        let mut at = HEADER_BLOCK_BYTES;
        for _ in 0..batch {
            let length = bytes[at + 8..at + 12].try_into().expect("four bytes");
            at += 12 + u32::from_be_bytes(length) as usize;
        }
        bytes[at + 70] ^= 1;
    });
    node.restart();
    let client = node.connect(0);
    (node, client, group, other)
}

#[test]
fn a_hole_in_the_log_of_offsets_is_an_error_until_an_operator_decides() {
    for core in [0, 1] {
        let (mut node, client, group, other) = damaged(core, 1);
        assert_eq!(told(&mut node, client, &group), UNCERTAIN);
        // Its commit lies behind the damage.
        assert_eq!(told(&mut node, client, &other), (ErrorCode::None, 7));
        let stranger = format!("{group}-{other}");
        let partition = offsets_partition(&group, OFFSETS_PARTITIONS);
        let healthy = offsets_partition(&stranger, OFFSETS_PARTITIONS) != partition;
        let expected = match healthy {
            true => (ErrorCode::None, -1),
            false => UNCERTAIN,
        };
        assert_eq!(told(&mut node, client, &stranger), expected);
        ask_to_accept(&mut node, client, partition);
        let (code, start) = accepted(&mut node, client).expect("it is done");
        assert_eq!(code, 0);
        assert!(start >= 3, "the log starts behind the damage, at {start}");
        assert_eq!(told(&mut node, client, &group), (ErrorCode::None, 5));
        assert_eq!(told(&mut node, client, &other), (ErrorCode::None, 7));
        node.restart();
        let client = node.connect(0);
        assert_eq!(told(&mut node, client, &group), (ErrorCode::None, 5));
        assert_eq!(told(&mut node, client, &other), (ErrorCode::None, 7));
        ask_to_accept(&mut node, client, partition);
        let refused = ErrorCode::PolicyViolation.code();
        assert_eq!(accepted(&mut node, client), Some((refused, -1)));
    }
}

#[test]
fn groups_go_on_behind_the_damage() {
    for core in [0, 1] {
        let (mut node, client, group, _) = damaged(core, 1);
        assert_eq!(commit(&mut node, client, &group, "orders", &[(0, 9)]), [0]);
        assert_eq!(told(&mut node, client, &group), (ErrorCode::None, 9));
        node.restart();
        let client = node.connect(0);
        assert_eq!(told(&mut node, client, &group), (ErrorCode::None, 9));
    }
}

#[test]
fn damage_at_the_end_and_a_lost_directory_hide_every_offset() {
    for core in [0, 1] {
        let (mut node, client, group, other) = damaged(core, 2);
        assert_eq!(told(&mut node, client, &group), UNCERTAIN);
        assert_eq!(told(&mut node, client, &other), UNCERTAIN);
        let partition = offsets_partition(&group, OFFSETS_PARTITIONS);
        let directory = directory_of(&node, partition);
        node.remove(core as usize, &directory);
        node.restart();
        let client = node.connect(0);
        assert_eq!(told(&mut node, client, &group), UNCERTAIN);
        assert_eq!(told(&mut node, client, "anyone"), {
            match offsets_partition("anyone", OFFSETS_PARTITIONS) == partition {
                true => UNCERTAIN,
                false => (ErrorCode::None, -1),
            }
        });
        ask_to_accept(&mut node, client, partition);
        assert_eq!(accepted(&mut node, client).map(|row| row.0), Some(0));
        assert_eq!(told(&mut node, client, &group), (ErrorCode::None, -1));
        assert_eq!(commit(&mut node, client, &group, "orders", &[(0, 8)]), [0]);
        node.restart();
        let client = node.connect(0);
        assert_eq!(told(&mut node, client, &group), (ErrorCode::None, 8));
    }
}

/// The power fails after each write that the decision takes.
#[test]
fn no_crash_during_the_decision_loses_what_is_known() {
    for core in [0, 1] {
        for writes in 0.. {
            let (mut node, client, group, other) = damaged(core, 1);
            let partition = offsets_partition(&group, OFFSETS_PARTITIONS);
            node.hold_disk(core as usize);
            ask_to_accept(&mut node, client, partition);
            let mut done = 0;
            while done < writes && node.release_one(core as usize) {
                done += 1;
            }
            let answer = accepted(&mut node, client);
            node.restart();
            let client = node.connect(0);
            let found = told(&mut node, client, &group);
            let known = (ErrorCode::None, 5);
            assert!(found == UNCERTAIN || found == known, "{found:?}");
            assert_eq!(told(&mut node, client, &other), (ErrorCode::None, 7));
            if answer.is_some() {
                assert_eq!(found, known, "it was said to be done");
            }
            if done < writes {
                assert!(writes > 2, "{writes} writes");
                break;
            }
        }
    }
}

#[test]
fn other_deletions_of_the_log_of_offsets_are_refused() {
    let (mut node, client) = node();
    let refused = ErrorCode::PolicyViolation.code();
    for partition in 0..OFFSETS_PARTITIONS {
        ask_to_accept(&mut node, client, partition);
        assert_eq!(accepted(&mut node, client), Some((refused, -1)));
    }
}

/// What is committed for a topic goes with a deletion that was read, not with the metadata's not
/// knowing it: it may be put back.
#[test]
fn offsets_of_a_topic_that_is_only_not_known_are_kept() {
    for core in [0, 1] {
        let (mut node, client) = node();
        let group = group_on(core);
        assert_eq!(commit(&mut node, client, &group, "orders", &[(0, 5)]), [0]);
        let whole = node.cores[0].shard.image.clone();
        let records = whole.snapshot();
        for core in &mut node.cores {
            let mut image = Image::new(1, TopicConfig::default());
            for record in &records {
                let lost = matches!(record, MetadataRecord::Topic { name, .. } if name == "orders");
                if !lost {
                    image.apply(record);
                }
            }
            core.shard.image = image;
        }
        node.restart();
        for core in &mut node.cores {
            core.shard.image = whole.clone();
        }
        node.restart();
        let client = node.connect(0);
        assert_eq!(told(&mut node, client, &group), (ErrorCode::None, 5));
    }
}

#[test]
fn a_topic_of_a_former_name_begins_without_offsets() {
    for core in [0, 1] {
        let (mut node, client) = node();
        let group = group_on(core);
        assert_eq!(commit(&mut node, client, &group, "orders", &[(0, 5)]), [0]);
        let records = node.cores[0].shard.image.snapshot();
        for core in &mut node.cores {
            core.shard.image = Image::new(1, TopicConfig::default());
            for record in &records {
                if !matches!(record, MetadataRecord::Topic { name, .. } if name == "orders") {
                    core.shard.image.apply(record);
                }
            }
        }
        node.restart();
        let created = MetadataRecord::Topic {
            topic_id: [9; 16],
            name: "orders".to_owned(),
            partitions: 1,
            core_slot_base: 0,
            config: Vec::new(),
        };
        node.apply(&[created]);
        let client = node.connect(0);
        assert_eq!(told(&mut node, client, &group), (ErrorCode::None, -1));
    }
}
