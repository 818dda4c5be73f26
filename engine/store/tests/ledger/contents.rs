//! What is recorded comes back, through file switches and starts.

use highwater_base::CoreId;
use highwater_store::{LedgerImage, Mark, MarksLedger, PartitionKey, forget_former_process};

use crate::disk::TestDisk;
use crate::disk::fate::Fate;
use crate::model::*;

#[test]
fn written_marks_come_back_once_and_again() {
    let mut disk = TestDisk::default();
    let mut ledger = start(&mut disk);
    let marks = [
        epoch(0, 1, 0),
        progress(0, 50),
        log_start(0, 20),
        epoch(1, 4, 0),
        progress(1, 9),
        clean(1, 4, 9),
        epoch(2, 1, 0),
        progress(2, 70),
    ];
    write(&mut disk, &mut ledger, &marks[..4]);
    write(&mut disk, &mut ledger, &marks[4..]);
    write(&mut disk, &mut ledger, &[]);
    let mut expected = state_of(&marks);
    assert_holds(&disk, &expected);
    for _ in 0..5 {
        start(&mut disk);
        // A process ran since the clean stop.
        expected.values_mut().for_each(|marks| marks.clean = None);
        assert_holds(&disk, &expected);
    }
}

#[test]
fn every_epoch_recorded_before_a_flush_comes_back() {
    let mut disk = TestDisk::default();
    let mut ledger = start(&mut disk);
    let marks = [
        epoch(0, 1, 0),
        epoch(0, 2, 10),
        epoch(0, 3, 30),
        progress(0, 40),
        epoch(0, 5, 40),
    ];
    write(&mut disk, &mut ledger, &marks);
    assert_holds(&disk, &state_of(&marks));
}

#[test]
fn no_more_than_sixty_four_epochs_are_kept() {
    let mut disk = TestDisk::default();
    let mut ledger = start(&mut disk);
    let marks: Vec<Mark> = (1..200).map(|at| epoch(0, at, i64::from(at))).collect();
    for part in marks.chunks(7) {
        write(&mut disk, &mut ledger, part);
    }
    let found = state_in(&read(&disk), 1);
    assert_eq!(found, state_of(&marks));
    assert_eq!(found[&key(0)].epochs.len(), 64);
    let many: Vec<Mark> = (200..300).map(|at| epoch(0, at, i64::from(at))).collect();
    write(&mut disk, &mut ledger, &many);
    assert_holds(&disk, &state_of(&many[36..]));
}

/// The durable end may lag behind the place where the log was cut, or be moved in the same flush.
#[test]
fn a_truncation_reaches_the_disk_as_it_was_recorded() {
    let base = [epoch(0, 1, 0), epoch(0, 2, 40), epoch(0, 3, 70)];
    let cases: [&[Mark]; 5] = [
        &[progress(0, 30), truncated(0, 50)],
        &[progress(0, 80), truncated(0, 50), progress(0, 90)],
        &[truncated(0, 60), epoch(0, 4, 60), truncated(0, 65)],
        &[truncated(0, 50), epoch(0, 4, 60), truncated(0, 20)],
        &[truncated(0, 50), epoch(0, 4, 50), epoch(0, 5, 55)],
    ];
    for marks in cases {
        for together in [false, true] {
            let mut disk = TestDisk::default();
            let mut ledger = start(&mut disk);
            let all = [&base, marks].concat();
            if together {
                write(&mut disk, &mut ledger, &all);
            } else {
                write(&mut disk, &mut ledger, &base);
                write(&mut disk, &mut ledger, marks);
            }
            assert_holds_after(&disk, &state_of(&all), &format!("{marks:?}"));
        }
    }
}

/// Each generation overwrites the one before the last, whose blocks stay behind its own end.
#[test]
fn many_switches_keep_every_mark() {
    let mut disk = TestDisk::default();
    let mut ledger = start(&mut disk);
    let mut expected = State::new();
    for at in 0..5 * FILE_BLOCKS as i64 {
        let number = (at % 7) as i32;
        let marks = [progress(number, at + 1), log_start(number, at / 2)];
        marks.iter().for_each(|mark| apply(&mut expected, mark));
        write(&mut disk, &mut ledger, &marks);
        if at % 64 == 0 || at % FILE_BLOCKS as i64 > 250 {
            assert_holds_after(&disk, &expected, &format!("flush {at}"));
        }
    }
}

#[test]
fn more_partitions_than_a_file_was_made_for() {
    let mut disk = TestDisk::default();
    let mut ledger = start(&mut disk);
    let count = 30_000;
    let marks: Vec<Mark> = (0..count)
        .map(|at| progress(at, i64::from(at) + 1))
        .collect();
    let mut expected = state_of(&marks);
    write(&mut disk, &mut ledger, &marks);
    assert_holds(&disk, &expected);
    // Marks of all of them again and again: the files grow, and are switched all the same.
    for round in 0..6 {
        let marks: Vec<Mark> = (0..count)
            .map(|at| progress(at, 40_000 + i64::from(at) + round))
            .collect();
        marks.iter().for_each(|mark| apply(&mut expected, mark));
        write(&mut disk, &mut ledger, &marks);
        assert_holds(&disk, &expected);
    }
    for _ in 0..2 {
        start(&mut disk);
        assert_holds(&disk, &expected);
    }
}

#[test]
fn dropped_partitions_stay_gone_and_can_come_back_empty() {
    let mut disk = TestDisk::default();
    let mut ledger = start(&mut disk);
    let first = [
        progress(0, 5),
        progress(1, 5),
        log_start(1, 3),
        epoch(1, 1, 0),
    ];
    write(&mut disk, &mut ledger, &first);
    write(&mut disk, &mut ledger, &[progress(1, 6), dropped(1)]);
    assert_holds(&disk, &state_of(&[progress(0, 5)]));
    // Never heard of.
    write(&mut disk, &mut ledger, &[dropped(7)]);
    // Dropped and made anew before a flush: nothing of the old one is left.
    let again = [epoch(2, 3, 0), log_start(2, 9), progress(2, 12)];
    write(&mut disk, &mut ledger, &again);
    write(&mut disk, &mut ledger, &[dropped(2), epoch(2, 8, 0)]);
    let expected = state_of(&[progress(0, 5), epoch(2, 8, 0)]);
    assert_holds(&disk, &expected);
    // Neither a switch nor a start brings anything back.
    let mut marks = vec![progress(0, 5), epoch(2, 8, 0)];
    marks.extend(fill(&mut disk, &mut ledger, 6, 0));
    write(&mut disk, &mut ledger, &[dropped(2)]);
    assert_eq!(disk.written_blocks(B[0]), [0]);
    assert_holds(&disk, &state_of(&marks[marks.len() - 1..]));
    start(&mut disk);
    assert_holds(&disk, &state_of(&marks[marks.len() - 1..]));
}

#[test]
fn ledgers_of_all_cores_are_merged_and_orphans_removed() {
    let mut disk = TestDisk::default();
    let marks = [
        [progress(0, 50), log_start(0, 30), progress(1, 9)],
        [progress(0, 40), log_start(0, 35), progress(2, 9)],
    ];
    for (core, marks) in marks.iter().enumerate() {
        let image = LedgerImage::default();
        let core = CoreId(core as u16);
        let mut ledger = MarksLedger::create(&mut disk, core, &image, |_| true).expect("it works");
        write(&mut disk, &mut ledger, marks);
        disk.lose_power(&[], |_| Fate::Lost);
    }
    let all = [
        progress(0, 50),
        log_start(0, 35),
        progress(1, 9),
        progress(2, 9),
    ];
    assert_holds(&disk, &state_of(&all));
    // One core now, which takes everything over; only then the other ledger may go.
    start(&mut disk);
    forget_former_process(&mut disk, 1).expect("it works");
    assert!(disk.exists(A[0]) && disk.exists(B[1]));
    assert!(!disk.exists("marks/core-1-0a") && !disk.exists("marks/core-1-1b"));
    assert_holds(&disk, &state_of(&all));
    // Another core's damage is damage.
    let image = LedgerImage::default();
    MarksLedger::create(&mut disk, CoreId(3), &image, |_| true).expect("it works");
    assert!(read(&disk).is_readable());
    disk.flip("marks/core-3-0a", 0, 7);
    disk.flip("marks/core-3-1a", 0, 7);
    assert!(!read(&disk).is_readable());
}

#[test]
fn only_owned_partitions_are_taken_over() {
    let mut disk = TestDisk::default();
    let mut ledger = start(&mut disk);
    write(&mut disk, &mut ledger, &[progress(0, 5), progress(1, 5)]);
    let image = read(&disk);
    let owned = |owned: &PartitionKey| *owned == key(1);
    MarksLedger::create(&mut disk, CORE, &image, owned).expect("it works");
    assert_holds(&disk, &state_of(&[progress(1, 5)]));
}
