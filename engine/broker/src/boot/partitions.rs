//! The partitions of a core are recovered, and what is wrong with them is said.
//!
//! A partition that cannot be recovered is offline and keeps nobody else from serving: its reason goes
//! into the partition table, its files stay as they are. What is the process's own trouble, no
//! descriptors or no memory, ends the start: every partition after it would be offline for nothing.

use std::sync::Arc;

use highwater_base::CoreId;
use highwater_base::disk::{BootDisk, DiskError};
use highwater_store::{Hole, LogId, RecoverError, RecoveryReport, Store};

use super::ShardFactory;
use crate::metadata::{Image, Topic};
use crate::metadata_log::partition_spec;
use crate::partition_table::PartitionTable;

/// ENOMEM, ENFILE, EMFILE.
const OWN_TROUBLES: [i32; 3] = [12, 23, 24];

impl ShardFactory {
    /// The logs of a core, and those of them whose marks were lost.
    pub(super) fn recover_partitions(
        &self,
        core: CoreId,
        image: &Image,
        store: &mut Store,
        boot: &mut dyn BootDisk,
        table: &mut PartitionTable,
    ) -> Result<(Vec<LogId>, Vec<LogId>), String> {
        let (mut logs, mut unvouched) = (Vec::new(), Vec::new());
        for topic in image.topics_by_name() {
            let (mut opened, mut offline) = (Vec::new(), Vec::new());
            for partition in 0..topic.partitions {
                if topic.core_of(partition, self.identity.cores) != core {
                    continue;
                }
                let spec = partition_spec(topic, partition);
                let now = highwater_reactor::now();
                match store.recover(boot, spec, &self.ledgers, now) {
                    Ok((log, report)) => {
                        self.tell_recovered(topic, partition, &report);
                        opened.push((partition, log));
                        logs.push(log);
                        unvouched.extend((!report.vouch).then_some(log));
                    }
                    Err(error) if is_own_trouble(&error) => {
                        return Err(format!("{}-{partition}: {error}", topic.name));
                    }
                    Err(error) => {
                        self.tell_offline(topic, partition, &error);
                        offline.push((partition, Arc::from(error.to_string())));
                    }
                }
            }
            table.put(topic, &opened);
            if !offline.is_empty() {
                table.put_offline(topic, &offline);
            }
        }
        Ok((logs, unvouched))
    }

    fn tell_recovered(&self, topic: &Topic, partition: u32, report: &RecoveryReport) {
        if report.torn {
            tracing::info!(topic = %topic.name, partition, end = report.end.0,
                ledger_lag_ms = self.identity.config.ledger_lag_ms,
                "cut a torn tail: writes that had not ended when the process did; a record acknowledged \
                 within the last ledger_lag_ms is among them only if the disk lost it");
        }
        if !report.set_aside.is_empty() {
            tracing::error!(topic = %topic.name, partition, files = ?report.set_aside,
                "files that are named like segments are no part of the log: their headers say that they \
                 are something else, or another file holds more of the same segment; they are left as \
                 they are, {} tells more",
                self.verify_command(topic, partition));
        }
        if !report.holes.is_empty() {
            tracing::error!(topic = %topic.name, partition, holes = %ranges(&report.holes),
                log_start = report.log_start.0, end = report.end.0,
                "records are lost or damaged on disk: the offsets in holes are answered with \
                 KAFKA_STORAGE_ERROR, all others are served, and the partition takes no new records \
                 while it has holes; {} tells where. A copy of the directory from a backup brings the \
                 records back; `highwater topic delete-records {} --partition {partition} --before {}` \
                 gives them up, and all before them",
                self.verify_command(topic, partition), topic.name,
                report.holes.last().map_or(0, |hole| hole.to));
        }
    }

    fn tell_offline(&self, topic: &Topic, partition: u32, error: &RecoverError) {
        tracing::error!(topic = %topic.name, partition, %error,
            "the partition is offline: it cannot be read as a log, and its files are left as they are; \
             everything else is served. {} tells more; mend the disk, or what is said of the file, or \
             restore the directory from a backup, and restart the node",
            self.verify_command(topic, partition));
    }

    fn verify_command(&self, topic: &Topic, partition: u32) -> String {
        let data_dir = self.identity.config.data_dir.display();
        let (name, id) = (&topic.name, topic.id);
        format!("`highwater log verify {data_dir}/topics/{name}/{id}/{partition}` (node stopped)")
    }
}

/// Whether the process lacks something, whatever the partition is like.
fn is_own_trouble(error: &RecoverError) -> bool {
    match error {
        RecoverError::Disk {
            error: DiskError::Io(errno),
            ..
        } => OWN_TROUBLES.contains(errno),
        _ => false,
    }
}

/// Holes as people read them: the first and the last offset of each.
pub(crate) fn ranges(holes: &[Hole]) -> String {
    let ranges = holes.iter().map(|hole| match hole.to - hole.from {
        1 => hole.from.to_string(),
        _ => format!("{}-{}", hole.from, hole.to - 1),
    });
    ranges.collect::<Vec<_>>().join(", ")
}
