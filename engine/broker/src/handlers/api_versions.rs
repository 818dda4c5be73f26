//! ApiVersions (key 18): what this broker answers, in which versions.
//!
//! A request of an unknown version, or one whose body does not decode, is answered in version 0
//! with UNSUPPORTED_VERSION or INVALID_REQUEST and the table, never by closing (KIP-511).

use highwater_base::ErrorCode;
use highwater_reactor::Outbox;
use highwater_wire::api_versions::ApiVersionsRequest;
use highwater_wire::offered::{api_versions_response, offered_apis};
use highwater_wire::{ApiKey, DecodeError};

use super::Request;
use crate::message::Message;
use crate::shard::Shard;

impl Shard {
    pub(crate) fn handle_api_versions(
        &mut self,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let known = ApiKey::ApiVersions.answers(request.version);
        let code = if !known {
            ErrorCode::UnsupportedVersion
        } else if ApiVersionsRequest::parse(request.version, body).is_err() {
            ErrorCode::InvalidRequest
        } else {
            ErrorCode::None
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
}
