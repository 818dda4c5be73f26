//! Creating, writing, zeroing, reading and flushing: the bytes are on disk and the results say so.

mod support;

use std::fs;

use highwater_base::disk::{DiskError, DiskOperation, FileId};
use support::disk::{BLOCK, Disk, buffer_of, check_read, create, write};
use support::{ask_disk, heard, pattern};

#[test]
fn create_reserves_and_writes() {
    let mut disk = Disk::start();
    disk.attach(1, "new/deep/file");
    let first = pattern(1, 5000);
    let content = first.clone();
    let result = disk.run(move || create(1, 1 << 20, &content));
    assert_eq!(result, Ok(0));
    let mut wanted = first;
    wanted.resize(1 << 20, 0);
    assert!(disk.bytes("new/deep/file") == wanted);
    // Smaller than a block, and without a first one.
    disk.attach(2, "new/short");
    assert_eq!(disk.run(|| create(2, 100, b"short")), Ok(0));
    assert_eq!(disk.bytes("new/short"), [&b"short"[..], &[0; 95]].concat());
    disk.attach(3, "new/empty");
    assert_eq!(disk.run(|| create(3, 0, b"")), Ok(0));
    assert_eq!(disk.bytes("new/empty"), b"");
    disk.node.stop();
}

#[test]
fn writes_with_and_without_barrier_are_on_disk() {
    let mut disk = Disk::start();
    disk.attach(1, "file");
    assert_eq!(disk.run(|| create(1, 1 << 20, b"first")), Ok(0));
    let content = pattern(2, 10_000);
    for (offset, durable) in [(BLOCK, false), (16 * BLOCK, true)] {
        let bytes = content.clone();
        let result = disk.run(move || write(1, offset as u64, &bytes, durable));
        // Whole blocks: the padding of the last one is counted.
        assert_eq!(result, Ok(3 * BLOCK));
        let found = disk.bytes("file");
        assert!(found[offset..offset + content.len()] == content);
        let padding = &found[offset + content.len()..offset + 3 * BLOCK];
        assert!(padding.iter().all(|byte| *byte == 0));
        assert_eq!(&found[..5], b"first");
    }
    let flush = || DiskOperation::Flush { file: FileId(1) };
    assert_eq!(disk.run(flush), Ok(0));
    disk.node.stop();
}

#[test]
fn a_write_takes_its_part_of_a_buffer() {
    let mut disk = Disk::start();
    disk.attach(1, "file");
    assert_eq!(disk.run(|| create(1, 4 * BLOCK as u64, b"")), Ok(0));
    let content = pattern(3, 3 * BLOCK);
    let bytes = content.clone();
    let result = disk.run(move || DiskOperation::Write {
        file: FileId(1),
        offset: BLOCK as u64,
        buffer: buffer_of(&bytes),
        start: 2 * BLOCK,
        len: BLOCK,
        durable: true,
    });
    assert_eq!(result, Ok(BLOCK));
    let mut wanted = vec![0; 4 * BLOCK];
    wanted[BLOCK..2 * BLOCK].copy_from_slice(&content[2 * BLOCK..]);
    assert!(disk.bytes("file") == wanted);
    disk.node.stop();
}

#[test]
fn many_writes_at_once_all_end() {
    const WRITES: u64 = 500;
    let mut disk = Disk::start();
    disk.attach(1, "file");
    let size_bytes = WRITES * BLOCK as u64;
    assert_eq!(disk.run(move || create(1, size_bytes, b"")), Ok(0));
    disk.ask(|out| {
        for number in 0..WRITES {
            let operation = write(
                1,
                number * BLOCK as u64,
                &pattern(number, BLOCK),
                number % 50 == 0,
            );
            ask_disk(out, number, operation);
        }
    });
    let mut ended: Vec<u64> = (0..WRITES)
        .map(|_| {
            let (token, result) = heard(&disk.ends);
            assert_eq!(result, Ok(BLOCK));
            token
        })
        .collect();
    ended.sort_unstable();
    assert_eq!(ended, (0..WRITES).collect::<Vec<_>>());
    let wanted: Vec<u8> = (0..WRITES)
        .flat_map(|number| pattern(number, BLOCK))
        .collect();
    assert!(disk.bytes("file") == wanted);
    disk.node.stop();
}

#[test]
fn reads_give_what_is_there() {
    let mut disk = Disk::start();
    let content = pattern(4, 100_000);
    fs::write(disk.path("file"), &content).expect("the file is written");
    disk.attach(1, "file");
    check_read(&mut disk, 1, 0, 8 * BLOCK, content[..8 * BLOCK].to_vec());
    let tail = content[20 * BLOCK..].to_vec();
    check_read(&mut disk, 1, 20 * BLOCK as u64, 16 * BLOCK, tail);
    check_read(&mut disk, 1, 100 * BLOCK as u64, BLOCK, Vec::new());
    disk.node.stop();
}

#[test]
fn an_id_is_forgotten_only_when_its_operations_are_done() {
    let mut disk = Disk::start();
    disk.attach(1, "file");
    assert_eq!(disk.run(|| create(1, 4 * BLOCK as u64, b"")), Ok(0));
    disk.ask(|out| {
        ask_disk(out, 1, write(1, 0, &pattern(6, BLOCK), true));
        ask_disk(out, 2, DiskOperation::Flush { file: FileId(1) });
        ask_disk(out, 0, DiskOperation::Detach { file: FileId(1) });
    });
    let mut ends = [heard(&disk.ends), heard(&disk.ends)];
    ends.sort_unstable_by_key(|(token, _)| *token);
    assert_eq!(ends, [(1, Ok(BLOCK)), (2, Ok(0))]);
    assert!(disk.bytes("file")[..BLOCK] == pattern(6, BLOCK));
    let result = disk.run(|| write(1, 0, b"late", false));
    assert_eq!(result, Err(DiskError::NotFound));
    disk.node.stop();
}

#[test]
fn zeroing_covers_its_range_only() {
    let mut disk = Disk::start();
    let content = pattern(7, 3 << 20);
    fs::write(disk.path("file"), &content).expect("the file is written");
    disk.attach(1, "file");
    let (start, len) = (4 * BLOCK, (2 << 20) + BLOCK);
    let result = disk.run(move || DiskOperation::Zero {
        file: FileId(1),
        offset: start as u64,
        len: len as u64,
    });
    assert_eq!(result, Ok(0));
    let mut wanted = content;
    wanted[start..start + len].fill(0);
    assert!(disk.bytes("file") == wanted);
    disk.node.stop();
}
