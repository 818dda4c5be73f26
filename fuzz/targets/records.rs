//! Record batches: header, CRC, every codec, the records inside.

#![no_main]

use highwater_base::BatchHeader;
use highwater_base::record_batch::HEADER_BYTES;
use highwater_wire::compression::{Codec, decompress};
use highwater_wire::records::RecordIterator;
use libfuzzer_sys::fuzz_target;

const UNPACKED_BYTES_MAX: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = BatchHeader::parse(bytes) else {
        return;
    };
    let Some(batch) = bytes.get(..header.total_bytes()) else {
        return;
    };
    let _ = header.verify_crc(batch);
    let Some(codec) = Codec::from_attributes(header.attributes) else {
        return;
    };
    let Ok(body) = decompress(codec, &batch[HEADER_BYTES..], UNPACKED_BYTES_MAX) else {
        return;
    };
    assert!(body.len() <= UNPACKED_BYTES_MAX);
    for record in RecordIterator::new(&header, &body) {
        let Ok(record) = record else {
            return;
        };
        let headers = record.headers().count();
        assert!(headers <= body.len());
    }
});
