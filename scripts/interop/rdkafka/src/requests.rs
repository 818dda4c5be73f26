//! Checks of the admin requests and of errors.

use std::collections::HashMap;

use futures_executor::block_on;
use rdkafka::admin::{
    AlterConfig, ConfigEntry, ConfigResource, ConfigSource, NewPartitions, ResourceSpecifier,
};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use crate::broker::{
    compressible, eventually, fails, numbered, only, verify, Broker, Record, LIMIT,
};
use crate::Outcome;

/// Runs the check of that name, if it is one of these.
pub fn check(broker: &Broker, name: &str) -> Option<Outcome> {
    match name {
        "unknown-topic" => unknown_topic(broker),
        "invalid-topic" => invalid_topic(broker),
        "too-large" => too_large(broker),
        "topic-exists" => topic_exists(broker),
        "describe-topic" => describe_topic(broker),
        "describe-configs" => describe_configs(broker),
        "alter-configs" => alter_configs(broker),
        "create-partitions" => create_partitions(broker),
        "list-offsets" => return Some(list_offsets(broker)),
        "delete-records" => delete_records(broker),
        "delete-topic" => delete_topic(broker),
        "refuse-compact" => refuse_compact(broker),
        _ => return None,
    }
    Some(Outcome::Shown)
}

fn delete(broker: &Broker, topic: &str) -> Result<String, KafkaError> {
    only(block_on(
        broker.admin.delete_topics(&[topic], &broker.options),
    ))
}

fn grow(broker: &Broker, topic: &str, total: usize) -> Result<String, KafkaError> {
    let new = NewPartitions::new(topic, total);
    only(block_on(
        broker.admin.create_partitions([&new], &broker.options),
    ))
}

fn configs(broker: &Broker, topic: &str) -> HashMap<String, ConfigEntry> {
    let asked = ResourceSpecifier::Topic(topic);
    let answers = block_on(broker.admin.describe_configs([&asked], &broker.options));
    let resource: ConfigResource = answers
        .expect("answered")
        .remove(0)
        .expect("the topic's configs");
    resource
        .entries
        .into_iter()
        .map(|entry| (entry.name.clone(), entry))
        .collect()
}

fn value(configs: &HashMap<String, ConfigEntry>, name: &str) -> String {
    configs
        .get(name)
        .and_then(|entry| entry.value.clone())
        .unwrap_or_default()
}

/// rdkafka has only the older request, which replaces all configurations of a topic. Of its answer
/// it drops the errors (`AlterConfigsFuture` makes every one an `Ok`), so what is refused shows only
/// in what the topic has afterwards.
fn alter(broker: &Broker, topic: &str, set: &[(&str, &str)]) -> Result<(), KafkaError> {
    let mut new = AlterConfig::new(ResourceSpecifier::Topic(topic));
    for (name, value) in set {
        new = new.set(name, value);
    }
    only(block_on(
        broker.admin.alter_configs([&new], &broker.options),
    ))
    .map(|_| ())
}

fn produce_big(broker: &Broker, topic: &str) -> Result<Vec<i64>, KafkaError> {
    let big = Record {
        value: Some(compressible(40_000)),
        ..Record::default()
    };
    broker.produce(topic, &[big], &[])
}

fn unknown_topic(broker: &Broker) {
    let topic = broker.name("never-created");
    let unknown = RDKafkaErrorCode::UnknownTopicOrPartition;
    fails(delete(broker, &topic), unknown, "delete");
    fails(grow(broker, &topic, 3), unknown, "create partitions");
    // As a consumer: what an admin client asks for may be created by asking.
    let metadata = broker
        .consumer()
        .fetch_metadata(Some(&topic), LIMIT)
        .expect("metadata");
    let error = metadata.topics()[0].error().map(RDKafkaErrorCode::from);
    assert_eq!(error, Some(unknown), "describe");
}

fn invalid_topic(broker: &Broker) {
    for name in ["bad/name", "bad name", "..", &"x".repeat(250)] {
        let created = broker.try_create(name, 1, &[]);
        fails(created, RDKafkaErrorCode::InvalidTopic, name);
    }
}

fn too_large(broker: &Broker) {
    let topic = broker.create("too-large", 1, &[("max.message.bytes", "20000")]);
    fails(
        produce_big(broker, &topic),
        RDKafkaErrorCode::MessageSizeTooLarge,
        "produce",
    );
    broker.send(&topic, &numbered(1, 0, "value"));
    let read = broker.read(&topic, 1, Offset::Beginning, 1).expect("read");
    verify(&read, &numbered(1, 0, "value"), 0);
}

fn topic_exists(broker: &Broker) {
    let topic = broker.create("topic-exists", 1, &[]);
    fails(
        broker.try_create(&topic, 1, &[]),
        RDKafkaErrorCode::TopicAlreadyExists,
        "create",
    );
}

fn describe_topic(broker: &Broker) {
    let topic = broker.create("describe-topic", 3, &[]);
    let metadata = broker
        .admin
        .inner()
        .fetch_metadata(Some(&topic), LIMIT)
        .expect("metadata");
    let brokers: Vec<i32> = metadata.brokers().iter().map(|one| one.id()).collect();
    let partitions = metadata.topics()[0].partitions();
    let mut ids: Vec<i32> = partitions.iter().map(|one| one.id()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [0, 1, 2], "partitions");
    for one in partitions {
        assert!(
            one.replicas().iter().all(|id| brokers.contains(id)),
            "unknown replica"
        );
        assert!(
            one.replicas().contains(&one.leader()),
            "leader is no replica"
        );
        assert!(one.isr().contains(&one.leader()), "leader is not in sync");
    }
}

fn describe_configs(broker: &Broker) {
    let topic = broker.create("describe-configs", 1, &[("retention.ms", "7200000")]);
    let configs = configs(broker, &topic);
    assert_eq!(value(&configs, "retention.ms"), "7200000");
    assert_eq!(
        configs["retention.ms"].source,
        ConfigSource::DynamicTopic,
        "its source"
    );
    assert_eq!(value(&configs, "cleanup.policy"), "delete");
    assert_eq!(
        configs["cleanup.policy"].source,
        ConfigSource::Default,
        "its source"
    );
    for name in ["retention.bytes", "segment.bytes", "max.message.bytes"] {
        value(&configs, name).parse::<i64>().expect(name);
    }
}

fn alter_configs(broker: &Broker) {
    let topic = broker.create("alter-configs", 1, &[("retention.ms", "7200000")]);
    let limit = || value(&configs(broker, &topic), "max.message.bytes");
    let original = limit();
    alter(
        broker,
        &topic,
        &[("max.message.bytes", "34567"), ("retention.ms", "7200000")],
    )
    .expect("altered");
    eventually("altered", || limit() == "34567");
    fails(
        produce_big(broker, &topic),
        RDKafkaErrorCode::MessageSizeTooLarge,
        "the new limit",
    );
    alter(broker, &topic, &[("retention.ms", "7200000")]).expect("altered");
    eventually("back at the default", || limit() == original);
    produce_big(broker, &topic).expect("below the limit again");
    assert_eq!(
        value(&configs(broker, &topic), "retention.ms"),
        "7200000",
        "the one given again"
    );
    for refused in [("retention.ms", "soon"), ("no.such.config", "1")] {
        let _ = alter(broker, &topic, &[refused]);
        assert_eq!(
            value(&configs(broker, &topic), "retention.ms"),
            "7200000",
            "{refused:?}"
        );
    }
}

fn create_partitions(broker: &Broker) {
    let topic = broker.create("create-partitions", 1, &[]);
    let mut records = numbered(3, 0, "value");
    broker.send(&topic, &records);
    grow(broker, &topic, 4).expect("grown");
    eventually("four partitions", || broker.leaders(&topic) == 4);
    records.extend((1..4).flat_map(|partition| numbered(5, partition, "value")));
    broker.send(&topic, &records[3..]);
    let read = broker
        .read(&topic, 4, Offset::Beginning, records.len())
        .expect("read");
    verify(&read, &records, 0);
    fails(
        grow(broker, &topic, 2),
        RDKafkaErrorCode::InvalidPartitions,
        "fewer than there are",
    );
}

fn list_offsets(broker: &Broker) -> Outcome {
    let topic = broker.create("list-offsets", 2, &[]);
    broker.send(&topic, &numbered(3, 0, "value"));
    let consumer = broker.consumer();
    let range = |partition| {
        consumer
            .fetch_watermarks(&topic, partition, LIMIT)
            .expect("answered")
    };
    assert_eq!(range(0), (0, 3), "earliest and latest");
    assert_eq!(range(1), (0, 0), "of an empty partition");
    Outcome::Skipped(
        "earliest and latest shown; rdkafka 0.39 has no ListOffsets in its AdminClient",
    )
}

fn delete_records(broker: &Broker) {
    let topic = broker.create("delete-records", 1, &[]);
    let records = numbered(20, 0, "value");
    broker.send(&topic, &records);
    let before = |offset| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, Offset::Offset(offset))
            .expect("valid");
        let answer = block_on(broker.admin.delete_records(&list, &broker.options))?;
        answer.elements()[0].error()?;
        Ok::<Offset, KafkaError>(answer.elements()[0].offset())
    };
    assert_eq!(
        before(12).expect("deleted"),
        Offset::Offset(12),
        "low watermark"
    );
    let consumer = broker.consumer();
    eventually("earliest is 12", || {
        consumer
            .fetch_watermarks(&topic, 0, LIMIT)
            .expect("answered")
            .0
            == 12
    });
    let read = broker.read(&topic, 1, Offset::Beginning, 8).expect("read");
    verify(&read, &records[12..], 12);
    fails(
        before(21),
        RDKafkaErrorCode::OffsetOutOfRange,
        "beyond the end",
    );
}

fn delete_topic(broker: &Broker) {
    let topic = broker.create("delete-topic", 1, &[]);
    broker.send(&topic, &numbered(5, 0, "old"));
    delete(broker, &topic).expect("deleted");
    eventually("the topic is gone", || {
        let all = broker
            .admin
            .inner()
            .fetch_metadata(None, LIMIT)
            .expect("metadata");
        all.topics().iter().all(|one| one.name() != topic)
    });
    broker.create("delete-topic", 1, &[]);
    broker.send(&topic, &numbered(3, 0, "new"));
    let read = broker.read(&topic, 1, Offset::Beginning, 3).expect("read");
    verify(&read, &numbered(3, 0, "new"), 0);
}

fn refuse_compact(broker: &Broker) {
    let invalid = RDKafkaErrorCode::InvalidConfig;
    let compact = [("cleanup.policy", "compact")];
    fails(
        broker.try_create(&broker.name("refuse-compact"), 1, &compact),
        invalid,
        "create",
    );
    let topic = broker.create("refuse-compact-later", 1, &[]);
    let _ = alter(broker, &topic, &compact);
    assert_eq!(
        value(&configs(broker, &topic), "cleanup.policy"),
        "delete",
        "altered"
    );
}
