//! Whose turn it is to send from a file: a few connections of a core at once, the others in line.
//!
//! A turn is one chunk, from asking the disk for its pages to handing them to the socket; a
//! connection whose socket is full gives its turn back. So however many consumers read what is not
//! in memory, the reads in the device's queue and the time the core spends before it looks at
//! anything else stay the same, and an append waits behind a few chunks at most.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::counters::{self, Count};
use crate::signal::Signal;

/// The turns of one core.
#[derive(Debug)]
pub(crate) struct FileTurns {
    turns_max: usize,
    taken: Cell<usize>,
    /// Those in line, the next one first.
    line: RefCell<VecDeque<Rc<Signal>>>,
}

/// A turn; dropping it passes it on.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a FileTurns,
}

impl FileTurns {
    pub fn new(turns_max: usize) -> FileTurns {
        FileTurns {
            turns_max: turns_max.max(1),
            taken: Cell::new(0),
            line: RefCell::new(VecDeque::new()),
        }
    }

    /// Waits for a turn. `own` is woken when it has come and is used for nothing else.
    pub async fn take(&self, own: &Rc<Signal>) -> Turn<'_> {
        if self.taken.get() < self.turns_max {
            self.taken.set(self.taken.get() + 1);
        } else {
            counters::add(Count::FileSendWaits);
            self.line.borrow_mut().push_back(Rc::clone(own));
            own.wait().await;
        }
        Turn { turns: self }
    }

    /// How many send or want to.
    pub fn wanted(&self) -> usize {
        self.taken.get() + self.line.borrow().len()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        match self.turns.line.borrow_mut().pop_front() {
            // The turn is handed over, so that nobody can come in between.
            Some(next) => next.set(),
            None => self.turns.taken.set(self.turns.taken.get() - 1),
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
    fn turns_are_bounded_and_go_round_in_order() {
        let turns = FileTurns::new(1);
        let mut context = Context::from_waker(Waker::noop());
        let signals: Vec<Rc<Signal>> = (0..3).map(|_| Rc::default()).collect();
        let mut first = pin!(turns.take(&signals[0]));
        let mut second = pin!(turns.take(&signals[1]));
        let mut third = pin!(turns.take(&signals[2]));
        let Poll::Ready(held) = first.as_mut().poll(&mut context) else {
            panic!("nobody has the turn");
        };
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(third.as_mut().poll(&mut context).is_pending());
        assert_eq!(turns.wanted(), 3);
        drop(held);
        assert!(third.as_mut().poll(&mut context).is_pending());
        let Poll::Ready(held) = second.as_mut().poll(&mut context) else {
            panic!("it was next in line");
        };
        drop(held);
        assert!(third.as_mut().poll(&mut context).is_ready());
        assert_eq!(turns.wanted(), 0);
    }
}
