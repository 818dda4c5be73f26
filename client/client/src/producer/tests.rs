//! Stories of a producer and a scripted broker: order, retries, duplicates, identities.

use highwater_base::{BatchHeader, ErrorCode, Now};
use highwater_wire::Array;
use highwater_wire::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};

use super::*;
use crate::metadata::tests::answer;

const VERSION: i16 = 9;

struct Story {
    producer: Producer,
    metadata: MetadataCache,
    now: Now,
    tokens: u64,
}

/// A base offset, or the code of an error that has one.
type Outcome = Result<Option<i64>, Option<ErrorCode>>;

/// What a request held for one partition.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    partition: i32,
    producer_id: i64,
    sequence: i32,
    records: i32,
}

impl Story {
    fn new(settings: ProducerSettings, leaders: &[(i32, i32)]) -> Story {
        let mut metadata = MetadataCache::default();
        metadata.update(answer("t", leaders));
        let now = Now {
            monotonic_ns: 1,
            wall_ms: 1000,
        };
        let mut story = Story {
            producer: Producer::new(settings),
            metadata,
            now,
            tokens: 0,
        };
        story.identify(7);
        story
    }

    fn idempotent() -> Story {
        Story::new(ProducerSettings::default(), &[(1, 0)])
    }

    /// An idempotent producer whose identity the broker knows: one record was acknowledged.
    fn acknowledged() -> Story {
        let mut story = Story::idempotent();
        let plan = story.leaves_alone(0);
        story.answer(plan, ErrorCode::None, 0);
        assert_eq!(story.delivered(), [(vec![1], Ok(Some(0)))]);
        story
    }

    /// Gives the producer an id when it asks for one.
    fn identify(&mut self, id: i64) -> bool {
        let asked = self.producer.poll_identity(self.now);
        if asked {
            self.producer
                .handle_identity(self.now, Ok(ProducerIdentity { id, epoch: 0 }));
        }
        asked
    }

    fn send(&mut self, record: &RecordToSend<'_>) -> Result<i32, ClientError> {
        self.tokens += 1;
        self.producer
            .send(self.now, &self.metadata, "t", record, self.tokens)
    }

    fn value(&mut self) {
        let record = RecordToSend {
            value: Some(b"v"),
            partition: Some(0),
            ..Default::default()
        };
        self.send(&record).expect("room");
        self.identify(7);
    }

    fn poll(&mut self) -> Option<(ProduceRequestPlan, Vec<Sent>)> {
        let plan = self
            .producer
            .poll_request(self.now, &self.metadata, &mut |_| true)?;
        let mut body = Vec::new();
        self.producer
            .encode_request(&plan, VERSION, &mut body)
            .expect("fits");
        let request = ProduceRequest::parse(VERSION, &body).expect("decodes");
        let partitions = request
            .topic_data
            .iter()
            .flat_map(|topic| topic.partition_data.iter());
        let sent = partitions.map(|partition| {
            let batch = partition.records.expect("records");
            let header = BatchHeader::parse(batch).expect("a batch");
            header.verify_crc(batch).expect("a valid CRC");
            Sent {
                partition: partition.index,
                producer_id: header.producer_id,
                sequence: header.base_sequence,
                records: header.record_count,
            }
        });
        Some((plan, sent.collect()))
    }

    /// Sends one record and expects it to leave alone in its batch.
    fn leaves_alone(&mut self, sequence: i32) -> ProduceRequestPlan {
        self.value();
        self.resends(7, sequence)
    }

    fn resends(&mut self, producer_id: i64, sequence: i32) -> ProduceRequestPlan {
        let (plan, sent) = self.poll().expect("a request");
        assert_eq!(
            sent,
            [Sent {
                partition: 0,
                producer_id,
                sequence,
                records: 1
            }]
        );
        plan
    }

    fn answer(&mut self, plan: ProduceRequestPlan, code: ErrorCode, base_offset: i64) {
        let partition = PartitionProduceResponse {
            index: 0,
            error_code: code.code(),
            base_offset,
            ..Default::default()
        };
        let partitions = [partition];
        let topics = [TopicProduceResponse {
            name: "t",
            partition_responses: Array::from(&partitions),
            ..Default::default()
        }];
        let response = ProduceResponse {
            responses: Array::from(&topics),
            ..Default::default()
        };
        let mut body = Vec::new();
        response.encode(VERSION, &mut body).expect("fits");
        self.producer
            .handle_response(self.now, plan.request, VERSION, &body)
            .expect("decodes");
    }

    fn later(&mut self, ms: u64) {
        self.now.monotonic_ns += ms * 1_000_000;
    }

    /// Tokens and base offset, or the error's code, of everything delivered so far.
    fn delivered(&mut self) -> Vec<(Vec<u64>, Outcome)> {
        std::iter::from_fn(|| self.producer.poll_delivery())
            .map(|delivery| {
                let outcome = delivery.outcome.map(|receipt| receipt.base_offset);
                (delivery.tokens, outcome.map_err(|error| error.code()))
            })
            .collect()
    }
}

#[test]
fn a_lone_record_leaves_at_once_and_what_gathers_leaves_together() {
    let mut story = Story::acknowledged();
    let plans: Vec<_> = (1..6)
        .map(|sequence| story.leaves_alone(sequence))
        .collect();
    story.value();
    story.value();
    story.value();
    assert!(story.poll().is_none(), "five batches are in flight");
    story.answer(plans[0], ErrorCode::None, 100);
    let (_, sent) = story.poll().expect("a slot is free");
    assert_eq!(
        sent,
        [Sent {
            partition: 0,
            producer_id: 7,
            sequence: 6,
            records: 3
        }]
    );
    assert_eq!(story.delivered(), [(vec![2], Ok(Some(100)))]);
}

#[test]
fn retries_keep_order_and_sequences() {
    let mut story = Story::acknowledged();
    let first = story.leaves_alone(1);
    let second = story.leaves_alone(2);
    story.answer(first, ErrorCode::NotLeaderOrFollower, -1);
    assert_eq!(story.producer.take_metadata_wanted(), ["t"]);
    story.later(5000);
    story.value();
    assert!(
        story.poll().is_none(),
        "the second batch is still in flight"
    );
    story.answer(second, ErrorCode::OutOfOrderSequenceNumber, -1);
    assert!(story.poll().is_none(), "the backoff lasts");
    story.later(5000);
    let first = story.resends(7, 1);
    let second = story.resends(7, 2);
    let third = story.resends(7, 3);
    for (plan, offset) in [(first, 10), (second, 11), (third, 12)] {
        story.answer(plan, ErrorCode::None, offset);
    }
    let expected = [
        (vec![2], Ok(Some(10))),
        (vec![3], Ok(Some(11))),
        (vec![4], Ok(Some(12))),
    ];
    assert_eq!(story.delivered(), expected);
    assert_eq!(story.producer.outstanding_records(), 0);
    assert_eq!(story.producer.queued_bytes, 0);
}

#[test]
fn a_duplicate_is_a_delivery_without_an_offset() {
    let mut story = Story::idempotent();
    let plan = story.leaves_alone(0);
    story.producer.handle_failure(story.now, plan.request);
    assert_eq!(story.delivered(), [], "its fate is unknown");
    story.later(5000);
    let again = story.resends(7, 0);
    story.answer(again, ErrorCode::DuplicateSequenceNumber, -1);
    assert_eq!(story.delivered(), [(vec![1], Ok(None))]);
}

#[test]
fn after_a_batch_failed_the_later_ones_go_under_a_new_identity() {
    let mut story = Story::acknowledged();
    let first = story.leaves_alone(1);
    let second = story.leaves_alone(2);
    let third = story.leaves_alone(3);
    story.answer(first, ErrorCode::MessageTooLarge, -1);
    assert_eq!(
        story.delivered(),
        [(vec![2], Err(Some(ErrorCode::MessageTooLarge)))]
    );
    story.answer(second, ErrorCode::OutOfOrderSequenceNumber, -1);
    story.producer.handle_failure(story.now, third.request);
    assert!(!story.identify(8), "the third batch may have been written");
    story.later(5000);
    let third = story.resends(7, 3);
    story.answer(third, ErrorCode::OutOfOrderSequenceNumber, -1);
    assert!(story.poll().is_none(), "no identity, no new sequences");
    assert!(story.identify(8));
    let second = story.resends(8, 0);
    assert!(
        story.poll().is_none(),
        "the broker has yet to learn the new identity"
    );
    story.answer(second, ErrorCode::None, 1);
    let third = story.resends(8, 1);
    story.answer(third, ErrorCode::None, 2);
    assert_eq!(
        story.delivered(),
        [(vec![3], Ok(Some(1))), (vec![4], Ok(Some(2)))]
    );
}

/// A broker takes any first sequence of an identity it does not know. One that refused the first batch
/// while it became the leader took the second, and then the first was out of order for ever.
#[test]
fn nothing_overtakes_the_first_batch_of_an_identity() {
    let mut story = Story::idempotent();
    let first = story.leaves_alone(0);
    story.value();
    assert!(story.poll().is_none(), "the first is not acknowledged");
    story.answer(first, ErrorCode::NotLeaderOrFollower, -1);
    story.later(5000);
    let first = story.resends(7, 0);
    assert!(story.poll().is_none(), "still not");
    story.answer(first, ErrorCode::None, 0);
    let second = story.resends(7, 1);
    story.value();
    let third = story.resends(7, 2);
    story.answer(second, ErrorCode::None, 1);
    story.answer(third, ErrorCode::None, 2);
    assert_eq!(story.delivered().len(), 3);
}

#[test]
fn sequences_lost_by_the_broker_are_reported() {
    let mut story = Story::idempotent();
    let plan = story.leaves_alone(0);
    story.answer(plan, ErrorCode::OutOfOrderSequenceNumber, -1);
    let lost = Err(Some(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(story.delivered(), [(vec![1], lost)]);
}

#[test]
fn a_batch_does_not_overtake_one_at_the_former_leader() {
    let mut story = Story::idempotent();
    let plan = story.leaves_alone(0);
    story.metadata.update(answer("t", &[(2, 1)]));
    story.value();
    assert!(story.poll().is_none(), "broker 1 still owes an answer");
    story.answer(plan, ErrorCode::None, 0);
    let plan = story.resends(7, 1);
    assert_eq!(plan.broker, 2);
}

#[test]
fn a_request_that_can_never_be_sent_fails_its_records_at_once() {
    let mut story = Story::idempotent();
    let plan = story.leaves_alone(0);
    let closed = ClientError::Disconnected {
        address: "h:9092".to_string(),
        reason: "closed".to_string(),
    };
    story
        .producer
        .handle_unsendable(story.now, plan.request, &closed);
    assert_eq!(story.delivered(), [], "another link may do");
    story.later(5000);
    let again = story.resends(7, 0);
    let too_old = ClientError::NoCommonVersion {
        api: "Produce".to_string(),
        broker: "0 to 2".to_string(),
        client: "3 to 12".to_string(),
    };
    story
        .producer
        .handle_unsendable(story.now, again.request, &too_old);
    assert_eq!(story.delivered(), [(vec![1], Err(None))]);
    assert_eq!(story.producer.outstanding_records(), 0);
    assert!(story.poll().is_none());
}

#[test]
fn nothing_waits_for_ever() {
    let mut story = Story::idempotent();
    let plan = story.leaves_alone(0);
    story.producer.handle_failure(story.now, plan.request);
    story.later(120_000);
    story.producer.handle_timeouts(story.now);
    assert_eq!(story.delivered(), [(vec![1], Err(None))]);
    story.value();
    story.resends(7, 0);
}

#[test]
fn bounds_hold_and_nothing_is_queued_beyond_them() {
    let settings = ProducerSettings {
        batch_bytes_max: 200,
        buffer_bytes_max: 300,
        ..ProducerSettings::default()
    };
    let mut story = Story::new(settings, &[(1, 0)]);
    let large = [0; 300];
    let large = RecordToSend {
        value: Some(&large),
        ..Default::default()
    };
    assert!(matches!(
        story.send(&large),
        Err(ClientError::RecordTooLarge { max: 200, .. })
    ));
    let elsewhere = RecordToSend {
        partition: Some(3),
        ..Default::default()
    };
    assert!(matches!(
        story.send(&elsewhere),
        Err(ClientError::UnknownPartition { last: 0, .. })
    ));
    let small = [0; 80];
    let small = RecordToSend {
        value: Some(&small),
        ..Default::default()
    };
    story.send(&small).expect("room");
    let full = story.send(&small).and_then(|_| story.send(&small));
    assert_eq!(full, Err(ClientError::BufferFull { max: 300 }));
}

#[test]
fn partitions_of_one_leader_share_a_request_and_keyless_records_rotate() {
    let mut story = Story::new(ProducerSettings::default(), &[(1, 0), (1, 0), (2, 0)]);
    let keyless = RecordToSend {
        value: Some(b"v"),
        ..Default::default()
    };
    assert_eq!(story.send(&keyless), Ok(0));
    assert_eq!(story.send(&keyless), Ok(0));
    story.identify(7);
    let other = RecordToSend {
        partition: Some(1),
        ..keyless
    };
    assert_eq!(story.send(&other), Ok(1));
    let (plan, sent) = story.poll().expect("a request");
    assert_eq!(plan.broker, 1);
    let counts: Vec<_> = sent
        .iter()
        .map(|one| (one.partition, one.records))
        .collect();
    assert_eq!(counts, [(0, 2), (1, 1)]);
    assert_ne!(story.send(&keyless), Ok(0), "a batch left partition 0");
}

#[test]
fn without_acks_sending_is_all() {
    let settings = ProducerSettings {
        acks: Acks::None,
        ..ProducerSettings::default()
    };
    let mut story = Story::new(settings, &[(1, 0)]);
    story.value();
    let (plan, sent) = story.poll().expect("a request");
    assert_eq!((sent[0].producer_id, plan.answered), (-1, false));
    story.producer.handle_sent(plan.request);
    assert_eq!(story.delivered(), [(vec![1], Ok(None))]);
}
