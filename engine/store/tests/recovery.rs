//! Recovery cases as readable text: every file of `testdata/` is one story, run line by line.
//!
//! ```text
//! config segment_bytes=65536          before anything else
//! append p0 3 batches [payload=100] [producer=9]
//! flush                               everything issued completes
//! unflushed p0 2 batches              appended and written, but no flush came
//! stop                                a clean stop
//! crash keep=all|nothing              process killed, or power lost
//! flip p0 segment 0 byte 5000         one bit, behind everyone's back
//! zero p0 segment 0 from 5000 to 6000
//! remove p0 segment 1
//! recover [epoch=1]                   twice: the second time must find the same
//! expect p0 end=3 start=0 holes=none|3..5,7..9 torn=no checkpoint=no segments=1 append=ok|offline
//! read p0 0 gives 0..3                batches from the offset on, to the next hole or the end
//! read p0 4 fails
//! ```

mod support;

use std::collections::BTreeMap;

use highwater_store::{AppendError, LogConfig, LogId, RecoveryReport};
use support::disk::Keep;
use support::{Batch, World, directory, spec, test_config};

struct Story {
    name: String,
    world: World,
    config: LogConfig,
    epoch: u32,
    logs: BTreeMap<i32, LogId>,
    reports: BTreeMap<i32, RecoveryReport>,
    sequences: BTreeMap<(i32, i64), i32>,
    image: Option<highwater_store::LedgerImage>,
}

fn setting<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words
        .iter()
        .filter_map(|word| word.split_once('='))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value)
}

fn number<T: std::str::FromStr>(word: &str) -> T {
    let parsed = word.parse().ok();
    parsed.unwrap_or_else(|| panic!("{word:?} is not a number"))
}

fn partition(word: &str) -> i32 {
    number(word.strip_prefix('p').expect("a partition like p0"))
}

impl Story {
    fn new(name: String) -> Story {
        Story {
            name,
            world: World::new(test_config()),
            config: LogConfig::default(),
            epoch: 0,
            logs: BTreeMap::new(),
            reports: BTreeMap::new(),
            sequences: BTreeMap::new(),
            image: None,
        }
    }

    fn log(&mut self, partition: i32) -> LogId {
        let spec = spec(partition, self.epoch, self.config.clone());
        let (world, logs) = (&mut self.world, &mut self.logs);
        *logs
            .entry(partition)
            .or_insert_with(|| world.store.create(spec, world.now))
    }

    /// Path of the partition's segment file with this number, in offset order.
    fn segment(&self, partition: i32, number: usize) -> String {
        let paths = self.world.disk.paths(&directory(partition));
        let mut segments = paths.into_iter().filter(|path| path.ends_with(".log"));
        segments.nth(number).expect("the segment exists")
    }

    fn append(&mut self, words: &[&str]) {
        let at = partition(words[1]);
        let log = self.log(at);
        let payload = setting(words, "payload").map_or(100, number);
        let producer: Option<i64> = setting(words, "producer").map(number);
        for _ in 0..number::<usize>(words[2]) {
            let mut batch = Batch::of(1, payload);
            if let Some(id) = producer {
                let sequence = self.sequences.entry((at, id)).or_default();
                batch = batch.by_producer(id, 0, *sequence);
                *sequence += 1;
            }
            self.world.append(log, &batch).expect("append");
        }
    }

    fn run(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "config" => {
                if let Some(bytes) = setting(&words, "segment_bytes") {
                    self.config.segment_bytes = number(bytes);
                }
            }
            "append" => self.append(&words),
            "unflushed" => {
                self.append(&words);
                self.world.write_without_flush();
            }
            "flush" => {
                self.world.settle();
                // The marks follow, and their own barrier when nothing else brings one.
                for _ in 0..2 {
                    self.world.pass_ms(11);
                    self.world.settle();
                }
            }
            "stop" => self.world.shutdown(),
            "crash" => self.crash(&words),
            "flip" => {
                let path = self.segment(partition(words[1]), number(words[3]));
                let byte: usize = number(words[5]);
                self.world.disk.damage(&path, |bytes| bytes[byte] ^= 0x20);
            }
            "zero" => {
                let path = self.segment(partition(words[1]), number(words[3]));
                let (from, to): (usize, usize) = (number(words[5]), number(words[7]));
                self.world
                    .disk
                    .damage(&path, |bytes| bytes[from..to].fill(0));
            }
            "remove" => {
                use highwater_base::disk::BootDisk;
                let path = self.segment(partition(words[1]), number(words[3]));
                self.world.disk.remove(&path).expect("removable");
            }
            "recover" => self.recover(&words),
            "expect" => self.expect(&words),
            "read" => self.read(&words),
            other => panic!("unknown word {other:?}"),
        }
    }

    fn crash(&mut self, words: &[&str]) {
        let keep = match setting(words, "keep").expect("keep=") {
            "all" => Keep::All,
            "nothing" => Keep::Nothing,
            other => panic!("keep={other}"),
        };
        self.image = Some(self.world.restart(test_config(), keep));
    }

    fn recover(&mut self, words: &[&str]) {
        self.epoch = setting(words, "epoch").map_or(self.epoch, number);
        let image = self.image.take().expect("a crash or a stop came before");
        let partitions: Vec<i32> = self.logs.keys().copied().collect();
        for at in partitions {
            let spec = spec(at, self.epoch, self.config.clone());
            let (log, report) = self.world.recover(&image, spec).expect("recovers");
            self.logs.insert(at, log);
            self.reports.insert(at, report);
        }
        // Once more, from what the first recovery left.
        let mut again = World::new(test_config());
        std::mem::swap(&mut again.disk, &mut self.world.disk);
        for (at, report) in &self.reports {
            let spec = spec(*at, self.epoch, self.config.clone());
            let (_, second) = again.recover(&image, spec).expect("recovers again");
            let same = (second.end, second.log_start, &second.holes, second.segments);
            let first = (report.end, report.log_start, &report.holes, report.segments);
            assert_eq!(same, first, "recovering twice differs");
            assert!(!second.torn, "the first recovery left a torn tail");
        }
        std::mem::swap(&mut again.disk, &mut self.world.disk);
    }

    fn expect(&mut self, words: &[&str]) {
        let at = partition(words[1]);
        let report = self.reports.get(&at).expect("recovered").clone();
        let yes = |value: bool| if value { "yes" } else { "no" }.to_owned();
        for word in &words[2..] {
            let (key, wanted) = word.split_once('=').expect("key=value");
            let found = match key {
                "end" => report.end.to_string(),
                "start" => report.log_start.to_string(),
                "torn" => yes(report.torn),
                "checkpoint" => yes(report.from_checkpoint),
                "scanned" => yes(report.scanned_bytes > 0),
                "segments" => report.segments.to_string(),
                "holes" => holes_text(&report),
                "append" => self.try_append(at),
                other => panic!("unknown expectation {other:?}"),
            };
            assert_eq!(found, wanted, "{key} in {report:?}");
        }
    }

    fn try_append(&mut self, at: i32) -> String {
        let log = self.logs[&at];
        match self.world.append(log, &Batch::of(1, 100)) {
            Ok(_) => {
                self.world.settle();
                "ok".to_owned()
            }
            Err(AppendError::Offline) => "offline".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    fn read(&mut self, words: &[&str]) {
        let log = self.logs[&partition(words[1])];
        let offset: i64 = number(words[2]);
        let found = self.world.read(log, offset, 1 << 30, true);
        if words[3] == "fails" {
            assert!(found.is_err(), "the read succeeded");
            return;
        }
        let (_, mut headers) = found.expect("readable");
        let first = headers.first().map_or(offset, |header| header.base_offset);
        let mut last = offset;
        while let Some(header) = headers.last() {
            last = header.next_offset().0;
            // On to the next hole or the end.
            let more = self.world.read(log, last, 1 << 30, true);
            headers = more.map(|(_, headers)| headers).unwrap_or_default();
        }
        assert_eq!(format!("{first}..{last}"), words[4]);
    }
}

fn holes_text(report: &RecoveryReport) -> String {
    if report.holes.is_empty() {
        return "none".to_owned();
    }
    let holes = report.holes.iter();
    let texts: Vec<String> = holes
        .map(|hole| format!("{}..{}", hole.from, hole.to))
        .collect();
    texts.join(",")
}

#[test]
fn every_story_ends_as_told() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata");
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .expect("testdata exists")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 10, "the stories are there");
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("readable");
        let mut story = Story::new(path.display().to_string());
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                println!("{}:{}: {line}", story.name, number + 1);
                story.run(line);
            }
        }
    }
}
