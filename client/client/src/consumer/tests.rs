//! Stories of a consumer and a scripted broker: start offsets, skipping, prefetching, failures.

use highwater_base::record_batch::patch_offset_and_epoch;
use highwater_base::{Epoch, Offset};
use highwater_wire::compression::Codec;
use highwater_wire::fetch::FetchableTopicResponse;
use highwater_wire::records::RecordBatchBuilder;

use super::*;
use crate::metadata::tests::answer;

const VERSION: i16 = 12;

struct Story {
    consumer: Consumer,
    metadata: MetadataCache,
    now: Now,
}

/// A batch of `count` records from `base` on, values `v<offset>`.
fn batch(base: i64, count: i64, codec: Codec) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new();
    for offset in base..base + count {
        builder.append(
            1000 + offset,
            None,
            Some(format!("v{offset}").as_bytes()),
            &[],
        );
    }
    let mut bytes = builder.finish_compressed(codec).expect("compresses");
    patch_offset_and_epoch(&mut bytes, Offset(base), Epoch(0));
    bytes
}

impl Story {
    fn new(start: Start) -> Story {
        let mut metadata = MetadataCache::default();
        metadata.update(answer("t", &[(1, 3)]));
        let mut consumer = Consumer::new(ConsumerSettings::default());
        consumer.assign("t", 0, start);
        Story {
            consumer,
            metadata,
            now: Now {
                monotonic_ns: 1,
                wall_ms: 0,
            },
        }
    }

    fn poll_request(&mut self) -> Option<ConsumerRequest> {
        self.consumer
            .poll_request(self.now, &self.metadata, &mut |_| true)
    }

    /// Expects a fetch from `offset` on.
    fn fetches(&mut self, offset: i64) -> u64 {
        let Some(ConsumerRequest::Fetch { request, broker: 1 }) = self.poll_request() else {
            panic!("a fetch from broker 1");
        };
        let mut body = Vec::new();
        self.consumer
            .encode_fetch(request, VERSION, &mut body)
            .expect("fits");
        let decoded = FetchRequest::parse(VERSION, &body).expect("decodes");
        let topics: Vec<_> = decoded.topics.iter().collect();
        assert_eq!(topics.len(), 1);
        let partitions: Vec<_> = topics[0].partitions.iter().collect();
        assert_eq!((partitions.len(), partitions[0].fetch_offset), (1, offset));
        assert_eq!(
            partitions[0].current_leader_epoch, 3,
            "so that an old leader refuses"
        );
        request
    }

    fn answers(&mut self, request: u64, code: ErrorCode, high_watermark: i64, records: &[u8]) {
        let partitions = [PartitionData {
            error_code: code.code(),
            high_watermark,
            records: Some(records),
            ..Default::default()
        }];
        let responses = [FetchableTopicResponse {
            topic: "t",
            partitions: Array::from(&partitions),
            ..Default::default()
        }];
        let response = FetchResponse {
            responses: Array::from(&responses),
            ..Default::default()
        };
        let mut body = Vec::new();
        response.encode(VERSION, &mut body).expect("fits");
        self.consumer
            .handle_fetch(self.now, request, VERSION, &body)
            .expect("decodes");
    }

    fn offsets(&mut self) -> Vec<i64> {
        let mut offsets = Vec::new();
        while let Some(fetched) = self.consumer.poll().expect("goes on") {
            for record in fetched.records {
                let value = format!("v{}", record.offset).into_bytes();
                assert_eq!(record.value, Some(value));
                assert_eq!(record.timestamp, 1000 + record.offset);
                offsets.push(record.offset);
            }
        }
        offsets
    }
}

#[test]
fn every_codec_is_unpacked_and_records_below_the_start_are_skipped() {
    for codec in Codec::ALL {
        let mut story = Story::new(Start::Offset(12));
        let request = story.fetches(12);
        let mut records = batch(10, 5, codec);
        records.extend(batch(15, 2, codec));
        let cut = batch(17, 4, codec);
        records.extend(&cut[..cut.len() - 1]);
        story.answers(request, ErrorCode::None, 21, &records);
        assert_eq!(story.offsets(), [12, 13, 14, 15, 16], "{}", codec.name());
        assert!(!story.consumer.reached_end());
        let request = story.fetches(17);
        story.answers(request, ErrorCode::None, 21, &cut);
        assert_eq!(story.offsets(), [17, 18, 19, 20]);
        assert!(story.consumer.reached_end());
    }
}

#[test]
fn one_fetch_is_prefetched_and_not_more() {
    let mut story = Story::new(Start::Offset(0));
    let request = story.fetches(0);
    assert!(story.poll_request().is_none(), "one fetch per broker");
    story.answers(request, ErrorCode::None, 9, &batch(0, 3, Codec::None));
    let request = story.fetches(3);
    story.answers(request, ErrorCode::None, 9, &batch(3, 3, Codec::None));
    assert!(
        story.poll_request().is_none(),
        "two answers wait for the caller"
    );
    assert_eq!(story.offsets(), [0, 1, 2, 3, 4, 5]);
    story.fetches(6);
}

#[test]
fn a_start_in_time_falls_back_to_the_end() {
    let mut story = Story::new(Start::At(OffsetSpec::Timestamp(5)));
    let found = |offset| {
        vec![OffsetAt {
            partition: 0,
            offset: Ok(offset),
            timestamp: -1,
        }]
    };
    let Some(ConsumerRequest::Offsets {
        request,
        broker: 1,
        call,
    }) = story.poll_request()
    else {
        panic!("a look-up");
    };
    assert_eq!(
        (call.spec, call.partitions),
        (OffsetSpec::Timestamp(5), vec![0])
    );
    assert!(story.poll_request().is_none(), "it is asked once");
    story
        .consumer
        .handle_offsets(story.now, request, found(None));
    let Some(ConsumerRequest::Offsets { request, call, .. }) = story.poll_request() else {
        panic!("a look-up of the end");
    };
    assert_eq!(call.spec, OffsetSpec::End);
    story
        .consumer
        .handle_offsets(story.now, request, found(Some(42)));
    story.fetches(42);
    assert_eq!(story.consumer.position("t", 0), Some(42));
}

#[test]
fn a_moved_leader_is_asked_for_again_and_a_lost_offset_is_told() {
    let mut story = Story::new(Start::Offset(5));
    let request = story.fetches(5);
    story.answers(request, ErrorCode::NotLeaderOrFollower, -1, &[]);
    assert_eq!(story.consumer.take_metadata_wanted(), ["t"]);
    assert!(story.poll_request().is_none(), "the backoff lasts");
    story.now.monotonic_ns += 5_000_000_000;
    let request = story.fetches(5);
    let lost = ClientError::Timeout {
        what: "Fetch",
        timeout_ms: 1,
    };
    story.consumer.handle_failure(story.now, request, &lost);
    story.now.monotonic_ns += 5_000_000_000;
    let request = story.fetches(5);
    story.answers(request, ErrorCode::OffsetOutOfRange, -1, &[]);
    let error = story.consumer.poll().expect_err("told");
    assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
    assert_eq!(story.consumer.poll(), Ok(None), "told once");
    assert!(story.poll_request().is_none());
}

#[test]
fn damage_is_told_with_its_place() {
    let mut story = Story::new(Start::Offset(0));
    let request = story.fetches(0);
    let mut records = batch(0, 3, Codec::None);
    let last = records.len() - 1;
    records[last] ^= 1;
    story.answers(request, ErrorCode::None, 3, &records);
    let error = story.consumer.poll().expect_err("told");
    let is_it = matches!(&error, ClientError::CorruptBatch { offset: 0, reason, .. }
        if reason.contains("CRC"));
    assert!(is_it, "{error}");
}

#[test]
fn a_failure_that_no_retry_mends_is_told_and_not_retried() {
    let fatal = [
        ClientError::NoCommonVersion {
            api: "Fetch".to_string(),
            broker: "none".to_string(),
            client: "4 to 12".to_string(),
        },
        ClientError::Protocol {
            address: "h:9092".to_string(),
            reason: "no frame".to_string(),
        },
        ClientError::from_code("t-0", ErrorCode::TopicAuthorizationFailed.code(), None)
            .expect("an error"),
    ];
    for error in fatal {
        for start in [Start::Offset(5), Start::At(OffsetSpec::End)] {
            let mut story = Story::new(start);
            let request = match story.poll_request().expect("something to ask") {
                ConsumerRequest::Fetch { request, .. }
                | ConsumerRequest::Offsets { request, .. } => request,
            };
            story.consumer.handle_failure(story.now, request, &error);
            assert_eq!(story.consumer.poll(), Err(error.clone()));
            story.now.monotonic_ns += 5_000_000_000;
            assert!(story.poll_request().is_none(), "not asked again");
        }
    }
}

#[test]
fn waiting_has_a_reason_until_an_attempt_succeeds() {
    let mut story = Story::new(Start::Offset(5));
    let request = story.fetches(5);
    assert_eq!(story.consumer.trouble(), None);
    let lost = ClientError::Disconnected {
        address: "h:9092".to_string(),
        reason: "reset".to_string(),
    };
    story.consumer.handle_failure(story.now, request, &lost);
    assert_eq!(story.consumer.trouble(), Some(&lost));
    assert_eq!(story.consumer.poll(), Ok(None), "it may pass");
    story.now.monotonic_ns += 5_000_000_000;
    let request = story.fetches(5);
    assert_eq!(story.consumer.trouble(), Some(&lost), "until an answer");
    story.answers(request, ErrorCode::None, 5, &[]);
    assert_eq!(story.consumer.trouble(), None);
}

#[test]
fn a_partition_that_an_answer_leaves_out_is_not_asked_for_at_once() {
    let mut story = Story::new(Start::Offset(5));
    let request = story.fetches(5);
    let mut body = Vec::new();
    FetchResponse::default()
        .encode(VERSION, &mut body)
        .expect("fits");
    story
        .consumer
        .handle_fetch(story.now, request, VERSION, &body)
        .expect("decodes");
    assert!(story.poll_request().is_none(), "the backoff lasts");
    story.now.monotonic_ns += 5_000_000_000;
    story.fetches(5);
}

#[test]
fn what_was_fetched_before_a_failure_is_seen_before_it() {
    let mut story = Story::new(Start::Offset(0));
    let request = story.fetches(0);
    story.answers(request, ErrorCode::None, 9, &batch(0, 3, Codec::None));
    let request = story.fetches(3);
    let mut damaged = batch(3, 3, Codec::None);
    damaged.truncate(20);
    story.answers(request, ErrorCode::None, 9, &damaged);
    assert!(story.poll_request().is_none(), "it cannot go on");
    let first = story.consumer.poll().expect("records").expect("a batch");
    assert_eq!(first.records.len(), 3);
    assert_eq!(story.consumer.position("t", 0), Some(3));
    let error = story.consumer.poll().expect_err("told");
    assert!(
        matches!(error, ClientError::CorruptBatch { offset: 3, .. }),
        "whoever starts behind it misses nothing: {error}"
    );
    assert_eq!(story.consumer.poll(), Ok(None), "told once");
    assert!(story.consumer.reached_end());
}
