//! Request and response headers.
//!
//! Request header v1 (api key, version, correlation id, client id) for non-flexible versions, v2
//! (the same and tagged fields) for flexible ones. Response header v0 (correlation id) and v1 (with
//! tagged fields), except that ApiVersions always answers with v0: the client does not know yet
//! which version the broker speaks (KIP-511).

use crate::error::DecodeError;
use crate::reader::Reader;
use crate::writer::{Fixed, put_no_tags, put_nullable_string};
use crate::{ApiKey, EncodeError};

/// The header of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<&'a str>,
}

impl<'a> RequestHeader<'a> {
    /// Reads the header at the front of a frame (without its length prefix) and tells where the
    /// body starts. For an API that is not known here the body starts behind the client id.
    ///
    /// # Errors
    /// A frame too short for its header, or a client id that is not UTF-8.
    pub fn parse(frame: &'a [u8]) -> Result<(RequestHeader<'a>, usize), DecodeError> {
        let mut reader = Reader::new(frame);
        let api_key = reader.fixed("api_key")?;
        let api_version = reader.fixed("api_version")?;
        let correlation_id = reader.fixed("correlation_id")?;
        // The client id keeps its two-byte length in every header version.
        let client_id = reader.nullable_string(false, true, "client_id")?;
        let flexible = ApiKey::from_code(api_key).is_some_and(|api| api.is_flexible(api_version));
        if flexible {
            reader.skip_tags()?;
        }
        let header = RequestHeader {
            api_key,
            api_version,
            correlation_id,
            client_id,
        };
        Ok((header, frame.len() - reader.left()))
    }
}

/// Appends a request header.
///
/// # Errors
/// A client id longer than 32767 bytes.
pub fn encode_request_header(
    api_key: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    (api_key as i16).put(out);
    version.put(out);
    correlation_id.put(out);
    put_nullable_string(out, client_id, false, true, "client_id")?;
    if api_key.is_flexible(version) {
        put_no_tags(out);
    }
    Ok(())
}

fn response_has_tags(api_key: ApiKey, version: i16) -> bool {
    api_key != ApiKey::ApiVersions && api_key.is_flexible(version)
}

/// Appends a response header.
pub fn encode_response_header(
    api_key: ApiKey,
    version: i16,
    correlation_id: i32,
    out: &mut Vec<u8>,
) {
    correlation_id.put(out);
    if response_has_tags(api_key, version) {
        put_no_tags(out);
    }
}

/// Reads a response header: the correlation id, and where the body starts.
///
/// # Errors
/// A frame too short for it.
pub fn decode_response_header(
    api_key: ApiKey,
    version: i16,
    frame: &[u8],
) -> Result<(i32, usize), DecodeError> {
    let mut reader = Reader::new(frame);
    let correlation_id = reader.fixed("correlation_id")?;
    if response_has_tags(api_key, version) {
        reader.skip_tags()?;
    }
    Ok((correlation_id, frame.len() - reader.left()))
}
