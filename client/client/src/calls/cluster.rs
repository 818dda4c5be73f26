//! DescribeCluster: the brokers and the controller.

use highwater_wire::describe_cluster::{DescribeClusterRequest, DescribeClusterResponse};
use highwater_wire::{ApiKey, EncodeError};

use super::{AnswerError, Call, owned};
use crate::error::ClientError;

/// Asks who is in the cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct DescribeCluster;

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedBroker {
    pub id: i32,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
    /// Registered, but not serving.
    pub fenced: bool,
}

/// Who is in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    pub cluster_id: String,
    /// The broker that takes changes.
    pub controller_id: Option<i32>,
    /// Ascending by id.
    pub brokers: Vec<DescribedBroker>,
}

impl Call for DescribeCluster {
    const API: ApiKey = ApiKey::DescribeCluster;
    type Answer = ClusterDescription;

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        DescribeClusterRequest {
            endpoint_type: 1,
            ..Default::default()
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<ClusterDescription, AnswerError> {
        let response = DescribeClusterResponse::parse(version, body)?;
        ClientError::check("cluster", response.error_code, response.error_message)?;
        let brokers = response.brokers.iter().map(|broker| DescribedBroker {
            id: broker.broker_id,
            host: broker.host.to_string(),
            port: broker.port,
            rack: owned(broker.rack),
            fenced: broker.is_fenced,
        });
        let mut brokers: Vec<DescribedBroker> = brokers.collect();
        brokers.sort_by_key(|broker| broker.id);
        Ok(ClusterDescription {
            cluster_id: response.cluster_id.to_string(),
            controller_id: Some(response.controller_id).filter(|id| *id >= 0),
            brokers,
        })
    }
}
