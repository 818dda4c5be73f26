//! The 61-byte header of a Kafka record batch, format v2 (magic 2), the unit our log stores.
//!
//! Layout, big endian: base_offset i64, batch_length i32 (bytes after this field),
//! partition_leader_epoch i32, magic i8, crc u32 (CRC32C of everything after it), attributes i16,
//! last_offset_delta i32, base_timestamp i64, max_timestamp i64, producer_id i64,
//! producer_epoch i16, base_sequence i32, record count i32, then the records. Base offset and leader
//! epoch lie outside the CRC: a broker patches them in place.
//! Source: the "Record Batch" section of Kafka's message format documentation (KIP-98, KIP-32).

use crate::crc::crc32c;
use crate::{Epoch, Offset, Timestamp};

/// Bytes of the header, from base offset up to the first record.
pub const HEADER_BYTES: usize = 61;
/// Bytes before those that `batch_length` counts.
pub const LENGTH_PREFIX_BYTES: usize = 12;
/// Where the bytes that the CRC covers begin.
pub const CRC_COVERED_FROM: usize = 21;

const LEADER_EPOCH_AT: usize = 12;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;

/// `attributes` bits 0 to 2: the codec.
pub const ATTRIBUTE_CODEC_MASK: i16 = 0x07;
/// `attributes` bit 3: timestamps are the broker's append time.
pub const ATTRIBUTE_LOG_APPEND_TIME: i16 = 0x08;
/// `attributes` bit 4: part of a transaction.
pub const ATTRIBUTE_TRANSACTIONAL: i16 = 0x10;
/// `attributes` bit 5: a control batch.
pub const ATTRIBUTE_CONTROL: i16 = 0x20;

/// A decoded batch header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    pub batch_length: i32,
    pub partition_leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: Timestamp,
    pub max_timestamp: Timestamp,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

/// Why bytes are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchHeaderError {
    /// Fewer bytes than a header, or than the length field says.
    #[error("record batch truncated: {have} bytes of {need}")]
    Truncated { have: usize, need: usize },
    /// Not format v2.
    #[error("record batch magic is {0}, only 2 is supported")]
    Magic(i8),
    /// A field that contradicts the others.
    #[error("record batch field {field} is {value}, which contradicts the others or its range")]
    Field { field: &'static str, value: i64 },
    /// The checksum does not match.
    #[error("record batch CRC is {found:#010x}, its bytes give {computed:#010x}")]
    Crc { found: u32, computed: u32 },
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl BatchHeader {
    /// Reads the header at the front of `bytes` and checks every field that can be checked without
    /// the records: magic, lengths, counts. The CRC is [`BatchHeader::verify_crc`]'s.
    ///
    /// # Errors
    /// [`BatchHeaderError`]; `Truncated` only when fewer than [`HEADER_BYTES`] bytes are given.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchHeaderError> {
        if bytes.len() < HEADER_BYTES {
            return Err(BatchHeaderError::Truncated {
                have: bytes.len(),
                need: HEADER_BYTES,
            });
        }
        let magic = bytes[16] as i8;
        if magic != 2 {
            return Err(BatchHeaderError::Magic(magic));
        }
        let header = BatchHeader {
            base_offset: i64::from_be_bytes(array(bytes, 0)),
            batch_length: i32::from_be_bytes(array(bytes, 8)),
            partition_leader_epoch: i32::from_be_bytes(array(bytes, LEADER_EPOCH_AT)),
            magic,
            crc: u32::from_be_bytes(array(bytes, CRC_AT)),
            attributes: i16::from_be_bytes(array(bytes, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
            base_timestamp: i64::from_be_bytes(array(bytes, 27)),
            max_timestamp: i64::from_be_bytes(array(bytes, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            record_count: i32::from_be_bytes(array(bytes, 57)),
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), BatchHeaderError> {
        let wrong = |field, value| Err(BatchHeaderError::Field { field, value });
        if self.batch_length < (HEADER_BYTES - LENGTH_PREFIX_BYTES) as i32 {
            return wrong("batch_length", i64::from(self.batch_length));
        }
        if self.base_offset < 0 {
            return wrong("base_offset", self.base_offset);
        }
        if self.last_offset_delta < 0
            || self
                .base_offset
                .checked_add(i64::from(self.last_offset_delta) + 1)
                .is_none()
        {
            return wrong("last_offset_delta", i64::from(self.last_offset_delta));
        }
        if self.record_count < 0
            || i64::from(self.record_count) > i64::from(self.last_offset_delta) + 1
        {
            return wrong("record_count", i64::from(self.record_count));
        }
        Ok(())
    }

    /// Bytes of the whole batch, header included.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        LENGTH_PREFIX_BYTES + self.batch_length as usize
    }

    /// Offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset + i64::from(self.last_offset_delta))
    }

    /// Offset of the first record of the next batch.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.last_offset().plus(1)
    }

    /// Codec number: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    #[must_use]
    pub fn codec(&self) -> u8 {
        (self.attributes & ATTRIBUTE_CODEC_MASK) as u8
    }

    /// Whether a producer id and sequence make it idempotent.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }

    /// Checks the CRC over `batch`, the whole batch that this header was read from.
    ///
    /// # Errors
    /// `Truncated` when `batch` is shorter than the header says, `Crc` when it does not match.
    pub fn verify_crc(&self, batch: &[u8]) -> Result<(), BatchHeaderError> {
        let need = self.total_bytes();
        if batch.len() < need {
            return Err(BatchHeaderError::Truncated {
                have: batch.len(),
                need,
            });
        }
        let computed = crc32c(&batch[CRC_COVERED_FROM..need]);
        if computed != self.crc {
            return Err(BatchHeaderError::Crc {
                found: self.crc,
                computed,
            });
        }
        Ok(())
    }
}

/// Writes base offset and leader epoch into a batch; both lie outside its CRC.
pub fn patch_offset_and_epoch(batch: &mut [u8], base_offset: Offset, epoch: Epoch) {
    batch[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
    batch[LEADER_EPOCH_AT..LEADER_EPOCH_AT + 4]
        .copy_from_slice(&epoch.as_leader_epoch().to_be_bytes());
}

/// Stamps a batch with the broker's append time (`message.timestamp.type=LogAppendTime`, KIP-32)
/// and renews its CRC. `batch` is exactly one whole batch.
pub fn stamp_log_append_time(batch: &mut [u8], append_time: Timestamp) {
    let attributes = i16::from_be_bytes(array(batch, ATTRIBUTES_AT)) | ATTRIBUTE_LOG_APPEND_TIME;
    batch[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&append_time.to_be_bytes());
    let crc = crc32c(&batch[CRC_COVERED_FROM..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(records: &[u8], count: i32) -> Vec<u8> {
        let mut bytes = vec![0u8; HEADER_BYTES];
        bytes.extend_from_slice(records);
        let length = (bytes.len() - LENGTH_PREFIX_BYTES) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        bytes[43..51].copy_from_slice(&(-1i64).to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        let crc = crc32c(&bytes[CRC_COVERED_FROM..]);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    #[test]
    fn patching_keeps_the_crc_and_stamping_renews_it() {
        let mut bytes = batch(b"records", 3);
        patch_offset_and_epoch(&mut bytes, Offset(42), Epoch(7));
        let header = BatchHeader::parse(&bytes).expect("valid");
        assert_eq!((header.base_offset, header.partition_leader_epoch), (42, 7));
        assert_eq!(header.next_offset(), Offset(45));
        header.verify_crc(&bytes).expect("outside the CRC");
        stamp_log_append_time(&mut bytes, 1234);
        let stamped = BatchHeader::parse(&bytes).expect("valid");
        assert_eq!(stamped.max_timestamp, 1234);
        stamped.verify_crc(&bytes).expect("renewed");
    }

    #[test]
    fn damage_is_named() {
        let good = batch(b"records", 3);
        for at in CRC_COVERED_FROM..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            let caught = BatchHeader::parse(&bad).and_then(|header| header.verify_crc(&bad));
            assert!(caught.is_err(), "flip at {at} passed");
        }
        assert!(matches!(
            BatchHeader::parse(&good[..20]),
            Err(BatchHeaderError::Truncated {
                have: 20,
                need: HEADER_BYTES
            })
        ));
        let mut old = good.clone();
        old[16] = 1;
        assert_eq!(BatchHeader::parse(&old), Err(BatchHeaderError::Magic(1)));
    }
}
