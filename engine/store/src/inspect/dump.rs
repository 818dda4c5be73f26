//! Reading one file for a dump: every unit in it, sound or not, with what is wrong.

use highwater_base::disk::{BootDisk, DiskError};
use highwater_base::limits::BLOCK_BYTES;
use highwater_base::record_batch::HEADER_BYTES;
use highwater_base::{BatchHeader, Epoch, Offset};

use super::{BatchFault, IndexImage, LogImage};
use crate::batch_scan::BatchScan;
use crate::checkpoint;
use crate::marks::{BlockHeader, Mark, decode_block};
use crate::producer_state::Producer;
use crate::segment::{HEADER_BLOCK_BYTES, SegmentHeader, SegmentHeaderError};
use crate::sidecar;
use crate::superblock::{self, Copy, Superblock};

/// One unit of a segment file.
#[derive(Debug)]
pub enum SegmentItem<'a> {
    /// The header block.
    Header {
        bytes: &'a [u8],
        decoded: Result<SegmentHeader, SegmentHeaderError>,
    },
    /// A batch; with a fault its checksum is wrong, and the rest may be as well.
    Batch {
        position: u64,
        header: BatchHeader,
        bytes: &'a [u8],
        fault: Option<BatchFault>,
    },
    /// Bytes that are no batch, up to the next one or the end of what is not zero.
    Junk {
        position: u64,
        until: u64,
        bytes: &'a [u8],
        fault: BatchFault,
    },
    /// Zeros to the end of the file.
    Padding { position: u64, until: u64 },
}

/// Walks a segment file from the batch that holds `from` on, until `visit` has had enough (false).
///
/// # Errors
/// The disk does not give the bytes.
pub fn walk_segment(
    boot: &dyn BootDisk,
    path: &str,
    size_bytes: u64,
    from: Offset,
    visit: &mut dyn FnMut(SegmentItem<'_>) -> bool,
) -> Result<(), DiskError> {
    let mut head = vec![0; BLOCK_BYTES];
    let got = boot.read(path, 0, &mut head)?;
    let decoded = SegmentHeader::decode(&head[..got]);
    let bytes = &head[..got];
    if !visit(SegmentItem::Header { bytes, decoded }) {
        return Ok(());
    }
    let mut batches = BatchScan::new(path, size_bytes);
    let mut position = HEADER_BLOCK_BYTES;
    while position < size_bytes {
        let examined = batches.examine(boot, position, None)?;
        let examined = examined.map(|(header, _)| header);
        let (header, fault) = match examined {
            Ok(header) => (header, None),
            // The length is believed where batches, or zeros, follow it.
            Err(fault @ BatchFault::Crc { header, .. })
                if goes_on_at(boot, &mut batches, position + header.total_bytes() as u64)? =>
            {
                (header, Some(fault))
            }
            Err(fault) => {
                let Some(until) =
                    walk_junk(boot, &mut batches, position, size_bytes, fault, visit)?
                else {
                    return Ok(());
                };
                position = until;
                continue;
            }
        };
        let total = header.total_bytes();
        if header.next_offset() > from {
            let bytes = batches.raw(boot, position, total)?;
            let item = SegmentItem::Batch {
                position,
                header,
                bytes,
                fault,
            };
            if !visit(item) {
                return Ok(());
            }
        }
        position += total as u64;
    }
    Ok(())
}

/// Whether a batch, zeros or the end of the file are at `position`.
fn goes_on_at(
    boot: &dyn BootDisk,
    batches: &mut BatchScan<'_>,
    position: u64,
) -> Result<bool, DiskError> {
    let examined = batches.examine(boot, position, None)?;
    if matches!(examined, Ok(_) | Err(BatchFault::Crc { .. })) {
        return Ok(true);
    }
    let head = batches.raw(boot, position, HEADER_BYTES)?;
    Ok(head.iter().all(|byte| *byte == 0))
}

/// Bytes that are no batch. Where batches go on; `None` when they do not.
fn walk_junk(
    boot: &dyn BootDisk,
    batches: &mut BatchScan<'_>,
    position: u64,
    size_bytes: u64,
    fault: BatchFault,
    visit: &mut dyn FnMut(SegmentItem<'_>) -> bool,
) -> Result<Option<u64>, DiskError> {
    let Some(last) = batches.last_nonzero(boot, position, size_bytes)? else {
        let until = size_bytes;
        visit(SegmentItem::Padding { position, until });
        return Ok(None);
    };
    let next = batches.find_any(boot, position + 1)?;
    let until = next.unwrap_or(last + 1);
    let shown = (until - position).min(4 * HEADER_BYTES as u64) as usize;
    let bytes = batches.raw(boot, position, shown)?;
    let goes_on = visit(SegmentItem::Junk {
        position,
        until,
        bytes,
        fault,
    });
    if next.is_none() && goes_on && until < size_bytes {
        visit(SegmentItem::Padding {
            position: until,
            until: size_bytes,
        });
    }
    Ok(next.filter(|_| goes_on))
}

/// One copy of the superblock.
#[derive(Debug)]
pub struct SuperblockCopy {
    pub position: u64,
    pub bytes: Vec<u8>,
    /// What it says, or why it says nothing.
    pub decoded: Result<Superblock, String>,
}

/// Every copy in a superblock file.
///
/// # Errors
/// The disk does not give the bytes.
pub fn read_superblock(boot: &dyn BootDisk, path: &str) -> Result<Vec<SuperblockCopy>, DiskError> {
    let mut bytes = vec![0u8; superblock::COPIES * BLOCK_BYTES];
    let got = boot.read(path, 0, &mut bytes)?;
    let copies = bytes[..got].chunks_exact(BLOCK_BYTES).enumerate();
    let copies = copies.map(|(at, block)| SuperblockCopy {
        position: (at * BLOCK_BYTES) as u64,
        bytes: block.to_vec(),
        decoded: match superblock::decode(block) {
            Copy::Good(superblock) => Ok(superblock),
            Copy::Blank => Err("blank".to_string()),
            Copy::Damaged => Err("magic or checksum does not match".to_string()),
            Copy::Foreign(version) => Err(format!("format version {version} is unknown")),
        },
    });
    Ok(copies.collect())
}

/// One block of a ledger file that is not blank.
#[derive(Debug)]
pub struct LedgerBlock {
    pub position: u64,
    pub bytes: Vec<u8>,
    /// `None` when it is damaged.
    pub decoded: Option<(BlockHeader, Vec<Mark>)>,
}

/// The blocks of a ledger file that are not blank, until `visit` has had enough (false).
///
/// # Errors
/// The disk does not give the bytes.
pub fn read_ledger(
    boot: &dyn BootDisk,
    path: &str,
    visit: &mut dyn FnMut(LedgerBlock) -> bool,
) -> Result<(), DiskError> {
    let mut position = 0;
    let mut block = vec![0u8; BLOCK_BYTES];
    loop {
        let got = boot.read(path, position, &mut block)?;
        let bytes = &block[..got];
        if bytes.iter().any(|byte| *byte != 0) {
            let decoded = decode_block(bytes);
            let bytes = bytes.to_vec();
            let found = LedgerBlock {
                position,
                bytes,
                decoded,
            };
            if !visit(found) {
                return Ok(());
            }
        }
        if got < BLOCK_BYTES {
            return Ok(());
        }
        position += BLOCK_BYTES as u64;
    }
}

/// An index file; `None` when it is damaged.
///
/// # Errors
/// The disk does not give the bytes.
pub fn read_index(
    boot: &dyn BootDisk,
    path: &str,
    size_bytes: u64,
) -> Result<Option<IndexImage>, DiskError> {
    let bytes = checkpoint::read_whole(boot, path, size_bytes)?;
    Ok(sidecar::decode_index(&bytes).map(|(mut image, index)| {
        image.entries = index.entries().to_vec();
        image
    }))
}

/// A snapshot of producers and the offset it is of; `None` when it is damaged.
///
/// # Errors
/// The disk does not give the bytes.
pub fn read_producers(
    boot: &dyn BootDisk,
    path: &str,
    size_bytes: u64,
) -> Result<Option<(Offset, Vec<Producer>)>, DiskError> {
    let bytes = checkpoint::read_whole(boot, path, size_bytes)?;
    let decoded = sidecar::decode_producers(&bytes);
    Ok(decoded.map(|(offset, table)| (offset, table.snapshot())))
}

/// The run and the logs of a checkpoint; `None` when it is damaged.
///
/// # Errors
/// The disk does not give the bytes.
pub fn read_checkpoint(
    boot: &dyn BootDisk,
    path: &str,
    size_bytes: u64,
) -> Result<Option<(u64, Vec<LogImage>)>, DiskError> {
    let bytes = checkpoint::read_whole(boot, path, size_bytes)?;
    Ok(checkpoint::decode(&bytes))
}

impl BatchScan<'_> {
    /// Where the first valid batch at or behind `from` begins, whatever its epoch.
    fn find_any(&mut self, boot: &dyn BootDisk, from: u64) -> Result<Option<u64>, DiskError> {
        let mut position = from;
        loop {
            let head = self.raw(boot, position, HEADER_BYTES)?;
            if head.len() < HEADER_BYTES {
                return Ok(None);
            }
            let leader_epoch = i32::from_be_bytes([head[12], head[13], head[14], head[15]]);
            if head[16] == 2
                && let Ok(epoch) = u32::try_from(leader_epoch)
                && self.batch_at(boot, position, Epoch(epoch))?.is_some()
            {
                return Ok(Some(position));
            }
            position += 1;
        }
    }
}
