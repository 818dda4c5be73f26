//! The log on disk: segments, tail cache, index, marks ledger, superblock, recovery, retention.
//!
//! Sans-io: everything goes through the Disk port of `highwater_base::disk`. The same code runs
//! over io_uring in production and over a simulated disk in tests.

#![forbid(unsafe_code)]

mod append;
mod batch_scan;
mod cache;
mod check;
mod checkpoint;
mod damage;
mod dropped;
mod event;
mod group_commit;
pub mod index;
pub mod inspect;
pub mod ledger;
mod locate;
pub mod log;
pub mod lookup;
pub mod marks;
pub mod producer_state;
pub mod read;
pub mod recovery;
mod resume;
mod retention;
mod roll;
pub mod scrub;
pub mod segment;
mod shutdown;
mod sidecar;
pub mod store;
mod stretch;
pub mod superblock;
pub mod tail;
mod unchecked;
mod zeroing;

pub use ledger::{
    LedgerError, LedgerFlush, LedgerImage, MarksLedger, PartitionMarks, forget_former_process,
};
pub use log::{Hole, LogConfig, LogId, PartitionSpec};
pub use lookup::Lookup;
pub use marks::{Mark, PartitionKey};
pub use read::{ExpectedBatch, ReadError, ReadOutcome, ReadPiece};
pub use recovery::{RecoverError, RecoveryReport};
pub use scrub::{ScrubConfig, ScrubProgress};
pub use segment::SegmentInfo;
pub use store::{AppendError, Appended, Barrier, FileName, Store, StoreConfig, StoreEvent};
pub use superblock::{Runs, Superblock, SuperblockError};
