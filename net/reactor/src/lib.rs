//! The only crate that touches the operating system: one pinned monoio runtime and one io_uring per
//! core, sockets, files, mailboxes, timers, signals. Knows no Kafka word: a host hands it a
//! [`Service`] per core, a state machine that is stepped with inputs and fills an [`Outbox`].
//!
//! One turn of a core: everything that is ready is stepped into the service; then `turn` calls
//! `end_turn` once and carries the outbox out (disk requests, sends, mail). Sockets: `reader` (whole
//! frames in), `writer` (gathered bytes and files out). Disk: `disk` (operations in the ring),
//! `blocking` (the few system calls that would stall the core), `file_table`.

#![allow(clippy::disallowed_methods)] // Clocks and threads are this crate's business.

mod allocations;
mod blocking;
mod boot_disk;
mod clock;
mod config;
mod connection;
mod core_loop;
mod counters;
mod descriptors;
mod disk;
mod durable_writes;
mod file_table;
mod file_turns;
mod gauges;
mod idle;
mod large_frames;
mod listener;
mod lock;
mod mailbox;
mod outbox;
mod outside;
mod parking;
mod probe;
mod process;
mod read_share;
mod reader;
mod receive_budget;
mod receive_buffer;
mod runtime;
mod send_file;
mod service;
mod signal;
mod stable_write;
pub mod testing;
mod timer;
mod turn;
mod volume;
mod writer;

pub use allocations::{CountingAllocator, thread_allocations};
pub use boot_disk::OsBootDisk;
pub use clock::{now, random_bytes};
pub use config::{Deal, DirectIo, Idle, Listener, ReactorConfig};
pub use counters::{ReactorCounters, thread_counters};
pub use descriptors::DescriptorBudget;
pub use gauges::CoreGauges;
pub use lock::{DirLock, LockError, lock_data_dir, lock_for_inspection};
pub use outbox::{HeadCheck, Outbox, SendPiece};
pub use outside::{OUTSIDE_MESSAGES_MAX, OutsideFull, OutsidePost};
pub use probe::{
    DIRECT_IO_PROBE_PREFIX, Device, DiskProbe, Finding, IoUringUnavailable, ProbeError, WriteCache,
    check_io_uring, probe_disk,
};
pub use process::{ProcessUse, process_use};
pub use runtime::{ReactorError, hold_signals, run};
pub use service::{
    CloseReason, ConnectionId, ConnectionInfo, Frame, FrameVerdict, Service, UserSignal,
};
pub use volume::{VolumeGauge, VolumeSpace, watch_volume};
