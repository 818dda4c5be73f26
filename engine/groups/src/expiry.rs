//! Old offsets go: those of a group that has been empty for the retention time, and those nobody
//! with a membership ever held, each by its own age. A group without offsets and members goes too.
//!
//! All groups are looked at once an interval, a few of them in each tick.

use std::ops::Bound;
use std::sync::Arc;

use highwater_base::Now;

use crate::coordinator::{Coordinator, Outbox};
use crate::group::{Group, GroupState};
use crate::log_records::StoredOffset;
use crate::partition::{Partition, Phase, Records};
use crate::turn::Gate;

/// Between two rounds over all groups.
const ROUND_INTERVAL_MS: u64 = 60 * 1000;
/// Between two ticks of one round.
const STEP_INTERVAL_MS: u64 = 10;
/// Groups looked at in one tick.
const GROUPS_PER_TICK_MAX: usize = 256;
/// Tombstones written in one tick.
const TOMBSTONES_PER_TICK_MAX: usize = 2000;

/// How far the round has come.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    at_ns: Option<u64>,
    /// The group looked at last.
    cursor: Option<(u32, Arc<str>)>,
}

impl Sweep {
    /// There are groups now: the first round comes after an interval.
    pub(crate) fn start(&mut self, now: Now) {
        let at_ns = now.plus_ms(ROUND_INTERVAL_MS);
        self.at_ns.get_or_insert(at_ns);
    }
}

impl Coordinator {
    pub(crate) fn sweep_deadline_ns(&self) -> Option<u64> {
        self.sweep.at_ns
    }

    /// Goes on with the round if it is time.
    pub(crate) fn sweep_expired(&mut self, now: Now, out: &mut Outbox) {
        if !self.sweep.at_ns.is_some_and(|at_ns| now.reached(at_ns)) {
            return;
        }
        let mut tombstones = 0;
        for _ in 0..GROUPS_PER_TICK_MAX {
            let Some((index, id)) = self.next_swept() else {
                self.sweep.cursor = None;
                self.sweep.at_ns = Some(now.plus_ms(ROUND_INTERVAL_MS));
                return;
            };
            let budget = TOMBSTONES_PER_TICK_MAX - tombstones;
            tombstones += self.expire_group(now, index, &id, budget, out);
            self.sweep.cursor = Some((index, id));
            if tombstones >= TOMBSTONES_PER_TICK_MAX {
                // What is left of this group is looked at in the next round: a disk that takes no
                // writes would otherwise be offered the same ones again at once.
                break;
            }
        }
        self.sweep.at_ns = Some(now.plus_ms(STEP_INTERVAL_MS));
    }

    fn next_swept(&self) -> Option<(u32, Arc<str>)> {
        let cursor = self.sweep.cursor.as_ref();
        let from = cursor.map_or(0, |(index, _)| *index);
        let active = self.partitions.range(from..);
        let swept = |here: &Partition| here.phase == Phase::Active && !here.is_undecided();
        for (index, here) in active.filter(|(_, here)| swept(here)) {
            let after = match cursor {
                Some((last, group)) if last == index => Bound::Excluded(Arc::clone(group)),
                _ => Bound::Unbounded,
            };
            if let Some((id, _)) = here.groups.range((after, Bound::Unbounded)).next() {
                return Some((*index, Arc::clone(id)));
            }
        }
        None
    }

    /// Removes what has expired of one group, at most `budget` records. Returns how many.
    fn expire_group(
        &mut self,
        now: Now,
        index: u32,
        id: &Arc<str>,
        budget: usize,
        out: &mut Outbox,
    ) -> usize {
        let Some(here) = self.partitions.get_mut(&index) else {
            return 0;
        };
        let Some(group) = here.groups.get(id) else {
            return 0;
        };
        let mut records = Records::at(now.wall_ms);
        let retention_ms = self.config.offsets_retention_ms;
        let all_gone = group.expire(now, retention_ms, budget, &mut records);
        self.counters.offsets_expired += records.count() as u64;
        if all_gone && group.record.latest().is_some() && group.pending_joins.is_empty() {
            records.group(id, None);
        }
        let count = records.count();
        if count > 0 {
            here.append(records, Gate::None, out);
        }
        count
    }
}

impl Group {
    /// Adds tombstones of its expired offsets. True if the group is empty and no offset is left.
    fn expire(&self, now: Now, retention_ms: u64, budget: usize, records: &mut Records) -> bool {
        if self.state != GroupState::Empty {
            return false;
        }
        let mut all_gone = true;
        for (topic, slots) in &self.offsets {
            for (partition, slot) in slots {
                let Some(stored) = slot.latest() else {
                    continue;
                };
                if records.count() < budget && self.has_expired(now, retention_ms, stored) {
                    records.offset(&self.id, topic, *partition, None);
                } else {
                    all_gone = false;
                }
            }
        }
        all_gone
    }

    fn has_expired(&self, now: Now, retention_ms: u64, stored: &StoredOffset) -> bool {
        if stored.expire_timestamp >= 0 {
            return now.wall_ms >= stored.expire_timestamp;
        }
        let had_members = self.protocol_type.is_some() && self.state_timestamp >= 0;
        let since = if had_members {
            // A commit after that, of an administrator for example, starts the time anew.
            self.state_timestamp.max(stored.commit_timestamp)
        } else {
            stored.commit_timestamp
        };
        let age_ms = now.wall_ms.saturating_sub(since);
        u64::try_from(age_ms).is_ok_and(|age_ms| age_ms >= retention_ms)
    }
}
