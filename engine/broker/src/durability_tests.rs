//! Nothing is answered, and nothing is seen, before it is on disk: over a node in memory whose disk
//! requests end one at a time, when the test says so.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use highwater_base::disk::DiskError;
use highwater_base::record_batch::CRC_COVERED_FROM;
use highwater_base::{ErrorCode, Offset};
use highwater_reactor::ConnectionId;
use highwater_wire::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use highwater_wire::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use highwater_wire::records::RecordBatchBuilder;
use highwater_wire::{ApiKey, Array};

use crate::testing::TestNode;

const PRODUCE: i16 = 9;
const CREATE_TOPICS: i16 = 5;
const SIGABRT: i32 = 6;
const EIO: i32 = 5;
/// Set for the process that is to end.
const DOOMED: &str = "HIGHWATER_TEST_DOOMED";

/// Two cores, a partition on each, and a client on the first core.
fn node() -> (TestNode, ConnectionId) {
    let mut node = TestNode::new(2, &[("orders", 2)]);
    let client = node.connect(0);
    (node, client)
}

/// A batch of one record, of an idempotent producer where a sequence is given.
fn batch(node: &TestNode, sequence: Option<i32>) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new();
    if let Some(sequence) = sequence {
        builder.set_producer(77, 0, sequence);
    }
    builder.append(node.now.wall_ms, None, Some(b"value"), &[]);
    builder.finish()
}

/// A client produces into a partition of `orders`; nothing is on disk by that.
fn produce(node: &mut TestNode, client: ConnectionId, partition: i32, records: &[u8]) {
    let partitions = [PartitionProduceData {
        index: partition,
        records: Some(records),
        ..Default::default()
    }];
    let topics = [TopicProduceData {
        name: "orders",
        partition_data: Array::from(&partitions),
        ..Default::default()
    }];
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: Array::from(&topics),
        ..Default::default()
    };
    let mut body = Vec::new();
    request.encode(PRODUCE, &mut body).expect("encodes");
    node.request(0, client, ApiKey::Produce, PRODUCE, &body);
    node.settle();
}

/// Code and base offset of the answers that came since the last call.
fn answers(node: &mut TestNode, client: ConnectionId) -> Vec<(i16, i64)> {
    let bodies = node.answers(0, client, ApiKey::Produce, PRODUCE);
    let rows = bodies.iter().map(|body| {
        let response = ProduceResponse::parse(PRODUCE, body).expect("decodes");
        let topic = response.responses.iter().next().expect("one topic");
        let row = topic.partition_responses.iter().next();
        let row = row.expect("one partition");
        (row.error_code, row.base_offset)
    });
    rows.collect()
}

/// Lets disk requests end one by one until something was answered.
fn first_answers(node: &mut TestNode, client: ConnectionId, core: usize) -> Vec<(i16, i64)> {
    loop {
        assert!(
            node.release_one(core),
            "the disk is done and nobody is told"
        );
        let answers = answers(node, client);
        if !answers.is_empty() {
            return answers;
        }
    }
}

#[test]
fn records_are_acknowledged_when_they_are_durable_and_not_before() {
    for partition in [0, 1] {
        let (mut node, client) = node();
        let (core, log) = node.log_of("orders", partition);
        node.hold_disk(core);
        let records = batch(&node, None);
        produce(&mut node, client, partition, &records);
        assert_eq!(answers(&mut node, client), [], "nothing is on disk");
        assert_eq!(first_answers(&mut node, client, core), [(0, 0)]);
        assert_eq!(node.shard(core).store.high_watermark(log), Offset(1));
    }
}

#[test]
fn a_record_is_not_acknowledged_with_the_one_before_it() {
    for partition in [0, 1] {
        let (mut node, client) = node();
        let (core, _) = node.log_of("orders", partition);
        let records = batch(&node, None);
        produce(&mut node, client, partition, &records);
        assert_eq!(answers(&mut node, client), [(0, 0)]);
        node.hold_disk(core);
        produce(&mut node, client, partition, &records);
        // The write of the record before is under way, and this one waits for it.
        produce(&mut node, client, partition, &records);
        assert_eq!(first_answers(&mut node, client, core), [(0, 1)]);
        node.release_disk(core);
        assert_eq!(answers(&mut node, client), [(0, 2)]);
    }
}

#[test]
fn a_duplicate_is_answered_when_the_original_is_durable() {
    for partition in [0, 1] {
        let (mut node, client) = node();
        let (core, _) = node.log_of("orders", partition);
        node.hold_disk(core);
        let records = batch(&node, Some(0));
        produce(&mut node, client, partition, &records);
        let resender = node.connect(0);
        produce(&mut node, resender, partition, &records);
        assert_eq!(
            answers(&mut node, resender),
            [],
            "the original is not on disk"
        );
        node.release_disk(core);
        assert_eq!(answers(&mut node, client), [(0, 0)]);
        assert_eq!(answers(&mut node, resender), [(0, 0)]);
    }
}

#[test]
fn records_that_are_taken_back_are_not_acknowledged() {
    let refused = ErrorCode::KafkaStorageError.code();
    for partition in [0, 1] {
        let (mut node, client) = node();
        let (core, log) = node.log_of("orders", partition);
        node.set_disk_full(core, true);
        let records = batch(&node, None);
        produce(&mut node, client, partition, &records);
        assert_eq!(answers(&mut node, client), [(refused, -1)]);
        assert_eq!(node.shard(core).store.log_end(log), Offset(0));
        node.set_disk_full(core, false);
        node.pass_ms(60_000);
        produce(&mut node, client, partition, &records);
        assert_eq!(answers(&mut node, client), [(0, 0)]);
    }
}

#[test]
fn a_damaged_batch_is_refused_and_not_stored() {
    let refused = ErrorCode::CorruptMessage.code();
    let (mut node, client) = node();
    let whole = batch(&node, None);
    for at in CRC_COVERED_FROM - 4..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        produce(&mut node, client, 0, &damaged);
        assert_eq!(answers(&mut node, client), [(refused, -1)], "byte {at}");
    }
    let (core, log) = node.log_of("orders", 0);
    assert_eq!(node.shard(core).store.log_end(log), Offset(0));
}

fn topic_is_known(node: &TestNode, name: &str) -> Vec<bool> {
    let cores = node.cores.iter();
    cores
        .map(|core| core.shard.table.by_name(name).is_some())
        .collect()
}

#[test]
fn a_topic_is_neither_there_nor_answered_before_its_record_is_durable() {
    for core in [0, 1] {
        let (mut node, _) = node();
        let client = node.connect(core);
        let topics = [CreatableTopic {
            name: "trades",
            num_partitions: 2,
            replication_factor: 1,
            ..Default::default()
        }];
        let request = CreateTopicsRequest {
            topics: Array::from(&topics),
            ..Default::default()
        };
        let mut body = Vec::new();
        request.encode(CREATE_TOPICS, &mut body).expect("encodes");
        node.hold_disk(0);
        node.request(core, client, ApiKey::CreateTopics, CREATE_TOPICS, &body);
        node.settle();
        let answers = node.answers(core, client, ApiKey::CreateTopics, CREATE_TOPICS);
        assert!(answers.is_empty(), "its record is not on disk");
        assert_eq!(topic_is_known(&node, "trades"), [false, false]);
        node.release_disk(0);
        let answers = node.answers(core, client, ApiKey::CreateTopics, CREATE_TOPICS);
        let response = CreateTopicsResponse::parse(CREATE_TOPICS, &answers[0]).expect("decodes");
        let codes: Vec<i16> = response.topics.iter().map(|row| row.error_code).collect();
        assert_eq!(codes, [0]);
        assert_eq!(topic_is_known(&node, "trades"), [true, true]);
    }
}

/// The process ends, so that another one has to: this test run again, by itself.
#[test]
fn a_fatal_error_of_the_disk_ends_the_process() {
    if std::env::var_os(DOOMED).is_some() {
        let (mut node, client) = node();
        node.hold_disk(0);
        let records = batch(&node, None);
        produce(&mut node, client, 0, &records);
        node.fail_held(0, DiskError::Io(EIO));
        return;
    }
    let program = std::env::current_exe().expect("a test has a program");
    let ended = Command::new(program)
        .args(["durability_tests::a_fatal_error_of_the_disk_ends_the_process"])
        .args(["--exact", "--nocapture"])
        .env(DOOMED, "yes")
        .output()
        .expect("the test can be run again");
    assert_eq!(ended.status.signal(), Some(SIGABRT), "{ended:?}");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("stopping so that recovery decides"), "{said}");
}
