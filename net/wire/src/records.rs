//! Records inside a batch of format v2: walking them, and building whole batches.
//!
//! Layout of a record: length varint, attributes i8, timestamp delta varlong, offset delta varint,
//! key length varint and key, value length varint and value (-1 is null), header count varint, and
//! per header key length, key, value length, value. Source: Kafka's message format documentation.

use highwater_base::crc::crc32c;
use highwater_base::record_batch::{
    ATTRIBUTE_CODEC_MASK, CRC_COVERED_FROM, HEADER_BYTES, LENGTH_PREFIX_BYTES,
};
use highwater_base::{BatchHeader, Timestamp};

use crate::compression::{Codec, CompressionError, compress};
use crate::error::DecodeError;
use crate::reader::Reader;
use crate::writer::{Fixed, put_varlong};

/// The smallest record: seven fields of one byte.
pub const RECORD_BYTES_MIN: u64 = 7;

/// What the records of a batch may take unpacked: clients hold this size in a signed 32-bit number.
const UNPACKED_BYTES_MAX: u64 = i32::MAX as u64;

/// How many records a batch can hold, judged by its size alone: without unpacking or walking it.
#[must_use]
pub fn record_count_max(codec: Codec, body_bytes: usize) -> u64 {
    let unpacked = (body_bytes as u64).saturating_mul(codec.expansion_max());
    unpacked.min(UNPACKED_BYTES_MAX) / RECORD_BYTES_MIN
}

/// One record, borrowed from unpacked bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub offset: i64,
    pub timestamp: Timestamp,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    headers: &'a [u8],
    header_count: usize,
}

/// One header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    pub key: &'a str,
    pub value: Option<&'a [u8]>,
}

fn nullable<'a>(
    reader: &mut Reader<'a>,
    field: &'static str,
) -> Result<Option<&'a [u8]>, DecodeError> {
    match reader.varlong(field)? {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Ok(length) => reader.take(length, field).map(Some),
            Err(_) => Err(DecodeError::Invalid {
                field,
                found: length,
                allowed: "-1 or more",
            }),
        },
    }
}

fn header<'a>(reader: &mut Reader<'a>) -> Result<RecordHeader<'a>, DecodeError> {
    let field = "record.header.key";
    let key = nullable(reader, field)?;
    let key = key.ok_or(DecodeError::Invalid {
        field,
        found: -1,
        allowed: "a length",
    })?;
    let key = std::str::from_utf8(key).map_err(|_| DecodeError::Utf8 { field })?;
    Ok(RecordHeader {
        key,
        value: nullable(reader, "record.header.value")?,
    })
}

impl<'a> Record<'a> {
    /// The record's headers in order.
    pub fn headers(&self) -> impl Iterator<Item = RecordHeader<'a>> + use<'a> {
        let mut reader = Reader::new(self.headers);
        // They decoded when the record was read; they do so again.
        (0..self.header_count).map_while(move |_| header(&mut reader).ok())
    }

    fn read(batch: &BatchHeader, reader: &mut Reader<'a>) -> Result<Record<'a>, DecodeError> {
        let field = "record.length";
        let length = reader.varlong(field)?;
        let length = usize::try_from(length).map_err(|_| DecodeError::Invalid {
            field,
            found: length,
            allowed: "0 or more",
        })?;
        let mut body = Reader::new(reader.take(length, field)?);
        body.fixed::<i8>("record.attributes")?;
        let timestamp_delta = body.varlong("record.timestamp_delta")?;
        let offset_delta = body.varlong("record.offset_delta")?;
        if !(0..=i64::from(batch.last_offset_delta)).contains(&offset_delta) {
            return Err(DecodeError::Invalid {
                field: "record.offset_delta",
                found: offset_delta,
                allowed: "0 to the batch's last offset delta",
            });
        }
        let key = nullable(&mut body, "record.key")?;
        let value = nullable(&mut body, "record.value")?;
        let count = body.varlong("record.header_count")?;
        let header_count = usize::try_from(count)
            .ok()
            .filter(|count| *count <= body.left());
        let header_count = header_count.ok_or(DecodeError::Invalid {
            field: "record.header_count",
            found: count,
            allowed: "0 to the bytes left in the record",
        })?;
        let headers = body.rest();
        for _ in 0..header_count {
            header(&mut body)?;
        }
        body.finish()?;
        Ok(Record {
            offset: batch.base_offset + offset_delta,
            timestamp: batch.base_timestamp.saturating_add(timestamp_delta),
            key,
            value,
            headers,
            header_count,
        })
    }
}

/// Walks the records of a batch over its unpacked body (the bytes behind the batch header).
#[derive(Clone, Debug)]
pub struct RecordIterator<'a> {
    header: BatchHeader,
    reader: Reader<'a>,
    left: i32,
}

impl<'a> RecordIterator<'a> {
    /// Starts at the first record.
    #[must_use]
    pub fn new(header: &BatchHeader, body: &'a [u8]) -> RecordIterator<'a> {
        RecordIterator {
            header: *header,
            reader: Reader::new(body),
            left: header.record_count,
        }
    }
}

impl<'a> Iterator for RecordIterator<'a> {
    type Item = Result<Record<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        let record = Record::read(&self.header, &mut self.reader);
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}

/// Puts records together into one batch. Each byte of a record is copied once, to where it leaves
/// from; compression aside.
#[derive(Clone, Debug, Default)]
pub struct RecordBatchBuilder {
    /// Room for the header, then the records; empty before the first.
    batch: Vec<u8>,
    count: i32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    producer: Option<(i64, i16, i32)>,
}

impl RecordBatchBuilder {
    /// An empty batch.
    #[must_use]
    pub fn new() -> RecordBatchBuilder {
        RecordBatchBuilder::default()
    }

    /// Makes the batch idempotent: producer id, epoch, sequence of its first record (KIP-98).
    pub fn set_producer(&mut self, id: i64, epoch: i16, base_sequence: i32) {
        self.producer = Some((id, epoch, base_sequence));
    }

    /// Appends a record.
    pub fn append(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        if self.count == 0 {
            (self.base_timestamp, self.max_timestamp) = (timestamp, timestamp);
            self.batch.resize(HEADER_BYTES, 0);
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let timestamp_delta = timestamp - self.base_timestamp;
        let offset_delta = i64::from(self.count);
        let of_headers = headers
            .iter()
            .map(|(key, value)| nullable_bytes(Some(key.as_bytes())) + nullable_bytes(*value));
        let body_bytes = 1
            + varlong_bytes(timestamp_delta)
            + varlong_bytes(offset_delta)
            + nullable_bytes(key)
            + nullable_bytes(value)
            + varlong_bytes(headers.len() as i64)
            + of_headers.sum::<usize>();
        let out = &mut self.batch;
        put_varlong(out, body_bytes as i64);
        out.push(0);
        put_varlong(out, timestamp_delta);
        put_varlong(out, offset_delta);
        put_nullable(out, key);
        put_nullable(out, value);
        put_varlong(out, headers.len() as i64);
        for (key, value) in headers {
            put_nullable(out, Some(key.as_bytes()));
            put_nullable(out, *value);
        }
        self.count += 1;
    }

    /// Records appended so far.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.count
    }

    /// Size of the finished batch if it is not compressed.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.batch.len().max(HEADER_BYTES)
    }

    /// The finished batch, uncompressed, with base offset 0.
    #[must_use]
    pub fn finish(&self) -> Vec<u8> {
        self.with_header(Codec::None, self.batch.clone())
    }

    /// The finished batch, compressed.
    ///
    /// # Errors
    /// What the codec's library reports.
    pub fn finish_compressed(&self, codec: Codec) -> Result<Vec<u8>, CompressionError> {
        if codec == Codec::None {
            return Ok(self.finish());
        }
        let body = compress(codec, self.batch.get(HEADER_BYTES..).unwrap_or_default())?;
        let mut batch = Vec::with_capacity(HEADER_BYTES + body.len());
        batch.resize(HEADER_BYTES, 0);
        batch.extend_from_slice(&body);
        Ok(self.with_header(codec, batch))
    }

    /// Like [`RecordBatchBuilder::finish_compressed`]; what is not compressed is not copied either.
    ///
    /// # Errors
    /// What the codec's library reports.
    pub fn into_batch(mut self, codec: Codec) -> Result<Vec<u8>, CompressionError> {
        match codec {
            Codec::None => {
                let batch = std::mem::take(&mut self.batch);
                Ok(self.with_header(codec, batch))
            }
            Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd => self.finish_compressed(codec),
        }
    }

    /// Writes the header into the room at the front of `batch`, which an empty one lacks.
    fn with_header(&self, codec: Codec, mut batch: Vec<u8>) -> Vec<u8> {
        batch.resize(batch.len().max(HEADER_BYTES), 0);
        let (id, epoch, sequence) = self.producer.unwrap_or((-1, -1, -1));
        let mut header = Vec::with_capacity(HEADER_BYTES);
        0i64.put(&mut header);
        ((batch.len() - LENGTH_PREFIX_BYTES) as i32).put(&mut header);
        (-1i32).put(&mut header);
        2i8.put(&mut header);
        0u32.put(&mut header);
        (codec as i16 & ATTRIBUTE_CODEC_MASK).put(&mut header);
        (self.count - 1).put(&mut header);
        self.base_timestamp.put(&mut header);
        self.max_timestamp.put(&mut header);
        id.put(&mut header);
        epoch.put(&mut header);
        sequence.put(&mut header);
        self.count.put(&mut header);
        batch[..HEADER_BYTES].copy_from_slice(&header);
        let crc = crc32c(&batch[CRC_COVERED_FROM..]);
        batch[CRC_COVERED_FROM - 4..CRC_COVERED_FROM].copy_from_slice(&crc.to_be_bytes());
        batch
    }
}

/// Bytes that [`put_varlong`] takes for a value.
fn varlong_bytes(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    let bits = u64::BITS - (zigzag | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Bytes that [`put_nullable`] takes.
fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    varlong_bytes(bytes.map_or(-1, |bytes| bytes.len() as i64)) + bytes.map_or(0, <[u8]>::len)
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varlong(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varlong_takes_as_many_bytes_as_are_counted() {
        let edges =
            (0..63).flat_map(|bit| [(1i64 << bit) - 1, 1 << bit, -(1 << bit), -(1 << bit) - 1]);
        for value in edges.chain([i64::MIN, i64::MAX]) {
            let mut out = Vec::new();
            put_varlong(&mut out, value);
            assert_eq!(out.len(), varlong_bytes(value), "{value}");
        }
    }

    #[test]
    fn a_batch_that_is_not_copied_is_the_same() {
        for count in [0, 1, 3] {
            let mut builder = RecordBatchBuilder::new();
            builder.set_producer(7, 1, 5);
            for number in 0..count {
                let headers: &[(&str, Option<&[u8]>)] = &[("h", Some(b"v")), ("n", None)];
                builder.append(1000 - number, Some(b"key"), None, headers);
            }
            for codec in [Codec::None, Codec::Lz4] {
                let copied = builder.finish_compressed(codec).expect("compresses");
                let moved = builder.clone().into_batch(codec).expect("compresses");
                assert_eq!(copied, moved, "{count} records, {codec:?}");
            }
            assert_eq!(builder.finish().len(), builder.bytes());
        }
    }
}
