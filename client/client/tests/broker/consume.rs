//! Where a consumer starts, and what it sees from there.

use highwater_base::ErrorCode;
use highwater_client::RecordToSend;
use highwater_client::calls::{DeleteRecords, OffsetSpec};
use highwater_client::consumer::{ConsumerSettings, Start};
use highwater_client::driver::Runtime;
use highwater_client::driver::any_runtime::ConsumerHandle;
use highwater_client::producer::ProducerSettings;

use crate::suite::{PATIENCE, Suite, assert_says, take, values};

pub async fn a_consumer_starts_where_it_is_told<R: Runtime>(suite: Suite<R>) {
    let topic = suite.topic("start", 1).await;
    let producer = suite.producer(ProducerSettings::default());
    let began_ms = suite.client.now().wall_ms - 100_000;
    for number in 0..10 {
        let text = number.to_string();
        let record = RecordToSend {
            value: Some(text.as_bytes()),
            timestamp: Some(began_ms + number * 1_000),
            ..RecordToSend::default()
        };
        let sent = producer.send_and_wait(&topic, &record).await;
        assert_eq!(sent, Ok((0, Some(number))));
    }
    let first_from = async |start| {
        let read = suite.read(&topic, 0, start, 1).await;
        values(&read)[0].clone()
    };
    assert_eq!(first_from(Start::At(OffsetSpec::Beginning)).await, "0");
    assert_eq!(first_from(Start::Offset(7)).await, "7");
    let between = OffsetSpec::Timestamp(began_ms + 3_500);
    assert_eq!(first_from(Start::At(between)).await, "4");

    let at_end = suite
        .consumer(&topic, &[0], Start::At(OffsetSpec::End))
        .await;
    let nothing = R::timeout(PATIENCE, at_end.next_before_end()).await;
    assert_eq!(nothing, Some(Ok(None)), "the end is the end");
    let record = RecordToSend {
        value: Some(b"new"),
        ..RecordToSend::default()
    };
    let sent = producer.send_and_wait(&topic, &record).await;
    sent.expect("delivered");
    assert_eq!(values(&take(&at_end, 1).await), ["new"]);

    for (spec, expected) in [
        (OffsetSpec::Beginning, Some(0)),
        (OffsetSpec::End, Some(11)),
        (OffsetSpec::Timestamp(began_ms + 9_000), Some(9)),
        (
            OffsetSpec::Timestamp(suite.client.now().wall_ms + 1_000_000),
            None,
        ),
    ] {
        let found = suite.client.list_offsets(&topic, spec).await;
        assert_eq!(found.expect("offsets").get(&0), Some(&Ok(expected)));
    }
}

pub async fn a_position_that_is_gone_fails_or_moves<R: Runtime>(suite: Suite<R>) {
    let topic = suite.topic("range", 1).await;
    suite.fill(&topic, 0, &["a", "b", "c", "d"]).await;
    let delete = DeleteRecords {
        topic: topic.clone(),
        partition: 0,
        before: 2,
    };
    let low = suite.client.call_leader(&topic, 0, &delete).await;
    assert_eq!(low, Ok(2));
    for gone in [0, 100] {
        let consumer = suite.consumer(&topic, &[0], Start::Offset(gone)).await;
        let failed = R::timeout(PATIENCE, consumer.next()).await;
        let error = failed.expect("in time").expect_err("it is not there");
        assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
        assert_says(&error, &[&topic, "topic describe"]);
    }
    let settings = ConsumerSettings {
        out_of_range: Some(OffsetSpec::Beginning),
        ..ConsumerSettings::default()
    };
    let start = Start::Offset(0);
    let consumer = ConsumerHandle::start(&suite.client, settings, &topic, &[0], start).await;
    let consumer = consumer.expect("a consumer");
    assert_eq!(values(&take(&consumer, 2).await), ["c", "d"]);
}

pub async fn a_consumer_gets_what_comes_later<R: Runtime>(suite: Suite<R>) {
    let topic = suite.topic("later", 3).await;
    let start = Start::At(OffsetSpec::Beginning);
    let consumer = suite.consumer(&topic, &[0, 1, 2], start).await;
    for (partition, text) in [(2, "x"), (0, "y"), (1, "z")] {
        suite.fill(&topic, partition, &[text]).await;
        let next = R::timeout(PATIENCE, consumer.next()).await;
        let fetched = next.expect("in time").expect("records");
        assert_eq!(*fetched.topic, *topic);
        assert_eq!(fetched.partition, partition);
        assert_eq!(values(&fetched.records), [text]);
    }
}
