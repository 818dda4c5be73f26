//! Topics and their configuration.

use highwater_base::ErrorCode;
use highwater_client::calls::{
    AlterConfig, AlterConfigs, ConfigOperation, ConfigResource, ConfigSource, CreatePartitions,
    CreateTopic, DeleteTopic, DescribeConfigs, Target,
};
use highwater_client::driver::Runtime;

use crate::suite::{Suite, assert_says};

pub async fn a_topic_is_created_described_grown_and_deleted<R: Runtime>(suite: Suite<R>) {
    let client = &suite.client;
    let name = suite.topic("made", 3).await;
    let leaders = client.with_metadata(|metadata| {
        let topic = metadata.topic(&name).expect("it is known");
        assert!(!topic.is_internal);
        topic.partitions.iter().all(|one| one.leader.is_some())
    });
    assert!(leaders, "every partition has a leader");

    let again = CreateTopic {
        name: name.clone(),
        partitions: 3,
        replication_factor: 1,
        ..CreateTopic::default()
    };
    let error = client.call(Target::Controller, &again).await;
    let error = error.expect_err("it is there");
    assert_eq!(error.code(), Some(ErrorCode::TopicAlreadyExists));
    assert_says(&error, &[&name, "choose another name"]);
    let wrong = CreateTopic {
        name: "no/such name".to_string(),
        partitions: 1,
        replication_factor: 1,
        ..CreateTopic::default()
    };
    let error = client.call(Target::Controller, &wrong).await;
    assert_eq!(
        error.expect_err("not a name").code(),
        Some(ErrorCode::InvalidTopicException)
    );

    let grow = CreatePartitions {
        topic: name.clone(),
        total: 5,
    };
    let grown = client.call(Target::Controller, &grow).await;
    grown.expect("more partitions");
    suite
        .until("five partitions are known", async || {
            let renewed = client.refresh(Some(vec![name.clone()])).await;
            renewed.expect("metadata");
            client.with_metadata(|metadata| metadata.partition_count(&name)) == Ok(5)
        })
        .await;

    let delete = DeleteTopic { name: name.clone() };
    let deleted = client.call(Target::Controller, &delete).await;
    deleted.expect("deleted");
    suite
        .until("the topic is gone", async || {
            let renewed = client.refresh(Some(vec![name.clone()])).await;
            renewed.expect("metadata");
            client.with_metadata(|metadata| metadata.topic(&name).is_none())
        })
        .await;
    let error = client.call(Target::Controller, &delete).await;
    let error = error.expect_err("it is gone");
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
    assert_says(&error, &[&name, "topic list"]);
}

pub async fn a_topics_configuration_is_read_and_changed<R: Runtime>(suite: Suite<R>) {
    let client = &suite.client;
    let name = suite
        .topic_with("configured", 1, &[("retention.ms", "3600000")])
        .await;
    let resource = ConfigResource::Topic(name.clone());
    let describe = DescribeConfigs {
        resource: resource.clone(),
    };
    let found = async |key: &str| {
        let entries = client.call(Target::Any, &describe).await.expect("entries");
        let entry = entries.into_iter().find(|entry| entry.name == key);
        entry.expect("a key that every broker has")
    };
    let entry = found("retention.ms").await;
    assert_eq!(entry.value.as_deref(), Some("3600000"));
    assert_eq!(entry.source, ConfigSource::Topic);

    let change = |key: &str, value: &str| AlterConfigs {
        resource: resource.clone(),
        changes: vec![AlterConfig {
            name: key.to_string(),
            operation: ConfigOperation::Set(value.to_string()),
        }],
        validate_only: false,
    };
    let call = change("retention.ms", "7200000");
    let changed = client.call(Target::Controller, &call).await;
    changed.expect("changed");
    suite
        .until("the change is seen", async || {
            found("retention.ms").await.value.as_deref() == Some("7200000")
        })
        .await;
    let call = change("retention.ms", "soon");
    let refused = client.call(Target::Controller, &call).await;
    let error = refused.expect_err("not a number");
    assert_eq!(error.code(), Some(ErrorCode::InvalidConfig));
}
