//! Parking for no time at all.
//!
//! The runtime looks at its timers only when it parks, and it parks only when no task is ready. A
//! task that keeps a core busy by yielding awaits this now and then: a read that completes at once,
//! so that the core goes into the kernel and comes straight back.

use std::io;

use monoio::fs::File;

use crate::mailbox::Doorbell;

/// The resolution of the runtime's timers.
const INTERVAL_NS: u64 = 1_000_000;

/// One task's way to park.
pub(crate) struct Parking {
    bell: Doorbell,
    reader: File,
    counter: Vec<u8>,
    due_at_ns: u64,
}

impl Parking {
    pub fn new() -> io::Result<Parking> {
        let bell = Doorbell::new()?;
        let reader = File::from_std(bell.reader()?.into())?;
        Ok(Parking {
            bell,
            reader,
            counter: vec![0; 8],
            due_at_ns: 0,
        })
    }

    /// Parks if that is due.
    pub async fn pass_by(&mut self, now_ns: u64) {
        if now_ns < self.due_at_ns {
            return;
        }
        self.due_at_ns = now_ns + INTERVAL_NS;
        self.bell.count_one();
        let counter = std::mem::take(&mut self.counter);
        let (_, counter) = self.reader.read_at(counter, 0).await;
        self.counter = counter;
    }
}
