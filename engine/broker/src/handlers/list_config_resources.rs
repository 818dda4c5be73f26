//! ListConfigResources (key 74): the names that DescribeConfigs takes (KIP-1142). Version 0 is
//! ListClientMetricsResources under its former name (KIP-714): there are none here.

use std::collections::BTreeSet;

use highwater_base::ErrorCode;
use highwater_reactor::Outbox;
use highwater_wire::list_config_resources::{
    ListConfigResourcesRequest, ListConfigResourcesResponse, ListedConfigResource,
};
use highwater_wire::{Array, DecodeError};

use super::alter_configs::{RESOURCE_BROKER, RESOURCE_TOPIC};
use super::{Request, as_code};
use crate::message::Message;
use crate::shard::Shard;

/// Resource type of a broker's log levels.
pub(crate) const RESOURCE_BROKER_LOGGER: i8 = 8;
const RESOURCE_CLIENT_METRICS: i8 = 16;
const RESOURCE_GROUP: i8 = 32;
/// What version 1 may ask for, and what it gets when it asks for nothing.
const TYPES: [i8; 5] = [
    RESOURCE_TOPIC,
    RESOURCE_BROKER,
    RESOURCE_BROKER_LOGGER,
    RESOURCE_CLIENT_METRICS,
    RESOURCE_GROUP,
];

/// The types to list; an unknown one is refused.
fn types_of(request: &ListConfigResourcesRequest<'_>, version: i16) -> Result<Vec<i8>, ErrorCode> {
    if version == 0 {
        return Ok(vec![RESOURCE_CLIENT_METRICS]);
    }
    let asked: BTreeSet<i8> = request.resource_types.iter().collect();
    if asked.is_empty() {
        return Ok(TYPES.to_vec());
    }
    match asked.iter().all(|one| TYPES.contains(one)) {
        true => Ok(asked.into_iter().collect()),
        false => Err(ErrorCode::UnsupportedVersion),
    }
}

impl Shard {
    pub(crate) fn handle_list_config_resources(
        &mut self,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = ListConfigResourcesRequest::parse(request.version, body)?;
        let (types, error) = match types_of(&decoded, request.version) {
            Ok(types) => (types, ErrorCode::None),
            Err(error) => (Vec::new(), error),
        };
        let mut names: Vec<(i8, String)> = Vec::new();
        for resource_type in types {
            let found: Vec<String> = match resource_type {
                RESOURCE_TOPIC => {
                    let topics = self.image.topics_by_name();
                    topics.map(|topic| topic.name.to_string()).collect()
                }
                RESOURCE_BROKER | RESOURCE_BROKER_LOGGER => {
                    let brokers = self.node.brokers();
                    brokers.iter().map(|broker| broker.id.to_string()).collect()
                }
                // Neither client metrics nor groups have a configuration that could be set here.
                _ => Vec::new(),
            };
            names.extend(found.into_iter().map(|name| (resource_type, name)));
        }
        let resources: Vec<ListedConfigResource<'_>> = names
            .iter()
            .map(|(resource_type, name)| ListedConfigResource {
                resource_name: name,
                resource_type: *resource_type,
            })
            .collect();
        let response = ListConfigResourcesResponse {
            error_code: as_code(error),
            config_resources: Array::from(&resources),
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
    use highwater_wire::ApiKey;

    use super::*;
    use crate::testing::TestNode;

    fn list(version: i16, types: &[i8]) -> (i16, Vec<String>) {
        let mut node = TestNode::new(1, &[("b", 1), ("a", 1)]);
        let request = ListConfigResourcesRequest {
            resource_types: Array::from(types),
        };
        let mut body = Vec::new();
        request.encode(version, &mut body).expect("encodes");
        let client = node.connect(0);
        node.request(0, client, ApiKey::ListConfigResources, version, &body);
        node.settle();
        let answers = node.answers(0, client, ApiKey::ListConfigResources, version);
        let response = ListConfigResourcesResponse::parse(version, &answers[0]).expect("readable");
        let rows = response.config_resources.iter();
        let rows = rows.map(|row| format!("{} {}", row.resource_type, row.resource_name));
        (response.error_code, rows.collect())
    }

    #[test]
    fn what_exists_is_listed_and_unknown_types_are_refused() {
        let all = ["2 a", "2 b", "4 1", "8 1"].map(String::from).to_vec();
        assert_eq!(list(1, &[]), (0, all));
        assert_eq!(list(1, &[4]), (0, vec!["4 1".to_string()]));
        assert_eq!(list(1, &[16, 32]), (0, Vec::new()));
        assert_eq!(list(1, &[2, 3]), (35, Vec::new()));
        assert_eq!(list(0, &[]), (0, Vec::new()));
    }
}
