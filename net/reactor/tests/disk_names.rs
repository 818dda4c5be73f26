//! Renaming, removing, truncating and replacing files; and what is not there is an error in a
//! completion, never a panic.

mod support;

use std::fs;
use std::rc::Rc;

use highwater_base::AlignedBuffer;
use highwater_base::disk::{DiskError, DiskOperation, FileId};
use support::disk::{BLOCK, Disk, attach, attach_to_be_renamed, check_read, create, rename, write};
use support::{ask_disk, heard, pattern};

fn remove(path: &str) -> DiskOperation {
    let path = path.to_string();
    DiskOperation::Remove { path }
}

fn truncate(file: u32, size_bytes: u64) -> DiskOperation {
    let file = FileId(file);
    DiskOperation::Truncate { file, size_bytes }
}

#[test]
fn whole_files_are_replaced() {
    let mut disk = Disk::start();
    for content in [pattern(1, 10_000), b"short".to_vec(), Vec::new()] {
        let bytes = content.clone();
        let result = disk.run(|| DiskOperation::WriteWhole {
            path: "made/on/the/way".to_string(),
            bytes,
        });
        assert_eq!(result, Ok(0));
        assert_eq!(disk.bytes("made/on/the/way"), content);
    }
    let names = fs::read_dir(disk.path("made/on/the")).expect("the directory");
    assert_eq!(names.count(), 1, "nothing is left aside");
    disk.node.stop();
}

/// What broke: a segment's second descriptor was opened by the name it had before a rename that had
/// already happened, and the process ended with "file not found".
#[test]
fn a_file_is_found_while_its_rename_is_under_way() {
    let mut disk = Disk::start();
    disk.ask(|out| ask_disk(out, 0, attach_to_be_renamed(1, "final", "prepared")));
    assert_eq!(disk.run(|| create(1, 8 * BLOCK as u64, b"content")), Ok(0));
    assert!(
        disk.path("prepared").exists(),
        "created under its former name"
    );
    let bytes = pattern(3, BLOCK);
    let (first, second) = (bytes.clone(), bytes.clone());
    let plain = disk.run(move || write(1, 0, &first, false));
    assert_eq!(plain, Ok(BLOCK), "under its former name");
    // The rename is done, and nobody has said so yet.
    fs::rename(disk.path("prepared"), disk.path("final")).expect("renamed");
    let durable = disk.run(move || write(1, BLOCK as u64, &second, true));
    assert_eq!(durable, Ok(BLOCK), "a new descriptor finds the final name");
    assert_eq!(disk.run(|| truncate(1, 2 * BLOCK as u64)), Ok(0));
    assert_eq!(disk.bytes("final"), [&bytes[..], &bytes[..]].concat());
    disk.node.stop();
}

#[test]
fn a_renamed_file_is_written_and_read_under_both_ids() {
    let mut disk = Disk::start();
    disk.attach(1, "before");
    assert_eq!(disk.run(|| create(1, 8 * BLOCK as u64, b"content")), Ok(0));
    assert_eq!(disk.run(|| rename("before", "new/place/after")), Ok(0));
    assert!(!disk.path("before").exists());
    // The open file follows its new name, and a new id finds it there.
    disk.attach(1, "new/place/after");
    disk.attach(2, "new/place/after");
    let content = pattern(2, BLOCK);
    let bytes = content.clone();
    let result = disk.run(move || write(1, BLOCK as u64, &bytes, true));
    assert_eq!(result, Ok(BLOCK));
    check_read(&mut disk, 2, BLOCK as u64, BLOCK, content);
    assert_eq!(&disk.bytes("new/place/after")[..7], b"content");
    disk.node.stop();
}

#[test]
fn directories_are_renamed_and_files_moved_into_them() {
    let mut disk = Disk::start();
    fs::create_dir(disk.path("old")).expect("a directory");
    for (name, content) in [("old/a", "a"), ("old/b", "b"), ("c", "c")] {
        fs::write(disk.path(name), content).expect("a file");
    }
    assert_eq!(disk.run(|| rename("old", "x/y/new")), Ok(0));
    assert_eq!(disk.bytes("x/y/new/a"), b"a");
    assert!(!disk.path("old").exists());
    assert_eq!(disk.run(|| rename("c", "x/y/new/c")), Ok(0));
    assert_eq!(disk.bytes("x/y/new/c"), b"c");
    disk.node.stop();
}

#[test]
fn truncating_shortens() {
    let mut disk = Disk::start();
    let content = pattern(3, 100_000);
    fs::write(disk.path("file"), &content).expect("the file is written");
    disk.attach(1, "file");
    for len in [50_000, 4096, 0] {
        assert_eq!(disk.run(move || truncate(1, len as u64)), Ok(0));
        assert!(disk.bytes("file") == content[..len]);
    }
    disk.node.stop();
}

#[test]
fn files_and_trees_are_removed_and_absence_is_success() {
    let mut disk = Disk::start();
    fs::create_dir_all(disk.path("tree/deep")).expect("directories");
    for name in ["file", "tree/one", "tree/deep/two", "kept"] {
        fs::write(disk.path(name), name).expect("a file");
    }
    for path in ["file", "tree", "tree", "never/was/there"] {
        assert_eq!(disk.run(move || remove(path)), Ok(0), "{path}");
        assert!(!disk.path(path).exists());
    }
    assert_eq!(disk.bytes("kept"), b"kept");
    disk.node.stop();
}

/// Every operation that needs the file behind an id.
fn operations_on(file: u32) -> Vec<DiskOperation> {
    let id = FileId(file);
    vec![
        write(file, 0, b"bytes", false),
        write(file, 0, b"bytes", true),
        DiskOperation::Read {
            file: id,
            offset: 0,
            len: BLOCK,
            buffer: Rc::new(AlignedBuffer::with_capacity(BLOCK)),
            aside: false,
        },
        DiskOperation::Flush { file: id },
        DiskOperation::Zero {
            file: id,
            offset: 0,
            len: BLOCK as u64,
        },
        truncate(file, 0),
    ]
}

#[test]
fn what_is_missing_is_an_error() {
    let mut disk = Disk::start();
    disk.ask(|out| {
        // Id 1 names a file that is not there; id 2 names nothing.
        ask_disk(out, 0, attach(1, "missing"));
        for file in [1, 2] {
            for operation in operations_on(file) {
                ask_disk(out, 1, operation);
            }
        }
        ask_disk(out, 1, create(2, 0, b""));
        ask_disk(out, 1, rename("missing", "elsewhere"));
        ask_disk(out, 0, DiskOperation::Detach { file: FileId(3) });
    });
    let operations = 2 * 6 + 2;
    for _ in 0..operations {
        assert_eq!(heard(&disk.ends), (1, Err(DiskError::NotFound)));
    }
    assert!(!disk.path("missing").exists());
    // The core goes on.
    assert_eq!(disk.run(|| create(1, 0, b"")), Ok(0));
    assert!(disk.path("missing").exists());
    disk.node.stop();
}

#[test]
fn a_path_through_a_file_is_an_error() {
    let mut disk = Disk::start();
    fs::write(disk.path("file"), "content").expect("a file");
    disk.attach(1, "file/below");
    for operation in [
        || create(1, 0, b""),
        || rename("file", "file/below"),
        || DiskOperation::WriteWhole {
            path: "file/below".to_string(),
            bytes: vec![1],
        },
        || write(1, 0, b"bytes", true),
    ] as [fn() -> DiskOperation; 4]
    {
        let result = disk.run(operation);
        assert!(matches!(result, Err(DiskError::Io(_))), "{result:?}");
    }
    assert_eq!(disk.bytes("file"), b"content");
    disk.node.stop();
}
