//! Mail from threads that are no core: a short list per core behind a lock, which the core looks at
//! only when its doorbell says so. A core that is told nothing from outside never takes the lock.
//!
//! Whoever writes from outside gets no mail back: an answer's way is part of the message.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_base::CoreId;

use crate::mailbox::{CONTROL_OUTSIDE, Doorbell};

/// Messages from outside that wait for one core, at most.
pub const OUTSIDE_MESSAGES_MAX: usize = 256;

/// What waits for one core.
#[derive(Debug)]
pub(crate) struct OutsideMail<M>(Mutex<VecDeque<M>>);

impl<M> Default for OutsideMail<M> {
    fn default() -> OutsideMail<M> {
        OutsideMail(Mutex::new(VecDeque::new()))
    }
}

impl<M> OutsideMail<M> {
    fn list(&self) -> MutexGuard<'_, VecDeque<M>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest message.
    pub fn take(&self) -> Option<M> {
        self.list().pop_front()
    }
}

/// A message that was not taken on: too many wait already.
#[derive(Debug)]
pub struct OutsideFull<M>(pub M);

/// Writes to cores from any thread.
#[derive(Debug)]
pub struct OutsidePost<M> {
    cores: Vec<(Arc<OutsideMail<M>>, Arc<Doorbell>)>,
}

impl<M> Clone for OutsidePost<M> {
    fn clone(&self) -> OutsidePost<M> {
        OutsidePost {
            cores: self.cores.clone(),
        }
    }
}

impl<M> OutsidePost<M> {
    pub(crate) fn new(cores: Vec<(Arc<OutsideMail<M>>, Arc<Doorbell>)>) -> OutsidePost<M> {
        OutsidePost { cores }
    }

    /// Puts a message into a core's list and wakes the core; it comes out of
    /// [`crate::Service::on_outside`].
    ///
    /// # Errors
    /// The message, when [`OUTSIDE_MESSAGES_MAX`] wait or there is no such core.
    pub fn send(&self, to: CoreId, message: M) -> Result<(), OutsideFull<M>> {
        let Some((mail, doorbell)) = self.cores.get(usize::from(to.0)) else {
            return Err(OutsideFull(message));
        };
        let mut list = mail.list();
        if list.len() >= OUTSIDE_MESSAGES_MAX {
            return Err(OutsideFull(message));
        }
        list.push_back(message);
        drop(list);
        doorbell.set_control(CONTROL_OUTSIDE);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_list_gives_the_message_back() {
        let mail = Arc::new(OutsideMail::default());
        let doorbell = Arc::new(Doorbell::new().expect("an eventfd"));
        let post = OutsidePost::new(vec![(Arc::clone(&mail), Arc::clone(&doorbell))]);
        for number in 0..OUTSIDE_MESSAGES_MAX {
            assert!(post.send(CoreId(0), number).is_ok());
        }
        assert!(matches!(post.send(CoreId(0), 7), Err(OutsideFull(7))));
        assert!(matches!(post.send(CoreId(1), 8), Err(OutsideFull(8))));
        assert_ne!(doorbell.take_control() & CONTROL_OUTSIDE, 0);
        let taken: Vec<usize> = std::iter::from_fn(|| mail.take()).collect();
        assert_eq!(taken, (0..OUTSIDE_MESSAGES_MAX).collect::<Vec<_>>());
    }
}
