//! The append of a checked batch: producer check, room, one copy, offsets, index.

use highwater_base::disk::DiskRequest;
use highwater_base::{BatchHeader, Now, Offset};
use highwater_store::{Appended, LogConfig, LogId, Store, StoreEvent};

use crate::disk::acknowledge;
use crate::inputs::{Batches, START, STEP_NS};
use crate::node::{FILL_RECORDS, FILL_STEPS, log_spec, store};
use crate::{Meter, Piece};

/// Appends into one log. Between two steps what was appended becomes durable, so that the window
/// of memory never fills for want of a disk; the writes are neither timed nor counted.
pub struct Append {
    store: Store,
    log: LogId,
    now: Now,
    batches: Batches,
    next: Option<(BatchHeader, Vec<u8>)>,
    appended: Option<Appended>,
    end: Offset,
    records: u32,
}

impl Append {
    /// Of batches of so many records of 1 KiB.
    #[must_use]
    pub fn new(records: u32) -> Append {
        let mut store = store();
        let log = store.create(log_spec(LogConfig::default()), START);
        let mut append = Append {
            store,
            log,
            now: START,
            batches: Batches::default(),
            next: None,
            appended: None,
            end: Offset::ZERO,
            records: FILL_RECORDS,
        };
        for _ in 0..FILL_STEPS {
            append.prepare();
            append.step(Meter::Idle);
        }
        append.records = records;
        append
    }

    fn make_durable(&mut self) {
        let (mut requests, mut events) = (Vec::<DiskRequest>::new(), Vec::<StoreEvent>::new());
        self.store.end_turn(self.now, &mut requests);
        while !requests.is_empty() {
            for request in std::mem::take(&mut requests) {
                if let Some(completion) = acknowledge(&request) {
                    self.store
                        .complete(self.now, completion, &mut requests, &mut events);
                }
            }
            self.store.end_turn(self.now, &mut requests);
        }
    }
}

impl Piece for Append {
    fn prepare(&mut self) {
        self.make_durable();
        self.now.monotonic_ns += STEP_NS;
        let batch = self.batches.next_of(self.records);
        let header = BatchHeader::parse(&batch).expect("a batch just built is valid");
        self.next = Some((header, batch));
    }

    fn step(&mut self, meter: Meter) {
        let Some((header, batch)) = &self.next else {
            return;
        };
        let (store, log, now) = (&mut self.store, self.log, self.now);
        self.appended = meter
            .run(|| store.append(log, now, header, batch, None))
            .ok();
        self.end = self.end.plus(i64::from(self.records));
    }

    fn verify(&self) -> Result<(), String> {
        match self.appended {
            Some(appended) if appended.next_offset == self.end && !appended.duplicate => Ok(()),
            other => Err(format!(
                "appended {other:?}, the end should be {}",
                self.end
            )),
        }
    }
}
