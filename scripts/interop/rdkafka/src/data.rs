//! Checks of producing and consuming.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::broker::{compressible, incompressible, numbered, poll, verify, Broker, Record, LIMIT};
use crate::Outcome;

const KIB: usize = 1024;

/// Runs the check of that name, if it is one of these.
pub fn check(broker: &Broker, name: &str) -> Option<Outcome> {
    match name {
        "create" => assert_eq!(
            broker.leaders(&broker.create("create", 3, &[])),
            3,
            "partitions"
        ),
        "acks-all" => acks(broker, "all"),
        "acks-1" => acks(broker, "1"),
        "acks-0" => acks(broker, "0"),
        "idempotence" => idempotence(broker),
        "content" => content(broker),
        "partitions" => partitions(broker),
        "many-records" => many_records(broker),
        "large-record" => large_record(broker),
        "from-start" => from_start(broker),
        "from-end" => from_end(broker),
        "from-timestamp" => from_timestamp(broker, "none"),
        "from-timestamp-gzip" => from_timestamp(broker, "gzip"),
        "offset-out-of-range" => offset_out_of_range(broker),
        _ => codec(broker, name.strip_prefix("codec-")?),
    }
    Some(Outcome::Shown)
}

fn round_trip(broker: &Broker, name: &str, count: i32, records: &[Record]) {
    let topic = broker.create(name, count, &[]);
    broker.send(&topic, records);
    let read = broker
        .read(&topic, count, Offset::Beginning, records.len())
        .expect("read");
    verify(&read, records, 0);
}

fn acks(broker: &Broker, acks: &str) {
    let topic = broker.create(&format!("acks-{acks}"), 1, &[]);
    let records = numbered(100, 0, "value");
    let offsets = broker
        .produce(&topic, &records, &[("acks", acks)])
        .expect("produced");
    if acks != "0" {
        assert_eq!(
            offsets,
            (0..100).collect::<Vec<i64>>(),
            "acknowledged offsets"
        );
    }
    verify(
        &broker
            .read(&topic, 1, Offset::Beginning, 100)
            .expect("read"),
        &records,
        0,
    );
}

fn idempotence(broker: &Broker) {
    let topic = broker.create("idempotence", 1, &[]);
    let records = numbered(1000, 0, "value");
    let how = [
        ("enable.idempotence", "true"),
        ("batch.num.messages", "10"),
        ("linger.ms", "0"),
    ];
    let offsets = broker.produce(&topic, &records, &how).expect("produced");
    assert_eq!(
        offsets,
        (0..1000).collect::<Vec<i64>>(),
        "acknowledged offsets"
    );
    verify(
        &broker
            .read(&topic, 1, Offset::Beginning, 1000)
            .expect("read"),
        &records,
        0,
    );
}

fn codec(broker: &Broker, codec: &str) {
    let topic = broker.create(&format!("codec-{codec}"), 1, &[]);
    let value = |size| Record {
        value: Some(compressible(size)),
        ..Record::default()
    };
    let mut records = vec![value(2 * KIB); 50];
    let how = [
        ("compression.type", codec),
        ("message.max.bytes", "4194304"),
    ];
    broker.produce(&topic, &records, &how).expect("produced");
    if codec != "none" {
        // Above the default max.message.bytes unless the client compressed it.
        records.push(value(2 * KIB * KIB));
        broker
            .produce(&topic, &records[50..], &how)
            .expect("produced, compressed");
    }
    let read = broker
        .read(&topic, 1, Offset::Beginning, records.len())
        .expect("read");
    verify(&read, &records, 0);
}

fn content(broker: &Broker) {
    let record = |key: Option<&[u8]>, value: Option<&[u8]>| Record {
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        ..Record::default()
    };
    let every: Vec<u8> = (0..=255).collect();
    let mut headed = record(Some(b"key"), Some(b"value"));
    headed.headers = vec![
        ("a", Some(b"1".to_vec())),
        ("a", Some(b"2".to_vec())),
        ("empty", Some(Vec::new())),
        ("null", None),
        ("schl\u{fc}ssel", Some(vec![0, 255])),
    ];
    let records = [
        headed,
        record(None, Some(b"null key")),
        record(Some(b""), Some(b"empty key")),
        record(Some(b"null value"), None),
        record(Some(b"empty value"), Some(b"")),
        record(Some(&every), Some(&every)),
        record(
            Some("\u{448}\u{43b}\u{44e}\u{437}".as_bytes()),
            Some("\u{1f30a}".as_bytes()),
        ),
    ];
    round_trip(broker, "content", 1, &records);
}

fn partitions(broker: &Broker) {
    let records: Vec<Record> = (0..3)
        .flat_map(|partition| numbered(100 + partition as usize, partition, "value"))
        .collect();
    round_trip(broker, "partitions", 3, &records);
}

fn many_records(broker: &Broker) {
    let records: Vec<Record> = [7000, 7000, 6000]
        .iter()
        .zip(0..)
        .flat_map(|(&n, at)| numbered(n, at, "value"))
        .collect();
    round_trip(broker, "many-records", 3, &records);
}

fn large_record(broker: &Broker) {
    let large = Record {
        value: Some(incompressible(900 * KIB)),
        ..Record::default()
    };
    round_trip(
        broker,
        "large-record",
        1,
        &[large, numbered(1, 0, "after").remove(0)],
    );
}

fn from_start(broker: &Broker) {
    let topic = broker.create("from-start", 1, &[]);
    let mut records = numbered(10, 0, "first");
    records.extend(numbered(10, 0, "second"));
    broker.send(&topic, &records[..10]);
    broker.send(&topic, &records[10..]);
    verify(
        &broker.read(&topic, 1, Offset::Beginning, 20).expect("read"),
        &records,
        0,
    );
    verify(
        &broker.read(&topic, 1, Offset::Offset(13), 7).expect("read"),
        &records[13..],
        13,
    );
}

fn from_end(broker: &Broker) {
    let topic = broker.create("from-end", 1, &[]);
    broker.send(&topic, &numbered(10, 0, "before"));
    let consumer = broker.consumer();
    let mut end = TopicPartitionList::new();
    end.add_partition_offset(&topic, 0, Offset::End)
        .expect("valid");
    consumer.assign(&end).expect("assigned");
    // Until it is positioned, the end would be wherever the log ends by then.
    assert!(
        consumer.poll(Duration::from_secs(1)).is_none(),
        "a record before the end"
    );
    let after = numbered(10, 0, "after");
    broker.send(&topic, &after);
    verify(&poll(&consumer, 10).expect("read"), &after, 10);
}

fn from_timestamp(broker: &Broker, codec: &str) {
    let topic = broker.create(&format!("from-timestamp-{codec}"), 1, &[]);
    let base = 1_700_000_000_000_i64;
    let mut records = numbered(20, 0, "value");
    for (record, at) in records.iter_mut().zip(0..) {
        record.timestamp_ms = Some(base + 1000 * at);
    }
    for part in records.chunks(10) {
        broker
            .produce(&topic, part, &[("compression.type", codec)])
            .expect("produced");
    }
    let consumer = broker.consumer();
    for (age, offset) in [
        (-1, Offset::Offset(0)),
        (7000, Offset::Offset(7)),
        (12_500, Offset::Offset(13)),
        (19_001, Offset::End),
    ] {
        let mut asked = TopicPartitionList::new();
        asked
            .add_partition_offset(&topic, 0, Offset::Offset(base + age))
            .expect("valid");
        let found = consumer.offsets_for_times(asked, LIMIT).expect("answered");
        assert_eq!(
            found.elements()[0].offset(),
            offset,
            "offset for base{age:+}"
        );
    }
    verify(
        &broker.read(&topic, 1, Offset::Offset(7), 13).expect("read"),
        &records[7..],
        7,
    );
}

fn offset_out_of_range(broker: &Broker) {
    let topic = broker.create("offset-out-of-range", 1, &[]);
    broker.send(&topic, &numbered(5, 0, "value"));
    let started = Instant::now();
    let error = broker
        .read(&topic, 1, Offset::Offset(1000), 1)
        .expect_err("beyond the end");
    let code = error.rdkafka_error_code();
    let known = [
        RDKafkaErrorCode::OffsetOutOfRange,
        RDKafkaErrorCode::AutoOffsetReset,
    ];
    assert!(code.is_some_and(|code| known.contains(&code)), "{error}");
    assert!(started.elapsed() < LIMIT, "told too late");
}
