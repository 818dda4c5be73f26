//! Every bound that is not a setting, in one place and with its reason.

/// Granularity of direct I/O: memory, file offsets and lengths are multiples of it.
pub const BLOCK_BYTES: usize = 4096;

/// Largest request frame accepted, excluding its length prefix (Kafka's `socket.request.max.bytes`).
pub const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;

/// Response bytes queued on one connection before its socket is no longer read.
pub const CONNECTION_SEND_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of answers that one connection may have under way: what its pending fetches may return and
/// what waits for an earlier answer. Two fetches of the usual 50 MiB fit.
pub const CONNECTION_ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Bytes copied out of one core's cache for fetches of others and not sent yet. Beyond it they get
/// ranges of files.
pub const FOREIGN_COPY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Batches remembered per producer id and partition for duplicate detection (KIP-98).
pub const PRODUCER_BATCHES_MAX: usize = 5;

/// Producer ids remembered per partition; the least recently used idle one is forgotten first.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 10_000;

/// Longest topic name (Kafka's own bound).
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Partitions one topic may have.
pub const PARTITIONS_PER_TOPIC_MAX: usize = 100_000;

/// Partitions one incremental fetch session may hold.
pub const FETCH_SESSION_PARTITIONS_MAX: usize = 100_000;

/// Messages one mailbox ring between two cores holds.
pub const MAILBOX_MESSAGES_MAX: usize = 4096;

/// Bytes between two entries of the sparse offset index, at most.
pub const INDEX_INTERVAL_BYTES: usize = 4096;

const _: () = assert!(BLOCK_BYTES.is_power_of_two());
