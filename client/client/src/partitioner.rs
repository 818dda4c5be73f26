//! Which partition a record goes to: the one it names, the hash of its key, or a sticky one.
//!
//! Keys hash exactly as Kafka's Java client does it (murmur2 with its seed, sign bit cleared), so
//! that records of one key meet in one partition whichever client wrote them. Records without a
//! key stay on one partition until a batch left it, which makes fewer, larger batches (KIP-480).

const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;
const SHIFT: u32 = 24;

/// MurmurHash2 of `bytes` with the seed of Kafka's Java client.
#[must_use]
pub fn murmur2(bytes: &[u8]) -> i32 {
    let mut hash = SEED ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut mixed = word
            .iter()
            .rev()
            .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        mixed = mixed.wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> SHIFT;
        mixed = mixed.wrapping_mul(MULTIPLIER);
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= rest
            .iter()
            .rev()
            .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    (hash ^ hash >> 15) as i32
}

/// The partition of a key among `partitions` (at least one).
#[must_use]
pub fn partition_of_key(key: &[u8], partitions: i32) -> i32 {
    assert!(
        partitions > 0,
        "a topic has at least one partition, not {partitions}"
    );
    (murmur2(key) & i32::MAX) % partitions
}

/// The sticky choice for records of one topic that have no key.
#[derive(Clone, Copy, Debug, Default)]
pub struct StickyPartition {
    turn: u32,
}

impl StickyPartition {
    /// A choice that starts at `turn`, so that several producers can start apart.
    #[must_use]
    pub fn starting_at(turn: u32) -> StickyPartition {
        StickyPartition { turn }
    }

    /// The current partition among `partitions` (at least one).
    #[must_use]
    pub fn current(&self, partitions: i32) -> i32 {
        assert!(
            partitions > 0,
            "a topic has at least one partition, not {partitions}"
        );
        (self.turn % partitions as u32) as i32
    }

    /// A batch left `partition`: go on to the next one if it was the current one.
    pub fn batch_left(&mut self, partition: i32, partitions: i32) {
        if partitions > 0 && self.current(partitions) == partition {
            self.turn = (partition as u32 + 1) % partitions as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_agrees_with_kafkas_java_client() {
        let known: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (
                b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            (b"abc", 479_470_107),
        ];
        for (bytes, hash) in known {
            assert_eq!(murmur2(bytes), hash, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn keys_stay_in_range_and_in_place() {
        for key in 0..1000u32 {
            let partition = partition_of_key(&key.to_be_bytes(), 7);
            assert!((0..7).contains(&partition));
            assert_eq!(partition, partition_of_key(&key.to_be_bytes(), 7));
        }
    }

    #[test]
    fn keyless_records_move_on_only_after_a_batch_left() {
        let mut sticky = StickyPartition::starting_at(2);
        assert_eq!(sticky.current(3), 2);
        sticky.batch_left(1, 3);
        assert_eq!(
            sticky.current(3),
            2,
            "another partition's batch changes nothing"
        );
        sticky.batch_left(2, 3);
        assert_eq!(sticky.current(3), 0);
    }
}
