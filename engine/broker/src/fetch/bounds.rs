//! How many bytes the parts of a fetch may return, and what is left out of its answer.

use super::session::FetchTarget;
use super::{PartitionRead, PendingFetch};

/// What one read may return.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadBounds {
    pub bytes_max: usize,
    /// One batch, however large.
    pub at_least_one: bool,
    /// Whether it may lend memory, or has to name files.
    pub memory: bool,
}

/// How the bytes an answer may hold are divided among the cores that read for it.
pub(crate) struct Shares {
    /// For the partitions of this core, which read first.
    pub local: usize,
    /// All that the partitions may give fits into one answer.
    fits: bool,
}

impl Shares {
    pub fn of(
        targets: &[FetchTarget],
        bytes_max: usize,
        foreign_cores: usize,
        any_local: bool,
    ) -> Shares {
        let wanted = targets.iter().map(FetchTarget::bytes_max);
        let wanted = wanted.fold(0usize, usize::saturating_add);
        let fits = wanted <= bytes_max || foreign_cores == 0;
        let cores = foreign_cores + usize::from(any_local);
        let local = match fits {
            true => bytes_max,
            // Busy partitions here must not starve those of other cores.
            false => bytes_max / cores.max(1),
        };
        Shares { local, fits }
    }

    /// For each of the other cores.
    pub fn foreign(&self, bytes_left: usize, foreign_cores: usize) -> usize {
        match self.fits {
            true => bytes_left,
            false => bytes_left / foreign_cores.max(1),
        }
    }
}

impl PendingFetch {
    /// Whether what the round found is worth an answer before the deadline.
    pub(crate) fn has_enough(&self) -> bool {
        let counted = self.targets.iter().zip(&self.reads).map(|(target, read)| {
            let bytes_max = target.bytes_max().min(self.bytes_max);
            read.counted_bytes(bytes_max)
        });
        let counted = counted.fold(0usize, usize::saturating_add);
        counted >= self.bytes_min || self.reads.iter().any(PartitionRead::is_urgent)
    }

    /// Drops records beyond the bound: each core returns at least one batch, however little is left
    /// for it. The first partition with records keeps one, so that a client that rotates its
    /// partitions gets past any batch.
    pub(crate) fn keep_to_bytes_max(&mut self) {
        let (mut left, mut any_kept) = (self.bytes_max, false);
        for read in &mut self.reads {
            let pieces = &self.pieces[read.pieces_start..read.pieces_start + read.pieces_count];
            let (mut count, mut bytes) = (0, 0);
            for piece in pieces {
                if piece.len() > left && any_kept {
                    break;
                }
                any_kept = true;
                left = left.saturating_sub(piece.len());
                bytes += piece.len();
                count += 1;
            }
            (read.pieces_count, read.bytes) = (count, bytes);
        }
    }
}
