//! Where a segment goes on behind damage.
//!
//! The bytes behind damage may be anything, also whole batches that are nothing but the value of a
//! record: a mirror, a backup, a hostile producer. So nothing found there is believed because it
//! parses and its CRC is right. A batch is where the log goes on only if one of these says so:
//!
//! | evidence | what it is |
//! |---|---|
//! | CRC | the damaged batch's own CRC matches the bytes up to it: only other fields were hit |
//! | chain | from the damaged batch, if its header fits, lengths and offsets lead on to a landmark |
//! | length | the damaged batch is intact up to its CRC, and such a chain begins where it ends |
//! | boundary | the saved index or a mark of the ledger names its position and its offset |
//!
//! Landmarks are such boundaries, the durable mark *D* and the first offset of the next segment.
//! Without marks and without a next segment it is zeros that reach as far as writes under way can. A
//! chain may step over batches whose records are damaged, as long as their headers fit into it.
//!
//! The evidence is looked for in the order of the table. A valid batch that is merely found, even one
//! whose chain leads to a landmark, is none: where the header of the damaged batch is gone, it may be
//! the end of that batch's last record. When nothing is proven the damage reaches to the end of the
//! segment: less is served then, and nothing is made up.

use highwater_base::crc::Crc32c;
use highwater_base::disk::{BootDisk, DiskError};
use highwater_base::limits::FRAME_BYTES_MAX;
use highwater_base::record_batch::{CRC_COVERED_FROM, HEADER_BYTES, LENGTH_PREFIX_BYTES};
use highwater_base::{BatchHeader, Epoch, Offset};

use crate::batch_scan::{BatchFault, BatchScan, CHUNK_BYTES};
use crate::index::{IndexEntry, SparseIndex};
use crate::recovery::STALE_REACH_BYTES;

/// Offsets that one damaged byte may stand for where nothing else bounds them: compressed records
/// take less than a byte each, and no codec makes them this small.
const OFFSETS_PER_BYTE_MAX: i64 = 1024;
/// Bytes one search may load and check beyond the file's own: hostile records can hold any number
/// of headers that claim long batches.
const SEARCH_BYTES_MAX: u64 = 4 << 30;

/// Bytes that do not continue a segment, and what is known of it.
pub(crate) struct Damage<'a> {
    pub position: u64,
    /// The offset that should be there.
    pub expected: Offset,
    pub epoch: Epoch,
    /// Base offset of the segment.
    pub base: Offset,
    /// Base offset of the segment that follows.
    pub next: Option<Offset>,
    /// *D*, or where the log ended at a clean stop.
    pub durable: Offset,
    /// The segment's saved index.
    pub index: Option<&'a SparseIndex>,
    /// Offsets and positions at which the ledger knows the log to have been durable.
    pub boundaries: &'a [(Offset, u64)],
}

/// What follows damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resumption {
    /// The log goes on with this batch.
    At(u64, BatchHeader),
    /// The damaged batches are the last ones: the log is known to end behind them.
    Ends,
    /// Nothing behind the damage is proven to be of this log.
    Unproven {
        /// There is a valid batch that could be.
        is_followed: bool,
    },
}

impl Resumption {
    /// The batch, if there is one.
    pub fn batch(self) -> Option<(u64, BatchHeader)> {
        match self {
            Resumption::At(position, header) => Some((position, header)),
            Resumption::Ends | Resumption::Unproven { .. } => None,
        }
    }

    /// Whether a valid batch follows that may be of the log.
    pub fn is_followed(self) -> bool {
        match self {
            Resumption::At(..) => true,
            Resumption::Ends => false,
            Resumption::Unproven { is_followed } => is_followed,
        }
    }
}

/// Finds where the log goes on.
///
/// # Errors
/// The disk refuses; unreadable blocks are damage and no error.
pub(crate) fn resume(
    batches: &mut BatchScan<'_>,
    boot: &dyn BootDisk,
    damage: &Damage<'_>,
) -> Result<Resumption, DiskError> {
    batches.limit_work(batches.end().saturating_add(SEARCH_BYTES_MAX));
    let mut search = Search {
        batches,
        boot,
        damage,
    };
    if let Some((at, header)) = search.checksummed()? {
        return Ok(Resumption::At(at, header));
    }
    let chain = search.chain(damage.position, damage.expected)?;
    if chain.is_proven {
        let ends = Resumption::Ends;
        return Ok(chain
            .first
            .map_or(ends, |(at, header)| Resumption::At(at, header)));
    }
    let mut found = search.behind_length()?;
    if found.is_none() {
        found = search.at_boundary()?;
    }
    Ok(match found {
        Some((at, header)) => Resumption::At(at, header),
        None => Resumption::Unproven {
            is_followed: search.is_followed()?,
        },
    })
}

struct Chain {
    /// Its first valid batch.
    first: Option<(u64, BatchHeader)>,
    is_proven: bool,
}

struct Search<'a, 'b> {
    batches: &'a mut BatchScan<'b>,
    boot: &'a dyn BootDisk,
    damage: &'a Damage<'a>,
}

impl Search<'_, '_> {
    /// Follows batches from `position` on, where `offset` is expected.
    fn chain(&mut self, mut position: u64, mut offset: Offset) -> Result<Chain, DiskError> {
        let mut chain = Chain {
            first: None,
            is_proven: false,
        };
        loop {
            let epoch = Some(self.damage.epoch);
            let header = match self.batches.examine(self.boot, position, epoch)? {
                Ok((header, _)) if header.base_offset == offset.0 => {
                    chain.is_proven |= self.is_boundary(position, offset);
                    chain.first.get_or_insert((position, header));
                    header
                }
                Err(BatchFault::Crc { header, .. }) if header.base_offset == offset.0 => header,
                Ok(_) | Err(_) => break,
            };
            position += header.total_bytes() as u64;
            offset = header.next_offset();
            chain.is_proven |= self.is_landmark(offset);
            if chain.is_proven && chain.first.is_some() || self.batches.is_exhausted() {
                break;
            }
        }
        let is_bounded = self.damage.next.is_some() || self.damage.durable > self.damage.expected;
        if !chain.is_proven && !is_bounded && chain.first.is_some() {
            chain.is_proven = self.is_blank_from(position)?;
        }
        Ok(chain)
    }

    /// The batch where the damaged one ends by its length, if what lies in front of its CRC is as it
    /// should be and a chain goes on there.
    fn behind_length(&mut self) -> Result<Option<(u64, BatchHeader)>, DiskError> {
        let (start, damage) = (self.damage.position, self.damage);
        let head = self.batches.raw(self.boot, start, HEADER_BYTES)?;
        let Ok(head) = <&[u8; HEADER_BYTES]>::try_from(head) else {
            return Ok(None);
        };
        let is_intact = head[..8] == damage.expected.0.to_be_bytes()
            && head[12..16] == damage.epoch.as_leader_epoch().to_be_bytes()
            && head[16] == 2;
        let length = i32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        let Some(length) = u64::try_from(length).ok().filter(|_| is_intact) else {
            return Ok(None);
        };
        let position = start + LENGTH_PREFIX_BYTES as u64 + length;
        let batch = self.batches.batch_at(self.boot, position, damage.epoch)?;
        let Some(header) = batch.map(|(header, _)| header) else {
            return Ok(None);
        };
        let base = Offset(header.base_offset);
        let goes_on = may_begin_at(damage, position, base) && self.chain(position, base)?.is_proven;
        Ok(goes_on.then_some((position, header)))
    }

    /// Whether the log is known to have a batch boundary at this offset.
    fn is_landmark(&self, offset: Offset) -> bool {
        let is_durable = offset == self.damage.durable && offset > self.damage.expected;
        is_durable || self.damage.next == Some(offset)
    }

    fn entries(&self) -> &[IndexEntry] {
        self.damage.index.map_or(&[], SparseIndex::entries)
    }

    fn offset_of(&self, entry: &IndexEntry) -> Offset {
        self.damage.base.plus(i64::from(entry.relative_offset))
    }

    /// Whether a batch with this offset is known to begin at this position.
    fn is_boundary(&self, position: u64, offset: Offset) -> bool {
        let entries = self.entries();
        let at = entries.partition_point(|entry| u64::from(entry.position) < position);
        let is_indexed = entries.get(at).is_some_and(|entry| {
            u64::from(entry.position) == position && self.offset_of(entry) == offset
        });
        is_indexed || self.damage.boundaries.contains(&(offset, position))
    }

    fn is_blank_from(&mut self, position: u64) -> Result<bool, DiskError> {
        let end = self.batches.end().min(position + STALE_REACH_BYTES);
        let dirty = self.batches.last_nonzero(self.boot, position, end)?;
        Ok(dirty.is_none())
    }

    /// The first known boundary behind the damage with a batch where it says.
    fn at_boundary(&mut self) -> Result<Option<(u64, BatchHeader)>, DiskError> {
        let entries = self.entries().iter();
        let indexed = entries.map(|entry| (u64::from(entry.position), self.offset_of(entry)));
        let marked = self
            .damage
            .boundaries
            .iter()
            .map(|&(offset, position)| (position, offset));
        let mut known: Vec<(u64, Offset)> = indexed
            .chain(marked)
            .filter(|(position, offset)| {
                *position > self.damage.position && may_begin_at(self.damage, *position, *offset)
            })
            .collect();
        known.sort_unstable();
        for (position, offset) in known {
            let epoch = self.damage.epoch;
            let found = self.batches.batch_at(self.boot, position, epoch)?;
            if let Some((header, _)) = found
                && header.base_offset == offset.0
            {
                return Ok(Some((position, header)));
            }
        }
        Ok(None)
    }

    /// Whether any valid batch follows that may be of the log, or the search for one was given up.
    fn is_followed(&mut self) -> Result<bool, DiskError> {
        let damage = self.damage;
        let may_be = |position: u64, header: &BatchHeader| {
            may_begin_at(damage, position, Offset(header.base_offset))
        };
        let (from, epoch) = (damage.position + 1, damage.epoch);
        let found = self
            .batches
            .find_batch(self.boot, from, u64::MAX, epoch, may_be)?;
        Ok(found.is_some() || self.batches.is_exhausted())
    }

    /// The batch at which the damaged one ends by its own CRC.
    fn checksummed(&mut self) -> Result<Option<(u64, BatchHeader)>, DiskError> {
        let (start, damage) = (self.damage.position, self.damage);
        let head = self.batches.raw(self.boot, start, HEADER_BYTES)?;
        if head.len() < HEADER_BYTES {
            return Ok(None);
        }
        let field = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
        let (crc, delta) = (u32::from_be_bytes(field(17)), i32::from_be_bytes(field(23)));
        let next = damage.expected.0.checked_add(i64::from(delta) + 1);
        let may_be = |position: u64, header: &BatchHeader| {
            next == Some(header.base_offset)
                && may_begin_at(damage, position, Offset(header.base_offset))
        };
        let upto = start + FRAME_BYTES_MAX as u64;
        let mut sum = Crc32c::default();
        let mut summed_to = start + CRC_COVERED_FROM as u64;
        let mut from = start + HEADER_BYTES as u64;
        loop {
            let epoch = damage.epoch;
            let found = self
                .batches
                .find_batch(self.boot, from, upto, epoch, may_be)?;
            let Some((position, header)) = found else {
                return Ok(None);
            };
            while summed_to < position {
                let len = (position - summed_to).min(CHUNK_BYTES as u64) as usize;
                let bytes = self.batches.raw(self.boot, summed_to, len)?;
                sum.update(bytes);
                summed_to += bytes.len() as u64;
                if bytes.is_empty() {
                    return Ok(None);
                }
            }
            if sum.value() == crc {
                return Ok(Some((position, header)));
            }
            from = position + 1;
        }
    }
}

/// Whether the log may go on with this offset at this position.
fn may_begin_at(damage: &Damage<'_>, position: u64, base: Offset) -> bool {
    let lost = base.0.saturating_sub(damage.expected.0);
    let skipped = position.saturating_sub(damage.position);
    let end = match damage.next {
        Some(next) => next,
        None if damage.durable > damage.expected => damage.durable,
        None => {
            let bytes = i64::try_from(skipped).unwrap_or(i64::MAX);
            let most = bytes.saturating_mul(OFFSETS_PER_BYTE_MAX);
            Offset(damage.expected.0.saturating_add(most))
        }
    };
    lost > 0 && base < end
}
