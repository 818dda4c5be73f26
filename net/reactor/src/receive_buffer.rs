//! A connection's receive buffer: the kernel appends to it, frames are read from its front, and parts
//! of it can outlive it as shared slices.

use std::cell::Cell;
use std::sync::Arc;

use monoio::buf::IoBufMut;

/// Small frames in a row after which a buffer that grew for a large one shrinks again.
const SHRINK_AFTER_FRAMES: u32 = 64;
/// What a connection starts with: enough for what most ask, and little where thousands ask nothing.
const QUIET_BYTES: usize = 2048;

/// Bytes received and not yet taken: `start..end` of a fully initialised vector.
#[derive(Debug)]
pub(crate) struct ReceiveBuffer {
    bytes: Arc<Vec<u8>>,
    start: usize,
    end: usize,
    /// Its size while frames are small.
    base_bytes: usize,
    /// The base of a connection that was once sent more at a time than it had room for.
    busy_bytes: usize,
    small_frames: u32,
    /// The core is short of memory for large frames: a buffer without use is let go.
    let_go: bool,
    /// A frame of this buffer was shared: its memory must not be written again.
    shared: Cell<bool>,
}

/// What is at the front of the buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Front {
    /// A whole frame of this many bytes behind its length prefix.
    Frame(usize),
    /// More bytes are needed.
    Incomplete,
    /// A length that is not allowed.
    Refused(i32),
}

impl ReceiveBuffer {
    /// `busy_bytes` is its size where many small frames come at a time.
    pub fn new(busy_bytes: usize) -> ReceiveBuffer {
        let base_bytes = busy_bytes.min(QUIET_BYTES);
        ReceiveBuffer {
            bytes: Arc::new(vec![0; base_bytes]),
            start: 0,
            end: 0,
            base_bytes,
            busy_bytes,
            small_frames: 0,
            let_go: false,
            shared: Cell::new(false),
        }
    }

    /// A buffer that already holds bytes.
    pub fn with_unread(busy_bytes: usize, unread: &[u8]) -> ReceiveBuffer {
        let mut buffer = ReceiveBuffer::new(busy_bytes);
        if unread.len() > buffer.base_bytes {
            buffer.bytes = Arc::new(vec![0; unread.len()]);
        }
        if let Some(bytes) = Arc::get_mut(&mut buffer.bytes) {
            bytes[..unread.len()].copy_from_slice(unread);
            buffer.end = unread.len();
        }
        buffer
    }

    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub fn front(&self, frame_bytes_max: usize) -> Front {
        let Some(prefix) = self.unread().first_chunk::<4>() else {
            return Front::Incomplete;
        };
        let length = i32::from_be_bytes(*prefix);
        match usize::try_from(length) {
            Ok(frame) if frame <= frame_bytes_max => {
                if self.unread().len() >= 4 + frame {
                    Front::Frame(frame)
                } else {
                    Front::Incomplete
                }
            }
            _ => Front::Refused(length),
        }
    }

    /// The vector, where the front frame starts in it, and the flag that says it was shared.
    pub fn frame_parts(&self) -> (&Arc<Vec<u8>>, usize, &Cell<bool>) {
        (&self.bytes, self.start + 4, &self.shared)
    }

    /// Drops the front frame.
    pub fn consume(&mut self, frame: usize) {
        self.start += 4 + frame;
        if frame + 4 <= self.busy_bytes {
            self.small_frames = self.small_frames.saturating_add(1);
        } else {
            self.small_frames = 0;
        }
    }

    /// How much larger than that of a busy connection the buffer will be after
    /// [`ReceiveBuffer::reserve`]. Where memory `is_scarce`, one without use is let go then.
    pub fn large_bytes_needed(&mut self, is_scarce: bool) -> usize {
        let wanted = self.wanted();
        self.let_go = is_scarce && wanted < self.bytes.len() && self.start == self.end;
        let after = match self.let_go || self.shrinks() {
            true => wanted,
            false => wanted.max(self.bytes.len()),
        };
        after.saturating_sub(self.busy_bytes)
    }

    /// Room for the front frame, or for some bytes where its length is not known.
    fn wanted(&self) -> usize {
        self.unread()
            .first_chunk::<4>()
            .map_or(self.base_bytes, |prefix| {
                let length = i32::from_be_bytes(*prefix).max(0) as usize;
                (4 + length).max(self.base_bytes)
            })
    }

    /// Whether it grew for a large frame and has seen only small ones for long.
    fn shrinks(&self) -> bool {
        let grown = self.bytes.len() > self.busy_bytes && self.wanted() <= self.busy_bytes;
        grown && self.small_frames >= SHRINK_AFTER_FRAMES
    }

    /// Makes room for the rest of the front frame, or for some bytes where its length is not known.
    pub fn reserve(&mut self) {
        let unread = self.end - self.start;
        let wanted = self.wanted();
        if self.shared.get() && Arc::get_mut(&mut self.bytes).is_some() {
            self.shared.set(false);
        }
        let shrink = self.shrinks() || std::mem::take(&mut self.let_go);
        if self.shared.get() || wanted > self.bytes.len() || shrink {
            let mut fresh = vec![0; wanted.max(unread)];
            fresh[..unread].copy_from_slice(self.unread());
            self.bytes = Arc::new(fresh);
            (self.start, self.end) = (0, unread);
            self.shared.set(false);
        } else if unread == 0 {
            (self.start, self.end) = (0, 0);
        } else if self.start + wanted > self.bytes.len() {
            let range = self.start..self.end;
            if let Some(bytes) = Arc::get_mut(&mut self.bytes) {
                bytes.copy_within(range, 0);
                (self.start, self.end) = (0, unread);
            }
        }
        assert!(
            !self.shared.get() && self.end < self.bytes.len(),
            "room to read into"
        );
    }

    /// Counts bytes the kernel has appended.
    pub fn received(&mut self, count: usize) {
        self.end += count;
        assert!(self.end <= self.bytes.len());
        if self.end == self.bytes.len() {
            // There may be more where that came from.
            self.base_bytes = self.busy_bytes;
        }
    }
}

// SAFETY: the pointer stays valid while the value is owned by the operation, because the vector is
// never resized. `reserve` has made sure that nobody shares the memory behind `end` (a shared vector
// is replaced), so the kernel is its only writer. Covered by the tests of `reader`.
unsafe impl IoBufMut for ReceiveBuffer {
    fn write_ptr(&mut self) -> *mut u8 {
        let bytes = Arc::get_mut(&mut self.bytes).expect("reserve left the memory unshared");
        // SAFETY: `end` is within the vector.
        unsafe { bytes.as_mut_ptr().add(self.end) }
    }

    fn bytes_total(&mut self) -> usize {
        self.bytes.len() - self.end
    }

    unsafe fn set_init(&mut self, _pos: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(buffer: &mut ReceiveBuffer, bytes: &[u8]) {
        buffer.reserve();
        assert!(buffer.bytes_total() >= bytes.len());
        let end = buffer.end;
        let vector = Arc::get_mut(&mut buffer.bytes).expect("not shared");
        vector[end..end + bytes.len()].copy_from_slice(bytes);
        buffer.received(bytes.len());
    }

    #[test]
    fn frames_come_whole_grow_and_shrink() {
        let mut buffer = ReceiveBuffer::new(64);
        push(&mut buffer, &[0, 0, 0, 3, 1, 2]);
        assert_eq!(buffer.front(1000), Front::Incomplete);
        push(&mut buffer, &[3, 0, 0, 0, 200]);
        assert_eq!(buffer.front(1000), Front::Frame(3));
        buffer.consume(3);
        assert_eq!(buffer.front(100), Front::Refused(200));
        assert_eq!(buffer.front(1000), Front::Incomplete);
        push(&mut buffer, &[7; 200]);
        assert_eq!(buffer.front(1000), Front::Frame(200));
        buffer.consume(200);
        for _ in 0..SHRINK_AFTER_FRAMES {
            push(&mut buffer, &[0, 0, 0, 0]);
            assert_eq!(buffer.front(1000), Front::Frame(0));
            buffer.consume(0);
        }
        buffer.reserve();
        assert_eq!(buffer.bytes.len(), 64);
    }

    #[test]
    fn a_quiet_buffer_is_small_until_more_comes_at_a_time() {
        let mut buffer = ReceiveBuffer::new(16 * 1024);
        assert_eq!(buffer.bytes.len(), QUIET_BYTES);
        push(&mut buffer, &[0; 400]);
        (0..100).for_each(|_| buffer.consume(0));
        buffer.reserve();
        assert_eq!(buffer.bytes.len(), QUIET_BYTES);
        push(&mut buffer, &[0; QUIET_BYTES]);
        (0..QUIET_BYTES / 4).for_each(|_| buffer.consume(0));
        buffer.reserve();
        assert_eq!(buffer.bytes.len(), 16 * 1024);
    }

    #[test]
    fn a_large_buffer_is_kept_unless_memory_is_scarce() {
        let mut buffer = ReceiveBuffer::new(64);
        push(&mut buffer, &[0, 0, 3, 0]);
        assert_eq!(buffer.large_bytes_needed(true), 4 + 768 - 64);
        push(&mut buffer, &[7; 768]);
        buffer.consume(768);
        assert_eq!(buffer.large_bytes_needed(false), 4 + 768 - 64);
        buffer.reserve();
        assert_eq!(buffer.bytes.len(), 4 + 768);
        assert_eq!(buffer.large_bytes_needed(true), 0);
        buffer.reserve();
        assert_eq!(buffer.bytes.len(), 64);
    }

    #[test]
    fn shared_memory_is_never_written_again() {
        let mut buffer = ReceiveBuffer::new(64);
        push(&mut buffer, &[0, 0, 0, 2, 8, 9]);
        let kept = Arc::clone(&buffer.bytes);
        buffer.shared.set(true);
        buffer.consume(2);
        push(&mut buffer, &[0, 0, 0, 2, 1, 1]);
        assert_eq!(&kept[4..6], &[8, 9]);
        assert_eq!(buffer.front(10), Front::Frame(2));
    }
}
