//! A Kafka-protocol client: producer, consumer and admin for users who count microseconds.
//!
//! Two layers. The state machines ([`connection`], [`metadata`], [`producer`], [`consumer`],
//! [`group`], [`calls`]) are handed bytes and the time and hand out requests; they know no socket, clock,
//! thread or random source, so every sequence of events can be tested exactly. The [`driver`] runs
//! them on one thread, with monoio or with tokio; `threaded` has handles to it that may be sent.
//!
//! Deliberately absent: transactions and fetch sessions.

#![forbid(unsafe_code)]

pub mod calls;
pub mod connection;
pub mod consumer;
#[cfg(any(feature = "monoio", feature = "tokio"))]
pub mod driver;
pub mod error;
pub mod group;
pub mod metadata;
pub mod partitioner;
pub mod producer;
pub mod record;
#[cfg(feature = "tokio")]
pub mod threaded;

pub use error::{ClientError, ErrorKind};
pub use metadata::MetadataCache;
pub use record::{FetchedRecord, RecordToSend};
