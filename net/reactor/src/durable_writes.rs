//! The durable writes and flushes a core has in flight, and who makes way for them.
//!
//! A cold read that is in the device's queue is in front of every write that follows. So a read for
//! a consumer is asked for in the gap after a write, and while a core writes it reads no further
//! ahead than it sends. Reads do not starve: where writes follow each other without a gap, each end
//! of one lets those through that waited for it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::clock::now;
use crate::signal::Signal;

/// A core that ended a write so recently is one that writes.
const RECENT_NS: u64 = 50_000_000;

/// The durable writes of one core.
#[derive(Debug, Default)]
pub(crate) struct DurableWrites {
    in_flight: Cell<usize>,
    /// When the last one ended; 0 before the first.
    ended_ns: Cell<u64>,
    waiting: RefCell<Vec<Rc<Signal>>>,
}

impl DurableWrites {
    pub fn started(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    pub fn ended(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
        self.ended_ns.set(now().monotonic_ns);
        for waiting in self.waiting.borrow_mut().drain(..) {
            waiting.set();
        }
    }

    /// How many are in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// Whether any is in flight.
    pub fn any(&self) -> bool {
        self.in_flight.get() > 0
    }

    /// Whether one is in flight or has just been.
    pub fn are_recent(&self) -> bool {
        let ended_ns = self.ended_ns.get();
        self.any() || (ended_ns > 0 && now().monotonic_ns < ended_ns + RECENT_NS)
    }

    /// Waits until the next one ends, if one is in flight. `own` is used for nothing else meanwhile.
    pub async fn gap(&self, own: &Rc<Signal>) {
        if self.any() {
            self.waiting.borrow_mut().push(Rc::clone(own));
            own.wait().await;
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
    fn a_read_waits_for_the_end_of_one_write_and_not_of_all() {
        let writes = DurableWrites::default();
        let own = Rc::new(Signal::default());
        let mut context = Context::from_waker(Waker::noop());
        assert!(!writes.are_recent());
        assert!(pin!(writes.gap(&own)).poll(&mut context).is_ready());
        writes.started();
        writes.started();
        let mut gap = pin!(writes.gap(&own));
        assert!(gap.as_mut().poll(&mut context).is_pending());
        writes.ended();
        assert!(writes.any() && gap.as_mut().poll(&mut context).is_ready());
        writes.ended();
        assert!(!writes.any() && writes.are_recent());
    }
}
