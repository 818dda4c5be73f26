//! InitProducerId (key 22): an id for an idempotent producer (KIP-98, KIP-360).

use highwater_base::{ErrorCode, Now};
use highwater_reactor::Outbox;
use highwater_wire::DecodeError;
use highwater_wire::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use super::{Request, as_code};
use crate::message::Message;
use crate::metadata::controller::Change;
use crate::metadata_log::PendingChange;
use crate::producer_ids::{ProducerIdWaiter, Supply};
use crate::shard::Shard;

impl Shard {
    pub(crate) fn handle_init_producer_id(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = InitProducerIdRequest::parse(request.version, body)?;
        if decoded.transactional_id.is_some() {
            // There are no transactions; a code that clients retry would keep them trying.
            let code = ErrorCode::TransactionalIdAuthorizationFailed;
            self.answer_producer_id(request, code, -1, out);
            return Ok(());
        }
        self.producer_ids.wait(ProducerIdWaiter {
            connection: request.connection,
            sequence: request.sequence,
            version: request.version,
            correlation_id: request.correlation_id,
        });
        self.serve_producer_ids(now, out);
        Ok(())
    }

    /// Serves as many waiting requests as the supply allows.
    pub(crate) fn serve_producer_ids(&mut self, now: Now, out: &mut Outbox<Message>) {
        loop {
            let (waiter, code, id) = match self.producer_ids.step() {
                Supply::Idle => return,
                Supply::Refill => {
                    let change = Change::ProducerIds;
                    self.request_change(now, PendingChange::ProducerIds, change, out);
                    return;
                }
                Supply::Id(waiter, id) => (waiter, ErrorCode::None, id),
                Supply::Failed(waiter) => (waiter, ErrorCode::CoordinatorLoadInProgress, -1),
            };
            let request = Request {
                connection: waiter.connection,
                sequence: waiter.sequence,
                api_key: highwater_wire::ApiKey::InitProducerId,
                version: waiter.version,
                correlation_id: waiter.correlation_id,
            };
            self.answer_producer_id(&request, code, id, out);
        }
    }

    fn answer_producer_id(
        &mut self,
        request: &Request,
        code: ErrorCode,
        producer_id: i64,
        out: &mut Outbox<Message>,
    ) {
        let response = InitProducerIdResponse {
            error_code: as_code(code),
            producer_id,
            producer_epoch: if producer_id < 0 { -1 } else { 0 },
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
    }
}
