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

/// Endpoint type of brokers (KIP-919).
const ENDPOINT_BROKERS: i8 = 1;
/// Endpoint type of KRaft controllers, which are not a separate thing here.
const ENDPOINT_CONTROLLERS: i8 = 2;

/// Why nothing of this type is described.
fn refusal(endpoint_type: i8) -> Option<(ErrorCode, &'static str)> {
    match endpoint_type {
        ENDPOINT_BROKERS => None,
        ENDPOINT_CONTROLLERS => Some((
            ErrorCode::MismatchedEndpointType,
            "this is a broker (endpoint type 1); there are no separate controllers",
        )),
        _ => Some((
            ErrorCode::UnsupportedEndpointType,
            "only brokers (endpoint type 1) can be described",
        )),
    }
}

impl Shard {
    pub(crate) fn handle_describe_cluster(
        &mut self,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = DescribeClusterRequest::parse(request.version, body)?;
        let cluster_id = self.node.cluster_id.to_string();
        if let Some((code, message)) = refusal(decoded.endpoint_type) {
            let response = DescribeClusterResponse {
                error_code: as_code(code),
                error_message: Some(message),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_endpoint_types_are_refused_with_the_codes_made_for_it() {
        let code = |endpoint_type| refusal(endpoint_type).map(|(code, _)| as_code(code));
        assert_eq!([code(0), code(1), code(2)], [Some(115), None, Some(114)]);
        // Version 0 has no such field and means brokers.
        assert_eq!(DescribeClusterRequest::default().endpoint_type, 1);
    }
}
