//! Power loss in every write, at every sector of it.

use highwater_base::disk::DiskRequest;
use highwater_store::MarksLedger;
use highwater_store::marks::RECORDS_PER_BLOCK;

use crate::disk::TestDisk;
use crate::disk::fate::Fate;
use crate::disk::pages::SECTOR;
use crate::model::*;

#[test]
fn power_loss_during_a_flush_leaves_the_old_or_the_new_state() {
    let old = [epoch(0, 1, 0), progress(0, 50), progress(1, 50)];
    let new = [
        progress(0, 60),
        log_start(0, 55),
        epoch(1, 2, 50),
        progress(2, 1),
    ];
    let mut disk = TestDisk::default();
    let mut ledger = start(&mut disk);
    write(&mut disk, &mut ledger, &old);
    disk.settle();
    new.iter().for_each(|mark| ledger.record(*mark));
    let (_, requests) = flush(&mut ledger, true);
    let (old, new) = (state_of(&old), state_of(&[&old[..], &new].concat()));
    // A write that is cut off behind its last mark but carries nothing more is whole.
    let whole = (64 + 48 * 4usize).div_ceil(SECTOR);
    for first in fates(SECTORS) {
        for second in fates(SECTORS) {
            let mut disk = disk.clone();
            let mut fates = [first.clone(), second.clone()].into_iter();
            disk.lose_power(&requests, |_| fates.next().expect("two copies"));
            let is_whole = |fate: &Fate| matches!(fate, Fate::Front(at) if *at >= whole);
            let survived = is_whole(&first) || is_whole(&second);
            let expected = if survived { &new } else { &old };
            let image = read(&disk);
            assert_eq!(&state_in(&image, 9), expected, "{first:?} {second:?}");
            assert!(image.is_readable(), "a torn end is no damage");
            // The next process goes on from there.
            start(&mut disk);
            assert_eq!(&state_in(&read(&disk), 9), expected);
        }
    }
}

#[test]
fn a_later_flush_that_overtook_a_lost_one_counts() {
    let mut disk = TestDisk::default();
    let mut ledger = start(&mut disk);
    write(&mut disk, &mut ledger, &[progress(0, 10), progress(1, 10)]);
    ledger.record(progress(0, 20));
    let (_, lost) = flush(&mut ledger, true);
    ledger.record(progress(1, 20));
    let (_, kept) = flush(&mut ledger, true);
    // Nothing is acknowledged: the one before it is still under way.
    assert_eq!(finish(&mut disk, &mut ledger, &kept), None);
    disk.lose_power(&lost, |_| Fate::Lost);
    let expected = state_of(&[progress(0, 10), progress(1, 20)]);
    assert_holds(&disk, &expected);
}

#[test]
fn power_loss_while_the_files_are_switched_leaves_the_old_or_the_new_state() {
    let (disk, mut ledger, mut marks) = ledger_at_the_end_of_its_file();
    let count = RECORDS_PER_BLOCK as i32;
    let old = state_of(&marks);
    marks.extend([progress(3, 77), dropped(5), epoch(6, 2, 4)]);
    marks[marks.len() - 3..]
        .iter()
        .for_each(|mark| ledger.record(*mark));
    let new = state_of(&marks);
    let (_, requests) = flush(&mut ledger, true);
    let sectors = SECTORS * 2;
    let mut seen = [0; 2];
    let mut check = |first: &Fate, second: &Fate| {
        let mut disk = disk.clone();
        let mut fates = [first.clone(), second.clone()].into_iter();
        disk.lose_power(&requests, |_| fates.next().expect("two copies"));
        let state = state_in(&read(&disk), count);
        assert!(state == old || state == new, "a mix: {first:?} {second:?}");
        let whole = [first, second].contains(&&Fate::Front(sectors));
        assert!(!whole || state == new, "{first:?} {second:?}");
        seen[usize::from(state == new)] += 1;
        // Whatever is left of the new file must not spoil what is written into it next.
        disk.crash_at = None;
        let mut ledger = start(&mut disk);
        assert_holds(&disk, &state);
        write(&mut disk, &mut ledger, &[progress(9, 1234)]);
        let mut expected = state;
        apply(&mut expected, &progress(9, 1234));
        assert_holds(&disk, &expected);
    };
    for first in fates(sectors) {
        for second in fates(sectors) {
            check(&first, &second);
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}

/// A plain flush that starts a generation carries what durable ones behind it stand on.
#[test]
fn a_durable_flush_behind_a_plain_switch_is_durable() {
    let (mut disk, mut ledger, mut marks) = ledger_at_the_end_of_its_file();
    marks.push(progress(1, 500));
    ledger.record(progress(1, 500));
    let (_, switch) = flush(&mut ledger, false);
    marks.push(log_start(2, 4));
    ledger.record(log_start(2, 4));
    let (barrier, requests) = flush(&mut ledger, true);
    assert_eq!(finish(&mut disk, &mut ledger, &requests), None);
    assert_eq!(finish(&mut disk, &mut ledger, &switch), Some(barrier));
    disk.lose_power(&[], |_| Fate::Lost);
    assert_holds(&disk, &state_of(&marks));
}

/// Power loss in every step of a start, at every sector of it.
#[test]
fn power_loss_during_a_start_leaves_the_state_as_it_was() {
    let (disk, expected) = ledger_of_many_blocks();
    let mut counted = disk.clone();
    counted.steps = 0;
    start(&mut counted);
    let steps = counted.steps;
    assert!(steps >= 4);
    for step in 0..steps {
        for fate in fates(3 * SECTORS) {
            let mut disk = disk.clone();
            disk.steps = 0;
            disk.crash_at = Some((step, fate.clone()));
            let image = read(&disk);
            let died = MarksLedger::create(&mut disk, CORE, &image, |_| true);
            assert!(died.is_err());
            disk.crash_at = None;
            for _ in 0..3 {
                assert_holds_after(&disk, &expected, &format!("{step} {fate:?}"));
                start(&mut disk);
            }
        }
    }
}

/// The remains of a switch that did not complete carry the number the next start uses. They must
/// not be taken for a part of it, even when power is lost between its two copies.
#[test]
fn remains_of_a_torn_switch_do_not_mix_with_the_next_start() {
    let (disk, mut ledger, marks) = ledger_at_the_end_of_its_file();
    let old = state_of(&marks);
    // With these gone the blocks of the snapshot are cut elsewhere.
    (0..40).for_each(|number| ledger.record(dropped(number)));
    let (_, switch) = flush(&mut ledger, true);
    (50..60).for_each(|number| ledger.record(dropped(number)));
    let (_, behind) = flush(&mut ledger, true);
    let mut torn = disk;
    let requests: Vec<DiskRequest> = switch.into_iter().chain(behind).collect();
    torn.lose_power(&requests, |it| match it.sectors {
        SECTORS => Fate::Kept,
        _ => Fate::Rear(SECTORS),
    });
    assert_holds(&torn, &old);
    torn.steps = 0;
    let mut counted = torn.clone();
    start(&mut counted);
    for step in 0..counted.steps {
        for fate in [Fate::Lost, Fate::Front(SECTORS), Fate::Kept] {
            let mut disk = torn.clone();
            disk.crash_at = Some((step, fate.clone()));
            let image = read(&disk);
            assert!(MarksLedger::create(&mut disk, CORE, &image, |_| true).is_err());
            disk.crash_at = None;
            assert_holds_after(&disk, &old, &format!("{step} {fate:?}"));
            start(&mut disk);
            assert_holds_after(&disk, &old, &format!("{step} {fate:?}"));
        }
    }
}
