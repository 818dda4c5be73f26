//! Block-aligned memory for direct I/O, shared without locks inside one core, and the pool it
//! comes from.
//!
//! An [`AlignedBuffer`] is append-only: bytes below `filled` never change while anyone but the
//! pool holds the buffer, so slices of them may be read by the kernel (a disk write, a socket
//! send) while later bytes are being appended. The pool reuses a buffer only when nobody else
//! holds it. This file has the only `unsafe` outside the reactor.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::fmt;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use memmap2::MmapMut;

use crate::limits::BLOCK_BYTES;

/// Buffers of this size and more are mapped, not allocated: the kernel gives each page, zeroed, when
/// it is first touched, while an allocator would touch all of it at once (4 MiB: some milliseconds).
const MAPPED_BYTES_MIN: usize = 128 * 1024;

/// Fixed-capacity memory aligned to [`BLOCK_BYTES`], filled from the front.
///
/// Always fully initialised: fresh memory is zeroed, so no read of it is ever undefined.
pub struct AlignedBuffer {
    /// What a large buffer's memory belongs to; a small one's is allocated.
    mapping: Option<MmapMut>,
    memory: NonNull<u8>,
    capacity: usize,
    filled: Cell<usize>,
}

impl AlignedBuffer {
    /// Allocates `capacity` bytes, rounded up to whole blocks. Aborts when memory is exhausted.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> AlignedBuffer {
        let capacity = capacity.max(1).next_multiple_of(BLOCK_BYTES);
        let mut mapping = match capacity {
            MAPPED_BYTES_MIN.. => MmapMut::map_anon(capacity).ok(),
            _ => None,
        };
        let memory = match &mut mapping {
            Some(mapping) => mapping.as_mut_ptr(),
            // SAFETY: the layout has a non-zero size. Covered by `append_and_slice`.
            None => unsafe { alloc_zeroed(layout(capacity)) },
        };
        let Some(memory) = NonNull::new(memory) else {
            handle_alloc_error(layout(capacity))
        };
        AlignedBuffer {
            mapping,
            memory,
            capacity,
            filled: Cell::new(0),
        }
    }

    /// Bytes it can hold; a multiple of [`BLOCK_BYTES`].
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes in use from the front.
    #[must_use]
    pub fn filled(&self) -> usize {
        self.filled.get()
    }

    /// Bytes that can still be appended.
    #[must_use]
    pub fn room(&self) -> usize {
        self.capacity - self.filled.get()
    }

    /// The start of the memory, for the kernel. Writing through it is the reactor's business:
    /// only beyond `filled`, and only for a read operation this buffer was submitted with.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.memory.as_ptr()
    }

    /// The filled bytes `start..start + len`. Panics when they are not filled.
    #[must_use]
    pub fn slice(&self, start: usize, len: usize) -> &[u8] {
        let end = start.checked_add(len).expect("slice end fits usize");
        assert!(
            end <= self.filled.get(),
            "slice {start}+{len} exceeds {}",
            self.filled.get()
        );
        // SAFETY: in bounds and initialised; bytes below `filled` are never written again while
        // the buffer is shared. Covered by `append_and_slice`.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(start), len) }
    }

    /// Appends `len` bytes written by `fill` and returns where they start. `fill` sees whatever the
    /// memory held before. Panics when there is no room: the caller checked.
    pub fn append_with(&self, len: usize, fill: impl FnOnce(&mut [u8])) -> usize {
        let start = self.filled.get();
        assert!(
            len <= self.room(),
            "append of {len} bytes into room for {}",
            self.room()
        );
        // SAFETY: the range lies beyond `filled`, so no slice handed out overlaps it, and `fill`
        // cannot reach this buffer's `append_with` again with the same range because `filled` is
        // advanced before it runs. Covered by `append_and_slice`.
        let fresh = unsafe {
            self.filled.set(start + len);
            std::slice::from_raw_parts_mut(self.memory.as_ptr().add(start), len)
        };
        fill(fresh);
        start
    }

    /// Appends a copy of `bytes` and returns where they start.
    pub fn append(&self, bytes: &[u8]) -> usize {
        self.append_with(bytes.len(), |fresh| fresh.copy_from_slice(bytes))
    }

    /// Zeroes the rest of the last, partly filled block, so that a whole-block write carries no
    /// stale bytes. Returns the end of that block.
    pub fn zero_block_rest(&self) -> usize {
        let filled = self.filled.get();
        let end = filled.next_multiple_of(BLOCK_BYTES);
        // SAFETY: within capacity (a multiple of the block size) and beyond `filled`.
        unsafe { std::ptr::write_bytes(self.memory.as_ptr().add(filled), 0, end - filled) };
        end
    }

    /// Declares the first `len` bytes filled, after the kernel read into them.
    pub fn set_filled(&self, len: usize) {
        assert!(
            len <= self.capacity,
            "{len} bytes in a buffer of {}",
            self.capacity
        );
        self.filled.set(len);
    }

    /// Makes the buffer empty again; only its sole owner can.
    pub fn reset(&mut self) {
        self.filled.set(0);
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        if self.mapping.is_none() {
            // SAFETY: allocated in `with_capacity` with this very layout, freed once.
            unsafe { dealloc(self.memory.as_ptr(), layout(self.capacity)) };
        }
    }
}

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, BLOCK_BYTES).expect("capacity fits the address space")
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuffer({}/{})", self.filled.get(), self.capacity)
    }
}

/// A range of filled bytes that keeps its buffer alive; cheap to clone within one core.
#[derive(Clone, Debug)]
pub struct BufferSlice {
    buffer: Rc<AlignedBuffer>,
    start: usize,
    len: usize,
}

impl BufferSlice {
    /// The filled range `start..start + len` of `buffer`. Panics when it is not filled.
    #[must_use]
    pub fn new(buffer: Rc<AlignedBuffer>, start: usize, len: usize) -> BufferSlice {
        let _ = buffer.slice(start, len);
        BufferSlice { buffer, start, len }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.slice(self.start, self.len)
    }

    /// Their number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A range of immutable bytes that may cross cores.
#[derive(Clone, Debug)]
pub struct SharedSlice {
    bytes: Arc<Vec<u8>>,
    start: usize,
    len: usize,
}

impl SharedSlice {
    /// The range `start..start + len` of `bytes`. Panics when it lies outside.
    #[must_use]
    pub fn new(bytes: Arc<Vec<u8>>, start: usize, len: usize) -> SharedSlice {
        assert!(start.checked_add(len).is_some_and(|end| end <= bytes.len()));
        SharedSlice { bytes, start, len }
    }

    /// A part of this slice, sharing the same memory. Panics when it lies outside.
    #[must_use]
    pub fn slice(&self, start: usize, len: usize) -> SharedSlice {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len));
        SharedSlice {
            bytes: Arc::clone(&self.bytes),
            start: self.start + start,
            len,
        }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    /// Their number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl From<Vec<u8>> for SharedSlice {
    fn from(bytes: Vec<u8>) -> SharedSlice {
        let len = bytes.len();
        SharedSlice {
            bytes: Arc::new(bytes),
            start: 0,
            len,
        }
    }
}

/// Smallest size class of the pool.
pub const POOL_CLASS_BYTES_MIN: usize = 16 * 1024;
const POOL_CLASSES: usize = 16;

/// Buffers of one core in power-of-two size classes, bounded by `bytes_max` in total.
///
/// A buffer given back while the kernel or a socket still holds it waits in `retired` and is
/// reused once its last other holder is gone.
#[derive(Debug)]
pub struct BufferPool {
    free: [Vec<Rc<AlignedBuffer>>; POOL_CLASSES],
    retired: Vec<Rc<AlignedBuffer>>,
    bytes_allocated: usize,
    bytes_max: usize,
}

impl BufferPool {
    /// A pool that allocates on demand up to `bytes_max`.
    #[must_use]
    pub fn new(bytes_max: usize) -> BufferPool {
        BufferPool {
            free: Default::default(),
            retired: Vec::new(),
            bytes_allocated: 0,
            bytes_max,
        }
    }

    fn class_of(capacity: usize) -> usize {
        let rounded = capacity.max(POOL_CLASS_BYTES_MIN).next_power_of_two();
        (rounded / POOL_CLASS_BYTES_MIN).trailing_zeros() as usize
    }

    /// An empty buffer of at least `capacity` bytes, or `None` when the bound is reached (or the
    /// capacity exceeds the largest class, 512 MiB): the caller evicts and asks again.
    pub fn take(&mut self, capacity: usize) -> Option<Rc<AlignedBuffer>> {
        let class = Self::class_of(capacity);
        if class >= POOL_CLASSES {
            return None;
        }
        if self.free[class].is_empty() {
            self.reclaim();
        }
        if let Some(buffer) = self.free[class].pop() {
            return Some(buffer);
        }
        let bytes = POOL_CLASS_BYTES_MIN << class;
        if self.bytes_allocated + bytes > self.bytes_max {
            self.release_free(self.bytes_allocated + bytes - self.bytes_max);
        }
        if self.bytes_allocated + bytes > self.bytes_max {
            return None;
        }
        self.bytes_allocated += bytes;
        Some(Rc::new(AlignedBuffer::with_capacity(bytes)))
    }

    /// Returns a buffer for reuse as soon as nobody else holds it.
    pub fn give_back(&mut self, mut buffer: Rc<AlignedBuffer>) {
        match Rc::get_mut(&mut buffer) {
            Some(sole) => {
                sole.reset();
                self.free[Self::class_of(buffer.capacity())].push(buffer);
            }
            None => self.retired.push(buffer),
        }
    }

    /// Bytes handed out or kept for reuse.
    #[must_use]
    pub fn bytes_allocated(&self) -> usize {
        self.bytes_allocated
    }

    fn reclaim(&mut self) {
        let mut at = 0;
        while at < self.retired.len() {
            if let Some(sole) = Rc::get_mut(&mut self.retired[at]) {
                sole.reset();
                let buffer = self.retired.swap_remove(at);
                self.free[Self::class_of(buffer.capacity())].push(buffer);
            } else {
                at += 1;
            }
        }
    }

    /// Frees kept buffers until `bytes` are released or none is left.
    fn release_free(&mut self, bytes: usize) {
        let mut released = 0;
        for class in self.free.iter_mut().rev() {
            while released < bytes {
                let Some(buffer) = class.pop() else { break };
                released += buffer.capacity();
            }
        }
        self.bytes_allocated -= released;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn append_and_slice() {
        let buffer = AlignedBuffer::with_capacity(5000);
        assert_eq!(buffer.capacity(), 8192);
        assert_eq!(buffer.as_ptr() as usize % BLOCK_BYTES, 0);
        let start = buffer.append(b"hello");
        let early = buffer.slice(start, 5);
        buffer.append_with(3, |fresh| fresh.copy_from_slice(b"abc"));
        assert_eq!(early, b"hello");
        assert_eq!(buffer.slice(5, 3), b"abc");
        assert_eq!(buffer.zero_block_rest(), BLOCK_BYTES);
        assert_eq!(buffer.filled(), 8);
    }

    #[test]
    #[should_panic(expected = "exceeds")]
    fn unfilled_bytes_are_out_of_reach() {
        let buffer = AlignedBuffer::with_capacity(1);
        let _ = buffer.slice(0, 1);
    }

    #[test]
    fn pool_is_bounded_and_reuses_only_what_nobody_holds() {
        let mut pool = BufferPool::new(2 * POOL_CLASS_BYTES_MIN);
        let first = pool.take(100).expect("room");
        let second = pool.take(100).expect("room");
        assert!(pool.take(100).is_none(), "the bound holds");
        first.append(b"x");
        let reader = BufferSlice::new(Rc::clone(&first), 0, 1);
        pool.give_back(first);
        assert!(
            pool.take(100).is_none(),
            "a reader still holds the only returned buffer"
        );
        assert_eq!(reader.bytes(), b"x");
        drop(reader);
        let again = pool.take(100).expect("reader gone");
        assert_eq!(again.filled(), 0);
        pool.give_back(again);
        pool.give_back(second);
        let larger = pool
            .take(2 * POOL_CLASS_BYTES_MIN)
            .expect("kept buffers make way");
        assert_eq!(larger.capacity(), 2 * POOL_CLASS_BYTES_MIN);
    }
}
