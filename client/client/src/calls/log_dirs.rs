//! DescribeLogDirs: what the partitions of a topic take on the disks of one broker.

use std::collections::BTreeMap;

use highwater_wire::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsRequest, DescribeLogDirsResponse,
};
use highwater_wire::{ApiKey, Array, EncodeError};

use super::{AnswerError, Call};
use crate::error::ClientError;

/// Asks one broker about partitions of a topic.
#[derive(Clone, Debug)]
pub struct DescribeLogDirs {
    pub topic: String,
    pub partitions: Vec<i32>,
}

/// One partition on a broker's disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionOnDisk {
    pub size_bytes: i64,
    /// Number of segment files, which only a Highwater broker tells; so is all that follows.
    pub segments: Option<i32>,
    /// Ranges of offsets that are lost or damaged, the second offset not included.
    pub holes: Vec<(i64, i64)>,
    /// Why the partition is not served at all.
    pub offline: Option<String>,
    /// The marks that say how far it was durable were lost.
    pub unvouched: bool,
}

impl Call for DescribeLogDirs {
    const API: ApiKey = ApiKey::DescribeLogDirs;
    /// By partition; the broker leaves out those it does not have.
    type Answer = BTreeMap<i32, PartitionOnDisk>;

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let topics = [DescribableLogDirTopic {
            topic: &self.topic,
            partitions: Array::from(&self.partitions),
        }];
        DescribeLogDirsRequest {
            topics: Some(Array::from(&topics)),
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<Self::Answer, AnswerError> {
        let response = DescribeLogDirsResponse::parse(version, body)?;
        ClientError::check("log directories", response.error_code, None)?;
        let mut found = BTreeMap::new();
        for directory in response.results.iter() {
            ClientError::check("log directory", directory.error_code, None)?;
            for topic in directory.topics.iter().filter(|one| one.name == self.topic) {
                for row in topic.partitions.iter().filter(|row| !row.is_future_key) {
                    let holes = row
                        .holes
                        .iter()
                        .map(|hole| (hole.from_offset, hole.to_offset));
                    let on_disk = PartitionOnDisk {
                        size_bytes: row.partition_size,
                        segments: (row.segments >= 0).then_some(row.segments),
                        holes: holes.collect(),
                        offline: row.offline_reason.map(str::to_owned),
                        unvouched: row.unvouched,
                    };
                    found.insert(row.partition_index, on_disk);
                }
            }
        }
        Ok(found)
    }
}
