//! One segment: the 4 KiB header block at the front of its file, its file names, and what the
//! store remembers of it while running.
//!
//! A segment holds one run of batches of one epoch, back to back after the header block. Its file
//! is reserved in full before the first batch and zeroed ahead of the appends, so that an append
//! changes no file metadata. Files with old contents are never recycled: a batch of a previous life
//! has a valid CRC and may even fit the offsets, and after a torn write it could be taken for live.
//! Zeroing is the price of knowing that whatever parses was written by this segment.
//!
//! The header repeats what the file name and the neighbours say; it can be rewritten from them.

use std::ops::Range;

use highwater_base::crc::crc32c;
use highwater_base::disk::FileId;
use highwater_base::limits::BLOCK_BYTES;
use highwater_base::{ClusterId, Epoch, Offset, PartitionIndex, Timestamp, TopicId};

use crate::index::SparseIndex;
use crate::unchecked::Unchecked;

/// Bytes of the header block; the first batch starts here.
pub const HEADER_BLOCK_BYTES: u64 = BLOCK_BYTES as u64;
/// Largest segment file: positions inside it are kept in 32 bits.
pub const SEGMENT_BYTES_LIMIT: u64 = u32::MAX as u64 + 1 - HEADER_BLOCK_BYTES;
/// Version of the segment layout.
pub const FORMAT_VERSION: u32 = 1;
/// `prev_epoch` of a segment that has no predecessor.
pub const NO_PREVIOUS_EPOCH: Epoch = Epoch(u32::MAX);

const MAGIC: &[u8; 8] = b"HWSEGMNT";
const CRC_AT: usize = BLOCK_BYTES - 4;

/// The facts in a segment's header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub cluster_id: ClusterId,
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    pub epoch: Epoch,
    pub base_offset: Offset,
    /// Epoch of the segment before it, or [`NO_PREVIOUS_EPOCH`].
    pub prev_epoch: Epoch,
    /// Where the log before it ended: equal to `base_offset` unless data is missing between.
    pub prev_end: Offset,
}

/// Why a block is not a segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentHeaderError {
    /// Every byte is zero: reserved, never written.
    #[error("segment header is blank")]
    Blank,
    /// Not a header, a damaged one, or cut short.
    #[error("segment header magic or checksum does not match")]
    Damaged,
    /// A layout this program does not know.
    #[error("segment format version is {0}, only {FORMAT_VERSION} is supported")]
    Version(u32),
}

impl SegmentHeader {
    /// Writes the header into `block`, which is [`HEADER_BLOCK_BYTES`] long.
    pub fn encode(&self, block: &mut [u8]) {
        assert_eq!(block.len(), BLOCK_BYTES, "a header fills one block");
        block.fill(0);
        block[0..8].copy_from_slice(MAGIC);
        block[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        block[12..28].copy_from_slice(&self.cluster_id.0);
        block[28..44].copy_from_slice(&self.topic_id.0);
        block[44..48].copy_from_slice(&self.partition.0.to_le_bytes());
        block[48..52].copy_from_slice(&self.epoch.0.to_le_bytes());
        block[52..60].copy_from_slice(&self.base_offset.0.to_le_bytes());
        block[60..64].copy_from_slice(&self.prev_epoch.0.to_le_bytes());
        block[64..72].copy_from_slice(&self.prev_end.0.to_le_bytes());
        let crc = crc32c(&block[..CRC_AT]);
        block[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a header block.
    ///
    /// # Errors
    /// [`SegmentHeaderError`]; a short block is `Damaged`.
    pub fn decode(block: &[u8]) -> Result<SegmentHeader, SegmentHeaderError> {
        if block.len() != BLOCK_BYTES {
            return Err(SegmentHeaderError::Damaged);
        }
        if block.iter().all(|&byte| byte == 0) {
            return Err(SegmentHeaderError::Blank);
        }
        let u32_at = |at: usize| u32::from_le_bytes(array(block, at));
        let i64_at = |at: usize| i64::from_le_bytes(array(block, at));
        if &block[0..8] != MAGIC || crc32c(&block[..CRC_AT]) != u32_at(CRC_AT) {
            return Err(SegmentHeaderError::Damaged);
        }
        if u32_at(8) != FORMAT_VERSION {
            return Err(SegmentHeaderError::Version(u32_at(8)));
        }
        Ok(SegmentHeader {
            cluster_id: ClusterId(array(block, 12)),
            topic_id: TopicId(array(block, 28)),
            partition: PartitionIndex(u32_at(44) as i32),
            epoch: Epoch(u32_at(48)),
            base_offset: Offset(i64_at(52)),
            prev_epoch: Epoch(u32_at(60)),
            prev_end: Offset(i64_at(64)),
        })
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// A file name found in a partition's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileName {
    /// `{base_offset:020}-{epoch}.log`
    Segment { base_offset: Offset, epoch: Epoch },
    /// `prepared-{n}.log`: reserved ahead; named for good after its first durable batch.
    Prepared(u32),
    /// A `.index` or `.producers` file beside a segment.
    Sidecar { base_offset: Offset, epoch: Epoch },
}

impl FileName {
    /// Recognises a name of ours; anything else is `None` and left alone.
    #[must_use]
    pub fn parse(name: &str) -> Option<FileName> {
        if let Some(number) = name.strip_prefix("prepared-") {
            let number = number.strip_suffix(".log")?;
            return number.parse().ok().map(FileName::Prepared);
        }
        let (stem, extension) = name.rsplit_once('.')?;
        let (base, epoch) = stem.split_once('-')?;
        if base.len() != 20 || !base.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let base_offset = Offset(base.parse().ok()?);
        let epoch = Epoch(epoch.parse().ok()?);
        match extension {
            "log" => Some(FileName::Segment { base_offset, epoch }),
            "index" | "producers" => Some(FileName::Sidecar { base_offset, epoch }),
            _ => None,
        }
    }
}

/// Directory of a partition, relative to the data directory.
#[must_use]
pub fn partition_directory(topic: &str, topic_id: TopicId, partition: PartitionIndex) -> String {
    format!("topics/{topic}/{topic_id}/{}", partition.0)
}

/// `{directory}/{base_offset:020}-{epoch}.{extension}`
#[must_use]
pub fn segment_path(directory: &str, base: Offset, epoch: Epoch, extension: &str) -> String {
    format!("{directory}/{:020}-{}.{extension}", base.0, epoch.0)
}

/// `{directory}/prepared-{number}.log`
#[must_use]
pub fn prepared_path(directory: &str, number: u32) -> String {
    format!("{directory}/prepared-{number}.log")
}

/// Whether the file behind a segment can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileState {
    /// No request for it was made yet.
    Absent,
    /// A `Create` is under way.
    Creating,
    /// Exists with its full size.
    Ready,
}

/// The file of a segment: where it is and which of its blocks are known to be written.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFile {
    pub file: FileId,
    pub state: FileState,
    /// Set while the file carries its `prepared-{n}` name.
    pub prepared_number: Option<u32>,
    pub size_bytes: u64,
    /// Blocks that zeros were durably written to ahead of the appends.
    pub zeroed: Range<u64>,
    /// Blocks a `Zero` under way covers: no append may touch them.
    pub zeroing: Option<Range<u64>>,
    /// Set when zeroing failed or is pointless.
    pub zeroing_off: bool,
}

impl SegmentFile {
    pub fn absent(file: FileId, size_bytes: u64) -> SegmentFile {
        SegmentFile {
            file,
            state: FileState::Absent,
            prepared_number: None,
            size_bytes,
            zeroed: 0..0,
            zeroing: None,
            zeroing_off: false,
        }
    }
}

/// One segment of a log.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub base_offset: Offset,
    pub epoch: Epoch,
    pub file: SegmentFile,
    /// Where the next batch goes: header block and all batches appended so far.
    pub end_position: u64,
    pub next_offset: Offset,
    /// Timestamp of the first batch, or -1: `segment.ms` counts from it.
    pub first_timestamp: Timestamp,
    pub max_timestamp: Timestamp,
    pub index: SparseIndex,
    /// Where holes begin: the position and offset after the last whole batch before each.
    pub hole_positions: Vec<(u64, Offset)>,
    /// What is to be checked before it is sent.
    pub unchecked: Unchecked,
    /// Takes no more appends.
    pub sealed: bool,
    /// The `.index` sidecar and the final file size are settled.
    pub settled: bool,
}

/// What the host may know of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    pub base_offset: Offset,
    pub next_offset: Offset,
    pub epoch: Epoch,
    /// Bytes of batches, without the header block.
    pub data_bytes: u64,
    /// Bytes reserved on disk.
    pub size_bytes: u64,
    /// Largest timestamp of its batches, -1 when it has none.
    pub max_timestamp: Timestamp,
    pub file: FileId,
}

impl Segment {
    /// Bytes of batches.
    pub fn data_bytes(&self) -> u64 {
        self.end_position - HEADER_BLOCK_BYTES
    }

    /// Whether nothing is under way or left to do for its file.
    pub fn is_removable(&self) -> bool {
        let is_over = (self.sealed && self.settled) || cfg!(mutant = "S11");
        is_over && self.file.prepared_number.is_none()
    }

    pub fn info(&self) -> SegmentInfo {
        SegmentInfo {
            base_offset: self.base_offset,
            next_offset: self.next_offset,
            epoch: self.epoch,
            data_bytes: self.data_bytes(),
            size_bytes: self.file.size_bytes,
            max_timestamp: self.max_timestamp,
            file: self.file.file,
        }
    }
}

/// The start of the block that `position` lies in.
pub(crate) fn block_floor(position: u64) -> u64 {
    position - position % BLOCK_BYTES as u64
}

/// The end of the last block that bytes before `position` touch.
pub(crate) fn block_ceil(position: u64) -> u64 {
    position.next_multiple_of(BLOCK_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            cluster_id: ClusterId([1; 16]),
            topic_id: TopicId([2; 16]),
            partition: PartitionIndex(3),
            epoch: Epoch(4),
            base_offset: Offset(5),
            prev_epoch: Epoch(3),
            prev_end: Offset(5),
        }
    }

    #[test]
    fn header_round_trips_and_every_bit_is_covered() {
        let mut block = vec![0xff; BLOCK_BYTES];
        header().encode(&mut block);
        assert_eq!(SegmentHeader::decode(&block), Ok(header()));
        for at in 0..BLOCK_BYTES {
            let mut bad = block.clone();
            bad[at] ^= 1;
            assert!(SegmentHeader::decode(&bad).is_err(), "flip at {at} passed");
        }
        assert_eq!(
            SegmentHeader::decode(&vec![0; BLOCK_BYTES]),
            Err(SegmentHeaderError::Blank)
        );
        assert_eq!(
            SegmentHeader::decode(&block[..100]),
            Err(SegmentHeaderError::Damaged)
        );
    }

    #[test]
    fn names_round_trip() {
        let path = segment_path("d", Offset(17), Epoch(2), "log");
        assert_eq!(path, "d/00000000000000000017-2.log");
        assert_eq!(
            FileName::parse("00000000000000000017-2.log"),
            Some(FileName::Segment {
                base_offset: Offset(17),
                epoch: Epoch(2)
            })
        );
        assert_eq!(
            FileName::parse("prepared-7.log"),
            Some(FileName::Prepared(7))
        );
        for foreign in ["lost+found", "17-2.log", "prepared-x.log", "a.b", ""] {
            assert_eq!(FileName::parse(foreign), None, "{foreign}");
        }
    }
}
