//! The batches of one partition, in the order of their records.
//!
//! Order is everything here: batches are sent from the front, and after any failure nothing is sent
//! until all that is in flight has been answered; then the failed ones go again, oldest first, with
//! the sequences they had. A batch that the broker refused because an older one failed has no
//! sequence until the producer has another identity; those that still have one are settled before
//! that.

use std::collections::VecDeque;

use super::batch::{Batch, OpenBatch, sequence_after};
use crate::calls::ProducerIdentity;

/// Waits before a retry, doubled up to the maximum.
const BACKOFF_MIN_MS: u64 = 50;
const BACKOFF_MAX_MS: u64 = 1000;

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub batches: VecDeque<Batch>,
    pub open: Option<OpenBatch>,
    pub in_flight: usize,
    /// The broker has acknowledged a batch of the current identity.
    acknowledged: bool,
    /// The broker that has what is in flight.
    pub leader: i32,
    /// A failure was seen: wait until nothing is in flight, then send again in order.
    draining: bool,
    /// A batch failed for good, so the broker will refuse the later sequences of this identity.
    pub gap: bool,
    sequence_next: i32,
    backoff_ms: u64,
    pub retry_at_ns: u64,
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.open.is_none()
    }

    /// Whether a batch could be sent now, if the identity allows new sequences (`may_assign`).
    pub fn sendable(&self, now_ns: u64, in_flight_max: usize, may_assign: bool) -> bool {
        if self.in_flight >= in_flight_max || self.draining || now_ns < self.retry_at_ns {
            return false;
        }
        match self.waiting() {
            Some(at) if self.batches[at].sequence.is_some() => true,
            Some(_) => may_assign && !self.gap,
            None => self.open.is_some() && may_assign && !self.gap,
        }
    }

    /// How many batches may be in flight. To a broker that knows nothing of an identity any sequence
    /// is the first, so a second batch would overtake a first one that it refuses for a moment, for
    /// example while it becomes the leader of a new topic.
    pub fn in_flight_allowed(&self, identity: Option<ProducerIdentity>, max: usize) -> usize {
        match identity {
            Some(_) if !self.acknowledged => max.min(1),
            _ => max,
        }
    }

    /// Position of the batch to send next: the oldest that has a sequence and is not in flight,
    /// else the oldest that is not in flight.
    pub fn waiting(&self) -> Option<usize> {
        let again = |batch: &Batch| !batch.in_flight && batch.sequence.is_some();
        let again = self.batches.iter().position(again);
        again.or_else(|| self.batches.iter().position(|batch| !batch.in_flight))
    }

    /// Marks a waiting batch as sent to `leader`; gives it a sequence if it has none.
    pub fn send(&mut self, at: usize, leader: i32, identity: Option<ProducerIdentity>) {
        let batch = &mut self.batches[at];
        assert!(!batch.in_flight, "a batch is in flight once");
        if let (None, Some(identity)) = (batch.sequence, identity) {
            batch.stamp(identity, self.sequence_next);
            self.sequence_next = sequence_after(self.sequence_next, batch.tokens.len());
        }
        batch.in_flight = true;
        batch.sent = true;
        self.in_flight += 1;
        self.leader = leader;
    }

    /// A batch that was in flight is not any more. Returns where it stands.
    pub fn answered(&mut self, batch_id: u64) -> Option<usize> {
        let at = self.batches.iter().position(|batch| batch.id == batch_id)?;
        let batch = &mut self.batches[at];
        assert!(batch.in_flight, "only what is in flight is answered");
        batch.in_flight = false;
        self.in_flight -= 1;
        if self.in_flight == 0 {
            self.draining = false;
        }
        Some(at)
    }

    /// Something went well: the next failure waits only briefly, and more may be in flight.
    pub fn went_well(&mut self) {
        self.acknowledged = true;
        self.backoff_ms = 0;
    }

    /// Keeps everything back until nothing is in flight and the backoff has passed.
    pub fn back_off(&mut self, now_ns: u64) {
        self.draining = self.in_flight > 0;
        self.backoff_ms = (self.backoff_ms * 2).clamp(BACKOFF_MIN_MS, BACKOFF_MAX_MS);
        self.retry_at_ns = now_ns.saturating_add(self.backoff_ms * 1_000_000);
    }

    /// Whether the broker may still have to sort out batches of the current identity.
    pub fn has_sequenced(&self) -> bool {
        self.batches.iter().any(|batch| batch.sequence.is_some())
    }

    /// Starts counting anew under a new identity.
    pub fn renew(&mut self) {
        assert!(
            !self.has_sequenced(),
            "batches of the old identity were settled"
        );
        self.sequence_next = 0;
        self.acknowledged = false;
        self.gap = false;
    }
}
