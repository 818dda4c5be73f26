//! What goes in: record batches and request frames, the same ones in every run.

use highwater_base::{Now, TopicId};
use highwater_wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use highwater_wire::header::encode_request_header;
use highwater_wire::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use highwater_wire::records::RecordBatchBuilder;
use highwater_wire::{ApiKey, Array};

/// The topic of every piece.
pub const TOPIC: TopicId = TopicId([7; 16]);
/// The newest versions that are offered; both name topics by id.
pub const PRODUCE_VERSION: i16 = 13;
pub const FETCH_VERSION: i16 = 18;
/// Partitions of the requests that are only parsed and of the answers that are only built.
pub const PARTITIONS: usize = 10;
/// Names the request in its answer.
pub const CORRELATION_ID: i32 = 5;
/// A fetch asks for so much, more than any answer here holds.
const FETCH_BYTES_MAX: i32 = 1 << 20;
/// Bytes of a record's value.
const VALUE_BYTES: usize = 1024;
const PRODUCER_ID: i64 = 4711;

/// The time of the first step. Later ones are each [`STEP_NS`] on.
pub const START: Now = Now {
    monotonic_ns: 1_000_000_000,
    wall_ms: 1_700_000_000_000,
};
/// A busy core's time from turn to turn.
pub const STEP_NS: u64 = 100_000;

/// Batches of one idempotent producer, one after the other, as today's clients send them: records of
/// 1 KiB, not compressed.
#[derive(Debug)]
pub struct Batches {
    sequence: u32,
    value: Vec<u8>,
}

impl Default for Batches {
    fn default() -> Batches {
        Batches {
            sequence: 0,
            value: (0..VALUE_BYTES).map(|at| at as u8).collect(),
        }
    }
}

impl Batches {
    /// The next batch, of so many records.
    pub fn next_of(&mut self, records: u32) -> Vec<u8> {
        let mut builder = RecordBatchBuilder::new();
        builder.set_producer(PRODUCER_ID, 0, self.sequence as i32);
        for _ in 0..records {
            builder.append(START.wall_ms, None, Some(&self.value), &[]);
        }
        // Sequences begin again at 0 behind the largest one (KIP-98).
        self.sequence = (self.sequence + records) & (i32::MAX as u32);
        builder.finish()
    }
}

fn frame(api_key: ApiKey, version: i16) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_request_header(
        api_key,
        version,
        CORRELATION_ID,
        Some("producer-1"),
        &mut frame,
    )
    .expect("a short client id fits");
    frame
}

/// A produce request with the same batch for partitions 0 and up.
#[must_use]
pub fn produce_frame(batch: &[u8], partitions: usize) -> Vec<u8> {
    let data: Vec<PartitionProduceData<'_>> = (0..partitions)
        .map(|index| PartitionProduceData {
            index: index as i32,
            records: Some(batch),
        })
        .collect();
    let topics = [TopicProduceData {
        topic_id: TOPIC,
        partition_data: Array::from(&data),
        ..Default::default()
    }];
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: Array::from(&topics),
        ..Default::default()
    };
    let mut frame = frame(ApiKey::Produce, PRODUCE_VERSION);
    request
        .encode(PRODUCE_VERSION, &mut frame)
        .expect("the request fits");
    frame
}

/// Where a consumer's fetch session stands (KIP-227); both are 0 to open one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Session {
    pub id: i32,
    pub epoch: i32,
}

/// A fetch request for partitions 0 and up from `offset` on.
#[must_use]
pub fn fetch_frame(session: Session, offset: i64, partitions: usize) -> Vec<u8> {
    let partitions: Vec<FetchPartition> = (0..partitions)
        .map(|partition| FetchPartition {
            partition: partition as i32,
            current_leader_epoch: 0,
            fetch_offset: offset,
            partition_max_bytes: FETCH_BYTES_MAX,
            ..Default::default()
        })
        .collect();
    let topics = [FetchTopic {
        topic_id: TOPIC,
        partitions: Array::from(&partitions),
        ..Default::default()
    }];
    let request = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: FETCH_BYTES_MAX,
        session_id: session.id,
        session_epoch: session.epoch,
        topics: Array::from(&topics),
        ..Default::default()
    };
    let mut frame = frame(ApiKey::Fetch, FETCH_VERSION);
    request
        .encode(FETCH_VERSION, &mut frame)
        .expect("the request fits");
    frame
}
