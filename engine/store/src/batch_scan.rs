//! Reading batches out of a segment file with blocking calls, in large chunks, believing nothing.
//!
//! A block that the device cannot read is damage of that block: it reads as bytes that are no batch
//! and not blank, and is noted.

use highwater_base::disk::{BootDisk, DiskError};
use highwater_base::limits::BLOCK_BYTES;
use highwater_base::record_batch::{BatchHeaderError, HEADER_BYTES};
use highwater_base::{BatchHeader, Epoch};

use crate::segment::HEADER_BLOCK_BYTES;

/// Bytes read at once.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;
/// What an unreadable block reads as.
const UNREADABLE_BYTE: u8 = 0xff;

/// Why the bytes at a position are no batch of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchFault {
    /// The file ends within the header.
    NoRoom { have: u64 },
    /// No batch header, or one whose fields contradict each other.
    Header(BatchHeaderError),
    /// The file ends within the batch.
    Beyond { header: BatchHeader, have: u64 },
    /// A whole batch of another epoch, its checksum not looked at.
    Epoch { header: BatchHeader },
    /// The checksum does not match.
    Crc {
        header: BatchHeader,
        error: BatchHeaderError,
    },
}

/// A window over one file.
pub(crate) struct BatchScan<'a> {
    path: &'a str,
    /// Nothing at or behind this position is looked at.
    end: u64,
    chunk: Vec<u8>,
    chunk_start: u64,
    /// Bytes read and checked so far, and how many of both a search may take.
    work_bytes: u64,
    work_bytes_max: u64,
    /// The first block that could not be read.
    unreadable: Option<(u64, DiskError)>,
}

impl<'a> BatchScan<'a> {
    pub fn new(path: &'a str, end: u64) -> BatchScan<'a> {
        BatchScan {
            path,
            end,
            chunk: Vec::new(),
            chunk_start: 0,
            work_bytes: 0,
            work_bytes_max: u64::MAX,
            unreadable: None,
        }
    }

    /// Where looking ends.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// From now on a search ends when it has read and checked so many bytes.
    pub fn limit_work(&mut self, bytes: u64) {
        self.work_bytes_max = self.work_bytes.saturating_add(bytes);
    }

    /// Whether a search ended for that reason.
    pub fn is_exhausted(&self) -> bool {
        self.work_bytes > self.work_bytes_max
    }

    /// The first block that was met and could not be read.
    pub fn unreadable(&self) -> Option<(u64, DiskError)> {
        self.unreadable
    }

    /// Makes `len` bytes at `position` available, fewer at the end.
    fn load(&mut self, boot: &dyn BootDisk, position: u64, len: usize) -> Result<(), DiskError> {
        let have = self.chunk_start + self.chunk.len() as u64;
        if position >= self.chunk_start && position + len as u64 <= have {
            return Ok(());
        }
        let left = self.end.saturating_sub(position);
        let wanted = (len.max(CHUNK_BYTES) as u64).min(left) as usize;
        self.chunk.resize(wanted, 0);
        self.chunk_start = position;
        let got = match boot.read(self.path, position, &mut self.chunk) {
            Err(DiskError::Io(_)) => self.load_what_can_be(boot)?,
            read => read?,
        };
        self.chunk.truncate(got);
        self.work_bytes += got as u64;
        Ok(())
    }

    /// Fills the chunk block by block.
    fn load_what_can_be(&mut self, boot: &dyn BootDisk) -> Result<usize, DiskError> {
        let block = BLOCK_BYTES as u64;
        let mut done = 0;
        while done < self.chunk.len() {
            let position = self.chunk_start + done as u64;
            let left = (block - position % block) as usize;
            let upto = (done + left).min(self.chunk.len());
            let piece = &mut self.chunk[done..upto];
            match boot.read(self.path, position, piece) {
                Ok(got) if got < piece.len() => return Ok(done + got),
                Ok(_) => {}
                Err(error @ DiskError::Io(_)) => {
                    piece.fill(UNREADABLE_BYTE);
                    if self.unreadable.is_none_or(|(first, _)| position < first) {
                        self.unreadable = Some((position, error));
                    }
                }
                Err(error) => return Err(error),
            }
            done = upto;
        }
        Ok(done)
    }

    fn bytes(&self, position: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(position.checked_sub(self.chunk_start)?).ok()?;
        self.chunk.get(from..from.checked_add(len)?)
    }

    /// The batch at `position`, if it is whole, of this epoch, and its CRC is right.
    pub fn batch_at(
        &mut self,
        boot: &dyn BootDisk,
        position: u64,
        epoch: Epoch,
    ) -> Result<Option<(BatchHeader, &[u8])>, DiskError> {
        let examined = self.examine(boot, position, Some(epoch))?;
        Ok(examined.ok())
    }

    /// The batch at `position`, or what is wrong with it. Without an epoch any will do.
    #[allow(
        clippy::type_complexity,
        reason = "a disk error is not a fault of the batch"
    )]
    pub fn examine(
        &mut self,
        boot: &dyn BootDisk,
        position: u64,
        epoch: Option<Epoch>,
    ) -> Result<Result<(BatchHeader, &[u8]), BatchFault>, DiskError> {
        self.load(boot, position, HEADER_BYTES)?;
        let Some(head) = self.bytes(position, HEADER_BYTES) else {
            let have = self.end.saturating_sub(position);
            return Ok(Err(BatchFault::NoRoom { have }));
        };
        let header = match BatchHeader::parse(head) {
            Ok(header) => header,
            Err(error) => return Ok(Err(BatchFault::Header(error))),
        };
        let total = header.total_bytes();
        if position.saturating_add(total as u64) > self.end {
            let have = self.end - position;
            return Ok(Err(BatchFault::Beyond { header, have }));
        }
        let leader_epoch = header.partition_leader_epoch;
        if epoch.is_some_and(|epoch| leader_epoch != epoch.as_leader_epoch()) {
            return Ok(Err(BatchFault::Epoch { header }));
        }
        self.load(boot, position, total)?;
        self.work_bytes += total as u64;
        let Some(bytes) = self.bytes(position, total) else {
            let have = (self.chunk_start + self.chunk.len() as u64).saturating_sub(position);
            return Ok(Err(BatchFault::Beyond { header, have }));
        };
        match header.verify_crc(bytes) {
            Err(error) if !cfg!(mutant = "S12") => Ok(Err(BatchFault::Crc { header, error })),
            Ok(()) | Err(_) => Ok(Ok((header, bytes))),
        }
    }

    /// Bytes of the file that were loaded to examine what is at `position`.
    pub fn raw(
        &mut self,
        boot: &dyn BootDisk,
        position: u64,
        len: usize,
    ) -> Result<&[u8], DiskError> {
        self.load(boot, position, len)?;
        let have = self.chunk_start + self.chunk.len() as u64;
        let len = have.saturating_sub(position).min(len as u64) as usize;
        Ok(self.bytes(position, len).unwrap_or_default())
    }

    /// The batch right behind the header block, whatever its epoch.
    pub fn first_batch(&mut self, boot: &dyn BootDisk) -> Result<Option<BatchHeader>, DiskError> {
        let position = HEADER_BLOCK_BYTES;
        self.load(boot, position, HEADER_BYTES)?;
        let Some(head) = self.bytes(position, HEADER_BYTES) else {
            return Ok(None);
        };
        let epoch = match BatchHeader::parse(head) {
            Ok(header) if header.partition_leader_epoch >= 0 => {
                Epoch(header.partition_leader_epoch as u32)
            }
            _ => return Ok(None),
        };
        let batch = self.batch_at(boot, position, epoch)?;
        Ok(batch.map(|(header, _)| header))
    }

    /// The first valid batch of this epoch in `from..upto` whose header `may_be` lets pass.
    pub fn find_batch(
        &mut self,
        boot: &dyn BootDisk,
        from: u64,
        upto: u64,
        epoch: Epoch,
        may_be: impl Fn(u64, &BatchHeader) -> bool,
    ) -> Result<Option<(u64, BatchHeader)>, DiskError> {
        let wanted = epoch.as_leader_epoch().to_be_bytes();
        let mut position = from;
        let upto = upto.min(self.end.saturating_sub(HEADER_BYTES as u64 - 1));
        while position < upto && !self.is_exhausted() {
            self.load(boot, position, HEADER_BYTES)?;
            let Some(head) = self.bytes(position, HEADER_BYTES) else {
                return Ok(None);
            };
            // Epoch and magic sit at bytes 12 to 16: a cheap sieve before parsing.
            if head[16] == 2
                && head[12..16] == wanted
                && BatchHeader::parse(head).is_ok_and(|header| may_be(position, &header))
                && let Some((header, _)) = self.batch_at(boot, position, epoch)?
            {
                return Ok(Some((position, header)));
            }
            position += 1;
        }
        Ok(None)
    }

    /// Whether there is a valid batch of this epoch anywhere behind the header block.
    pub fn holds_batches(&mut self, boot: &dyn BootDisk, epoch: Epoch) -> Result<bool, DiskError> {
        let any = |_: u64, _: &BatchHeader| true;
        let first = self.find_batch(boot, HEADER_BLOCK_BYTES, u64::MAX, epoch, any)?;
        Ok(first.is_some())
    }

    /// Position of the first byte in `from..to` that is not zero.
    pub fn first_nonzero(
        &mut self,
        boot: &dyn BootDisk,
        from: u64,
        to: u64,
    ) -> Result<Option<u64>, DiskError> {
        let mut position = from;
        while position < to {
            let len = (to - position).min(CHUNK_BYTES as u64) as usize;
            let bytes = self.raw(boot, position, len)?;
            if let Some(at) = bytes.iter().position(|&byte| byte != 0) {
                return Ok(Some(position + at as u64));
            }
            if bytes.is_empty() {
                return Ok(None);
            }
            position += bytes.len() as u64;
        }
        Ok(None)
    }

    /// Position of the last byte in `from..to` that is not zero.
    pub fn last_nonzero(
        &mut self,
        boot: &dyn BootDisk,
        from: u64,
        to: u64,
    ) -> Result<Option<u64>, DiskError> {
        let mut last = None;
        let mut position = from;
        while position < to {
            let len = (to - position).min(CHUNK_BYTES as u64) as usize;
            self.load(boot, position, len)?;
            let Some(bytes) = self.bytes(position, len) else {
                return Ok(last);
            };
            // The common case, all zeros, is decided without a branch per byte.
            let any = bytes.iter().fold(0, |any, &byte| any | byte) != 0;
            if any && let Some(at) = bytes.iter().rposition(|&byte| byte != 0) {
                last = Some(position + at as u64);
            }
            position += len as u64;
        }
        Ok(last)
    }
}
