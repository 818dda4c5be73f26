//! Verification of what a store wrote: clean directories, crashes, and planted damage, each told at
//! its place.

mod support;

use highwater_base::Offset;
use highwater_base::disk::BootDisk;
use highwater_base::prng::Prng;
use highwater_store::inspect::{Finding, FindingKind, PartitionPlace, verify_partition};
use highwater_store::segment::SegmentHeader;
use support::disk::Keep;
use support::verification::{
    BATCH, BATCHES, BLOCK, Found, base_of, files, planted, small_segments, stopped, verify, world,
    written,
};
use support::{Batch, World, directory, spec, test_config};

#[test]
fn a_cleanly_stopped_log_has_nothing_to_tell() {
    let world = stopped();
    let (found, verdicts) = verify(&world.disk);
    assert_eq!(found.findings, []);
    assert_eq!(found.batches, BATCHES);
    assert!(verdicts[0].segments >= 3, "{verdicts:?}");
    assert_eq!(verdicts[0].end, Offset(2 * BATCHES as i64));
    assert_eq!(verdicts[0].durable, Some(Offset(2 * BATCHES as i64)));
}

#[test]
fn flipped_bits_of_a_batch_are_told_at_their_batch() {
    // The third batch of the second segment: byte in the batch, and what it becomes.
    for (byte, kind) in [
        (3, FindingKind::BatchOffset),
        (13, FindingKind::BatchEpoch),
        (16, FindingKind::BatchHeader),
        (18, FindingKind::BatchCrc),
        (30, FindingKind::BatchCrc),
        (500, FindingKind::BatchCrc),
    ] {
        let mut world = stopped();
        let path = files(&world, ".log")[1].clone();
        let position = BLOCK + 2 * BATCH;
        let found = planted(&path, &mut world, |bytes| bytes[position + byte] ^= 4);
        let finding = found.of(kind);
        assert_eq!(finding.file, path);
        assert_eq!(finding.position, Some(position as u64), "{finding:?}");
        let offset = Offset(base_of(&path) + 4);
        assert_eq!(finding.offset, Some(offset), "{finding:?}");
        let lost = format!("offsets {offset} to {} are lost", offset.0 + 1);
        assert!(finding.detail.contains(&lost), "{finding:?}");
        assert_eq!(found.damages().len(), 1, "{:#?}", found.findings);
        assert_eq!(found.batches, BATCHES - 1);
    }
}

#[test]
fn a_length_that_leaves_the_file_is_a_truncated_batch() {
    let mut world = stopped();
    let path = files(&world, ".log")[1].clone();
    let found = planted(&path, &mut world, |bytes| bytes[BLOCK + 8] = 1);
    let finding = found.of(FindingKind::BatchTruncated);
    assert_eq!(finding.position, Some(BLOCK as u64));
    assert_eq!(finding.offset, Some(Offset(base_of(&path))));
}

#[test]
fn a_batch_of_a_valid_checksum_and_an_impossible_field_is_told() {
    let mut world = stopped();
    let path = files(&world, ".log")[0].clone();
    let found = planted(&path, &mut world, |bytes| {
        let batch = &mut bytes[BLOCK..BLOCK + BATCH];
        batch[22] = 7;
        let crc = highwater_base::crc::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    });
    let finding = found.of(FindingKind::BatchField);
    assert_eq!(finding.position, Some(BLOCK as u64));
    assert!(finding.detail.contains("codec 7"), "{finding:?}");
    assert_eq!(found.damages().len(), 1, "{:#?}", found.findings);
}

#[test]
fn a_tail_cut_off_below_the_durable_mark_is_missing_records() {
    let mut world = stopped();
    let path = files(&world, ".log").pop().expect("a segment");
    let found = planted(&path, &mut world, |bytes| bytes.truncate(2 * BLOCK));
    let finding = found.of(FindingKind::BatchTruncated);
    let position = BLOCK + BLOCK / BATCH * BATCH;
    assert_eq!(finding.position, Some(position as u64));
    let missing = found.of(FindingKind::RecordsMissing);
    let end = Offset(base_of(&path) + 2 * (BLOCK / BATCH) as i64);
    assert_eq!(
        (missing.file.as_str(), missing.offset),
        (path.as_str(), Some(end))
    );
    assert!(missing.detail.contains(&format!("up to {}", 2 * BATCHES)));
    // What follows from it is not told as well.
    assert_eq!(found.kinds(), ["batch-truncated", "records-missing"]);

    let odd = planted(&path, &mut world, |bytes| bytes.truncate(BLOCK + 100));
    let finding = odd.of(FindingKind::SegmentSize);
    assert_eq!(finding.position, Some(BLOCK as u64));
}

#[test]
fn a_segment_that_is_gone_is_a_gap() {
    let mut world = stopped();
    let segments = files(&world, ".log");
    world.disk.remove(&segments[1]).expect("removed");
    let (found, _) = verify(&world.disk);
    let finding = found.of(FindingKind::SegmentGap);
    assert_eq!(finding.file, segments[2]);
    assert_eq!(finding.offset, Some(Offset(base_of(&segments[1]))));
    let stray = found.of(FindingKind::StraySidecar);
    assert!(stray.file.starts_with(segments[1].trim_end_matches(".log")));

    // The first one: its offsets are below the durable mark as well.
    let mut world = stopped();
    world.disk.remove(&segments[0]).expect("removed");
    let (found, _) = verify(&world.disk);
    let finding = found.of(FindingKind::SegmentGap);
    assert_eq!(
        (finding.file.as_str(), finding.offset),
        (segments[1].as_str(), Some(Offset(0)))
    );

    // All of them.
    for path in &segments {
        world.disk.remove(path).expect("removed");
    }
    let (found, _) = verify(&world.disk);
    let finding = found.of(FindingKind::RecordsMissing);
    assert_eq!(
        (finding.file.as_str(), finding.offset),
        (directory(0).as_str(), Some(Offset(0)))
    );
}

#[test]
fn a_segment_of_offsets_that_are_there_already_overlaps() {
    let mut world = stopped();
    let segments = files(&world, ".log");
    let image = world.disk.image();
    let base = Offset(base_of(&segments[1]) - 2);
    let copy = format!("{}/{:020}-0.log", directory(0), base.0);
    let mut bytes = image[&segments[1]].clone();
    let header = SegmentHeader::decode(&bytes[..BLOCK]).expect("undamaged");
    let renamed = SegmentHeader {
        base_offset: base,
        ..header
    };
    renamed.encode(&mut bytes[..BLOCK]);
    world.disk.write_whole(&copy, &bytes).expect("written");
    let (found, _) = verify(&world.disk);
    let overlap = found.of(FindingKind::SegmentOverlap);
    // The copy cuts off the first segment's end, so what begins too early is the copy.
    assert_eq!(overlap.file, copy, "{:#?}", found.findings);
}

#[test]
fn headers_of_segments_are_held_against_names_and_owners() {
    let mut world = stopped();
    let path = files(&world, ".log")[1].clone();
    let found = planted(&path, &mut world, |bytes| bytes[60] ^= 1);
    let finding = found.of(FindingKind::SegmentHeader);
    assert_eq!(
        (finding.file.as_str(), finding.position),
        (path.as_str(), Some(0))
    );

    let mut world = stopped();
    let found = planted(&path, &mut world, |bytes| {
        bytes[12] ^= 1;
        let crc = highwater_base::crc::crc32c(&bytes[..BLOCK - 4]);
        bytes[BLOCK - 4..BLOCK].copy_from_slice(&crc.to_le_bytes());
    });
    let finding = found.of(FindingKind::SegmentForeign);
    assert_eq!(
        (finding.file.as_str(), finding.position),
        (path.as_str(), Some(12))
    );
}

#[test]
fn bytes_behind_the_last_batch_are_told() {
    for at in [0, 2] {
        let mut world = stopped();
        let segments = files(&world, ".log");
        let path = if at == 0 {
            &segments[0]
        } else {
            &segments[segments.len() - 1]
        };
        let mut place = 0;
        let found = planted(path, &mut world, |bytes| {
            place = bytes.len() - 3;
            assert_eq!(bytes[place], 0, "padding");
            bytes[place] = 1;
        });
        let finding = found.of(FindingKind::PaddingNotZero);
        assert_eq!(finding.file, *path);
        assert_eq!(finding.position, Some(place as u64));
        assert_eq!(found.damages().len(), 1, "{:#?}", found.findings);
    }
}

#[test]
fn indexes_are_held_against_the_batches() {
    let mut world = stopped();
    let path = files(&world, ".index")[0].clone();
    let good = world.disk.image()[&path].clone();
    let found = planted(&path, &mut world, |bytes| bytes[20] ^= 1);
    assert_eq!(found.of(FindingKind::IndexDamaged).file, path);

    // A sound frame around entries that lie: the second entry's offset, position and time.
    for (at, what) in [
        (0, "says offset"),
        (4, "inside a batch"),
        (8, "largest timestamp"),
    ] {
        let found = planted(&path, &mut world, |bytes| {
            bytes.clone_from(&good);
            bytes[16 + 16 + at] ^= 1;
            let crc = highwater_base::crc::crc32c(&bytes[16..]);
            bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        });
        let finding = found.of(FindingKind::IndexEntry);
        assert_eq!(finding.file, path);
        assert!(finding.detail.contains("entry 1 "), "{finding:?}");
        assert!(finding.detail.contains(what), "{finding:?}");
        assert_eq!(found.damages().len(), 1, "{:#?}", found.findings);
    }

    // Beside damaged batches nothing is told of entries that are right.
    let segment = files(&world, ".log")[0].clone();
    let mut damaged = stopped();
    let found = planted(&segment, &mut damaged, |bytes| {
        for batch in 1..20 {
            bytes[BLOCK + batch * BATCH + 100] ^= 1;
        }
    });
    assert_eq!(found.kinds(), ["batch-crc"]);

    // Another segment's index under this name.
    let other = world.disk.image()[&files(&world, ".index")[1]].clone();
    let found = planted(&path, &mut world, |bytes| *bytes = other);
    assert_eq!(found.of(FindingKind::IndexMismatch).file, path);

    world.disk.remove(&path).expect("removed");
    let (found, _) = verify(&world.disk);
    assert_eq!(found.kinds(), ["index-missing"]);
    assert_eq!(found.findings[0].file, path);
}

#[test]
fn producers_and_checkpoints_are_read() {
    let mut world = stopped();
    let producers = files(&world, ".producers").pop().expect("producers");
    let found = planted(&producers, &mut world, |bytes| bytes[17] ^= 1);
    assert_eq!(found.of(FindingKind::ProducersDamaged).file, producers);
    assert_eq!(found.damages().len(), 1);

    let mut world = stopped();
    let found = planted("checkpoint/core-0", &mut world, |bytes| bytes[30] ^= 1);
    assert_eq!(
        found.of(FindingKind::CheckpointDamaged).file,
        "checkpoint/core-0"
    );
}

#[test]
fn a_ledger_that_is_bad_in_one_copy_or_both_is_told() {
    let block_of = |world: &World| {
        let image = world.disk.image();
        let paths = ["marks/core-0-0a", "marks/core-0-0b"];
        let written = |path: &&&str| image[**path].iter().any(|byte| *byte != 0);
        let path = paths.iter().rev().find(written).expect("a ledger");
        (*path).to_string()
    };
    let mut world = stopped();
    let path = block_of(&world);
    let found = planted(&path, &mut world, |bytes| bytes[100] ^= 1);
    let finding = found.of(FindingKind::LedgerBlock);
    assert_eq!(
        (finding.file.as_str(), finding.position),
        (path.as_str(), Some(0))
    );
    assert_eq!(found.damages().len(), 1, "{:#?}", found.findings);

    let other = path.replace("core-0-0", "core-0-1");
    let found = planted(&other, &mut world, |bytes| bytes[200] ^= 1);
    let finding = found.of(FindingKind::LedgerUnreadable);
    assert_eq!(finding.position, Some(0), "{finding:?}");

    // Torn: a block behind the last one.
    let mut world = stopped();
    let mut position = 0;
    let found = planted(&path, &mut world, |bytes| {
        let last = bytes.iter().rposition(|byte| *byte != 0).expect("written");
        position = (last / BLOCK + 1) * BLOCK;
        bytes[position..position + 100].fill(7);
    });
    assert_eq!(found.kinds(), ["ledger-torn-tail"]);
    assert_eq!(found.findings[0].position, Some(position as u64));

    world.disk.remove(&path).expect("removed");
    let (found, _) = verify(&world.disk);
    assert_eq!(found.of(FindingKind::LedgerBlock).file, path);
}

#[test]
fn copies_of_the_superblock_are_told_one_by_one() {
    let mut world = stopped();
    let found = planted("superblock", &mut world, |bytes| bytes[2 * BLOCK + 20] ^= 1);
    let finding = found.of(FindingKind::SuperblockCopy);
    assert_eq!(finding.position, Some(2 * BLOCK as u64));
    assert!(finding.detail.starts_with("copy 2"), "{finding:?}");
    assert_eq!(found.damages().len(), 1);

    let found = planted("superblock", &mut world, |bytes| {
        for copy in 0..3 {
            bytes[copy * BLOCK + 30] ^= 1;
        }
    });
    found.of(FindingKind::SuperblockUnreadable);

    let mut world = stopped();
    world.disk.remove("superblock").expect("removed");
    verify(&world.disk).0.of(FindingKind::SuperblockUnreadable);
}

#[test]
fn files_that_are_not_ours_are_noted() {
    let mut world = stopped();
    let strange = [
        format!("{}/notes.txt", directory(0)),
        format!("{}/00000000000000000000-0.log.bak", directory(0)),
        "topics/readme".to_string(),
        "marks/core-0-7".to_string(),
        "checkpoint/x".to_string(),
    ];
    for path in &strange {
        world.disk.write_whole(path, b"?").expect("written");
    }
    let unfinished = format!("{}/00000000000000000000-0.index.new", directory(0));
    world.disk.write_whole(&unfinished, b"?").expect("written");
    let (found, _) = verify(&world.disk);
    assert_eq!(found.kinds(), ["unfinished-file", "unknown-file"]);
    for path in &strange {
        let finding = found.findings.iter().find(|finding| finding.file == *path);
        assert_eq!(finding.expect(path).kind, FindingKind::UnknownFile);
    }
    assert_eq!(found.of(FindingKind::UnfinishedFile).file, unfinished);
}

/// What a crash leaves is never damage, and verification and recovery agree on where the log ends.
#[test]
fn crashes_leave_no_damage_and_the_verdict_is_that_of_recovery() {
    let mut torn = 0;
    for seed in 0..400 {
        let mut prng = Prng::new(seed);
        let mut world = world();
        let log = world.store.create(spec(0, 0, small_segments()), world.now);
        let mut sequence = 0;
        for _ in 0..prng.below(120) {
            for _ in 0..prng.below(4) {
                let batch = Batch::of(2, prng.below(3000) as usize).by_producer(9, 0, sequence);
                if world.append(log, &batch).is_ok() {
                    sequence += 2;
                }
            }
            world.end_turn();
            world.execute_some(&mut prng, 6);
            if prng.below(8) == 0 {
                world.pass_ms(50);
            }
        }
        let keep = match seed % 3 {
            0 => Keep::All,
            1 => Keep::Nothing,
            _ => Keep::Some(seed),
        };
        // The crash itself, without the start behind it.
        world.crash_disk(keep, &mut prng);
        let (found, verdicts) = verify(&world.disk);
        assert_eq!(found.damages(), Vec::<&Finding>::new(), "seed {seed}");
        torn += usize::from(found.kinds().contains(&"torn-tail"));

        let image = world.restart(test_config(), Keep::All);
        let (_, report) = world
            .recover(&image, spec(0, 0, small_segments()))
            .expect("recovers");
        assert_eq!(report.holes, [], "seed {seed}");
        let end = verdicts.first().map_or(Offset(0), |verdict| verdict.end);
        assert_eq!(end, report.end, "seed {seed}: {:#?}", found.findings);
    }
    assert!(torn > 5, "only {torn} crashes tore a tail");
}

/// Damage anywhere in a stopped log is never overlooked, and what recovery makes of it is a hole.
#[test]
fn a_flipped_bit_anywhere_in_the_batches_is_damage() {
    let mut prng = Prng::new(7);
    for round in 0..60 {
        let mut world = stopped();
        let segments = files(&world, ".log");
        let path = &segments[prng.below(segments.len() as u64) as usize];
        let mut place = 0;
        let found = planted(path, &mut world, |bytes| {
            let last = bytes.iter().rposition(|byte| *byte != 0).expect("written");
            place = BLOCK + prng.below((last - BLOCK) as u64) as usize;
            bytes[place] ^= 1 << prng.below(8);
        });
        let damages = found.damages();
        assert!(!damages.is_empty(), "round {round}: byte {place} of {path}");
        let batch = (BLOCK + (place - BLOCK) / BATCH * BATCH) as u64;
        let told = damages
            .iter()
            .any(|it| it.file == *path && it.position == Some(batch));
        assert!(told, "round {round}: byte {place} of {path}: {damages:#?}");
    }
}

/// Whatever is damaged, verification says of a log what recovery makes of it when it scans.
#[test]
fn verification_and_recovery_agree_on_holes_and_ends_under_damage() {
    let mut agreed = 0;
    for seed in 0..240 {
        let mut prng = Prng::new(seed);
        // Stopped cleanly, killed with marks that lag or do not, and with all marks lost.
        let mut world = match seed % 4 {
            0 => stopped(),
            _ => written(),
        };
        if seed % 4 == 2 {
            world.pass_ms(10_000);
            world.settle();
        }
        world.disk.crash(Keep::All);
        if seed % 4 == 3 {
            world.disk.remove("marks").expect("removed");
        }
        for path in files(&world, ".index") {
            world.disk.remove(&path).expect("removed");
        }
        world.disk.remove("checkpoint").expect("removed");
        for _ in 0..1 + prng.below(3) {
            let segments = files(&world, ".log");
            let path = segments[prng.below(segments.len() as u64) as usize].clone();
            match prng.below(8) {
                0 if segments.len() > 1 => world.disk.remove(&path).expect("removed"),
                1 => world.disk.damage(&path, |bytes| {
                    let blocks = 1 + prng.below(bytes.len() as u64 / BLOCK as u64) as usize;
                    bytes.truncate(blocks * BLOCK);
                }),
                2 => world.disk.damage(&path, |bytes| {
                    let from = prng.below(bytes.len() as u64) as usize;
                    let to = (from + prng.below(9000) as usize).min(bytes.len());
                    bytes[from..to].fill(0);
                }),
                _ => world.disk.damage(&path, |bytes| {
                    let place = prng.below(bytes.len() as u64) as usize;
                    bytes[place] ^= 1 << prng.below(8);
                }),
            }
        }
        let (found, verdicts) = verify(&world.disk);
        let image = world.restart(test_config(), Keep::All);
        let Ok((_, report)) = world.recover(&image, spec(0, 0, small_segments())) else {
            assert!(!found.damages().is_empty(), "seed {seed}");
            continue;
        };
        let verdict = &verdicts[0];
        assert_eq!(
            verdict.holes, report.holes,
            "seed {seed}: {:#?}",
            found.findings
        );
        assert_eq!(
            verdict.end, report.end,
            "seed {seed}: {:#?}",
            found.findings
        );
        assert_eq!(verdict.log_start, report.log_start, "seed {seed}");
        agreed += usize::from(!report.holes.is_empty());
    }
    assert!(agreed > 60, "only {agreed} had holes");
}

#[test]
fn a_lone_directory_of_segments_is_judged_without_marks() {
    let world = stopped();
    let place = PartitionPlace {
        directory: directory(0),
        topic: String::new(),
        key: None,
    };
    let mut found = Found::default();
    let facts = Default::default();
    let verdict = verify_partition(&world.disk, &place, &facts, &mut found);
    assert_eq!(found.findings, []);
    assert_eq!(
        (verdict.end, verdict.durable),
        (Offset(2 * BATCHES as i64), None)
    );
}
