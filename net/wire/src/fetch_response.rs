//! Fetch responses written around record bytes that never pass through here.
//!
//! The encoder writes everything but the records. After each partition's header the caller sends
//! what was written so far, then the partition's records from wherever they are (memory, file), and
//! goes on. Nothing is sent before the last partition is encoded, so the length prefix can be set then
//! ([`FetchResponseEncoder::set_length`]).

use highwater_base::TopicId;

use crate::ApiKey;
use crate::header::encode_response_header;
use crate::writer::{Fixed, TagWriter, put_no_tags, put_unsigned_varint};

/// First version with tagged fields.
const FLEXIBLE_FROM: i16 = 12;
/// First version that names topics by id (KIP-516).
const TOPIC_ID_FROM: i16 = 13;

/// A topic of the answer; which of the two is written depends on the version.
#[derive(Clone, Copy, Debug)]
pub struct FetchedTopic<'a> {
    pub name: &'a str,
    pub topic_id: TopicId,
    /// Partitions of it that follow.
    pub partitions: usize,
}

/// One partition of the answer, without its records.
#[derive(Clone, Copy, Debug)]
pub struct FetchedPartition {
    pub index: i32,
    pub error_code: i16,
    pub high_watermark: i64,
    pub log_start: i64,
    /// KIP-595: epoch and end offset of the largest common epoch.
    pub diverging: Option<(i32, i64)>,
    pub record_bytes: usize,
}

/// Writes one response; see the module's description for the order of calls.
#[derive(Clone, Copy, Debug)]
pub struct FetchResponseEncoder {
    version: i16,
}

fn put_count(out: &mut Vec<u8>, count: usize, flexible: bool) {
    if flexible {
        put_unsigned_varint(out, count as u32 + 1);
    } else {
        (count as i32).put(out);
    }
}

impl FetchResponseEncoder {
    /// An encoder for a version.
    #[must_use]
    pub fn new(version: i16) -> FetchResponseEncoder {
        FetchResponseEncoder { version }
    }

    fn flexible(&self) -> bool {
        self.version >= FLEXIBLE_FROM
    }

    /// Appends the frame's length prefix (0 until [`FetchResponseEncoder::set_length`]), header and
    /// the fields before the topics.
    pub fn begin(
        &self,
        correlation_id: i32,
        error_code: i16,
        session_id: i32,
        topics: usize,
        out: &mut Vec<u8>,
    ) {
        0u32.put(out);
        encode_response_header(ApiKey::Fetch, self.version, correlation_id, out);
        0i32.put(out); // throttle_time_ms
        if self.version >= 7 {
            error_code.put(out);
            session_id.put(out);
        }
        put_count(out, topics, self.flexible());
    }

    /// Appends a topic's name or id and its number of partitions.
    pub fn topic(&self, topic: &FetchedTopic<'_>, out: &mut Vec<u8>) {
        if self.version >= TOPIC_ID_FROM {
            topic.topic_id.put(out);
        } else if self.flexible() {
            put_unsigned_varint(out, topic.name.len() as u32 + 1);
            out.extend_from_slice(topic.name.as_bytes());
        } else {
            (topic.name.len() as i16).put(out);
            out.extend_from_slice(topic.name.as_bytes());
        }
        put_count(out, topic.partitions, self.flexible());
    }

    /// Appends a partition up to and including the length of its records; they come next.
    pub fn partition(&self, partition: &FetchedPartition, out: &mut Vec<u8>) {
        partition.index.put(out);
        partition.error_code.put(out);
        partition.high_watermark.put(out);
        // Without transactions everything below the high-water mark is stable.
        partition.high_watermark.put(out);
        if self.version >= 5 {
            partition.log_start.put(out);
        }
        if self.flexible() {
            put_unsigned_varint(out, 0); // aborted_transactions: null
        } else {
            (-1i32).put(out);
        }
        if self.version >= 11 {
            (-1i32).put(out); // preferred_read_replica
        }
        put_count(out, partition.record_bytes, self.flexible());
    }

    /// Appends what follows a partition's records.
    pub fn end_partition(&self, partition: &FetchedPartition, out: &mut Vec<u8>) {
        if !self.flexible() {
            return;
        }
        let Some((epoch, end_offset)) = partition.diverging else {
            put_no_tags(out);
            return;
        };
        let mut tags = TagWriter::default();
        let field = tags.begin(0);
        epoch.put(field);
        end_offset.put(field);
        put_no_tags(field);
        tags.end();
        tags.finish(out);
    }

    /// Appends what follows a topic's last partition.
    pub fn end_topic(&self, out: &mut Vec<u8>) {
        if self.flexible() {
            put_no_tags(out);
        }
    }

    /// Appends what follows the last topic.
    pub fn finish(&self, out: &mut Vec<u8>) {
        if self.flexible() {
            put_no_tags(out);
        }
    }

    /// Writes the length prefix at the front of `first`, the bytes begun with: `written` bytes were
    /// encoded in all, prefix included, and `record_bytes` are sent between them.
    pub fn set_length(first: &mut [u8], written: usize, record_bytes: usize) {
        let length = (written - 4 + record_bytes) as u32;
        if let Some(prefix) = first.get_mut(..4) {
            prefix.copy_from_slice(&length.to_be_bytes());
        }
    }
}
