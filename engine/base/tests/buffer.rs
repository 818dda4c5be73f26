//! What the kernel says of a buffer's memory.

use std::fs::File;
use std::os::unix::fs::FileExt;

use highwater_base::AlignedBuffer;
use highwater_base::limits::BLOCK_BYTES;

/// How many pages of the buffer have memory: bit 63 of each page's word in `/proc/self/pagemap`
/// (proc_pid_pagemap(5)).
fn resident_pages(buffer: &AlignedBuffer) -> usize {
    let pagemap = File::open("/proc/self/pagemap").expect("the kernel tells");
    let first_page = buffer.as_ptr() as usize / BLOCK_BYTES;
    let mut words = vec![0; 8 * buffer.capacity() / BLOCK_BYTES];
    let read = pagemap.read_exact_at(&mut words, 8 * first_page as u64);
    read.expect("a word for each page");
    let last_bytes = words.iter().skip(7).step_by(8);
    last_bytes.filter(|byte| **byte & 0x80 != 0).count()
}

/// A log's window of 4 MiB stopped its core for 4 ms: every page was touched to zero it.
#[test]
fn a_large_buffer_takes_memory_as_it_fills() {
    let buffer = AlignedBuffer::with_capacity(4 << 20);
    assert_eq!(buffer.as_ptr() as usize % BLOCK_BYTES, 0);
    assert_eq!(resident_pages(&buffer), 0);
    buffer.append_with(2 * BLOCK_BYTES, |fresh| {
        assert!(fresh.iter().all(|byte| *byte == 0));
        fresh.fill(7);
    });
    assert_eq!(buffer.slice(2 * BLOCK_BYTES - 2, 2), [7, 7]);
    assert_eq!(resident_pages(&buffer), 2);
}
