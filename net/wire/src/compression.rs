//! The codecs of record batches, with a bound on what a batch may unpack to.
//!
//! gzip (RFC 1952), snappy (raw, or in the framing of the xerial library that Java clients use),
//! lz4 (frame format), zstd (RFC 8878, KIP-110). Never on the broker's hot path: batches are stored
//! as sent.

use std::io::{Read, Write};

/// A codec, by its number in a batch's attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum Codec {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Codec {
    /// Every codec.
    pub const ALL: [Codec; 5] = [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];

    /// The codec a batch's attributes name, if there is one with that number.
    #[must_use]
    pub fn from_attributes(attributes: i16) -> Option<Codec> {
        Codec::ALL.get((attributes & 0x07) as usize).copied()
    }

    /// How many bytes one packed byte can become at most, whatever the data: what its format allows.
    #[must_use]
    pub fn expansion_max(self) -> u64 {
        match self {
            Codec::None => 1,
            // 258 bytes from two bits: the longest match with one-bit codes (RFC 1951).
            Codec::Gzip => 1032,
            // 64 bytes from three: a copy with a two-byte offset.
            Codec::Snappy => 22,
            // 255 bytes from each byte that lengthens a match.
            Codec::Lz4 => 255,
            // 128 KiB from four bytes: a block of one repeated byte (RFC 8878).
            Codec::Zstd => 32_768,
        }
    }

    /// Its name in Kafka's `compression.type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

/// Bytes that do not unpack, or unpack to too much.
#[derive(Debug, thiserror::Error)]
pub enum CompressionError {
    /// More than the caller allows.
    #[error("{codec} data unpacks to more than the {allowed} bytes allowed")]
    TooLarge { codec: &'static str, allowed: usize },
    /// Not data of the codec.
    #[error("{codec} data is damaged: {reason}")]
    Damaged { codec: &'static str, reason: String },
}

fn damaged(codec: Codec, reason: impl ToString) -> CompressionError {
    CompressionError::Damaged {
        codec: codec.name(),
        reason: reason.to_string(),
    }
}

/// Unpacks `bytes` into at most `bytes_max` bytes.
///
/// # Errors
/// Damaged data, or more than `bytes_max`.
pub fn decompress(
    codec: Codec,
    bytes: &[u8],
    bytes_max: usize,
) -> Result<Vec<u8>, CompressionError> {
    match codec {
        Codec::None if bytes.len() > bytes_max => Err(CompressionError::TooLarge {
            codec: codec.name(),
            allowed: bytes_max,
        }),
        Codec::None => Ok(bytes.to_vec()),
        Codec::Gzip => read_bounded(codec, flate2::read::MultiGzDecoder::new(bytes), bytes_max),
        Codec::Snappy => snappy(bytes, bytes_max),
        Codec::Lz4 => read_bounded(codec, lz4_flex::frame::FrameDecoder::new(bytes), bytes_max),
        Codec::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(bytes)
                .map_err(|error| damaged(codec, error))?;
            read_bounded(codec, decoder, bytes_max)
        }
    }
}

fn read_bounded(
    codec: Codec,
    decoder: impl Read,
    bytes_max: usize,
) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    decoder
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut out)
        .map_err(|error| damaged(codec, error))?;
    if out.len() > bytes_max {
        return Err(CompressionError::TooLarge {
            codec: codec.name(),
            allowed: bytes_max,
        });
    }
    Ok(out)
}

/// Start of xerial's framing: magic, version and compatible version follow, then blocks of a 4-byte
/// length and raw snappy.
const XERIAL_MAGIC: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;

fn snappy(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    if !bytes.starts_with(XERIAL_MAGIC) {
        snappy_block(bytes, bytes_max, &mut out)?;
        return Ok(out);
    }
    let short = || damaged(Codec::Snappy, "the framing ends early");
    let mut rest = bytes.get(XERIAL_HEADER_BYTES..).ok_or_else(short)?;
    while !rest.is_empty() {
        let prefix = rest.first_chunk::<4>().ok_or_else(short)?;
        let length = u32::from_be_bytes(*prefix) as usize;
        let block = rest
            .get(4..)
            .and_then(|rest| rest.get(..length))
            .ok_or_else(short)?;
        snappy_block(block, bytes_max, &mut out)?;
        rest = &rest[4 + length..];
    }
    Ok(out)
}

fn snappy_block(block: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let length = snap::raw::decompress_len(block).map_err(|error| damaged(Codec::Snappy, error))?;
    // A block cannot expand more than about 21-fold; what claims more is not worth the memory.
    if length > bytes_max - out.len() || length > block.len().saturating_mul(64) {
        return Err(CompressionError::TooLarge {
            codec: "snappy",
            allowed: bytes_max,
        });
    }
    let start = out.len();
    out.resize(start + length, 0);
    snap::raw::Decoder::new()
        .decompress(block, &mut out[start..])
        .map(|_| ())
        .map_err(|error| damaged(Codec::Snappy, error))
}

/// Packs `bytes`.
///
/// # Errors
/// What the codec's library reports.
pub fn compress(codec: Codec, bytes: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let failed = |error: std::io::Error| damaged(codec, error);
    match codec {
        Codec::None => Ok(bytes.to_vec()),
        Codec::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).map_err(failed)?;
            encoder.finish().map_err(failed)
        }
        Codec::Snappy => {
            let mut out = XERIAL_MAGIC.to_vec();
            out.extend_from_slice(&1u32.to_be_bytes());
            out.extend_from_slice(&1u32.to_be_bytes());
            for block in bytes.chunks(XERIAL_BLOCK_BYTES) {
                let packed = snap::raw::Encoder::new()
                    .compress_vec(block)
                    .map_err(|error| damaged(codec, error))?;
                out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
                out.extend_from_slice(&packed);
            }
            Ok(out)
        }
        Codec::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(bytes).map_err(failed)?;
            encoder.finish().map_err(|error| damaged(codec, error))
        }
        Codec::Zstd => zstd::stream::encode_all(bytes, 3).map_err(failed),
    }
}
