//! "Something changed": tasks of one thread wait for it without losing a change in between.
//!
//! A runtime that ends drops its tasks, and what they drop tells others that something changed.
//! Nobody is left to be woken then, and monoio panics when somebody is: [`while_ending`] keeps
//! wakers still.

use std::cell::{Cell, RefCell};
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
    wakers: RefCell<Vec<Waker>>,
}

impl Signal {
    /// Take this before looking at the state, then wait with [`Signal::changed_since`].
    pub fn seen(&self) -> u64 {
        self.changes.get()
    }

    /// Something changed.
    pub fn notify(&self) {
        self.changes.set(self.changes.get().wrapping_add(1));
        for waker in self.wakers.borrow_mut().drain(..) {
            wake(waker);
        }
    }

    /// Done as soon as there was a change since `seen` was taken.
    pub fn changed_since(&self, seen: u64) -> Changed<'_> {
        Changed { signal: self, seen }
    }
}

pub(crate) struct Changed<'a> {
    signal: &'a Signal,
    seen: u64,
}

impl Future for Changed<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.signal.changes.get() != self.seen {
            return Poll::Ready(());
        }
        let mut wakers = self.signal.wakers.borrow_mut();
        // A task that is polled again without a change is already listed.
        if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            wakers.push(context.waker().clone());
        }
        Poll::Pending
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
