//! A batch on its way: open while it takes records, closed from then on.

use highwater_base::Timestamp;
use highwater_base::crc::crc32c;
use highwater_base::record_batch::{CRC_COVERED_FROM, HEADER_BYTES};
use highwater_wire::compression::Codec;
use highwater_wire::records::RecordBatchBuilder;

use crate::calls::ProducerIdentity;
use crate::error::ClientError;
use crate::record::RecordToSend;

/// Where identity and sequence stand in the batch header.
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const CRC_AT: usize = CRC_COVERED_FROM - 4;

/// A batch that still takes records.
#[derive(Debug, Default)]
pub(super) struct OpenBatch {
    builder: RecordBatchBuilder,
    tokens: Vec<u64>,
    created_ns: u64,
}

/// A batch whose bytes are final but for identity and sequence.
#[derive(Debug)]
pub(super) struct Batch {
    /// Names the batch within its producer.
    pub id: u64,
    pub bytes: Vec<u8>,
    /// The callers' names of its records, in order.
    pub tokens: Vec<u64>,
    /// Bytes that its records count in the producer's budget.
    pub budget_bytes: usize,
    pub created_ns: u64,
    /// Sequence of its first record, once it was sent under the current identity.
    pub sequence: Option<i32>,
    pub in_flight: bool,
    /// Whether a broker may have it.
    pub sent: bool,
}

impl OpenBatch {
    pub fn bytes(&self) -> usize {
        self.builder.bytes()
    }

    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    pub fn created_ns(&self) -> u64 {
        self.created_ns
    }

    /// Whether a record fits; an empty batch takes any record that fits at all.
    pub fn has_room(&self, record_bytes: usize, batch_bytes_max: usize) -> bool {
        self.builder.bytes() + record_bytes <= batch_bytes_max
    }

    pub fn append(&mut self, now_ns: u64, time: Timestamp, record: &RecordToSend<'_>, token: u64) {
        if self.tokens.is_empty() {
            self.created_ns = now_ns;
        }
        self.builder
            .append(time, record.key, record.value, record.headers);
        self.tokens.push(token);
    }

    pub fn close(self, id: u64, codec: Codec) -> Result<Batch, (ClientError, Vec<u64>, usize)> {
        let budget_bytes = self.builder.bytes();
        match self.builder.into_batch(codec) {
            Ok(bytes) => Ok(Batch {
                id,
                bytes,
                tokens: self.tokens,
                budget_bytes,
                created_ns: self.created_ns,
                sequence: None,
                in_flight: false,
                sent: false,
            }),
            Err(error) => {
                let error = ClientError::Usage(format!("the batch cannot be compressed: {error}"));
                Err((error, self.tokens, budget_bytes))
            }
        }
    }
}

impl Batch {
    /// Writes identity and sequence into the header and renews the CRC.
    pub fn stamp(&mut self, identity: ProducerIdentity, sequence: i32) {
        assert!(self.bytes.len() >= HEADER_BYTES, "a batch has a header");
        assert!(sequence >= 0, "sequences count from zero, not {sequence}");
        let bytes = &mut self.bytes;
        bytes[PRODUCER_ID_AT..PRODUCER_ID_AT + 8].copy_from_slice(&identity.id.to_be_bytes());
        bytes[PRODUCER_EPOCH_AT..PRODUCER_EPOCH_AT + 2]
            .copy_from_slice(&identity.epoch.to_be_bytes());
        bytes[BASE_SEQUENCE_AT..BASE_SEQUENCE_AT + 4].copy_from_slice(&sequence.to_be_bytes());
        let crc = crc32c(&bytes[CRC_COVERED_FROM..]);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
        self.sequence = Some(sequence);
    }
}

/// The sequence `count` records after `sequence`; Kafka wraps from 2^31-1 to 0.
pub(super) fn sequence_after(sequence: i32, count: usize) -> i32 {
    ((i64::from(sequence) + count as i64) % (i64::from(i32::MAX) + 1)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_base::BatchHeader;

    #[test]
    fn a_stamped_batch_is_valid_and_carries_its_identity() {
        let mut open = OpenBatch::default();
        let record = RecordToSend {
            value: Some(b"v"),
            ..Default::default()
        };
        open.append(1, 1000, &record, 7);
        open.append(2, 1001, &record, 8);
        let mut batch = open.close(1, Codec::Lz4).expect("compresses");
        batch.stamp(ProducerIdentity { id: 42, epoch: 3 }, 17);
        let header = BatchHeader::parse(&batch.bytes).expect("valid");
        header.verify_crc(&batch.bytes).expect("renewed");
        assert_eq!((header.producer_id, header.producer_epoch), (42, 3));
        assert_eq!((header.base_sequence, header.record_count), (17, 2));
        assert_eq!((batch.tokens, batch.created_ns), (vec![7, 8], 1));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(5, 3), 8);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 4), 2);
    }
}
