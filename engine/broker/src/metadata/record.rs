//! Metadata records: one change each, kept as the values of ordinary records in the metadata log.
//!
//! A value is one version byte and an rkyv archive of [`MetadataRecord`]. New variants are added at
//! the end; a reader that meets a version or variant it does not know refuses to start, because
//! going on without it would be guessing.

use highwater_base::record_batch::HEADER_BYTES;
use highwater_base::{BatchHeader, Timestamp};
use highwater_wire::records::{Record, RecordBatchBuilder, RecordIterator};
use rkyv::{Archive, Deserialize, Serialize};

const VALUE_VERSION: u8 = 1;

/// One change of the metadata.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum MetadataRecord {
    /// A topic came to be. Partition `i` has core slot `core_slot_base + i`.
    Topic {
        topic_id: [u8; 16],
        name: String,
        partitions: u32,
        core_slot_base: u32,
        config: Vec<(String, String)>,
    },
    /// A topic has `total` partitions from now on.
    Partitions { topic_id: [u8; 16], total: u32 },
    /// Tombstone: the topic and its data are gone.
    TopicDeleted { topic_id: [u8; 16] },
    /// The overrides of a topic, all of them.
    TopicConfig {
        topic_id: [u8; 16],
        config: Vec<(String, String)>,
    },
    /// Producer ids below `next` have been handed out to cores.
    ProducerIds { next: i64 },
    /// What follows, up to the matching end, repeats the whole image.
    SnapshotBegin,
    /// The snapshot is complete; everything before its beginning may go.
    SnapshotEnd,
    /// What is changed at run time of the broker with this node id, or of all brokers: all of it.
    BrokerConfig {
        node_id: Option<i32>,
        config: Vec<(String, String)>,
    },
}

/// Metadata bytes that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("metadata record at offset {offset} is unreadable: {reason}")]
pub struct MetadataRecordError {
    pub offset: i64,
    pub reason: String,
}

/// Puts records into one record batch, ready for the log.
#[must_use]
pub fn encode_batch(records: &[MetadataRecord], timestamp: Timestamp) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new();
    for record in records {
        let archive = rkyv::to_bytes::<rkyv::rancor::Error>(record)
            .expect("serialising into memory cannot fail");
        let mut value = Vec::with_capacity(archive.len() + 1);
        value.push(VALUE_VERSION);
        value.extend_from_slice(&archive);
        builder.append(timestamp, None, Some(&value), &[]);
    }
    builder.finish()
}

/// Takes the records out of a batch of the metadata log.
///
/// # Errors
/// Bytes that are not what `encode_batch` writes.
pub fn decode_batch(
    header: &BatchHeader,
    batch: &[u8],
) -> Result<Vec<MetadataRecord>, MetadataRecordError> {
    let refuse = |reason: String| MetadataRecordError {
        offset: header.base_offset,
        reason,
    };
    let body = batch
        .get(HEADER_BYTES..)
        .ok_or_else(|| refuse("no records".to_string()))?;
    let mut records = Vec::new();
    for record in RecordIterator::new(header, body) {
        let record: Record<'_> = record.map_err(|error| refuse(error.to_string()))?;
        let (version, archive) = record
            .value
            .and_then(<[u8]>::split_first)
            .ok_or_else(|| refuse("empty value".to_string()))?;
        if *version != VALUE_VERSION {
            return Err(refuse(format!(
                "value version {version}, known is {VALUE_VERSION}"
            )));
        }
        let mut aligned = rkyv::util::AlignedVec::<16>::with_capacity(archive.len());
        aligned.extend_from_slice(archive);
        let decoded = rkyv::from_bytes::<MetadataRecord, rkyv::rancor::Error>(&aligned)
            .map_err(|error| refuse(error.to_string()))?;
        records.push(decoded);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_log_format() {
        let records = vec![
            MetadataRecord::Topic {
                topic_id: [7; 16],
                name: "orders".to_string(),
                partitions: 3,
                core_slot_base: 5,
                config: vec![("retention.ms".to_string(), "1000".to_string())],
            },
            MetadataRecord::ProducerIds { next: 2000 },
            MetadataRecord::TopicDeleted { topic_id: [7; 16] },
            MetadataRecord::BrokerConfig {
                node_id: Some(3),
                config: vec![("log.retention.ms".to_string(), "1000".to_string())],
            },
        ];
        let batch = encode_batch(&records, 1);
        let header = BatchHeader::parse(&batch).expect("a valid batch");
        header.verify_crc(&batch).expect("a valid CRC");
        assert_eq!(decode_batch(&header, &batch).expect("readable"), records);
    }

    /// A batch as it was written when there were no records of broker configuration.
    const FORMER_BATCH: &str = "\
         00000000000000000000008b0000000002716d208f000000000000000001a212d8d7a5000001a212\
         d8d7a5ffffffffffffffffffffffffffff00000001b00100000001a20101726574656e74696f6e2e\
         6d738c000000f4ffffff31303030ffffffff00000000005b02bb306c2742d4a368c5795cf323f400\
         00006f6c64ffffffffff0300000000000000c8ffffff010000000000000000";

    #[test]
    fn batches_of_former_versions_are_read() {
        let digits = FORMER_BATCH.as_bytes();
        let batch: Vec<u8> = digits
            .chunks(2)
            .map(|pair| {
                let pair = std::str::from_utf8(pair).expect("digits");
                u8::from_str_radix(pair, 16).expect("hexadecimal")
            })
            .collect();
        let header = BatchHeader::parse(&batch).expect("a valid batch");
        header.verify_crc(&batch).expect("a valid CRC");
        let records = decode_batch(&header, &batch).expect("readable");
        let [
            MetadataRecord::Topic {
                name,
                partitions,
                config,
                ..
            },
        ] = &records[..]
        else {
            panic!("unexpected {records:?}");
        };
        assert_eq!((name.as_str(), *partitions), ("old", 3));
        let expected = [("retention.ms".to_string(), "1000".to_string())];
        assert_eq!(config[..], expected);
    }

    #[test]
    fn unknown_bytes_are_refused_not_guessed() {
        let mut builder = RecordBatchBuilder::new();
        builder.append(1, None, Some(&[9, 1, 2, 3]), &[]);
        let batch = builder.finish();
        let header = BatchHeader::parse(&batch).expect("a valid batch");
        let error = decode_batch(&header, &batch).expect_err("refused");
        assert!(error.to_string().contains("value version 9"), "{error}");
    }
}
