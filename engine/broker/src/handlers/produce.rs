//! Produce (key 0): walks the request in place, appends or forwards each partition's batch, and
//! writes the answer when all results are in.

use highwater_base::{CoreId, ErrorCode, Now};
use highwater_reactor::{CloseReason, Frame, Outbox, SendPiece};
use highwater_wire::DecodeError;
use highwater_wire::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use highwater_wire::produce_response::{ProduceResponseEncoder, ProducedPartition};

use super::{Request, as_code};
use crate::connection::Answer;
use crate::message::{Message, ProducePart, ProduceResult};
use crate::partition_table::Owner;
use crate::produce::{PendingProduce, ProduceOrigin, TopicSpan};
use crate::shard::Shard;
use crate::slab::Key;

/// First version that names topics by id.
const TOPIC_ID_FROM: i16 = 13;

/// Batches that go to other cores, by core.
type Forwards = Vec<(CoreId, Vec<ProducePart>)>;

impl Shard {
    pub(crate) fn handle_produce(
        &mut self,
        now: Now,
        request: &Request,
        frame: &Frame<'_>,
        body_at: usize,
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let body = frame.bytes().get(body_at..).unwrap_or_default();
        let decoded = ProduceRequest::parse(request.version, body)?;
        let origin = ProduceOrigin::Client {
            connection: request.connection,
            sequence: request.sequence,
            version: request.version,
            correlation_id: request.correlation_id,
            silent: decoded.acks == 0,
        };
        let mut pending = self.new_produce(origin);
        for topic in decoded.topic_data.iter() {
            list_topic(&mut pending, &topic);
        }
        pending.remaining = pending.results.len();
        let key = self.produces.insert(pending);
        let refused = request_error(&decoded);
        let mut forwards: Forwards = Vec::new();
        let mut index = 0u32;
        for topic in decoded.topic_data.iter() {
            for partition in topic.partition_data.iter() {
                match refused {
                    Some(code) => self.produce_error(key, index, code),
                    None => self.produce_partition(
                        now,
                        request,
                        frame,
                        key,
                        index,
                        &topic,
                        &partition,
                        &mut forwards,
                    ),
                }
                index += 1;
            }
        }
        if decoded.acks == 0 && forwards.is_empty() {
            // There is nothing to wait for: the slot is settled, errors come later. What other cores
            // take keeps its slot until they have, so that they are not sent without end.
            self.complete(request.connection, request.sequence, Answer::Silence, out);
        }
        for (core, parts) in forwards {
            out.mail(
                core,
                Message::Produce {
                    ticket: key.to_ticket(),
                    arrived_ns: self.meters.arrived_ns,
                    parts,
                },
            );
        }
        self.finish_produce(key, out);
        Ok(())
    }

    /// One partition: append here, or add it to what goes to its core.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call site, all of it per-partition context"
    )]
    fn produce_partition(
        &mut self,
        now: Now,
        request: &Request,
        frame: &Frame<'_>,
        key: Key,
        index: u32,
        topic: &TopicProduceData<'_>,
        partition: &PartitionProduceData<'_>,
        forwards: &mut Forwards,
    ) {
        let by_id = request.version >= TOPIC_ID_FROM;
        let entry = if by_id {
            self.table.by_id(topic.topic_id)
        } else {
            self.table.by_name(topic.name)
        };
        let Some(entry) = entry.cloned() else {
            let unknown = ErrorCode::UnknownTopicOrPartition;
            let code = if by_id {
                ErrorCode::UnknownTopicId
            } else {
                unknown
            };
            self.produce_error(key, index, code);
            return;
        };
        if entry.is_internal {
            self.produce_error(key, index, ErrorCode::InvalidTopicException);
            return;
        }
        let records = partition.records.unwrap_or_default();
        let bytes = records.len() as u64;
        match entry.owner(partition.index, self.cores) {
            None => self.produce_error(key, index, ErrorCode::UnknownTopicOrPartition),
            Some(Owner::Here(log)) => {
                self.count_traffic(request, self.core, bytes);
                self.produce_here(
                    now,
                    key,
                    index,
                    log,
                    &entry.config,
                    request.version,
                    records,
                );
            }
            Some(Owner::Offline) => {
                self.refuse_offline(key, index, &entry, partition.index);
            }
            Some(Owner::Elsewhere(core)) => {
                self.count_traffic(request, core, bytes);
                self.counters.forwarded_bytes += bytes;
                let part = ProducePart {
                    index,
                    topic_id: entry.id,
                    partition: partition.index,
                    version: request.version,
                    records: frame.share(records),
                };
                match forwards.iter_mut().find(|(known, _)| *known == core) {
                    Some((_, parts)) => parts.push(part),
                    None => forwards.push((core, vec![part])),
                }
            }
        }
    }

    pub(crate) fn count_traffic(&mut self, request: &Request, core: CoreId, bytes: u64) {
        let cores = self.cores;
        if let Some(connection) = self.connections.get_mut(&request.connection) {
            connection.count_traffic(core, cores, bytes);
        }
    }

    /// Writes the answer to a client's request.
    pub(crate) fn answer_produce(&mut self, pending: &PendingProduce, out: &mut Outbox<Message>) {
        let ProduceOrigin::Client {
            connection,
            sequence,
            version,
            correlation_id,
            silent,
        } = pending.origin
        else {
            return;
        };
        if silent {
            let failed = pending
                .results
                .iter()
                .find(|result| result.error != ErrorCode::None);
            if let Some(failed) = failed {
                // acks=0 has no answer; a closed connection is how the client learns (KIP-98).
                let reason = format!("produce with acks=0: {}", failed.error.kafka_name());
                out.close(connection, CloseReason::new(reason));
            }
            self.complete(connection, sequence, Answer::Silence, out);
            return;
        }
        let took_ns = self.meters.since(pending.arrived_ns);
        self.meters.produce.record(took_ns);
        if let Some(state) = self.connections.get_mut(&connection) {
            state.client.answered_ns.get_or_insert(self.meters.now_ns);
        }
        let mut bytes = out.take_bytes();
        let encoder = ProduceResponseEncoder::new(version);
        encoder.begin(correlation_id, pending.topics.len(), &mut bytes);
        for topic in &pending.topics {
            let name = pending
                .names
                .get(topic.name_start..topic.name_start + topic.name_len);
            let name = name
                .and_then(|name| std::str::from_utf8(name).ok())
                .unwrap_or_default();
            encoder.topic(name, topic.topic_id, topic.count, &mut bytes);
            for result in &pending.results[topic.first..topic.first + topic.count] {
                encoder.partition(&produced(result), &mut bytes);
            }
            encoder.end_topic(&mut bytes);
        }
        encoder.finish(&mut bytes);
        self.complete(
            connection,
            sequence,
            Answer::One(SendPiece::Bytes(bytes)),
            out,
        );
    }
}

/// What is wrong with the request as a whole.
fn request_error(request: &ProduceRequest<'_>) -> Option<ErrorCode> {
    if !(-1..=1).contains(&request.acks) {
        return Some(ErrorCode::InvalidRequiredAcks);
    }
    if request.transactional_id.is_some() {
        return Some(ErrorCode::InvalidTxnState);
    }
    None
}

fn list_topic(pending: &mut PendingProduce, topic: &TopicProduceData<'_>) {
    pending.topics.push(TopicSpan {
        topic_id: topic.topic_id,
        name_start: pending.names.len(),
        name_len: topic.name.len(),
        first: pending.results.len(),
        count: topic.partition_data.len(),
    });
    pending.names.extend_from_slice(topic.name.as_bytes());
    for partition in topic.partition_data.iter() {
        pending
            .results
            .push(ProduceResult::pending(0, partition.index));
    }
}

fn produced(result: &ProduceResult) -> ProducedPartition<'_> {
    let failed = result.error != ErrorCode::None;
    ProducedPartition {
        index: result.partition,
        error_code: as_code(result.error),
        error_message: result.message.as_deref(),
        base_offset: if failed { -1 } else { result.base_offset },
        log_append_time: if failed { -1 } else { result.log_append_time },
        log_start: if failed { -1 } else { result.log_start },
    }
}
