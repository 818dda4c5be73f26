//! How a member behaves in its group; the defaults are those of Java's consumer.

use super::assignor::Assignor;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// Name of the group.
    pub group: String,
    /// Makes the member a static one: when it comes back within the session timeout under the same
    /// name, it gets its partitions back without a rebalance.
    pub instance_id: Option<String>,
    /// Supported assignors, best first. Members of a group have to have one in common.
    pub assignors: Vec<Assignor>,
    /// After this long without a heartbeat the coordinator takes the member out.
    pub session_timeout_ms: u64,
    /// How often a heartbeat is sent.
    pub heartbeat_interval_ms: u64,
    /// A member whose caller does not ask for records for this long leaves; it is also how long
    /// others wait for a member in a rebalance.
    pub poll_interval_max_ms: u64,
    /// How often the leader looks whether topics got more partitions.
    pub metadata_interval_ms: u64,
}

impl GroupSettings {
    /// The defaults for this group.
    #[must_use]
    pub fn new(group: &str) -> GroupSettings {
        GroupSettings {
            group: group.to_string(),
            instance_id: None,
            assignors: vec![Assignor::Range, Assignor::CooperativeSticky],
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 3_000,
            poll_interval_max_ms: 300_000,
            metadata_interval_ms: 300_000,
        }
    }
}
