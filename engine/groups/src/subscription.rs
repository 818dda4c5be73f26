//! The topics the members of a consumer group subscribe to. Kafka's own clients put them in front of
//! the metadata of every assignor (`ConsumerProtocolSubscription`); what follows them is not read.

use std::collections::BTreeSet;

use highwater_wire::error::DecodeError;
use highwater_wire::reader::Reader;

use crate::group::Group;

fn topics<'a>(metadata: &'a [u8], into: &mut BTreeSet<&'a str>) -> Result<(), DecodeError> {
    let mut reader = Reader::new(metadata);
    reader.fixed::<i16>("subscription version")?;
    let topics = reader.array::<&str>(0, false, "topics")?;
    into.extend(topics.iter());
    Ok(())
}

impl Group {
    /// The topics its members subscribe to; `None` if that is not known, which counts as all.
    pub(crate) fn subscribed_topics(&self) -> Option<BTreeSet<&str>> {
        let protocol = self.protocol.as_deref();
        let mut subscribed = BTreeSet::new();
        for member in self.members.values() {
            topics(member.metadata(protocol?), &mut subscribed).ok()?;
        }
        Some(subscribed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_every_version_are_read() {
        let metadata = b"\0\x03\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff\0\0\0\0";
        let mut found = BTreeSet::new();
        topics(metadata, &mut found).unwrap();
        assert_eq!(found, BTreeSet::from(["a", "bc"]));
        assert!(topics(b"\0\0\0\0\0\x02\0\x01a", &mut found).is_err());
    }
}
