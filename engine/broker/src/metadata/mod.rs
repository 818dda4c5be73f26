//! What the cluster is: topics, partitions, configurations, producer id blocks.
//!
//! `record` is the durable form, `image` the pure fold of the records, `controller` the one place
//! (core 0) that decides on changes and writes them to the metadata log before anyone sees them.

pub mod controller;
pub mod image;
pub mod record;

pub use controller::{Change, ChangeError, ChangeOutcome, Controller};
pub use image::{Image, Topic};
pub use record::MetadataRecord;

use highwater_base::{PartitionIndex, TopicId};

/// Topic id of the metadata log; no topic of a client ever gets it.
pub const METADATA_TOPIC_ID: TopicId = TopicId([0xff; 16]);
/// Name of the metadata log, as directory and in messages.
pub const METADATA_TOPIC: &str = "__cluster_metadata";
/// Its only partition.
pub const METADATA_PARTITION: PartitionIndex = PartitionIndex(0);
