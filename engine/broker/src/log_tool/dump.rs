//! `log dump`: every file that was asked for, unit by unit.

use std::io::Write;

use highwater_base::Offset;
use highwater_base::disk::{BootDisk, DiskError};
use highwater_base::limits::BLOCK_BYTES;
use highwater_store::inspect::{
    Field, FileKind, SuperblockCopy, frame_fields, ledger_block_fields, ledger_mark_fields,
    read_checkpoint, read_index, read_ledger, read_producers, read_superblock, superblock_fields,
    walk_segment,
};
use highwater_store::{Mark, inspect};

use super::dump_segment::SegmentView;
use super::line::Line;
use super::place::Target;
use super::{DumpArgs, Format, LogToolError, hex};

/// Bytes before the first mark of a ledger block, and of a mark.
const LEDGER_HEADER_BYTES: usize = 64;
const MARK_BYTES: usize = 48;
/// Bytes of a sidecar's frame.
const FRAME_BYTES: usize = 16;

/// What is shown, and where to.
pub(super) struct Dump<'a> {
    pub args: &'a DumpArgs,
    pub format: Format,
    pub limit: usize,
    disk: &'a dyn BootDisk,
    /// What is being shown; each JSON object says so.
    file: String,
    pub out: &'a mut dyn Write,
}

pub(super) fn run(args: &DumpArgs, out: &mut dyn Write) -> Result<(), LogToolError> {
    let target = Target::find(&args.path)?;
    let mut dump = Dump {
        args,
        format: Format::of(args.json),
        limit: args.limit.unwrap_or(usize::MAX),
        disk: &target.disk,
        file: String::new(),
        out,
    };
    let lone = target.lone_partition.as_ref();
    let start = lone.map_or("", |place| place.directory.as_str());
    let mut shown = 0;
    dump.descend(&target, start, &mut shown)?;
    match shown {
        0 => Err(LogToolError::Usage(format!(
            "{} is no file that Highwater writes, and holds none",
            args.path.display()
        ))),
        _ => Ok(()),
    }
}

fn disk_error(path: &str) -> impl Fn(DiskError) -> LogToolError + '_ {
    move |error| LogToolError::Disk {
        path: path.to_string(),
        error,
    }
}

impl Dump<'_> {
    fn descend(
        &mut self,
        target: &Target,
        directory: &str,
        shown: &mut usize,
    ) -> Result<(), LogToolError> {
        let entries = self.disk.list(directory).map_err(disk_error(directory))?;
        for entry in entries {
            let path = match directory {
                "" => entry.name.clone(),
                directory => format!("{directory}/{}", entry.name),
            };
            if entry.is_directory && target.reaches_into(&path) {
                self.descend(target, &path, shown)?;
            } else if let Some(kind) = FileKind::of(&path).filter(|_| target.includes(&path)) {
                *shown += 1;
                self.file(&path, kind, entry.size_bytes)?;
            }
        }
        Ok(())
    }

    pub fn line(&mut self, line: Line) -> Result<(), LogToolError> {
        let line = match self.format {
            Format::Json => line.with("file", self.file.as_str()),
            Format::Text => line,
        };
        Ok(line.write(self.format, self.out)?)
    }

    /// Shows fields of `bytes`, which begin at `position`, if bytes were asked for.
    pub fn fields(
        &mut self,
        position: u64,
        bytes: &[u8],
        fields: &[Field],
    ) -> Result<(), LogToolError> {
        for field in fields.iter().filter(|_| self.args.bytes) {
            let covered = bytes.get(field.at..field.at + field.len);
            self.run_of_bytes(
                position + field.at as u64,
                covered.unwrap_or_default(),
                field,
            )?;
        }
        Ok(())
    }

    /// Shows one run of bytes.
    pub fn run_of_bytes(
        &mut self,
        position: u64,
        bytes: &[u8],
        field: &Field,
    ) -> Result<(), LogToolError> {
        match self.format {
            Format::Text => Ok(hex::write(position, bytes, field, self.out)?),
            Format::Json => self.line(
                Line::new("bytes")
                    .with("position", position)
                    .with("length", bytes.len())
                    .with("hex", hex::digits(bytes))
                    .with("field", field.name)
                    .with("value", field.value.as_str()),
            ),
        }
    }

    fn file(&mut self, path: &str, kind: FileKind, size_bytes: u64) -> Result<(), LogToolError> {
        let word = match kind {
            FileKind::Superblock => "superblock",
            FileKind::Ledger => "ledger",
            FileKind::Checkpoint => "checkpoint",
            FileKind::Segment { .. } => "segment",
            FileKind::Index { .. } => "index",
            FileKind::Producers { .. } => "producers",
        };
        self.file = path.to_string();
        let mut line = Line::new("file");
        if self.format == Format::Text {
            line = line.with("path", path);
        }
        self.line(line.with("kind", word).with("size_bytes", size_bytes))?;
        match kind {
            FileKind::Superblock => self.superblock(path),
            FileKind::Ledger => self.ledger(path),
            FileKind::Checkpoint => self.checkpoint(path, size_bytes),
            FileKind::Segment { .. } => self.segment(path, size_bytes),
            FileKind::Index { .. } => self.index(path, size_bytes),
            FileKind::Producers { .. } => self.producers(path, size_bytes),
        }
    }

    fn superblock(&mut self, path: &str) -> Result<(), LogToolError> {
        for copy in read_superblock(self.disk, path).map_err(disk_error(path))? {
            let SuperblockCopy {
                position,
                bytes,
                decoded,
            } = copy;
            let number = position / BLOCK_BYTES as u64;
            let line = Line::new("copy")
                .with("number", number)
                .with("position", position);
            self.line(match decoded {
                Ok(it) => line
                    .with("state", "ok")
                    .with("sequence", it.sequence)
                    .with("cluster_id", it.cluster_id.to_string())
                    .with("disk_id", it.disk_id.to_string())
                    .with("node_id", it.node_id.0)
                    .with("format_version", it.format_version)
                    .with("clean_shutdown", it.clean_shutdown),
                Err(why) => line.with("state", "bad").with("reason", why),
            })?;
            self.fields(position, &bytes, &superblock_fields(&bytes))?;
        }
        Ok(())
    }

    fn ledger(&mut self, path: &str) -> Result<(), LogToolError> {
        let mut ended = Ok(());
        let mut left = self.limit;
        let disk = self.disk;
        let read = read_ledger(disk, path, &mut |block| {
            if left == 0 {
                return false;
            }
            left -= 1;
            ended = self.ledger_block(&block);
            ended.is_ok()
        });
        read.map_err(disk_error(path))?;
        ended
    }

    fn ledger_block(&mut self, block: &inspect::LedgerBlock) -> Result<(), LogToolError> {
        let line = Line::new("block").with("position", block.position);
        let marks = match &block.decoded {
            Some((header, marks)) => {
                self.line(
                    line.with("state", "ok")
                        .with("core", header.core.0)
                        .with("generation", header.generation)
                        .with("index", header.index)
                        .with("ends_snapshot", header.flags & 1 != 0)
                        .with("marks", marks.len()),
                )?;
                marks.as_slice()
            }
            None => {
                let why = "magic, version, checksum or a mark does not match";
                self.line(line.with("state", "bad").with("reason", why))?;
                &[]
            }
        };
        let fields = ledger_block_fields(&block.bytes);
        self.fields(block.position, &block.bytes, &fields)?;
        for (at, mark) in marks.iter().enumerate() {
            self.line(mark_line(mark))?;
            let from = LEDGER_HEADER_BYTES + at * MARK_BYTES;
            if let Some(bytes) = block.bytes.get(from..from + MARK_BYTES) {
                let position = block.position + from as u64;
                self.fields(position, bytes, &ledger_mark_fields(bytes))?;
            }
        }
        Ok(())
    }

    /// The frame of a small file, and what is in it as one run of bytes.
    fn frame_bytes(&mut self, path: &str, size_bytes: u64) -> Result<(), LogToolError> {
        if !self.args.bytes {
            return Ok(());
        }
        let mut bytes = vec![0; usize::try_from(size_bytes).unwrap_or(0).min(1 << 20)];
        let got = self
            .disk
            .read(path, 0, &mut bytes)
            .map_err(disk_error(path))?;
        bytes.truncate(got);
        self.fields(0, &bytes, &frame_fields(&bytes))?;
        if let Some(archive) = bytes.get(FRAME_BYTES..) {
            let field = Field {
                at: FRAME_BYTES,
                len: archive.len(),
                name: "archive",
                value: format!("{} bytes (rkyv)", archive.len()),
            };
            self.run_of_bytes(FRAME_BYTES as u64, archive, &field)?;
        }
        Ok(())
    }

    fn bad(&mut self) -> Result<(), LogToolError> {
        let why = "the frame, its checksum or what is in it does not match";
        self.line(Line::new("bad").with("reason", why))
    }

    fn index(&mut self, path: &str, size_bytes: u64) -> Result<(), LogToolError> {
        let image = read_index(self.disk, path, size_bytes).map_err(disk_error(path))?;
        let Some(image) = image else {
            self.bad()?;
            return self.frame_bytes(path, size_bytes);
        };
        self.line(
            Line::new("index")
                .with("base_offset", image.base_offset)
                .with("epoch", image.epoch)
                .with("next_offset", image.next_offset)
                .with("end_position", image.end_position)
                .with("first_timestamp", image.first_timestamp)
                .with("max_timestamp", image.max_timestamp)
                .with("entries", image.entries.len()),
        )?;
        self.frame_bytes(path, size_bytes)?;
        let offset = |relative: u32| image.base_offset + i64::from(relative);
        let entries = image.entries.iter().enumerate();
        // From the entry on behind which the offset is.
        let from = image
            .entries
            .partition_point(|entry| offset(entry.relative_offset) <= self.args.from_offset)
            .saturating_sub(1);
        for (number, entry) in entries.skip(from).take(self.limit) {
            self.line(
                Line::new("entry")
                    .with("number", number)
                    .with("offset", offset(entry.relative_offset))
                    .with("position", entry.position)
                    .with("max_timestamp_before", entry.max_timestamp_before),
            )?;
        }
        Ok(())
    }

    fn producers(&mut self, path: &str, size_bytes: u64) -> Result<(), LogToolError> {
        let found = read_producers(self.disk, path, size_bytes).map_err(disk_error(path))?;
        let Some((offset, producers)) = found else {
            self.bad()?;
            return self.frame_bytes(path, size_bytes);
        };
        let line = Line::new("producers").with("offset", offset.0);
        self.line(line.with("producers", producers.len()))?;
        self.frame_bytes(path, size_bytes)?;
        for producer in producers.iter().take(self.limit) {
            let count = usize::from(producer.count).min(producer.batches.len());
            let batches = producer.batches[..count].iter();
            let batches: Vec<String> = batches.map(|batch| format!("{batch:?}")).collect();
            self.line(
                Line::new("producer")
                    .with("producer_id", producer.producer_id)
                    .with("epoch", producer.epoch)
                    .with("last_used_ms", producer.last_used_ms)
                    .with("batches", batches),
            )?;
        }
        Ok(())
    }

    fn checkpoint(&mut self, path: &str, size_bytes: u64) -> Result<(), LogToolError> {
        let found = read_checkpoint(self.disk, path, size_bytes).map_err(disk_error(path))?;
        let Some((run, logs)) = found else {
            self.bad()?;
            return self.frame_bytes(path, size_bytes);
        };
        self.frame_bytes(path, size_bytes)?;
        self.line(Line::new("checkpoint").with("run", run))?;
        for log in logs.iter().take(self.limit) {
            let holes: Vec<String> = log
                .holes
                .iter()
                .map(|hole| format!("{}..{}", hole.from, hole.to))
                .collect();
            self.line(
                Line::new("log")
                    .with("topic_id", log.key().topic_id.to_string())
                    .with("partition", log.partition)
                    .with("epoch", log.epoch)
                    .with("log_start", log.log_start)
                    .with("end", log.end)
                    .with("holes", holes)
                    .with("segments", log.segments.len()),
            )?;
            for segment in &log.segments {
                self.line(
                    Line::new("segment")
                        .with("base_offset", segment.base_offset)
                        .with("epoch", segment.epoch)
                        .with("next_offset", segment.next_offset)
                        .with("end_position", segment.end_position)
                        .with("size_bytes", segment.size_bytes)
                        .with("max_timestamp", segment.max_timestamp)
                        .with("sealed", segment.sealed),
                )?;
            }
        }
        Ok(())
    }

    fn segment(&mut self, path: &str, size_bytes: u64) -> Result<(), LogToolError> {
        let disk = self.disk;
        let from = Offset(self.args.from_offset);
        let mut view = SegmentView::new(path, self);
        let read = walk_segment(disk, path, size_bytes, from, &mut |item| view.show(&item));
        let ended = view.end();
        read.map_err(disk_error(path))?;
        ended
    }
}

fn mark_line(mark: &Mark) -> Line {
    let key = mark.key();
    let line = |kind: &str| {
        Line::new("mark")
            .with("kind", kind)
            .with("topic_id", key.topic_id.to_string())
            .with("partition", key.partition.0)
    };
    match *mark {
        Mark::Epoch { epoch, start, .. } => {
            line("epoch").with("epoch", epoch.0).with("start", start.0)
        }
        Mark::Progress {
            epoch,
            position,
            persisted_end,
            high_watermark,
            ..
        } => line("progress")
            .with("epoch", epoch.0)
            .with("durable_end", persisted_end.0)
            .with("position", position)
            .with("high_watermark", high_watermark.0),
        Mark::Truncated { epoch, to, .. } => {
            line("truncated").with("epoch", epoch.0).with("to", to.0)
        }
        Mark::LogStart { offset, .. } => line("log_start").with("offset", offset.0),
        Mark::Unvouched { upto, .. } => line("unvouched").with("upto", upto.0),
        Mark::Clean { position, .. } => line("clean")
            .with("epoch", position.epoch.0)
            .with("end", position.end.0),
        Mark::Dropped { .. } => line("dropped"),
    }
}
