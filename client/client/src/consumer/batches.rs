//! Record batches as a broker sends them: cutting them apart and unpacking one.

use highwater_base::BatchHeader;
use highwater_base::record_batch::{
    ATTRIBUTE_CONTROL, ATTRIBUTE_LOG_APPEND_TIME, BatchHeaderError, HEADER_BYTES,
};
use highwater_wire::compression::{Codec, decompress};
use highwater_wire::records::RecordIterator;

use crate::record::FetchedRecord;

/// Bytes and the offset behind the whole batches at the front of `bytes`; what follows is cut off.
pub(super) fn whole_batches(bytes: &[u8]) -> Result<(usize, Option<i64>), String> {
    let (mut end, mut next_offset) = (0, None);
    while let Some(rest) = bytes.get(end..) {
        let header = match BatchHeader::parse(rest) {
            Ok(header) if header.total_bytes() <= rest.len() => header,
            Ok(_) | Err(BatchHeaderError::Truncated { .. }) => break,
            Err(error) => return Err(error.to_string()),
        };
        end += header.total_bytes();
        next_offset = Some(header.next_offset().0);
    }
    Ok((end, next_offset))
}

/// The records from `from` on of the batch at the front of `bytes`, and the batch's header.
pub(super) fn unpack(
    bytes: &[u8],
    from: i64,
    unpacked_bytes_max: usize,
) -> Result<(BatchHeader, Vec<FetchedRecord>), String> {
    let header = BatchHeader::parse(bytes).map_err(|error| error.to_string())?;
    header
        .verify_crc(bytes)
        .map_err(|error| error.to_string())?;
    if header.attributes & ATTRIBUTE_CONTROL != 0 || header.last_offset().0 < from {
        return Ok((header, Vec::new()));
    }
    let body = bytes
        .get(HEADER_BYTES..header.total_bytes())
        .unwrap_or_default();
    let codec = Codec::from_attributes(header.attributes)
        .ok_or_else(|| format!("codec {} is unknown", header.codec()))?;
    let unpacked;
    let body = match codec {
        Codec::None => body,
        Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd => {
            unpacked =
                decompress(codec, body, unpacked_bytes_max).map_err(|error| error.to_string())?;
            &unpacked
        }
    };
    let appended = header.attributes & ATTRIBUTE_LOG_APPEND_TIME != 0;
    let mut records = Vec::with_capacity(header.record_count.clamp(0, 4096) as usize);
    for record in RecordIterator::new(&header, body) {
        let record = record.map_err(|error| error.to_string())?;
        if record.offset < from {
            continue;
        }
        records.push(FetchedRecord {
            offset: record.offset,
            timestamp: if appended {
                header.max_timestamp
            } else {
                record.timestamp
            },
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers()
                .map(|header| (header.key.to_string(), header.value.map(<[u8]>::to_vec)))
                .collect(),
        });
    }
    Ok((header, records))
}
