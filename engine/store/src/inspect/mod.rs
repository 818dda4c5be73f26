//! Offline inspection: what lies in a stopped node's data directory, explained and verified.
//!
//! Everything is read through [`BootDisk`](highwater_base::disk::BootDisk) and by the codecs that
//! serving and recovery use; nothing is ever written. What is found goes to a [`VerifyHost`], which
//! also sees every valid batch, so that the records in it can be judged where their formats are
//! known. How findings and bytes are shown is the host's business.
//!
//! The verdict on a first bad byte is recovery's: behind the ledger's durable mark it is a torn
//! tail, before it or after a clean stop it is damage.

mod dump;
mod finding;
mod layout;
mod node;
mod partition;
mod places;
mod segment;
mod sidecars;

use highwater_base::BatchHeader;

pub use crate::batch_scan::BatchFault;
pub use crate::checkpoint::{LogImage, SegmentImage};
pub use crate::sidecar::IndexImage;
pub use dump::{
    LedgerBlock, SegmentItem, SuperblockCopy, read_checkpoint, read_index, read_ledger,
    read_producers, read_superblock, walk_segment,
};
pub use finding::{Finding, FindingKind, Gravity};
pub use layout::{
    Field, batch_header_fields, frame_fields, ledger_block_fields, ledger_mark_fields,
};
pub use layout::{segment_header_fields, superblock_fields};
pub use node::{NodeFacts, verify_node};
pub use partition::{PartitionVerdict, verify_partition};
pub use places::{FileKind, PartitionPlace, find_partitions};

/// A valid batch, where it lies.
#[derive(Clone, Copy, Debug)]
pub struct BatchAt<'a> {
    pub place: &'a PartitionPlace,
    pub file: &'a str,
    pub position: u64,
    pub header: &'a BatchHeader,
    pub bytes: &'a [u8],
}

/// Who hears what a verification finds.
pub trait VerifyHost {
    /// Something is not as it should be, or worth knowing.
    fn finding(&mut self, finding: Finding);
    /// A batch whose checksum is right and whose offsets continue the log.
    fn batch(&mut self, batch: &BatchAt<'_>);
    /// So many more bytes of segments were read.
    fn scanned(&mut self, bytes: u64);
}
