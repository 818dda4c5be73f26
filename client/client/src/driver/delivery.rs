//! The fate of single records, as futures: one waker a record, so that a delivery wakes only those
//! that it concerns. Whoever does not ask for a future pays for none.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::error::ClientError;
use crate::producer::Delivery;

/// Partition and offset of a record that was delivered. The offset is missing where the broker does
/// not tell it (acks=0, or the broker already had the batch).
pub type Delivered = Result<(i32, Option<i64>), ClientError>;

/// Resolves when the record is delivered or failed. Dropping it changes nothing for the record.
#[must_use = "a record is sent whether or not its delivery is awaited; use `send` to ignore it"]
pub struct DeliveryFuture {
    slot: Rc<RefCell<Slot>>,
}

#[derive(Default)]
struct Slot {
    outcome: Option<Delivered>,
    waker: Option<Waker>,
}

impl Future for DeliveryFuture {
    type Output = Delivered;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Delivered> {
        let mut slot = self.slot.borrow_mut();
        match slot.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Who waits for which record. Bounded like the producer's buffer: every entry is a record in it.
#[derive(Default)]
pub(super) struct Awaited {
    slots: BTreeMap<u64, Rc<RefCell<Slot>>>,
}

impl Awaited {
    pub fn wait_for(&mut self, token: u64) -> DeliveryFuture {
        let slot = Rc::default();
        self.slots.insert(token, Rc::clone(&slot));
        DeliveryFuture { slot }
    }

    /// Settles the records of a batch that are waited for.
    pub fn settle(&mut self, delivery: &Delivery) {
        if self.slots.is_empty() {
            return;
        }
        for (index, token) in delivery.tokens.iter().enumerate() {
            let Some(slot) = self.slots.remove(token) else {
                continue;
            };
            let mut slot = slot.borrow_mut();
            slot.outcome = Some(outcome_of(delivery, index));
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }
}

/// What became of the record at a position in its batch.
pub(crate) fn outcome_of(delivery: &Delivery, index: usize) -> Delivered {
    match &delivery.outcome {
        Ok(receipt) => {
            let offset = receipt.base_offset.map(|base| base + index as i64);
            Ok((delivery.partition, offset))
        }
        Err(error) => Err(error.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::producer::Receipt;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn delivery(tokens: &[u64], outcome: Result<Receipt, ClientError>) -> Delivery {
        Delivery {
            topic: Rc::from("t"),
            partition: 2,
            tokens: tokens.to_vec(),
            outcome,
        }
    }

    fn receipt(base_offset: i64) -> Result<Receipt, ClientError> {
        Ok(Receipt {
            base_offset: Some(base_offset),
            log_append_time: None,
        })
    }

    fn poll(future: &mut DeliveryFuture, wakes: &Arc<Wakes>) -> Poll<Delivered> {
        let waker = Waker::from(Arc::clone(wakes));
        Pin::new(future).poll(&mut Context::from_waker(&waker))
    }

    #[test]
    fn a_delivery_wakes_only_its_own_records() {
        let mut awaited = Awaited::default();
        let (mut first, mut second) = (awaited.wait_for(5), awaited.wait_for(6));
        let (first_wakes, second_wakes) = (Arc::default(), Arc::default());
        assert!(poll(&mut first, &first_wakes).is_pending());
        assert!(poll(&mut second, &second_wakes).is_pending());
        awaited.settle(&delivery(&[4, 5], receipt(100)));
        assert_eq!(first_wakes.0.load(Ordering::Relaxed), 1);
        assert_eq!(second_wakes.0.load(Ordering::Relaxed), 0);
        let done = Poll::Ready(Ok((2, Some(101))));
        assert_eq!(poll(&mut first, &first_wakes), done);
        let error = ClientError::DeliveryTimeout { timeout_ms: 1 };
        awaited.settle(&delivery(&[6], Err(error.clone())));
        assert_eq!(poll(&mut second, &second_wakes), Poll::Ready(Err(error)));
    }

    #[test]
    fn a_dropped_future_leaves_nothing_behind_once_its_record_is_settled() {
        let mut awaited = Awaited::default();
        drop(awaited.wait_for(1));
        awaited.settle(&delivery(&[1], receipt(0)));
        assert!(awaited.slots.is_empty());
    }
}
