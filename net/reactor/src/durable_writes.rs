//! The durable writes and flushes a core has in flight, and who makes way for them.
//!
//! A cold read that is in the device's queue is in front of every write that follows. So while a core
//! writes, its reads for consumers go to the device one at a time, each asked for in the gap after a
//! write or a read, and reach no further ahead than what is sent next. Reads do not starve: where
//! writes follow each other without a gap, each end of one lets one read through.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
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
    /// A read was let through and is not over.
    reading: Cell<bool>,
    /// Reads in line, the next one first. None waits while neither a write nor a read is under way.
    waiting: RefCell<VecDeque<Rc<Signal>>>,
}

/// A read's place in the gap; dropping it ends the read.
#[derive(Debug)]
pub(crate) struct Gap<'a> {
    writes: &'a DurableWrites,
}

impl DurableWrites {
    pub fn started(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    pub fn ended(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
        self.ended_ns.set(now().monotonic_ns);
        if !self.reading.get() {
            self.let_one_through();
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

    /// Waits for a read's turn; `None` at once on a core that does not write, where reads need no
    /// order. `own` is used for nothing else meanwhile.
    pub async fn gap(&self, own: &Rc<Signal>) -> Option<Gap<'_>> {
        if !self.are_recent() {
            return None;
        }
        if self.any() || self.reading.get() {
            self.waiting.borrow_mut().push_back(Rc::clone(own));
            own.wait().await;
        } else {
            self.reading.set(true);
        }
        Some(Gap { writes: self })
    }

    /// The place is taken on behalf of the one that is woken, so that nobody can come in between.
    fn let_one_through(&self) {
        let next = self.waiting.borrow_mut().pop_front();
        self.reading.set(next.is_some());
        if let Some(next) = next {
            next.set();
        }
    }
}

impl Drop for Gap<'_> {
    fn drop(&mut self) {
        self.writes.reading.set(false);
        // A write that is in flight lets the next one through when it ends.
        if !self.writes.any() {
            self.writes.let_one_through();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn reads_go_one_at_a_time_between_writes() {
        let writes = DurableWrites::default();
        let signals: Vec<Rc<Signal>> = (0..3).map(|_| Rc::default()).collect();
        let mut context = Context::from_waker(Waker::noop());
        writes.started();
        let mut first = pin!(writes.gap(&signals[0]));
        let mut second = pin!(writes.gap(&signals[1]));
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        writes.ended();
        let Poll::Ready(Some(reading)) = first.as_mut().poll(&mut context) else {
            panic!("the end of a write lets a read through");
        };
        assert!(second.as_mut().poll(&mut context).is_pending());
        writes.started();
        drop(reading);
        assert!(second.as_mut().poll(&mut context).is_pending());
        writes.ended();
        let Poll::Ready(Some(reading)) = second.as_mut().poll(&mut context) else {
            panic!("the end of a write lets the next read through");
        };
        let mut third = pin!(writes.gap(&signals[2]));
        assert!(third.as_mut().poll(&mut context).is_pending());
        drop(reading);
        let Poll::Ready(Some(reading)) = third.as_mut().poll(&mut context) else {
            panic!("the end of a read lets the next one through");
        };
        drop(reading);
        assert!(!writes.any() && !writes.reading.get() && writes.are_recent());
    }

    #[test]
    fn on_a_core_that_does_not_write_reads_wait_for_nothing() {
        let writes = DurableWrites::default();
        let own = Rc::new(Signal::default());
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            let gap = pin!(writes.gap(&own)).poll(&mut context);
            assert!(matches!(gap, Poll::Ready(None)));
        }
    }
}
