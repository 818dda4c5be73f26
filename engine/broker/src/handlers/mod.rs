//! One file per Kafka API, and what they share: the request's place, building a response.
//!
//! A handler decodes its request from the frame, asks the shard, and answers at once or leaves
//! something pending that answers later. A body that does not decode closes the connection with the
//! reason logged: after it the byte stream cannot be trusted.

mod alter_configs;
mod api_versions;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_topic_partitions;
mod fetch;
mod find_coordinator;
mod group_requests;
mod heartbeat;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sync_group;

use highwater_base::{ErrorCode, Now};
use highwater_reactor::{ConnectionId, Outbox};
use highwater_wire::{ApiKey, DecodeError, EncodeError};

use self::find_coordinator::OffsetsTopic;
use crate::message::Message;
use crate::metadata::ChangeOutcome;
use crate::metadata_log::PendingChange;
use crate::query::Gather;
use crate::shard::Shard;

/// A request's place: which connection and slot, and how the answer is to be encoded.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub connection: ConnectionId,
    pub sequence: u64,
    pub api_key: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
}

/// Entries (topics, partitions assigned, brokers, configuration keys) in one request for a change
/// of the metadata. Each is held several times over until the change is through, so that a frame
/// full of them would take gigabytes.
pub(crate) const CHANGE_ENTRIES_MAX: usize = 500_000;

/// Bounds the entries of a request for a change. No client comes near the bound; beyond it even an
/// answer with a row for each would be too much.
fn check_entries(entries: impl Iterator<Item = usize>) -> Result<(), DecodeError> {
    let found = entries.fold(0usize, usize::saturating_add);
    if found <= CHANGE_ENTRIES_MAX {
        return Ok(());
    }
    Err(DecodeError::Invalid {
        field: "number of entries",
        found: found as i64,
        allowed: "at most 500000 in one change of the metadata",
    })
}

/// The number of an error code on the wire.
pub(crate) fn as_code(code: ErrorCode) -> i16 {
    code.code()
}

impl Request {
    /// A change whose outcome answers this request.
    fn pending_change(&self, body: &[u8]) -> PendingChange {
        PendingChange::Client {
            connection: self.connection,
            sequence: self.sequence,
            api_key: self.api_key,
            version: self.version,
            correlation_id: self.correlation_id,
            body: body.to_vec(),
        }
    }

    /// Questions whose answers make up the answer to this request.
    fn gather(&self, body: &[u8]) -> Gather {
        Gather {
            connection: self.connection,
            sequence: self.sequence,
            api_key: self.api_key,
            version: self.version,
            correlation_id: self.correlation_id,
            body: body.to_vec(),
            results: Vec::new(),
            remaining: 0,
        }
    }
}

impl Shard {
    /// Encodes a response (length prefix, header, body) and puts it into the request's slot.
    pub(crate) fn respond(
        &mut self,
        request: &Request,
        out: &mut Outbox<Message>,
        body: impl FnOnce(i16, &mut Vec<u8>) -> Result<(), EncodeError>,
    ) {
        let mut bytes = out.take_bytes();
        bytes.extend_from_slice(&[0; 4]);
        highwater_wire::header::encode_response_header(
            request.api_key,
            request.version,
            request.correlation_id,
            &mut bytes,
        );
        if let Err(error) = body(request.version, &mut bytes) {
            // Only a response beyond what its length fields hold gets here.
            tracing::error!(%error, api = ?request.api_key, "a response could not be encoded");
            out.close(
                request.connection,
                highwater_reactor::CloseReason::new(error.to_string()),
            );
            return;
        }
        let length = (bytes.len() - 4) as u32;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        self.complete_bytes(request.connection, request.sequence, bytes, out);
    }

    /// Runs the handler of a request.
    ///
    /// # Errors
    /// A body that does not decode.
    pub(crate) fn handle(
        &mut self,
        now: Now,
        request: &Request,
        frame: &highwater_reactor::Frame<'_>,
        body_at: usize,
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let body = frame.bytes().get(body_at..).unwrap_or_default();
        match request.api_key {
            ApiKey::Produce => self.handle_produce(now, request, frame, body_at, out),
            ApiKey::Fetch => self.handle_fetch(now, request, body, out),
            ApiKey::ListOffsets => self.handle_list_offsets(now, request, body, out),
            ApiKey::Metadata => self.handle_metadata(now, request, body, true, out),
            ApiKey::ApiVersions => self.handle_api_versions(request, body, out),
            ApiKey::CreateTopics => self.handle_create_topics(now, request, body, out),
            ApiKey::DeleteTopics => self.handle_delete_topics(now, request, body, out),
            ApiKey::CreatePartitions => self.handle_create_partitions(now, request, body, out),
            ApiKey::DeleteRecords => self.handle_delete_records(now, request, body, out),
            ApiKey::DescribeConfigs => self.handle_describe_configs(request, body, out),
            ApiKey::AlterConfigs => self.handle_alter_configs(now, request, body, out),
            ApiKey::IncrementalAlterConfigs => {
                self.handle_incremental_alter_configs(now, request, body, out)
            }
            ApiKey::DescribeCluster => self.handle_describe_cluster(request, body, out),
            ApiKey::DescribeTopicPartitions => {
                self.handle_describe_topic_partitions(request, body, out)
            }
            ApiKey::DescribeLogDirs => self.handle_describe_log_dirs(now, request, body, out),
            ApiKey::ListConfigResources => self.handle_list_config_resources(request, body, out),
            ApiKey::InitProducerId => self.handle_init_producer_id(now, request, body, out),
            ApiKey::FindCoordinator => {
                let topic = OffsetsTopic::CreateIfMissing;
                self.handle_find_coordinator(now, request, body, topic, out)
            }
            ApiKey::OffsetForLeaderEpoch => {
                self.handle_offset_for_leader_epoch(now, request, body, out)
            }
            _ => self.handle_group_request(now, request, frame.bytes(), body, out),
        }
    }

    /// A change asked for by a client is through.
    pub(crate) fn answer_change(
        &mut self,
        now: Now,
        pending: PendingChange,
        outcome: &ChangeOutcome,
        out: &mut Outbox<Message>,
    ) {
        let PendingChange::Client {
            connection,
            sequence,
            api_key,
            version,
            correlation_id,
            body,
        } = pending
        else {
            return;
        };
        let request = Request {
            connection,
            sequence,
            api_key,
            version,
            correlation_id,
        };
        let answered = match api_key {
            ApiKey::CreateTopics => self.answer_create_topics(&request, &body, outcome, out),
            ApiKey::DeleteTopics => self.answer_delete_topics(&request, &body, outcome, out),
            ApiKey::CreatePartitions => {
                self.answer_create_partitions(&request, &body, outcome, out)
            }
            ApiKey::AlterConfigs => self.answer_alter_configs(&request, &body, outcome, out),
            ApiKey::IncrementalAlterConfigs => {
                self.answer_incremental_alter_configs(&request, &body, outcome, out)
            }
            // Topics asked for by Metadata exist now, or their creation failed.
            ApiKey::Metadata => self.handle_metadata(now, &request, &body, false, out),
            ApiKey::FindCoordinator => {
                self.handle_find_coordinator(now, &request, &body, OffsetsTopic::Asked, out)
            }
            other => unreachable!("{other:?} asks for no change"),
        };
        answered.expect("the body decoded when the request came");
    }

    /// All partitions a client asked about have answered.
    pub(crate) fn answer_gather(&mut self, gather: &Gather, out: &mut Outbox<Message>) {
        let request = Request {
            connection: gather.connection,
            sequence: gather.sequence,
            api_key: gather.api_key,
            version: gather.version,
            correlation_id: gather.correlation_id,
        };
        let (body, results) = (&gather.body, &gather.results);
        let answered = match gather.api_key {
            ApiKey::ListOffsets => self.answer_list_offsets(&request, body, results, out),
            ApiKey::OffsetForLeaderEpoch => {
                self.answer_offset_for_leader_epoch(&request, body, results, out)
            }
            ApiKey::DeleteRecords => self.answer_delete_records(&request, body, results, out),
            ApiKey::DescribeLogDirs => self.answer_describe_log_dirs(&request, body, results, out),
            other => unreachable!("{other:?} asks partitions nothing"),
        };
        answered.expect("the body decoded when the request came");
    }
}

#[cfg(test)]
mod config_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_full_of_entries_is_no_change_of_the_metadata() {
        assert!(check_entries([CHANGE_ENTRIES_MAX - 1, 1].into_iter()).is_ok());
        assert!(check_entries([CHANGE_ENTRIES_MAX, 1].into_iter()).is_err());
        assert!(check_entries([usize::MAX, 1].into_iter()).is_err());
    }
}
