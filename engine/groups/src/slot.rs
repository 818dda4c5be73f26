//! One key of the log: what is durable, and what was appended behind it and may still be lost.
//!
//! Readers see the durable value; a snapshot writes the latest appended one, because it lands in the
//! log behind everything that was appended before it.

use crate::coordinator::WriteId;

/// The values of one key. `None` is a tombstone, or a key never written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot<T> {
    durable: Option<T>,
    /// Appended and not yet durable, in the order of the log.
    pending: Vec<(WriteId, Option<T>)>,
}

impl<T> Default for Slot<T> {
    fn default() -> Slot<T> {
        Slot {
            durable: None,
            pending: Vec::new(),
        }
    }
}

impl<T> Slot<T> {
    /// A key as the log holds it.
    pub(crate) fn loaded(value: Option<T>) -> Slot<T> {
        Slot {
            durable: value,
            pending: Vec::new(),
        }
    }

    /// The value readers may see.
    pub(crate) fn durable(&self) -> Option<&T> {
        self.durable.as_ref()
    }

    /// The value at the end of the log.
    pub(crate) fn latest(&self) -> Option<&T> {
        match self.pending.last() {
            Some((_, value)) => value.as_ref(),
            None => self.durable.as_ref(),
        }
    }

    /// Notes a value that `write` appends.
    pub(crate) fn append(&mut self, write: WriteId, value: Option<T>) {
        self.pending.push((write, value));
    }

    /// `write` is durable: one of its values becomes visible.
    pub(crate) fn settle(&mut self, write: WriteId) {
        if self
            .pending
            .first()
            .is_some_and(|(first, _)| *first == write)
        {
            self.durable = self.pending.remove(0).1;
        }
    }

    /// `write` and all later ones were given up.
    pub(crate) fn give_up(&mut self, write: WriteId) {
        self.pending.retain(|(pending, _)| *pending < write);
    }

    /// Nothing in the log and nothing on its way there.
    pub(crate) fn is_vacant(&self) -> bool {
        self.durable.is_none() && self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_what_is_durable_and_snapshots_what_is_latest() {
        let mut slot = Slot::default();
        slot.append(WriteId(1), Some("a"));
        slot.append(WriteId(2), Some("b"));
        slot.append(WriteId(3), None);
        assert_eq!((slot.durable(), slot.latest()), (None, None));
        slot.settle(WriteId(1));
        assert_eq!(slot.durable(), Some(&"a"));
        slot.give_up(WriteId(3));
        assert_eq!(slot.latest(), Some(&"b"));
        slot.give_up(WriteId(2));
        assert_eq!(slot.latest(), Some(&"a"));
        assert!(!slot.is_vacant());
    }

    #[test]
    fn one_write_may_hold_a_key_twice() {
        let mut slot = Slot::default();
        slot.append(WriteId(1), Some(1));
        slot.append(WriteId(1), Some(2));
        slot.settle(WriteId(1));
        slot.settle(WriteId(1));
        assert_eq!(slot.durable(), Some(&2));
        assert_eq!(slot, Slot::loaded(Some(2)));
    }
}
