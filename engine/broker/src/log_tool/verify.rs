//! `log verify`: hands everything that was asked for to the store's inspection, judges the records
//! inside, prints what was found and sums up.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::process::ExitCode;

use highwater_base::disk::BootDisk;
use highwater_base::{Offset, TopicId};
use highwater_store::PartitionMarks;
use highwater_store::inspect::{
    BatchAt, Finding, FindingKind, Gravity, NodeFacts, PartitionPlace, PartitionVerdict,
    VerifyHost, find_partitions, verify_node, verify_partition,
};
use serde_json::json;

use super::line::Line;
use super::place::Target;
use super::records::{Content, check, check_own};
use super::{Format, LogToolError, VerifyArgs};
use crate::boot::restored::read_note;
use crate::boot::set_aside::entries;
use crate::metadata::METADATA_TOPIC;
use crate::metadata::record::{MetadataRecord, decode_batch};
use crate::quarantine::{self, Reason};

/// How often progress is told on standard error.
const PROGRESS_INTERVAL_NS: u64 = 5_000_000_000;

/// What was found, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub damages: u64,
    pub notes: u64,
    pub partitions: u64,
    pub segments: u64,
    pub batches: u64,
    pub records: u64,
    pub bytes: u64,
}

impl Totals {
    pub fn exit_code(self) -> ExitCode {
        match self.damages {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }

    fn add(&mut self, verdict: &PartitionVerdict) {
        self.partitions += 1;
        self.segments += verdict.segments as u64;
        self.batches += verdict.batches;
        self.records += verdict.records;
        self.bytes += verdict.bytes;
    }
}

/// Takes in what the inspection says.
struct Listener<'a> {
    target: &'a Target,
    format: Format,
    out: &'a mut dyn Write,
    /// Of all output; kept because the inspection goes on whatever happens to it.
    written: io::Result<()>,
    totals: Totals,
    topics: Topics,
    bytes_read: u64,
    told_at_ns: u64,
}

/// The topics that the metadata log has, as far as it was read.
#[derive(Debug, Default)]
struct Topics {
    names: BTreeMap<TopicId, String>,
    /// Those whose tombstone was read.
    deleted: BTreeSet<TopicId>,
    /// Nothing of the log is missing or unreadable.
    is_whole: bool,
}

impl Topics {
    fn apply(&mut self, record: &MetadataRecord) {
        match record {
            MetadataRecord::Topic { topic_id, name, .. } => {
                self.names.insert(TopicId(*topic_id), name.clone());
                self.deleted.remove(&TopicId(*topic_id));
            }
            MetadataRecord::TopicDeleted { topic_id } => {
                self.names.remove(&TopicId(*topic_id));
                self.deleted.insert(TopicId(*topic_id));
            }
            MetadataRecord::Partitions { .. }
            | MetadataRecord::TopicConfig { .. }
            | MetadataRecord::ProducerIds { .. }
            | MetadataRecord::SnapshotBegin
            | MetadataRecord::SnapshotEnd
            | MetadataRecord::BrokerConfig { .. } => {}
        }
    }
}

impl Listener<'_> {
    /// A partition is done. People are told of it when it lost something, programs always.
    fn partition(&mut self, place: &PartitionPlace, verdict: &PartitionVerdict) {
        self.totals.add(verdict);
        let is_wanted = self.format == Format::Json || !verdict.holes.is_empty();
        if self.written.is_err() || !is_wanted {
            return;
        }
        let holes = verdict.holes.iter();
        let holes = holes.map(|hole| json!({ "from": hole.from, "to": hole.to }));
        let line = Line::new("partition")
            .with("directory", place.directory.as_str())
            .with("log_start", verdict.log_start.0)
            .with("end", verdict.end.0)
            .with("durable", verdict.durable.map(|durable| durable.0))
            .with("segments", verdict.segments)
            .with("batches", verdict.batches)
            .with("records", verdict.records)
            .with("holes", holes.collect::<Vec<_>>());
        self.written = line.write(self.format, self.out);
    }
}

impl VerifyHost for Listener<'_> {
    fn finding(&mut self, finding: Finding) {
        let is_metadata = Content::of(&finding.file) == Content::Metadata;
        if is_metadata && finding.kind.gravity() == Gravity::Damage {
            self.topics.is_whole = false;
        }
        if !self.target.includes(&finding.file) || self.written.is_err() {
            return;
        }
        match finding.kind.gravity() {
            Gravity::Damage => self.totals.damages += 1,
            Gravity::Note => self.totals.notes += 1,
        }
        self.written = write_finding(&finding, self.format, self.out);
    }

    fn batch(&mut self, batch: &BatchAt<'_>) {
        let offset = Offset(batch.header.base_offset);
        let mut tell = |kind, detail: String| {
            let finding = Finding::of(kind, batch.file, detail).at(batch.position);
            self.finding(finding.offset(offset));
        };
        if let Some(detail) = check(batch.header, batch.bytes) {
            tell(FindingKind::BatchRecords, detail);
            return;
        }
        let content = Content::of(&batch.place.directory);
        if let Some(detail) = check_own(content, batch.header, batch.bytes) {
            let kind = match content {
                Content::Metadata => FindingKind::MetadataRecord,
                Content::Groups | Content::Clients => FindingKind::GroupRecord,
            };
            tell(kind, detail);
        } else if content == Content::Metadata {
            let records = decode_batch(batch.header, batch.bytes).unwrap_or_default();
            for record in &records {
                self.topics.apply(record);
            }
        }
    }

    fn scanned(&mut self, bytes: u64) {
        self.bytes_read += bytes;
        let now_ns = highwater_reactor::now().monotonic_ns;
        if now_ns.saturating_sub(self.told_at_ns) >= PROGRESS_INTERVAL_NS {
            self.told_at_ns = now_ns;
            let (mib, partitions) = (self.bytes_read >> 20, self.totals.partitions);
            eprintln!("highwater: {mib} MiB of records read, {partitions} partitions done");
        }
    }
}

pub(super) fn run(args: &VerifyArgs, out: &mut dyn Write) -> Result<Totals, LogToolError> {
    let target = Target::find(&args.path)?;
    let mut listener = Listener {
        target: &target,
        format: Format::of(args.json),
        out,
        written: Ok(()),
        totals: Totals::default(),
        topics: Topics {
            is_whole: true,
            ..Topics::default()
        },
        bytes_read: 0,
        told_at_ns: highwater_reactor::now().monotonic_ns,
    };
    match &target.lone_partition {
        Some(place) => {
            let facts = NodeFacts::default();
            let verdict = verify_partition(&target.disk, place, &facts, &mut listener);
            listener.partition(place, &verdict);
        }
        None => verify_directory(&target, &mut listener),
    }
    let Listener {
        written, totals, ..
    } = listener;
    written?;
    write_totals(&totals, Format::of(args.json), out)?;
    Ok(totals)
}

fn verify_directory(target: &Target, listener: &mut Listener<'_>) {
    let disk: &dyn BootDisk = &target.disk;
    let facts = verify_node(disk, listener);
    let places = find_partitions(disk, listener);
    let (metadata, others): (Vec<_>, Vec<_>) = places
        .iter()
        .partition(|place| place.topic == METADATA_TOPIC);
    listener.topics.is_whole &= !metadata.is_empty();
    // The metadata log is always read: what the others are judged by is in it.
    for place in metadata {
        verify_place(place, &facts, target, listener);
    }
    tell_quarantine(disk, listener);
    for place in &others {
        let id = place.key.map(|key| key.topic_id);
        let topics = &listener.topics;
        let is_known = id.is_some_and(|id| topics.names.get(&id) == Some(&place.topic));
        if topics.is_whole && !is_known {
            let kind = match id.is_some_and(|id| topics.deleted.contains(&id)) {
                true => FindingKind::DeletedTopic,
                false => FindingKind::UnknownTopic,
            };
            let detail = format!("partition {} is of no topic there is", place.name());
            listener.finding(Finding::of(kind, &place.directory, detail));
        } else if target.reaches_into(&place.directory) {
            verify_place(place, &facts, target, listener);
        }
    }
    tell_missing(&facts, &places, listener);
}

/// What is in quarantine. A topic that was put back is one the next start knows.
fn tell_quarantine(disk: &dyn BootDisk, listener: &mut Listener<'_>) {
    let found = match entries(disk) {
        Ok(found) => found,
        Err(error) => {
            let kind = FindingKind::Unreadable;
            let finding = Finding::of(kind, quarantine::DIRECTORY, error.to_string());
            return listener.finding(finding);
        }
    };
    for entry in found {
        let note = read_note(disk, entry).ok();
        let topic = note.as_ref().map_or("?", |note| &note.topic);
        let what = match entry.reason {
            Reason::Deleted => format!("topic {topic} was deleted"),
            Reason::Unknown => "neither the topic nor its deletion was in the metadata".to_string(),
            Reason::Restoring => format!("topic {topic} was put back"),
        };
        if let (Reason::Restoring, Some(note)) = (entry.reason, note) {
            listener.topics.names.insert(entry.topic_id, note.topic);
        }
        listener.finding(Finding::of(FindingKind::Quarantined, &entry.path(), what));
    }
}

/// The topics of a stopped node; `None` when its metadata log is damaged.
pub(super) fn topics_of(disk: &dyn BootDisk) -> Option<BTreeMap<TopicId, String>> {
    let mut reader = MetadataReader {
        topics: Topics::default(),
        is_damaged: false,
    };
    let facts = verify_node(disk, &mut reader);
    let places = find_partitions(disk, &mut reader);
    // What is wrong elsewhere is not its concern.
    reader.is_damaged = false;
    for place in places.iter().filter(|place| place.topic == METADATA_TOPIC) {
        verify_partition(disk, place, &facts, &mut reader);
    }
    (!reader.is_damaged).then_some(reader.topics.names)
}

/// Folds the metadata log and nothing else.
struct MetadataReader {
    topics: Topics,
    is_damaged: bool,
}

impl VerifyHost for MetadataReader {
    fn finding(&mut self, finding: Finding) {
        self.is_damaged |= finding.kind.gravity() == Gravity::Damage;
    }

    fn batch(&mut self, batch: &BatchAt<'_>) {
        match decode_batch(batch.header, batch.bytes) {
            Ok(records) => records.iter().for_each(|record| self.topics.apply(record)),
            Err(_) => self.is_damaged = true,
        }
    }

    fn scanned(&mut self, _bytes: u64) {}
}

fn verify_place(
    place: &PartitionPlace,
    facts: &NodeFacts,
    target: &Target,
    listener: &mut Listener<'_>,
) {
    let verdict = verify_partition(&target.disk, place, facts, listener);
    if let Some(key) = place.key {
        facts.compare_checkpoint(key, &verdict, listener);
    }
    if target.reaches_into(&place.directory) {
        listener.partition(place, &verdict);
    }
}

/// Partitions that the marks ledger says hold records, and that are not there at all.
fn tell_missing(facts: &NodeFacts, places: &[PartitionPlace], listener: &mut Listener<'_>) {
    let Some(ledgers) = &facts.ledgers else {
        return;
    };
    for key in ledgers.keys() {
        let is_there = places.iter().any(|place| place.key == Some(*key));
        let Some(topic) = listener.topics.names.get(&key.topic_id).cloned() else {
            continue;
        };
        let marks = ledgers.get(key).cloned().unwrap_or_default();
        let PartitionMarks {
            persisted_end,
            log_start,
            ..
        } = marks;
        if !is_there && persisted_end > log_start {
            let directory = format!("topics/{topic}/{}/{}", key.topic_id, key.partition.0);
            let detail = format!(
                "the directory is not there; the ledger says it holds offsets {log_start} to {}",
                persisted_end.0 - 1
            );
            let finding = Finding::of(FindingKind::RecordsMissing, &directory, detail);
            listener.finding(finding.offset(log_start));
        }
    }
}

/// What a start on the directory does about a finding. The metadata log has no holes.
fn recovery_of(finding: &Finding) -> &'static str {
    let loses_records = matches!(
        finding.kind,
        FindingKind::BatchHeader
            | FindingKind::BatchTruncated
            | FindingKind::BatchEpoch
            | FindingKind::BatchOffset
            | FindingKind::BatchCrc
            | FindingKind::BatchRecords
            | FindingKind::SegmentGap
            | FindingKind::RecordsMissing
    );
    match Content::of(&finding.file) {
        Content::Metadata if loses_records => {
            "refuses to start: the metadata log has to be whole; restore the directory from a backup"
        }
        _ => finding.kind.recovery(),
    }
}

fn write_finding(finding: &Finding, format: Format, out: &mut dyn Write) -> io::Result<()> {
    let kind = finding.kind;
    if format == Format::Json {
        return Line::new("finding")
            .with("gravity", kind.gravity().name())
            .with("kind", kind.name())
            .with("file", finding.file.as_str())
            .with("position", finding.position)
            .with("offset", finding.offset.map(|offset| offset.0))
            .with("detail", finding.detail.as_str())
            .with("meaning", kind.meaning())
            .with("recovery", recovery_of(finding))
            .write(format, out);
    }
    let gravity = match kind.gravity() {
        Gravity::Damage => "DAMAGE",
        Gravity::Note => "note",
    };
    writeln!(out, "{gravity:<7} {:<20} {}", kind.name(), finding.file)?;
    let mut place = Vec::new();
    place.extend(finding.position.map(|at| format!("position {at}")));
    place.extend(finding.offset.map(|at| format!("offset {at}")));
    if !place.is_empty() {
        writeln!(out, "        at        {}", place.join(", "))?;
    }
    writeln!(out, "        found     {}", finding.detail)?;
    writeln!(out, "        means     {}", kind.meaning())?;
    writeln!(out, "        recovery  {}", recovery_of(finding))
}

fn write_totals(totals: &Totals, format: Format, out: &mut dyn Write) -> io::Result<()> {
    if format == Format::Json {
        let object = json!({
            "type": "summary",
            "clean": totals.damages == 0,
            "damages": totals.damages,
            "notes": totals.notes,
            "partitions": totals.partitions,
            "segments": totals.segments,
            "batches": totals.batches,
            "records": totals.records,
            "bytes": totals.bytes,
        });
        return writeln!(out, "{object}");
    }
    let verdict = match totals.damages {
        0 => "no damage".to_string(),
        1 => "1 damage".to_string(),
        damages => format!("{damages} damages"),
    };
    writeln!(
        out,
        "{verdict}, {} notes; {} partitions, {} segments, {} batches, {} records, {} bytes of \
         batches",
        totals.notes,
        totals.partitions,
        totals.segments,
        totals.batches,
        totals.records,
        totals.bytes
    )
}
