//! Page-aligned memory that the kernel may read and write while we hold it: direct I/O, registered
//! buffers and provided receive buffers all need it. Zeroed at birth, fixed in size.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Logical block size that direct I/O is aligned to here.
pub const BLOCK_BYTES: usize = 4096;

/// A fixed piece of memory aligned to [`BLOCK_BYTES`].
#[derive(Debug)]
pub struct AlignedMemory {
    start: NonNull<u8>,
    len: usize,
}

impl AlignedMemory {
    /// Allocates `len` zeroed bytes, rounded up to whole blocks.
    #[must_use]
    pub fn zeroed(len: usize) -> AlignedMemory {
        let len = len.max(1).next_multiple_of(BLOCK_BYTES);
        let layout = Self::layout(len);
        // SAFETY: the layout's size is not zero. Covered by `memory_is_aligned_and_zeroed`.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        AlignedMemory { start, len }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, BLOCK_BYTES).expect("length fits the address space")
    }

    /// Bytes it holds; a multiple of [`BLOCK_BYTES`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: there is at least one block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it starts, for handing to the kernel.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes are ours until drop; the programs here read a region
        // only after the kernel has completed the operation that wrote it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// All bytes, writable.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` excludes other references from Rust.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for AlignedMemory {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this very layout and freed once.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.len)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_zeroed() {
        let mut memory = AlignedMemory::zeroed(5000);
        assert_eq!(memory.len(), 8192);
        assert_eq!(memory.as_ptr().addr() % BLOCK_BYTES, 0);
        assert!(memory.bytes().iter().all(|byte| *byte == 0));
        memory.bytes_mut()[8191] = 7;
        assert_eq!(memory.bytes()[8191], 7);
    }
}
