//! ApiVersions: the first request of every connection, and what follows from its answer.

use std::collections::BTreeMap;

use highwater_base::ErrorCode;
use highwater_wire::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use highwater_wire::{ApiKey, EncodeError};

use super::{AnswerError, Call};
use crate::error::ClientError;

/// How the client names itself (KIP-511).
const SOFTWARE_NAME: &str = "highwater";

/// Asks which APIs and versions the broker answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApiVersions;

/// What a broker answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerVersions {
    ranges: BTreeMap<i16, (i16, i16)>,
}

impl ApiVersions {
    /// The version of the first attempt; a broker that does not know it answers in version 0.
    pub const VERSION: i16 = 3;

    /// Reads an answer of unknown version: `Ok(None)` when the broker wants the request again in
    /// version 0.
    ///
    /// # Errors
    /// Bytes that decode in no version, or a refusal.
    pub fn decode_any(version: i16, body: &[u8]) -> Result<Option<BrokerVersions>, AnswerError> {
        match ApiVersionsResponse::parse(version, body) {
            Ok(response) if response.error_code != ErrorCode::UnsupportedVersion.code() => {
                return versions_of(&response).map(Some);
            }
            Err(error) if version == 0 => return Err(AnswerError::Decode(error)),
            Ok(_) | Err(_) => {}
        }
        let response = ApiVersionsResponse::parse(0, body)?;
        if response.error_code == ErrorCode::UnsupportedVersion.code() && version > 0 {
            return Ok(None);
        }
        versions_of(&response).map(Some)
    }
}

fn versions_of(response: &ApiVersionsResponse<'_>) -> Result<BrokerVersions, AnswerError> {
    ClientError::check("ApiVersions", response.error_code, None)?;
    let ranges = response
        .api_keys
        .iter()
        .map(|api| (api.api_key, (api.min_version, api.max_version)))
        .collect();
    Ok(BrokerVersions { ranges })
}

impl Call for ApiVersions {
    const API: ApiKey = ApiKey::ApiVersions;
    const VERSION_MAX: i16 = ApiVersions::VERSION;
    type Answer = BrokerVersions;

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        ApiVersionsRequest {
            client_software_name: SOFTWARE_NAME,
            client_software_version: env!("CARGO_PKG_VERSION"),
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<BrokerVersions, AnswerError> {
        Self::decode_any(version, body)?
            .ok_or_else(|| AnswerError::Missing("a version both sides know".to_string()))
    }
}

impl BrokerVersions {
    /// The highest version both sides know, at most `version_max`.
    ///
    /// # Errors
    /// There is none.
    pub fn pick(&self, api: ApiKey, version_max: i16) -> Result<i16, ClientError> {
        let (ours_min, ours_max) = (api.version_min(), api.version_max().min(version_max));
        let theirs = self.ranges.get(&(api as i16)).copied();
        if let Some((min, max)) = theirs
            && max.min(ours_max) >= min.max(ours_min)
        {
            return Ok(max.min(ours_max));
        }
        Err(ClientError::NoCommonVersion {
            api: format!("{api:?}"),
            broker: theirs.map_or("none".to_string(), |(min, max)| format!("{min} to {max}")),
            client: format!("{ours_min} to {ours_max}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_wire::Array;
    use highwater_wire::api_versions::ApiVersion;

    fn answer(version: i16, error_code: i16, apis: &[ApiVersion]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let api_keys = Array::from(apis);
        ApiVersionsResponse {
            error_code,
            api_keys,
            ..Default::default()
        }
        .encode(version, &mut bytes)
        .expect("fits");
        bytes
    }

    #[test]
    fn the_highest_common_version_is_picked() {
        let metadata = ApiVersion {
            api_key: 3,
            min_version: 0,
            max_version: 9,
        };
        let versions = ApiVersions
            .decode(3, &answer(3, 0, &[metadata]))
            .expect("decodes");
        assert_eq!(versions.pick(ApiKey::Metadata, i16::MAX), Ok(9));
        assert_eq!(versions.pick(ApiKey::Metadata, 4), Ok(4));
        let error = versions
            .pick(ApiKey::Fetch, i16::MAX)
            .expect_err("not offered");
        assert!(
            error.to_string().contains("answers Fetch in versions none"),
            "{error}"
        );
    }

    #[test]
    fn an_older_broker_is_asked_again_in_version_0() {
        let refusal = answer(0, ErrorCode::UnsupportedVersion.code(), &[]);
        assert_eq!(ApiVersions::decode_any(3, &refusal), Ok(None));
        assert!(ApiVersions::decode_any(0, &refusal).is_err());
        assert!(ApiVersions::decode_any(0, b"xx").is_err());
    }
}
