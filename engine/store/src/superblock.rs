//! The superblock: whose data directory this is, in which format, and whether the last process
//! stopped cleanly.
//!
//! Four copies, one block each, in the file `superblock`; at least two must agree. An update writes
//! two copies, then the other two, so that a crash in the middle leaves two agreeing ones, old or
//! new. A copy that is neither blank nor readable may be a newer one that was damaged: the
//! superblock then never silently falls back past it.
//!
//! A process that starts on the directory is a *run*, numbered by the sequence of the update with
//! which it begins. Ledgers and checkpoints carry the number of their run, and the superblock says
//! which run served last, so that old copies of them are told from the present ones.

use highwater_base::crc::crc32c;
use highwater_base::disk::{BootDisk, DiskError};
use highwater_base::limits::BLOCK_BYTES;
use highwater_base::{ClusterId, DiskId, NodeId};

pub(crate) const PATH: &str = "superblock";
const MAGIC: u32 = 0x4857_5342; // "HWSB"
/// Format of the data directory that this version reads and writes.
pub const FORMAT_VERSION: u32 = 1;
pub(crate) const COPIES: usize = 4;
const AGREEING_MIN: usize = if cfg!(mutant = "S29") { 1 } else { 2 };
pub(crate) const CONTENT_BYTES: usize = 64;
/// Sequence of the superblock that formatting writes.
const FIRST_SEQUENCE: u64 = 1;

/// The superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    pub cluster_id: ClusterId,
    pub node_id: NodeId,
    pub disk_id: DiskId,
    pub format_version: u32,
    /// The last process stopped cleanly.
    pub clean_shutdown: bool,
    /// Grows with every update.
    pub sequence: u64,
    /// The run that served last; 0 when none did, or a version did that did not count them.
    pub served_run: u64,
    /// Cores it served with.
    pub served_cores: u16,
}

/// What the superblock says of the runs before this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// The one that served last; 0 when none is known to have.
    pub served: u64,
    /// Cores it served with.
    pub cores: u16,
    /// The last process stopped cleanly.
    pub stopped_cleanly: bool,
}

/// Why a data directory cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockError {
    /// There is none: the directory was never formatted.
    #[error("there is no superblock; the directory was never formatted")]
    Absent,
    /// Too few copies agree.
    #[error(
        "the superblock is damaged ({agreeing} of 4 copies agree, {damaged} are unreadable, 2 must \
         agree and none may be newer); restore the directory from a backup, or move it away to \
         start empty"
    )]
    Unreadable { agreeing: usize, damaged: usize },
    /// Written by a version with another format.
    #[error(
        "the superblock says format version {found}, this version reads {supported}; use the \
         version that wrote it"
    )]
    UnknownFormat { found: u32, supported: u32 },
    /// The disk refuses.
    #[error("superblock: {0}")]
    Disk(DiskError),
}

/// What one copy is.
pub(crate) enum Copy {
    Blank,
    Damaged,
    Foreign(u32),
    Good(Superblock),
}

impl Superblock {
    /// Formats an empty data directory.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn format(
        boot: &mut dyn BootDisk,
        cluster_id: ClusterId,
        node_id: NodeId,
        disk_id: DiskId,
    ) -> Result<Superblock, SuperblockError> {
        // One may be there that an interrupted formatting left, and says nothing.
        boot.remove(PATH)
            .and_then(|()| boot.create_zeroed(PATH, (COPIES * BLOCK_BYTES) as u64))
            .map_err(SuperblockError::Disk)?;
        let superblock = Superblock {
            cluster_id,
            node_id,
            disk_id,
            format_version: FORMAT_VERSION,
            clean_shutdown: true,
            sequence: FIRST_SEQUENCE,
            served_run: 0,
            served_cores: 0,
        };
        superblock.write(boot)?;
        Ok(superblock)
    }

    /// Reads the superblock.
    ///
    /// # Errors
    /// Absent, damaged, or of an unknown format.
    pub fn open(boot: &dyn BootDisk) -> Result<Superblock, SuperblockError> {
        let copies = (0..COPIES).map(|copy| read_copy(boot, copy));
        let copies = copies.collect::<Result<Vec<Copy>, SuperblockError>>()?;
        let damaged = copies
            .iter()
            .filter(|copy| matches!(copy, Copy::Damaged))
            .count();
        if is_formatting_unfinished(&copies) {
            return Err(SuperblockError::Absent);
        }
        for copy in &copies {
            if let Copy::Foreign(found) = copy {
                let supported = FORMAT_VERSION;
                return Err(SuperblockError::UnknownFormat {
                    found: *found,
                    supported,
                });
            }
        }
        let mut best: Option<(Superblock, usize)> = None;
        for copy in &copies {
            let Copy::Good(candidate) = copy else {
                continue;
            };
            let agreeing = copies
                .iter()
                .filter(|other| matches!(other, Copy::Good(other) if other == candidate))
                .count();
            let newer = best.is_none_or(|(known, _)| candidate.sequence > known.sequence);
            if agreeing >= AGREEING_MIN && newer {
                best = Some((*candidate, agreeing));
            }
        }
        match best {
            // With two damaged copies the update that they may have been could be a newer one.
            Some((superblock, agreeing)) if agreeing > damaged || damaged == 0 => Ok(superblock),
            Some((_, agreeing)) => Err(SuperblockError::Unreadable { agreeing, damaged }),
            None => Err(SuperblockError::Unreadable {
                agreeing: 0,
                damaged,
            }),
        }
    }

    /// What it says of the runs before this one.
    #[must_use]
    pub fn runs(&self) -> Runs {
        Runs {
            served: self.served_run,
            cores: self.served_cores,
            stopped_cleanly: self.clean_shutdown,
        }
    }

    /// Notes that a process runs on the directory, and returns the number of its run. It is beyond
    /// `newest_run`, which the ledgers are of: that is greater than the sequence only where this
    /// superblock is an old copy.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn mark_running(
        &mut self,
        boot: &mut dyn BootDisk,
        newest_run: u64,
    ) -> Result<u64, SuperblockError> {
        let next = Superblock {
            clean_shutdown: false,
            sequence: self.sequence.max(newest_run) + 1,
            ..*self
        };
        self.become_next(boot, next)?;
        Ok(next.sequence)
    }

    /// Notes that the run serves from now on: its ledgers, of so many cores, are what counts.
    ///
    /// # Errors
    /// The disk refuses; then no core may serve.
    pub fn mark_serving(
        &mut self,
        boot: &mut dyn BootDisk,
        run: u64,
        cores: u16,
    ) -> Result<(), SuperblockError> {
        let next = Superblock {
            sequence: self.sequence + 1,
            served_run: run,
            served_cores: cores,
            ..*self
        };
        self.become_next(boot, next)
    }

    /// Notes that the process has stopped cleanly.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn mark_clean(&mut self, boot: &mut dyn BootDisk) -> Result<(), SuperblockError> {
        let next = Superblock {
            clean_shutdown: true,
            sequence: self.sequence + 1,
            ..*self
        };
        self.become_next(boot, next)
    }

    fn become_next(
        &mut self,
        boot: &mut dyn BootDisk,
        next: Superblock,
    ) -> Result<(), SuperblockError> {
        next.write(boot)?;
        *self = next;
        Ok(())
    }

    fn write(&self, boot: &mut dyn BootDisk) -> Result<(), SuperblockError> {
        let block = self.encode();
        let pair = [block.as_slice(), block.as_slice()].concat();
        for half in 0..2u64 {
            let offset = half * 2 * BLOCK_BYTES as u64;
            boot.write(PATH, offset, &pair)
                .map_err(SuperblockError::Disk)?;
        }
        Ok(())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0u8; BLOCK_BYTES];
        block[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        block[4..8].copy_from_slice(&self.format_version.to_le_bytes());
        block[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        block[16..32].copy_from_slice(&self.cluster_id.0);
        block[32..48].copy_from_slice(&self.disk_id.0);
        block[48..52].copy_from_slice(&self.node_id.0.to_le_bytes());
        block[52] = u8::from(self.clean_shutdown);
        block[54..56].copy_from_slice(&self.served_cores.to_le_bytes());
        block[56..64].copy_from_slice(&self.served_run.to_le_bytes());
        let crc = crc32c(&block[..CONTENT_BYTES]);
        block[CONTENT_BYTES..CONTENT_BYTES + 4].copy_from_slice(&crc.to_le_bytes());
        block
    }
}

/// Each copy is read by itself: a sector that the disk does not give costs one of the four.
fn read_copy(boot: &dyn BootDisk, copy: usize) -> Result<Copy, SuperblockError> {
    let mut block = vec![0u8; BLOCK_BYTES];
    match boot.read(PATH, (copy * BLOCK_BYTES) as u64, &mut block) {
        Ok(_) => Ok(decode(&block)),
        Err(DiskError::NotFound) => Err(SuperblockError::Absent),
        Err(DiskError::Io(_)) => Ok(Copy::Damaged),
        Err(error) => Err(SuperblockError::Disk(error)),
    }
}

/// A crash during formatting leaves no copy, or power loss a single one of the first: nothing was
/// ever stored here, for a process runs only after an update of all four.
fn is_formatting_unfinished(copies: &[Copy]) -> bool {
    let mut written = copies.iter().filter(|copy| !matches!(copy, Copy::Blank));
    let first = |copy: &Copy| matches!(copy, Copy::Good(it) if it.sequence == FIRST_SEQUENCE);
    written.next().is_none_or(first) && written.next().is_none()
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// Reads one copy.
pub(crate) fn decode(block: &[u8]) -> Copy {
    if block.iter().all(|byte| *byte == 0) {
        return Copy::Blank;
    }
    let crc = u32::from_le_bytes(take(block, CONTENT_BYTES));
    if u32::from_le_bytes(take(block, 0)) != MAGIC || crc32c(&block[..CONTENT_BYTES]) != crc {
        return Copy::Damaged;
    }
    let format_version = u32::from_le_bytes(take(block, 4));
    if format_version != FORMAT_VERSION {
        return Copy::Foreign(format_version);
    }
    Copy::Good(Superblock {
        cluster_id: ClusterId(take(block, 16)),
        node_id: NodeId(i32::from_le_bytes(take(block, 48))),
        disk_id: DiskId(take(block, 32)),
        format_version,
        clean_shutdown: block[52] != 0,
        sequence: u64::from_le_bytes(take(block, 8)),
        served_run: u64::from_le_bytes(take(block, 56)),
        served_cores: u16::from_le_bytes(take(block, 54)),
    })
}
