//! Batches of the metadata log, as they are read back from disk.

#![no_main]

use highwater_base::BatchHeader;
use highwater_broker::metadata::record::{decode_batch, encode_batch};
use highwater_wire::records::RecordBatchBuilder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // A value that is nearly one: the fuzzer's bytes as the archive in a valid batch.
    let mut builder = RecordBatchBuilder::new();
    let value: Vec<u8> = [1].iter().chain(bytes).copied().collect();
    builder.append(1, None, Some(&value), &[]);
    let batch = builder.finish();
    for batch in [batch.as_slice(), bytes] {
        let Ok(header) = BatchHeader::parse(batch) else {
            continue;
        };
        if let Ok(records) = decode_batch(&header, batch) {
            let _ = encode_batch(&records, 1);
        }
    }
});
