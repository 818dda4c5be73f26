//! What a partition remembers of idempotent producers (KIP-98): the last five batches of each
//! producer id, to answer a resent batch with its original offset and to refuse a gap.
//!
//! An unknown producer id is accepted at any sequence (KIP-360): its state may have expired. The
//! table is bounded; the least recently used producers are forgotten first. Appends that are taken
//! back (a full disk) are undone exactly as far as the window reaches: the batch that left the
//! window last is kept as well, so that five undone batches still leave a known last sequence.

use std::collections::HashMap;

use highwater_base::limits::{PRODUCER_BATCHES_MAX, PRODUCERS_PER_PARTITION_MAX};
use highwater_base::record_batch::ATTRIBUTE_CONTROL;
use highwater_base::{BatchHeader, Offset, Timestamp};

/// One more than the window: the last slot only remembers where the sequence stood.
const SLOTS: usize = PRODUCER_BATCHES_MAX + 1;
/// Producers forgotten at once when the table is full.
const FORGOTTEN_AT_ONCE: usize = PRODUCERS_PER_PARTITION_MAX / 20;

/// How long after recovery no producer expires.
const RESEND_GRACE_MS: i64 = 15 * 60 * 1000;

/// One appended batch of a producer.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct ProducerBatch {
    pub epoch: i16,
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: i64,
    pub last_offset: i64,
}

/// A producer id's last batches, newest last.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Producer {
    pub producer_id: i64,
    pub epoch: i16,
    /// When it was last used, in wall time: decides expiry, never correctness.
    pub last_used_ms: i64,
    pub count: u8,
    pub batches: [ProducerBatch; SLOTS],
}

/// What an append of a batch would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProducerVerdict {
    Fresh,
    /// It is in the log already, from `base_offset` on.
    Duplicate {
        base_offset: Offset,
        next_offset: Offset,
    },
    OutOfOrderSequence {
        expected: i32,
        found: i32,
    },
    InvalidProducerEpoch {
        current: i16,
        found: i16,
    },
    /// The table is full of producers with batches that are not durable yet.
    TooMany,
}

/// All producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerTable {
    producers: HashMap<i64, Producer>,
}

/// The sequence `delta` after `sequence`; sequences wrap from 2^31-1 to 0.
#[must_use]
pub fn sequence_plus(sequence: i32, delta: i32) -> i32 {
    ((i64::from(sequence) + i64::from(delta)) % (i64::from(i32::MAX) + 1)) as i32
}

impl Producer {
    fn window(&self) -> &[ProducerBatch] {
        let count = usize::from(self.count).min(SLOTS);
        &self.batches[..count]
    }

    fn push(&mut self, batch: ProducerBatch) {
        let count = usize::from(self.count).min(SLOTS);
        if count == SLOTS {
            self.batches.copy_within(1.., 0);
            self.batches[SLOTS - 1] = batch;
        } else {
            self.batches[count] = batch;
            self.count = (count + 1) as u8;
        }
    }

    fn judge(&self, header: &BatchHeader) -> ProducerVerdict {
        let found = header.base_sequence;
        if header.producer_epoch < self.epoch {
            return ProducerVerdict::InvalidProducerEpoch {
                current: self.epoch,
                found: header.producer_epoch,
            };
        }
        if found < 0 || header.attributes & ATTRIBUTE_CONTROL != 0 {
            return ProducerVerdict::Fresh;
        }
        if header.producer_epoch > self.epoch {
            return match found {
                0 => ProducerVerdict::Fresh,
                _ => ProducerVerdict::OutOfOrderSequence { expected: 0, found },
            };
        }
        let last_sequence = sequence_plus(found, header.last_offset_delta);
        let window_batches = PRODUCER_BATCHES_MAX - usize::from(cfg!(mutant = "S06"));
        let recent = self.window().iter().rev().take(window_batches);
        for batch in recent.filter(|batch| batch.epoch == header.producer_epoch) {
            if batch.first_sequence == found && batch.last_sequence == last_sequence {
                return ProducerVerdict::Duplicate {
                    base_offset: Offset(batch.base_offset),
                    next_offset: Offset(batch.last_offset + 1),
                };
            }
        }
        match self.window().last() {
            Some(last) if last.epoch == self.epoch => {
                let expected = sequence_plus(last.last_sequence, 1);
                match found == expected {
                    true => ProducerVerdict::Fresh,
                    false => ProducerVerdict::OutOfOrderSequence { expected, found },
                }
            }
            _ => ProducerVerdict::Fresh,
        }
    }
}

impl ProducerTable {
    /// Judges a batch with a producer id. `durable_end` and `now_ms` only serve to make room.
    pub fn judge(
        &mut self,
        header: &BatchHeader,
        durable_end: Offset,
        now_ms: Timestamp,
    ) -> ProducerVerdict {
        match self.producers.get(&header.producer_id) {
            Some(producer) => producer.judge(header),
            None if self.producers.len() < PRODUCERS_PER_PARTITION_MAX => ProducerVerdict::Fresh,
            None => match self.forget_least_used(durable_end, now_ms) {
                true => ProducerVerdict::Fresh,
                false => ProducerVerdict::TooMany,
            },
        }
    }

    /// Notes a batch that was judged fresh and appended at `base_offset`, or was found in the log.
    pub fn note(&mut self, header: &BatchHeader, base_offset: Offset, now_ms: Timestamp) {
        let producer = self
            .producers
            .entry(header.producer_id)
            .or_insert_with(|| Producer {
                producer_id: header.producer_id,
                epoch: header.producer_epoch,
                last_used_ms: now_ms,
                count: 0,
                batches: Default::default(),
            });
        producer.epoch = producer.epoch.max(header.producer_epoch);
        producer.last_used_ms = now_ms;
        if header.base_sequence < 0 || header.attributes & ATTRIBUTE_CONTROL != 0 {
            return;
        }
        producer.push(ProducerBatch {
            epoch: header.producer_epoch,
            first_sequence: header.base_sequence,
            last_sequence: sequence_plus(header.base_sequence, header.last_offset_delta),
            base_offset: base_offset.0,
            last_offset: base_offset.0 + i64::from(header.last_offset_delta),
        });
    }

    /// Notes a batch that recovery found in the log. The bound holds here as it does for appends:
    /// whoever was used longest ago goes. When that was, the batch's own time has to tell.
    pub fn replay(&mut self, header: &BatchHeader, base_offset: Offset, now_ms: Timestamp) {
        let is_new = !self.producers.contains_key(&header.producer_id);
        if is_new && self.producers.len() >= PRODUCERS_PER_PARTITION_MAX {
            let all_durable = Offset(i64::MAX);
            self.forget_least_used(all_durable, now_ms);
        }
        self.note(header, base_offset, header.max_timestamp.min(now_ms));
    }

    /// After recovery nobody expires at once, however old the batches say they are: a producer may
    /// just be sending again what it was not answered before the crash.
    pub fn keep_for_resends(&mut self, now_ms: Timestamp, expiration_ms: i64) {
        let idle_ms_max = expiration_ms.saturating_sub(RESEND_GRACE_MS).max(0);
        let used_at_least_ms = now_ms.saturating_sub(idle_ms_max);
        for producer in self.producers.values_mut() {
            producer.last_used_ms = producer.last_used_ms.max(used_at_least_ms);
        }
    }

    /// Undoes every append from `from` on.
    pub fn roll_back(&mut self, from: Offset) {
        self.producers.retain(|_, producer| {
            let kept = producer
                .window()
                .iter()
                .take_while(|batch| batch.base_offset < from.0)
                .count();
            if kept < usize::from(producer.count) {
                producer.count = kept as u8;
                match producer.window().last() {
                    Some(last) => producer.epoch = last.epoch,
                    None => return false,
                }
            }
            true
        });
    }

    /// Forgets producers not used for `expiration_ms`, except those with batches not durable yet.
    pub fn expire(&mut self, now_ms: Timestamp, expiration_ms: i64, durable_end: Offset) {
        self.producers.retain(|_, producer| {
            let idle_ms = now_ms.saturating_sub(producer.last_used_ms);
            idle_ms < expiration_ms || !is_durable(producer, durable_end)
        });
    }

    fn forget_least_used(&mut self, durable_end: Offset, now_ms: Timestamp) -> bool {
        let mut used: Vec<(i64, i64, i64)> = self
            .producers
            .values()
            .filter(|producer| is_durable(producer, durable_end))
            .map(|producer| {
                let last_offset = producer.window().last().map_or(-1, |last| last.last_offset);
                let last_used_ms = producer.last_used_ms.min(now_ms);
                (last_used_ms, last_offset, producer.producer_id)
            })
            .collect();
        used.sort_unstable();
        used.truncate(FORGOTTEN_AT_ONCE);
        for (_, _, producer_id) in &used {
            self.producers.remove(producer_id);
        }
        !used.is_empty()
    }

    /// All producers in id order, for a snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Producer> {
        let mut producers: Vec<Producer> = self.producers.values().cloned().collect();
        producers.sort_unstable_by_key(|producer| producer.producer_id);
        producers
    }

    /// The table of a snapshot; entries beyond the bound or with a bad count are left out.
    #[must_use]
    pub fn from_snapshot(producers: Vec<Producer>) -> ProducerTable {
        let kept = producers
            .into_iter()
            .filter(|producer| usize::from(producer.count) <= SLOTS)
            .take(PRODUCERS_PER_PARTITION_MAX);
        ProducerTable {
            producers: kept
                .map(|producer| (producer.producer_id, producer))
                .collect(),
        }
    }

    /// Producers remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }
}

fn is_durable(producer: &Producer, durable_end: Offset) -> bool {
    let last = producer.window().last();
    last.is_none_or(|batch| batch.last_offset < durable_end.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(producer_epoch: i16, base_sequence: i32, records: i32) -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            batch_length: 49,
            partition_leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: records - 1,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: 7,
            producer_epoch,
            base_sequence,
            record_count: records,
        }
    }

    fn table_with(batches: i32) -> ProducerTable {
        let mut table = ProducerTable::default();
        for at in 0..batches {
            let next = header(0, at * 2, 2);
            assert_eq!(
                table.judge(&next, Offset(0), 0),
                ProducerVerdict::Fresh,
                "batch {at}"
            );
            table.note(&next, Offset(i64::from(at) * 2), 0);
        }
        table
    }

    #[test]
    fn five_batches_back_is_a_duplicate_and_six_is_out_of_order() {
        let mut table = table_with(7);
        for at in 2..7 {
            assert_eq!(
                table.judge(&header(0, at * 2, 2), Offset(0), 0),
                ProducerVerdict::Duplicate {
                    base_offset: Offset(i64::from(at) * 2),
                    next_offset: Offset(i64::from(at) * 2 + 2),
                }
            );
        }
        assert_eq!(
            table.judge(&header(0, 2, 2), Offset(0), 0),
            ProducerVerdict::OutOfOrderSequence {
                expected: 14,
                found: 2
            }
        );
        assert_eq!(
            table.judge(&header(0, 16, 2), Offset(0), 0),
            ProducerVerdict::OutOfOrderSequence {
                expected: 14,
                found: 16
            }
        );
    }

    #[test]
    fn epochs_fence_and_start_over_at_zero() {
        let mut table = table_with(3);
        assert_eq!(
            table.judge(&header(1, 6, 1), Offset(0), 0),
            ProducerVerdict::OutOfOrderSequence {
                expected: 0,
                found: 6
            }
        );
        let bumped = header(1, 0, 1);
        assert_eq!(table.judge(&bumped, Offset(0), 0), ProducerVerdict::Fresh);
        table.note(&bumped, Offset(6), 0);
        assert_eq!(
            table.judge(&header(0, 6, 1), Offset(0), 0),
            ProducerVerdict::InvalidProducerEpoch {
                current: 1,
                found: 0
            }
        );
    }

    #[test]
    fn rolling_back_restores_sequence_and_epoch() {
        let before = table_with(7);
        let mut table = before.clone();
        for at in 7..12 {
            table.note(&header(0, at * 2, 2), Offset(i64::from(at) * 2), 0);
        }
        table.roll_back(Offset(14));
        assert_eq!(
            table.judge(&header(0, 14, 2), Offset(0), 0),
            ProducerVerdict::Fresh
        );
        assert!(matches!(
            table.judge(&header(0, 16, 2), Offset(0), 0),
            ProducerVerdict::OutOfOrderSequence { expected: 14, .. }
        ));
        let mut table = before;
        table.note(&header(3, 0, 1), Offset(14), 0);
        table.roll_back(Offset(14));
        assert_eq!(
            table.judge(&header(0, 14, 2), Offset(0), 0),
            ProducerVerdict::Fresh
        );
    }

    #[test]
    fn sequences_wrap() {
        let mut table = ProducerTable::default();
        table.note(&header(0, i32::MAX - 1, 2), Offset(0), 0);
        assert_eq!(
            table.judge(&header(0, 0, 1), Offset(0), 0),
            ProducerVerdict::Fresh
        );
        table.note(&header(0, i32::MAX, 3), Offset(2), 0);
        assert_eq!(sequence_plus(i32::MAX, 2), 1);
        assert_eq!(
            table.judge(&header(0, 2, 1), Offset(0), 0),
            ProducerVerdict::Fresh
        );
    }

    #[test]
    fn the_table_is_bounded_and_keeps_what_is_not_durable() {
        let mut table = ProducerTable::default();
        for id in 0..PRODUCERS_PER_PARTITION_MAX as i64 {
            let mut next = header(0, 0, 1);
            next.producer_id = id;
            table.note(&next, Offset(id), id);
        }
        let mut newcomer = header(0, 0, 1);
        newcomer.producer_id = -5;
        assert_eq!(
            table.judge(&newcomer, Offset(0), 0),
            ProducerVerdict::TooMany
        );
        let durable = Offset(PRODUCERS_PER_PARTITION_MAX as i64);
        assert_eq!(
            table.judge(&newcomer, durable, i64::MAX),
            ProducerVerdict::Fresh
        );
        assert_eq!(table.len(), PRODUCERS_PER_PARTITION_MAX - FORGOTTEN_AT_ONCE);
        table.expire(20_000, 5_000, durable);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn snapshots_round_trip() {
        let table = table_with(4);
        assert_eq!(ProducerTable::from_snapshot(table.snapshot()), table);
    }

    #[test]
    fn replay_keeps_to_the_bound_and_forgets_the_oldest() {
        let most = PRODUCERS_PER_PARTITION_MAX as i64;
        let mut table = ProducerTable::default();
        let now_ms = 2 * most;
        for id in 0..most + 10 {
            let mut next = header(0, 0, 1);
            // The last half says it comes from the future.
            next.max_timestamp = if id < most / 2 { id } else { i64::MAX };
            next.producer_id = most - id;
            table.replay(&next, Offset(id), now_ms);
            assert!(table.len() <= PRODUCERS_PER_PARTITION_MAX);
        }
        let kept = table.snapshot();
        let first = kept.iter().map(|it| it.batches[0].base_offset).min();
        assert_eq!(first, Some(FORGOTTEN_AT_ONCE as i64));
        assert!(kept.iter().all(|it| it.last_used_ms <= now_ms));
    }

    #[test]
    fn old_timestamps_do_not_expire_a_producer_that_may_be_resending() {
        let (day_ms, now_ms) = (24 * 3600 * 1000, 1_700_000_000_000);
        let mut table = ProducerTable::default();
        table.replay(&header(0, 0, 1), Offset(0), now_ms);
        table.keep_for_resends(now_ms, day_ms);
        table.expire(now_ms + RESEND_GRACE_MS - 1, day_ms, Offset(1));
        assert_eq!(table.len(), 1);
        table.expire(now_ms + RESEND_GRACE_MS, day_ms, Offset(1));
        assert_eq!(table.len(), 0);
    }
}
