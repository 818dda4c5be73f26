//! The yardsticks' own protocol: as little as a durable append and a read can carry.
//!
//! ```text
//! append    length u32 | correlation u32 | crc32c u32 | payload
//! answer    length u32 | correlation u32 | error u32  | end u64 | 12 zero bytes      (32 bytes)
//! read      length u32 | offset u64      | bytes u32                                 (16 bytes)
//! piece     length u32 | bytes of the file
//! ```
//! All numbers are big-endian, as Kafka's are; a length does not count itself.

use std::io;

/// Bytes of an answer on the wire.
pub const ANSWER_BYTES: usize = 32;
/// Bytes of a read request on the wire.
pub const READ_BYTES: usize = 16;
/// Where the correlation number of an append lies on the wire.
pub const CORRELATION_AT: usize = 4;
/// Error numbers of an answer.
pub const ERROR_NONE: u32 = 0;
/// The payload does not match its checksum.
pub const ERROR_CRC: u32 = 1;

/// CRC32C (Castagnoli), as Kafka's record batches use it.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// A whole append frame with `payload`; the correlation number is zero until patched.
#[must_use]
pub fn append_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(12 + payload.len());
    frame.extend_from_slice(&(payload.len() as u32 + 8).to_be_bytes());
    frame.extend_from_slice(&0u32.to_be_bytes());
    frame.extend_from_slice(&crc32c(payload).to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// An append request, borrowed from its frame (without length).
#[derive(Debug, PartialEq, Eq)]
pub struct Append<'a> {
    pub correlation: u32,
    pub crc32c: u32,
    pub payload: &'a [u8],
}

impl<'a> Append<'a> {
    /// Reads a frame; `None` when it is too short.
    #[must_use]
    pub fn parse(frame: &'a [u8]) -> Option<Append<'a>> {
        let (correlation, rest) = frame.split_first_chunk::<4>()?;
        let (crc32c, payload) = rest.split_first_chunk::<4>()?;
        Some(Append {
            correlation: u32::from_be_bytes(*correlation),
            crc32c: u32::from_be_bytes(*crc32c),
            payload,
        })
    }
}

/// An answer on the wire.
#[must_use]
pub fn answer(correlation: u32, error: u32, end: u64) -> [u8; ANSWER_BYTES] {
    let mut bytes = [0; ANSWER_BYTES];
    bytes[..4].copy_from_slice(&(ANSWER_BYTES as u32 - 4).to_be_bytes());
    bytes[4..8].copy_from_slice(&correlation.to_be_bytes());
    bytes[8..12].copy_from_slice(&error.to_be_bytes());
    bytes[12..20].copy_from_slice(&end.to_be_bytes());
    bytes
}

/// Checks an answer's frame (without length) and gives its correlation number.
///
/// # Errors
/// A frame of the wrong size or an error number.
pub fn check_answer(frame: &[u8]) -> io::Result<u32> {
    let correlation = frame.first_chunk::<4>();
    let error = frame.get(4..8).and_then(|bytes| bytes.first_chunk::<4>());
    match (correlation, error) {
        (Some(correlation), Some(error)) if frame.len() == ANSWER_BYTES - 4 => {
            let error = u32::from_be_bytes(*error);
            if error == ERROR_NONE {
                return Ok(u32::from_be_bytes(*correlation));
            }
            Err(io::Error::other(format!(
                "the server answered error {error}"
            )))
        }
        _ => Err(io::Error::other(format!(
            "answer of {} bytes; allowed is 28",
            frame.len()
        ))),
    }
}

/// A read request on the wire.
#[must_use]
pub fn read_frame(offset: u64, bytes: u32) -> [u8; READ_BYTES] {
    let mut frame = [0; READ_BYTES];
    frame[..4].copy_from_slice(&(READ_BYTES as u32 - 4).to_be_bytes());
    frame[4..12].copy_from_slice(&offset.to_be_bytes());
    frame[12..].copy_from_slice(&bytes.to_be_bytes());
    frame
}

/// Offset and bytes of a read request; `None` when its length is wrong.
#[must_use]
pub fn parse_read(frame: &[u8; READ_BYTES]) -> Option<(u64, u32)> {
    let (length, rest) = frame.split_first_chunk::<4>()?;
    let (offset, bytes) = rest.split_first_chunk::<8>()?;
    let bytes = bytes.first_chunk::<4>()?;
    (u32::from_be_bytes(*length) == READ_BYTES as u32 - 4)
        .then(|| (u64::from_be_bytes(*offset), u32::from_be_bytes(*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_has_its_published_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn an_append_comes_back_as_it_was() {
        let frame = append_frame(b"payload");
        let append = Append::parse(&frame[4..]).unwrap();
        assert_eq!(append.payload, b"payload");
        assert_eq!(append.crc32c, crc32c(b"payload"));
        assert_eq!(Append::parse(&frame[4..8]), None);
    }

    #[test]
    fn an_answer_with_an_error_is_an_error() {
        assert_eq!(check_answer(&answer(7, ERROR_NONE, 9)[4..]).unwrap(), 7);
        assert!(check_answer(&answer(7, ERROR_CRC, 9)[4..]).is_err());
        assert!(check_answer(&[0; 8]).is_err());
    }

    #[test]
    fn a_read_comes_back_as_it_was() {
        assert_eq!(parse_read(&read_frame(1 << 40, 5)), Some((1 << 40, 5)));
        assert_eq!(parse_read(&[0; READ_BYTES]), None);
    }
}
