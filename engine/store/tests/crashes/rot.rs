//! Crashes on disks that do not keep their promise: bytes that were acknowledged have rotted, or a
//! sector that was being written comes out as noise. What is lost then is what was damaged; it is a
//! hole where the marks know of it, nothing else is served in its place, and nothing is changed.

use std::collections::BTreeMap;

use highwater_base::Offset;
use highwater_base::disk::DiskOperation;
use highwater_base::record_batch::HEADER_BYTES;
use highwater_store::{LedgerImage, PartitionKey, ReadError, RecoveryReport};

use crate::life::Life;
use crate::support::TOPIC;
use crate::support::disk::fate::Fate;
use crate::support::disk::media::InodeId;
use crate::support::disk::{Keep, pages::BLOCK};

/// Where a batch lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    inode: InodeId,
    from: usize,
    to: usize,
    base: Offset,
    next: Offset,
    /// End of its segment; the last one has none.
    segment_end: Option<Offset>,
    /// Its header was hit: the log goes on at the next boundary that is known.
    is_headless: bool,
}

impl Life {
    /// Where the batches of a partition lie that its segments still hold.
    fn places(&mut self, at: usize) -> Vec<Place> {
        let partition = &self.partitions[at];
        let segments: Vec<_> = self.world.store.segments(partition.log).collect();
        let last = segments.last().map(|segment| segment.base_offset);
        let mut places = Vec::new();
        for segment in segments {
            let Some(inode) = self.world.disk.inode_of(segment.file) else {
                continue;
            };
            let mut from = BLOCK;
            let is_inside =
                |base: i64| segment.base_offset.0 <= base && base < segment.next_offset.0;
            let sent = partition.sent.iter().map(|sent| sent.header);
            for header in sent.filter(|header| is_inside(header.base_offset)) {
                let to = from + header.total_bytes();
                let is_last = last == Some(segment.base_offset);
                places.push(Place {
                    inode,
                    from,
                    to,
                    base: Offset(header.base_offset),
                    next: header.next_offset(),
                    segment_end: (!is_last).then_some(segment.next_offset),
                    is_headless: false,
                });
                from = to;
            }
        }
        places
    }

    fn durable_mark(&self, marks: &LedgerImage, at: usize) -> Offset {
        let key = PartitionKey {
            topic_id: TOPIC,
            partition: highwater_base::PartitionIndex(self.partitions[at].number),
        };
        marks.get(&key).map_or(Offset(0), |it| it.persisted_end)
    }

    /// A crash, and some bytes below the durable mark of one partition have rotted. False when
    /// there was nothing to rot.
    pub fn crash_with_rot(&mut self) -> bool {
        let at = self.prng.below(self.partitions.len() as u64) as usize;
        let all: Vec<Vec<Place>> = (0..self.partitions.len())
            .map(|at| self.places(at))
            .collect();
        let seed = self.prng.next_u64();
        let keep = [Keep::All, Keep::Nothing, Keep::Some(seed)][self.prng.below(3) as usize];
        self.world.crash_disk(keep, &mut self.prng);
        let marks = LedgerImage::read(&self.world.disk).expect("readable");
        let durable = self.durable_mark(&marks, at);
        let start = self.partitions[at].log_start_asked;
        // Only what recovery scans: whole segments below the mark are for readers to check.
        let is_scanned = |place: &&Place| place.segment_end.is_none_or(|end| end > durable);
        let candidates: Vec<Place> = all[at]
            .iter()
            .filter(|place| place.base >= start && place.next <= durable)
            .filter(is_scanned)
            .copied()
            .collect();
        if candidates.is_empty() {
            return false;
        }
        let hit = candidates[self.prng.below(candidates.len() as u64) as usize];
        let changed = self.rot(hit);
        self.world.disk.unprotect();
        for (at, places) in all.iter().enumerate() {
            let durable = self.durable_mark(&marks, at);
            let start = self.partitions[at].log_start_asked;
            for place in places
                .iter()
                .filter(|it| it.next <= durable && it.next > start)
            {
                let (inode, from, to) = (place.inode, place.from, place.to);
                self.world.disk.protect_inode(inode, from, to);
            }
        }
        let is_damaged = |it: &Place| {
            let inside = |at: &usize| (it.from..it.to).contains(at);
            it.inode == hit.inode && changed.iter().any(inside)
        };
        let mut damaged: Vec<Place> = all[at]
            .iter()
            .filter(|it| is_damaged(it))
            .copied()
            .collect();
        for place in &mut damaged {
            let header = place.from..place.from + HEADER_BYTES;
            place.is_headless = changed.iter().any(|at| header.contains(at));
        }
        let reports = self.recover_once();
        let context = format!("seed {} rot at {hit:?} D {durable}", self.seed);
        for (number, report) in reports.iter().enumerate() {
            let lost: &[Place] = if number == at { &damaged } else { &[] };
            let durable = self.durable_mark(&marks, number);
            self.check_damaged(number, report, durable, lost, &context);
        }
        true
    }

    /// Changes some bytes of a batch: which.
    fn rot(&mut self, hit: Place) -> Vec<usize> {
        let at = hit.from + self.prng.below((hit.to - hit.from) as u64) as usize;
        let (from, to) = match self.prng.below(3) {
            0 => (at, at + 1),
            _ => (at / 512 * 512, (at / 512 + 1) * 512),
        };
        let mut changed = Vec::new();
        let kind = self.prng.below(2);
        let noise = self.prng.next_u64();
        self.world
            .disk
            .damage_inode(hit.inode, at / BLOCK, |block| {
                let part = &mut block[from % BLOCK..from % BLOCK + (to - from)];
                let before = part.to_vec();
                match (part.len(), kind) {
                    (1, _) => part[0] ^= 1 << (noise % 8),
                    (_, 0) => part.fill(0),
                    _ => highwater_base::prng::Prng::new(noise).fill(part),
                }
                let differs = |at: &usize| part[*at] != before[*at];
                changed.extend((0..part.len()).filter(differs).map(|at| from + at));
            });
        changed
    }

    /// Everything that is not damaged and below the durable mark is served as it was sent, what is
    /// damaged is in a hole, and nothing that was not sent is served.
    fn check_damaged(
        &mut self,
        at: usize,
        report: &RecoveryReport,
        durable: Offset,
        damaged: &[Place],
        context: &str,
    ) {
        let context = format!("{context} partition {at} {report:?}");
        let log = self.partitions[at].log;
        let sent: BTreeMap<i64, u32> = self.partitions[at]
            .sent
            .iter()
            .map(|sent| (sent.header.base_offset, sent.header.crc))
            .collect();
        let (mut offset, mut served) = (report.log_start.0, Vec::new());
        while offset < report.end.0 {
            match self.world.read(log, offset, 30_000, true) {
                Ok((outcome, headers)) => {
                    assert!(
                        outcome.next_offset.0 > offset,
                        "{context}: stuck at {offset}"
                    );
                    served.extend(headers);
                    offset = outcome.next_offset.0;
                }
                Err(ReadError::Hole { to, .. }) => offset = to.0,
                Err(error) => panic!("{context}: {error}"),
            }
        }
        for header in &served {
            let same = sent.get(&header.base_offset) == Some(&header.crc);
            assert!(same, "{context}: served {header:?}");
        }
        let start = report.log_start.0;
        // Behind the mark it is a torn tail.
        for place in damaged
            .iter()
            .filter(|place| place.next <= durable && place.next.0 > start)
        {
            let covers = |hole: &highwater_store::Hole| {
                hole.from <= place.base.0.max(start) && place.next.0 <= hole.to
            };
            assert!(
                report.holes.iter().any(covers),
                "{context}: no hole at {place:?}"
            );
        }
        assert!(report.end >= durable, "{context}");
        let is_served = |base: i64| served.iter().any(|header| header.base_offset == base);
        let is_damaged = |base: i64| damaged.iter().any(|place| place.base.0 == base);
        let headless = damaged.iter().find(|place| place.is_headless);
        let exact_to = headless.map_or(durable, |place| place.base);
        for sent in &self.partitions[at].sent {
            let (base, next) = (sent.header.base_offset, sent.header.next_offset());
            let counts = base >= report.log_start.0 && next <= exact_to && !is_damaged(base);
            assert!(
                !counts || is_served(base),
                "{context}: {base} is not served"
            );
        }
    }

    /// Power loss, and what is under way comes out with a sector of noise. A block that is written
    /// again holds batches that were acknowledged: those alone may be lost.
    pub fn crash_with_shredded_sectors(&mut self) {
        let acknowledged = self.acknowledged();
        let mut kept = Vec::new();
        for (at, &acknowledged) in acknowledged.iter().enumerate() {
            let places = self.places(at);
            let writes: Vec<(InodeId, usize)> = self.under_way();
            // What lies in front of the first block that is being written again.
            let is_rewritten = |place: &Place| {
                writes
                    .iter()
                    .any(|(inode, offset)| *inode == place.inode && place.to > *offset)
            };
            let end = places
                .iter()
                .filter(|it| is_rewritten(it))
                .map(|it| it.base)
                .min();
            kept.push(end.unwrap_or(acknowledged).min(acknowledged));
        }
        let under_way = std::mem::take(&mut self.world.pending);
        let prng = &mut self.prng;
        self.world.disk.unprotect();
        self.world
            .disk
            .lose_power(&under_way, |at_risk| match at_risk.under_way {
                true if at_risk.path.ends_with(".log") => Fate::Shredded(prng.next_u64()),
                _ => Fate::random(prng, at_risk.sectors),
            });
        let reports = self.recover_once();
        for (at, report) in reports.iter().enumerate() {
            let context = format!("seed {} shredded, acked {:?}", self.seed, acknowledged[at]);
            self.check_damaged(at, report, kept[at], &[], &context);
        }
    }

    fn under_way(&mut self) -> Vec<(InodeId, usize)> {
        let mut writes = Vec::new();
        for at in 0..self.world.pending.len() {
            let request = &self.world.pending[at];
            if let DiskOperation::Write { file, offset, .. } = &request.operation {
                let (file, offset) = (*file, *offset as usize);
                let inode = self.world.disk.inode_of(file);
                writes.extend(inode.map(|inode| (inode, offset)));
            }
        }
        writes
    }

    fn recover_once(&mut self) -> Vec<RecoveryReport> {
        let image = self.world.try_start(self.config.clone());
        self.recover(&image.expect("the disk is well"))
            .expect("recovers")
    }
}
