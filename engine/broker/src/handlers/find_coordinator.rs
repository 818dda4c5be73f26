//! FindCoordinator (key 10): groups have no coordinator yet, transactions never get one.
//!
//! For groups the answer is "not available", which clients take as a reason to ask again and
//! which leaves consumers that assign partitions by hand alone. A transactional producer would ask
//! until its time is up, so it is told what both the Java client and librdkafka take as final at
//! once; no code says "unsupported" to both.
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

/// Key type of transactional ids (KIP-98).
const KEY_TRANSACTION: i8 = 1;

const GROUP_MESSAGE: &str = "this broker has no consumer groups yet; assign partitions";
const TRANSACTION_MESSAGE: &str = "this broker has no transactions yet; configure the producer \
     without transactional.id, idempotence alone works";

/// Why there is no coordinator for keys of this type.
fn refusal(key_type: i8) -> (ErrorCode, &'static str) {
    match key_type {
        KEY_TRANSACTION => (
            ErrorCode::TransactionalIdAuthorizationFailed,
            TRANSACTION_MESSAGE,
        ),
        _ => (ErrorCode::CoordinatorNotAvailable, GROUP_MESSAGE),
    }
}

impl Shard {
    pub(crate) fn handle_find_coordinator(
        &mut self,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = FindCoordinatorRequest::parse(request.version, body)?;
        let (code, message) = refusal(decoded.key_type);
        let error_code = as_code(code);
        let coordinators: Vec<Coordinator<'_>> = decoded
            .coordinator_keys
            .iter()
            .map(|key| Coordinator {
                key,
                node_id: -1,
                port: -1,
                error_code,
                error_message: Some(message),
                ..Default::default()
            })
            .collect();
        let response = FindCoordinatorResponse {
            error_code,
            error_message: Some(message),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transactional_producer_gives_up_where_a_group_asks_again() {
        let (code, message) = refusal(KEY_TRANSACTION);
        assert_eq!(as_code(code), 53);
        assert!(message.contains("transactional.id"), "{message}");
        assert_eq!(refusal(0).0, ErrorCode::CoordinatorNotAvailable);
    }
}
