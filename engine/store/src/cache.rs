//! Who may keep memory: the buffers of all logs come from one bounded pool, and when it is
//! exhausted older buffers are taken back, oldest first, then the append windows of logs that rest.
//!
//! Only bytes that are durable leave. A reader that still sends from a buffer keeps it: such memory
//! is lent, and lent memory is bounded too, so that slow consumers cannot take the cache away from
//! producers; beyond the bound reads are answered from the file.

use std::rc::Rc;

use highwater_base::disk::FileId;
use highwater_base::{AlignedBuffer, Offset};

use crate::log::LogId;
use crate::store::Store;

/// Lent memory stays below the cache divided by this.
const LENT_SHARES: usize = 2;

/// Buffers that readers were given.
#[derive(Debug, Default)]
pub(crate) struct Lent {
    /// Still in a tail: log, serial and capacity.
    in_tails: Vec<(LogId, u64, usize)>,
    /// Taken from a tail while a reader was not done.
    detached: Vec<Rc<AlignedBuffer>>,
    bytes: usize,
    /// The lists were gone through in this turn.
    swept: bool,
}

impl Store {
    /// An empty buffer, taking from the tails what is needed: older buffers first, oldest first,
    /// then append windows of logs that rest. `None` when all of it is in use.
    pub(crate) fn take_buffer(&mut self, capacity: usize) -> Option<Rc<AlignedBuffer>> {
        loop {
            if let Some(buffer) = self.pool.take(capacity) {
                return Some(buffer);
            }
            let freed = self.reclaim_detached()
                || self.drop_chunk()
                || self.evict_cached()
                || self.evict_window();
            if !freed {
                return None;
            }
        }
    }

    /// Takes back a buffer that no log needs any more; at once, or when its last reader is done.
    pub(crate) fn release(&mut self, buffer: Rc<AlignedBuffer>) {
        if Rc::strong_count(&buffer) > 1 {
            self.lent.bytes += buffer.capacity();
            self.lent.detached.push(buffer);
        } else {
            self.pool.give_back(buffer);
        }
    }

    /// Bytes of buffers that readers were given and have not returned, and their bound.
    #[must_use]
    pub fn lent_bytes(&self) -> (usize, usize) {
        (self.lent.bytes, self.lent_bytes_max())
    }

    fn lent_bytes_max(&self) -> usize {
        self.config.tail_cache_bytes / LENT_SHARES
    }

    /// Whether the buffer that holds `offset` may be given to a reader. It counts as lent then.
    pub(crate) fn lend(&mut self, log: LogId, offset: Offset) -> bool {
        let Some(tail) = self.log_mut(log).tail.find_mut(offset) else {
            return false;
        };
        if tail.lent {
            return true;
        }
        let (serial, capacity) = (tail.serial, tail.buffer.capacity());
        let bound = self.lent_bytes_max();
        if self.lent.bytes + capacity > bound && !std::mem::replace(&mut self.lent.swept, true) {
            self.sweep_lent();
        }
        if self.lent.bytes + capacity > bound {
            return false;
        }
        self.lent.bytes += capacity;
        self.lent.in_tails.push((log, serial, capacity));
        if let Some(tail) = self.log_mut(log).tail.find_mut(offset) {
            tail.lent = true;
        }
        true
    }

    /// Whether a part of the checked bytes that hold `offset` may be given to a reader.
    pub(crate) fn lend_chunk(&mut self, log: LogId, file: FileId, offset: Offset) -> bool {
        let chunk = self.lookups.checks.find_mut(log, file, offset);
        let Some((capacity, lent)) = chunk.map(|chunk| (chunk.buffer.capacity(), chunk.lent))
        else {
            return false;
        };
        if !lent && self.lent.bytes + capacity > self.lent_bytes_max() {
            return false;
        }
        if let Some(chunk) = self.lookups.checks.find_mut(log, file, offset)
            && !std::mem::replace(&mut chunk.lent, true)
        {
            self.lent.bytes += capacity;
            self.lent.detached.push(Rc::clone(&chunk.buffer));
        }
        true
    }

    /// Gives up the oldest checked bytes that nobody waits for.
    pub(crate) fn drop_chunk(&mut self) -> bool {
        let Some(chunk) = self.lookups.checks.pop_chunk() else {
            return false;
        };
        match chunk.lent {
            // It is among the lent ones, and free when its reader is done.
            true => drop(chunk),
            false => self.pool.give_back(chunk.buffer),
        }
        true
    }

    /// The lists may be gone through again: once a turn is enough.
    pub(crate) fn allow_sweep(&mut self) {
        self.lent.swept = false;
    }

    /// Finds out which readers are done.
    pub(crate) fn sweep_lent(&mut self) {
        self.lookups.checks.forget_read_chunks();
        self.reclaim_detached();
        let mut at = 0;
        while at < self.lent.in_tails.len() {
            let (log, serial, capacity) = self.lent.in_tails[at];
            let tail = self.live_log(log).map(|state| &mut state.tail);
            let still_lent = tail.is_some_and(|tail| tail.is_still_lent(serial));
            if still_lent {
                at += 1;
            } else {
                self.lent.bytes -= capacity;
                self.lent.in_tails.swap_remove(at);
            }
        }
    }

    fn reclaim_detached(&mut self) -> bool {
        let mut freed = false;
        let mut at = 0;
        while at < self.lent.detached.len() {
            if Rc::strong_count(&self.lent.detached[at]) > 1 {
                at += 1;
                continue;
            }
            let buffer = self.lent.detached.swap_remove(at);
            self.lent.bytes -= buffer.capacity();
            self.pool.give_back(buffer);
            freed = true;
        }
        freed
    }

    fn evict_cached(&mut self) -> bool {
        for _ in 0..self.cache_order.len() {
            let Some(id) = self.cache_order.pop_front() else {
                return false;
            };
            let Some(log) = self.live_log(id) else {
                continue;
            };
            if log.tail.buffers.len() < 2 {
                continue;
            }
            let durable = log.durable.offset;
            if let Some(buffer) = log.tail.remove_oldest_free(durable) {
                self.pool.give_back(buffer);
                return true;
            }
            self.cache_order.push_back(id);
        }
        false
    }

    fn evict_window(&mut self) -> bool {
        for _ in 0..2 * self.window_clock.len() {
            let Some(id) = self.window_clock.pop_front() else {
                return false;
            };
            let Some(log) = self.live_log(id) else {
                continue;
            };
            if log.tail.buffers.is_empty() && log.loading.is_none() {
                log.in_window_clock = false;
                continue;
            }
            if log.was_used || !log.window_is_evictable() {
                log.was_used = false;
                self.window_clock.push_back(id);
                continue;
            }
            log.in_window_clock = false;
            while let Some(buffer) = self.log_mut(id).tail.pop_oldest() {
                self.pool.give_back(buffer);
            }
            return true;
        }
        false
    }
}
