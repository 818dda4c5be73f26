//! The handles that may be sent, from tasks of a multi-threaded runtime.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use highwater_client::calls::{CreateTopic, OffsetSpec, Target};
use highwater_client::consumer::{ConsumerSettings, Start};
use highwater_client::driver::{ClientSettings, GroupConsumerSettings};
use highwater_client::group::GroupSettings;
use highwater_client::producer::ProducerSettings;
use highwater_client::threaded::{Client, Consumer, GroupConsumer, OwnedRecord, Producer};

use crate::suite::{PATIENCE, bootstrap, name};

const TASKS: usize = 4;
const RECORDS: usize = 500;

fn run(behaviour: impl AsyncFnOnce(Client)) {
    let Some(bootstrap) = bootstrap() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let client = Client::connect(&bootstrap, ClientSettings::default()).await;
        behaviour(client.expect("the broker answers")).await;
    });
}

async fn topic(client: &Client, what: &str, partitions: i32) -> String {
    let now = client.run(async |client| client.now()).await;
    let name = name(what, now.expect("it runs").wall_ms);
    let call = CreateTopic {
        name: name.clone(),
        partitions,
        replication_factor: 1,
        ..CreateTopic::default()
    };
    let created = client.call(Target::Controller, call).await;
    created.expect("a topic");
    name
}

fn record(text: &str, partition: usize) -> OwnedRecord {
    OwnedRecord {
        value: Some(text.as_bytes().to_vec()),
        partition: Some(partition as i32),
        ..OwnedRecord::default()
    }
}

#[test]
fn tasks_of_many_threads_share_a_producer() {
    run(async |client| {
        let topic: Arc<str> = topic(&client, "threads", TASKS as i32).await.into();
        let settings = ProducerSettings::default();
        let producer = Producer::start(&client, settings).await.expect("started");
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (producer, topic) = (producer.clone(), Arc::clone(&topic));
                tokio::spawn(async move {
                    let mut deliveries = Vec::new();
                    for number in 0..RECORDS {
                        let record = record(&number.to_string(), task);
                        let sent = producer.send(&topic, record).await;
                        deliveries.push(sent.expect("the client runs"));
                    }
                    for (number, delivery) in deliveries.into_iter().enumerate() {
                        let expected = Ok((task as i32, Some(number as i64)));
                        assert_eq!(delivery.await, expected);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        let missing = producer
            .send("there is no such topic", record("v", 0))
            .await;
        let fate = missing.expect("handed over").await;
        assert!(fate.is_err(), "{fate:?}");
        consume(&client, &topic).await;
    });
}

async fn consume(client: &Client, topic: &str) {
    let all: Vec<i32> = (0..TASKS as i32).collect();
    let (settings, start) = (
        ConsumerSettings::default(),
        Start::At(OffsetSpec::Beginning),
    );
    let consumer = Consumer::start(client, settings, topic, &all, start).await;
    let mut consumer = consumer.expect("a consumer");
    // On another thread: the handle may be sent.
    let read = tokio::spawn(async move {
        let mut read = vec![Vec::new(); TASKS];
        while read.iter().map(Vec::len).sum::<usize>() < TASKS * RECORDS {
            let next = tokio::time::timeout(PATIENCE, consumer.next()).await;
            let records = next.expect("in time").expect("records");
            read[records.partition as usize].extend(records.records);
        }
        read
    });
    for partition in read.await.expect("no panic") {
        let values = partition.iter().filter_map(|one| one.value.as_deref());
        let numbers: Vec<String> = values
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .collect();
        let expected: Vec<String> = (0..RECORDS).map(|number| number.to_string()).collect();
        assert_eq!(numbers, expected);
    }
}

#[test]
fn records_of_a_dropped_producer_are_still_delivered() {
    run(async |client| {
        let topic = topic(&client, "dropped", 1).await;
        let settings = ProducerSettings::default();
        let producer = Producer::start(&client, settings).await.expect("started");
        let sent = producer.send(&topic, record("v", 0)).await;
        drop((producer, client));
        assert_eq!(sent.expect("handed over").await, Ok((0, Some(0))));
    });
}

#[test]
fn a_group_gives_each_record_to_a_caller_that_stays() {
    run(async |client| {
        let topic = topic(&client, "member", 1).await;
        let settings = ProducerSettings::default();
        let producer = Producer::start(&client, settings).await.expect("started");
        for text in ["a", "b", "c"] {
            let sent = producer.send(&topic, record(text, 0)).await;
            sent.expect("handed over").await.expect("delivered");
        }
        let settings = GroupConsumerSettings {
            group: GroupSettings::new(&format!("{topic}-group")),
            consumer: ConsumerSettings::default(),
            start: OffsetSpec::Beginning,
            commit_interval_ms: None,
        };
        let member = GroupConsumer::subscribe(&client, settings, &[topic]).await;
        let member = member.expect("the client runs");
        let mut seen = BTreeSet::new();
        while seen.len() < 3 {
            // Most of these callers leave before anything came.
            let hasty = tokio::time::timeout(Duration::from_millis(1), member.poll(PATIENCE));
            let polled = match hasty.await {
                Ok(polled) => polled,
                Err(_) => member.poll(Duration::from_millis(20)).await,
            };
            let records = polled.expect("it works").map(|one| one.records);
            for record in records.into_iter().flatten() {
                assert!(seen.insert(record.offset), "{} came twice", record.offset);
            }
        }
        member.commit().await.expect("committed");
        member.close().await.expect("it leaves");
    });
}
