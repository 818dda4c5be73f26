//! The hand-written encoders of Produce and Fetch answers write what the generated decoders read, in
//! every version.

use highwater_base::TopicId;
use highwater_wire::ApiKey;
use highwater_wire::fetch::FetchResponse;
use highwater_wire::fetch_response::{FetchResponseEncoder, FetchedPartition, FetchedTopic};
use highwater_wire::header::decode_response_header;
use highwater_wire::produce::ProduceResponse;
use highwater_wire::produce_response::{ProduceResponseEncoder, ProducedPartition};

const TOPIC_ID: TopicId = TopicId([7; 16]);

/// The body of a whole frame; checks length prefix and header.
fn body(api: ApiKey, version: i16, frame: &[u8]) -> &[u8] {
    let (length, rest) = frame.split_at(4);
    assert_eq!(
        length,
        (rest.len() as u32).to_be_bytes(),
        "{api:?} {version}"
    );
    let (correlation_id, at) = decode_response_header(api, version, rest).expect("a header");
    assert_eq!(correlation_id, 0x0102_0304);
    &rest[at..]
}

#[test]
fn produce() {
    for version in ApiKey::Produce.version_min()..=ApiKey::Produce.version_max() {
        let partitions = [
            ProducedPartition {
                index: 3,
                error_code: 0,
                error_message: None,
                base_offset: 123_456_789_012,
                log_append_time: -1,
                log_start: 17,
            },
            ProducedPartition {
                index: 4,
                error_code: 87,
                error_message: Some("records: no"),
                base_offset: -1,
                log_append_time: 1_700_000_000_000,
                log_start: -1,
            },
        ];
        let encoder = ProduceResponseEncoder::new(version);
        let mut frame = Vec::new();
        encoder.begin(0x0102_0304, 2, &mut frame);
        encoder.topic("orders", TOPIC_ID, 2, &mut frame);
        for partition in &partitions {
            encoder.partition(partition, &mut frame);
        }
        encoder.end_topic(&mut frame);
        encoder.topic("empty", TOPIC_ID, 0, &mut frame);
        encoder.end_topic(&mut frame);
        encoder.finish(&mut frame);

        let bytes = body(ApiKey::Produce, version, &frame);
        let message = ProduceResponse::parse(version, bytes).expect("it decodes");
        let mut again = Vec::new();
        message.encode(version, &mut again).expect("it encodes");
        assert_eq!(again, bytes, "version {version}: nothing left over");
        let topics: Vec<_> = message.responses.iter().collect();
        assert_eq!(topics.len(), 2);
        if version >= 13 {
            assert_eq!(topics[0].topic_id, TOPIC_ID);
        } else {
            assert_eq!(topics[0].name, "orders");
        }
        assert!(topics[1].partition_responses.is_empty());
        for (read, written) in topics[0].partition_responses.iter().zip(&partitions) {
            assert_eq!(read.index, written.index);
            assert_eq!(read.error_code, written.error_code);
            assert_eq!(read.base_offset, written.base_offset);
            assert_eq!(read.log_append_time_ms, written.log_append_time);
            if version >= 5 {
                assert_eq!(read.log_start_offset, written.log_start);
            }
            if version >= 8 {
                assert_eq!(read.error_message, written.error_message);
            }
        }
    }
}

#[test]
fn fetch() {
    for version in ApiKey::Fetch.version_min()..=ApiKey::Fetch.version_max() {
        let records: [&[u8]; 2] = [b"first records", b""];
        let partition = |index: usize, diverging| FetchedPartition {
            index: index as i32,
            error_code: index as i16,
            high_watermark: 1 << 40,
            log_start: 5,
            diverging,
            record_bytes: records[index].len(),
        };
        let partitions = [partition(0, None), partition(1, Some((9, 99)))];
        let encoder = FetchResponseEncoder::new(version);
        let (mut encoded, mut frame, mut written) = (Vec::new(), Vec::new(), 0);
        encoder.begin(0x0102_0304, 71, 5, 1, &mut encoded);
        let topic = FetchedTopic {
            name: "orders",
            topic_id: TOPIC_ID,
            partitions: 2,
        };
        encoder.topic(&topic, &mut encoded);
        for (partition, records) in partitions.iter().zip(records) {
            encoder.partition(partition, &mut encoded);
            written += encoded.len();
            frame.append(&mut encoded);
            frame.extend_from_slice(records);
            encoder.end_partition(partition, &mut encoded);
        }
        encoder.end_topic(&mut encoded);
        encoder.finish(&mut encoded);
        written += encoded.len();
        frame.append(&mut encoded);
        FetchResponseEncoder::set_length(&mut frame, written, records.concat().len());

        let bytes = body(ApiKey::Fetch, version, &frame);
        let message = FetchResponse::parse(version, bytes).expect("it decodes");
        let mut again = Vec::new();
        message.encode(version, &mut again).expect("it encodes");
        assert_eq!(again, bytes, "version {version}: nothing left over");
        if version >= 7 {
            assert_eq!((message.error_code, message.session_id), (71, 5));
        }
        let topics: Vec<_> = message.responses.iter().collect();
        assert_eq!(topics.len(), 1);
        let read: Vec<_> = topics[0].partitions.iter().collect();
        assert_eq!(read.len(), 2);
        for ((read, written), records) in read.iter().zip(&partitions).zip(records) {
            assert_eq!(read.partition_index, written.index);
            assert_eq!(read.error_code, written.error_code);
            assert_eq!(read.high_watermark, written.high_watermark);
            assert_eq!(read.last_stable_offset, written.high_watermark);
            if version >= 5 {
                assert_eq!(read.log_start_offset, written.log_start);
            }
            assert_eq!(read.records.unwrap_or_default(), records);
            if version >= 12 {
                let diverging = (read.diverging_epoch.epoch, read.diverging_epoch.end_offset);
                assert_eq!(diverging, written.diverging.unwrap_or((-1, -1)));
            }
        }
    }
}
