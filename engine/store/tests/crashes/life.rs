//! The life of a process over a disk: appends, turns, reads; its crash; the recovery by the next one,
//! which may lose power itself.

use std::collections::BTreeMap;

use highwater_base::Offset;
use highwater_base::prng::Prng;
use highwater_store::{Barrier, LedgerImage, LogConfig, RecoveryReport, StoreConfig, StoreEvent};

use crate::partition::Partition;
use crate::support::disk::fate::Fate;
use crate::support::disk::{Device, Keep};
use crate::support::{World, spec, test_config};

/// Operations of recovery among which power is lost.
const STEPS_MAX: u64 = 40;

pub struct Life {
    pub seed: u64,
    pub prng: Prng,
    pub world: World,
    pub config: StoreConfig,
    pub log_config: LogConfig,
    pub partitions: Vec<Partition>,
}

fn config_of(prng: &mut Prng) -> (StoreConfig, Device) {
    let (barrier, device) = [
        (Barrier::DeviceFlush, Device::Cached),
        (Barrier::DeviceFlush, Device::Cached),
        (Barrier::PerWrite, Device::ForcedUnitAccess),
        (Barrier::WriteThrough, Device::WriteThrough),
    ][prng.below(4) as usize];
    let config = StoreConfig {
        barrier,
        tail_cache_bytes: [512 << 10, 1 << 20][prng.below(2) as usize],
        ..test_config()
    };
    (config, device)
}

impl Life {
    pub fn new(seed: u64) -> Life {
        let mut prng = Prng::new(seed);
        let (config, device) = config_of(&mut prng);
        let log_config = LogConfig {
            segment_bytes: 48 << 10,
            ..LogConfig::default()
        };
        let mut world = World::new(config.clone());
        world.disk.media.device = device;
        let count = 1 + prng.below(5) as i32;
        let partitions = (0..count)
            .map(|number| {
                let spec = spec(number, 0, log_config.clone());
                Partition::new(number, world.store.create(spec, world.now))
            })
            .collect();
        Life {
            seed,
            prng,
            world,
            config,
            log_config,
            partitions,
        }
    }

    /// Turns of the event loop, until the crash.
    pub fn live(&mut self) {
        for _ in 0..self.prng.below(120) {
            for _ in 0..self.prng.below(5) {
                let at = self.prng.below(self.partitions.len() as u64) as usize;
                self.partitions[at].append(&mut self.world, &mut self.prng);
            }
            self.world.end_turn();
            self.world.execute_some(&mut self.prng, 6);
            if self.prng.chance(1, 30) {
                self.world.disk.full = !self.world.disk.full;
            }
            if self.prng.chance(1, 10) {
                self.world.pass_ms(self.prng.below(200));
            }
            if self.prng.chance(1, 60) {
                self.delete_records();
            }
            self.take_events();
        }
    }

    fn delete_records(&mut self) {
        let at = self.prng.below(self.partitions.len() as u64) as usize;
        let partition = &mut self.partitions[at];
        let durable = self.world.store.high_watermark(partition.log);
        let wanted = Offset(self.prng.below(durable.0 as u64 + 1) as i64);
        let asked = self.world.store.delete_records(partition.log, wanted);
        asked.expect("below the high-water mark");
        partition.log_start_asked = partition.log_start_asked.max(wanted);
    }

    fn take_events(&mut self) {
        for event in self.world.events.drain(..) {
            let place = |log| {
                let mut partitions = self.partitions.iter();
                partitions
                    .position(|it| it.log == log)
                    .expect("one of ours")
            };
            match event {
                StoreEvent::Discarded { log, from, .. } => {
                    let at = place(log);
                    self.partitions[at].take_back(from);
                }
                StoreEvent::LogStart { log, offset } => {
                    let at = place(log);
                    self.partitions[at].log_start = offset;
                }
                StoreEvent::Fatal { path, error } => panic!("{path}: {error}"),
                _ => {}
            }
        }
    }

    pub fn acknowledged(&self) -> Vec<Offset> {
        let logs = self.partitions.iter().map(|it| it.log);
        logs.map(|log| self.world.store.high_watermark(log))
            .collect()
    }

    /// The process dies or power is lost, the next one recovers, and what it then serves survives
    /// the next power loss.
    pub fn crash_and_recover(&mut self) {
        let acknowledged = self.acknowledged();
        self.protect(&acknowledged);
        let seed = self.prng.next_u64();
        let keep = [Keep::All, Keep::Nothing, Keep::Some(seed)][self.prng.below(3) as usize];
        self.world.crash_disk(keep, &mut self.prng);
        let context = format!(
            "seed {} {keep:?} {:?}",
            self.seed, self.world.disk.media.device
        );
        let reports = self.recover_with_interruptions();
        let mut lost = Vec::new();
        for (at, report) in reports.iter().enumerate() {
            let context = format!("{context} partition {at} {report:?}");
            lost.push(self.check(at, report, acknowledged[at], &context));
        }
        self.recover_again(&reports, &context);
        for (at, lost) in lost.into_iter().enumerate() {
            self.partitions[at].send_again(&mut self.world, acknowledged[at], lost);
        }
        self.take_events();
    }

    /// Nothing below the acknowledged end may be changed by recovery.
    fn protect(&mut self, acknowledged: &[Offset]) {
        self.world.disk.unprotect();
        for (partition, end) in self.partitions.iter().zip(acknowledged) {
            let segments: Vec<_> = self.world.store.segments(partition.log).collect();
            for segment in segments {
                let start = partition.log_start_asked;
                let sent = partition.sent.iter().filter(|sent| {
                    let base = Offset(sent.header.base_offset);
                    segment.base_offset <= base && base < segment.next_offset
                });
                let acknowledged = sent.filter(|sent| sent.header.next_offset() <= *end);
                let bytes: usize = acknowledged.map(|sent| sent.header.total_bytes()).sum();
                if bytes > 0 && segment.next_offset > start {
                    self.world.disk.protect(segment.file, 4096, 4096 + bytes);
                }
            }
        }
    }

    /// Starts until a start is not interrupted by power loss.
    fn recover_with_interruptions(&mut self) -> Vec<RecoveryReport> {
        while self.prng.chance(1, 3) {
            let step = self.prng.below(STEPS_MAX) as usize;
            let fate = Fate::random(&mut self.prng, 16);
            self.world.disk.steps = 0;
            self.world.disk.crash_at = Some((step, fate));
            let ended = self.world.try_start(self.config.clone()).map(|image| {
                let recovered = self.recover(&image);
                recovered.is_ok()
            });
            let was_lost = self.world.disk.steps > step;
            self.world.disk.crash_at = None;
            assert_eq!(matches!(ended, Ok(true)), !was_lost, "seed {}", self.seed);
            // Whatever it did, it served nothing yet.
            self.world.disk.crash(Keep::Nothing);
        }
        let image = self.world.try_start(self.config.clone());
        let image = image.expect("the disk is well");
        self.recover(&image).expect("recovers")
    }

    pub fn recover(&mut self, image: &LedgerImage) -> Result<Vec<RecoveryReport>, String> {
        let mut reports = Vec::new();
        for partition in &mut self.partitions {
            let spec = spec(partition.number, 0, self.log_config.clone());
            let recovered = self.world.recover(image, spec);
            let (log, report) = recovered.map_err(|error| error.to_string())?;
            partition.log = log;
            reports.push(report);
        }
        Ok(reports)
    }

    /// Holds a recovered log against what its clients know; what was lost is returned.
    fn check(
        &mut self,
        at: usize,
        report: &RecoveryReport,
        acknowledged: Offset,
        context: &str,
    ) -> Vec<crate::partition::Sent> {
        assert_eq!(report.holes, vec![], "{context}");
        assert!(report.end >= acknowledged, "{context} acked {acknowledged}");
        let partition = &mut self.partitions[at];
        let start = report.log_start;
        assert!(start >= partition.log_start, "{context}");
        assert!(start <= partition.log_start_asked, "{context}");
        (partition.log_start, partition.log_start_asked) = (start, start);
        let found = self.world.consume(partition.log, start.0, 30_000);
        partition.compare(&found, start, report.end, context)
    }

    /// Power is lost before anything is appended: what was served is there, and as it was.
    fn recover_again(&mut self, before: &[RecoveryReport], context: &str) {
        let mut image = data(&self.world);
        // What is set aside is no part of the log, and may come to nothing with its bytes.
        for path in before.iter().flat_map(|report| &report.set_aside) {
            image.remove(path);
        }
        for _ in 0..2 {
            self.world.disk.crash(Keep::Nothing);
            let marks = self.world.try_start(self.config.clone());
            let marks = marks.expect("the disk is well");
            let reports = self.recover(&marks).expect("recovers");
            for (now, before) in reports.iter().zip(before) {
                assert_eq!(now.end, before.end, "{context}");
                assert_eq!(now.log_start, before.log_start, "{context}");
                assert!(!now.torn, "{context}: {now:?}");
            }
        }
        assert_same(&image, &data(&self.world), context);
    }
}

fn assert_same(
    before: &BTreeMap<String, Vec<u8>>,
    after: &BTreeMap<String, Vec<u8>>,
    context: &str,
) {
    for path in before.keys() {
        let (before, after) = (before.get(path), after.get(path));
        let sizes = [before, after].map(|bytes| bytes.map(Vec::len));
        assert!(
            before == after,
            "{context}: {path} changed, sizes {sizes:?}"
        );
    }
}

fn data(world: &World) -> BTreeMap<String, Vec<u8>> {
    let mut files = world.disk.image();
    files.retain(|path, _| path.starts_with("topics/"));
    files
}
