//! Wake-ups within one core: a flag with one waiter, and a yield.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// A flag that one task waits for. Setting it before the wait is not lost.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    set: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Signal {
    /// Raises the flag.
    pub fn set(&self) {
        if !self.set.replace(true)
            && let Some(waiter) = self.waiter.borrow_mut().take()
        {
            waiter.wake();
        }
    }

    /// Lowers the flag without waiting.
    pub fn clear(&self) {
        self.set.set(false);
    }

    /// Waits for the flag and lowers it.
    pub async fn wait(&self) {
        poll_fn(|context| self.poll(context)).await;
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.set.replace(false) {
            return Poll::Ready(());
        }
        let mut waiter = self.waiter.borrow_mut();
        if !waiter
            .as_ref()
            .is_some_and(|known| known.will_wake(context.waker()))
        {
            *waiter = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

thread_local! {
    static YIELDED: Yielded = Yielded::default();
}

/// Tasks of this thread that let others run first.
#[derive(Default)]
struct Yielded {
    tasks: RefCell<Vec<Waker>>,
    any: Signal,
}

/// Lets every other ready task of the core run first; needs [`wake_yielded`] on the same thread.
///
/// A task that wakes itself would be put at the front of monoio's queue, before all others.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        YIELDED.with(|list| {
            list.tasks.borrow_mut().push(context.waker().clone());
            list.any.set();
        });
        Poll::Pending
    })
    .await;
}

/// The task that wakes those that yielded: woken by them, it comes behind everything ready then.
pub(crate) async fn wake_yielded() {
    let mut tasks = Vec::new();
    loop {
        poll_fn(|context| YIELDED.with(|list| list.any.poll(context))).await;
        YIELDED.with(|list| std::mem::swap(&mut tasks, &mut *list.tasks.borrow_mut()));
        tasks.drain(..).for_each(Waker::wake);
    }
}
