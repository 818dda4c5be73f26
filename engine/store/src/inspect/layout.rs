//! The layout of the fixed parts of every format, field by field, for a view of the bytes beside
//! names and values. Damaged bytes are shown as they are; deciding is the codecs' business, and tests
//! hold these tables to what the codecs write.

use highwater_base::limits::BLOCK_BYTES;
use highwater_base::{ClusterId, DiskId, TopicId};

/// One field: where it lies, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// From the start of what was given.
    pub at: usize,
    pub len: usize,
    pub name: &'static str,
    pub value: String,
}

/// How the bytes of a field read.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Little(usize),
    LittleHex(usize),
    Big(usize),
    BigHex(usize),
    Text(usize),
    Cluster,
    Topic,
    Disk,
    /// Reserved: zeros.
    Zeros(usize),
    /// Zeros up to a position.
    ZerosTo(usize),
}

impl Shape {
    fn len(self, at: usize) -> usize {
        match self {
            Shape::Little(len)
            | Shape::LittleHex(len)
            | Shape::Big(len)
            | Shape::BigHex(len)
            | Shape::Text(len)
            | Shape::Zeros(len) => len,
            Shape::Cluster | Shape::Topic | Shape::Disk => 16,
            Shape::ZerosTo(end) => end.saturating_sub(at),
        }
    }

    fn read(self, bytes: &[u8]) -> String {
        match self {
            Shape::Little(len) => signed(bytes.iter().rev(), len).to_string(),
            Shape::Big(len) => signed(bytes.iter(), len).to_string(),
            Shape::LittleHex(_) => hexadecimal(bytes.iter().rev()),
            Shape::BigHex(_) => hexadecimal(bytes.iter()),
            Shape::Text(_) => format!("{:?}", String::from_utf8_lossy(bytes)),
            Shape::Cluster => id_of(bytes).map_or_else(String::new, |id| ClusterId(id).to_string()),
            Shape::Topic => id_of(bytes).map_or_else(String::new, |id| TopicId(id).to_string()),
            Shape::Disk => id_of(bytes).map_or_else(String::new, |id| DiskId(id).to_string()),
            Shape::Zeros(_) | Shape::ZerosTo(_) => match bytes.iter().all(|byte| *byte == 0) {
                true => "zeros".to_string(),
                false => "NOT ZERO".to_string(),
            },
        }
    }
}

fn id_of(bytes: &[u8]) -> Option<[u8; 16]> {
    bytes.try_into().ok()
}

/// Big-endian two's complement of up to eight bytes.
fn signed<'a>(bytes: impl Iterator<Item = &'a u8>, len: usize) -> i64 {
    let unsigned = bytes.fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    let unused = 64 - 8 * len.min(8) as u32;
    (unsigned << unused) as i64 >> unused
}

fn hexadecimal<'a>(bytes: impl Iterator<Item = &'a u8>) -> String {
    let value = bytes.fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    format!("{value:#010x}")
}

type Layout = &'static [(&'static str, Shape)];

/// Fields as far as the bytes reach.
fn fields(layout: Layout, bytes: &[u8]) -> Vec<Field> {
    let mut found = Vec::new();
    let mut at = 0;
    for (name, shape) in layout {
        let len = shape.len(at);
        let Some(covered) = bytes.get(at..at + len) else {
            break;
        };
        found.push(Field {
            at,
            len,
            name,
            value: shape.read(covered),
        });
        at += len;
    }
    found
}

const BATCH: Layout = &[
    ("base_offset", Shape::Big(8)),
    ("batch_length", Shape::Big(4)),
    ("partition_leader_epoch", Shape::Big(4)),
    ("magic", Shape::Big(1)),
    ("crc", Shape::BigHex(4)),
    ("attributes", Shape::BigHex(2)),
    ("last_offset_delta", Shape::Big(4)),
    ("base_timestamp", Shape::Big(8)),
    ("max_timestamp", Shape::Big(8)),
    ("producer_id", Shape::Big(8)),
    ("producer_epoch", Shape::Big(2)),
    ("base_sequence", Shape::Big(4)),
    ("record_count", Shape::Big(4)),
];

const SEGMENT_HEADER: Layout = &[
    ("magic", Shape::Text(8)),
    ("format_version", Shape::Little(4)),
    ("cluster_id", Shape::Cluster),
    ("topic_id", Shape::Topic),
    ("partition", Shape::Little(4)),
    ("epoch", Shape::Little(4)),
    ("base_offset", Shape::Little(8)),
    ("prev_epoch", Shape::Little(4)),
    ("prev_end", Shape::Little(8)),
    ("reserved", Shape::ZerosTo(BLOCK_BYTES - 4)),
    ("crc32c", Shape::LittleHex(4)),
];

const SUPERBLOCK: Layout = &[
    ("magic", Shape::LittleHex(4)),
    ("format_version", Shape::Little(4)),
    ("sequence", Shape::Little(8)),
    ("cluster_id", Shape::Cluster),
    ("disk_id", Shape::Disk),
    ("node_id", Shape::Little(4)),
    ("clean_shutdown", Shape::Little(1)),
    ("reserved", Shape::Zeros(1)),
    ("served_cores", Shape::Little(2)),
    ("served_run", Shape::Little(8)),
    ("crc32c", Shape::LittleHex(4)),
    ("padding", Shape::ZerosTo(BLOCK_BYTES)),
];

const LEDGER_BLOCK: Layout = &[
    ("magic", Shape::LittleHex(4)),
    ("version", Shape::Little(2)),
    ("core", Shape::Little(2)),
    ("generation", Shape::Little(8)),
    ("index", Shape::Little(4)),
    ("record_count", Shape::Little(2)),
    ("flags", Shape::LittleHex(2)),
    ("crc32c", Shape::LittleHex(4)),
    ("reserved", Shape::Zeros(4)),
    ("run", Shape::Little(8)),
    ("flush", Shape::Little(8)),
    ("completed_flush", Shape::Little(8)),
    ("reserved", Shape::ZerosTo(64)),
];

const LEDGER_MARK: Layout = &[
    ("kind", Shape::Little(1)),
    ("reserved", Shape::Zeros(3)),
    ("partition", Shape::Little(4)),
    ("topic_id", Shape::Topic),
    ("epoch", Shape::Little(4)),
    ("position", Shape::Little(4)),
    ("first", Shape::Little(8)),
    ("second", Shape::Little(8)),
];

const FRAME: Layout = &[
    ("magic", Shape::Text(8)),
    ("crc32c", Shape::LittleHex(4)),
    ("length", Shape::Little(4)),
];

/// The header of a record batch.
#[must_use]
pub fn batch_header_fields(bytes: &[u8]) -> Vec<Field> {
    fields(BATCH, bytes)
}

/// The header block of a segment.
#[must_use]
pub fn segment_header_fields(bytes: &[u8]) -> Vec<Field> {
    fields(SEGMENT_HEADER, bytes)
}

/// One copy of the superblock.
#[must_use]
pub fn superblock_fields(bytes: &[u8]) -> Vec<Field> {
    fields(SUPERBLOCK, bytes)
}

/// The header of a block of the marks ledger.
#[must_use]
pub fn ledger_block_fields(bytes: &[u8]) -> Vec<Field> {
    fields(LEDGER_BLOCK, bytes)
}

/// One mark in it.
#[must_use]
pub fn ledger_mark_fields(bytes: &[u8]) -> Vec<Field> {
    fields(LEDGER_MARK, bytes)
}

/// The frame of a sidecar or a checkpoint.
#[must_use]
pub fn frame_fields(bytes: &[u8]) -> Vec<Field> {
    fields(FRAME, bytes)
}

#[cfg(test)]
mod tests {
    use highwater_base::{CoreId, Epoch, NodeId, Offset, PartitionIndex};

    use super::*;
    use crate::marks::{BlockHeader, Mark, PartitionKey, encode_block};
    use crate::segment::SegmentHeader;
    use crate::sidecar;

    fn value<'a>(fields: &'a [Field], name: &str) -> &'a str {
        let field = fields.iter().find(|field| field.name == name);
        &field.unwrap_or_else(|| panic!("no field {name}")).value
    }

    fn assert_contiguous(fields: &[Field], total: usize) {
        let mut at = 0;
        for field in fields {
            assert_eq!(field.at, at, "{}", field.name);
            at += field.len;
        }
        assert_eq!(at, total);
        let reserved = |field: &&Field| matches!(field.name, "reserved" | "padding");
        for field in fields.iter().filter(reserved) {
            assert_eq!(field.value, "zeros", "{} at {}", field.name, field.at);
        }
    }

    #[test]
    fn segment_headers_read_as_they_are_written() {
        let header = SegmentHeader {
            cluster_id: ClusterId([1; 16]),
            topic_id: TopicId([2; 16]),
            partition: PartitionIndex(3),
            epoch: Epoch(4),
            base_offset: Offset(-5),
            prev_epoch: Epoch(6),
            prev_end: Offset(7),
        };
        let mut block = vec![0; BLOCK_BYTES];
        header.encode(&mut block);
        let fields = segment_header_fields(&block);
        assert_contiguous(&fields, BLOCK_BYTES);
        assert_eq!(value(&fields, "magic"), "\"HWSEGMNT\"");
        assert_eq!(value(&fields, "cluster_id"), header.cluster_id.to_string());
        assert_eq!(value(&fields, "topic_id"), header.topic_id.to_string());
        for (name, expected) in [
            ("partition", "3"),
            ("epoch", "4"),
            ("base_offset", "-5"),
            ("prev_epoch", "6"),
            ("prev_end", "7"),
        ] {
            assert_eq!(value(&fields, name), expected, "{name}");
        }
    }

    #[test]
    fn ledger_blocks_read_as_they_are_written() {
        let key = PartitionKey {
            topic_id: TopicId([7; 16]),
            partition: PartitionIndex(3),
        };
        let mark = Mark::Progress {
            key,
            epoch: Epoch(2),
            position: 8192,
            persisted_end: Offset(20),
            high_watermark: Offset(19),
        };
        let header = BlockHeader {
            core: CoreId(1),
            run: 5,
            generation: 9,
            index: 4,
            flags: 1,
            flush: 7,
            completed_flush: 6,
        };
        let mut block = vec![0; BLOCK_BYTES];
        encode_block(&header, &[mark], &mut block);
        let fields = ledger_block_fields(&block);
        assert_contiguous(&fields, 64);
        assert_eq!(value(&fields, "generation"), "9");
        assert_eq!(value(&fields, "index"), "4");
        assert_eq!(value(&fields, "flush"), "7");
        assert_eq!(value(&fields, "record_count"), "1");
        let fields = ledger_mark_fields(&block[64..112]);
        assert_contiguous(&fields, 48);
        assert_eq!(value(&fields, "topic_id"), key.topic_id.to_string());
        assert_eq!(value(&fields, "first"), "20");
        assert_eq!(value(&fields, "second"), "19");
    }

    #[test]
    fn superblocks_and_frames_read_as_they_are_written() {
        let superblock = crate::Superblock {
            cluster_id: ClusterId([1; 16]),
            node_id: NodeId(12),
            disk_id: DiskId([3; 16]),
            format_version: 1,
            clean_shutdown: true,
            sequence: 99,
            served_run: 98,
            served_cores: 3,
        };
        let block = superblock.encode();
        let fields = superblock_fields(&block);
        assert_contiguous(&fields, BLOCK_BYTES);
        assert_eq!(value(&fields, "node_id"), "12");
        assert_eq!(value(&fields, "disk_id"), superblock.disk_id.to_string());
        assert_eq!(value(&fields, "clean_shutdown"), "1");
        assert_eq!(value(&fields, "sequence"), "99");
        assert_eq!(value(&fields, "served_run"), "98");
        assert_eq!(value(&fields, "served_cores"), "3");
        let framed = sidecar::frame(sidecar::INDEX_MAGIC, b"abc");
        assert_eq!(value(&frame_fields(&framed), "length"), "3");
    }
}
