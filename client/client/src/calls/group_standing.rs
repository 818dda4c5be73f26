//! What a broker knows of a group's offsets when part of its log of offsets may be lost.

use std::collections::BTreeMap;

use highwater_base::ErrorCode;
use highwater_wire::offset_fetch::OffsetFetchResponse;
use highwater_wire::{ApiKey, EncodeError};

use super::group_membership::group_subject;
use super::group_offsets::{OffsetFetch, VERSION_WITH_NAMES_MAX};
use super::{AnswerError, Call};
use crate::error::ClientError;
use crate::group::TopicPartition;

/// Asks for all committed offsets of a group, as far as they are known; ask its coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchStanding {
    pub group: String,
}

/// How far a group is in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    Committed(i64),
    /// A later commit may be lost; the broker's own words about what is known.
    Uncertain(String),
}

/// All that is known of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStanding {
    /// Part of the log of the group's offsets is lost: there may be others.
    pub is_damaged: bool,
    pub partitions: BTreeMap<TopicPartition, Standing>,
}

impl GroupStanding {
    fn take(
        &mut self,
        at: TopicPartition,
        code: i16,
        offset: i64,
        metadata: Option<&str>,
    ) -> Result<(), ClientError> {
        if code == ErrorCode::UnstableOffsetCommit.code() {
            let words = metadata.unwrap_or_default().to_string();
            self.partitions.insert(at, Standing::Uncertain(words));
            return Ok(());
        }
        ClientError::check(&at.to_string(), code, None)?;
        if offset >= 0 {
            self.partitions.insert(at, Standing::Committed(offset));
        }
        Ok(())
    }

    fn check(&mut self, subject: &str, code: i16) -> Result<(), ClientError> {
        if code == ErrorCode::KafkaStorageError.code() {
            self.is_damaged = true;
            return Ok(());
        }
        ClientError::check(subject, code, None)
    }
}

impl Call for FetchStanding {
    const API: ApiKey = ApiKey::OffsetFetch;
    const VERSION_MAX: i16 = VERSION_WITH_NAMES_MAX;
    type Answer = GroupStanding;

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let all = OffsetFetch {
            group: self.group.clone(),
            partitions: None,
            require_stable: false,
        };
        all.encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<GroupStanding, AnswerError> {
        let response = OffsetFetchResponse::parse(version, body)?;
        let subject = group_subject(&self.group);
        let mut standing = GroupStanding::default();
        standing.check(&subject, response.error_code)?;
        for topic in response.topics.iter() {
            for one in topic.partitions.iter() {
                let at = TopicPartition::new(topic.name, one.partition_index);
                standing.take(at, one.error_code, one.committed_offset, one.metadata)?;
            }
        }
        let groups = response.groups.iter();
        for group in groups.filter(|one| one.group_id == self.group) {
            standing.check(&subject, group.error_code)?;
            for topic in group.topics.iter() {
                for one in topic.partitions.iter() {
                    let at = TopicPartition::new(topic.name, one.partition_index);
                    standing.take(at, one.error_code, one.committed_offset, one.metadata)?;
                }
            }
        }
        Ok(standing)
    }
}

#[cfg(test)]
mod tests {
    use highwater_wire::Array;
    use highwater_wire::offset_fetch::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
    };

    use super::*;

    #[test]
    fn what_is_uncertain_is_told_apart_from_what_is_committed_and_what_is_not() {
        let row = |partition_index, error, committed_offset, metadata| {
            let error: ErrorCode = error;
            OffsetFetchResponsePartitions {
                partition_index,
                committed_offset,
                metadata: Some(metadata),
                error_code: error.code(),
                ..Default::default()
            }
        };
        let rows = [
            row(0, ErrorCode::None, 7, ""),
            row(
                1,
                ErrorCode::UnstableOffsetCommit,
                -1,
                "last known offset 5",
            ),
            row(2, ErrorCode::None, -1, ""),
        ];
        let topics = [OffsetFetchResponseTopics {
            name: "orders",
            partitions: Array::from(&rows),
            ..Default::default()
        }];
        let decode = |code: ErrorCode| {
            let groups = [OffsetFetchResponseGroup {
                group_id: "desk",
                topics: Array::from(&topics),
                error_code: code.code(),
            }];
            let response = OffsetFetchResponse {
                groups: Array::from(&groups),
                ..Default::default()
            };
            let mut body = Vec::new();
            response.encode(8, &mut body).expect("encodes");
            let group = "desk".to_string();
            FetchStanding { group }.decode(8, &body)
        };
        let standing = decode(ErrorCode::KafkaStorageError).expect("it is told");
        assert!(standing.is_damaged);
        let at = |partition| TopicPartition::new("orders", partition);
        let words = "last known offset 5".to_string();
        let expected = [
            (at(0), Standing::Committed(7)),
            (at(1), Standing::Uncertain(words)),
        ];
        assert_eq!(standing.partitions, BTreeMap::from(expected));
        assert!(!decode(ErrorCode::None).expect("whole").is_damaged);
        assert!(decode(ErrorCode::CoordinatorNotAvailable).is_err());
    }
}
