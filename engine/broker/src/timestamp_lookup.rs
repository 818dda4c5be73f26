//! Finds the record a timestamp look-up means among the bytes of a few batches.
//!
//! The index names the neighbourhood; the exact record takes a walk through the batch, which may
//! have to be decompressed. Bounded: a batch never unpacks beyond [`UNPACKED_BYTES_MAX`].

use highwater_base::record_batch::{ATTRIBUTE_LOG_APPEND_TIME, HEADER_BYTES};
use highwater_base::{BatchHeader, Offset, Timestamp};
use highwater_wire::compression::{Codec, decompress};
use highwater_wire::records::RecordIterator;

/// Largest size a batch may unpack to in a look-up.
const UNPACKED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The first record with this timestamp or a later one.
    AtOrAfter(Timestamp),
    /// The first record with the largest timestamp.
    Largest,
}

/// The record found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub offset: i64,
    pub timestamp: Timestamp,
    pub leader_epoch: i32,
}

/// Searches whole batches in `bytes` for the record, within `log_start..high_watermark`.
#[must_use]
pub fn search(
    mut bytes: &[u8],
    wanted: Wanted,
    log_start: Offset,
    high_watermark: Offset,
) -> Option<Found> {
    let mut best: Option<Found> = None;
    while let Ok(header) = BatchHeader::parse(bytes) {
        let Some(batch) = bytes.get(..header.total_bytes()) else {
            break;
        };
        bytes = &bytes[header.total_bytes()..];
        if header.base_offset >= high_watermark.0 {
            break;
        }
        if header.last_offset() < log_start {
            continue;
        }
        match wanted {
            Wanted::AtOrAfter(timestamp) if header.max_timestamp < timestamp => {}
            Wanted::AtOrAfter(timestamp) => {
                let found = within(&header, batch, |at| at >= timestamp, log_start);
                if found.is_some() {
                    return found;
                }
            }
            Wanted::Largest if best.is_some_and(|best| best.timestamp >= header.max_timestamp) => {}
            Wanted::Largest => {
                best = within(&header, batch, |at| at >= header.max_timestamp, log_start).or(best);
            }
        }
    }
    best
}

fn within(
    header: &BatchHeader,
    batch: &[u8],
    matches: impl Fn(Timestamp) -> bool,
    log_start: Offset,
) -> Option<Found> {
    let leader_epoch = header.partition_leader_epoch;
    if header.attributes & ATTRIBUTE_LOG_APPEND_TIME != 0 {
        let offset = header.base_offset.max(log_start.0);
        return Some(Found {
            offset,
            timestamp: header.max_timestamp,
            leader_epoch,
        });
    }
    let body = batch.get(HEADER_BYTES..)?;
    let unpacked;
    let records = match Codec::from_attributes(header.attributes)? {
        Codec::None => body,
        codec => {
            unpacked = decompress(codec, body, UNPACKED_BYTES_MAX).ok()?;
            &unpacked
        }
    };
    RecordIterator::new(header, records)
        .map_while(Result::ok)
        .find_map(|record| {
            let fits = record.offset >= log_start.0 && matches(record.timestamp);
            fits.then_some(Found {
                offset: record.offset,
                timestamp: record.timestamp,
                leader_epoch,
            })
        })
}
