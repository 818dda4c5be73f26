//! Newtypes for every id, offset and epoch, so that one is never passed for another.

use std::fmt;

/// A node of the cluster; also its Kafka broker id. Stays below 2^20: direct mode advertises
/// `node_id * 1000 + core`, and the Java client opens a second connection under id `2^31-1-n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub i32);

impl NodeId {
    /// Exclusive upper bound of a valid node id.
    pub const LIMIT: i32 = 1 << 20;
}

/// One CPU core's shard inside a node, counted from zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

/// Kafka offset of one record in a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

impl Offset {
    /// The first offset of an empty partition.
    pub const ZERO: Offset = Offset(0);

    /// The offset `count` records further on.
    #[must_use]
    pub fn plus(self, count: i64) -> Offset {
        Offset(self.0 + count)
    }
}

/// Leader epoch of a partition. Kafka carries it as `i32`, so it stays below 2^31.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

impl Epoch {
    /// The epoch as Kafka's `leader_epoch` field.
    #[must_use]
    pub fn as_leader_epoch(self) -> i32 {
        assert!(
            self.0 <= i32::MAX as u32,
            "leader epoch {} exceeds 2^31-1",
            self.0
        );
        self.0 as i32
    }
}

/// How far a replica's log reaches: compared by epoch first, then by end.
/// `end` is the next offset to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub epoch: Epoch,
    pub end: Offset,
}

/// Index of a partition within its topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionIndex(pub i32);

/// Producer id handed out by `InitProducerId`; -1 on the wire means "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub i64);

/// Topic id (KIP-516): a random UUID, new for every creation of a name. All zero means "none".
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

/// Random identity of a data directory, written when it is formatted.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskId(pub [u8; 16]);

/// Random identity of a cluster, written when it is formatted.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

impl TopicId {
    /// The absent topic id.
    pub const ZERO: TopicId = TopicId([0; 16]);

    /// Whether this is the absent topic id.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 16]
    }
}

/// Writes 16 bytes as 22 characters of URL-safe base64 without padding, the way Kafka prints ids.
fn write_base64(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for chunk in bytes.chunks(3) {
        let mut word = [0u8; 3];
        word[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from(word[0]) << 16 | u32::from(word[1]) << 8 | u32::from(word[2]);
        for digit in 0..=chunk.len() {
            let index = (bits >> (18 - 6 * digit)) & 63;
            write!(f, "{}", ALPHABET[index as usize] as char)?;
        }
    }
    Ok(())
}

fn parse_base64(text: &str) -> Option<[u8; 16]> {
    if text.len() != 22 {
        return None;
    }
    let mut out = [0u8; 16];
    let (mut bits, mut held, mut at) = (0u32, 0u32, 0usize);
    for byte in text.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 && at < 16 {
            held -= 8;
            out[at] = (bits >> held) as u8;
            at += 1;
        }
    }
    (at == 16).then_some(out)
}

macro_rules! id_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_base64(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_base64(&self.0, f)
            }
        }
        impl $name {
            /// Reads the 22-character form that `Display` writes.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                parse_base64(text).map(Self)
            }
        }
    )*};
}
id_text!(TopicId, DiskId, ClusterId);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_text_round_trips() {
        let id = TopicId([0, 1, 2, 250, 251, 252, 6, 7, 8, 9, 10, 11, 12, 13, 254, 255]);
        let text = id.to_string();
        assert_eq!(text.len(), 22);
        assert_eq!(TopicId::parse(&text), Some(id));
        assert_eq!(TopicId::parse("too short"), None);
        assert_eq!(TopicId::parse("!!!!!!!!!!!!!!!!!!!!!!"), None);
    }

    #[test]
    fn position_orders_by_epoch_first() {
        let older = Position {
            epoch: Epoch(1),
            end: Offset(100),
        };
        let newer = Position {
            epoch: Epoch(2),
            end: Offset(5),
        };
        assert!(newer > older);
    }
}
