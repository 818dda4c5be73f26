//! Produce: from a checked batch to an answer that waits for the disk.
//!
//! A request becomes one [`PendingProduce`] with a result per partition. Partitions of this core
//! are appended at once and wait in their partition's queue for the high-water mark; those of other
//! cores are forwarded as slices of the received frame. When the last result is in, the answer
//! leaves. Entries and their vectors are reused: steady state allocates nothing.

use highwater_base::disk::DiskError;
use highwater_base::record_batch::{ATTRIBUTE_CONTROL, ATTRIBUTE_TRANSACTIONAL, HEADER_BYTES};
use highwater_base::{BatchHeader, BatchHeaderError, CoreId, ErrorCode, Now, Offset, TopicId};
use highwater_reactor::{ConnectionId, Outbox};
use highwater_store::{AppendError, Appended, LogId};
use highwater_wire::compression::Codec;
use highwater_wire::records::record_count_max;

use crate::answer_text::shortened;
use crate::config::TopicConfig;
use crate::message::{Message, ProducePart, ProduceResult};
use crate::partition_table::{Owner, TopicEntry};
use crate::shard::Shard;
use crate::slab::Key;

/// First Produce version that may carry zstd batches (KIP-110).
const ZSTD_VERSION_MIN: i16 = 7;

/// Who gets the answer.
#[derive(Clone, Copy, Debug)]
pub enum ProduceOrigin {
    Client {
        connection: ConnectionId,
        sequence: u64,
        version: i16,
        correlation_id: i32,
        /// acks=0: there is no answer, an error closes the connection.
        silent: bool,
    },
    Core {
        core: CoreId,
        ticket: u64,
    },
}

/// The partitions `first..first + count` of the results belong to this topic.
#[derive(Clone, Copy, Debug)]
pub struct TopicSpan {
    pub topic_id: TopicId,
    pub name_start: usize,
    pub name_len: usize,
    pub first: usize,
    pub count: usize,
}

/// A produce request whose results are not all in.
#[derive(Debug)]
pub struct PendingProduce {
    pub origin: ProduceOrigin,
    /// When the request arrived at the core its client is connected to.
    pub arrived_ns: u64,
    pub remaining: usize,
    pub topics: Vec<TopicSpan>,
    pub names: Vec<u8>,
    pub results: Vec<ProduceResult>,
}

/// A result that waits for its partition's high-water mark.
#[derive(Clone, Copy, Debug)]
pub struct ProduceWaiter {
    pub end: Offset,
    pub key: Key,
    pub index: u32,
    pub bytes: u32,
    pub appended_ns: u64,
}

/// A batch that is refused: the code and, where it helps, what is allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: Option<String>,
}

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: Some(message.into()),
        }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Refusal {
        Refusal {
            code,
            message: None,
        }
    }
}

/// Checks one partition's records of a produce request: exactly one whole, undamaged batch of
/// format v2 that fits the topic's configuration.
///
/// # Errors
/// The Kafka error for what is wrong, with a message.
pub fn check_batch(
    records: &[u8],
    config: &TopicConfig,
    version: i16,
    now: Now,
) -> Result<BatchHeader, Refusal> {
    let header = BatchHeader::parse(records).map_err(|error| match error {
        BatchHeaderError::Truncated { have: 0, .. } => Refusal::new(
            ErrorCode::InvalidRecord,
            "a produce request carries exactly one record batch per partition, this one is empty",
        ),
        BatchHeaderError::Magic(_) => Refusal::new(ErrorCode::InvalidRecord, error.to_string()),
        _ => Refusal::new(ErrorCode::CorruptMessage, error.to_string()),
    })?;
    let total = header.total_bytes();
    if total > config.max_message_bytes {
        return Err(Refusal::new(
            ErrorCode::MessageTooLarge,
            format!(
                "record batch of {total} bytes; max.message.bytes allows {}",
                config.max_message_bytes
            ),
        ));
    }
    if total < records.len() {
        return Err(Refusal::new(
            ErrorCode::InvalidRecord,
            "a produce request carries exactly one record batch per partition, this one has more",
        ));
    }
    let intact = header.verify_crc(records).or_else(|error| {
        // What is stored under a wrong CRC is damage from its first day on.
        if cfg!(mutant = "B07") {
            Ok(())
        } else {
            Err(error)
        }
    });
    intact.map_err(|error| Refusal::new(ErrorCode::CorruptMessage, error.to_string()))?;
    check_fields(&header, version)?;
    check_timestamps(&header, config, now)?;
    Ok(header)
}

fn check_fields(header: &BatchHeader, version: i16) -> Result<(), Refusal> {
    let codec = header.codec();
    if codec > 4 || (codec == 4 && version < ZSTD_VERSION_MIN) {
        return Err(Refusal::new(
            ErrorCode::UnsupportedCompressionType,
            format!(
                "compression codec {codec} in produce version {version}; allowed are 0 to 3, and \
                 4 (zstd) from version {ZSTD_VERSION_MIN}"
            ),
        ));
    }
    check_record_count(header)?;
    if header.attributes & ATTRIBUTE_CONTROL != 0 {
        return Err(Refusal::new(
            ErrorCode::InvalidRecord,
            "clients may not write control batches",
        ));
    }
    if header.attributes & ATTRIBUTE_TRANSACTIONAL != 0 {
        return Err(Refusal::new(
            ErrorCode::InvalidTxnState,
            "transactions do not exist here yet",
        ));
    }
    if header.is_idempotent() && (header.base_sequence < 0 || header.producer_epoch < 0) {
        return Err(Refusal::new(
            ErrorCode::InvalidRecord,
            format!(
                "producer id {} needs an epoch and a sequence, found {} and {}",
                header.producer_id, header.producer_epoch, header.base_sequence
            ),
        ));
    }
    Ok(())
}

/// The count moves the log's end: it must be what the offsets say and what the bytes can hold.
fn check_record_count(header: &BatchHeader) -> Result<(), Refusal> {
    let (count, last) = (header.record_count, header.last_offset_delta);
    if count < 1 || last != count - 1 {
        return Err(Refusal::new(
            ErrorCode::InvalidRecord,
            format!("record batch holds {count} records but its last offset delta is {last}"),
        ));
    }
    let codec = Codec::from_attributes(header.attributes).unwrap_or(Codec::None);
    let body_bytes = header.total_bytes() - HEADER_BYTES;
    let allowed = record_count_max(codec, body_bytes);
    if count as u64 > allowed {
        return Err(Refusal::new(
            ErrorCode::InvalidRecord,
            format!(
                "record batch claims {count} records; {body_bytes} bytes ({}) hold at most \
                 {allowed}",
                codec.name()
            ),
        ));
    }
    Ok(())
}

/// The header bounds every record's time: base is the first record's, max the latest.
fn check_timestamps(header: &BatchHeader, config: &TopicConfig, now: Now) -> Result<(), Refusal> {
    if config.log_append_time || header.max_timestamp < 0 {
        return Ok(());
    }
    let latest = now.wall_ms.saturating_add(config.timestamp_after_max_ms);
    let earliest = now.wall_ms.saturating_sub(config.timestamp_before_max_ms);
    if header.max_timestamp > latest || header.base_timestamp.max(0) < earliest {
        return Err(Refusal::new(
            ErrorCode::InvalidTimestamp,
            format!(
                "timestamps {} to {} of the batch; message.timestamp.before.max.ms and \
                 message.timestamp.after.max.ms allow {earliest} to {latest}",
                header.base_timestamp, header.max_timestamp
            ),
        ));
    }
    Ok(())
}

fn refusal_of(error: &AppendError) -> Refusal {
    let message = error.to_string();
    let code = match error {
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::TooLarge => ErrorCode::RecordListTooLarge,
        AppendError::DiskFull | AppendError::Offline => ErrorCode::KafkaStorageError,
        AppendError::Busy | AppendError::TooManyProducers => ErrorCode::NotEnoughReplicas,
    };
    Refusal {
        code,
        message: Some(message),
    }
}

impl Shard {
    /// Starts a request: an entry with room for its results.
    pub(crate) fn new_produce(&mut self, origin: ProduceOrigin) -> PendingProduce {
        let mut pending = self.produce_spares.pop().unwrap_or_else(|| PendingProduce {
            origin,
            arrived_ns: 0,
            remaining: 0,
            topics: Vec::new(),
            names: Vec::new(),
            results: Vec::new(),
        });
        pending.origin = origin;
        pending.arrived_ns = self.meters.arrived_ns;
        pending
    }

    /// Appends one partition's batch if this core owns it. Returns the append, or the result to
    /// report at once.
    pub(crate) fn append_batch(
        &mut self,
        now: Now,
        log: LogId,
        config: &TopicConfig,
        version: i16,
        records: &[u8],
    ) -> Result<Appended, Refusal> {
        let header = check_batch(records, config, version, now)?;
        let append_time = config.log_append_time.then_some(now.wall_ms);
        self.store
            .append(log, now, &header, records, append_time)
            .map_err(|error| refusal_of(&error))
    }

    /// Settles or queues the result of an append that went through.
    fn await_append(
        &mut self,
        log: LogId,
        key: Key,
        index: u32,
        appended: &Appended,
        bytes: usize,
    ) {
        let log_start = self.store.log_start(log).0;
        let durable = self.store.high_watermark(log) >= appended.next_offset
            || (appended.duplicate && cfg!(mutant = "B01"))
            || cfg!(mutant = "B03");
        let Some(pending) = self.produces.get_mut(key) else {
            return;
        };
        if !appended.duplicate {
            let records = appended.next_offset.0 - appended.base_offset.0;
            let meter = &mut self.partitions[log.0 as usize].meter;
            meter.count_in(records, bytes);
            self.meters.total.count_in(records, bytes);
            let waited_ns = self.meters.since(pending.arrived_ns);
            self.meters.produce_queue.record(waited_ns);
        }
        let result = &mut pending.results[index as usize];
        result.base_offset = appended.base_offset.0;
        result.log_append_time = appended.log_append_time;
        result.log_start = log_start;
        if durable {
            pending.remaining -= 1;
        } else {
            let waiter = ProduceWaiter {
                end: appended.next_offset,
                key,
                index,
                bytes: bytes as u32,
                appended_ns: self.meters.now_ns,
            };
            self.unacknowledged_bytes += bytes;
            self.partitions[log.0 as usize]
                .produce_waiters
                .push_back(waiter);
        }
    }

    fn refuse_part(&mut self, key: Key, index: u32, refusal: Refusal) {
        let Some(pending) = self.produces.get_mut(key) else {
            return;
        };
        let result = &mut pending.results[index as usize];
        result.error = refusal.code;
        result.message = refusal.message;
        pending.remaining -= 1;
    }

    /// Appends one part of a pending request on this core, or records why not.
    #[expect(
        clippy::too_many_arguments,
        reason = "the part's whole context, borrowed from the frame"
    )]
    pub(crate) fn produce_here(
        &mut self,
        now: Now,
        key: Key,
        index: u32,
        log: LogId,
        config: &TopicConfig,
        version: i16,
        records: &[u8],
    ) {
        match self.append_batch(now, log, config, version, records) {
            Ok(appended) => self.await_append(log, key, index, &appended, records.len()),
            Err(refusal) => {
                tracing::debug!(code = refusal.code.kafka_name(), message = ?refusal.message,
                    "batch refused");
                self.refuse_part(key, index, refusal);
            }
        }
    }

    /// One part is for a partition of this core that could not be recovered.
    pub(crate) fn refuse_offline(
        &mut self,
        key: Key,
        index: u32,
        entry: &TopicEntry,
        partition: i32,
    ) {
        let reason = entry.offline_reason(partition).map_or("", |reason| reason);
        let message = format!("the partition is offline: {reason}");
        let refusal = Refusal::new(ErrorCode::KafkaStorageError, shortened(message));
        self.refuse_part(key, index, refusal);
    }

    /// Records an error for one part.
    pub(crate) fn produce_error(&mut self, key: Key, index: u32, code: ErrorCode) {
        self.refuse_part(key, index, Refusal::from(code));
    }

    /// Answers the request if its last result is in.
    pub(crate) fn finish_produce(&mut self, key: Key, out: &mut Outbox<Message>) {
        if self
            .produces
            .get_mut(key)
            .is_none_or(|pending| pending.remaining > 0)
        {
            return;
        }
        let Some(mut pending) = self.produces.remove(key) else {
            return;
        };
        match pending.origin {
            ProduceOrigin::Client { .. } => self.answer_produce(&pending, out),
            ProduceOrigin::Core { core, ticket } => {
                let results = std::mem::take(&mut pending.results);
                out.mail(core, Message::ProduceDone { ticket, results });
            }
        }
        pending.topics.clear();
        pending.names.clear();
        pending.results.clear();
        self.produce_spares.push(pending);
    }

    /// A partition's high-water mark has moved: everything below it is acknowledged.
    pub(crate) fn acknowledge(&mut self, log: LogId, upto: Offset, out: &mut Outbox<Message>) {
        while let Some(waiter) = self.partitions[log.0 as usize]
            .produce_waiters
            .front()
            .copied()
        {
            let allowed = Offset(upto.0 + i64::from(cfg!(mutant = "B02")));
            if waiter.end > allowed {
                break;
            }
            self.partitions[log.0 as usize].produce_waiters.pop_front();
            let took_ns = self.meters.since(waiter.appended_ns);
            self.meters.produce_disk.record(took_ns);
            self.unacknowledged_bytes -= waiter.bytes as usize;
            if let Some(pending) = self.produces.get_mut(waiter.key) {
                pending.remaining -= 1;
            }
            self.finish_produce(waiter.key, out);
        }
    }

    /// Appends from an offset on were dropped: whoever waits for them hears a retriable error.
    pub(crate) fn fail_appends(
        &mut self,
        log: LogId,
        from: Offset,
        error: DiskError,
        out: &mut Outbox<Message>,
    ) {
        if cfg!(mutant = "B04") {
            return self.acknowledge(log, Offset(i64::MAX - 1), out);
        }
        let reason = match error {
            DiskError::Full => {
                "the disk is full; the broker takes records again as soon as there is room"
                    .to_owned()
            }
            error => format!("the end of the partition's log cannot be read: {error}"),
        };
        let waiters = std::mem::take(&mut self.partitions[log.0 as usize].produce_waiters);
        for waiter in waiters {
            if waiter.end <= from {
                self.partitions[log.0 as usize]
                    .produce_waiters
                    .push_back(waiter);
                continue;
            }
            self.unacknowledged_bytes -= waiter.bytes as usize;
            let refusal = Refusal::new(ErrorCode::KafkaStorageError, reason.clone());
            if let Some(pending) = self.produces.get_mut(waiter.key) {
                let result = &mut pending.results[waiter.index as usize];
                result.base_offset = -1;
                result.log_append_time = -1;
                result.log_start = -1;
            }
            self.refuse_part(waiter.key, waiter.index, refusal);
            self.finish_produce(waiter.key, out);
        }
    }

    /// Another core sends batches for partitions of this one.
    pub(crate) fn produce_for(
        &mut self,
        now: Now,
        core: CoreId,
        ticket: u64,
        parts: &[ProducePart],
        out: &mut Outbox<Message>,
    ) {
        let mut pending = self.new_produce(ProduceOrigin::Core { core, ticket });
        pending.remaining = parts.len();
        pending.results.extend(
            parts
                .iter()
                .map(|part| ProduceResult::pending(part.index, part.partition)),
        );
        let key = self.produces.insert(pending);
        for (at, part) in parts.iter().enumerate() {
            let at = at as u32;
            self.counters.forwarded_bytes += part.records.len() as u64;
            let Some(entry) = self.table.by_id(part.topic_id).cloned() else {
                self.produce_error(key, at, ErrorCode::UnknownTopicOrPartition);
                continue;
            };
            match entry.owner(part.partition, self.cores) {
                Some(Owner::Here(log)) => {
                    let records = part.records.bytes();
                    self.produce_here(now, key, at, log, &entry.config, part.version, records);
                }
                Some(Owner::Offline) => self.refuse_offline(key, at, &entry, part.partition),
                Some(Owner::Elsewhere(_)) | None => {
                    self.produce_error(key, at, ErrorCode::NotLeaderOrFollower);
                }
            }
        }
        self.finish_produce(key, out);
    }

    /// Another core has settled the parts that were forwarded to it.
    pub(crate) fn produce_done(
        &mut self,
        ticket: u64,
        results: Vec<ProduceResult>,
        out: &mut Outbox<Message>,
    ) {
        let key = Key::from_ticket(ticket);
        if let Some(pending) = self.produces.get_mut(key) {
            for result in results {
                let index = result.index as usize;
                if let Some(place) = pending.results.get_mut(index) {
                    *place = result;
                    pending.remaining -= 1;
                }
            }
        }
        self.finish_produce(key, out);
    }
}

impl ProduceResult {
    /// A result that is not in yet.
    #[must_use]
    pub fn pending(index: u32, partition: i32) -> ProduceResult {
        ProduceResult {
            index,
            partition,
            error: ErrorCode::None,
            message: None,
            base_offset: -1,
            log_append_time: -1,
            log_start: -1,
        }
    }
}

#[cfg(test)]
mod tests {
    use highwater_base::record_batch::CRC_COVERED_FROM;
    use highwater_wire::records::RecordBatchBuilder;

    use super::*;

    const RECORD_COUNT_AT: usize = 57;
    const LAST_OFFSET_DELTA_AT: usize = 23;
    const NOW: Now = Now {
        monotonic_ns: 0,
        wall_ms: 1_000,
    };

    /// Smallest records there are, in one batch.
    fn smallest(records: i32, codec: Codec) -> Vec<u8> {
        let mut builder = RecordBatchBuilder::new();
        for _ in 0..records {
            builder.append(1_000, None, None, &[]);
        }
        builder.finish_compressed(codec).expect("packs")
    }

    /// The batch claims to hold so many records, and its CRC agrees.
    fn claim(batch: &mut [u8], count: i32) {
        batch[RECORD_COUNT_AT..][..4].copy_from_slice(&count.to_be_bytes());
        let last = count.wrapping_sub(1);
        batch[LAST_OFFSET_DELTA_AT..][..4].copy_from_slice(&last.to_be_bytes());
        seal(batch);
    }

    fn seal(batch: &mut [u8]) {
        let crc = highwater_base::crc::crc32c(&batch[CRC_COVERED_FROM..]);
        batch[CRC_COVERED_FROM - 4..CRC_COVERED_FROM].copy_from_slice(&crc.to_be_bytes());
    }

    fn code_of(batch: &[u8]) -> ErrorCode {
        let checked = check_batch(batch, &TopicConfig::default(), 9, NOW);
        checked.map_or_else(|refusal| refusal.code, |_| ErrorCode::None)
    }

    #[test]
    fn a_small_batch_cannot_claim_more_records_than_its_bytes_hold() {
        for codec in Codec::ALL {
            let mut batch = smallest(1, codec);
            claim(&mut batch, i32::MAX);
            assert_eq!(code_of(&batch), ErrorCode::InvalidRecord, "{codec:?}");
            let body_bytes = (batch.len() - HEADER_BYTES) as u64;
            let unpacked = body_bytes * codec.expansion_max();
            claim(&mut batch, (unpacked / 7) as i32 + 1);
            assert_eq!(code_of(&batch), ErrorCode::InvalidRecord, "{codec:?}");
        }
        // The one record of seven bytes does not become two.
        let mut batch = smallest(1, Codec::None);
        claim(&mut batch, 2);
        assert_eq!(code_of(&batch), ErrorCode::InvalidRecord);
    }

    #[test]
    fn batches_of_the_smallest_records_are_taken_in_every_codec() {
        for codec in Codec::ALL {
            for records in [1, 2, 63, 64, 100_000] {
                let batch = smallest(records, codec);
                let config = TopicConfig::default();
                let checked = check_batch(&batch, &config, 9, NOW);
                assert!(checked.is_ok(), "{codec:?}, {records}: {checked:?}");
            }
        }
    }

    #[test]
    fn a_last_offset_delta_at_its_greatest_is_refused_not_added_to() {
        let mut batch = smallest(1, Codec::None);
        batch[LAST_OFFSET_DELTA_AT..][..4].copy_from_slice(&i32::MAX.to_be_bytes());
        seal(&mut batch);
        assert_eq!(code_of(&batch), ErrorCode::InvalidRecord);
    }
}
