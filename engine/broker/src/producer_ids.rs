//! A core's supply of producer ids: blocks from the controller, so that ids are unique for ever.

use std::collections::VecDeque;

use highwater_reactor::ConnectionId;

/// An InitProducerId request that waits for a block.
#[derive(Clone, Copy, Debug)]
pub struct ProducerIdWaiter {
    pub connection: ConnectionId,
    pub sequence: u64,
    pub version: i16,
    pub correlation_id: i32,
}

/// The ids at hand and who waits for more.
#[derive(Debug, Default)]
pub struct ProducerIds {
    next: i64,
    end: i64,
    refilling: bool,
    failed: bool,
    waiters: VecDeque<ProducerIdWaiter>,
}

/// What to do about the first waiter.
#[derive(Debug)]
pub enum Supply {
    /// Give it this id.
    Id(ProducerIdWaiter, i64),
    /// Tell it to try again.
    Failed(ProducerIdWaiter),
    /// Ask the controller for a block.
    Refill,
    /// Nothing.
    Idle,
}

impl ProducerIds {
    /// Queues a request.
    pub fn wait(&mut self, waiter: ProducerIdWaiter) {
        self.waiters.push_back(waiter);
    }

    /// A block has arrived.
    pub fn refill(&mut self, first: i64, count: i64) {
        (self.next, self.end, self.refilling) = (first, first + count, false);
    }

    /// No block could be had.
    pub fn refill_failed(&mut self) {
        (self.failed, self.refilling) = (true, false);
    }

    /// The next step; call until `Idle` or `Refill`.
    pub fn step(&mut self) -> Supply {
        if self.waiters.is_empty() {
            self.failed = false;
            return Supply::Idle;
        }
        if self.next < self.end {
            let Some(waiter) = self.waiters.pop_front() else {
                return Supply::Idle;
            };
            self.next += 1;
            return Supply::Id(waiter, self.next - 1);
        }
        if self.failed {
            let Some(waiter) = self.waiters.pop_front() else {
                return Supply::Idle;
            };
            return Supply::Failed(waiter);
        }
        if self.refilling {
            return Supply::Idle;
        }
        self.refilling = true;
        Supply::Refill
    }
}
