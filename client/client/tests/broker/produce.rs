//! What becomes of records that are sent.

use highwater_base::ErrorCode;
use highwater_client::calls::OffsetSpec;
use highwater_client::consumer::Start;
use highwater_client::driver::Runtime;
use highwater_client::partitioner::Partitioner;
use highwater_client::producer::{Acks, ProducerSettings};
use highwater_client::{ClientError, FetchedRecord, RecordToSend};
use highwater_wire::compression::Codec;

use crate::suite::{Suite, assert_says, values};

const BEGINNING: Start = Start::At(OffsetSpec::Beginning);
const MEGABYTE: usize = 1024 * 1024;

fn value_of(bytes: &[u8]) -> RecordToSend<'_> {
    RecordToSend {
        value: Some(bytes),
        partition: Some(0),
        ..RecordToSend::default()
    }
}

pub async fn records_of_every_codec_come_back_whole<R: Runtime>(suite: Suite<R>) {
    let long = "highwater ".repeat(500);
    let headers: [(&str, Option<&[u8]>); 3] = [
        ("name", Some(b"value")),
        ("empty", Some(b"")),
        ("null", None),
    ];
    for codec in [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ] {
        let topic = suite.topic("codec", 1).await;
        let producer = suite.producer(ProducerSettings {
            codec,
            ..ProducerSettings::default()
        });
        let sent = [
            RecordToSend {
                key: Some(b"key"),
                headers: &headers,
                timestamp: Some(1_700_000_000_123),
                ..value_of(long.as_bytes())
            },
            RecordToSend {
                key: Some(b"tombstone"),
                value: None,
                ..value_of(b"")
            },
            RecordToSend {
                key: Some(b""),
                ..value_of(b"")
            },
            value_of(b"no key"),
        ];
        let mut deliveries = Vec::new();
        for record in &sent {
            let queued = producer.send_with_delivery(&topic, record).await;
            deliveries.push(queued.expect("queued"));
        }
        for (offset, delivery) in deliveries.into_iter().enumerate() {
            assert_eq!(delivery.await, Ok((0, Some(offset as i64))), "{codec:?}");
        }
        let read = suite.read(&topic, 0, BEGINNING, sent.len()).await;
        for (offset, (record, found)) in sent.iter().zip(&read).enumerate() {
            assert_eq!(found.offset, offset as i64, "{codec:?}");
            assert_same(record, found);
        }
    }
}

fn assert_same(sent: &RecordToSend<'_>, found: &FetchedRecord) {
    assert_eq!(found.key.as_deref(), sent.key);
    assert_eq!(found.value.as_deref(), sent.value);
    if let Some(timestamp) = sent.timestamp {
        assert_eq!(found.timestamp, timestamp);
    }
    let headers = sent.headers.iter();
    let headers: Vec<(String, Option<Vec<u8>>)> = headers
        .map(|(name, value)| (name.to_string(), value.map(<[u8]>::to_vec)))
        .collect();
    assert_eq!(found.headers, headers);
}

pub async fn every_kind_of_acknowledgement_delivers<R: Runtime>(suite: Suite<R>) {
    for acks in [Acks::None, Acks::Leader, Acks::All] {
        let topic = suite.topic("acks", 1).await;
        let producer = suite.producer(ProducerSettings {
            acks,
            ..ProducerSettings::default()
        });
        let sent = producer.send_and_wait(&topic, &value_of(b"v")).await;
        let offset = (acks != Acks::None).then_some(0);
        assert_eq!(sent, Ok((0, offset)), "{acks:?}");
        assert_eq!(
            values(&suite.read(&topic, 0, BEGINNING, 1).await),
            ["v"],
            "{acks:?}"
        );
    }
}

pub async fn an_idempotent_producer_keeps_order_with_five_in_flight<R: Runtime>(suite: Suite<R>) {
    const RECORDS: usize = 5_000;
    let topic = suite.topic("order", 2).await;
    let producer = suite.producer(ProducerSettings {
        // Many small batches, so that five are in flight most of the time.
        batch_bytes_max: 500,
        in_flight_per_partition_max: 5,
        buffer_bytes_max: 16 * 1024,
        ..ProducerSettings::default()
    });
    let mut deliveries = Vec::new();
    for number in 0..RECORDS {
        let text = number.to_string();
        let record = RecordToSend {
            value: Some(text.as_bytes()),
            partition: Some((number % 2) as i32),
            ..RecordToSend::default()
        };
        let delivery = producer.send_with_delivery(&topic, &record).await;
        deliveries.push(delivery.expect("queued"));
    }
    for (number, delivery) in deliveries.into_iter().enumerate() {
        let expected = ((number % 2) as i32, Some(number as i64 / 2));
        assert_eq!(delivery.await, Ok(expected), "record {number}");
    }
    for (partition, read) in suite.read_everything(&topic, 2).await {
        let expected: Vec<String> = (0..RECORDS)
            .filter(|number| (number % 2) as i32 == partition)
            .map(|number| number.to_string())
            .collect();
        assert_eq!(values(&read), expected, "partition {partition}");
    }
}

pub async fn a_record_too_large_is_refused_where_the_limit_is<R: Runtime>(suite: Suite<R>) {
    let topic = suite.topic("large", 1).await;
    let bytes = vec![b'x'; 2 * MEGABYTE];
    let producer = suite.producer(ProducerSettings::default());
    let error = producer.send_and_wait(&topic, &value_of(&bytes)).await;
    let error = error.expect_err("above the client's limit");
    assert!(
        matches!(error, ClientError::RecordTooLarge { .. }),
        "{error}"
    );
    assert_says(&error, &["batch_bytes_max", "raise it or send less"]);

    let producer = suite.producer(ProducerSettings {
        batch_bytes_max: 4 * MEGABYTE,
        ..ProducerSettings::default()
    });
    let error = producer.send_and_wait(&topic, &value_of(&bytes)).await;
    let error = error.expect_err("above the broker's limit");
    assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge), "{error}");
    assert_says(&error, &[&topic, "max.message.bytes"]);
    // The next record is none the worse for it.
    let sent = producer.send_and_wait(&topic, &value_of(b"small")).await;
    assert_eq!(sent, Ok((0, Some(0))));
}

pub async fn a_record_of_a_megabyte_is_taken_where_the_topic_allows_it<R: Runtime>(
    suite: Suite<R>,
) {
    let limit = (2 * MEGABYTE).to_string();
    let topic = suite
        .topic_with("megabyte", 1, &[("max.message.bytes", &limit)])
        .await;
    let bytes: Vec<u8> = (0..MEGABYTE as u32)
        .map(|at| ((at * 31) >> 3) as u8)
        .collect();
    let producer = suite.producer(ProducerSettings {
        batch_bytes_max: MEGABYTE + MEGABYTE / 2,
        ..ProducerSettings::default()
    });
    let sent = producer.send_and_wait(&topic, &value_of(&bytes)).await;
    assert_eq!(sent, Ok((0, Some(0))));
    let read = suite.read(&topic, 0, BEGINNING, 1).await;
    assert!(
        read[0].value.as_deref() == Some(&bytes[..]),
        "the same bytes"
    );
}

/// Partitions of seven, by the hashes that librdkafka's own test of its partitioners names.
pub async fn every_partitioner_agrees_with_other_clients<R: Runtime>(suite: Suite<R>) {
    let keys: [&[u8]; 3] = [
        b"23456",
        b"this is another string with more length to it perhaps",
        b"hejsan",
    ];
    let known = [
        (
            Partitioner::Murmur2,
            [0x058d_780f_u32, 0x4f77_03da, 0x5ec1_9395],
        ),
        (
            Partitioner::ConsistentRandom,
            [0xb1b4_51d7, 0xb015_0df7, 0xd077_037e],
        ),
        (Partitioner::Fnv1a, [0x27e6_f469, 0x155e_3e5f, 0x17b1_e27a]),
    ];
    let topic = suite.topic("partitioner", 7).await;
    for (partitioner, hashes) in known {
        let producer = suite.producer(ProducerSettings {
            partitioner,
            ..ProducerSettings::default()
        });
        for (key, hash) in keys.iter().zip(hashes) {
            let record = RecordToSend {
                key: Some(key),
                ..RecordToSend::default()
            };
            let sent = producer.send_and_wait(&topic, &record).await;
            let (partition, _) = sent.expect("delivered");
            assert_eq!(partition, (hash % 7) as i32, "{partitioner:?}");
        }
    }
}

pub async fn deliveries_come_to_whoever_waits<R: Runtime>(suite: Suite<R>) {
    let topic = suite.topic("delivery", 1).await;
    let producer = suite.producer(ProducerSettings::default());
    let mut deliveries = Vec::new();
    for number in 0..100 {
        let record = value_of(b"v");
        let delivery = producer.send_with_delivery(&topic, &record).await;
        let delivery = delivery.expect("queued");
        // Every other one is dropped: its record is sent all the same.
        if number % 2 == 0 {
            deliveries.push((number, delivery));
        }
    }
    // Last first: none depends on another being polled.
    for (number, delivery) in deliveries.into_iter().rev() {
        let settled = R::timeout(crate::suite::PATIENCE, delivery).await;
        assert_eq!(settled, Some(Ok((0, Some(number)))));
    }
    producer.flush().await;
    assert_eq!(suite.read(&topic, 0, BEGINNING, 100).await.len(), 100);
}
