//! Configuration of a node and of a topic.

pub mod node;
pub mod topic;

pub use node::{Advertise, IdlePolicy, LogFormat, NodeConfig};
pub use topic::TopicConfig;
