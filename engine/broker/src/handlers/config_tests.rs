//! Configuration through the whole node: what AlterConfigs and IncrementalAlterConfigs change, what
//! DescribeConfigs then says, and what is left of it after a start.

use highwater_wire::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource as ReplacedResource, AlterConfigsResponse,
    AlterableConfig as ReplacedConfig,
};
use highwater_wire::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};
use highwater_wire::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use highwater_wire::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
};
use highwater_wire::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use highwater_wire::{ApiKey, Array};

use crate::testing::TestNode;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;
const SET: i8 = 0;
const DELETE: i8 = 1;

/// Whether the change is only checked.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Do,
    Validate,
}

fn ask(node: &mut TestNode, core: usize, api: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    let client = node.connect(core);
    node.request(core, client, api, version, body);
    node.settle();
    node.answers(core, client, api, version).remove(0)
}

/// IncrementalAlterConfigs of one resource: error code and message.
fn alter(
    node: &mut TestNode,
    (kind, name): (i8, &str),
    (key, operation, value): (&str, i8, Option<&str>),
    mode: Mode,
) -> (i16, String) {
    let configs = [AlterableConfig {
        name: key,
        config_operation: operation,
        value,
    }];
    let resources = [AlterConfigsResource {
        resource_type: kind,
        resource_name: name,
        configs: Array::from(&configs),
    }];
    let request = IncrementalAlterConfigsRequest {
        resources: Array::from(&resources),
        validate_only: mode == Mode::Validate,
    };
    let mut body = Vec::new();
    request.encode(1, &mut body).expect("encodes");
    let answer = ask(node, 1, ApiKey::IncrementalAlterConfigs, 1, &body);
    let answer = IncrementalAlterConfigsResponse::parse(1, &answer).expect("readable");
    let row = answer.responses.iter().next().expect("a row");
    (row.error_code, row.error_message.unwrap_or("").to_string())
}

/// AlterConfigs of one resource: error code.
fn replace(
    node: &mut TestNode,
    (kind, name): (i8, &str),
    pairs: &[(&str, &str)],
    mode: Mode,
) -> i16 {
    let configs: Vec<ReplacedConfig<'_>> = pairs
        .iter()
        .map(|(name, value)| ReplacedConfig {
            name,
            value: Some(value),
        })
        .collect();
    let resources = [ReplacedResource {
        resource_type: kind,
        resource_name: name,
        configs: Array::from(&configs),
    }];
    let request = AlterConfigsRequest {
        resources: Array::from(&resources),
        validate_only: mode == Mode::Validate,
    };
    let mut body = Vec::new();
    request.encode(2, &mut body).expect("encodes");
    let answer = ask(node, 1, ApiKey::AlterConfigs, 2, &body);
    let answer = AlterConfigsResponse::parse(2, &answer).expect("readable");
    answer.responses.iter().next().expect("a row").error_code
}

/// One key of a resource, as a core tells it: the value, then each synonym as source and value.
fn describe(
    node: &mut TestNode,
    core: usize,
    (kind, name): (i8, &str),
    key: &str,
) -> (String, Vec<String>) {
    let keys = [key];
    let resources = [DescribeConfigsResource {
        resource_type: kind,
        resource_name: name,
        configuration_keys: Some(Array::from(&keys)),
    }];
    let request = DescribeConfigsRequest {
        resources: Array::from(&resources),
        include_synonyms: true,
        include_documentation: false,
    };
    let mut body = Vec::new();
    request.encode(4, &mut body).expect("encodes");
    let answer = ask(node, core, ApiKey::DescribeConfigs, 4, &body);
    let answer = DescribeConfigsResponse::parse(4, &answer).expect("readable");
    let result = answer.results.iter().next().expect("a result");
    assert_eq!(result.error_code, 0, "{:?}", result.error_message);
    let Some(row) = result.configs.iter().next() else {
        return ("absent".to_string(), Vec::new());
    };
    let value = format!("{} {}", row.config_source, row.value.unwrap_or(""));
    let synonyms = row.synonyms.iter();
    let synonyms =
        synonyms.map(|one| format!("{} {} {}", one.source, one.name, one.value.unwrap_or("")));
    (value, synonyms.collect())
}

fn value(node: &mut TestNode, resource: (i8, &str), key: &str) -> String {
    describe(node, 0, resource, key).0
}

#[test]
fn a_changed_broker_default_is_in_force_on_every_core_and_after_a_start() {
    let mut node = TestNode::new(2, &[("orders", 2)]);
    let set = |value| ("log.retention.ms", SET, Some(value));
    assert_eq!(alter(&mut node, (BROKER, ""), set("5000"), Mode::Do).0, 0);
    assert_eq!(alter(&mut node, (BROKER, "1"), set("7000"), Mode::Do).0, 0);
    let bytes = ("log.segment.bytes", SET, Some("2097152"));
    assert_eq!(alter(&mut node, (BROKER, "1"), bytes, Mode::Do).0, 0);
    for start in 0..2 {
        for core in 0..2 {
            let (value, synonyms) = describe(&mut node, core, (TOPIC, "orders"), "retention.ms");
            assert_eq!(value, "2 7000", "core {core}, start {start}");
            let chain = [
                "2 log.retention.ms 7000",
                "3 log.retention.ms 5000",
                "5 log.retention.ms 604800000",
            ];
            assert_eq!(synonyms, chain);
            let image = &node.cores[core].shard.image;
            let topic = image.topic_by_name("orders").expect("exists");
            let log = topic.config.log_config();
            assert_eq!((log.retention_ms, log.segment_bytes), (7000, 2_097_152));
            let (value, _) = describe(&mut node, core, (BROKER, "1"), "log.segment.bytes");
            assert_eq!(value, "2 2097152");
        }
        node.restart_by_replay();
    }
    let delete = ("log.retention.ms", DELETE, None);
    assert_eq!(alter(&mut node, (BROKER, "1"), delete, Mode::Do).0, 0);
    assert_eq!(
        value(&mut node, (TOPIC, "orders"), "retention.ms"),
        "3 5000"
    );
    let own = ("retention.ms", SET, Some("9000"));
    assert_eq!(alter(&mut node, (TOPIC, "orders"), own, Mode::Do).0, 0);
    assert_eq!(
        value(&mut node, (TOPIC, "orders"), "retention.ms"),
        "1 9000"
    );
    assert_eq!(value(&mut node, (BROKER, ""), "log.retention.ms"), "3 5000");
}

#[test]
fn alter_configs_replaces_everything_that_was_changed_of_a_broker() {
    let mut node = TestNode::new(2, &[]);
    let broker = (BROKER, "1");
    let both = [("log.retention.ms", "5000"), ("message.max.bytes", "2000")];
    assert_eq!(replace(&mut node, broker, &both, Mode::Do), 0);
    assert_eq!(replace(&mut node, broker, &both[1..], Mode::Do), 0);
    assert_eq!(value(&mut node, broker, "log.retention.ms"), "5 604800000");
    assert_eq!(value(&mut node, broker, "message.max.bytes"), "2 2000");
    let expiration = ("producer.id.expiration.ms", SET, Some("60000"));
    assert_eq!(alter(&mut node, broker, expiration, Mode::Do).0, 0);
    node.restart_by_replay();
    assert_eq!(
        value(&mut node, broker, "producer.id.expiration.ms"),
        "2 60000"
    );
    for core in &node.cores {
        assert_eq!(core.shard.image.producer_id_expiration_ms(), Some(60_000));
    }
}

#[test]
fn a_scrub_is_asked_for_by_a_configuration_of_brokers() {
    let mut node = TestNode::new(2, &[]);
    let ask = |time| ("log.scrub.requested.ms", SET, Some(time));
    assert_eq!(alter(&mut node, (BROKER, ""), ask("1234"), Mode::Do).0, 0);
    assert_eq!(alter(&mut node, (BROKER, "1"), ask("1233"), Mode::Do).0, 0);
    assert_ne!(alter(&mut node, (BROKER, "1"), ask("-1"), Mode::Do).0, 0);
    node.restart_by_replay();
    for core in &node.cores {
        assert_eq!(core.shard.image.scrub_requested_ms(), 1234);
    }
}

#[test]
fn what_cannot_be_changed_is_refused_with_a_reason() {
    let mut node = TestNode::new(2, &[]);
    let rows = [
        ("num.partitions", "3", INVALID_REQUEST, "dynamically"),
        (
            "log.retention.hours",
            "3",
            INVALID_REQUEST,
            "log.retention.ms",
        ),
        ("no.such.key", "3", INVALID_CONFIG, "unknown"),
        (
            "log.segment.bytes",
            "3",
            INVALID_REQUEST,
            "allowed is 1048576",
        ),
        (
            "producer.id.expiration.ms",
            "0",
            INVALID_REQUEST,
            "allowed is 1",
        ),
        ("log.cleanup.policy", "compact", INVALID_REQUEST, "delete"),
    ];
    for (key, value, code, words) in rows {
        let answer = alter(&mut node, (BROKER, "1"), (key, SET, Some(value)), Mode::Do);
        assert_eq!(answer.0, code, "{key}");
        assert!(
            answer.1.contains(key) && answer.1.contains(words),
            "{}",
            answer.1
        );
    }
    let good = ("log.retention.ms", SET, Some("1"));
    for resource in [(BROKER, "2"), (BROKER, "x"), (LOGGER, "1")] {
        assert_eq!(
            alter(&mut node, resource, good, Mode::Do).0,
            INVALID_REQUEST
        );
    }
    assert_eq!(
        value(&mut node, (BROKER, "1"), "log.retention.ms"),
        "5 604800000"
    );
}

#[test]
fn what_is_only_validated_changes_nothing() {
    let mut node = TestNode::new(2, &[("orders", 2)]);
    for (resource, key) in [
        ((TOPIC, "orders"), "retention.ms"),
        ((BROKER, "1"), "log.retention.ms"),
        ((BROKER, ""), "log.retention.ms"),
    ] {
        let before = value(&mut node, resource, key);
        let good = (key, SET, Some("5000"));
        assert_eq!(alter(&mut node, resource, good, Mode::Validate).0, 0);
        assert_eq!(
            replace(&mut node, resource, &[(key, "5000")], Mode::Validate),
            0
        );
        let bad = (key, SET, Some("x"));
        let code = match resource.0 {
            TOPIC => INVALID_CONFIG,
            _ => INVALID_REQUEST,
        };
        assert_eq!(alter(&mut node, resource, bad, Mode::Validate).0, code);
        let refused = replace(&mut node, resource, &[(key, "x")], Mode::Validate);
        assert_eq!(refused, code);
        assert_eq!(value(&mut node, resource, key), before);
    }
    let topics = [("new", 3), ("orders", 3)].map(|(name, num_partitions)| CreatableTopic {
        name,
        num_partitions,
        replication_factor: 1,
        ..Default::default()
    });
    let request = CreateTopicsRequest {
        topics: Array::from(&topics),
        timeout_ms: 1000,
        validate_only: true,
    };
    let mut body = Vec::new();
    request.encode(7, &mut body).expect("encodes");
    let answer = ask(&mut node, 1, ApiKey::CreateTopics, 7, &body);
    let answer = CreateTopicsResponse::parse(7, &answer).expect("readable");
    let codes: Vec<i16> = answer.topics.iter().map(|row| row.error_code).collect();
    assert_eq!(codes, [0, 36]);
    let grown = [CreatePartitionsTopic {
        name: "orders",
        count: 4,
        ..Default::default()
    }];
    let request = CreatePartitionsRequest {
        topics: Array::from(&grown),
        timeout_ms: 1000,
        validate_only: true,
    };
    let mut body = Vec::new();
    request.encode(3, &mut body).expect("encodes");
    let answer = ask(&mut node, 1, ApiKey::CreatePartitions, 3, &body);
    let answer = CreatePartitionsResponse::parse(3, &answer).expect("readable");
    assert_eq!(answer.results.iter().next().expect("a row").error_code, 0);
    node.restart_by_replay();
    let image = &node.cores[1].shard.image;
    assert_eq!((image.topic_count(), image.partition_count()), (1, 2));
}

#[test]
fn keys_of_groups_and_log_levels_are_described() {
    let mut node = TestNode::new(2, &[]);
    for (key, told) in [
        ("offsets.retention.minutes", "5 10080"),
        ("group.min.session.timeout.ms", "5 6000"),
        ("group.max.session.timeout.ms", "5 1800000"),
        ("group.initial.rebalance.delay.ms", "5 3000"),
        ("offsets.topic.num.partitions", "5 50"),
        ("offset.metadata.max.bytes", "5 4096"),
    ] {
        assert_eq!(value(&mut node, (BROKER, "1"), key), told, "{key}");
    }
    assert_eq!(value(&mut node, (LOGGER, "1"), "root"), "6 INFO");
}
