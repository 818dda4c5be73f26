//! The small files beside the log: segment index, producer snapshot, checkpoint. Each is a 16-byte
//! frame {magic, CRC32C, length} around an rkyv archive, and is validated before anything in it is
//! believed. All of them can be rebuilt from the segments.

use highwater_base::crc::crc32c;
use highwater_base::{Offset, Timestamp};
use rkyv::util::AlignedVec;

use crate::index::{IndexEntry, SparseIndex};
use crate::producer_state::{Producer, ProducerTable};
use crate::segment::Segment;

const FRAME_BYTES: usize = 16;
/// Tells our files from others and names what is in them.
pub(crate) const INDEX_MAGIC: [u8; 8] = *b"HWINDEX2";
pub(crate) const PRODUCERS_MAGIC: [u8; 8] = *b"HWPRODS1";
pub(crate) const CHECKPOINT_MAGIC: [u8; 8] = *b"HWCHECK2";
/// Largest sidecar that is read back.
pub(crate) const SIDECAR_BYTES_MAX: u64 = 256 << 20;

/// What is saved of a sealed segment.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct IndexImage {
    pub base_offset: i64,
    pub epoch: u32,
    pub next_offset: i64,
    pub end_position: u64,
    pub first_timestamp: Timestamp,
    pub max_timestamp: Timestamp,
    /// The segment has a hole: the entries are right, and a start must scan it to find the hole again.
    pub is_damaged: bool,
    pub entries: Vec<IndexEntry>,
}

/// Producer state as of an offset.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct ProducersImage {
    pub offset: i64,
    pub producers: Vec<Producer>,
}

/// Puts a payload into its frame.
pub(crate) fn frame(magic: [u8; 8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FRAME_BYTES + payload.len());
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&crc32c(payload).to_le_bytes());
    let len = u32::try_from(payload.len()).expect("a sidecar is smaller than 4 GiB");
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The payload of a frame, aligned for rkyv; `None` when anything does not match.
pub(crate) fn unframe(magic: [u8; 8], bytes: &[u8]) -> Option<AlignedVec> {
    let (head, payload) = bytes.split_at_checked(FRAME_BYTES)?;
    let crc = u32::from_le_bytes(head[8..12].try_into().ok()?);
    let len = u32::from_le_bytes(head[12..16].try_into().ok()?);
    if head[..8] != magic || payload.len() != len as usize || crc32c(payload) != crc {
        return None;
    }
    let mut aligned = AlignedVec::with_capacity(payload.len());
    aligned.extend_from_slice(payload);
    Some(aligned)
}

pub(crate) fn index_image(segment: &Segment) -> IndexImage {
    IndexImage {
        base_offset: segment.base_offset.0,
        epoch: segment.epoch.0,
        next_offset: segment.next_offset.0,
        end_position: segment.end_position,
        first_timestamp: segment.first_timestamp,
        max_timestamp: segment.max_timestamp,
        is_damaged: !segment.hole_positions.is_empty(),
        entries: segment.index.entries().to_vec(),
    }
}

pub(crate) fn encode_index(segment: &Segment) -> Vec<u8> {
    let payload = rkyv::to_bytes::<rkyv::rancor::Error>(&index_image(segment));
    frame(INDEX_MAGIC, &payload.expect("serialising into memory"))
}

/// A saved index whose entries make sense for the segment it says it is of.
pub(crate) fn decode_index(bytes: &[u8]) -> Option<(IndexImage, SparseIndex)> {
    let payload = unframe(INDEX_MAGIC, bytes)?;
    let mut image = rkyv::from_bytes::<IndexImage, rkyv::rancor::Error>(&payload).ok()?;
    let index = SparseIndex::from_entries(std::mem::take(&mut image.entries))?;
    let inside = index.entries().iter().all(|entry| {
        u64::from(entry.position) < image.end_position
            && image.base_offset + i64::from(entry.relative_offset) < image.next_offset
    });
    inside.then_some((image, index))
}

pub(crate) fn encode_producers(offset: Offset, producers: &ProducerTable) -> Vec<u8> {
    let image = ProducersImage {
        offset: offset.0,
        producers: producers.snapshot(),
    };
    let payload = rkyv::to_bytes::<rkyv::rancor::Error>(&image);
    frame(PRODUCERS_MAGIC, &payload.expect("serialising into memory"))
}

pub(crate) fn decode_producers(bytes: &[u8]) -> Option<(Offset, ProducerTable)> {
    let payload = unframe(PRODUCERS_MAGIC, bytes)?;
    let image = rkyv::from_bytes::<ProducersImage, rkyv::rancor::Error>(&payload).ok()?;
    let table = ProducerTable::from_snapshot(image.producers);
    Some((Offset(image.offset), table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let mut table = ProducerTable::default();
        let header = highwater_base::BatchHeader {
            base_offset: 0,
            batch_length: 49,
            partition_leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: 7,
            producer_epoch: 0,
            base_sequence: 0,
            record_count: 1,
        };
        table.note(&header, Offset(3), 5);
        let good = encode_producers(Offset(4), &table);
        assert_eq!(decode_producers(&good), Some((Offset(4), table)));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert_eq!(decode_producers(&bad), None, "flip at {at} passed");
            assert_eq!(decode_producers(&good[..at]), None, "cut at {at} passed");
        }
    }
}
