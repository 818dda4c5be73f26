//! The log on disk: segments, tail cache, index, marks ledger, superblock, recovery, retention.
//!
//! Sans-io: everything goes through the Disk port of `highwater_base::disk`. The same code runs
//! over io_uring in production and over a simulated disk in tests.

#![forbid(unsafe_code)]
