//! The few Kafka messages the load generators need, encoded by hand: Produce v9, Fetch v12 and
//! CreateTopics v5, all in flexible encoding, ApiVersions v0 and Metadata v1 in the older one, and
//! the record batch v2.
//!
//! Field by field as in Kafka's protocol guide. It is deliberately independent of the broker's own
//! codec: a mistake made in both would be seen by neither.

use std::io;

use crate::floor_frames::crc32c;

/// Where the correlation number lies in a request on the wire.
pub const CORRELATION_AT: usize = 8;
/// Bytes of a record batch before its first record.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes of base offset and length, which a batch's length does not count.
const BATCH_PREFIX_BYTES: usize = 12;
const BATCH_CRC_AT: usize = 17;
const BATCH_ATTRIBUTES_AT: usize = 21;

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const CREATE_TOPICS: i16 = 19;
const CLIENT_ID: &[u8] = b"highwater-floor";
const TIMEOUT_MS: i32 = 30_000;

/// One topic's partition.
#[derive(Clone, Debug)]
pub struct Target {
    pub topic: String,
    pub partition: i32,
}

/// Writes a request; the length is filled in at the end.
struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    fn request(api_key: i16, version: i16) -> Encoder {
        let mut encoder = Encoder::older_request(api_key, version);
        encoder.no_tags();
        encoder
    }

    /// A request whose header has no tags yet.
    fn older_request(api_key: i16, version: i16) -> Encoder {
        let mut encoder = Encoder { bytes: vec![0; 4] };
        encoder.i16(api_key);
        encoder.i16(version);
        encoder.i32(0); // correlation number, patched per request
        encoder.i16(CLIENT_ID.len() as i16);
        encoder.bytes.extend_from_slice(CLIENT_ID);
        encoder
    }

    fn finish(mut self) -> Vec<u8> {
        let length = (self.bytes.len() - 4) as u32;
        self.bytes[..4].copy_from_slice(&length.to_be_bytes());
        self.bytes
    }

    fn i8(&mut self, value: i8) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    fn i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// A record's varint: zigzag.
    fn varint(&mut self, value: i32) {
        self.unsigned_varint((value << 1 ^ value >> 31) as u32);
    }

    /// Compact lengths are one larger than what they count; zero means null.
    fn compact_length(&mut self, length: usize) {
        self.unsigned_varint(length as u32 + 1);
    }

    fn compact_bytes(&mut self, bytes: &[u8]) {
        self.compact_length(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    fn compact_null(&mut self) {
        self.bytes.push(0);
    }

    fn no_tags(&mut self) {
        self.bytes.push(0);
    }
}

/// A record batch of `records` records, each with a value of `record_bytes` and no key.
#[must_use]
pub fn record_batch(record_bytes: usize, records: usize, timestamp_ms: i64) -> Vec<u8> {
    assert!(records > 0, "a batch holds at least one record");
    let value: Vec<u8> = (0..record_bytes).map(|at| (at * 31 % 251) as u8).collect();
    let mut batch = Encoder {
        bytes: Vec::with_capacity(records * (record_bytes + 16) + 64),
    };
    batch.i64(0); // base offset: the broker's to set
    batch.i32(0); // length, patched below
    batch.i32(-1); // partition leader epoch: the broker's to set
    batch.i8(2); // magic
    batch.i32(0); // checksum, patched below
    batch.i16(0); // attributes: no compression, create time
    batch.i32(records as i32 - 1);
    batch.i64(timestamp_ms);
    batch.i64(timestamp_ms);
    batch.i64(-1); // no producer id: neither idempotent nor transactional
    batch.i16(-1);
    batch.i32(-1);
    batch.i32(records as i32);
    for delta in 0..records {
        push_record(&mut batch, delta as i32, &value);
    }
    let mut bytes = batch.bytes;
    let length = (bytes.len() - BATCH_PREFIX_BYTES) as u32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let checksum = crc32c(&bytes[BATCH_ATTRIBUTES_AT..]);
    bytes[BATCH_CRC_AT..BATCH_ATTRIBUTES_AT].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// How many records of `record_bytes` make a batch of at most `batch_bytes`, at least one.
#[must_use]
pub fn records_in_batch(record_bytes: usize, batch_bytes: usize) -> usize {
    // 16 bytes is more than a record's own fields take here: two lengths of up to five bytes, a
    // delta of up to three, and four single bytes never meet all at once in a batch this large.
    (batch_bytes.saturating_sub(BATCH_HEADER_BYTES) / (record_bytes + 16)).max(1)
}

fn push_record(batch: &mut Encoder, offset_delta: i32, value: &[u8]) {
    let mut record = Encoder {
        bytes: Vec::with_capacity(value.len() + 16),
    };
    record.i8(0); // attributes
    record.varint(0); // timestamp delta
    record.varint(offset_delta);
    record.varint(-1); // no key
    record.varint(value.len() as i32);
    record.bytes.extend_from_slice(value);
    record.varint(0); // no headers
    batch.varint(record.bytes.len() as i32);
    batch.bytes.extend_from_slice(&record.bytes);
}

/// Produce v9 with one batch and `acks=-1`.
#[must_use]
pub fn produce_request(target: &Target, batch: &[u8]) -> Vec<u8> {
    let mut request = Encoder::request(PRODUCE, 9);
    request.compact_null(); // no transaction
    request.i16(-1);
    request.i32(TIMEOUT_MS);
    request.compact_length(1);
    request.compact_bytes(target.topic.as_bytes());
    request.compact_length(1);
    request.i32(target.partition);
    request.compact_bytes(batch);
    request.no_tags();
    request.no_tags();
    request.no_tags();
    request.finish()
}

/// Fetch v12 of one partition without a session.
#[must_use]
pub fn fetch_request(target: &Target, offset: i64, bytes_max: i32, wait_ms: i32) -> Vec<u8> {
    let mut request = Encoder::request(FETCH, 12);
    request.i32(-1); // a consumer, not a replica
    request.i32(wait_ms);
    request.i32(1);
    request.i32(bytes_max);
    request.i8(0); // read uncommitted
    request.i32(0);
    request.i32(-1); // no session
    request.compact_length(1);
    request.compact_bytes(target.topic.as_bytes());
    request.compact_length(1);
    request.i32(target.partition);
    request.i32(-1); // any leader epoch
    request.i64(offset);
    request.i32(-1);
    request.i64(-1);
    request.i32(bytes_max);
    request.no_tags();
    request.no_tags();
    request.compact_length(0); // nothing forgotten
    request.compact_bytes(b""); // rack
    request.no_tags();
    request.finish()
}

/// CreateTopics v5 of one topic with one replica.
#[must_use]
pub fn create_topic_request(topic: &str, partitions: i32, configs: &[(&str, &str)]) -> Vec<u8> {
    let mut request = Encoder::request(CREATE_TOPICS, 5);
    request.compact_length(1);
    request.compact_bytes(topic.as_bytes());
    request.i32(partitions);
    request.i16(1);
    request.compact_length(0);
    request.compact_length(configs.len());
    for (name, value) in configs {
        request.compact_bytes(name.as_bytes());
        request.compact_bytes(value.as_bytes());
        request.no_tags();
    }
    request.no_tags();
    request.i32(TIMEOUT_MS);
    request.i8(0); // not only validated
    request.no_tags();
    request.finish()
}

/// ApiVersions v0.
#[must_use]
pub fn api_versions_request() -> Vec<u8> {
    Encoder::older_request(API_VERSIONS, 0).finish()
}

/// Metadata v1 of no topic: the brokers only.
#[must_use]
pub fn metadata_request() -> Vec<u8> {
    let mut request = Encoder::older_request(METADATA, 1);
    request.i32(0);
    request.finish()
}

/// Checks the answers to an ApiVersions v0 and a Metadata v1 request (without lengths).
///
/// # Errors
/// A Kafka error code, a malformed answer, or one that names no API or no broker.
pub fn check_first_answers(versions: &[u8], metadata: &[u8]) -> io::Result<()> {
    let mut versions = Decoder { bytes: versions };
    versions.i32()?;
    check_error("ApiVersions", versions.i16()?)?;
    let mut metadata = Decoder { bytes: metadata };
    metadata.i32()?;
    if versions.i32()? < 1 || metadata.i32()? < 1 {
        return Err(io::Error::other(
            "the answers name no API or no broker; allowed is one or more",
        ));
    }
    Ok(())
}

/// Reads a response; every step is checked.
struct Decoder<'a> {
    bytes: &'a [u8],
}

impl<'a> Decoder<'a> {
    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or_else(too_short)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or_else(too_short)?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn i16(&mut self) -> io::Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> io::Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> io::Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn unsigned_varint(&mut self) -> io::Result<u32> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(io::Error::other("varint of more than five bytes"))
    }

    /// Length of a compact string, array or byte field; null counts as empty.
    fn compact_length(&mut self) -> io::Result<usize> {
        Ok(self.unsigned_varint()?.saturating_sub(1) as usize)
    }

    fn compact_bytes(&mut self) -> io::Result<&'a [u8]> {
        let length = self.compact_length()?;
        self.take(length)
    }

    fn skip_tags(&mut self) -> io::Result<()> {
        for _ in 0..self.unsigned_varint()? {
            self.unsigned_varint()?;
            let length = self.unsigned_varint()? as usize;
            self.take(length)?;
        }
        Ok(())
    }

    /// An array that must hold exactly one entry, because the request named one.
    fn exactly_one(&mut self, what: &str) -> io::Result<()> {
        let count = self.compact_length()?;
        if count == 1 {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "the answer names {count} {what}; allowed is 1"
        )))
    }
}

fn too_short() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the answer ends inside a field",
    )
}

fn check_error(api: &str, code: i16) -> io::Result<()> {
    if code == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{api} answered error code {code}"
    )))
}

/// Checks a Produce v9 answer (without length) and gives its correlation number.
///
/// # Errors
/// A Kafka error code or a malformed answer.
pub fn check_produce_response(frame: &[u8]) -> io::Result<u32> {
    let mut decoder = Decoder { bytes: frame };
    let correlation = decoder.i32()?;
    decoder.skip_tags()?;
    decoder.exactly_one("topics")?;
    decoder.compact_bytes()?;
    decoder.exactly_one("partitions")?;
    decoder.i32()?;
    check_error("Produce", decoder.i16()?)?;
    Ok(correlation as u32)
}

/// Checks a CreateTopics v5 answer (without length).
///
/// # Errors
/// A Kafka error code or a malformed answer.
pub fn check_create_topic_response(frame: &[u8]) -> io::Result<()> {
    let mut decoder = Decoder { bytes: frame };
    decoder.i32()?;
    decoder.skip_tags()?;
    decoder.i32()?; // throttle time
    decoder.exactly_one("topics")?;
    decoder.compact_bytes()?;
    check_error("CreateTopics", decoder.i16()?)
}

/// What a Fetch answer holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes of record sets, a cut last batch included.
    pub record_bytes: usize,
    /// Offset after the last complete batch; `None` when there is no complete batch.
    pub next_offset: Option<i64>,
    pub high_watermark: i64,
}

/// Reads a Fetch v12 answer (without length): batch headers only, records are skipped over.
///
/// # Errors
/// A Kafka error code or a malformed answer.
pub fn parse_fetch_response(frame: &[u8]) -> io::Result<Fetched> {
    let mut decoder = Decoder { bytes: frame };
    decoder.i32()?;
    decoder.skip_tags()?;
    decoder.i32()?; // throttle time
    check_error("Fetch", decoder.i16()?)?;
    decoder.i32()?; // session
    decoder.exactly_one("topics")?;
    decoder.compact_bytes()?;
    decoder.exactly_one("partitions")?;
    decoder.i32()?;
    check_error("Fetch of the partition", decoder.i16()?)?;
    let high_watermark = decoder.i64()?;
    decoder.i64()?; // last stable offset
    decoder.i64()?; // log start offset
    for _ in 0..decoder.compact_length()? {
        decoder.take(16)?; // an aborted transaction
        decoder.skip_tags()?;
    }
    decoder.i32()?; // preferred replica
    let records = decoder.compact_bytes()?;
    Ok(Fetched {
        record_bytes: records.len(),
        next_offset: offset_after(records),
        high_watermark,
    })
}

/// The offset after the last complete batch of `records`.
fn offset_after(mut records: &[u8]) -> Option<i64> {
    let mut next = None;
    while records.len() >= BATCH_HEADER_BYTES {
        let mut header = Decoder { bytes: records };
        let base = header.i64().ok()?;
        let length = usize::try_from(header.i32().ok()?).ok()?;
        let Some(rest) = records.get(BATCH_PREFIX_BYTES + length..) else {
            break;
        };
        if length < BATCH_HEADER_BYTES - BATCH_PREFIX_BYTES {
            break;
        }
        header
            .take(BATCH_ATTRIBUTES_AT + 2 - BATCH_PREFIX_BYTES)
            .ok()?;
        next = Some(base + i64::from(header.i32().ok()?) + 1);
        records = rest;
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_carries_its_length_and_checksum() {
        let batch = record_batch(1024, 3, 1_700_000_000_000);
        let length = u32::from_be_bytes(*batch[8..].first_chunk().unwrap()) as usize;
        assert_eq!(length + BATCH_PREFIX_BYTES, batch.len());
        let checksum = u32::from_be_bytes(*batch[BATCH_CRC_AT..].first_chunk().unwrap());
        assert_eq!(checksum, crc32c(&batch[BATCH_ATTRIBUTES_AT..]));
        assert_eq!(batch[16], 2);
        // Length, then six single-byte fields around a two-byte value length.
        let record_bytes = (batch.len() - BATCH_HEADER_BYTES) / 3;
        assert_eq!(record_bytes, 1024 + 2 + 1 + 1 + 1 + 1 + 2 + 1);
    }

    #[test]
    fn a_filled_batch_stays_within_its_bytes() {
        for record_bytes in [1, 100, 1024, 65_536] {
            let records = records_in_batch(record_bytes, 1 << 20);
            assert!(record_batch(record_bytes, records, 0).len() <= 1 << 20);
        }
        assert_eq!(records_in_batch(1 << 20, 1000), 1);
    }

    #[test]
    fn the_next_offset_ignores_a_cut_batch() {
        let mut records = record_batch(10, 5, 0);
        let mut second = record_batch(10, 2, 0);
        second[..8].copy_from_slice(&5i64.to_be_bytes());
        records.extend_from_slice(&second);
        assert_eq!(offset_after(&records), Some(7));
        assert_eq!(offset_after(&records[..records.len() - 1]), Some(5));
        assert_eq!(offset_after(&records[..100]), None);
    }

    #[test]
    fn a_produce_answer_with_an_error_is_an_error() {
        let mut answer = Encoder { bytes: Vec::new() };
        answer.i32(9);
        answer.no_tags();
        answer.compact_length(1);
        answer.compact_bytes(b"t");
        answer.compact_length(1);
        answer.i32(0);
        let mut failed = answer.bytes.clone();
        failed.extend_from_slice(&3i16.to_be_bytes());
        answer.i16(0);
        assert_eq!(check_produce_response(&answer.bytes).unwrap(), 9);
        let error = check_produce_response(&failed).unwrap_err().to_string();
        assert_eq!(error, "Produce answered error code 3");
        assert!(check_produce_response(&failed[..8]).is_err());
    }

    #[test]
    fn first_answers_name_apis_and_brokers() {
        let mut versions = Encoder { bytes: Vec::new() };
        versions.i32(0);
        versions.i16(0);
        versions.i32(20);
        let mut metadata = Encoder { bytes: Vec::new() };
        metadata.i32(0);
        metadata.i32(1);
        assert!(check_first_answers(&versions.bytes, &metadata.bytes).is_ok());
        assert!(check_first_answers(&versions.bytes, &[0; 8]).is_err());
        assert!(check_first_answers(&[0; 4], &metadata.bytes).is_err());
        versions.bytes[5] = 35;
        let error = check_first_answers(&versions.bytes, &metadata.bytes).unwrap_err();
        assert_eq!(error.to_string(), "ApiVersions answered error code 35");
    }

    #[test]
    fn a_request_starts_with_its_length_and_header() {
        let target = Target {
            topic: "t".to_string(),
            partition: 4,
        };
        let request = fetch_request(&target, 77, 1 << 20, 500);
        let length = u32::from_be_bytes(*request.first_chunk().unwrap()) as usize;
        assert_eq!(length + 4, request.len());
        assert_eq!(&request[4..8], &[0, 1, 0, 12]);
        assert_eq!(&request[CORRELATION_AT..CORRELATION_AT + 4], &[0; 4]);
    }
}
