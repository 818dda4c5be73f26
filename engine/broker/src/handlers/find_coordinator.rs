//! FindCoordinator (key 10): which broker has a group. Transactions and share groups have none.
//!
//! The first question about a group creates the topic that groups live in; the request waits for it.
//! In direct mode the answer is the broker of the core that owns the group's partition.
//!
//! A transactional producer would ask until its time is up, so it is told what both the Java client
//! and librdkafka take as final at once; no code says "unsupported" to both.

use highwater_base::{ErrorCode, Now};
use highwater_groups::{OFFSETS_TOPIC, offsets_partition};
use highwater_reactor::Outbox;
use highwater_wire::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use highwater_wire::{Array, DecodeError};

use super::Request;
use super::group_requests::check_group_entries;
use crate::message::Message;
use crate::metadata::Change;
use crate::shard::{AdvertisedBroker, Shard};

/// Key types: groups, transactional ids (KIP-98), share groups (KIP-932).
const KEY_GROUP: i8 = 0;
const KEY_TRANSACTION: i8 = 1;
const KEY_SHARE: i8 = 2;
/// First version that names its keys in a list (KIP-699).
const KEYS_FROM: i16 = 4;

/// What comes back when the topic of groups was to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OffsetsTopic {
    /// Nobody has asked for it yet.
    CreateIfMissing,
    /// It exists now, or could not be created.
    Asked,
}

const TRANSACTION_MESSAGE: &str = "this broker has no transactions yet; configure the producer \
     without transactional.id, idempotence alone works";
const SHARE_MESSAGE: &str = "this broker has no share groups";
const TYPE_MESSAGE: &str = "unknown type of key; allowed are 0 (group) and 1 (transaction)";
const OFFLINE_MESSAGE: &str = "the partition that holds the offsets of this group is offline; the \
     broker's log tells why";
const GROUP_MESSAGE: &str = "the topic of committed offsets cannot be created now";

/// Why there is no coordinator for keys of this type, whatever they are.
fn refusal(key_type: i8) -> Option<(ErrorCode, &'static str)> {
    match key_type {
        KEY_GROUP => None,
        KEY_TRANSACTION => Some((
            ErrorCode::TransactionalIdAuthorizationFailed,
            TRANSACTION_MESSAGE,
        )),
        KEY_SHARE => Some((ErrorCode::InvalidRequest, SHARE_MESSAGE)),
        _ => Some((ErrorCode::InvalidRequest, TYPE_MESSAGE)),
    }
}

impl Shard {
    pub(super) fn handle_find_coordinator(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        topic: OffsetsTopic,
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = FindCoordinatorRequest::parse(request.version, body)?;
        check_group_entries([decoded.coordinator_keys.len()].into_iter())?;
        if decoded.key_type == KEY_GROUP
            && topic == OffsetsTopic::CreateIfMissing
            && self.image.topic_by_name(OFFSETS_TOPIC).is_none()
        {
            let change = Change::CreateOffsetsTopic;
            self.request_change(now, request.pending_change(body), change, out);
            return Ok(());
        }
        let brokers = self.node.brokers();
        let find = |key| self.coordinator_of(decoded.key_type, key, &brokers);
        let (keys, single): (Vec<Coordinator<'_>>, Coordinator<'_>) =
            match request.version < KEYS_FROM {
                true => (Vec::new(), find(decoded.key)),
                false => (
                    decoded.coordinator_keys.iter().map(find).collect(),
                    Coordinator::default(),
                ),
            };
        let response = FindCoordinatorResponse {
            error_code: single.error_code,
            error_message: single.error_message,
            node_id: single.node_id,
            host: single.host,
            port: single.port,
            coordinators: Array::from(&keys),
            ..Default::default()
        };
        let mut bytes = Vec::new();
        let encoded = response.encode(request.version, &mut bytes);
        self.respond(request, out, |_, out| {
            out.extend_from_slice(&bytes);
            encoded
        });
        Ok(())
    }

    /// Whether the offsets of a group are in a partition that could not be recovered: nobody may take
    /// the group for one without offsets.
    fn is_offline_group(&self, group: &str) -> bool {
        let topic = self.image.topic_by_name(OFFSETS_TOPIC);
        topic.is_some_and(|topic| {
            let partition = offsets_partition(group, topic.partitions);
            self.offline.has(topic.id, partition)
        })
    }

    fn coordinator_of<'a>(
        &self,
        key_type: i8,
        key: &'a str,
        brokers: &'a [AdvertisedBroker],
    ) -> Coordinator<'a> {
        let found = match refusal(key_type) {
            Some(refused) => Err(refused),
            None if self.is_offline_group(key) => {
                Err((ErrorCode::CoordinatorNotAvailable, OFFLINE_MESSAGE))
            }
            None => self
                .core_of_group(key)
                .map_err(|code| (code, GROUP_MESSAGE)),
        };
        let broker = found.and_then(|core| {
            let id = self.node.broker_of(core);
            let broker = brokers.iter().find(|broker| broker.id == id);
            broker.ok_or((ErrorCode::CoordinatorNotAvailable, GROUP_MESSAGE))
        });
        match broker {
            Ok(broker) => Coordinator {
                key,
                node_id: broker.id,
                host: &broker.host,
                port: i32::from(broker.port),
                ..Default::default()
            },
            Err((code, message)) => Coordinator {
                key,
                node_id: -1,
                port: -1,
                error_code: super::as_code(code),
                error_message: Some(message),
                ..Default::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use highwater_groups::OFFSETS_TOPIC;
    use highwater_wire::ApiKey;
    use highwater_wire::delete_records::{
        DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
    };

    use super::*;
    use crate::testing::TestNode;

    #[test]
    fn a_transactional_producer_gives_up_at_once() {
        let (code, message) = refusal(KEY_TRANSACTION).expect("refused");
        assert_eq!(super::super::as_code(code), 53);
        assert!(message.contains("transactional.id"), "{message}");
        assert_eq!(refusal(KEY_GROUP), None);
        assert!(refusal(3).is_some() && refusal(KEY_SHARE).is_some());
    }

    #[test]
    fn the_first_group_makes_the_topic_of_offsets_and_nobody_deletes_its_records() {
        let mut node = TestNode::new(2, &[]);
        let keys = ["workers"];
        let request = FindCoordinatorRequest {
            key_type: KEY_GROUP,
            coordinator_keys: Array::from(&keys),
            ..Default::default()
        };
        let mut body = Vec::new();
        request.encode(4, &mut body).expect("encodes");
        let client = node.connect(1);
        node.request(1, client, ApiKey::FindCoordinator, 4, &body);
        node.settle();
        let answers = node.answers(1, client, ApiKey::FindCoordinator, 4);
        let response = FindCoordinatorResponse::parse(4, &answers[0]).expect("readable");
        let row = response.coordinators.iter().next().expect("a row");
        assert_eq!((row.error_code, row.node_id, row.key), (0, 1, "workers"));
        for core in &node.cores {
            let topic = core.shard.image.topic_by_name(OFFSETS_TOPIC);
            assert_eq!(topic.expect("created").partitions, 50);
        }
        let partitions = [DeleteRecordsPartition {
            partition_index: 0,
            offset: -1,
        }];
        let topics = [DeleteRecordsTopic {
            name: OFFSETS_TOPIC,
            partitions: Array::from(&partitions),
        }];
        let request = DeleteRecordsRequest {
            topics: Array::from(&topics),
            timeout_ms: 1000,
        };
        let mut body = Vec::new();
        request.encode(2, &mut body).expect("encodes");
        node.request(1, client, ApiKey::DeleteRecords, 2, &body);
        node.settle();
        let answers = node.answers(1, client, ApiKey::DeleteRecords, 2);
        let response = DeleteRecordsResponse::parse(2, &answers[0]).expect("readable");
        let topic = response.topics.iter().next().expect("a topic");
        let row = topic.partitions.iter().next().expect("a row");
        assert_eq!(row.error_code, ErrorCode::PolicyViolation.code());
    }
}
