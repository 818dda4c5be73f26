//! The clean stop: everything durable, then indexes, producer state and the checkpoint, then CLEAN
//! marks. Each step begins when everything of the one before is on disk; a step that fails only
//! means that the next start scans.

use highwater_base::disk::{DiskError, DiskOperation, DiskRequest};
use highwater_base::{Now, Position};

use crate::checkpoint::{self, LogImage};
use crate::log::{Log, LogId};
use crate::segment::segment_path;
use crate::sidecar;
use crate::store::{Store, StoreEvent, token, token_kind};
use crate::{LedgerFlush, Mark};

/// How far the clean stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    Serving,
    /// Appends are refused; what is under way ends.
    Draining,
    /// Sidecars are being written.
    Saving,
    /// The checkpoint is being written.
    Checkpointing,
    /// CLEAN marks are on their way.
    Marking(LedgerFlush),
    Done,
}

impl Store {
    /// Begins the clean stop; [`StoreEvent::ShutdownComplete`] ends it. Appends are refused from
    /// now on, reads go on.
    pub fn shutdown(&mut self, now: Now, disk: &mut Vec<DiskRequest>) {
        if self.shutdown != Shutdown::Serving || self.failed {
            return;
        }
        self.shutdown = Shutdown::Draining;
        self.zero_queue.clear();
        self.full_logs.clear();
        self.save_scrub();
        self.drain_background(disk);
        self.issue_writes(now, disk);
        let _ = self.enter_saving(disk);
    }

    /// Takes the next step of the clean stop when the last one is over.
    pub(crate) fn step_shutdown(
        &mut self,
        disk: &mut Vec<DiskRequest>,
        events: &mut Vec<StoreEvent>,
    ) {
        match self.shutdown {
            Shutdown::Draining => {
                let _ = self.enter_saving(disk);
            }
            Shutdown::Saving if self.background_in_flight == 0 => self.write_checkpoint(disk),
            Shutdown::Marking(awaited) if self.marked >= awaited.0 => {
                self.shutdown = Shutdown::Done;
                events.push(StoreEvent::ShutdownComplete);
            }
            Shutdown::Serving
            | Shutdown::Saving
            | Shutdown::Checkpointing
            | Shutdown::Marking(_)
            | Shutdown::Done => {}
        }
    }

    fn is_drained(&self) -> bool {
        let logs = || self.logs.iter().flatten();
        self.group_commit.is_idle()
            && self.log_starts.is_idle()
            && self.zeros_in_flight == 0
            && self.background_in_flight == 0
            && self.background.is_empty()
            && self.lookups.is_idle()
            && logs().all(|log| log.operations == 0 && log.is_quiet())
    }

    fn enter_saving(&mut self, disk: &mut Vec<DiskRequest>) -> bool {
        if self.failed || !self.is_drained() {
            return false;
        }
        self.shutdown = Shutdown::Saving;
        for at in 0..self.logs.len() {
            let log = LogId(at as u32);
            if self.live_log(log).is_some() {
                self.save_log(log);
            }
        }
        let nothing_to_save = self.background.is_empty();
        self.drain_background(disk);
        if nothing_to_save {
            self.write_checkpoint(disk);
        }
        true
    }

    fn save_log(&mut self, log: LogId) {
        if let Some(prepared) = self.log_mut(log).prepared.take() {
            let name = self.files.get(&prepared.file).cloned();
            self.detach(prepared.file);
            if let Some(name) = name {
                self.remove_path(name.into_current());
            }
        }
        let state = self.log(log);
        let (directory, end) = (state.directory(), state.end);
        let Some(last) = state.segments.last() else {
            self.snapshot_producers(log);
            return;
        };
        let (base, epoch) = (last.base_offset, last.epoch);
        if !last.settled {
            let path = segment_path(&directory, base, epoch, "index");
            let bytes = sidecar::encode_index(last);
            self.push_background(log, DiskOperation::WriteWhole { path, bytes });
        }
        let none = Default::default();
        let producers = self.log(log).producers.as_deref().unwrap_or(&none);
        let path = segment_path(&directory, base, epoch, "producers");
        let bytes = sidecar::encode_producers(end, producers);
        self.push_background(log, DiskOperation::WriteWhole { path, bytes });
    }

    fn write_checkpoint(&mut self, disk: &mut Vec<DiskRequest>) {
        self.shutdown = Shutdown::Checkpointing;
        let logs = self.logs.iter().flatten();
        let images = logs
            .filter(|log| log.is_clean())
            .map(|log| LogImage::of(log));
        disk.push(DiskRequest {
            token: token(token_kind::CHECKPOINT, u32::MAX),
            operation: DiskOperation::WriteWhole {
                path: checkpoint::path(self.config.core),
                bytes: checkpoint::encode(self.ledger.run(), images.collect()),
            },
        });
    }

    /// The checkpoint is there: CLEAN marks make it count.
    pub(crate) fn checkpoint_written(
        &mut self,
        result: Result<usize, DiskError>,
        disk: &mut Vec<DiskRequest>,
    ) {
        if result.is_ok() {
            for log in self.logs.iter().flatten().filter(|log| log.is_clean()) {
                self.ledger.record(Mark::Clean {
                    key: log.key,
                    position: log.clean_position(),
                });
            }
        }
        let flush = self.ledger.flush(true, disk);
        self.shutdown = Shutdown::Marking(flush);
    }
}

impl Log {
    /// Whether the next start may take this log from the checkpoint.
    fn is_clean(&self) -> bool {
        self.is_quiet() && self.holes.is_empty() && self.first_unnamed().is_none()
    }

    fn clean_position(&self) -> Position {
        Position {
            epoch: self.epoch,
            end: self.end,
        }
    }
}
