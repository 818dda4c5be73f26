//! Which APIs and versions are offered, and the ApiVersions answer that says so.

use crate::api_versions::{ApiVersion, ApiVersionsResponse};
use crate::{ApiKey, Array};

impl ApiKey {
    /// The API with this key.
    #[must_use]
    pub fn from_code(code: i16) -> Option<ApiKey> {
        ApiKey::ALL.iter().copied().find(|api| *api as i16 == code)
    }

    /// The lowest version that is decoded.
    #[must_use]
    pub fn version_min(self) -> i16 {
        self.facts().0
    }

    /// The highest version that is decoded.
    #[must_use]
    pub fn version_max(self) -> i16 {
        self.facts().1
    }

    /// Whether requests of this version are decoded.
    #[must_use]
    pub fn answers(self, version: i16) -> bool {
        (self.version_min()..=self.version_max()).contains(&version)
    }

    /// Whether this version uses compact lengths and tagged fields (KIP-482).
    #[must_use]
    pub fn is_flexible(self, version: i16) -> bool {
        version >= self.facts().2
    }
}

/// The table of an ApiVersions answer.
///
/// Produce is offered from version 0, though versions below 3 are refused: librdkafka before
/// 2.11.1 stops compressing when version 0 is missing (KAFKA-18659).
#[must_use]
pub fn offered_apis() -> Vec<ApiVersion> {
    ApiKey::ALL
        .iter()
        .map(|api| ApiVersion {
            api_key: *api as i16,
            min_version: if *api == ApiKey::Produce {
                0
            } else {
                api.version_min()
            },
            max_version: api.version_max(),
        })
        .collect()
}

/// An ApiVersions answer with an error code (0 for none) and the table.
#[must_use]
pub fn api_versions_response(error_code: i16, apis: &Vec<ApiVersion>) -> ApiVersionsResponse<'_> {
    ApiVersionsResponse {
        error_code,
        api_keys: Array::from(apis),
        ..Default::default()
    }
}
