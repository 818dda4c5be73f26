//! An index file against the batches of its segment, as the scan meets them.

use std::collections::VecDeque;

use highwater_base::disk::{BootDisk, DiskError};

use super::partition::FoundSegment;
use super::{Finding, FindingKind, VerifyHost, read_index};
use crate::index::{IndexEntry, SparseIndex};
use crate::segment::segment_path;
use crate::sidecar::IndexImage;

/// An index whose entries are waited for.
pub(super) struct IndexCheck {
    path: String,
    image: IndexImage,
    index: SparseIndex,
    entries: VecDeque<IndexEntry>,
    /// The scan came by a batch boundary at which the index says that it ends.
    end_met: bool,
    max_timestamp_at_end: Option<i64>,
    /// Batches were lost: what depends on them cannot be checked.
    is_unsure: bool,
}

impl IndexCheck {
    /// The index beside a segment, if there is one that can be read.
    pub fn read(
        boot: &dyn BootDisk,
        directory: &str,
        found: &FoundSegment,
        host: &mut dyn VerifyHost,
    ) -> Option<IndexCheck> {
        let path = segment_path(directory, found.base, found.epoch, "index");
        let size_bytes = size_of_file(boot, directory, &path)?;
        let image = match read_index(boot, &path, size_bytes) {
            Ok(Some(image)) => image,
            Ok(None) => {
                let detail = "the frame, its checksum or the order of the entries does not match";
                host.finding(Finding::of(FindingKind::IndexDamaged, &path, detail).at(0));
                return None;
            }
            Err(DiskError::NotFound) => return None,
            Err(error) => {
                let kind = FindingKind::Unreadable;
                host.finding(Finding::of(kind, &path, error.to_string()));
                return None;
            }
        };
        if (image.base_offset, image.epoch) != (found.base.0, found.epoch.0) {
            let detail = format!(
                "is of the segment at {} in epoch {}",
                image.base_offset, image.epoch
            );
            host.finding(Finding::of(FindingKind::IndexMismatch, &path, detail).at(0));
            return None;
        }
        Some(IndexCheck {
            path,
            entries: image.entries.iter().copied().collect(),
            index: SparseIndex::from_entries(image.entries.clone()).unwrap_or_default(),
            image,
            end_met: false,
            max_timestamp_at_end: None,
            is_unsure: false,
        })
    }

    /// The index as it was saved.
    pub fn index(&self) -> &SparseIndex {
        &self.index
    }

    /// The next batch of the segment; `max_timestamp` is the largest before it.
    pub fn batch(
        &mut self,
        base_offset: i64,
        position: u64,
        max_timestamp: i64,
        host: &mut dyn VerifyHost,
    ) {
        self.note_end(position, base_offset, max_timestamp);
        while let Some(entry) = self.entries.front().copied() {
            if u64::from(entry.position) > position {
                return;
            }
            self.entries.pop_front();
            let offset = self.image.base_offset + i64::from(entry.relative_offset);
            let detail = if u64::from(entry.position) < position {
                format!("position {} is inside a batch", entry.position)
            } else if offset != base_offset {
                format!("says offset {offset}, the batch there has {base_offset}")
            } else if entry.max_timestamp_before != max_timestamp && !self.is_unsure {
                format!(
                    "says the largest timestamp before it is {}, it is {max_timestamp}",
                    entry.max_timestamp_before
                )
            } else {
                continue;
            };
            self.tell_entry(&entry, detail, host);
        }
    }

    /// What lies between two positions is damaged: entries of batches in it are let alone.
    pub fn damaged(&mut self, from: u64, to: u64) {
        self.is_unsure = true;
        self.entries
            .retain(|entry| !(from..to).contains(&u64::from(entry.position)));
    }

    fn tell_entry(&self, entry: &IndexEntry, detail: String, host: &mut dyn VerifyHost) {
        let at = self.image.entries.iter().position(|it| it == entry);
        let number = at.unwrap_or_default();
        let offset = self.image.base_offset + i64::from(entry.relative_offset);
        let detail = format!("entry {number} (position {}): {detail}", entry.position);
        let finding = Finding::of(FindingKind::IndexEntry, &self.path, detail);
        host.finding(finding.offset(highwater_base::Offset(offset)));
    }

    fn note_end(&mut self, position: u64, next_offset: i64, max_timestamp: i64) {
        if position == self.image.end_position && next_offset == self.image.next_offset {
            self.end_met = true;
            self.max_timestamp_at_end = Some(max_timestamp);
        }
    }

    /// The segment was read up to `end`: the position and offset behind it and its largest timestamp.
    pub fn finish(mut self, is_sealed: bool, end: (u64, i64, i64), host: &mut dyn VerifyHost) {
        let (end_position, next_offset, max_timestamp) = end;
        self.note_end(end_position, next_offset, max_timestamp);
        // Where it says that the segment is longer, that is told once.
        if self.image.end_position <= end_position {
            for entry in std::mem::take(&mut self.entries) {
                let detail = format!("the segment's batches end at position {end_position}");
                self.tell_entry(&entry, detail, host);
            }
        }
        let says = format!(
            "says it ends at position {}, offset {}, largest timestamp {}",
            self.image.end_position, self.image.next_offset, self.image.max_timestamp
        );
        let timestamp_fits = self
            .max_timestamp_at_end
            .is_none_or(|found| found == self.image.max_timestamp);
        if self.is_unsure {
            return;
        }
        let (kind, found) = if !self.end_met || !timestamp_fits {
            let found = format!("position {end_position}, offset {next_offset}, {max_timestamp}");
            (FindingKind::IndexMismatch, found)
        } else if self.image.end_position < end_position && is_sealed {
            let found = format!("position {end_position}, offset {next_offset}");
            (FindingKind::IndexStale, found)
        } else {
            return;
        };
        let detail = format!("{says}; the segment ends at {found}");
        host.finding(Finding::of(kind, &self.path, detail));
    }
}

fn size_of_file(boot: &dyn BootDisk, directory: &str, path: &str) -> Option<u64> {
    let entries = boot.list(directory).ok()?;
    let name = path.rsplit('/').next().unwrap_or(path);
    let entry = entries.iter().find(|entry| entry.name == name);
    entry.map(|entry| entry.size_bytes)
}
