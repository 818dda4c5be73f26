//! "Something changed": tasks of one thread wait for it without losing a change in between.
//!
//! A runtime that ends drops its tasks, and what they drop tells others that something changed.
//! Nobody is left to be woken then, and monoio panics when somebody is: [`while_ending`] keeps
//! wakers still.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

thread_local! {
    static IS_ENDING: Cell<bool> = const { Cell::new(false) };
}

/// Drops what a runtime of this thread leaves behind, without waking its tasks.
#[cfg(feature = "monoio")]
pub(crate) fn while_ending(drop_what_is_left: impl FnOnce()) {
    let before = IS_ENDING.replace(true);
    drop_what_is_left();
    IS_ENDING.set(before);
}

/// Wakes a task, unless its runtime is ending.
pub(crate) fn wake(waker: Waker) {
    if !IS_ENDING.get() {
        waker.wake();
    }
}

/// Counts changes and wakes whoever waits for the next one.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    changes: Cell<u64>,
    waiting: RefCell<Waiting>,
}

/// Who waits, by the number each wait got; a wait that ends takes its waker away.
#[derive(Debug, Default)]
struct Waiting {
    wakers: BTreeMap<u64, Waker>,
    number_next: u64,
}

impl Signal {
    /// Take this before looking at the state, then wait with [`Signal::changed_since`].
    pub fn seen(&self) -> u64 {
        self.changes.get()
    }

    /// Something changed.
    pub fn notify(&self) {
        self.changes.set(self.changes.get().wrapping_add(1));
        let woken = std::mem::take(&mut self.waiting.borrow_mut().wakers);
        for waker in woken.into_values() {
            wake(waker);
        }
    }

    /// Done as soon as there was a change since `seen` was taken.
    pub fn changed_since(&self, seen: u64) -> Changed<'_> {
        Changed {
            signal: self,
            seen,
            number: None,
        }
    }
}

pub(crate) struct Changed<'a> {
    signal: &'a Signal,
    seen: u64,
    /// Of its waker, once it waits.
    number: Option<u64>,
}

impl Future for Changed<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.signal.changes.get() != self.seen {
            return Poll::Ready(());
        }
        let mut waiting = self.signal.waiting.borrow_mut();
        let number = self.number.unwrap_or(waiting.number_next);
        if self.number.is_none() {
            waiting.number_next += 1;
        }
        waiting.wakers.insert(number, context.waker().clone());
        drop(waiting);
        self.number = Some(number);
        Poll::Pending
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.signal.waiting.borrow_mut().wakers.remove(&number);
        }
    }
}

/// Waits for an operation; `None` when `ended` was done first.
pub(crate) async fn unless<T>(
    ended: impl Future<Output = ()>,
    operation: impl Future<Output = T>,
) -> Option<T> {
    let (mut ended, mut operation) = (pin!(ended), pin!(operation));
    poll_fn(|context| match ended.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => operation.as_mut().poll(context).map(Some),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_that_ended_leave_nothing_behind() {
        let signal = Signal::default();
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..100 {
            let mut changed = pin!(signal.changed_since(0));
            assert!(changed.as_mut().poll(&mut context).is_pending());
            assert!(changed.as_mut().poll(&mut context).is_pending());
            assert_eq!(signal.waiting.borrow().wakers.len(), 1);
        }
        assert!(signal.waiting.borrow().wakers.is_empty());
        let mut changed = pin!(signal.changed_since(0));
        assert!(changed.as_mut().poll(&mut context).is_pending());
        signal.notify();
        assert!(changed.as_mut().poll(&mut context).is_ready());
        assert!(signal.waiting.borrow().wakers.is_empty());
    }
}
