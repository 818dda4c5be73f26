//! What a producer is told, and what it tells.

use std::rc::Rc;

use highwater_base::Timestamp;
use highwater_wire::compression::Codec;

use crate::error::ClientError;
use crate::partitioner::Partitioner;

/// When a record counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// When it was handed to the socket: nothing is known about it.
    None,
    /// When the leader has it.
    Leader,
    /// When it is committed. Only this is idempotent.
    All,
}

impl Acks {
    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// How a producer behaves.
#[derive(Clone, Debug)]
pub struct ProducerSettings {
    pub acks: Acks,
    pub codec: Codec,
    /// Largest batch before compression; the topic's `max.message.bytes` bounds it on the broker.
    pub batch_bytes_max: usize,
    /// Largest sum of batches in one request.
    pub request_bytes_max: usize,
    /// Records that may wait, in bytes; beyond it `send` refuses.
    pub buffer_bytes_max: usize,
    /// At most 5: brokers remember that many batches of a producer.
    pub in_flight_per_partition_max: usize,
    /// How long a record may take from `send` until its delivery is given up.
    pub delivery_timeout_ms: u64,
    /// How long the broker may take for a request.
    pub request_timeout_ms: u64,
    /// Wait before another request for a producer id.
    pub identity_backoff_ms: u64,
    /// Which partition a key belongs to.
    pub partitioner: Partitioner,
    /// Where records without a key start in a topic, so that several producers can start apart.
    pub sticky_start: u32,
}

impl Default for ProducerSettings {
    fn default() -> ProducerSettings {
        ProducerSettings {
            acks: Acks::All,
            codec: Codec::None,
            // Just below the default of max.message.bytes.
            batch_bytes_max: 1_000_000,
            request_bytes_max: 8 * 1024 * 1024,
            buffer_bytes_max: 64 * 1024 * 1024,
            in_flight_per_partition_max: 5,
            delivery_timeout_ms: 120_000,
            request_timeout_ms: 30_000,
            identity_backoff_ms: 100,
            partitioner: Partitioner::default(),
            sticky_start: 0,
        }
    }
}

/// Where a batch ended up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Offset of its first record; `None` when the broker does not tell (acks=0, or it already had
    /// the batch).
    pub base_offset: Option<i64>,
    /// The broker's time, where the topic stamps records with it.
    pub log_append_time: Option<Timestamp>,
}

/// The fate of the records of one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub topic: Rc<str>,
    pub partition: i32,
    /// What the caller named the records, in the order of their offsets.
    pub tokens: Vec<u64>,
    pub outcome: Result<Receipt, ClientError>,
}

/// A request that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceRequestPlan {
    /// Names the request in `handle_response` and `handle_failure`.
    pub request: u64,
    /// The broker to send it to.
    pub broker: i32,
    /// False with acks=0: call `handle_sent` instead of waiting.
    pub answered: bool,
}
