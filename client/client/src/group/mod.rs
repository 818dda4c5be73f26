//! Membership of a consumer group: who has which partition, agreed on through a coordinator.
//!
//! [`protocol`] is what members tell each other, [`assignor`] how a leader divides partitions among
//! them, [`membership`] the state machine that joins, stays and leaves. Fetching is the consumer's
//! business, committing and looking up offsets are calls; the driver brings them together.

pub mod assignor;
pub mod membership;
pub mod protocol;
mod settings;

pub use assignor::{Assignor, RebalanceProtocol};
pub use membership::{Change, GroupCommand, GroupRequest, Membership};
pub use protocol::{Assignment, Subscription, TopicPartition};
pub use settings::GroupSettings;
