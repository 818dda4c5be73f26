//! Bits that flip, sectors that cannot be read, writes that fail.

use highwater_base::disk::{DiskCompletion, DiskError};
use highwater_base::prng::Prng;
use highwater_store::marks::RECORDS_PER_BLOCK;

use crate::disk::TestDisk;
use crate::disk::pages::{BLOCK, SECTOR};
use crate::model::*;

#[test]
fn damage_in_one_copy_is_made_good_by_the_other() {
    let (disk, expected) = ledger_of_many_blocks();
    let count = RECORDS_PER_BLOCK as i32;
    assert_holds(&disk, &expected);
    let mut prng = Prng::new(1);
    for block in 0..8 {
        for path in A {
            for _ in 0..12 {
                let mut disk = disk.clone();
                // Half of the flips hit the header or the first marks.
                let bits = if prng.chance(1, 2) {
                    8 * 256
                } else {
                    8 * BLOCK
                };
                let bit = prng.below(bits as u64) as usize;
                disk.flip(path, block, bit);
                let image = read(&disk);
                assert_eq!(state_in(&image, count), expected, "{path} {block} {bit}");
                assert!(image.is_readable());
                start(&mut disk);
                assert_holds(&disk, &expected);
            }
        }
    }
}

#[test]
fn a_whole_copy_can_be_gone_and_damage_may_alternate() {
    let (disk, expected) = ledger_of_many_blocks();
    for path in A {
        let mut without = disk.clone();
        (0..8).for_each(|block| without.damage_block(path, block, |bytes| bytes.fill(0)));
        assert_holds(&without, &expected);
    }
    let mut alternating = disk;
    for block in 0..8 {
        alternating.flip(A[block as usize % 2], block, 300);
    }
    assert_holds(&alternating, &expected);
}

#[test]
fn a_block_torn_in_both_copies_while_a_later_one_arrived_is_no_lost_mark() {
    for completes in [false, true] {
        let mut disk = TestDisk::default();
        let mut ledger = start(&mut disk);
        let mut requests = Vec::new();
        // Three flushes; the second ends before the third begins, or does not.
        for number in 0..3 {
            ledger.record(progress(0, 10 * (number + 1)));
            ledger.flush(true, &mut requests);
            let ends = number == 0 || (number == 1 && completes);
            for request in requests.drain(..) {
                let completion = disk.execute(request);
                if let Some(completion) = completion.filter(|_| ends) {
                    ledger.complete(completion);
                }
            }
        }
        // Block 0 is the snapshot.
        disk.flip(A[0], 2, 700);
        disk.flip(A[1], 2, 900);
        assert_eq!(
            read(&disk).is_readable(),
            !completes,
            "completes: {completes}"
        );
    }
}

/// Also in the snapshot, where the generation before it would still be readable, but old.
#[test]
fn damage_in_both_copies_of_a_block_is_reported() {
    let (disk, expected) = ledger_of_many_blocks();
    for block in 0..7 {
        for (first, second) in [(0, 0), (17, 17), (700, 700), (17, 700), (9000, 32_767)] {
            let mut disk = disk.clone();
            disk.flip(A[0], block, first);
            disk.flip(A[1], block, second);
            assert!(!read(&disk).is_readable(), "block {block}");
        }
    }
    // The last block cannot be told from one that power loss tore: it counts as never written.
    let mut torn = disk;
    torn.flip(A[0], 7, 700);
    torn.flip(A[1], 7, 701);
    let mut before = expected;
    before.extend(state_of(&[progress(4, 5), epoch(4, 1, 0)]));
    assert_holds(&torn, &before);
}

#[test]
fn a_ledger_without_any_whole_snapshot_is_reported() {
    let mut disk = TestDisk::default();
    start(&mut disk);
    assert!(read(&disk).is_readable());
    disk.flip(A[0], 0, 100);
    disk.flip(A[1], 0, 5);
    assert!(!read(&disk).is_readable());
    // Recovery states anew what it found; from then on the ledger can be trusted again.
    let mut ledger = start(&mut disk);
    write(&mut disk, &mut ledger, &[progress(0, 3)]);
    assert_holds(&disk, &state_of(&[progress(0, 3)]));
}

#[test]
fn sectors_that_cannot_be_read_are_damage() {
    let (disk, expected) = ledger_of_many_blocks();
    for block in [0, 4, 7] {
        for path in A {
            let mut disk = disk.clone();
            disk.unreadable.insert((path.to_owned(), block));
            assert_holds_after(&disk, &expected, &format!("{path} {block}"));
        }
    }
    for (first, second) in [(4, 4), (0, 0)] {
        let mut disk = disk.clone();
        disk.unreadable.insert((A[0].to_owned(), first));
        disk.unreadable.insert((A[1].to_owned(), second));
        assert!(!read(&disk).is_readable(), "{first} {second}");
    }
    // Different blocks: each has a good copy.
    let mut different = disk.clone();
    different.unreadable.insert((A[0].to_owned(), 2));
    different.unreadable.insert((A[1].to_owned(), 5));
    assert_holds(&different, &expected);
    // A file that cannot be read at all must not keep the start from ending.
    let mut hopeless = disk;
    for block in 0..2 * FILE_BLOCKS as u64 {
        hopeless.unreadable.insert((A[0].to_owned(), block));
    }
    assert_holds(&hopeless, &expected);
}

#[test]
fn a_failed_or_short_write_is_an_error_and_nothing_is_acknowledged_after_it() {
    for result in [
        Err(DiskError::Io(5)),
        Err(DiskError::Full),
        Ok(SECTOR),
        Ok(0),
    ] {
        for failing in 0..2 {
            let mut disk = TestDisk::default();
            let mut ledger = start(&mut disk);
            ledger.record(progress(0, 1));
            let (_, requests) = flush(&mut ledger, true);
            let requests = attach(&mut disk, requests);
            let mut answers = Vec::new();
            for (at, request) in requests.iter().enumerate() {
                let done = disk.execute(request).expect("a write");
                let result = if at == failing { result } else { done.result };
                let token = done.token;
                answers.extend(ledger.complete(DiskCompletion { token, result }));
            }
            assert!(matches!(answers[..], [Err(_)]), "{result:?} {answers:?}");
            let (_, requests) = flush(&mut ledger, true);
            assert_eq!(finish(&mut disk, &mut ledger, &requests), None);
        }
    }
}
