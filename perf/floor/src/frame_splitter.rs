//! Cuts a byte stream into frames with a 4-byte big-endian length. Frames that arrive whole are
//! handed on where they lie; only a frame cut in two is put together in a buffer of its own.

use std::io;

const LENGTH_BYTES: usize = 4;

/// The unfinished frame of one connection.
#[derive(Debug)]
pub struct FrameSplitter {
    partial: Vec<u8>,
    frame_bytes_max: usize,
}

impl FrameSplitter {
    /// Frames beyond `frame_bytes_max` (without their length) are refused.
    #[must_use]
    pub fn new(frame_bytes_max: usize) -> FrameSplitter {
        FrameSplitter {
            partial: Vec::new(),
            frame_bytes_max,
        }
    }

    /// Takes the next bytes and calls `on_frame` with each whole frame, length not included.
    ///
    /// # Errors
    /// A length that is negative or too large, or what `on_frame` says.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        mut on_frame: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.partial.is_empty() {
                match self.frame_end(bytes)? {
                    Some(end) if end <= bytes.len() => {
                        on_frame(&bytes[LENGTH_BYTES..end])?;
                        bytes = &bytes[end..];
                        continue;
                    }
                    _ => {
                        self.partial.extend_from_slice(bytes);
                        return Ok(());
                    }
                }
            }
            let wanted = self.frame_end(&self.partial)?.unwrap_or(LENGTH_BYTES);
            let taken = (wanted - self.partial.len()).min(bytes.len());
            self.partial.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.frame_end(&self.partial)? == Some(self.partial.len()) {
                on_frame(&self.partial[LENGTH_BYTES..])?;
                self.partial.clear();
            }
        }
        Ok(())
    }

    /// Where the frame that starts at the front ends, once its length is there.
    fn frame_end(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > self.frame_bytes_max {
            return Err(io::Error::other(format!(
                "frame length is {length}; allowed is up to {}",
                self.frame_bytes_max
            )));
        }
        Ok(Some(LENGTH_BYTES + length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_every_way_of_cutting_the_stream() {
        let frames: [&[u8]; 4] = [b"one", b"", b"three and more", b"4"];
        let mut stream = Vec::new();
        for frame in frames {
            stream.extend_from_slice(&(frame.len() as u32).to_be_bytes());
            stream.extend_from_slice(frame);
        }
        for piece in 1..=stream.len() {
            let mut splitter = FrameSplitter::new(64);
            let mut seen: Vec<Vec<u8>> = Vec::new();
            for bytes in stream.chunks(piece) {
                splitter
                    .feed(bytes, |frame| {
                        seen.push(frame.to_vec());
                        Ok(())
                    })
                    .unwrap();
            }
            assert_eq!(seen, frames, "pieces of {piece}");
        }
    }

    #[test]
    fn refuses_a_frame_that_is_too_long() {
        let error = FrameSplitter::new(16)
            .feed(&17u32.to_be_bytes(), |_| Ok(()))
            .unwrap_err();
        assert_eq!(error.to_string(), "frame length is 17; allowed is up to 16");
    }
}
