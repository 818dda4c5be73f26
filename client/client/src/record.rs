//! Records as the caller hands them in and gets them back.

use highwater_base::Timestamp;

/// A record to be produced, borrowed until it is copied into its batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordToSend<'a> {
    /// Decides the partition unless `partition` does.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone in compacted topics.
    pub value: Option<&'a [u8]>,
    /// Name and value of each header.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// Milliseconds since the Unix epoch; `None` takes the time of sending.
    pub timestamp: Option<Timestamp>,
    /// An explicit partition.
    pub partition: Option<i32>,
}

/// A record that was fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchedRecord {
    /// Position in its partition.
    pub offset: i64,
    /// Milliseconds since the Unix epoch; -1 when the producer gave none.
    pub timestamp: Timestamp,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// Name and value of each header, in their order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Fixed bytes of a record at most: length, attributes, timestamp delta, offset delta, the lengths
/// of key and value and the header count, each as the longest varint of its type.
const RECORD_OVERHEAD_BYTES_MAX: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;
/// Two lengths of a header.
const HEADER_OVERHEAD_BYTES_MAX: usize = 5 + 5;

impl RecordToSend<'_> {
    /// An upper bound of the bytes this record takes in an uncompressed batch.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| {
            HEADER_OVERHEAD_BYTES_MAX + name.len() + value.map_or(0, <[u8]>::len)
        });
        RECORD_OVERHEAD_BYTES_MAX
            + self.key.map_or(0, <[u8]>::len)
            + self.value.map_or(0, <[u8]>::len)
            + headers.sum::<usize>()
    }
}
