//! Groups over a node in memory: routing, durability, loading, connections that close.

use highwater_base::ErrorCode;
use highwater_groups::{OFFSETS_TOPIC, offsets_partition};
use highwater_reactor::ConnectionId;
use highwater_wire::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};
use highwater_wire::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use highwater_wire::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use highwater_wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use highwater_wire::list_groups::{ListGroupsRequest, ListGroupsResponse};
use highwater_wire::metadata::{MetadataRequest, MetadataResponse};
use highwater_wire::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse,
};
use highwater_wire::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
};
use highwater_wire::{ApiKey, Array};

use crate::answer_text::ANSWER_TEXT_BYTES_MAX;
use crate::metadata::MetadataRecord;
use crate::testing::TestNode;

pub(super) const OFFSETS_PARTITIONS: u32 = 4;
const COMMIT: i16 = 8;
pub(super) const FETCH: i16 = 8;
const JOIN: i16 = 3;

/// Two cores with a topic and the topic of offsets, and a client on the first core.
pub(super) fn node() -> (TestNode, ConnectionId) {
    let topics = [("orders", 2), (OFFSETS_TOPIC, OFFSETS_PARTITIONS)];
    let mut node = TestNode::new(2, &topics);
    let client = node.connect(0);
    (node, client)
}

/// A group whose coordinator is on this core.
pub(super) fn group_on(core: u32) -> String {
    let names = (0..).map(|at| format!("group-{at}"));
    let on = |name: &String| offsets_partition(name, OFFSETS_PARTITIONS) % 2 == core;
    names.into_iter().find(on).expect("hashes go round")
}

fn commit_body(group: &str, topic: &str, offsets: &[(i32, i64)]) -> Vec<u8> {
    let partitions: Vec<OffsetCommitRequestPartition<'_>> = offsets
        .iter()
        .map(
            |(partition_index, committed_offset)| OffsetCommitRequestPartition {
                partition_index: *partition_index,
                committed_offset: *committed_offset,
                committed_metadata: Some("note"),
                ..Default::default()
            },
        )
        .collect();
    let topics = [OffsetCommitRequestTopic {
        name: topic,
        partitions: Array::from(&partitions),
        ..Default::default()
    }];
    let request = OffsetCommitRequest {
        group_id: group,
        topics: Array::from(&topics),
        ..Default::default()
    };
    let mut body = Vec::new();
    request.encode(COMMIT, &mut body).expect("encodes");
    body
}

fn codes_of(body: &[u8]) -> Vec<i16> {
    let response = OffsetCommitResponse::parse(COMMIT, body).expect("decodes");
    let topics = response.topics.iter();
    topics
        .flat_map(|topic| topic.partitions.iter().map(|row| row.error_code))
        .collect()
}

/// Commits and returns the codes.
pub(super) fn commit(
    node: &mut TestNode,
    client: ConnectionId,
    group: &str,
    topic: &str,
    offsets: &[(i32, i64)],
) -> Vec<i16> {
    let body = commit_body(group, topic, offsets);
    node.request(0, client, ApiKey::OffsetCommit, COMMIT, &body);
    node.settle();
    let answers = node.answers(0, client, ApiKey::OffsetCommit, COMMIT);
    assert_eq!(answers.len(), 1);
    codes_of(&answers[0])
}

/// What is committed for partition 0 of `orders`, by group in the order of the answer.
fn committed(
    node: &mut TestNode,
    client: ConnectionId,
    groups: &[&str],
) -> Vec<(String, i16, i64)> {
    let topics = [OffsetFetchRequestTopics {
        name: "orders",
        partition_indexes: Array::from(&[0]),
        ..Default::default()
    }];
    let groups: Vec<OffsetFetchRequestGroup<'_>> = groups
        .iter()
        .map(|group_id| OffsetFetchRequestGroup {
            group_id,
            topics: Some(Array::from(&topics)),
            ..Default::default()
        })
        .collect();
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
    let rows = response.groups.iter().map(|group| {
        let topic = group.topics.iter().next();
        let row = topic.and_then(|topic| topic.partitions.iter().next());
        let offset = row.map_or(i64::MIN, |row| row.committed_offset);
        (group.group_id.to_string(), group.error_code, offset)
    });
    rows.collect()
}

fn join_body(group: &str) -> Vec<u8> {
    let protocols = [JoinGroupRequestProtocol {
        name: "range",
        metadata: b"orders",
    }];
    let request = JoinGroupRequest {
        group_id: group,
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer",
        protocols: Array::from(&protocols),
        ..Default::default()
    };
    let mut body = Vec::new();
    request.encode(JOIN, &mut body).expect("encodes");
    body
}

#[test]
fn groups_of_all_cores_are_asked_and_answered_in_one_request() {
    let (mut node, client) = node();
    let groups = [group_on(1), group_on(0), "nobody".to_string()];
    assert_eq!(
        commit(&mut node, client, &groups[0], "orders", &[(0, 11)]),
        [0]
    );
    assert_eq!(
        commit(&mut node, client, &groups[1], "orders", &[(0, 22)]),
        [0]
    );
    let [first, second, third] = &groups;
    let found = committed(&mut node, client, &[first, third, second]);
    let expected = [
        (first.clone(), 0, 11),
        (third.clone(), 0, -1),
        (second.clone(), 0, 22),
    ];
    assert_eq!(found, expected);

    let mut body = Vec::new();
    let request = ListGroupsRequest::default();
    request.encode(0, &mut body).expect("encodes");
    node.request(0, client, ApiKey::ListGroups, 0, &body);
    node.settle();
    let answers = node.answers(0, client, ApiKey::ListGroups, 0);
    let response = ListGroupsResponse::parse(0, &answers[0]).expect("decodes");
    let mut listed: Vec<&str> = response.groups.iter().map(|group| group.group_id).collect();
    listed.sort_unstable();
    let mut both = [first.as_str(), second.as_str()];
    both.sort_unstable();
    assert_eq!((response.error_code, &listed[..]), (0, &both[..]));
}

#[test]
fn what_does_not_exist_is_refused_and_the_rest_committed() {
    let (mut node, client) = node();
    let group = group_on(1);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    let offsets = [(7, 1), (0, 5), (-1, 1)];
    let codes = commit(&mut node, client, &group, "orders", &offsets);
    assert_eq!(codes, [unknown, 0, unknown]);
    let codes = commit(&mut node, client, &group, "nothing", &[(0, 1)]);
    assert_eq!(codes, [unknown]);
    assert_eq!(committed(&mut node, client, &[&group])[0].2, 5);
}

#[test]
fn a_commit_of_a_generation_of_no_group_is_refused_in_the_words_of_its_version() {
    let (mut node, client) = node();
    let codes = [
        (8, ErrorCode::IllegalGeneration),
        (9, ErrorCode::GroupIdNotFound),
    ];
    for (version, code) in codes {
        let partitions = [OffsetCommitRequestPartition::default()];
        let topics = [OffsetCommitRequestTopic {
            name: "orders",
            partitions: Array::from(&partitions),
            ..Default::default()
        }];
        let request = OffsetCommitRequest {
            group_id: "nobody",
            generation_id_or_member_epoch: 3,
            member_id: "somebody",
            topics: Array::from(&topics),
            ..Default::default()
        };
        let mut body = Vec::new();
        request.encode(version, &mut body).expect("encodes");
        node.request(0, client, ApiKey::OffsetCommit, version, &body);
        node.settle();
        let answers = node.answers(0, client, ApiKey::OffsetCommit, version);
        let response = OffsetCommitResponse::parse(version, &answers[0]).expect("decodes");
        let topics = response.topics.iter();
        let codes = topics.flat_map(|topic| topic.partitions.iter().map(|row| row.error_code));
        assert_eq!(
            codes.collect::<Vec<_>>(),
            [code.code()],
            "version {version}"
        );
    }
}

#[test]
fn a_commit_is_answered_and_seen_when_it_is_durable() {
    for core in [0, 1] {
        let (mut node, client) = node();
        let group = group_on(core);
        node.hold_disk(core as usize);
        let body = commit_body(&group, "orders", &[(0, 9)]);
        node.request(0, client, ApiKey::OffsetCommit, COMMIT, &body);
        node.settle();
        let answers = node.answers(0, client, ApiKey::OffsetCommit, COMMIT);
        assert!(answers.is_empty(), "nothing is on disk");
        node.release_disk(core as usize);
        let answers = node.answers(0, client, ApiKey::OffsetCommit, COMMIT);
        assert_eq!(codes_of(&answers[0]), [0]);
        assert_eq!(committed(&mut node, client, &[&group])[0].2, 9);
    }
}

#[test]
fn a_commit_that_finds_no_room_fails_and_the_next_one_succeeds() {
    for core in [0, 1] {
        let (mut node, client) = node();
        let group = group_on(core);
        node.set_disk_full(core as usize, true);
        let codes = commit(&mut node, client, &group, "orders", &[(0, 8)]);
        assert_ne!(codes, [0]);
        assert_eq!(committed(&mut node, client, &[&group])[0].2, -1);
        node.set_disk_full(core as usize, false);
        node.pass_ms(60_000);
        let codes = commit(&mut node, client, &group, "orders", &[(0, 9)]);
        assert_eq!(codes, [0]);
        assert_eq!(committed(&mut node, client, &[&group])[0].2, 9);
    }
}

#[test]
fn offsets_are_loaded_after_the_power_failed() {
    let (mut node, client) = node();
    let groups = [group_on(0), group_on(1)];
    for offset in 1..300 {
        for group in &groups {
            assert_eq!(
                commit(&mut node, client, group, "orders", &[(0, offset)]),
                [0]
            );
        }
    }
    node.restart();
    let client = node.connect(0);
    let [first, second] = &groups;
    let found = committed(&mut node, client, &[first, second]);
    assert_eq!(found, [(first.clone(), 0, 299), (second.clone(), 0, 299)]);
}

#[test]
fn answers_behind_a_waiting_join_keep_their_order() {
    let (mut node, client) = node();
    let group = group_on(1);
    node.request(0, client, ApiKey::JoinGroup, JOIN, &join_body(&group));
    let heartbeat = HeartbeatRequest {
        group_id: &group,
        generation_id: 1,
        member_id: "nobody",
        ..Default::default()
    };
    let mut body = Vec::new();
    heartbeat.encode(0, &mut body).expect("encodes");
    node.request(0, client, ApiKey::Heartbeat, 0, &body);
    node.settle();
    assert!(node.answers(0, client, ApiKey::JoinGroup, JOIN).is_empty());
    node.pass_ms(10_000);
    // Neither version has tagged fields: the headers are alike.
    let answers = node.answers(0, client, ApiKey::JoinGroup, JOIN);
    assert_eq!(answers.len(), 2);
    let join = JoinGroupResponse::parse(JOIN, &answers[0]).expect("decodes");
    assert_eq!((join.error_code, join.generation_id), (0, 1));
    assert_eq!(join.leader, join.member_id);
    let heartbeat = HeartbeatResponse::parse(0, &answers[1]).expect("decodes");
    assert_eq!(heartbeat.error_code, ErrorCode::UnknownMemberId.code());
}

#[test]
fn a_client_that_goes_during_its_join_leaves_nothing_behind() {
    for core in [0, 1] {
        let (mut node, client) = node();
        let group = group_on(core);
        node.request(0, client, ApiKey::JoinGroup, JOIN, &join_body(&group));
        node.settle();
        let pending = |node: &TestNode| {
            let hosts = node.cores.iter().map(|core| &core.shard.groups);
            hosts
                .map(|host| host.pending.len() + host.waiting.len())
                .sum::<usize>()
        };
        assert_eq!(pending(&node), 2);
        assert_eq!(node.cores[0].shard.group_gathers.len(), 1);
        node.disconnect(0, client);
        node.settle();
        assert_eq!(pending(&node), 0);
        assert!(node.cores[0].shard.group_gathers.is_empty());
        node.pass_ms(10_000);
    }
}

#[test]
fn offsets_of_a_deleted_topic_are_gone_on_every_core() {
    let (mut node, client) = node();
    let groups = [group_on(0), group_on(1)];
    for group in &groups {
        assert_eq!(commit(&mut node, client, group, "orders", &[(0, 4)]), [0]);
    }
    let topic = node.cores[0]
        .shard
        .table
        .by_name("orders")
        .expect("exists")
        .id;
    node.apply(&[MetadataRecord::TopicDeleted { topic_id: topic.0 }]);
    let [first, second] = &groups;
    let found = committed(&mut node, client, &[first, second]);
    assert_eq!(found, [(first.clone(), 0, -1), (second.clone(), 0, -1)]);
}

#[test]
fn without_the_topic_of_offsets_there_is_no_coordinator_and_no_group() {
    let mut node = TestNode::new(2, &[("orders", 1)]);
    let client = node.connect(0);
    let missing = ErrorCode::CoordinatorNotAvailable.code();
    assert_eq!(
        commit(&mut node, client, "a", "orders", &[(0, 1)]),
        [missing]
    );
    assert_eq!(committed(&mut node, client, &["a"])[0].1, missing);
    let mut body = Vec::new();
    let request = ListGroupsRequest::default();
    request.encode(0, &mut body).expect("encodes");
    node.request(0, client, ApiKey::ListGroups, 0, &body);
    node.settle();
    let answers = node.answers(0, client, ApiKey::ListGroups, 0);
    let response = ListGroupsResponse::parse(0, &answers[0]).expect("decodes");
    assert_eq!((response.error_code, response.groups.len()), (0, 0));
    for (version, code) in [(5, 0), (6, ErrorCode::GroupIdNotFound.code())] {
        let mut body = Vec::new();
        let request = DescribeGroupsRequest {
            groups: Array::from(&["a", "a"]),
            ..Default::default()
        };
        request.encode(version, &mut body).expect("encodes");
        node.request(0, client, ApiKey::DescribeGroups, version, &body);
        node.settle();
        let answers = node.answers(0, client, ApiKey::DescribeGroups, version);
        let response = DescribeGroupsResponse::parse(version, &answers[0]).expect("decodes");
        let groups: Vec<_> = response.groups.iter().collect();
        assert_eq!(groups.len(), 1, "one row however often it is named");
        assert_eq!(
            (groups[0].error_code, groups[0].group_state),
            (code, "Dead")
        );
    }
}

#[test]
fn the_text_about_a_missing_group_names_it() {
    let (mut node, client) = node();
    let long = "g".repeat(30_000);
    let names = ["absent", long.as_str()];
    let mut body = Vec::new();
    let request = DescribeGroupsRequest {
        groups: Array::from(&names),
        ..Default::default()
    };
    request.encode(6, &mut body).expect("encodes");
    node.request(0, client, ApiKey::DescribeGroups, 6, &body);
    node.settle();
    let answers = node.answers(0, client, ApiKey::DescribeGroups, 6);
    let response = DescribeGroupsResponse::parse(6, &answers[0]).expect("decodes");
    for group in response.groups.iter() {
        let text = group.error_message.expect("a missing group has a text");
        if group.group_id == "absent" {
            assert_eq!(text, "group 'absent' does not exist");
        } else {
            assert!(text.len() <= ANSWER_TEXT_BYTES_MAX, "{}", text.len());
        }
    }
}

#[test]
fn the_topic_of_offsets_is_shown_as_the_brokers_own() {
    let (mut node, client) = node();
    let mut body = Vec::new();
    let request = MetadataRequest::default();
    request.encode(9, &mut body).expect("encodes");
    node.request(0, client, ApiKey::Metadata, 9, &body);
    node.settle();
    let answers = node.answers(0, client, ApiKey::Metadata, 9);
    let response = MetadataResponse::parse(9, &answers[0]).expect("decodes");
    let internal: Vec<_> = response
        .topics
        .iter()
        .map(|topic| (topic.name, topic.is_internal))
        .collect();
    assert_eq!(
        internal,
        [(Some(OFFSETS_TOPIC), true), (Some("orders"), false)]
    );
}

#[test]
fn a_group_is_found_at_the_node() {
    let (mut node, client) = node();
    let mut body = Vec::new();
    let keys = [group_on(0), group_on(1)];
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let request = FindCoordinatorRequest {
        coordinator_keys: Array::from(&keys),
        ..Default::default()
    };
    request.encode(4, &mut body).expect("encodes");
    node.request(0, client, ApiKey::FindCoordinator, 4, &body);
    node.settle();
    let answers = node.answers(0, client, ApiKey::FindCoordinator, 4);
    let response = FindCoordinatorResponse::parse(4, &answers[0]).expect("decodes");
    let found: Vec<_> = response
        .coordinators
        .iter()
        .map(|one| (one.key, one.error_code, one.node_id, one.host, one.port))
        .collect();
    let at = |key| (key, 0, 1, "localhost", 9092);
    assert_eq!(found, [at(keys[0]), at(keys[1])]);
}
