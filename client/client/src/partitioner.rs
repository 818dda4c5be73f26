//! Which partition a record goes to: the one it names, the hash of its key, or a sticky one.
//!
//! Keys hash exactly as other clients do it, so that records of one key meet in one partition
//! whichever client wrote them; see [`Partitioner`]. Records without a key stay on one partition
//! until a batch left it, which makes fewer, larger batches (KIP-480).

use std::str::FromStr;

use crate::error::ClientError;

/// How keys are spread over the partitions of a topic. All writers of a topic have to agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitioner {
    /// As Kafka's Java client, and librdkafka's `murmur2_random`: MurmurHash2, sign bit cleared.
    #[default]
    Murmur2,
    /// As librdkafka by default, `consistent_random`: CRC32. An empty key counts as none there.
    ConsistentRandom,
    /// As Sarama by default, and librdkafka's `fnv1a_random`: FNV-1a, as an absolute value.
    Fnv1a,
}

impl Partitioner {
    /// The partition of a key among `partitions` (at least one), or `None` where the record counts
    /// as one without a key.
    #[must_use]
    pub fn partition_of(self, key: Option<&[u8]>, partitions: i32) -> Option<i32> {
        assert!(
            partitions > 0,
            "a topic has at least one partition, not {partitions}"
        );
        let key = key?;
        let hash = match self {
            Partitioner::Murmur2 => murmur2(key) as u32 & i32::MAX as u32,
            Partitioner::ConsistentRandom if key.is_empty() => return None,
            Partitioner::ConsistentRandom => crc_fast::crc32_iso_hdlc(key),
            Partitioner::Fnv1a => fnv1a(key).unsigned_abs(),
        };
        Some((hash % partitions as u32) as i32)
    }
}

impl FromStr for Partitioner {
    type Err = ClientError;

    /// Reads the name that librdkafka has for it.
    fn from_str(name: &str) -> Result<Partitioner, ClientError> {
        match name {
            "murmur2_random" => Ok(Partitioner::Murmur2),
            "consistent_random" => Ok(Partitioner::ConsistentRandom),
            "fnv1a_random" => Ok(Partitioner::Fnv1a),
            _ => Err(ClientError::Usage(format!(
                "{name:?} is no partitioner; there are murmur2_random (as the Java client), \
                 consistent_random (as librdkafka by default) and fnv1a_random (as Sarama)"
            ))),
        }
    }
}

const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;
const SHIFT: u32 = 24;
const FNV_OFFSET: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

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

/// FNV-1a of `bytes` in 32 bits, read as a signed number.
fn fnv1a(bytes: &[u8]) -> i32 {
    let mix = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(FNV_PRIME);
    bytes.iter().fold(FNV_OFFSET, mix) as i32
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

    /// Keys and hashes of librdkafka's own test of its partitioners.
    #[test]
    fn keys_meet_where_librdkafka_sends_them() {
        let long: &[u8] = b"this is another string with more length to it perhaps";
        let known: [(Partitioner, &[u8], u32); 11] = [
            (Partitioner::ConsistentRandom, b"23456", 0xb1b4_51d7),
            (Partitioner::ConsistentRandom, long, 0xb015_0df7),
            (Partitioner::ConsistentRandom, b"hejsan", 0xd077_037e),
            (Partitioner::Murmur2, b"", 0x106e_08d9),
            (Partitioner::Murmur2, b"23456", 0x058d_780f),
            (Partitioner::Murmur2, long, 0x4f77_03da),
            (Partitioner::Murmur2, b"hejsan", 0x5ec1_9395),
            (Partitioner::Fnv1a, b"", 0x7ee3_623b),
            (Partitioner::Fnv1a, b"23456", 0x27e6_f469),
            (Partitioner::Fnv1a, long, 0x155e_3e5f),
            (Partitioner::Fnv1a, b"hejsan", 0x17b1_e27a),
        ];
        for (partitioner, key, hash) in known {
            for partitions in [1, 7, 17, i32::MAX] {
                let expected = (hash % partitions as u32) as i32;
                let found = partitioner.partition_of(Some(key), partitions);
                let key = String::from_utf8_lossy(key);
                assert_eq!(found, Some(expected), "{partitioner:?} {key} {partitions}");
            }
        }
    }

    #[test]
    fn fnv1a_agrees_with_sarama() {
        let known: [(&[u8], u32); 5] = [
            (b"kafka", 0x0d33_c4e1),
            (b"giberish123456789", 0x77a5_8295),
            (b"1234", 0x023b_dd03),
            (b"4", 0x310c_a263),
            (b"PreAmbleWillBeRemoved,ThePrePartThatIs", 0x65cb_d69c),
        ];
        for (key, hash) in known {
            assert_eq!(fnv1a(key).unsigned_abs(), hash, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn what_counts_as_no_key_differs() {
        let all = [
            Partitioner::Murmur2,
            Partitioner::ConsistentRandom,
            Partitioner::Fnv1a,
        ];
        for partitioner in all {
            assert_eq!(partitioner.partition_of(None, 3), None);
        }
        assert_eq!(
            Partitioner::ConsistentRandom.partition_of(Some(b""), 3),
            None
        );
        assert!(Partitioner::Murmur2.partition_of(Some(b""), 3).is_some());
        assert!(Partitioner::Fnv1a.partition_of(Some(b""), 3).is_some());
    }

    #[test]
    fn a_partitioner_has_its_librdkafka_name() {
        assert_eq!("murmur2_random".parse(), Ok(Partitioner::Murmur2));
        let error = "random".parse::<Partitioner>().expect_err("unknown");
        assert!(error.to_string().contains("consistent_random"), "{error}");
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
