//! ApiVersions (key 18): what this broker answers, in which versions.
//!
//! A request of an unknown version, or one whose body does not decode, is answered in version 0
//! with UNSUPPORTED_VERSION or INVALID_REQUEST and the table, never by closing (KIP-511).

use std::sync::Arc;

use highwater_base::ErrorCode;
use highwater_reactor::Outbox;
use highwater_wire::api_versions::ApiVersionsRequest;
use highwater_wire::offered::{api_versions_response, offered_apis};
use highwater_wire::{ApiKey, DecodeError};

use super::Request;
use crate::message::Message;
use crate::ops::client_software;
use crate::shard::Shard;

impl Shard {
    pub(crate) fn handle_api_versions(
        &mut self,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let known = ApiKey::ApiVersions.answers(request.version);
        let code = match known.then(|| ApiVersionsRequest::parse(request.version, body)) {
            None => ErrorCode::UnsupportedVersion,
            Some(Err(_)) => ErrorCode::InvalidRequest,
            Some(Ok(decoded)) => {
                self.note_software(request, &decoded);
                ErrorCode::None
            }
        };
        let version = if code == ErrorCode::None {
            request.version
        } else {
            0
        };
        let answered = Request {
            version,
            ..*request
        };
        let apis = offered_apis();
        let response = api_versions_response(code.code(), &apis);
        self.respond(&answered, out, |version, bytes| {
            response.encode(version, bytes)
        });
        Ok(())
    }

    /// Keeps what a client says it is; before version 3 it says nothing.
    fn note_software(&mut self, request: &Request, decoded: &ApiVersionsRequest<'_>) {
        let (name, version) = (
            decoded.client_software_name,
            decoded.client_software_version,
        );
        if name.is_empty() && version.is_empty() {
            return;
        }
        if let Some(connection) = self.connections.get_mut(&request.connection) {
            let software = client_software(name, version);
            connection.client.software = Some(Arc::new(software));
        }
    }
}
