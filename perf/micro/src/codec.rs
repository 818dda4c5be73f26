//! Pieces that need no state of a broker: check, parse, look up, build.

use std::hint::black_box;

use highwater_base::prng::Prng;
use highwater_base::{BatchHeader, Offset};
use highwater_broker::config::TopicConfig;
use highwater_broker::produce::{Refusal, check_batch};
use highwater_store::index::{IndexEntry, SEALED_ENTRIES_MAX, SparseIndex};
use highwater_wire::fetch::{FetchRequest, FetchResponse};
use highwater_wire::fetch_response::{FetchResponseEncoder, FetchedPartition, FetchedTopic};
use highwater_wire::header::{RequestHeader, decode_response_header};
use highwater_wire::produce::{ProduceRequest, ProduceResponse};
use highwater_wire::produce_response::{ProduceResponseEncoder, ProducedPartition};
use highwater_wire::{ApiKey, DecodeError};

use crate::inputs::{
    Batches, CORRELATION_ID, FETCH_VERSION, PARTITIONS, PRODUCE_VERSION, START, Session, TOPIC,
    fetch_frame, produce_frame,
};
use crate::{Meter, Piece};

/// Operations of a step that are too short to be timed one by one.
const SHORT_OPERATIONS: usize = 16;
const LOOKUPS: usize = 64;
/// What the index of a segment knows: a batch of four records about every 4 KiB.
const INDEX_INTERVAL_BYTES: u32 = 4096;
const INDEX_RECORDS: u32 = 4;
/// High-water mark told in answers that are only built.
const HIGH_WATERMARK: i64 = 4096;

/// The check of a produced batch: header, size, CRC, structure.
pub struct BatchCheck {
    config: TopicConfig,
    batch: Vec<u8>,
    checked: Option<Result<BatchHeader, Refusal>>,
}

impl BatchCheck {
    /// Of a batch of so many records of 1 KiB.
    #[must_use]
    pub fn new(records: u32) -> BatchCheck {
        BatchCheck {
            config: TopicConfig::default(),
            batch: Batches::default().next_of(records),
            checked: None,
        }
    }
}

impl Piece for BatchCheck {
    fn step(&mut self, meter: Meter) {
        let checked = meter.run(|| {
            let batch = black_box(&self.batch);
            check_batch(batch, &self.config, PRODUCE_VERSION, START)
        });
        self.checked = Some(checked);
    }

    fn verify(&self) -> Result<(), String> {
        match &self.checked {
            Some(Ok(header)) if header.total_bytes() == self.batch.len() => Ok(()),
            other => Err(format!("the batch was not taken: {other:?}")),
        }
    }
}

/// A produce request of ten partitions, from the header to the last partition's records.
pub struct ParseProduce {
    frame: Vec<u8>,
    record_bytes: usize,
    found_bytes: usize,
}

impl ParseProduce {
    /// With a record of 1 KiB per partition.
    #[must_use]
    pub fn new() -> ParseProduce {
        let batch = Batches::default().next_of(1);
        ParseProduce {
            frame: produce_frame(&batch, PARTITIONS),
            record_bytes: batch.len() * PARTITIONS,
            found_bytes: 0,
        }
    }
}

impl Default for ParseProduce {
    fn default() -> ParseProduce {
        ParseProduce::new()
    }
}

fn produced_bytes(frame: &[u8]) -> Result<usize, DecodeError> {
    let (header, body_at) = RequestHeader::parse(frame)?;
    let body = frame.get(body_at..).unwrap_or_default();
    let request = ProduceRequest::parse(header.api_version, body)?;
    let mut bytes = 0;
    for topic in request.topic_data.iter() {
        for partition in topic.partition_data.iter() {
            bytes += black_box(partition.records).map_or(0, <[u8]>::len);
        }
    }
    Ok(bytes)
}

impl Piece for ParseProduce {
    fn operations(&self) -> usize {
        SHORT_OPERATIONS
    }

    fn step(&mut self, meter: Meter) {
        let frame = &self.frame;
        self.found_bytes = meter.run(|| {
            let parse = |_| produced_bytes(black_box(frame)).unwrap_or(0);
            (0..SHORT_OPERATIONS).map(parse).sum()
        });
    }

    fn verify(&self) -> Result<(), String> {
        let wanted = self.record_bytes * SHORT_OPERATIONS;
        match self.found_bytes == wanted {
            true => Ok(()),
            false => Err(format!("{} record bytes, not {wanted}", self.found_bytes)),
        }
    }
}

/// A fetch request for ten partitions, from the header to the last one's offset.
pub struct ParseFetch {
    frame: Vec<u8>,
    offsets: i64,
}

impl ParseFetch {
    const OFFSET: i64 = 100;

    /// The first request of a session, which names all partitions.
    #[must_use]
    pub fn new() -> ParseFetch {
        ParseFetch {
            frame: fetch_frame(Session::default(), ParseFetch::OFFSET, PARTITIONS),
            offsets: 0,
        }
    }
}

impl Default for ParseFetch {
    fn default() -> ParseFetch {
        ParseFetch::new()
    }
}

fn sum_of_offsets(frame: &[u8]) -> Result<i64, DecodeError> {
    let (header, body_at) = RequestHeader::parse(frame)?;
    let body = frame.get(body_at..).unwrap_or_default();
    let request = FetchRequest::parse(header.api_version, body)?;
    let mut offsets = 0;
    for topic in request.topics.iter() {
        for partition in topic.partitions.iter() {
            offsets += black_box(partition).fetch_offset;
        }
    }
    Ok(offsets)
}

impl Piece for ParseFetch {
    fn operations(&self) -> usize {
        SHORT_OPERATIONS
    }

    fn step(&mut self, meter: Meter) {
        let frame = &self.frame;
        self.offsets = meter.run(|| {
            let parse = |_| sum_of_offsets(black_box(frame)).unwrap_or(0);
            (0..SHORT_OPERATIONS).map(parse).sum()
        });
    }

    fn verify(&self) -> Result<(), String> {
        let wanted = ParseFetch::OFFSET * (PARTITIONS * SHORT_OPERATIONS) as i64;
        match self.offsets == wanted {
            true => Ok(()),
            false => Err(format!("offsets add up to {}, not {wanted}", self.offsets)),
        }
    }
}

/// From an offset to the position of an entry before it, in a full index of a sealed segment.
pub struct IndexLookup {
    index: SparseIndex,
    offsets: Vec<Offset>,
    positions: u64,
    wanted: u64,
}

impl IndexLookup {
    const BASE: Offset = Offset(1_000_000);

    /// Offsets spread over the segment, in no order.
    #[must_use]
    pub fn new() -> IndexLookup {
        let entries = (0..SEALED_ENTRIES_MAX as u32).map(|at| IndexEntry {
            relative_offset: at * INDEX_RECORDS,
            position: at * INDEX_INTERVAL_BYTES,
            max_timestamp_before: START.wall_ms,
        });
        let index = SparseIndex::from_entries(entries.collect()).expect("they ascend");
        let mut prng = Prng::new(1);
        let records = SEALED_ENTRIES_MAX as u64 * u64::from(INDEX_RECORDS);
        let relative: Vec<u64> = (0..LOOKUPS).map(|_| prng.below(records)).collect();
        let wanted = relative
            .iter()
            .map(|offset| offset / u64::from(INDEX_RECORDS) * u64::from(INDEX_INTERVAL_BYTES))
            .sum();
        let absolute = |offset: u64| Offset(IndexLookup::BASE.0 + offset as i64);
        IndexLookup {
            index,
            offsets: relative.into_iter().map(absolute).collect(),
            positions: 0,
            wanted,
        }
    }
}

impl Default for IndexLookup {
    fn default() -> IndexLookup {
        IndexLookup::new()
    }
}

impl Piece for IndexLookup {
    fn operations(&self) -> usize {
        LOOKUPS
    }

    fn step(&mut self, meter: Meter) {
        let (index, offsets) = (&self.index, &self.offsets);
        self.positions = meter.run(|| {
            let mut positions = 0;
            for offset in black_box(offsets) {
                let entry = index.floor_offset(IndexLookup::BASE, *offset);
                let entry = entry.and_then(|at| index.entries().get(at));
                positions += entry.map_or(0, |entry| u64::from(entry.position));
            }
            positions
        });
    }

    fn verify(&self) -> Result<(), String> {
        match self.positions == self.wanted {
            true => Ok(()),
            false => Err(format!("positions {}, not {}", self.positions, self.wanted)),
        }
    }
}

/// The answer to a produce request of ten partitions.
#[derive(Default)]
pub struct BuildProduce {
    bytes: Vec<u8>,
}

impl BuildProduce {
    /// Into memory that is there already, as the shard does it.
    #[must_use]
    pub fn new() -> BuildProduce {
        BuildProduce::default()
    }
}

fn build_produce(bytes: &mut Vec<u8>) {
    let encoder = ProduceResponseEncoder::new(black_box(PRODUCE_VERSION));
    encoder.begin(CORRELATION_ID, 1, bytes);
    encoder.topic("", TOPIC, PARTITIONS, bytes);
    for index in 0..PARTITIONS {
        let partition = ProducedPartition {
            index: index as i32,
            error_code: 0,
            error_message: None,
            base_offset: HIGH_WATERMARK,
            log_append_time: -1,
            log_start: 0,
        };
        encoder.partition(black_box(&partition), bytes);
    }
    encoder.end_topic(bytes);
    encoder.finish(bytes);
}

impl Piece for BuildProduce {
    fn operations(&self) -> usize {
        SHORT_OPERATIONS
    }

    fn step(&mut self, meter: Meter) {
        let bytes = &mut self.bytes;
        meter.run(|| {
            for _ in 0..SHORT_OPERATIONS {
                bytes.clear();
                build_produce(bytes);
                black_box(bytes.as_slice());
            }
        });
    }

    fn verify(&self) -> Result<(), String> {
        let say = |error: DecodeError| error.to_string();
        let frame = self.bytes.get(4..).ok_or("no answer")?;
        let (_, at) =
            decode_response_header(ApiKey::Produce, PRODUCE_VERSION, frame).map_err(say)?;
        let answer = ProduceResponse::parse(PRODUCE_VERSION, &frame[at..]).map_err(say)?;
        let topics = answer.responses.iter();
        let partitions: usize = topics.map(|topic| topic.partition_responses.len()).sum();
        match partitions {
            PARTITIONS => Ok(()),
            other => Err(format!("{other} partitions in the answer")),
        }
    }
}

/// The answer to a fetch of ten partitions without their records, which go another way.
#[derive(Default)]
pub struct BuildFetch {
    bytes: Vec<u8>,
}

impl BuildFetch {
    /// Into memory that is there already, as the shard does it.
    #[must_use]
    pub fn new() -> BuildFetch {
        BuildFetch::default()
    }
}

fn build_fetch(bytes: &mut Vec<u8>) {
    let encoder = FetchResponseEncoder::new(black_box(FETCH_VERSION));
    encoder.begin(CORRELATION_ID, 0, 1, 1, bytes);
    encoder.topic(
        &FetchedTopic {
            name: "",
            topic_id: TOPIC,
            partitions: PARTITIONS,
        },
        bytes,
    );
    for index in 0..PARTITIONS {
        let partition = FetchedPartition {
            index: index as i32,
            error_code: 0,
            high_watermark: HIGH_WATERMARK,
            log_start: 0,
            diverging: None,
            record_bytes: 0,
        };
        encoder.partition(black_box(&partition), bytes);
        encoder.end_partition(black_box(&partition), bytes);
    }
    encoder.end_topic(bytes);
    encoder.finish(bytes);
    let written = bytes.len();
    FetchResponseEncoder::set_length(bytes, written, 0);
}

impl Piece for BuildFetch {
    fn operations(&self) -> usize {
        SHORT_OPERATIONS
    }

    fn step(&mut self, meter: Meter) {
        let bytes = &mut self.bytes;
        meter.run(|| {
            for _ in 0..SHORT_OPERATIONS {
                bytes.clear();
                build_fetch(bytes);
                black_box(bytes.as_slice());
            }
        });
    }

    fn verify(&self) -> Result<(), String> {
        let say = |error: DecodeError| error.to_string();
        let frame = self.bytes.get(4..).ok_or("no answer")?;
        let (_, at) = decode_response_header(ApiKey::Fetch, FETCH_VERSION, frame).map_err(say)?;
        let answer = FetchResponse::parse(FETCH_VERSION, &frame[at..]).map_err(say)?;
        let topics = answer.responses.iter();
        match topics.map(|topic| topic.partitions.len()).sum() {
            PARTITIONS => Ok(()),
            other => Err(format!("{other} partitions in the answer")),
        }
    }
}
