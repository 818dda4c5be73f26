//! Produce responses written part by part into one vector: the hot path's encoder, which needs no
//! slices of structs and allocates nothing.

use highwater_base::TopicId;

use crate::ApiKey;
use crate::header::encode_response_header;
use crate::writer::{Fixed, put_no_tags, put_unsigned_varint};

/// First version with tagged fields.
const FLEXIBLE_FROM: i16 = 9;
/// First version that names topics by id (KIP-516).
const TOPIC_ID_FROM: i16 = 13;

/// What became of one partition's batch.
#[derive(Clone, Copy, Debug)]
pub struct ProducedPartition<'a> {
    pub index: i32,
    pub error_code: i16,
    pub error_message: Option<&'a str>,
    pub base_offset: i64,
    pub log_append_time: i64,
    pub log_start: i64,
}

/// Writes one response: `begin`, per topic `topic`, `partition`s and `end_topic`, then `finish`.
#[derive(Clone, Copy, Debug)]
pub struct ProduceResponseEncoder {
    version: i16,
}

fn put_count(out: &mut Vec<u8>, count: usize, flexible: bool) {
    if flexible {
        put_unsigned_varint(out, count as u32 + 1);
    } else {
        (count as i32).put(out);
    }
}

/// A string cut to what a two-byte length can say.
fn put_text(out: &mut Vec<u8>, text: Option<&str>, flexible: bool) {
    let bytes = text.map(|text| &text.as_bytes()[..text.len().min(i16::MAX as usize)]);
    match (bytes, flexible) {
        (None, true) => put_unsigned_varint(out, 0),
        (None, false) => (-1i16).put(out),
        (Some(bytes), true) => put_unsigned_varint(out, bytes.len() as u32 + 1),
        (Some(bytes), false) => (bytes.len() as i16).put(out),
    }
    out.extend_from_slice(bytes.unwrap_or_default());
}

impl ProduceResponseEncoder {
    /// An encoder for a version.
    #[must_use]
    pub fn new(version: i16) -> ProduceResponseEncoder {
        ProduceResponseEncoder { version }
    }

    fn flexible(&self) -> bool {
        self.version >= FLEXIBLE_FROM
    }

    /// Starts a frame: length prefix (set by `finish`), header, number of topics.
    pub fn begin(&self, correlation_id: i32, topics: usize, out: &mut Vec<u8>) {
        0u32.put(out);
        encode_response_header(ApiKey::Produce, self.version, correlation_id, out);
        put_count(out, topics, self.flexible());
    }

    /// A topic and its number of partitions.
    pub fn topic(&self, name: &str, topic_id: TopicId, partitions: usize, out: &mut Vec<u8>) {
        if self.version >= TOPIC_ID_FROM {
            topic_id.put(out);
        } else {
            put_text(out, Some(name), self.flexible());
        }
        put_count(out, partitions, self.flexible());
    }

    /// One partition.
    pub fn partition(&self, partition: &ProducedPartition<'_>, out: &mut Vec<u8>) {
        partition.index.put(out);
        partition.error_code.put(out);
        partition.base_offset.put(out);
        partition.log_append_time.put(out);
        if self.version >= 5 {
            partition.log_start.put(out);
        }
        if self.version >= 8 {
            put_count(out, 0, self.flexible()); // record_errors
            put_text(out, partition.error_message, self.flexible());
        }
        if self.flexible() {
            put_no_tags(out);
        }
    }

    /// Ends a topic.
    pub fn end_topic(&self, out: &mut Vec<u8>) {
        if self.flexible() {
            put_no_tags(out);
        }
    }

    /// Ends the frame that starts at the front of `out`.
    pub fn finish(&self, out: &mut Vec<u8>) {
        0i32.put(out); // throttle_time_ms
        if self.flexible() {
            put_no_tags(out);
        }
        let length = (out.len() - 4) as u32;
        if let Some(prefix) = out.get_mut(..4) {
            prefix.copy_from_slice(&length.to_be_bytes());
        }
    }
}
