//! The checkpoint of a clean stop: per core, what every log looked like, so that the next start
//! neither scans segments nor lists directories.
//!
//! It is believed for a partition only when the marks ledger holds a CLEAN mark with the very same
//! position: the mark is written after the checkpoint and is gone from the ledger once the next
//! process has begun. Position alone does not tell one clean stop from another (retention and
//! rolling by time change a log without moving its end), so the checkpoints themselves are removed
//! before that process serves, and carry the run of the node that wrote them: one that somebody put
//! back is of an earlier run than the superblock says.

use std::collections::HashMap;

use highwater_base::disk::{BootDisk, DiskError};
use highwater_base::{CoreId, PartitionIndex, Timestamp, TopicId};

use crate::log::{Hole, Log};
use crate::sidecar::{CHECKPOINT_MAGIC, SIDECAR_BYTES_MAX, frame, unframe};
use crate::{LedgerError, PartitionKey};

pub(crate) const DIRECTORY: &str = "checkpoint";

/// One segment of a log.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SegmentImage {
    pub base_offset: i64,
    pub epoch: u32,
    pub size_bytes: u64,
    pub end_position: u64,
    pub next_offset: i64,
    pub first_timestamp: Timestamp,
    pub max_timestamp: Timestamp,
    pub sealed: bool,
    pub settled: bool,
}

/// One log.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct LogImage {
    pub topic_id: [u8; 16],
    pub partition: i32,
    pub epoch: u32,
    pub end: i64,
    pub log_start: i64,
    pub next_prepared_number: u32,
    pub epochs: Vec<(u32, i64)>,
    pub holes: Vec<Hole>,
    pub segments: Vec<SegmentImage>,
}

#[derive(Clone, Debug, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct CoreImage {
    /// The run of the node that wrote it.
    run: u64,
    logs: Vec<LogImage>,
}

/// The checkpoints of all cores, merged: the number of cores may have changed since.
#[derive(Debug, Default)]
pub(crate) struct CheckpointImage {
    logs: HashMap<PartitionKey, LogImage>,
}

pub(crate) fn path(core: CoreId) -> String {
    format!("{DIRECTORY}/core-{core}")
}

impl LogImage {
    /// The partition it is of.
    #[must_use]
    pub fn key(&self) -> PartitionKey {
        PartitionKey {
            topic_id: TopicId(self.topic_id),
            partition: PartitionIndex(self.partition),
        }
    }

    pub(crate) fn of(log: &Log) -> LogImage {
        let segments = log.segments.iter().map(|segment| SegmentImage {
            base_offset: segment.base_offset.0,
            epoch: segment.epoch.0,
            size_bytes: segment.file.size_bytes,
            end_position: segment.end_position,
            next_offset: segment.next_offset.0,
            first_timestamp: segment.first_timestamp,
            max_timestamp: segment.max_timestamp,
            sealed: segment.sealed,
            settled: segment.settled,
        });
        LogImage {
            topic_id: log.key.topic_id.0,
            partition: log.key.partition.0,
            epoch: log.epoch.0,
            end: log.end.0,
            log_start: log.log_start.0,
            next_prepared_number: log.next_prepared_number,
            epochs: log.epochs.iter().map(|at| (at.0.0, at.1.0)).collect(),
            holes: log.holes.clone(),
            segments: segments.collect(),
        }
    }
}

pub(crate) fn encode(run: u64, logs: Vec<LogImage>) -> Vec<u8> {
    let payload = rkyv::to_bytes::<rkyv::rancor::Error>(&CoreImage { run, logs });
    frame(CHECKPOINT_MAGIC, &payload.expect("serialising into memory"))
}

/// The run and the logs of one checkpoint; `None` when anything does not match.
pub(crate) fn decode(bytes: &[u8]) -> Option<(u64, Vec<LogImage>)> {
    let payload = unframe(CHECKPOINT_MAGIC, bytes)?;
    let core = rkyv::from_bytes::<CoreImage, rkyv::rancor::Error>(&payload).ok()?;
    Some((core.run, core.logs))
}

impl CheckpointImage {
    /// Reads what there is of this run; a missing, damaged or older checkpoint only means a scan.
    pub fn read(boot: &dyn BootDisk, run: u64) -> CheckpointImage {
        let mut image = CheckpointImage::default();
        let entries = boot.list(DIRECTORY).unwrap_or_default();
        for entry in entries.iter().filter(|entry| !entry.is_directory) {
            let path = format!("{DIRECTORY}/{}", entry.name);
            let bytes = read_whole(boot, &path, entry.size_bytes);
            let decoded = bytes.ok().and_then(|bytes| decode(&bytes));
            let of_run = decoded.filter(|(of, _)| *of == run);
            for log in of_run.map(|(_, logs)| logs).unwrap_or_default() {
                image.logs.insert(log.key(), log);
            }
        }
        image
    }

    pub fn take(&mut self, key: PartitionKey) -> Option<LogImage> {
        self.logs.remove(&key)
    }
}

/// Removes the checkpoints of all cores, past and present.
pub(crate) fn remove_all(boot: &mut dyn BootDisk) -> Result<(), LedgerError> {
    boot.remove(DIRECTORY).map_err(|error| LedgerError {
        path: DIRECTORY.to_string(),
        error,
    })
}

/// Reads a small file whose size is known.
pub(crate) fn read_whole(
    boot: &dyn BootDisk,
    path: &str,
    size_bytes: u64,
) -> Result<Vec<u8>, DiskError> {
    if size_bytes > SIDECAR_BYTES_MAX {
        return Err(DiskError::Io(27));
    }
    let mut bytes = vec![0; size_bytes as usize];
    let got = boot.read(path, 0, &mut bytes)?;
    bytes.truncate(got);
    Ok(bytes)
}
