//! The memory of large frames that are being received: bounded over all connections of a core.
//!
//! A frame's room is taken as a whole before it is read, so that nobody holds half of one and waits
//! for the rest. Whoever finds too little stays unread, first come, first served. A connection
//! keeps a large buffer for its next large frame only while few are kept.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::counters::{self, Count};
use crate::signal::Signal;

/// Buffers are kept for a next frame while no more than the bound divided by this is taken. What is
/// left is more than any frame needs.
const KEPT_SHARES: usize = 4;

/// What one core lends to its connections.
#[derive(Debug)]
pub(crate) struct ReceiveBudget {
    bytes_max: usize,
    taken: Cell<usize>,
    line: RefCell<VecDeque<Rc<Signal>>>,
}

impl ReceiveBudget {
    pub fn new(bytes_max: usize) -> ReceiveBudget {
        ReceiveBudget {
            bytes_max,
            taken: Cell::new(0),
            line: RefCell::new(VecDeque::new()),
        }
    }

    /// Waits until there is room and takes it. More than everything is given to one alone.
    pub async fn take(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        if self.line.borrow().is_empty() && self.has_room(bytes) {
            self.taken.set(self.taken.get() + bytes);
            return;
        }
        counters::add(Count::ReceiveWaits);
        let own = Rc::new(Signal::default());
        self.line.borrow_mut().push_back(Rc::clone(&own));
        loop {
            own.wait().await;
            // Only the first in line is woken.
            if self.has_room(bytes) {
                break;
            }
        }
        self.line.borrow_mut().pop_front();
        self.taken.set(self.taken.get() + bytes);
        self.wake_first();
    }

    /// Gives room back.
    pub fn give(&self, bytes: usize) {
        if bytes > 0 {
            self.taken.set(self.taken.get() - bytes);
            self.wake_first();
        }
    }

    /// What is lent now.
    pub fn taken(&self) -> usize {
        self.taken.get()
    }

    /// Whether a buffer that is not needed now has to be given back.
    pub fn is_scarce(&self) -> bool {
        self.taken.get() > self.bytes_max / KEPT_SHARES
    }

    fn has_room(&self, bytes: usize) -> bool {
        let taken = self.taken.get();
        taken == 0 || taken.saturating_add(bytes) <= self.bytes_max
    }

    fn wake_first(&self) {
        if let Some(first) = self.line.borrow().front() {
            first.set();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn frames_beyond_the_bound_wait_in_order() {
        let budget = ReceiveBudget::new(100);
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(budget.take(60)).poll(&mut context).is_ready());
        assert!(budget.is_scarce());
        let mut large = pin!(budget.take(80));
        let mut small = pin!(budget.take(10));
        assert!(large.as_mut().poll(&mut context).is_pending());
        // It would fit, but the large one must not wait for ever behind small ones.
        assert!(small.as_mut().poll(&mut context).is_pending());
        budget.give(60);
        assert!(small.as_mut().poll(&mut context).is_pending());
        assert!(large.as_mut().poll(&mut context).is_ready());
        assert!(small.as_mut().poll(&mut context).is_ready());
        budget.give(90);
        assert!(!budget.is_scarce());
        assert!(pin!(budget.take(200)).poll(&mut context).is_ready());
    }
}
