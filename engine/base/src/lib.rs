//! The words every other crate shares: ids, offsets, time, error codes, bounds, aligned buffers,
//! the record-batch header and the Disk port.
//!
//! Depends on nothing of ours and never touches the operating system: no socket, file, thread,
//! clock or random source. `unsafe` is confined to [`buffer`].

#![deny(unsafe_code)]

pub mod buffer;
pub mod crc;
pub mod disk;
pub mod error_code;
pub mod ids;
pub mod limits;
pub mod prng;
pub mod record_batch;
pub mod time;

pub use buffer::{AlignedBuffer, BufferPool, BufferSlice, SharedSlice};
pub use error_code::ErrorCode;
pub use ids::{
    ClusterId, CoreId, DiskId, Epoch, NodeId, Offset, PartitionIndex, Position, ProducerId, TopicId,
};
pub use record_batch::{BatchHeader, BatchHeaderError};
pub use time::{Now, Timestamp};
