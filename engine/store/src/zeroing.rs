//! Zeroing ahead of the appends: background writes of zeros over reserved blocks, so that the
//! appends that follow change no file metadata and a plain write suffices.
//!
//! A `Zero` never touches a block an append may be written to while it is under way: it starts
//! behind the bytes appended so far, and a write that would reach into it waits. When appends
//! overtake it, the segment is being filled faster than zeroing pays for itself, and it stops:
//! those appends are durable writes.

use highwater_base::disk::{DiskError, DiskOperation, DiskRequest};

use crate::log::LogId;
use crate::segment::{FileState, SegmentFile, block_ceil};
use crate::store::{Store, token_kind};

/// Bytes zeroed by one request: what an append may have to wait for.
const ZERO_BYTES: u64 = 1 << 20;
/// Requests under way at once per core: zeroing yields to the appends.
const ZEROS_IN_FLIGHT_MAX: usize = 2;
/// Zeroing starts this far ahead of the appends, so that those of the next turns do not wait.
const MARGIN_BYTES: u64 = 256 << 10;
/// The same in a segment too small for that.
const MARGIN_BYTES_SMALL: u64 = 16 << 10;

/// The next range to zero in `file`, whose appends have reached `end_position`.
fn next_range(file: &mut SegmentFile, end_position: u64, ahead_bytes: u64) -> Option<(u64, u64)> {
    if file.state != FileState::Ready || file.zeroing_off || file.zeroing.is_some() {
        return None;
    }
    let reached = block_ceil(end_position);
    if !file.zeroed.is_empty() && file.zeroed.end <= reached {
        file.zeroing_off = true;
        return None;
    }
    if file.zeroed.is_empty() {
        let margin = match (reached, file.size_bytes - reached) {
            (0, _) => 0,
            (_, room) if room < 4 * MARGIN_BYTES => MARGIN_BYTES_SMALL,
            _ => MARGIN_BYTES,
        };
        file.zeroed = reached + margin..reached + margin;
    }
    let from = file.zeroed.end;
    let to = (reached + ahead_bytes)
        .min(file.size_bytes)
        .min(from + ZERO_BYTES);
    (from < to).then_some((from, block_ceil(to)))
}

impl Store {
    /// Puts a log in line for zeroing, when it has something to zero.
    pub(crate) fn queue_zeroing(&mut self, log: LogId) {
        let ahead_bytes = self.config.zero_ahead_bytes;
        let state = self.log_mut(log);
        if state.in_zero_queue || ahead_bytes == 0 {
            return;
        }
        let wants = |file: &SegmentFile, end_position: u64| {
            // In steps of half the distance, so that a small append does not cost a small zeroing.
            let target = (end_position + ahead_bytes / 2).min(file.size_bytes);
            file.state == FileState::Ready && !file.zeroing_off && file.zeroed.end < target
        };
        let active = state
            .active()
            .is_some_and(|segment| wants(&segment.file, segment.end_position));
        let prepared = state.prepared.as_ref().is_some_and(|file| wants(file, 0));
        if active || prepared {
            state.in_zero_queue = true;
            self.zero_queue.push_back(log);
        }
    }

    /// Starts zeroing for the logs in line, as far as the bound allows.
    pub(crate) fn start_zeroing(&mut self, disk: &mut Vec<DiskRequest>) {
        let serving = self.shutdown == crate::shutdown::Shutdown::Serving;
        while serving && self.zeros_in_flight < ZEROS_IN_FLIGHT_MAX {
            let Some(log) = self.zero_queue.pop_front() else {
                return;
            };
            let ahead_bytes = self.config.zero_ahead_bytes;
            let Some(state) = self.live_log(log) else {
                continue;
            };
            state.in_zero_queue = false;
            if state.zeroing_in_flight() {
                continue;
            }
            let active = state.segments.last_mut().filter(|segment| !segment.sealed);
            let active = active.and_then(|segment| {
                let range = next_range(&mut segment.file, segment.end_position, ahead_bytes)?;
                Some((&mut segment.file, range))
            });
            let prepared = state.prepared.as_deref_mut().and_then(|file| {
                let range = next_range(file, 0, ahead_bytes)?;
                Some((file, range))
            });
            let Some((file, (from, to))) = active.or(prepared) else {
                continue;
            };
            file.zeroing = Some(from..to);
            let file = file.file;
            self.zeros_in_flight += 1;
            let token = self.log_token(token_kind::ZERO, log);
            disk.push(DiskRequest {
                token,
                operation: DiskOperation::Zero {
                    file,
                    offset: from,
                    len: to - from,
                },
            });
        }
    }

    /// A `Zero` ended: appends that waited for it go on, and the next one gets in line.
    pub(crate) fn zero_done(&mut self, log: LogId, result: Result<usize, DiskError>) {
        self.zeros_in_flight -= 1;
        let Some(state) = self.live_log(log) else {
            return;
        };
        if let Some(file) = state.zeroing_file()
            && let Some(range) = file.zeroing.take()
        {
            match result {
                Ok(_) => file.zeroed.end = range.end,
                // It is an optimisation: without it the appends are durable writes.
                Err(_) => file.zeroing_off = true,
            }
        }
        if state.tail.first_unwritten().is_some() {
            self.mark_dirty(log);
        }
        self.settle_sealed(log);
        self.queue_zeroing(log);
    }
}
