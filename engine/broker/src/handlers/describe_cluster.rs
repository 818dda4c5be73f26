//! DescribeCluster (key 60): who is there (KIP-700).

use highwater_base::ErrorCode;
use highwater_reactor::Outbox;
use highwater_wire::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use highwater_wire::{Array, DecodeError};

use super::{Request, as_code};
use crate::message::Message;
use crate::shard::Shard;

/// Endpoint type of brokers; 2 would be KRaft controllers, which are not a separate thing here.
const ENDPOINT_BROKERS: i8 = 1;

impl Shard {
    pub(crate) fn handle_describe_cluster(
        &mut self,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = DescribeClusterRequest::parse(request.version, body)?;
        let cluster_id = self.node.cluster_id.to_string();
        if request.version >= 1 && decoded.endpoint_type != ENDPOINT_BROKERS {
            let response = DescribeClusterResponse {
                error_code: as_code(ErrorCode::InvalidRequest),
                error_message: Some("only brokers (endpoint type 1) can be described"),
                endpoint_type: ENDPOINT_BROKERS,
                cluster_id: &cluster_id,
                controller_id: self.node.controller_id(),
                ..Default::default()
            };
            self.respond(request, out, |version, bytes| {
                response.encode(version, bytes)
            });
            return Ok(());
        }
        let advertised = self.node.brokers();
        let brokers: Vec<DescribeClusterBroker<'_>> = advertised
            .iter()
            .map(|broker| DescribeClusterBroker {
                broker_id: broker.id,
                host: &broker.host,
                port: i32::from(broker.port),
                ..Default::default()
            })
            .collect();
        let response = DescribeClusterResponse {
            endpoint_type: ENDPOINT_BROKERS,
            cluster_id: &cluster_id,
            controller_id: self.node.controller_id(),
            brokers: Array::from(&brokers),
            cluster_authorized_operations: i32::MIN,
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
        Ok(())
    }
}
