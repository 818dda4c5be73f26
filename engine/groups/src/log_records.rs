//! Keys and values of the log of offsets, in Kafka's format (`OffsetCommitKey`, `OffsetCommitValue`,
//! `GroupMetadataKey`, `GroupMetadataValue` of its group coordinator).
//!
//! Written are the versions Kafka 4 writes for classic groups: offset key 1 and value 3 (value 1
//! where an offset carries its own time of expiry), group key 2 and value 3. Read are all versions
//! up to 4, the first one with compact fields. Other kinds of keys are named, not read.

use std::sync::Arc;

use highwater_base::Timestamp;
use highwater_wire::error::DecodeError;
use highwater_wire::reader::Reader;
use highwater_wire::writer::{Fixed, STRING_BYTES_MAX};

const OFFSET_KEY_VERSION: i16 = 1;
const GROUP_KEY_VERSION: i16 = 2;
const OFFSET_VALUE_VERSION: i16 = 3;
const OFFSET_VALUE_WITH_EXPIRY_VERSION: i16 = 1;
const GROUP_VALUE_VERSION: i16 = 3;
/// From here on strings, bytes and arrays are compact and tagged fields follow.
const FLEXIBLE_FROM: i16 = 4;
const VALUE_VERSION_MAX: i16 = 4;

/// What a record is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key<'a> {
    Offset {
        group: &'a str,
        topic: &'a str,
        partition: i32,
    },
    Group {
        group: &'a str,
    },
    /// A kind of record that belongs to another protocol or a later Kafka.
    Other(i16),
}

/// A committed offset as the log holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredOffset {
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: Arc<str>,
    pub commit_timestamp: Timestamp,
    /// When the client asked for an expiry of its own (OffsetCommit before version 5), else -1.
    pub expire_timestamp: Timestamp,
}

/// A group as the log holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoredGroup {
    pub protocol_type: String,
    pub generation: i32,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    pub state_timestamp: Timestamp,
    pub members: Vec<StoredMember>,
}

/// One member of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoredMember {
    pub member: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// -1 where the record is older than the field.
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Vec<u8>,
    pub assignment: Vec<u8>,
}

// Every string written here was read from a frame, so it fits; member ids, which are made longer than
// what they are made from, are cut where they are made. The cut keeps a record readable all the same.
fn put_string(out: &mut Vec<u8>, text: &str) {
    let mut length = text.len().min(STRING_BYTES_MAX);
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    (length as i16).put(out);
    out.extend_from_slice(&text.as_bytes()[..length]);
}

fn put_nullable_string(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_string(out, text),
        None => (-1i16).put(out),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    (bytes.len() as i32).put(out);
    out.extend_from_slice(bytes);
}

/// The key of a committed offset.
pub(crate) fn offset_key(group: &str, topic: &str, partition: i32) -> Vec<u8> {
    let mut out = Vec::with_capacity(10 + group.len() + topic.len());
    OFFSET_KEY_VERSION.put(&mut out);
    put_string(&mut out, group);
    put_string(&mut out, topic);
    partition.put(&mut out);
    out
}

/// The key of a group.
pub(crate) fn group_key(group: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + group.len());
    GROUP_KEY_VERSION.put(&mut out);
    put_string(&mut out, group);
    out
}

impl StoredOffset {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24 + self.metadata.len());
        let expires = self.expire_timestamp >= 0;
        if expires {
            OFFSET_VALUE_WITH_EXPIRY_VERSION.put(&mut out);
        } else {
            OFFSET_VALUE_VERSION.put(&mut out);
        }
        self.offset.put(&mut out);
        if !expires {
            self.leader_epoch.put(&mut out);
        }
        put_string(&mut out, &self.metadata);
        self.commit_timestamp.put(&mut out);
        if expires {
            self.expire_timestamp.put(&mut out);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<StoredOffset, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = value_version(&mut reader, "offset value version")?;
        let flexible = version >= FLEXIBLE_FROM;
        let offset = reader.fixed("offset")?;
        let leader_epoch = if version >= 3 {
            reader.fixed("leader epoch")?
        } else {
            -1
        };
        let metadata = Arc::from(reader.string(flexible, "metadata")?);
        let commit_timestamp = reader.fixed("commit timestamp")?;
        let expire_timestamp = if version == 1 {
            reader.fixed("expire timestamp")?
        } else {
            -1
        };
        end(&mut reader, flexible)?;
        Ok(StoredOffset {
            offset,
            leader_epoch,
            metadata,
            commit_timestamp,
            expire_timestamp,
        })
    }
}

impl StoredGroup {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        GROUP_VALUE_VERSION.put(&mut out);
        put_string(&mut out, &self.protocol_type);
        self.generation.put(&mut out);
        put_nullable_string(&mut out, self.protocol.as_deref());
        put_nullable_string(&mut out, self.leader.as_deref());
        self.state_timestamp.put(&mut out);
        (self.members.len() as i32).put(&mut out);
        for member in &self.members {
            put_string(&mut out, &member.member);
            put_nullable_string(&mut out, member.instance.as_deref());
            put_string(&mut out, &member.client_id);
            put_string(&mut out, &member.client_host);
            member.rebalance_timeout_ms.put(&mut out);
            member.session_timeout_ms.put(&mut out);
            put_bytes(&mut out, &member.subscription);
            put_bytes(&mut out, &member.assignment);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<StoredGroup, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = value_version(&mut reader, "group value version")?;
        let flexible = version >= FLEXIBLE_FROM;
        let mut group = StoredGroup {
            protocol_type: reader.string(flexible, "protocol type")?.to_owned(),
            generation: reader.fixed("generation")?,
            protocol: owned(reader.nullable_string(flexible, true, "protocol")?),
            leader: owned(reader.nullable_string(flexible, true, "leader")?),
            state_timestamp: -1,
            members: Vec::new(),
        };
        if version >= 2 {
            group.state_timestamp = reader.fixed("current state timestamp")?;
        }
        let count = if flexible {
            i64::from(reader.unsigned_varint("members")?) - 1
        } else {
            i64::from(reader.fixed::<i32>("members")?)
        };
        // A member takes more than one byte, which bounds the count by the record's own size.
        if !(0..=reader.left() as i64).contains(&count) {
            return Err(DecodeError::Invalid {
                field: "members",
                found: count,
                allowed: "a count that fits into the record",
            });
        }
        for _ in 0..count {
            group
                .members
                .push(StoredMember::decode(&mut reader, version)?);
        }
        end(&mut reader, flexible)?;
        Ok(group)
    }
}

impl StoredMember {
    fn decode(reader: &mut Reader<'_>, version: i16) -> Result<StoredMember, DecodeError> {
        let flexible = version >= FLEXIBLE_FROM;
        let member = reader.string(flexible, "member id")?.to_owned();
        let instance = if version >= 3 {
            owned(reader.nullable_string(flexible, true, "group instance id")?)
        } else {
            None
        };
        let member = StoredMember {
            member,
            instance,
            client_id: reader.string(flexible, "client id")?.to_owned(),
            client_host: reader.string(flexible, "client host")?.to_owned(),
            rebalance_timeout_ms: if version >= 1 {
                reader.fixed("rebalance timeout")?
            } else {
                -1
            },
            session_timeout_ms: reader.fixed("session timeout")?,
            subscription: reader.bytes(flexible, "subscription")?.to_vec(),
            assignment: reader.bytes(flexible, "assignment")?.to_vec(),
        };
        if flexible {
            reader.skip_tags()?;
        }
        Ok(member)
    }
}

fn owned(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}

fn value_version(reader: &mut Reader<'_>, field: &'static str) -> Result<i16, DecodeError> {
    let version = reader.fixed::<i16>(field)?;
    if (0..=VALUE_VERSION_MAX).contains(&version) {
        return Ok(version);
    }
    Err(DecodeError::Invalid {
        field,
        found: i64::from(version),
        allowed: "0 to 4",
    })
}

fn end(reader: &mut Reader<'_>, flexible: bool) -> Result<(), DecodeError> {
    if flexible {
        reader.skip_tags()?;
    }
    reader.finish()
}

/// What a key is about.
pub(crate) fn decode_key(bytes: &[u8]) -> Result<Key<'_>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let key = match reader.fixed::<i16>("key version")? {
        0 | OFFSET_KEY_VERSION => Key::Offset {
            group: reader.string(false, "group")?,
            topic: reader.string(false, "topic")?,
            partition: reader.fixed("partition")?,
        },
        GROUP_KEY_VERSION => Key::Group {
            group: reader.string(false, "group")?,
        },
        other => return Ok(Key::Other(other)),
    };
    reader.finish()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_kafkas_bytes() {
        let key = offset_key("g", "tp", 3);
        assert_eq!(key, b"\0\x01\0\x01g\0\x02tp\0\0\0\x03");
        let read = Key::Offset {
            group: "g",
            topic: "tp",
            partition: 3,
        };
        assert_eq!(decode_key(&key), Ok(read.clone()));
        // Version 0 has the same fields.
        assert_eq!(decode_key(b"\0\0\0\x01g\0\x02tp\0\0\0\x03"), Ok(read));
        let key = group_key("g");
        assert_eq!(key, b"\0\x02\0\x01g");
        assert_eq!(decode_key(&key), Ok(Key::Group { group: "g" }));
        assert_eq!(decode_key(b"\0\x03\0\x01g"), Ok(Key::Other(3)));
        assert!(decode_key(b"\0\x02\0\x05g").is_err());
    }

    fn offset() -> StoredOffset {
        StoredOffset {
            offset: 258,
            leader_epoch: 7,
            metadata: "m".into(),
            commit_timestamp: 5,
            expire_timestamp: -1,
        }
    }

    #[test]
    fn offset_values_of_all_versions_are_read() {
        let bytes = b"\0\x03\0\0\0\0\0\0\x01\x02\0\0\0\x07\0\x01m\0\0\0\0\0\0\0\x05";
        assert_eq!(offset().encode(), bytes);
        assert_eq!(StoredOffset::decode(bytes), Ok(offset()));
        let flexible = b"\0\x04\0\0\0\0\0\0\x01\x02\0\0\0\x07\x02m\0\0\0\0\0\0\0\x05\0";
        assert_eq!(StoredOffset::decode(flexible), Ok(offset()));
        let mut older = offset();
        older.leader_epoch = -1;
        for version in [0, 2] {
            let mut bytes = b"\0\0\0\0\0\0\0\0\x01\x02\0\x01m\0\0\0\0\0\0\0\x05".to_vec();
            bytes[1] = version;
            assert_eq!(StoredOffset::decode(&bytes), Ok(older.clone()));
        }
        older.expire_timestamp = 9;
        let bytes = b"\0\x01\0\0\0\0\0\0\x01\x02\0\x01m\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x09";
        assert_eq!(StoredOffset::decode(bytes), Ok(older.clone()));
        assert_eq!(older.encode(), bytes);
        assert!(StoredOffset::decode(b"\0\x05").is_err());
    }

    fn group() -> StoredGroup {
        StoredGroup {
            protocol_type: "t".into(),
            generation: 2,
            protocol: Some("p".into()),
            leader: None,
            state_timestamp: 6,
            members: vec![StoredMember {
                member: "a".into(),
                instance: Some("i".into()),
                client_id: "c".into(),
                client_host: "/h".into(),
                rebalance_timeout_ms: 3,
                session_timeout_ms: 4,
                subscription: b"s".to_vec(),
                assignment: b"xy".to_vec(),
            }],
        }
    }

    #[test]
    fn group_values_of_all_versions_are_read() {
        let bytes = b"\0\x03\0\x01t\0\0\0\x02\0\x01p\xff\xff\0\0\0\0\0\0\0\x06\0\0\0\x01\
            \0\x01a\0\x01i\0\x01c\0\x02/h\0\0\0\x03\0\0\0\x04\0\0\0\x01s\0\0\0\x02xy";
        assert_eq!(group().encode(), bytes);
        assert_eq!(StoredGroup::decode(bytes), Ok(group()));
        let flexible = b"\0\x04\x02t\0\0\0\x02\x02p\0\0\0\0\0\0\0\0\x06\x02\
            \x02a\x02i\x02c\x03/h\0\0\0\x03\0\0\0\x04\x02s\x03xy\0\0";
        assert_eq!(StoredGroup::decode(flexible), Ok(group()));
        let mut older = group();
        older.members[0].instance = None;
        let second = b"\0\x02\0\x01t\0\0\0\x02\0\x01p\xff\xff\0\0\0\0\0\0\0\x06\0\0\0\x01\
            \0\x01a\0\x01c\0\x02/h\0\0\0\x03\0\0\0\x04\0\0\0\x01s\0\0\0\x02xy";
        assert_eq!(StoredGroup::decode(second), Ok(older.clone()));
        older.state_timestamp = -1;
        let first = b"\0\x01\0\x01t\0\0\0\x02\0\x01p\xff\xff\0\0\0\x01\
            \0\x01a\0\x01c\0\x02/h\0\0\0\x03\0\0\0\x04\0\0\0\x01s\0\0\0\x02xy";
        assert_eq!(StoredGroup::decode(first), Ok(older.clone()));
        older.members[0].rebalance_timeout_ms = -1;
        let oldest = b"\0\0\0\x01t\0\0\0\x02\0\x01p\xff\xff\0\0\0\x01\
            \0\x01a\0\x01c\0\x02/h\0\0\0\x04\0\0\0\x01s\0\0\0\x02xy";
        assert_eq!(StoredGroup::decode(oldest), Ok(older));
    }

    #[test]
    fn truncated_values_are_errors() {
        let bytes = group().encode();
        for end in 0..bytes.len() {
            assert!(StoredGroup::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
        let bytes = offset().encode();
        for end in 0..bytes.len() {
            assert!(StoredOffset::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }
}
