//! Looking up offsets and deleting records before one.

use highwater_wire::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};
use highwater_wire::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use highwater_wire::{ApiKey, Array, EncodeError};

use super::{AnswerError, CHANGE_TIMEOUT_MS, Call};
use crate::error::ClientError;

/// Which offset of a partition is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first record that is still there.
    Beginning,
    /// Behind the last committed record: the high-water mark.
    End,
    /// The first record with this timestamp (ms since the Unix epoch) or a later one.
    Timestamp(i64),
}

impl OffsetSpec {
    fn as_timestamp(self) -> i64 {
        match self {
            OffsetSpec::Beginning => -2,
            OffsetSpec::End => -1,
            OffsetSpec::Timestamp(timestamp) => timestamp.max(0),
        }
    }
}

/// Looks up one offset per partition of one topic; ask the leader of them all.
#[derive(Clone, Debug)]
pub struct ListOffsets {
    pub topic: String,
    pub partitions: Vec<i32>,
    pub spec: OffsetSpec,
}

/// Where an offset was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetAt {
    pub partition: i32,
    /// `Ok(None)` when no record is that late.
    pub offset: Result<Option<i64>, ClientError>,
    /// Of the record that was found; -1 for beginning and end.
    pub timestamp: i64,
}

impl Call for ListOffsets {
    const API: ApiKey = ApiKey::ListOffsets;
    type Answer = Vec<OffsetAt>;

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let partitions: Vec<ListOffsetsPartition> = self
            .partitions
            .iter()
            .map(|partition| ListOffsetsPartition {
                partition_index: *partition,
                timestamp: self.spec.as_timestamp(),
                ..Default::default()
            })
            .collect();
        let topics = [ListOffsetsTopic {
            name: &self.topic,
            partitions: Array::from(&partitions),
        }];
        ListOffsetsRequest {
            topics: Array::from(&topics),
            timeout_ms: CHANGE_TIMEOUT_MS,
            ..Default::default()
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<Vec<OffsetAt>, AnswerError> {
        let response = ListOffsetsResponse::parse(version, body)?;
        let found = response
            .topics
            .iter()
            .filter(|topic| topic.name == self.topic);
        let found = found
            .flat_map(|topic| topic.partitions.iter())
            .map(|partition| {
                let subject = format!("{}-{}", self.topic, partition.partition_index);
                let offset = Some(partition.offset).filter(|offset| *offset >= 0);
                OffsetAt {
                    partition: partition.partition_index,
                    offset: ClientError::check(&subject, partition.error_code, None)
                        .map(|()| offset),
                    timestamp: partition.timestamp,
                }
            });
        Ok(found.collect())
    }
}

/// Deletes the records of one partition before an offset; ask its leader.
#[derive(Clone, Debug)]
pub struct DeleteRecords {
    pub topic: String,
    pub partition: i32,
    /// First offset that stays; -1 deletes all that are committed.
    pub before: i64,
}

impl Call for DeleteRecords {
    const API: ApiKey = ApiKey::DeleteRecords;
    /// The partition's log start afterwards.
    type Answer = i64;

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let partitions = [DeleteRecordsPartition {
            partition_index: self.partition,
            offset: self.before,
        }];
        let topics = [DeleteRecordsTopic {
            name: &self.topic,
            partitions: Array::from(&partitions),
        }];
        DeleteRecordsRequest {
            topics: Array::from(&topics),
            timeout_ms: CHANGE_TIMEOUT_MS,
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<i64, AnswerError> {
        let response = DeleteRecordsResponse::parse(version, body)?;
        let subject = format!("{}-{}", self.topic, self.partition);
        let topic = response
            .topics
            .iter()
            .find(|topic| topic.name == self.topic);
        let result = topic.and_then(|topic| {
            topic
                .partitions
                .iter()
                .find(|one| one.partition_index == self.partition)
        });
        let result = result.ok_or_else(|| AnswerError::Missing(subject.clone()))?;
        ClientError::check(&subject, result.error_code, None)?;
        Ok(result.low_watermark)
    }
}
