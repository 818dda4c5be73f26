//! Writes what the fuzzer starts from, into the directory that CORPUS names: valid messages of every
//! version, batches of every codec. Fuzzes nothing itself, but is linked like the targets.

#![no_main]

#[path = "../../net/wire/tests/support/mod.rs"]
mod support;

use std::io::Result;
use std::path::Path;

use highwater_broker::metadata::record::{MetadataRecord, encode_batch};
use highwater_wire::ApiKey;
use highwater_wire::compression::Codec;
use highwater_wire::header::{encode_request_header, encode_response_header};
use highwater_wire::records::RecordBatchBuilder;

fn messages(corpus: &Path) -> Result<()> {
    for (at, sample) in support::samples(2, 1).into_iter().enumerate() {
        for (place, api) in ApiKey::ALL.iter().enumerate() {
            let mut bytes = Vec::new();
            let side = if sample.name == format!("{api:?}Request") {
                let header = encode_request_header(*api, sample.version, 7, Some("c"), &mut bytes);
                header.expect("a short client id");
                "requests"
            } else if sample.name == format!("{api:?}Response") {
                bytes.push(place as u8);
                bytes.push((sample.version - api.version_min()) as u8);
                encode_response_header(*api, sample.version, 7, &mut bytes);
                "responses"
            } else {
                continue;
            };
            bytes.extend_from_slice(&sample.bytes);
            std::fs::write(corpus.join(side).join(format!("seed-{at}")), bytes)?;
        }
    }
    Ok(())
}

fn batches(corpus: &Path) -> Result<()> {
    for codec in Codec::ALL {
        let mut builder = RecordBatchBuilder::new();
        for at in 0..5 {
            builder.append(at, Some(b"key"), Some(&[7; 40]), &[("header", Some(b"value"))]);
        }
        let batch = builder.finish_compressed(codec).expect("it packs");
        std::fs::write(corpus.join("records").join(format!("seed-{}", codec.name())), batch)?;
    }
    let records = [
        MetadataRecord::Topic {
            topic_id: [7; 16],
            name: "orders".to_string(),
            partitions: 3,
            core_slot_base: 5,
            config: vec![("retention.ms".to_string(), "1000".to_string())],
        },
        MetadataRecord::ProducerIds { next: 2000 },
        MetadataRecord::TopicDeleted { topic_id: [7; 16] },
    ];
    for (at, record) in records.iter().enumerate() {
        let batch = encode_batch(std::slice::from_ref(record), 1);
        let directory = corpus.join("metadata_records");
        // The value alone: behind the batch's header, the record's own and the version byte.
        std::fs::write(directory.join(format!("seed-value-{at}")), &batch[70..])?;
        std::fs::write(directory.join(format!("seed-batch-{at}")), batch)?;
    }
    Ok(())
}

fn seed() {
    let corpus = std::env::var("CORPUS").expect("CORPUS names a directory");
    let corpus = Path::new(&corpus);
    messages(corpus).and_then(|()| batches(corpus)).expect("writable");
}

libfuzzer_sys::fuzz_target!(init: seed(), |_bytes| {});
