//! What a node answers for a partition that one of its cores could not recover.

use highwater_base::{ErrorCode, PartitionIndex};
use highwater_groups::{OFFSETS_TOPIC, offsets_partition};
use highwater_reactor::ConnectionId;
use highwater_store::segment::partition_directory;
use highwater_wire::array::Array;
use highwater_wire::describe_log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use highwater_wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use highwater_wire::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use highwater_wire::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use highwater_wire::metadata::{MetadataRequest, MetadataResponse};
use highwater_wire::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use highwater_wire::{ApiKey, EncodeError};

use crate::metadata::MetadataRecord;
use crate::testing::{TestNode, batch};

const STORAGE_ERROR: i16 = 56;

/// Topic `t` with four partitions on two cores, each with a record. The file of partition 1, on core 1,
/// is another's; so is that of partition 0 of the topic of offsets, on core 0.
fn node() -> TestNode {
    let mut node = TestNode::new(2, &[("t", 4), (OFFSETS_TOPIC, 4)]);
    for partition in 0..4 {
        node.append("t", partition, &batch(39));
        node.append(OFFSETS_TOPIC, partition, &batch(39));
    }
    misplace(&mut node, "t", 3, 1);
    misplace(&mut node, OFFSETS_TOPIC, 2, 0);
    node.restart();
    node
}

fn directory(node: &mut TestNode, topic: &str, partition: i32) -> String {
    let id = node.shard(0).image.topic_by_name(topic).expect("exists").id;
    partition_directory(topic, id, PartitionIndex(partition))
}

/// Puts the first segment of one partition in the place of another's.
fn misplace(node: &mut TestNode, topic: &str, from: i32, to: i32) {
    let core = to as usize % 2;
    let from = directory(node, topic, from);
    let to = directory(node, topic, to);
    let paths = node.paths(core, &format!("{from}/"));
    let segment = paths.iter().find(|path| path.ends_with(".log"));
    let segment = segment.expect("it has one").clone();
    let bytes = node.read_file(core, &segment);
    node.write_file(core, &segment.replacen(&from, &to, 1), &bytes);
}

fn ask(
    node: &mut TestNode,
    core: usize,
    key: ApiKey,
    version: i16,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Vec<u8> {
    let mut body = Vec::new();
    encode(&mut body).expect("encodes");
    let client: ConnectionId = node.connect(core);
    node.request(core, client, key, version, &body);
    node.settle();
    node.answers(core, client, key, version).remove(0)
}

/// Error code and message of each partition of `t`.
fn produce(node: &mut TestNode, core: usize) -> Vec<(i16, String)> {
    let records = batch(39);
    let data = |index| PartitionProduceData {
        index,
        records: Some(&records),
    };
    let partitions = [0, 1, 2, 3].map(data);
    let topics = [TopicProduceData {
        name: "t",
        partition_data: Array::from(&partitions),
        ..Default::default()
    }];
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 1000,
        topic_data: Array::from(&topics),
        ..Default::default()
    };
    let answer = ask(node, core, ApiKey::Produce, 9, |out| request.encode(9, out));
    let response = ProduceResponse::parse(9, &answer).expect("readable");
    let topic = response.responses.iter().next().expect("a topic");
    let rows = topic.partition_responses.iter();
    rows.map(|row| {
        let message = row.error_message.unwrap_or_default();
        (row.error_code, message.to_owned())
    })
    .collect()
}

fn fetch(node: &mut TestNode, core: usize) -> Vec<i16> {
    let partitions = [0, 1, 2, 3].map(|partition| FetchPartition {
        partition,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    });
    let topics = [FetchTopic {
        topic: "t",
        partitions: Array::from(&partitions),
        ..Default::default()
    }];
    let request = FetchRequest {
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: Array::from(&topics),
        ..Default::default()
    };
    let answer = ask(node, core, ApiKey::Fetch, 12, |out| request.encode(12, out));
    let response = FetchResponse::parse(12, &answer).expect("readable");
    let topic = response.responses.iter().next().expect("a topic");
    topic.partitions.iter().map(|row| row.error_code).collect()
}

fn list_offsets(node: &mut TestNode, core: usize) -> Vec<(i16, i64)> {
    let partitions = [0, 1, 2, 3].map(|partition_index| ListOffsetsPartition {
        partition_index,
        current_leader_epoch: -1,
        timestamp: -1,
    });
    let topics = [ListOffsetsTopic {
        name: "t",
        partitions: Array::from(&partitions),
    }];
    let request = ListOffsetsRequest {
        topics: Array::from(&topics),
        ..Default::default()
    };
    let answer = ask(node, core, ApiKey::ListOffsets, 7, |out| {
        request.encode(7, out)
    });
    let response = ListOffsetsResponse::parse(7, &answer).expect("readable");
    let topic = response.topics.iter().next().expect("a topic");
    let rows = topic.partitions.iter();
    rows.map(|row| (row.error_code, row.offset)).collect()
}

/// Error code, leader and offline replicas of each partition of `t`.
fn metadata(node: &mut TestNode, core: usize) -> Vec<(i16, i32, Vec<i32>)> {
    let request = MetadataRequest::default();
    let answer = ask(node, core, ApiKey::Metadata, 9, |out| {
        request.encode(9, out)
    });
    let response = MetadataResponse::parse(9, &answer).expect("readable");
    let topic = response.topics.iter().find(|topic| topic.name == Some("t"));
    let rows = topic.expect("it is there").partitions.iter();
    rows.map(|row| {
        let offline = row.offline_replicas.iter().collect();
        (row.error_code, row.leader_id, offline)
    })
    .collect()
}

#[test]
fn a_partition_that_cannot_be_recovered_is_refused_and_all_others_are_served() {
    let mut node = node();
    for core in 0..2 {
        let produced = produce(&mut node, core);
        let codes: Vec<i16> = produced.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, [0, STORAGE_ERROR, 0, 0]);
        assert!(produced[1].1.contains("offline: topics/t/"), "{produced:?}");
        assert_eq!(fetch(&mut node, core), [0, STORAGE_ERROR, 0, 0]);
        let end = 2 + core as i64;
        let offsets = [(0, end), (STORAGE_ERROR, -1), (0, end), (0, end)];
        assert_eq!(list_offsets(&mut node, core), offsets);
    }
}

#[test]
fn metadata_on_every_core_says_that_an_offline_partition_has_no_leader() {
    let mut node = node();
    let not_available = ErrorCode::LeaderNotAvailable.code();
    let online = || (0, 1, Vec::new());
    for core in 0..2 {
        let told = metadata(&mut node, core);
        assert_eq!(
            told,
            [online(), (not_available, -1, vec![1]), online(), online()]
        );
    }
}

#[test]
fn log_directories_say_why_a_partition_is_offline() {
    let mut node = node();
    let request = DescribeLogDirsRequest { topics: None };
    let answer = ask(&mut node, 0, ApiKey::DescribeLogDirs, 4, |out| {
        request.encode(4, out)
    });
    let response = DescribeLogDirsResponse::parse(4, &answer).expect("readable");
    let directory = response.results.iter().next().expect("one directory");
    let topic = directory.topics.iter().find(|topic| topic.name == "t");
    let rows = topic.expect("it is there").partitions.iter();
    let reasons: Vec<Option<&str>> = rows.map(|row| row.offline_reason).collect();
    assert!(reasons[1].is_some_and(|reason| reason.contains("another cluster")));
    assert_eq!([reasons[0], reasons[2], reasons[3]], [None; 3]);
}

/// An empty group would make its members begin anew.
#[test]
fn a_group_whose_offsets_cannot_be_read_has_no_coordinator() {
    let mut node = node();
    let names = (0..).map(|at| format!("group-{at}"));
    let (mut lost, mut kept) = (None, None);
    for name in names {
        match offsets_partition(&name, 4) {
            0 => lost = lost.or(Some(name)),
            _ => kept = kept.or(Some(name)),
        }
        if lost.is_some() && kept.is_some() {
            break;
        }
    }
    let keys = [lost, kept].map(|name| name.expect("found"));
    let keys = [keys[0].as_str(), keys[1].as_str()];
    let request = FindCoordinatorRequest {
        coordinator_keys: Array::from(&keys),
        ..Default::default()
    };
    for core in 0..2 {
        let answer = ask(&mut node, core, ApiKey::FindCoordinator, 4, |out| {
            request.encode(4, out)
        });
        let response = FindCoordinatorResponse::parse(4, &answer).expect("readable");
        let rows = response.coordinators.iter();
        let codes: Vec<i16> = rows.map(|row| row.error_code).collect();
        assert_eq!(codes, [ErrorCode::CoordinatorNotAvailable.code(), 0]);
    }
}

#[test]
fn a_topic_with_an_offline_partition_grows_and_goes_to_quarantine() {
    let mut node = node();
    let id = node.shard(0).image.topic_by_name("t").expect("exists").id;
    node.apply(&[MetadataRecord::Partitions {
        topic_id: id.0,
        total: 6,
    }]);
    node.append("t", 5, &batch(39));
    assert_eq!(metadata(&mut node, 0)[1].1, super::NO_LEADER);
    let of_offline = directory(&mut node, "t", 1);
    let files = node.paths(1, &format!("{of_offline}/")).len();
    assert!(files > 0);
    node.apply(&[MetadataRecord::TopicDeleted { topic_id: id.0 }]);
    for core in 0..2 {
        assert_eq!(node.paths(core, "topics/t/"), [""; 0]);
    }
    let kept = node.paths(1, "quarantine/");
    let of_one = kept.iter().filter(|path| path.contains("/t/1/"));
    assert_eq!(of_one.count(), files, "{kept:?}");
}
