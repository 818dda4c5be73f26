//! Configuration of a node, of a topic, and of a running broker.

pub mod broker;
pub mod node;
pub mod topic;

pub use node::{Advertise, IdlePolicy, LogFormat, NodeConfig};
pub use topic::TopicConfig;
