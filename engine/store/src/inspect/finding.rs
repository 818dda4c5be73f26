//! What inspection finds: a place, a kind with a name that stays, what it means, and what recovery
//! would do about it.
//!
//! Damage is what no crash of this program explains. A note is what a crash or a kill leaves behind,
//! or what is not ours; the data is whole.

use highwater_base::Offset;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    Note,
    Damage,
}

impl Gravity {
    /// Its name in output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Gravity::Note => "note",
            Gravity::Damage => "damage",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Relative to the data directory.
    pub file: String,
    /// Byte position in the file.
    pub position: Option<u64>,
    /// Offset in the log.
    pub offset: Option<Offset>,
    pub kind: FindingKind,
    /// What was found there, with the values.
    pub detail: String,
}

impl Finding {
    /// A finding about a file as a whole.
    pub fn of(kind: FindingKind, file: &str, detail: impl Into<String>) -> Finding {
        Finding {
            file: file.to_string(),
            position: None,
            offset: None,
            kind,
            detail: detail.into(),
        }
    }

    /// The same, at a byte position.
    #[must_use]
    pub fn at(mut self, position: u64) -> Finding {
        self.position = Some(position);
        self
    }

    /// The same, at an offset.
    #[must_use]
    pub fn offset(mut self, offset: Offset) -> Finding {
        self.offset = Some(offset);
        self
    }
}

macro_rules! kinds {
    ($($kind:ident $name:literal $gravity:ident $meaning:literal $recovery:literal)*) => {
        /// Kinds of findings. Their names are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum FindingKind {
            $(#[doc = $meaning] $kind,)*
        }

        impl FindingKind {
            /// Every kind.
            pub const ALL: &[FindingKind] = &[$(FindingKind::$kind),*];

            /// The name in output.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(FindingKind::$kind => $name,)* }
            }

            /// Damage or note.
            #[must_use]
            pub fn gravity(self) -> Gravity {
                match self { $(FindingKind::$kind => Gravity::$gravity,)* }
            }

            /// What it means.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(FindingKind::$kind => $meaning,)* }
            }

            /// What a start on this directory does about it.
            #[must_use]
            pub fn recovery(self) -> &'static str {
                match self { $(FindingKind::$kind => $recovery,)* }
            }
        }
    };
}

kinds! {
    SuperblockCopy "superblock-copy" Damage
        "one of the four copies of the superblock is not readable; the others still say whose \
         directory this is"
        "starts as long as enough copies agree, and writes all four anew"
    SuperblockUnreadable "superblock-unreadable" Damage
        "the superblock does not say whose directory this is"
        "refuses to start; restore the directory from a backup"
    LedgerBlock "ledger-block" Damage
        "a block of the marks ledger is bad in one copy; the other copy has it"
        "reads the other copy, and writes both anew"
    LedgerUnreadable "ledger-unreadable" Damage
        "marks are lost in both copies: how far logs were durable is not known"
        "cuts nothing that is valid; each log begins with the first segment there is"
    OldCopy "old-copy" Damage
        "a file is of an earlier run of the node than the superblock, or the superblock itself is: an \
         old copy was put back"
        "does not believe an old ledger or checkpoint: scans the logs and cuts nothing that is valid; \
         goes on counting behind the newest ledger where the superblock is the old one"
    CheckpointDamaged "checkpoint-damaged" Damage
        "the checkpoint of the clean stop cannot be read"
        "scans the logs instead, which takes longer"
    CheckpointMismatch "checkpoint-mismatch" Damage
        "the checkpoint of the clean stop says something else than the segments"
        "believes the checkpoint only where the files are as it says, and scans the log otherwise"
    SegmentHeader "segment-header" Damage
        "the header block of a segment is bad or contradicts its file name"
        "writes a damaged header anew from the file name; leaves a file whose header contradicts its \
         name alone, and its offsets are lost until it has its own name again; a newer format version \
         takes the partition offline"
    SegmentForeign "segment-foreign" Damage
        "the segment was written for another cluster, topic or partition"
        "leaves the file alone, and the offsets of its name are lost; move it to where it belongs"
    SegmentSize "segment-size" Damage
        "the file is no whole number of blocks: somebody shortened or lengthened it"
        "ignores the bytes behind the last whole block"
    SegmentGap "segment-gap" Damage
        "offsets are missing between two segments: a file is gone, or its end is"
        "declares a hole, keeps it and goes on behind it"
    SegmentOverlap "segment-overlap" Damage
        "a segment begins at an offset that the log before it already holds"
        "refuses to start; move one of the two files away"
    BatchHeader "batch-header" Damage
        "the bytes where a batch should begin are no batch header"
        "declares a hole up to the next valid batch where it scans the segment; it does not scan those \
         with a fitting index or checkpoint, and their consumers meet it"
    BatchTruncated "batch-truncated" Damage
        "a batch reaches beyond the end of its file"
        "declares a hole where it scans the segment"
    BatchEpoch "batch-epoch" Damage
        "the batch has another leader epoch than its segment"
        "declares a hole up to the next valid batch where it scans the segment; it does not scan those \
         with a fitting index or checkpoint, and their consumers meet it"
    BatchOffset "batch-offset" Damage
        "the batch does not continue the offsets of the one before it"
        "declares a hole up to the next valid batch where it scans the segment; it does not scan those \
         with a fitting index or checkpoint, and their consumers meet it"
    BatchCrc "batch-crc" Damage
        "the bytes of the batch do not have the checksum its producer computed"
        "declares a hole up to the next valid batch where it scans the segment; it does not scan those \
         with a fitting index or checkpoint, and their consumers meet it"
    BatchField "batch-field" Damage
        "the checksum is right, but a field of the batch header is not one the broker accepts"
        "keeps and serves the batch; consumers may refuse it"
    BatchRecords "batch-records" Damage
        "the checksum is right, but the records inside do not decode or contradict the header"
        "keeps and serves the batch; consumers fail at it"
    RecordsMissing "records-missing" Damage
        "the log ends before the durable mark: acknowledged records are gone"
        "declares a hole up to the durable mark"
    PaddingNotZero "padding-not-zero" Damage
        "there are bytes behind the last batch, where only zeros belong"
        "does not read them; never take them for records"
    IndexDamaged "index-damaged" Damage
        "the index file is unreadable"
        "builds the index again by scanning the segment"
    IndexEntry "index-entry" Damage
        "an index entry does not point at a batch, or at one with other values"
        "believes it where the segment is not scanned; remove the file to have it built again"
    IndexMismatch "index-mismatch" Damage
        "what the index says of its segment as a whole is not so"
        "builds the index again where it does not fit the next segment; remove the file to be sure"
    ProducersDamaged "producers-damaged" Damage
        "the snapshot of producer sequences is unreadable or contradicts the log"
        "takes an older snapshot and replays the log from there"
    MetadataRecord "metadata-record" Damage
        "a record of the metadata log cannot be understood"
        "refuses to start"
    GroupRecord "group-record" Damage
        "a record of the log of offsets cannot be understood"
        "does not load the groups of that partition"
    Unreadable "unreadable" Damage
        "the disk does not give the bytes"
        "refuses to start, except for one copy of the marks ledger"
    UncleanStop "unclean-stop" Note
        "the last process was killed or is not known to have stopped"
        "scans the ends of the logs"
    SuperblockUpdate "superblock-update" Note
        "an update of the superblock was interrupted between its two halves"
        "takes the newer one that two copies agree on"
    LedgerTornTail "ledger-torn-tail" Note
        "the last write of the marks ledger did not finish"
        "ignores it: nothing rested on it"
    TornTail "torn-tail" Note
        "the last writes did not finish; nothing from here on was acknowledged"
        "cuts the log here and writes zeros"
    TornHeader "torn-header" Note
        "the header block of a segment was being written; nothing in the segment is known to have \
         been acknowledged"
        "writes the header anew, or removes the segment if it holds nothing"
    TornSegment "torn-segment" Note
        "the segment lies behind where the log ends; nothing in it was acknowledged"
        "removes it"
    UnconfirmedTail "unconfirmed-tail" Note
        "whole batches behind the durable mark, which lags a little"
        "keeps them"
    PreparedSegment "prepared-segment" Note
        "a file made ready for the next segment, not used yet"
        "removes it"
    UnnamedSegment "unnamed-segment" Note
        "a segment still has the name it was made ready under"
        "gives it its final name"
    SegmentBelowStart "segment-below-start" Note
        "the segment lies below the log start: retention or a deletion was about to remove it"
        "removes it"
    NoMarks "no-marks" Note
        "the marks ledger does not know the partition: it is new, or its marks are lost"
        "keeps what is valid"
    IndexMissing "index-missing" Note
        "a segment that takes no more records has no index file"
        "builds it again by scanning the segment"
    IndexStale "index-stale" Note
        "the index file covers the beginning of its segment only: records came after it"
        "builds it again"
    StraySidecar "stray-sidecar" Note
        "an index or a producer snapshot of a segment that is not there"
        "leaves it alone"
    UnfinishedFile "unfinished-file" Note
        "a small file was being written when the process ended"
        "leaves it alone; the next write of that file replaces it"
    DeletedTopic "deleted-topic" Note
        "data of a topic whose deletion is in the metadata log"
        "moves it to quarantine, or removes it where deleted data is not kept"
    UnknownTopic "unknown-topic" Damage
        "the metadata log has neither the topic nor its deletion: it lost records, is an old copy, or \
         somebody put the directory here"
        "moves it to quarantine and keeps it; `highwater log quarantine restore` puts it back"
    Quarantined "quarantined" Note
        "data that no topic has waits until its time has come or somebody decides"
        "removes what was deleted after delete_retention_hours, keeps what is unknown, registers what \
         was put back"
    UnknownFile "unknown-file" Note
        "a file that is not ours"
        "leaves it alone"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_name_and_says_what_it_means() {
        let mut names: Vec<&str> = FindingKind::ALL.iter().map(|kind| kind.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FindingKind::ALL.len());
        for kind in FindingKind::ALL {
            let spelling = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
            assert!(kind.name().bytes().all(spelling), "{}", kind.name());
            assert!(kind.meaning().len() > 10 && kind.recovery().len() > 5);
        }
    }
}
