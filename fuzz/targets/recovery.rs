//! Recovery over a damaged data directory. The input says what was written, how the process ended,
//! and what became of the files; whatever it is, recovery ends with a log or an error, and the log
//! can be read, appended to and recovered again.

#![no_main]

#[path = "../../engine/store/tests/support/mod.rs"]
mod support;

use highwater_base::disk::BootDisk;
use highwater_base::Offset;
use highwater_store::{LedgerImage, LogConfig, MarksLedger, ReadPiece, Store, StoreConfig};
use libfuzzer_sys::fuzz_target;
use support::disk::{Keep, TestDisk};
use support::{Batch, World, spec, test_config};

/// Hands out the input's bytes; zeros when they are used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }
}

fn log_config() -> LogConfig {
    LogConfig {
        segment_bytes: 48 << 10,
        ..LogConfig::default()
    }
}

fn damage(disk: &mut TestDisk, input: &mut Input<'_>) {
    for _ in 0..8 {
        let paths = disk.paths("");
        if input.0.is_empty() || paths.is_empty() {
            return;
        }
        let path = &paths[usize::from(input.byte()) % paths.len()];
        let operation = input.byte();
        let at = input.number();
        let value = input.byte();
        if operation % 8 == 0 {
            disk.remove(path).expect("it is there");
            continue;
        }
        disk.damage(path, |bytes| {
            // Most of what matters is near the front, or near the end of the data.
            let near = at % bytes.len().max(1);
            let block = (at % 64 * 512 + usize::from(value)) % bytes.len().max(1);
            match operation % 8 {
                1 => bytes.truncate(near),
                2 => bytes.extend(std::iter::repeat_n(value, at)),
                3 => bytes[near..].fill(0),
                4 => bytes.iter_mut().skip(block).take(512).for_each(|byte| *byte = 0),
                5 => bytes.iter_mut().skip(near).take(4).for_each(|byte| *byte = 0xff),
                _ => {
                    if let Some(byte) = bytes.get_mut(near) {
                        *byte ^= value.max(1);
                    }
                }
            }
        });
    }
}

/// A new process on the directory; `None` where its marks are refused.
fn open(disk: &mut TestDisk, config: StoreConfig) -> Option<(Store, LedgerImage)> {
    let image = LedgerImage::read(disk).ok()?;
    let ledger = MarksLedger::create(disk, config.core, &image, |_| true).ok()?;
    Some((Store::new(config, support::CLUSTER, ledger), image))
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let config = test_config();
    let mut world = World::new(config.clone());
    let log = world.store.create(spec(0, 0, log_config()), world.now);
    for _ in 0..input.byte() % 12 {
        let payload = 64 * usize::from(input.byte());
        let mut batch = Batch::of(1 + i32::from(input.byte() % 4), payload);
        batch.seed = u64::from(input.byte());
        let _ = world.append(log, &batch);
        world.settle();
    }
    match input.byte() % 3 {
        0 => world.shutdown(),
        1 => {}
        _ => {
            let _ = world.append(log, &Batch::of(2, 3000));
            world.write_without_flush();
        }
    }
    world.pending.clear();
    world.events.clear();
    world.disk.crash(Keep::Some(u64::from(input.byte())));
    damage(&mut world.disk, &mut input);

    for _ in 0..2 {
        let Some((store, image)) = open(&mut world.disk, config.clone()) else {
            return;
        };
        world.store = store;
        let Ok((log, _)) = world.recover(&image, spec(0, 0, log_config())) else {
            return;
        };
        world.settle();
        let end = world.store.high_watermark(log);
        let mut offset = world.store.log_start(log);
        assert!(offset <= end);
        while offset < end {
            let mut pieces = Vec::new();
            let Ok(outcome) = world.store.read(log, offset, 8000, true, &mut pieces) else {
                // A hole; what lies behind it is readable again.
                offset = Offset(offset.0 + 1);
                continue;
            };
            let piece_bytes = |piece: &ReadPiece| match piece {
                ReadPiece::Memory(slice) => slice.len(),
                ReadPiece::File { len, .. } => *len,
            };
            assert_eq!(outcome.bytes, pieces.iter().map(piece_bytes).sum::<usize>());
            if outcome.next_offset <= offset {
                break;
            }
            offset = outcome.next_offset;
        }
        let _ = world.append(log, &Batch::of(1, 500));
        world.settle();
        world.pending.clear();
        world.events.clear();
        world.disk.crash(Keep::Nothing);
    }
});
