//! A partition as its clients know it: what they sent, in the order of the log, and what they send
//! again when nobody answered.

use highwater_base::prng::Prng;
use highwater_base::{BatchHeader, Offset};
use highwater_store::{AppendError, LogId};

use crate::support::{Batch, World};

/// Idempotent producers of a partition.
const PRODUCERS: u64 = 2;
/// Batches that a producer sends before it waits for an answer.
const IN_FLIGHT_MAX: usize = 5;

/// A batch in the log.
#[derive(Clone, Debug)]
pub struct Sent {
    pub batch: Batch,
    pub header: BatchHeader,
}

/// What is in the log, or will be when it is durable.
#[derive(Debug)]
pub struct Partition {
    pub number: i32,
    pub log: LogId,
    pub sent: Vec<Sent>,
    /// The log start that was confirmed, and the one that was asked for.
    pub log_start: Offset,
    pub log_start_asked: Offset,
}

fn of_producer(id: i64) -> impl Fn(&&Sent) -> bool {
    move |sent| sent.batch.producer.is_some_and(|producer| producer.0 == id)
}

impl Partition {
    pub fn new(number: i32, log: LogId) -> Partition {
        Partition {
            number,
            log,
            sent: Vec::new(),
            log_start: Offset::ZERO,
            log_start_asked: Offset::ZERO,
        }
    }

    /// The batch of `prng`'s choice that some client sends next, if none has to wait.
    fn next_batch(&self, prng: &mut Prng, acknowledged: Offset) -> Option<Batch> {
        let most = [300, 300, 3000, 20_000][prng.below(4) as usize];
        let mut batch = Batch::of(1 + prng.below(3) as i32, prng.below(most) as usize);
        batch.seed = prng.next_u64();
        let end = self
            .sent
            .last()
            .map_or(0, |last| last.header.next_offset().0);
        for _ in 0..prng.below(4) {
            let bases = [end + 1, end - 1, end + 2, 1_000_000_000_000, 0];
            batch.planted.push(bases[prng.below(5) as usize].max(0));
        }
        let id = prng.below(PRODUCERS + 1) as i64;
        if id == 0 {
            return Some(batch);
        }
        let unanswered = self.sent.iter().filter(of_producer(id));
        let unanswered = unanswered.filter(|sent| sent.header.next_offset() > acknowledged);
        let is_free = unanswered.count() < IN_FLIGHT_MAX;
        is_free.then(|| batch.by_producer(id, 0, self.next_sequence(id)))
    }

    fn next_sequence(&self, id: i64) -> i32 {
        let last = self.sent.iter().rfind(of_producer(id));
        last.map_or(0, |last| last.header.base_sequence + last.batch.records)
    }

    /// A client appends.
    pub fn append(&mut self, world: &mut World, prng: &mut Prng) {
        let acknowledged = world.store.high_watermark(self.log);
        if let Some(batch) = self.next_batch(prng, acknowledged) {
            self.send(world, batch);
        }
    }

    /// False when the log has no room now.
    fn send(&mut self, world: &mut World, batch: Batch) -> bool {
        let mut header = BatchHeader::parse(&batch.bytes()).expect("valid");
        match world.append(self.log, &batch) {
            Ok(done) => {
                assert!(!done.duplicate, "{batch:?} was never appended");
                header.base_offset = done.base_offset.0;
                self.sent.push(Sent { batch, header });
                true
            }
            Err(error) => {
                let full = matches!(error, AppendError::Busy | AppendError::DiskFull);
                assert!(full, "{error}: {batch:?}");
                false
            }
        }
    }

    /// The log gave up what was appended from `from` on.
    pub fn take_back(&mut self, from: Offset) {
        self.sent.retain(|sent| sent.header.base_offset < from.0);
    }

    /// Holds what was read of the recovered log, from `start` to `end`, against what was sent; what
    /// is missing, none of which was acknowledged, is returned.
    pub fn compare(
        &mut self,
        found: &[BatchHeader],
        start: Offset,
        end: Offset,
        context: &str,
    ) -> Vec<Sent> {
        let lost = self
            .sent
            .partition_point(|sent| sent.header.base_offset < end.0);
        let lost = self.sent.split_off(lost);
        let before = self
            .sent
            .partition_point(|it| it.header.next_offset() <= start);
        let there = &self.sent[before..];
        for (found, sent) in found.iter().zip(there) {
            let same = (found.base_offset, found.crc) == (sent.header.base_offset, sent.header.crc);
            assert!(same, "{context}: {found:?} is not {:?}", sent.header);
        }
        assert_eq!(found.len(), there.len(), "{context}");
        let found_end = found.last().map_or(start, |last| last.next_offset());
        assert_eq!(found_end, end, "{context}");
        lost
    }

    /// Producers send again what they were not answered before the crash: what is in the log is a
    /// duplicate with its offset, what was lost goes in.
    pub fn send_again(&mut self, world: &mut World, acknowledged: Offset, lost: Vec<Sent>) {
        for id in 1..=PRODUCERS as i64 {
            let there = self.sent.iter().filter(of_producer(id));
            let unanswered = there.filter(|sent| sent.header.next_offset() > acknowledged);
            for sent in unanswered.collect::<Vec<_>>() {
                let again = world.append(self.log, &sent.batch).expect("known");
                assert!(again.duplicate, "{sent:?} is there twice");
                assert_eq!(again.base_offset.0, sent.header.base_offset);
            }
        }
        for sent in lost {
            // A producer would wait and send what follows later: it sends something else then.
            if sent.batch.producer.is_some() && !self.send(world, sent.batch) {
                return;
            }
        }
    }
}
