//! Committed offsets of a group: writing, reading and deleting them.

use std::collections::BTreeMap;

use highwater_base::ErrorCode;
use highwater_wire::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse,
};
use highwater_wire::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
};
use highwater_wire::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse,
};
use highwater_wire::{ApiKey, Array, EncodeError};

use super::group_membership::group_subject;
use super::{AnswerError, Call, owned};
use crate::error::ClientError;
use crate::group::TopicPartition;

/// Highest version of OffsetCommit and OffsetFetch that names topics instead of giving their ids.
pub(super) const VERSION_WITH_NAMES_MAX: i16 = 9;
/// Generation of a commit by somebody who is no member: allowed while the group has none.
pub const GENERATION_NONE: i32 = -1;

/// An offset that a group has reached in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next one to be read.
    pub offset: i64,
    /// Of the record before it; -1 where it is not known.
    pub leader_epoch: i32,
    /// A note of whoever committed.
    pub metadata: Option<String>,
}

impl CommittedOffset {
    /// An offset without anything else to say.
    #[must_use]
    pub fn at(offset: i64) -> CommittedOffset {
        CommittedOffset {
            offset,
            leader_epoch: -1,
            metadata: None,
        }
    }
}

/// How each partition of a request came out.
pub type PartitionResults = BTreeMap<TopicPartition, Result<(), ClientError>>;

/// The partitions of each topic together.
fn by_topic<'a>(
    partitions: impl Iterator<Item = &'a TopicPartition>,
) -> BTreeMap<&'a str, Vec<i32>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for one in partitions {
        topics.entry(&one.topic).or_default().push(one.partition);
    }
    topics
}

/// Commits offsets of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    pub group: String,
    /// [`GENERATION_NONE`] and an empty member id for who is no member.
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
    pub offsets: BTreeMap<TopicPartition, CommittedOffset>,
}

/// Codes that concern the group and its member and not one partition.
fn concerns_group(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
            | ErrorCode::IllegalGeneration
            | ErrorCode::UnknownMemberId
            | ErrorCode::RebalanceInProgress
            | ErrorCode::FencedInstanceId
            | ErrorCode::StaleMemberEpoch
            | ErrorCode::InvalidGroupId
            | ErrorCode::GroupIdNotFound
            | ErrorCode::GroupAuthorizationFailed
    )
}

impl Call for OffsetCommit {
    const API: ApiKey = ApiKey::OffsetCommit;
    const VERSION_MAX: i16 = VERSION_WITH_NAMES_MAX;
    /// Refused as a whole where the group or the member is the reason.
    type Answer = PartitionResults;

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition<'_>>> = BTreeMap::new();
        for (at, committed) in &self.offsets {
            let partition = OffsetCommitRequestPartition {
                partition_index: at.partition,
                committed_offset: committed.offset,
                committed_leader_epoch: committed.leader_epoch,
                committed_metadata: committed.metadata.as_deref(),
            };
            topics.entry(&at.topic).or_default().push(partition);
        }
        let topics: Vec<OffsetCommitRequestTopic<'_>> = topics
            .iter()
            .map(|(name, partitions)| OffsetCommitRequestTopic {
                name,
                partitions: Array::from(partitions),
                ..Default::default()
            })
            .collect();
        OffsetCommitRequest {
            group_id: &self.group,
            generation_id_or_member_epoch: self.generation,
            member_id: &self.member_id,
            group_instance_id: self.instance_id.as_deref(),
            topics: Array::from(&topics),
            ..Default::default()
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<PartitionResults, AnswerError> {
        let response = OffsetCommitResponse::parse(version, body)?;
        let mut results = PartitionResults::new();
        for topic in response.topics.iter() {
            for partition in topic.partitions.iter() {
                let at = TopicPartition::new(topic.name, partition.partition_index);
                let code = ErrorCode::from_code(partition.error_code);
                if code.is_some_and(concerns_group) {
                    let subject = group_subject(&self.group);
                    ClientError::check(&subject, partition.error_code, None)?;
                }
                let result = ClientError::check(&at.to_string(), partition.error_code, None);
                results.insert(at, result);
            }
        }
        match self.offsets.keys().find(|at| !results.contains_key(at)) {
            Some(missing) => Err(AnswerError::Missing(missing.to_string())),
            None => Ok(results),
        }
    }
}

/// Reads committed offsets of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetch {
    pub group: String,
    /// `None` reads all there are.
    pub partitions: Option<Vec<TopicPartition>>,
    /// Ask again while a transaction holds an offset back.
    pub require_stable: bool,
}

impl Call for OffsetFetch {
    const API: ApiKey = ApiKey::OffsetFetch;
    const VERSION_MAX: i16 = VERSION_WITH_NAMES_MAX;
    /// What was committed; other partitions are left out.
    type Answer = BTreeMap<TopicPartition, CommittedOffset>;

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let topics = self.partitions.as_ref().map(|all| by_topic(all.iter()));
        let before_8: Option<Vec<OffsetFetchRequestTopic<'_>>> = topics.as_ref().map(|topics| {
            let topics = topics.iter();
            topics
                .map(|(name, indexes)| OffsetFetchRequestTopic {
                    name,
                    partition_indexes: Array::from(indexes),
                })
                .collect()
        });
        let from_8: Option<Vec<OffsetFetchRequestTopics<'_>>> = topics.as_ref().map(|topics| {
            let topics = topics.iter();
            topics
                .map(|(name, indexes)| OffsetFetchRequestTopics {
                    name,
                    partition_indexes: Array::from(indexes),
                    ..Default::default()
                })
                .collect()
        });
        let groups = [OffsetFetchRequestGroup {
            group_id: &self.group,
            topics: from_8.as_ref().map(Array::from),
            ..Default::default()
        }];
        OffsetFetchRequest {
            group_id: &self.group,
            topics: before_8.as_ref().map(Array::from),
            groups: Array::from(&groups),
            require_stable: self.require_stable,
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<Self::Answer, AnswerError> {
        let response = OffsetFetchResponse::parse(version, body)?;
        let subject = group_subject(&self.group);
        ClientError::check(&subject, response.error_code, None)?;
        let mut committed = BTreeMap::new();
        let mut take = |at: TopicPartition, code, offset, leader_epoch, metadata| {
            ClientError::check(&at.to_string(), code, None)?;
            if offset >= 0 {
                let metadata = owned(metadata).filter(|text| !text.is_empty());
                let one = CommittedOffset {
                    offset,
                    leader_epoch,
                    metadata,
                };
                committed.insert(at, one);
            }
            Ok::<(), ClientError>(())
        };
        for topic in response.topics.iter() {
            for one in topic.partitions.iter() {
                let at = TopicPartition::new(topic.name, one.partition_index);
                let epoch = one.committed_leader_epoch;
                take(
                    at,
                    one.error_code,
                    one.committed_offset,
                    epoch,
                    one.metadata,
                )?;
            }
        }
        for group in response
            .groups
            .iter()
            .filter(|one| one.group_id == self.group)
        {
            ClientError::check(&subject, group.error_code, None)?;
            for topic in group.topics.iter() {
                for one in topic.partitions.iter() {
                    let at = TopicPartition::new(topic.name, one.partition_index);
                    let epoch = one.committed_leader_epoch;
                    take(
                        at,
                        one.error_code,
                        one.committed_offset,
                        epoch,
                        one.metadata,
                    )?;
                }
            }
        }
        Ok(committed)
    }
}

/// Deletes committed offsets of a group, of topics that no member is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetDelete {
    pub group: String,
    pub partitions: Vec<TopicPartition>,
}

impl Call for OffsetDelete {
    const API: ApiKey = ApiKey::OffsetDelete;
    type Answer = PartitionResults;

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let topics: Vec<(&str, Vec<OffsetDeleteRequestPartition>)> =
            by_topic(self.partitions.iter())
                .into_iter()
                .map(|(name, indexes)| {
                    let partitions = indexes.into_iter();
                    let partitions = partitions
                        .map(|partition_index| OffsetDeleteRequestPartition { partition_index });
                    (name, partitions.collect())
                })
                .collect();
        let topics: Vec<OffsetDeleteRequestTopic<'_>> = topics
            .iter()
            .map(|(name, partitions)| OffsetDeleteRequestTopic {
                name,
                partitions: Array::from(partitions),
            })
            .collect();
        OffsetDeleteRequest {
            group_id: &self.group,
            topics: Array::from(&topics),
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<PartitionResults, AnswerError> {
        let response = OffsetDeleteResponse::parse(version, body)?;
        ClientError::check(&group_subject(&self.group), response.error_code, None)?;
        let mut results = PartitionResults::new();
        for topic in response.topics.iter() {
            for partition in topic.partitions.iter() {
                let at = TopicPartition::new(topic.name, partition.partition_index);
                let result = ClientError::check(&at.to_string(), partition.error_code, None);
                results.insert(at, result);
            }
        }
        Ok(results)
    }
}
