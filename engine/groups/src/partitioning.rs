//! Which partition of `__consumer_offsets` a group belongs to: Kafka's own rule, so that tools which
//! compute it find the records.

/// Java's `String.hashCode` over UTF-16 code units, made non-negative as Kafka's `Utils.abs` does,
/// modulo the number of partitions.
#[must_use]
pub fn offsets_partition(group: &str, partitions: u32) -> u32 {
    assert!(partitions > 0, "the topic of offsets has partitions");
    let hash = group.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // The smallest number has no positive counterpart; Kafka makes it 0.
    hash.checked_abs().unwrap_or(0) as u32 % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `"…".hashCode()` in Java.
    #[test]
    fn groups_hash_as_in_java() {
        assert_eq!(offsets_partition("", 50), 0);
        assert_eq!(offsets_partition("a", 50), 97 % 50);
        assert_eq!(offsets_partition("hello", 1000), 99_162_322 % 1000);
        assert_eq!(offsets_partition("polygenelubricants", 50), 0);
    }
}
