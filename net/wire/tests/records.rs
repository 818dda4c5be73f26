//! Record batches against the kafka-protocol crate: each reads what the other writes, with every
//! codec, and damaged ones are refused without harm.

use bytes::{Bytes, BytesMut};
use highwater_base::BatchHeader;
use highwater_base::prng::Prng;
use highwater_base::record_batch::HEADER_BYTES;
use highwater_wire::compression::{Codec, CompressionError, compress, decompress};
use highwater_wire::records::{RecordBatchBuilder, RecordIterator};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

const UNPACKED_BYTES_MAX: usize = 1 << 20;

type Headers = Vec<(String, Option<Vec<u8>>)>;

/// What both sides must agree on.
#[derive(Debug, PartialEq)]
struct Content {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Headers,
}

fn content(prng: &mut Prng, offset: i64) -> Content {
    let mut bytes = |most: u64| {
        let mut bytes = vec![b'x'; prng.below(most) as usize];
        let half = bytes.len() / 2;
        prng.fill(&mut bytes[half..]);
        prng.chance(4, 5).then_some(bytes)
    };
    Content {
        offset,
        timestamp: 1_700_000_000_000 + offset * 7 - 3,
        key: bytes(30),
        value: bytes(5000),
        headers: (0..offset % 3)
            .map(|at| (format!("é{at}"), bytes(20)))
            .collect(),
    }
}

fn contents(seed: u64) -> Vec<Content> {
    let mut prng = Prng::new(seed);
    (0..20).map(|offset| content(&mut prng, offset)).collect()
}

fn build(contents: &[Content], codec: Codec) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new();
    builder.set_producer(77, 3, 1000);
    for one in contents {
        let headers: Vec<(&str, Option<&[u8]>)> = one
            .headers
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_deref()))
            .collect();
        builder.append(
            one.timestamp,
            one.key.as_deref(),
            one.value.as_deref(),
            &headers,
        );
    }
    builder.finish_compressed(codec).expect("it packs")
}

fn read(batch: &[u8]) -> Vec<Content> {
    let header = BatchHeader::parse(batch).expect("a batch");
    header.verify_crc(batch).expect("undamaged");
    assert_eq!(header.total_bytes(), batch.len());
    let codec = Codec::from_attributes(header.attributes).expect("a codec");
    let body = decompress(codec, &batch[HEADER_BYTES..], UNPACKED_BYTES_MAX).expect("it unpacks");
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    RecordIterator::new(&header, &body)
        .map(|record| record.expect("a record"))
        .map(|record| Content {
            offset: record.offset,
            timestamp: record.timestamp,
            key: owned(record.key),
            value: owned(record.value),
            headers: record
                .headers()
                .map(|header| (header.key.to_owned(), owned(header.value)))
                .collect(),
        })
        .collect()
}

fn theirs(codec: Codec) -> Compression {
    match codec {
        Codec::None => Compression::None,
        Codec::Gzip => Compression::Gzip,
        Codec::Snappy => Compression::Snappy,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    }
}

#[test]
fn they_read_what_we_write() {
    for codec in Codec::ALL {
        let written = contents(1);
        let mut bytes = Bytes::from(build(&written, codec));
        let set = RecordBatchDecoder::decode(&mut bytes).expect("they decode it");
        let read: Vec<Content> = set
            .records
            .into_iter()
            .map(|record| {
                assert_eq!((record.producer_id, record.producer_epoch), (77, 3));
                assert_eq!(i64::from(record.sequence), 1000 + record.offset);
                Content {
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: record.key.map(Vec::from),
                    value: record.value.map(Vec::from),
                    headers: record
                        .headers
                        .into_iter()
                        .map(|(key, value)| (key.to_string(), value.map(Vec::from)))
                        .collect(),
                }
            })
            .collect();
        assert_eq!(read, written, "{codec:?}");
    }
}

#[test]
fn we_read_what_they_write() {
    for codec in Codec::ALL {
        let written = contents(2);
        let records: Vec<Record> = written
            .iter()
            .map(|one| Record {
                transactional: false,
                control: false,
                delete_horizon: false,
                partition_leader_epoch: 0,
                producer_id: 5,
                producer_epoch: 1,
                timestamp_type: TimestampType::Creation,
                offset: one.offset,
                sequence: one.offset as i32,
                timestamp: one.timestamp,
                key: one.key.clone().map(Bytes::from),
                value: one.value.clone().map(Bytes::from),
                headers: one
                    .headers
                    .iter()
                    .map(|(key, value)| {
                        (
                            StrBytes::from_string(key.clone()),
                            value.clone().map(Bytes::from),
                        )
                    })
                    .collect::<IndexMap<_, _>>(),
            })
            .collect();
        let options = RecordEncodeOptions {
            version: 2,
            compression: theirs(codec),
        };
        let mut bytes = BytesMut::new();
        RecordBatchEncoder::encode(&mut bytes, &records, &options).expect("they encode");
        assert_eq!(read(&bytes), written, "{codec:?}");
    }
}

#[test]
fn damaged_records_do_no_harm() {
    let batch = build(&contents(3), Codec::None);
    let header = BatchHeader::parse(&batch).expect("a batch");
    let mut prng = Prng::new(3);
    for _ in 0..20_000 {
        let mut body = batch[HEADER_BYTES..].to_vec();
        for _ in 0..=prng.below(3) {
            let at = prng.below(body.len() as u64) as usize;
            body[at] = prng.next_u64() as u8;
        }
        body.truncate(prng.below(body.len() as u64 + 1) as usize);
        let records = RecordIterator::new(&header, &body).map_while(Result::ok);
        let mut count = 0;
        for record in records {
            count += 1;
            let headers = record.headers().count();
            assert!(headers <= body.len());
        }
        assert!(count <= 20);
    }
}

#[test]
fn what_unpacks_to_too_much_is_refused() {
    let bomb = vec![0u8; 1 << 20];
    for codec in Codec::ALL {
        let packed = compress(codec, &bomb).expect("it packs");
        let allowed = decompress(codec, &packed, bomb.len()).expect("just as much as allowed");
        assert_eq!(allowed, bomb, "{codec:?}");
        let refused = decompress(codec, &packed, bomb.len() - 1);
        let too_large = matches!(refused, Err(CompressionError::TooLarge { .. }));
        assert!(too_large, "{codec:?}: {refused:?}");
    }
}

#[test]
fn damaged_packed_bytes_do_no_harm() {
    let plain = build(&contents(4), Codec::None);
    let mut prng = Prng::new(5);
    for codec in Codec::ALL {
        let packed = compress(codec, &plain).expect("it packs");
        for _ in 0..500 {
            let mut bytes = packed.clone();
            for _ in 0..=prng.below(4) {
                let at = prng.below(bytes.len() as u64) as usize;
                bytes[at] = prng.next_u64() as u8;
            }
            bytes.truncate(prng.below(bytes.len() as u64 + 1) as usize);
            if let Ok(unpacked) = decompress(codec, &bytes, UNPACKED_BYTES_MAX) {
                assert!(unpacked.len() <= UNPACKED_BYTES_MAX);
            }
        }
    }
}

#[test]
fn no_codec_expands_beyond_what_its_format_allows() {
    let monotonous = vec![0u8; 4 << 20];
    for codec in Codec::ALL {
        let packed = compress(codec, &monotonous).expect("packs");
        let allowed = packed.len() as u64 * codec.expansion_max();
        assert!(monotonous.len() as u64 <= allowed, "{codec:?}");
    }
}
