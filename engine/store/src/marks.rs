//! The bytes of the marks ledger: fixed-size records in checksummed blocks of 4 KiB.
//!
//! Block: magic u32, version u16, core u16, generation u64, index u32, record count u16, flags u16,
//! crc32c u32 (of the block with this field zero), four zero bytes, run u64, flush u64, completed
//! flush u64, zeros up to byte 64, then records of 48 bytes, all little endian.
//! Record: kind u8, three zero bytes, partition i32, topic id, epoch u32, position u32, two i64 whose
//! meaning the kind gives.

use highwater_base::crc::crc32c;
use highwater_base::limits::BLOCK_BYTES;
use highwater_base::{CoreId, Epoch, Offset, PartitionIndex, Position, TopicId};

const MAGIC: u32 = 0x4857_4d4b; // "HWMK"
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 64;
const RECORD_BYTES: usize = 48;
const CRC_AT: usize = 24;
const RUN_AT: usize = 32;
const FLUSH_AT: usize = 40;
const COMPLETED_AT: usize = 48;

/// Records one block holds.
pub const RECORDS_PER_BLOCK: usize = (BLOCK_BYTES - HEADER_BYTES) / RECORD_BYTES;
/// Flag of the last block of a generation's snapshot.
pub const SNAPSHOT_ENDS: u16 = 1;

/// A partition as the ledger names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
}

/// One fact about a partition. Later facts of the same partition and kind supersede earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// An epoch begins at an offset.
    Epoch {
        key: PartitionKey,
        epoch: Epoch,
        start: Offset,
    },
    /// The log is durable up to `persisted_end`, which is at `position` of its segment's file (0: not
    /// known), and committed up to `high_watermark`.
    Progress {
        key: PartitionKey,
        epoch: Epoch,
        position: u32,
        persisted_end: Offset,
        high_watermark: Offset,
    },
    /// The log was cut to end at `to`.
    Truncated {
        key: PartitionKey,
        epoch: Epoch,
        to: Offset,
    },
    /// Nothing below `offset` is kept.
    LogStart { key: PartitionKey, offset: Offset },
    /// Stopped cleanly with the log ending here.
    Clean {
        key: PartitionKey,
        position: Position,
    },
    /// The partition is gone.
    Dropped { key: PartitionKey },
    /// Marks of the log were lost when it ended at `upto`: what was acknowledged below is not known,
    /// until the log begins there.
    Unvouched { key: PartitionKey, upto: Offset },
}

impl Mark {
    /// The partition it is about.
    #[must_use]
    pub fn key(&self) -> PartitionKey {
        match *self {
            Mark::Epoch { key, .. }
            | Mark::Progress { key, .. }
            | Mark::Truncated { key, .. }
            | Mark::LogStart { key, .. }
            | Mark::Clean { key, .. }
            | Mark::Unvouched { key, .. }
            | Mark::Dropped { key } => key,
        }
    }

    fn encode(&self) -> [u8; RECORD_BYTES] {
        let (kind, epoch, first, second) = match *self {
            Mark::Epoch { epoch, start, .. } => (1u8, epoch, start.0, 0),
            Mark::Progress {
                epoch,
                persisted_end,
                high_watermark,
                ..
            } => (2, epoch, persisted_end.0, high_watermark.0),
            Mark::Truncated { epoch, to, .. } => (3, epoch, to.0, 0),
            Mark::LogStart { offset, .. } => (4, Epoch(0), offset.0, 0),
            Mark::Clean { position, .. } => (5, position.epoch, position.end.0, 0),
            Mark::Dropped { .. } => (6, Epoch(0), 0, 0),
            Mark::Unvouched { upto, .. } => (7, Epoch(0), upto.0, 0),
        };
        let key = self.key();
        let position = match *self {
            Mark::Progress { position, .. } => position,
            Mark::Epoch { .. }
            | Mark::Truncated { .. }
            | Mark::LogStart { .. }
            | Mark::Clean { .. }
            | Mark::Unvouched { .. }
            | Mark::Dropped { .. } => 0,
        };
        let mut out = [0u8; RECORD_BYTES];
        out[0] = kind;
        out[4..8].copy_from_slice(&key.partition.0.to_le_bytes());
        out[8..24].copy_from_slice(&key.topic_id.0);
        out[24..28].copy_from_slice(&epoch.0.to_le_bytes());
        out[28..32].copy_from_slice(&position.to_le_bytes());
        out[32..40].copy_from_slice(&first.to_le_bytes());
        out[40..48].copy_from_slice(&second.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Mark> {
        let key = PartitionKey {
            topic_id: TopicId(take(bytes, 8)),
            partition: PartitionIndex(i32::from_le_bytes(take(bytes, 4))),
        };
        let epoch = Epoch(u32::from_le_bytes(take(bytes, 24)));
        let position = u32::from_le_bytes(take(bytes, 28));
        let first = Offset(i64::from_le_bytes(take(bytes, 32)));
        let second = Offset(i64::from_le_bytes(take(bytes, 40)));
        Some(match bytes[0] {
            1 => Mark::Epoch {
                key,
                epoch,
                start: first,
            },
            2 => Mark::Progress {
                key,
                epoch,
                position,
                persisted_end: first,
                high_watermark: second,
            },
            3 => Mark::Truncated {
                key,
                epoch,
                to: first,
            },
            4 => Mark::LogStart { key, offset: first },
            5 => Mark::Clean {
                key,
                position: Position { epoch, end: first },
            },
            6 => Mark::Dropped { key },
            7 => Mark::Unvouched { key, upto: first },
            _ => return None,
        })
    }
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// What a block says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    pub core: CoreId,
    /// The run of the node that wrote it; 0 of versions that did not count them.
    pub run: u64,
    pub generation: u64,
    pub index: u32,
    pub flags: u16,
    /// The flush it belongs to, and the newest one that was complete when it was made, both counted
    /// from 1 and the snapshot of a start; 0 of versions that did not tell.
    pub flush: u64,
    pub completed_flush: u64,
}

impl BlockHeader {
    /// Whether a block behind this one that is damaged in every copy may have been on its way when the
    /// power went, so that nobody relied on it: no later block knows its flush to be complete.
    #[must_use]
    pub fn next_was_in_flight(&self, completed_flush_later: u64) -> bool {
        self.flush > 0 && completed_flush_later <= self.flush
    }
}

/// Writes a block over `out`, which is exactly one block.
pub fn encode_block(header: &BlockHeader, marks: &[Mark], out: &mut [u8]) {
    assert!(out.len() == BLOCK_BYTES && marks.len() <= RECORDS_PER_BLOCK);
    out.fill(0);
    out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    out[4..6].copy_from_slice(&VERSION.to_le_bytes());
    out[6..8].copy_from_slice(&header.core.0.to_le_bytes());
    out[8..16].copy_from_slice(&header.generation.to_le_bytes());
    out[16..20].copy_from_slice(&header.index.to_le_bytes());
    out[20..22].copy_from_slice(&(marks.len() as u16).to_le_bytes());
    out[22..24].copy_from_slice(&header.flags.to_le_bytes());
    out[RUN_AT..RUN_AT + 8].copy_from_slice(&header.run.to_le_bytes());
    out[FLUSH_AT..FLUSH_AT + 8].copy_from_slice(&header.flush.to_le_bytes());
    out[COMPLETED_AT..COMPLETED_AT + 8].copy_from_slice(&header.completed_flush.to_le_bytes());
    for (at, mark) in marks.iter().enumerate() {
        let from = HEADER_BYTES + at * RECORD_BYTES;
        out[from..from + RECORD_BYTES].copy_from_slice(&mark.encode());
    }
    let crc = crc32c(out);
    out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Reads a block; `None` when it is blank, damaged or of another format.
#[must_use]
pub fn decode_block(block: &[u8]) -> Option<(BlockHeader, Vec<Mark>)> {
    if block.len() != BLOCK_BYTES
        || u32::from_le_bytes(take(block, 0)) != MAGIC
        || u16::from_le_bytes(take(block, 4)) != VERSION
    {
        return None;
    }
    let mut copy = [0u8; BLOCK_BYTES];
    copy.copy_from_slice(block);
    copy[CRC_AT..CRC_AT + 4].fill(0);
    if crc32c(&copy) != u32::from_le_bytes(take(block, CRC_AT)) {
        return None;
    }
    let count = usize::from(u16::from_le_bytes(take(block, 20)));
    if count > RECORDS_PER_BLOCK {
        return None;
    }
    let header = BlockHeader {
        core: CoreId(u16::from_le_bytes(take(block, 6))),
        run: u64::from_le_bytes(take(block, RUN_AT)),
        generation: u64::from_le_bytes(take(block, 8)),
        index: u32::from_le_bytes(take(block, 16)),
        flags: u16::from_le_bytes(take(block, 22)),
        flush: u64::from_le_bytes(take(block, FLUSH_AT)),
        completed_flush: u64::from_le_bytes(take(block, COMPLETED_AT)),
    };
    let marks = (0..count)
        .map(|at| Mark::decode(&take(block, HEADER_BYTES + at * RECORD_BYTES)))
        .collect::<Option<Vec<Mark>>>()?;
    Some((header, marks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_round_trip_and_every_flipped_bit_is_noticed() {
        let key = PartitionKey {
            topic_id: TopicId([7; 16]),
            partition: PartitionIndex(3),
        };
        let marks = [
            Mark::Epoch {
                key,
                epoch: Epoch(2),
                start: Offset(10),
            },
            Mark::Progress {
                key,
                epoch: Epoch(2),
                position: 8192,
                persisted_end: Offset(20),
                high_watermark: Offset(19),
            },
            Mark::Truncated {
                key,
                epoch: Epoch(2),
                to: Offset(15),
            },
            Mark::LogStart {
                key,
                offset: Offset(4),
            },
            Mark::Clean {
                key,
                position: Position {
                    epoch: Epoch(2),
                    end: Offset(15),
                },
            },
            Mark::Dropped { key },
            Mark::Unvouched {
                key,
                upto: Offset(15),
            },
        ];
        let header = BlockHeader {
            core: CoreId(1),
            run: 6,
            generation: 9,
            index: 4,
            flags: SNAPSHOT_ENDS,
            flush: 3,
            completed_flush: 2,
        };
        let mut block = vec![0xaa; BLOCK_BYTES];
        encode_block(&header, &marks, &mut block);
        assert_eq!(decode_block(&block), Some((header, marks.to_vec())));
        for at in (0..BLOCK_BYTES).step_by(7) {
            let mut bad = block.clone();
            bad[at] ^= 1;
            assert_eq!(decode_block(&bad), None, "flip at {at}");
        }
        assert_eq!(decode_block(&[0; BLOCK_BYTES]), None);
    }
}
