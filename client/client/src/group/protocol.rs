//! What members of a consumer group tell each other through the coordinator: subscriptions and
//! assignments, byte for byte as Java's ConsumerProtocol has them (versions 0 to 3).
//!
//! The coordinator passes these bytes on without looking inside. A newer version only appends
//! fields, so one that is not known here is read as version 3. Nothing in here is trusted: counts
//! are checked against the bytes that are left before anything is reserved.

use std::collections::BTreeMap;

/// Version that is written.
const VERSION: i16 = 3;
/// Versions before these lack the field.
const OWNED_FROM: i16 = 1;
const GENERATION_FROM: i16 = 2;
const RACK_FROM: i16 = 3;

/// A partition by the name of its topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: i32,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    #[must_use]
    pub fn new(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition {
            topic: topic.to_string(),
            partition,
        }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}-{}", self.topic, self.partition)
    }
}

/// What a member wants and what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// Names of topics.
    pub topics: Vec<String>,
    /// The assignor's own bytes.
    pub user_data: Option<Vec<u8>>,
    /// What the member works on while it joins; nothing under the eager protocol.
    pub owned: Vec<TopicPartition>,
    /// The generation in which it got them; `None` where the member's version does not tell.
    pub generation: Option<i32>,
    pub rack: Option<String>,
}

/// What a member gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    pub partitions: Vec<TopicPartition>,
    pub user_data: Option<Vec<u8>>,
}

/// Bytes that are neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} of a group member ends early or has an impossible length")]
pub struct ProtocolError {
    what: &'static str,
}

impl Subscription {
    /// The subscription's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = VERSION.to_be_bytes().to_vec();
        put_count(&mut out, self.topics.len());
        for topic in &self.topics {
            put_string(&mut out, topic);
        }
        put_bytes(&mut out, self.user_data.as_deref());
        put_partitions(&mut out, &self.owned);
        out.extend_from_slice(&self.generation.unwrap_or(-1).to_be_bytes());
        match &self.rack {
            Some(rack) => put_string(&mut out, rack),
            None => out.extend_from_slice(&(-1i16).to_be_bytes()),
        }
        out
    }

    /// Reads a subscription of any version.
    ///
    /// # Errors
    /// Bytes that end early.
    pub fn decode(bytes: &[u8]) -> Result<Subscription, ProtocolError> {
        let what = "the subscription";
        decode_subscription(bytes).ok_or(ProtocolError { what })
    }
}

impl Assignment {
    /// The assignment's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = VERSION.to_be_bytes().to_vec();
        put_partitions(&mut out, &self.partitions);
        put_bytes(&mut out, self.user_data.as_deref());
        out
    }

    /// Reads an assignment of any version. No bytes at all assign nothing: that is what a member
    /// gets for whom the leader had no assignment.
    ///
    /// # Errors
    /// Bytes that end early.
    pub fn decode(bytes: &[u8]) -> Result<Assignment, ProtocolError> {
        if bytes.is_empty() {
            return Ok(Assignment::default());
        }
        let what = "the assignment";
        decode_assignment(bytes).ok_or(ProtocolError { what })
    }
}

fn decode_subscription(bytes: &[u8]) -> Option<Subscription> {
    let mut input = Input(bytes);
    let version = input.int16().filter(|version| *version >= 0)?;
    let mut subscription = Subscription::default();
    for _ in 0..input.count(2)? {
        subscription.topics.push(input.string()??);
    }
    subscription.user_data = input.bytes()?;
    if version >= OWNED_FROM {
        subscription.owned = input.partitions()?;
    }
    if version >= GENERATION_FROM {
        subscription.generation = Some(input.int32()?).filter(|generation| *generation >= 0);
    }
    if version >= RACK_FROM {
        subscription.rack = input.string()?;
    }
    Some(subscription)
}

fn decode_assignment(bytes: &[u8]) -> Option<Assignment> {
    let mut input = Input(bytes);
    input.int16().filter(|version| *version >= 0)?;
    Some(Assignment {
        partitions: input.partitions()?,
        user_data: input.bytes()?,
    })
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as i32).to_be_bytes());
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    // Names of topics and racks come from a broker, whose own limit is far below.
    let length = text.len().min(i16::MAX as usize);
    out.extend_from_slice(&(length as i16).to_be_bytes());
    out.extend_from_slice(text.as_bytes().get(..length).unwrap_or_default());
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_count(out, bytes.len());
            out.extend_from_slice(bytes);
        }
        None => out.extend_from_slice(&(-1i32).to_be_bytes()),
    }
}

fn put_partitions(out: &mut Vec<u8>, partitions: &[TopicPartition]) {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for one in partitions {
        topics.entry(&one.topic).or_default().push(one.partition);
    }
    put_count(out, topics.len());
    for (topic, mut indexes) in topics {
        indexes.sort_unstable();
        put_string(out, topic);
        put_count(out, indexes.len());
        for index in indexes {
            out.extend_from_slice(&index.to_be_bytes());
        }
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn int16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn int32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A number of elements of at least `bytes_min` each, all of which may still be there.
    fn count(&mut self, bytes_min: usize) -> Option<usize> {
        let count = usize::try_from(self.int32()?).ok()?;
        (count.checked_mul(bytes_min)? <= self.0.len()).then_some(count)
    }

    /// `Some(None)` is null.
    fn string(&mut self) -> Option<Option<String>> {
        let length = self.int16()?;
        if length == -1 {
            return Some(None);
        }
        let bytes = self.take(usize::try_from(length).ok()?)?;
        Some(Some(String::from_utf8(bytes.to_vec()).ok()?))
    }

    fn bytes(&mut self) -> Option<Option<Vec<u8>>> {
        let length = self.int32()?;
        if length == -1 {
            return Some(None);
        }
        Some(Some(self.take(usize::try_from(length).ok()?)?.to_vec()))
    }

    fn partitions(&mut self) -> Option<Vec<TopicPartition>> {
        let mut partitions = Vec::new();
        for _ in 0..self.count(6)? {
            let topic = self.string()??;
            for _ in 0..self.count(4)? {
                partitions.push(TopicPartition::new(&topic, self.int32()?));
            }
        }
        Some(partitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription() -> Subscription {
        Subscription {
            topics: vec!["a".to_string()],
            user_data: Some(vec![0, 0, 0, 5]),
            owned: vec![TopicPartition::new("a", 1), TopicPartition::new("a", 2)],
            generation: Some(5),
            rack: Some("r".to_string()),
        }
    }

    #[test]
    fn a_subscription_has_the_bytes_that_java_writes() {
        let expected = b"\0\x03\0\0\0\x01\0\x01a\0\0\0\x04\0\0\0\x05\
            \0\0\0\x01\0\x01a\0\0\0\x02\0\0\0\x01\0\0\0\x02\0\0\0\x05\0\x01r";
        assert_eq!(subscription().encode(), expected);
        assert_eq!(Subscription::decode(expected), Ok(subscription()));
    }

    #[test]
    fn older_and_newer_subscriptions_are_read() {
        let bytes = subscription().encode();
        // Each version is a prefix of the next one.
        for (version, length) in [(0u8, 17), (1, 36), (2, 40)] {
            let mut old = bytes[..length].to_vec();
            old[1] = version;
            let read = Subscription::decode(&old).expect("an older version");
            assert_eq!(read.topics, ["a"]);
            assert_eq!(read.owned.len(), if version == 0 { 0 } else { 2 });
            assert_eq!(read.generation, (version == 2).then_some(5));
            assert_eq!(read.rack, None);
        }
        let mut newer = bytes.clone();
        newer[1] = 9;
        newer.extend_from_slice(b"something new");
        assert_eq!(Subscription::decode(&newer), Ok(subscription()));
    }

    #[test]
    fn an_assignment_has_the_bytes_that_java_writes() {
        let assignment = Assignment {
            partitions: vec![TopicPartition::new("b", 0), TopicPartition::new("a", 3)],
            user_data: None,
        };
        let expected = b"\0\x03\0\0\0\x02\0\x01a\0\0\0\x01\0\0\0\x03\
            \0\x01b\0\0\0\x01\0\0\0\0\xff\xff\xff\xff";
        assert_eq!(assignment.encode(), expected);
        let read = Assignment::decode(expected).expect("an assignment");
        assert_eq!(read.partitions.len(), 2);
        assert_eq!(Assignment::decode(b""), Ok(Assignment::default()));
    }

    #[test]
    fn bytes_that_end_early_or_claim_too_much_are_refused() {
        let bytes = subscription().encode();
        for end in 0..bytes.len() {
            assert!(Subscription::decode(&bytes[..end]).is_err(), "{end}");
        }
        assert!(Subscription::decode(b"\0\0\x7f\xff\xff\xff").is_err());
        assert!(Subscription::decode(b"\xff\xff\0\0\0\0\xff\xff\xff\xff").is_err());
        assert!(Assignment::decode(b"\0\x01\0\0\0\x01\0\x01a\x7f\xff\xff\xff").is_err());
    }
}
