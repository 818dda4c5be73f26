//! Errors have a type to decide by and say what to do.

use highwater_base::ErrorCode;
use highwater_client::calls::{DeleteGroup, DeleteTopic, OffsetSpec, Target};
use highwater_client::consumer::{ConsumerSettings, Start};
use highwater_client::driver::any_runtime::{Client, ConsumerHandle};
use highwater_client::driver::{ClientSettings, Runtime};
use highwater_client::producer::ProducerSettings;
use highwater_client::{ClientError, ErrorKind, RecordToSend};

use crate::suite::{Suite, assert_says};

pub async fn a_topic_that_does_not_exist_is_named<R: Runtime>(suite: Suite<R>) {
    let client = &suite.client;
    let name = suite.name("missing");
    let unknown = ClientError::UnknownTopic {
        topic: name.clone(),
    };
    let producer = suite.producer(ProducerSettings::default());
    let sent = producer.send(&name, &RecordToSend::default()).await;
    assert_eq!(sent, Err(unknown.clone()));
    assert_says(&unknown, &[&name, "topic create"]);
    let (settings, start) = (ConsumerSettings::default(), Start::At(OffsetSpec::End));
    let started = ConsumerHandle::start(client, settings, &name, &[0], start).await;
    assert_eq!(started.err(), Some(unknown));
    let delete = DeleteTopic { name };
    let error = client.call(Target::Controller, &delete).await;
    let error = error.expect_err("it is not there");
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
}

pub async fn a_partition_that_does_not_exist_is_named<R: Runtime>(suite: Suite<R>) {
    let topic = suite.topic("two", 2).await;
    let unknown = ClientError::UnknownPartition {
        topic: topic.clone(),
        partition: 2,
        last: 1,
    };
    let producer = suite.producer(ProducerSettings::default());
    let record = RecordToSend {
        partition: Some(2),
        ..RecordToSend::default()
    };
    let sent = producer.send(&topic, &record).await;
    assert_eq!(sent, Err(unknown.clone()));
    assert_eq!(unknown.kind(), ErrorKind::Fatal);
    assert_says(&unknown, &[&topic, "partitions 0 to 1"]);
}

pub async fn a_broker_that_cannot_be_reached_is_named<R: Runtime>(suite: Suite<R>) {
    // The port is free again when the listener is dropped, and nobody answers there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .to_string();
    let settings = ClientSettings::default();
    let connected = Client::<R>::connect(&nobody, settings.clone()).await;
    let error = connected.err().expect("nobody answers");
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Retriable);
    assert_says(&error, &[&nobody, "--bootstrap-server"]);
    // One that answers is enough.
    let both = format!("{nobody},{}", suite.bootstrap);
    let connected = Client::<R>::connect(&both, settings.clone()).await;
    assert!(connected.is_ok());
    let wrong = Client::<R>::connect("no-port", settings).await;
    assert!(matches!(wrong.err(), Some(ClientError::Usage(_))));
}

pub async fn a_group_that_does_not_exist_is_named<R: Runtime>(suite: Suite<R>) {
    let group = suite.name("nobody");
    let delete = DeleteGroup {
        group: group.clone(),
    };
    let error = suite.client.call_coordinator(&group, &delete).await;
    let error = error.expect_err("it is not there");
    assert_eq!(error.code(), Some(ErrorCode::GroupIdNotFound));
    assert_says(&error, &[&group, "group list"]);
}
