//! The durable writes and flushes a core has in flight, and who makes way for them.
//!
//! A cold read that is in the device's queue is in front of every write that follows. So while a core
//! writes, its reads for consumers go to the device one at a time, each asked for in the gap after a
//! write or a read, reach no further ahead than what is sent next, and take no more than their share
//! of the time ([`ReadShare`]). Reads do not starve: where writes follow each other without a gap,
//! the end of one lets one read through.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use crate::clock::now;
use crate::read_share::ReadShare;
use crate::signal::Signal;

/// A core that ended a write so recently is one that writes.
const RECENT_NS: u64 = 50_000_000;
/// Without a write for so long, the next one is not expected soon: reads need not wait for its end.
const QUIET_NS: u64 = 2_000_000;

/// The durable writes of one core.
#[derive(Debug)]
pub(crate) struct DurableWrites {
    in_flight: Cell<usize>,
    /// When the last one ended; 0 before the first.
    ended_ns: Cell<u64>,
    read_share: Cell<ReadShare>,
    /// A read has the place and is not over, be it under way or waiting for its moment.
    reading: Cell<bool>,
    /// Has the place and waits for a write to end.
    next: RefCell<Option<Rc<Signal>>>,
    /// Reads in line for the place, the first one first.
    waiting: RefCell<VecDeque<Rc<Signal>>>,
}

/// A read's place; dropping it ends the read.
#[derive(Debug)]
pub(crate) struct Gap<'a> {
    writes: &'a DurableWrites,
    started_ns: u64,
}

impl DurableWrites {
    /// Reads beside the writes take `read_share_percent` of the time.
    pub fn new(read_share_percent: usize) -> DurableWrites {
        DurableWrites {
            in_flight: Cell::new(0),
            ended_ns: Cell::new(0),
            read_share: Cell::new(ReadShare::new(read_share_percent as u64)),
            reading: Cell::new(false),
            next: RefCell::new(None),
            waiting: RefCell::new(VecDeque::new()),
        }
    }

    pub fn started(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    pub fn ended(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
        self.ended_ns.set(now().monotonic_ns);
        if let Some(next) = self.next.borrow_mut().take() {
            next.set();
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
        if self.reading.replace(true) {
            self.waiting.borrow_mut().push_back(Rc::clone(own));
            own.wait().await;
        }
        self.moment(own).await;
        Some(Gap {
            writes: self,
            started_ns: now().monotonic_ns,
        })
    }

    /// Waits until the read that has the place may start: just after a write, or when there was none
    /// for a while, and in both cases when the share allows it.
    async fn moment(&self, own: &Rc<Signal>) {
        let share = self.read_share.get();
        loop {
            let now_ns = now().monotonic_ns;
            let mut pause_ns = share.pause_ns(now_ns);
            if !share.is_whole() {
                let until_quiet_ns = (self.ended_ns.get() + QUIET_NS).saturating_sub(now_ns);
                pause_ns = pause_ns.max(until_quiet_ns);
            }
            if pause_ns == 0 && !self.any() {
                return;
            }
            *self.next.borrow_mut() = Some(Rc::clone(own));
            let a_write_ended = match self.any() {
                true => {
                    own.wait().await;
                    true
                }
                false => {
                    let pause = Duration::from_nanos(pause_ns);
                    monoio::time::timeout(pause, own.wait()).await.is_ok()
                }
            };
            self.next.borrow_mut().take();
            if a_write_ended && share.pause_ns(now().monotonic_ns) == 0 {
                return;
            }
        }
    }
}

impl Drop for Gap<'_> {
    fn drop(&mut self) {
        let writes = self.writes;
        let mut share = writes.read_share.get();
        share.used(self.started_ns, now().monotonic_ns);
        writes.read_share.set(share);
        match writes.waiting.borrow_mut().pop_front() {
            // The place is passed on, so that nobody can come in between.
            Some(next) => next.set(),
            None => writes.reading.set(false),
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
        let writes = DurableWrites::new(100);
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
    fn a_read_waits_for_the_end_of_a_write_and_not_for_one_that_never_comes() {
        let mut runtime = monoio::RuntimeBuilder::<monoio::FusionDriver>::new()
            .enable_timer()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let writes = DurableWrites::new(25);
            let own = Rc::new(Signal::default());
            writes.started();
            writes.ended();
            let mut first = Box::pin(writes.gap(&own));
            let mut context = Context::from_waker(Waker::noop());
            assert!(first.as_mut().poll(&mut context).is_pending());
            writes.started();
            assert!(first.as_mut().poll(&mut context).is_pending());
            writes.ended();
            let Poll::Ready(Some(reading)) = first.as_mut().poll(&mut context) else {
                panic!("just after a write is the moment");
            };
            drop(reading);
            // No further write comes.
            drop(writes.gap(&own).await);
            assert!(!writes.reading.get() && writes.next.borrow().is_none());
        });
    }

    #[test]
    fn on_a_core_that_does_not_write_reads_wait_for_nothing() {
        let writes = DurableWrites::new(100);
        let own = Rc::new(Signal::default());
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            let gap = pin!(writes.gap(&own)).poll(&mut context);
            assert!(matches!(gap, Poll::Ready(None)));
        }
    }
}
