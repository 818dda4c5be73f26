//! Admission: from a frame to a request that may run.
//!
//! Checks in order: the header decodes, the API exists, the version is one we answer. Whatever
//! fails here closes the connection with a logged reason, except an ApiVersions request of an
//! unknown version, which is answered in version 0 so that the client can step down.

use highwater_base::Now;
use highwater_reactor::{CloseReason, ConnectionId, Frame, Outbox};
use highwater_wire::ApiKey;
use highwater_wire::header::RequestHeader;

use crate::handlers::Request;
use crate::message::Message;
use crate::shard::Shard;

impl Shard {
    /// Takes a frame on, or says why the connection has to go.
    pub(crate) fn admit(
        &mut self,
        now: Now,
        id: ConnectionId,
        frame: &Frame<'_>,
        out: &mut Outbox<Message>,
    ) -> Result<(), CloseReason> {
        let bytes = frame.bytes();
        let (header, body_at) = RequestHeader::parse(bytes)
            .map_err(|error| CloseReason::new(format!("request header: {error}")))?;
        let Some(api_key) = ApiKey::from_code(header.api_key) else {
            return Err(CloseReason::new(format!(
                "api key {} is not offered here; ApiVersions lists those that are",
                header.api_key
            )));
        };
        if !api_key.answers(header.api_version) && api_key != ApiKey::ApiVersions {
            return Err(CloseReason::new(format!(
                "{api_key:?} version {} is not offered here; ApiVersions lists those that are",
                header.api_version
            )));
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            return Err(CloseReason::new("the connection is closing"));
        };
        self.counters.requests += 1;
        self.meters.count_request(api_key);
        if let Some(deferred_ns) = connection.client.deferred_ns.take() {
            self.meters.arrived_ns = deferred_ns;
        }
        let sequence = connection.open_slot();
        // Clients with one connection for everything would wait behind their own long poll.
        if api_key != ApiKey::Fetch {
            self.hurry_fetches_of(now, id, out);
        }
        let request = Request {
            connection: id,
            sequence,
            api_key,
            version: header.api_version,
            correlation_id: header.correlation_id,
        };
        self.handle(now, &request, frame, body_at, out)
            .map_err(|error| {
                CloseReason::new(format!("{api_key:?} version {}: {error}", request.version))
            })
    }
}
