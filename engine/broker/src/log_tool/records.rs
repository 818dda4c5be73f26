//! The records inside a batch: unpacked, walked, and decoded where the log is one of the broker's
//! own.

use highwater_base::BatchHeader;
use highwater_base::record_batch::{ATTRIBUTE_LOG_APPEND_TIME, HEADER_BYTES};
use highwater_groups::{
    LogKey, OFFSETS_TOPIC, StoredGroup, StoredMember, StoredOffset, decode_log_key,
};
use highwater_store::inspect::Field;
use highwater_wire::compression::{Codec, decompress};
use highwater_wire::error::DecodeError;
use highwater_wire::reader::Reader;
use highwater_wire::records::{Record, RecordIterator};
use serde_json::{Value, json};

use super::line::bytes_value;
use crate::metadata::METADATA_TOPIC;
use crate::metadata::record::{MetadataRecord, decode_batch};

/// What one batch may unpack to.
const UNPACKED_BYTES_MAX: usize = 1 << 30;

/// Whose records a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Of clients: any bytes.
    Clients,
    /// Groups and committed offsets.
    Groups,
    /// The metadata log.
    Metadata,
}

impl Content {
    /// Told by the directory that a log is in.
    pub fn of(path: &str) -> Content {
        let mut parts = path.split('/');
        if parts.clone().any(|part| part == OFFSETS_TOPIC) {
            return Content::Groups;
        }
        match parts.any(|part| part == METADATA_TOPIC) {
            true => Content::Metadata,
            false => Content::Clients,
        }
    }
}

/// The bytes behind the batch header, unpacked.
pub(super) fn unpack(header: &BatchHeader, batch: &[u8]) -> Result<Vec<u8>, String> {
    let body = batch.get(HEADER_BYTES..).unwrap_or_default();
    let codec = Codec::from_attributes(header.attributes)
        .ok_or_else(|| format!("codec {} is unknown", header.codec()))?;
    decompress(codec, body, UNPACKED_BYTES_MAX).map_err(|error| error.to_string())
}

/// The first thing wrong with the records of a batch whose checksum is right.
pub(super) fn check(header: &BatchHeader, batch: &[u8]) -> Option<String> {
    let body = match unpack(header, batch) {
        Ok(body) => body,
        Err(error) => return Some(error),
    };
    let append_time = header.attributes & ATTRIBUTE_LOG_APPEND_TIME != 0;
    let mut expected = header.base_offset;
    let mut walked = 0;
    for record in RecordIterator::new(header, &body) {
        let record = match record {
            Ok(record) => record,
            Err(error) => return Some(format!("record {walked}: {error}")),
        };
        if record.offset < expected {
            let offset = record.offset;
            return Some(format!(
                "record {walked} has offset {offset}, below {expected}"
            ));
        }
        if record.timestamp > header.max_timestamp && !append_time {
            return Some(format!(
                "record {walked} has timestamp {}, above the batch's largest, {}",
                record.timestamp, header.max_timestamp
            ));
        }
        expected = record.offset + 1;
        walked += 1;
    }
    let mut used = Reader::new(&body);
    for _ in 0..walked {
        if let Ok(length) = used.varlong("record.length") {
            let _ = used.take(usize::try_from(length).unwrap_or(0), "record");
        }
    }
    let left = used.left();
    (left > 0).then(|| format!("{left} bytes are left behind the last of {walked} records"))
}

/// The first record of a batch of the broker's own logs that the broker would not understand.
pub(super) fn check_own(content: Content, header: &BatchHeader, batch: &[u8]) -> Option<String> {
    match content {
        Content::Clients => None,
        Content::Metadata => decode_batch(header, batch)
            .err()
            .map(|error| error.to_string()),
        Content::Groups => {
            let body = unpack(header, batch).ok()?;
            let mut records = RecordIterator::new(header, &body).flatten();
            records.find_map(|record| match group_record(&record) {
                Ok(_) => None,
                Err(error) => Some(format!("offset {}: {error}", record.offset)),
            })
        }
    }
}

/// What a record of the broker's own logs says; null for records of clients.
pub(super) fn explain(
    content: Content,
    header: &BatchHeader,
    batch: &[u8],
    number: usize,
    record: &Record<'_>,
) -> Value {
    match content {
        Content::Clients => Value::Null,
        Content::Groups => group_record(record).unwrap_or_else(|error| json!({ "error": error })),
        Content::Metadata => match decode_batch(header, batch) {
            Ok(records) => records.get(number).map_or(Value::Null, metadata_record),
            Err(error) => json!({ "error": error.to_string() }),
        },
    }
}

fn group_record(record: &Record<'_>) -> Result<Value, String> {
    let key = record.key.ok_or("the record has no key")?;
    let told = |what: &str, error: DecodeError| format!("{what}: {error}");
    match decode_log_key(key).map_err(|error| told("key", error))? {
        LogKey::Other(version) => Ok(json!({ "kind": "other", "key_version": version })),
        LogKey::Offset {
            group,
            topic,
            partition,
        } => {
            let stored = record.value.map(StoredOffset::decode).transpose();
            let stored = stored.map_err(|error| told("value", error))?;
            Ok(json!({
                "kind": "offset",
                "group": group,
                "topic": topic,
                "partition": partition,
                "value": stored.map(|stored| committed(&stored)),
            }))
        }
        LogKey::Group { group } => {
            let stored = record.value.map(StoredGroup::decode).transpose();
            let stored = stored.map_err(|error| told("value", error))?;
            Ok(json!({
                "kind": "group",
                "group": group,
                "value": stored.map(|stored| group_value(&stored)),
            }))
        }
    }
}

fn committed(stored: &StoredOffset) -> Value {
    json!({
        "offset": stored.offset,
        "leader_epoch": stored.leader_epoch,
        "metadata": *stored.metadata,
        "commit_timestamp": stored.commit_timestamp,
        "expire_timestamp": stored.expire_timestamp,
    })
}

fn group_value(stored: &StoredGroup) -> Value {
    json!({
        "protocol_type": stored.protocol_type,
        "generation": stored.generation,
        "protocol": stored.protocol,
        "leader": stored.leader,
        "state_timestamp": stored.state_timestamp,
        "members": stored.members.iter().map(member).collect::<Vec<_>>(),
    })
}

fn member(stored: &StoredMember) -> Value {
    json!({
        "member_id": stored.member,
        "group_instance_id": stored.instance,
        "client_id": stored.client_id,
        "client_host": stored.client_host,
        "rebalance_timeout_ms": stored.rebalance_timeout_ms,
        "session_timeout_ms": stored.session_timeout_ms,
        "subscription": bytes_value(&stored.subscription),
        "assignment": bytes_value(&stored.assignment),
    })
}

/// A topic's id as paths have it.
fn id(bytes: &[u8; 16]) -> String {
    highwater_base::TopicId(*bytes).to_string()
}

fn metadata_record(record: &MetadataRecord) -> Value {
    match record {
        MetadataRecord::Topic {
            topic_id,
            name,
            partitions,
            core_slot_base,
            config,
        } => json!({
            "kind": "topic",
            "topic": name,
            "topic_id": id(topic_id),
            "partitions": partitions,
            "core_slot_base": core_slot_base,
            "config": config,
        }),
        MetadataRecord::Partitions { topic_id, total } => {
            json!({ "kind": "partitions", "topic_id": id(topic_id), "total": total })
        }
        MetadataRecord::TopicDeleted { topic_id } => {
            json!({ "kind": "topic_deleted", "topic_id": id(topic_id) })
        }
        MetadataRecord::TopicConfig { topic_id, config } => {
            json!({ "kind": "topic_config", "topic_id": id(topic_id), "config": config })
        }
        MetadataRecord::ProducerIds { next } => json!({ "kind": "producer_ids", "next": next }),
        MetadataRecord::SnapshotBegin => json!({ "kind": "snapshot_begin" }),
        MetadataRecord::SnapshotEnd => json!({ "kind": "snapshot_end" }),
        MetadataRecord::BrokerConfig { node_id, config } => {
            json!({ "kind": "broker_config", "node_id": node_id, "config": config })
        }
    }
}

/// The fields of the next record of an unpacked body; `at` is where it begins in there.
pub(super) fn fields(body: &[u8], at: usize) -> Result<(Vec<Field>, usize), DecodeError> {
    let mut walk = FieldWalk {
        reader: Reader::new(body.get(at..).unwrap_or_default()),
        total: body.len(),
        found: Vec::new(),
    };
    let length = walk.number("length")?;
    let end = walk.at() + usize::try_from(length).unwrap_or(0);
    let start = walk.at();
    let attributes = walk.reader.fixed::<i8>("attributes")?;
    walk.push(start, "attributes", attributes.to_string());
    walk.number("timestamp_delta")?;
    walk.number("offset_delta")?;
    walk.nullable("key_length", "key")?;
    walk.nullable("value_length", "value")?;
    for _ in 0..walk.number("header_count")? {
        walk.nullable("header_key_length", "header_key")?;
        walk.nullable("header_value_length", "header_value")?;
    }
    Ok((walk.found, end))
}

struct FieldWalk<'a> {
    reader: Reader<'a>,
    total: usize,
    found: Vec<Field>,
}

impl FieldWalk<'_> {
    fn at(&self) -> usize {
        self.total - self.reader.left()
    }

    fn push(&mut self, at: usize, name: &'static str, value: String) {
        let len = self.at() - at;
        self.found.push(Field {
            at,
            len,
            name,
            value,
        });
    }

    fn number(&mut self, name: &'static str) -> Result<i64, DecodeError> {
        let at = self.at();
        let value = self.reader.varlong(name)?;
        self.push(at, name, value.to_string());
        Ok(value)
    }

    fn nullable(
        &mut self,
        length_name: &'static str,
        name: &'static str,
    ) -> Result<(), DecodeError> {
        let Ok(length) = usize::try_from(self.number(length_name)?) else {
            return Ok(());
        };
        let at = self.at();
        let bytes = self.reader.take(length, name)?;
        let shown: String = String::from_utf8_lossy(bytes).chars().take(60).collect();
        self.push(at, name, format!("{shown:?}"));
        Ok(())
    }
}
