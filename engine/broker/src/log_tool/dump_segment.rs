//! The units of a segment file as lines: header, batches, records, junk, padding.

use highwater_base::BatchHeader;
use highwater_base::record_batch::{ATTRIBUTE_LOG_APPEND_TIME, HEADER_BYTES};
use highwater_store::inspect::{
    BatchFault, Field, SegmentItem, batch_header_fields, segment_header_fields,
};
use highwater_store::segment::{NO_PREVIOUS_EPOCH, SegmentHeader};
use highwater_wire::compression::Codec;
use highwater_wire::records::RecordIterator;
use serde_json::{Value, json};

use super::LogToolError;
use super::dump::Dump;
use super::line::{Line, bytes_value};
use super::records::{Content, explain, fields, unpack};

/// What is shown of one segment.
pub(super) struct SegmentView<'a, 'd> {
    dump: &'a mut Dump<'d>,
    content: Content,
    left: usize,
    ended: Result<(), LogToolError>,
}

impl<'a, 'd> SegmentView<'a, 'd> {
    pub fn new(path: &str, dump: &'a mut Dump<'d>) -> SegmentView<'a, 'd> {
        SegmentView {
            content: Content::of(path),
            left: dump.limit,
            dump,
            ended: Ok(()),
        }
    }

    pub fn end(self) -> Result<(), LogToolError> {
        self.ended
    }

    /// Shows one unit. False when no more are wanted.
    pub fn show(&mut self, item: &SegmentItem<'_>) -> bool {
        if matches!(item, SegmentItem::Batch { .. } | SegmentItem::Junk { .. }) {
            if self.left == 0 {
                return false;
            }
            self.left -= 1;
        }
        self.ended = self.item(item);
        self.ended.is_ok()
    }

    fn item(&mut self, item: &SegmentItem<'_>) -> Result<(), LogToolError> {
        match item {
            SegmentItem::Header { bytes, decoded } => {
                self.dump.line(match decoded {
                    Ok(header) => Line::new("segment")
                        .with("position", 0)
                        .with("state", "ok")
                        .with("cluster_id", header.cluster_id.to_string())
                        .with("topic_id", header.topic_id.to_string())
                        .with("partition", header.partition.0)
                        .with("epoch", header.epoch.0)
                        .with("base_offset", header.base_offset.0)
                        .with("prev_epoch", previous(header))
                        .with("prev_end", header.prev_end.0),
                    Err(error) => Line::new("segment")
                        .with("position", 0)
                        .with("state", "bad")
                        .with("reason", error.to_string()),
                })?;
                self.dump.fields(0, bytes, &segment_header_fields(bytes))
            }
            SegmentItem::Batch {
                position,
                header,
                bytes,
                fault,
            } => self.batch(*position, header, bytes, fault.as_ref()),
            SegmentItem::Junk {
                position,
                until,
                bytes,
                fault,
            } => {
                let line = Line::new("junk")
                    .with("position", *position)
                    .with("bytes", until - position)
                    .with("reason", fault_text(fault));
                self.dump.line(line)?;
                self.dump
                    .fields(*position, bytes, &batch_header_fields(bytes))
            }
            SegmentItem::Padding { position, until } => self.dump.line(
                Line::new("padding")
                    .with("position", *position)
                    .with("bytes", until - position),
            ),
        }
    }

    fn batch(
        &mut self,
        position: u64,
        header: &BatchHeader,
        bytes: &[u8],
        fault: Option<&BatchFault>,
    ) -> Result<(), LogToolError> {
        self.dump.line(batch_line(position, header, fault))?;
        let mut header_fields = batch_header_fields(bytes);
        for field in &mut header_fields {
            if field.name == "attributes" {
                field
                    .value
                    .push_str(&format!(" ({})", attributes_text(header)));
            }
        }
        self.dump.fields(position, bytes, &header_fields)?;
        if self.dump.args.records {
            return self.records(position, header, bytes);
        }
        let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
        if self.dump.args.bytes && !body.is_empty() {
            let field = Field {
                at: HEADER_BYTES,
                len: body.len(),
                name: "records",
                value: format!("{} bytes; --records shows what is in them", body.len()),
            };
            let at = position + HEADER_BYTES as u64;
            self.dump.run_of_bytes(at, body, &field)?;
        }
        Ok(())
    }

    fn records(
        &mut self,
        position: u64,
        header: &BatchHeader,
        batch: &[u8],
    ) -> Result<(), LogToolError> {
        let bad = |error: String| {
            Line::new("bad")
                .with("position", position)
                .with("reason", error)
        };
        let body = match unpack(header, batch) {
            Ok(body) => body,
            Err(error) => return self.dump.line(bad(error)),
        };
        // Packed records have positions in what they unpack to only.
        let mut start = position + HEADER_BYTES as u64;
        if header.codec() != 0 && self.dump.args.bytes {
            start = 0;
            let note = "positions of the records below count from the unpacked bytes' beginning";
            let line = Line::new("unpacked").with("position", position);
            self.dump
                .line(line.with("bytes", body.len()).with("note", note))?;
        }
        let mut at = 0;
        for (number, record) in RecordIterator::new(header, &body).enumerate() {
            let record = match record {
                Ok(record) => record,
                Err(error) => return self.dump.line(bad(format!("record {number}: {error}"))),
            };
            let headers = record.headers().map(|header| {
                let value = header.value.map(|bytes| match std::str::from_utf8(bytes) {
                    Ok(text) => Value::from(text),
                    Err(_) => bytes_value(bytes),
                });
                json!([header.key, value])
            });
            let mut line = Line::new("record")
                .with("offset", record.offset)
                .with("timestamp", record.timestamp);
            line = match explain(self.content, header, batch, number, &record) {
                Value::Null => line
                    .with_bytes("key", record.key)
                    .with_bytes("value", record.value)
                    .with("headers", headers.collect::<Vec<_>>()),
                explained => line.with("says", explained),
            };
            self.dump.line(line)?;
            if self.dump.args.bytes
                && let Ok((found, end)) = fields(&body, at)
            {
                self.dump.fields(start, &body, &found)?;
                at = end;
            }
        }
        Ok(())
    }
}

/// The epoch of the segment before, if there is one.
fn previous(header: &SegmentHeader) -> Option<u32> {
    let epoch = header.prev_epoch;
    (epoch != NO_PREVIOUS_EPOCH).then_some(epoch.0)
}

fn batch_line(position: u64, header: &BatchHeader, fault: Option<&BatchFault>) -> Line {
    let crc_state = match fault {
        None => "ok".to_string(),
        Some(fault) => format!("BAD, {}", fault_text(fault)),
    };
    let timestamp_type = match header.attributes & ATTRIBUTE_LOG_APPEND_TIME {
        0 => "create_time",
        _ => "log_append_time",
    };
    let mut line = Line::new("batch")
        .with("position", position)
        .with("bytes", header.total_bytes())
        .with("base_offset", header.base_offset)
        .with("last_offset", header.last_offset().0)
        .with("records", header.record_count)
        .with("crc", format!("{:#010x}", header.crc))
        .with("crc_state", crc_state)
        .with("epoch", header.partition_leader_epoch)
        .with("codec", codec_name(header))
        .with("timestamp_type", timestamp_type)
        .with("base_timestamp", header.base_timestamp)
        .with("max_timestamp", header.max_timestamp);
    if header.is_idempotent() {
        line = line
            .with("producer_id", header.producer_id)
            .with("producer_epoch", header.producer_epoch)
            .with("base_sequence", header.base_sequence);
    }
    line
}

fn codec_name(header: &BatchHeader) -> String {
    match Codec::from_attributes(header.attributes) {
        Some(codec) => codec.name().to_string(),
        None => format!("unknown-{}", header.codec()),
    }
}

fn attributes_text(header: &BatchHeader) -> String {
    let has = |bit: i16, with: &str, without: &str| match header.attributes & bit {
        0 => without.to_string(),
        _ => with.to_string(),
    };
    format!(
        "codec {}, {}, {}, {}",
        codec_name(header),
        has(0x08, "log append time", "create time"),
        has(0x10, "transactional", "not transactional"),
        has(0x20, "control batch", "data batch")
    )
}

fn fault_text(fault: &BatchFault) -> String {
    match fault {
        BatchFault::NoRoom { have } => format!("{have} bytes are fewer than a batch header"),
        BatchFault::Header(error) | BatchFault::Crc { error, .. } => error.to_string(),
        BatchFault::Beyond { header, have } => format!(
            "batch_length makes it {} bytes, {have} are left in the file",
            header.total_bytes()
        ),
        BatchFault::Epoch { header } => {
            format!("leader epoch is {}", header.partition_leader_epoch)
        }
    }
}
