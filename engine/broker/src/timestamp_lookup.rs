//! Finds the record a timestamp look-up means among the bytes of a few batches.
//!
//! The index names the neighbourhood; the exact record takes a walk through the batch, which may
//! have to be decompressed. Bounded: a batch never unpacks beyond [`UNPACKED_BYTES_MAX`].

use highwater_base::record_batch::{ATTRIBUTE_LOG_APPEND_TIME, HEADER_BYTES};
use highwater_base::{BatchHeader, Offset, Timestamp};
use highwater_store::Hole;
use highwater_wire::compression::{Codec, decompress};
use highwater_wire::records::RecordIterator;

/// Largest size a batch may unpack to in a look-up.
const UNPACKED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The first record with this timestamp or a later one.
    AtOrAfter(Timestamp),
    /// The first record with the largest timestamp; the log knows of this one.
    Largest(Timestamp),
}

/// The record found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub offset: i64,
    pub timestamp: Timestamp,
    pub leader_epoch: i32,
}

/// The bytes that were read are not the batches they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the segment is damaged")]
pub struct Damaged;

/// A search through runs of batches, in log order.
#[derive(Clone, Copy, Debug)]
pub struct TimeSearch {
    wanted: Wanted,
    /// Where the next run begins, or earlier.
    pub from: Offset,
    found: Option<Found>,
    restarted: bool,
}

impl TimeSearch {
    #[must_use]
    pub fn new(wanted: Wanted) -> TimeSearch {
        TimeSearch {
            wanted,
            from: Offset::ZERO,
            found: None,
            restarted: false,
        }
    }

    /// What a record must have to be of interest.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        match (self.wanted, self.found) {
            (Wanted::AtOrAfter(timestamp), _) => timestamp,
            (Wanted::Largest(_), Some(found)) => found.timestamp.saturating_add(1),
            (Wanted::Largest(_), None) if self.restarted => 0,
            (Wanted::Largest(known), None) => known,
        }
    }

    /// Searches whole batches within `log_start..high_watermark`.
    ///
    /// # Errors
    /// Bytes that are no batches from where the search stands on.
    pub fn visit(
        &mut self,
        mut bytes: &[u8],
        log_start: Offset,
        high_watermark: Offset,
    ) -> Result<(), Damaged> {
        let before = self.from;
        while self.from < high_watermark
            && !self.is_found()
            && let Ok(header) = BatchHeader::parse(bytes)
        {
            let Some(batch) = bytes.get(..header.total_bytes()) else {
                break;
            };
            bytes = &bytes[header.total_bytes()..];
            self.from = self.from.max(header.next_offset());
            if header.base_offset >= high_watermark.0 || header.last_offset() < log_start {
                continue;
            }
            let least = self.timestamp();
            if header.max_timestamp < least {
                continue;
            }
            let least = match self.wanted {
                Wanted::AtOrAfter(_) => least,
                Wanted::Largest(_) => header.max_timestamp,
            };
            let found = within(&header, batch, |at| at >= least, log_start);
            self.found = found.or(self.found);
        }
        match self.from > before {
            true => Ok(()),
            false => Err(Damaged),
        }
    }

    /// Whether nothing better can come.
    #[must_use]
    pub fn is_found(&self) -> bool {
        matches!(self.wanted, Wanted::AtOrAfter(_)) && self.found.is_some()
    }

    /// Nothing of interest is left up to the end. Whether to begin again: the record with the
    /// largest timestamp the log knows of is gone, so that a smaller one is the largest.
    pub fn begin_again(&mut self) -> bool {
        let Wanted::Largest(known) = self.wanted else {
            return false;
        };
        let complete = self.found.is_some_and(|found| found.timestamp >= known);
        if complete || std::mem::replace(&mut self.restarted, true) {
            return false;
        }
        self.from = Offset::ZERO;
        true
    }

    #[must_use]
    pub fn found(&self) -> Option<Found> {
        self.found
    }

    /// Where the first fitting record may be lost: in a hole right in front of the one that was found,
    /// or of the log's end when none was. Who goes on from the hole's start is told of the loss there,
    /// and who went on from behind it would pass over records without a word. In holes further in
    /// front there is none: the records behind those are earlier than the time asked for.
    #[must_use]
    pub fn lost_in_front(&self, holes: &[Hole], log_start: Offset, end: Offset) -> Option<Found> {
        let Wanted::AtOrAfter(timestamp) = self.wanted else {
            return None;
        };
        let next = self.found.map_or(end.0, |found| found.offset);
        let hole = holes.iter().find(|hole| hole.to == next)?;
        Some(Found {
            offset: hole.from.max(log_start.0),
            timestamp,
            leader_epoch: -1,
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn search(wanted: Wanted, found: Option<i64>) -> TimeSearch {
        TimeSearch {
            found: found.map(|offset| Found {
                offset,
                timestamp: 70,
                leader_epoch: 0,
            }),
            ..TimeSearch::new(wanted)
        }
    }

    #[test]
    fn a_time_in_a_hole_leads_to_the_hole_and_not_behind_it() {
        let holes = [Hole { from: 5, to: 8 }, Hole { from: 20, to: 30 }];
        let lost = |wanted, found, end| {
            let lost = search(wanted, found).lost_in_front(&holes, Offset(3), Offset(end));
            lost.map(|at| (at.offset, at.timestamp))
        };
        let first = Wanted::AtOrAfter(60);
        assert_eq!(lost(first, Some(8), 40), Some((5, 60)));
        assert_eq!(
            lost(first, Some(9), 40),
            None,
            "the record in front of it is earlier"
        );
        assert_eq!(lost(first, Some(4), 40), None);
        assert_eq!(
            lost(first, None, 30),
            Some((20, 60)),
            "the log ends with a hole"
        );
        assert_eq!(lost(first, None, 40), None);
        assert_eq!(lost(Wanted::Largest(60), Some(8), 30), None);
    }
}
