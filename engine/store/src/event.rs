//! What the store tells its host, in the order in which it happened.

use highwater_base::disk::DiskError;
use highwater_base::{BufferSlice, Offset};

use crate::log::{Hole, LogId};
use crate::segment::SegmentHeaderError;

/// What the store tells its host.
#[derive(Clone, Debug)]
pub enum StoreEvent {
    /// Everything before `offset` is durable.
    HighWatermark { log: LogId, offset: Offset },
    /// Appends from `from` on were dropped before they were durable.
    Discarded {
        log: LogId,
        from: Offset,
        error: DiskError,
    },
    /// The read a pending lookup waited for.
    LookupRead {
        lookup: u64,
        result: Result<BufferSlice, DiskError>,
    },
    /// A read that met [`crate::ReadError::Locating`] in this log may be tried again.
    Located { log: LogId },
    /// Batches turned out to be damaged: a new hole, or more of one that was known.
    Damaged { log: LogId, hole: Hole },
    /// The header block of a segment file is damaged, and its batches are not.
    DamagedHeader {
        log: LogId,
        path: String,
        error: SegmentHeaderError,
    },
    /// A new log start is durable.
    LogStart { log: LogId, offset: Offset },
    /// What no log needs any more could not be moved or removed.
    StaysBehind { path: String, error: DiskError },
    /// The clean stop is complete.
    ShutdownComplete,
    /// A write or flush failed: what is on disk is unknown. The host ends the process.
    Fatal { path: String, error: DiskError },
}
