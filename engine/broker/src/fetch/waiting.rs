//! Who waits for something new in a partition: fetches of this core and of others.
//!
//! A fetch that waits hangs on all its partitions under one number, its watch. Whatever wakes it
//! ends the watch, and so does its end; what hangs elsewhere under that number is stale then and is
//! taken off later, when a list has grown to twice what was alive in it. So hanging and waking cost
//! the same however many others wait.

use std::collections::BTreeMap;

use highwater_base::{CoreId, Now};
use highwater_reactor::Outbox;
use highwater_store::LogId;

use super::{FetchState, PendingFetch};
use crate::message::{FetchPart, Message};
use crate::partition_table::Owner;
use crate::shard::Shard;
use crate::slab::{Key, Slab};

/// The watch of a fetch that hangs nowhere.
pub const NO_WATCH: u64 = 0;
/// A list this short is not gone through for stale entries.
const SWEEP_WAITERS_MIN: usize = 4;

/// A fetch on the list of a partition.
#[derive(Clone, Copy, Debug)]
enum FetchWaiter {
    Here {
        key: Key,
        watch: u64,
    },
    Core {
        core: CoreId,
        ticket: u64,
        watch: u64,
    },
}

/// The list of one partition.
#[derive(Debug, Default)]
pub struct FetchWaiters {
    list: Vec<FetchWaiter>,
    /// With so many entries it is gone through.
    sweep_at: usize,
}

/// The numbers of watches, and those of other cores that are alive.
#[derive(Debug, Default)]
pub struct Watches {
    foreign: BTreeMap<(CoreId, u64), u64>,
    last: u64,
}

impl Watches {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl FetchWaiter {
    fn is_alive(self, fetches: &mut Slab<PendingFetch>, watches: &Watches) -> bool {
        match self {
            FetchWaiter::Here { key, watch } => {
                let fetch = fetches.get_mut(key);
                fetch.is_some_and(|fetch| fetch.watch == watch)
            }
            FetchWaiter::Core {
                core,
                ticket,
                watch,
            } => watches.foreign.get(&(core, ticket)) == Some(&watch),
        }
    }
}

impl FetchWaiters {
    fn push(&mut self, waiter: FetchWaiter, fetches: &mut Slab<PendingFetch>, watches: &Watches) {
        if self.list.len() >= self.sweep_at.max(SWEEP_WAITERS_MIN) {
            self.list.retain(|known| known.is_alive(fetches, watches));
            self.sweep_at = 2 * self.list.len();
        }
        self.list.push(waiter);
    }
}

impl Shard {
    /// Hangs a fetch on its partitions of this core, unless it hangs there already.
    pub(super) fn hang_on_partitions(&mut self, key: Key) {
        let Some(fetch) = self.fetches.get_mut(key) else {
            return;
        };
        if fetch.watch != NO_WATCH {
            return;
        }
        let watch = self.watches.next();
        fetch.watch = watch;
        let local = std::mem::take(&mut fetch.local);
        for (_, log) in &local {
            let waiter = FetchWaiter::Here { key, watch };
            let waiters = &mut self.partitions[log.0 as usize].fetch_waiters;
            waiters.push(waiter, &mut self.fetches, &self.watches);
        }
        if let Some(fetch) = self.fetches.get_mut(key) {
            fetch.local = local;
        }
    }

    /// A fetch that has ended waits for nothing any more. Its entries on this core's lists are stale
    /// with its key.
    pub(super) fn unhang(key: Key, fetch: &mut PendingFetch, out: &mut Outbox<Message>) {
        for core in fetch.watching.drain(..) {
            let ticket = key.to_ticket();
            out.mail(core, Message::FetchUnwatch { ticket });
        }
    }

    /// Another core's fetch waits for something new in these partitions of this one.
    pub(super) fn watch_for(&mut self, core: CoreId, ticket: u64, parts: &[FetchPart]) {
        let watch = self.watches.next();
        self.watches.foreign.insert((core, ticket), watch);
        for part in parts {
            let entry = self.table.by_id(part.topic_id);
            let owner = entry.and_then(|entry| entry.owner(part.partition, self.cores));
            if let Some(Owner::Here(log)) = owner {
                let waiter = FetchWaiter::Core {
                    core,
                    ticket,
                    watch,
                };
                let waiters = &mut self.partitions[log.0 as usize].fetch_waiters;
                waiters.push(waiter, &mut self.fetches, &self.watches);
            }
        }
    }

    /// Another core no longer waits.
    pub(crate) fn fetch_unwatch(&mut self, core: CoreId, ticket: u64) {
        self.watches.foreign.remove(&(core, ticket));
    }

    /// A partition's high-water mark moved: whoever waits for it reads again at the end of the turn.
    pub(crate) fn wake_fetches(&mut self, log: LogId, out: &mut Outbox<Message>) {
        let waiters = &mut self.partitions[log.0 as usize].fetch_waiters;
        waiters.sweep_at = 0;
        for waiter in waiters.list.drain(..) {
            if !waiter.is_alive(&mut self.fetches, &self.watches) {
                continue;
            }
            match waiter {
                FetchWaiter::Here { key, .. } => {
                    if let Some(fetch) = self.fetches.get_mut(key) {
                        fetch.watch = NO_WATCH;
                    }
                    self.woken_fetches.push(key);
                }
                FetchWaiter::Core { core, ticket, .. } => {
                    self.watches.foreign.remove(&(core, ticket));
                    out.mail(core, Message::FetchWake { ticket });
                }
            }
        }
    }

    /// Reads again for every fetch that was woken in this turn.
    pub(crate) fn run_woken_fetches(&mut self, now: Now, out: &mut Outbox<Message>) {
        let mut woken = std::mem::take(&mut self.woken_fetches);
        for key in woken.drain(..) {
            self.wake_fetch(now, key, out);
        }
        self.woken_fetches = woken;
    }

    /// Something moved for this fetch.
    pub(crate) fn wake_fetch(&mut self, now: Now, key: Key, out: &mut Outbox<Message>) {
        let Some(fetch) = self.fetches.get_mut(key) else {
            return;
        };
        match fetch.state {
            FetchState::Reading => fetch.dirty = true,
            FetchState::Parked => self.fetch_round(now, key, out),
        }
    }
}

#[cfg(test)]
impl FetchWaiters {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }
}

#[cfg(test)]
impl Watches {
    pub(super) fn foreign_count(&self) -> usize {
        self.foreign.len()
    }
}
