//! When which group wants to be looked at: one entry a group, so that heartbeats, which only move a
//! deadline back, do not touch it.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_base::Now;

use crate::group::Group;

/// Groups by deadline.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    entries: BTreeSet<(u64, u32, Arc<str>)>,
}

impl Timers {
    /// Moves the entry of a group to an earlier deadline, if it has one.
    pub(crate) fn arm(&mut self, partition: u32, group: &mut Group) {
        if group.armed_ns.is_some_and(|armed| armed <= group.wake_ns) {
            return;
        }
        self.disarm(partition, group);
        group.armed_ns = None;
        if group.wake_ns < u64::MAX {
            let entry = (group.wake_ns, partition, Arc::clone(&group.id));
            self.entries.insert(entry);
            group.armed_ns = Some(group.wake_ns);
        }
    }

    /// A group goes.
    pub(crate) fn disarm(&mut self, partition: u32, group: &Group) {
        if let Some(at_ns) = group.armed_ns {
            let entry = (at_ns, partition, Arc::clone(&group.id));
            self.entries.remove(&entry);
        }
    }

    /// A group whose deadline has been reached.
    pub(crate) fn pop_due(&mut self, now: Now) -> Option<(u32, Arc<str>)> {
        let (at_ns, ..) = self.entries.first()?;
        if !now.reached(*at_ns) {
            return None;
        }
        let (_, partition, group) = self.entries.pop_first()?;
        Some((partition, group))
    }

    /// The earliest deadline.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.entries.first().map(|(at_ns, ..)| *at_ns)
    }
}
