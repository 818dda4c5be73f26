//! FindCoordinator (key 10): always "not available", because consumer groups do not exist yet.
//!
//! It is offered all the same: librdkafka compresses with lz4 only if the broker lists this API, and
//! would silently send uncompressed batches otherwise.

use highwater_base::ErrorCode;
use highwater_reactor::Outbox;
use highwater_wire::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use highwater_wire::{Array, DecodeError};

use super::{Request, as_code};
use crate::message::Message;
use crate::shard::Shard;

const MESSAGE: &str = "this broker has no consumer groups or transactions yet; assign partitions";

impl Shard {
    pub(crate) fn handle_find_coordinator(
        &mut self,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = FindCoordinatorRequest::parse(request.version, body)?;
        let error_code = as_code(ErrorCode::CoordinatorNotAvailable);
        let coordinators: Vec<Coordinator<'_>> = decoded
            .coordinator_keys
            .iter()
            .map(|key| Coordinator {
                key,
                node_id: -1,
                port: -1,
                error_code,
                error_message: Some(MESSAGE),
                ..Default::default()
            })
            .collect();
        let response = FindCoordinatorResponse {
            error_code,
            error_message: Some(MESSAGE),
            node_id: -1,
            port: -1,
            coordinators: Array::from(&coordinators),
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
        Ok(())
    }
}
