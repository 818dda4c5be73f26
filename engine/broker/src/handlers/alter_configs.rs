//! AlterConfigs (key 33, replaces all overrides) and IncrementalAlterConfigs (key 44, KIP-339).
//!
//! For topics and brokers. What of a broker can change while it runs is known to the controller;
//! its log levels cannot, which the answer says.

use highwater_base::{ErrorCode, Now};
use highwater_reactor::Outbox;
use highwater_wire::alter_configs::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse,
};
use highwater_wire::incremental_alter_configs::{
    AlterConfigsResourceResponse as IncrementalResourceResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use highwater_wire::{Array, DecodeError};

use super::{Request, as_code, check_entries};
use crate::message::Message;
use crate::metadata::controller::{
    Change, ChangeOutcome, ConfigChange, ConfigOperation, ConfigTarget,
};
use crate::shard::Shard;

/// Resource type of a topic.
pub(crate) const RESOURCE_TOPIC: i8 = 2;
/// Resource type of a broker.
pub(crate) const RESOURCE_BROKER: i8 = 4;

const REFUSAL: &str = "only topics (resource type 2) and brokers (4) can be altered; log levels \
     come from log_level in the configuration file and change with a restart";

fn operation_of(number: i8) -> ConfigOperation {
    match number {
        0 => ConfigOperation::Set,
        1 => ConfigOperation::Delete,
        2 => ConfigOperation::Append,
        3 => ConfigOperation::Subtract,
        unknown => ConfigOperation::Unknown(unknown),
    }
}

fn is_alterable(resource_type: i8) -> bool {
    matches!(resource_type, RESOURCE_TOPIC | RESOURCE_BROKER)
}

fn target_of(resource_type: i8, name: &str) -> ConfigTarget {
    match resource_type {
        RESOURCE_BROKER => ConfigTarget::Broker(name.to_string()),
        _ => ConfigTarget::Topic(name.to_string()),
    }
}

/// Error and message of each resource: outcomes exist only for those that can be altered, in their
/// order.
fn merge(types: impl Iterator<Item = i8>, outcome: &ChangeOutcome) -> Vec<(i16, Option<&str>)> {
    let mut outcomes = outcome.iter();
    types
        .map(|resource_type| {
            if !is_alterable(resource_type) {
                return (as_code(ErrorCode::InvalidRequest), Some(REFUSAL));
            }
            match outcomes.next() {
                Some(Err(error)) => (as_code(error.code), Some(error.message.as_str())),
                Some(Ok(_)) | None => (as_code(ErrorCode::None), None),
            }
        })
        .collect()
}

impl Shard {
    pub(crate) fn handle_alter_configs(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = AlterConfigsRequest::parse(request.version, body)?;
        check_entries(decoded.resources.iter().map(|one| 1 + one.configs.len()))?;
        let changes = decoded
            .resources
            .iter()
            .filter(|resource| is_alterable(resource.resource_type))
            .map(|resource| ConfigChange {
                target: target_of(resource.resource_type, resource.resource_name),
                operations: resource
                    .configs
                    .iter()
                    .map(|config| {
                        let value = config.value.map(String::from);
                        (config.name.to_string(), ConfigOperation::Set, value)
                    })
                    .collect(),
                replace: true,
            })
            .collect();
        let change = Change::Configure {
            changes,
            validate_only: decoded.validate_only,
        };
        self.request_change(now, request.pending_change(body), change, out);
        Ok(())
    }

    pub(crate) fn answer_alter_configs(
        &mut self,
        request: &Request,
        body: &[u8],
        outcome: &ChangeOutcome,
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = AlterConfigsRequest::parse(request.version, body)?;
        let merged = merge(decoded.resources.iter().map(|r| r.resource_type), outcome);
        let responses: Vec<AlterConfigsResourceResponse<'_>> = decoded
            .resources
            .iter()
            .zip(merged)
            .map(
                |(resource, (error_code, error_message))| AlterConfigsResourceResponse {
                    error_code,
                    error_message,
                    resource_type: resource.resource_type,
                    resource_name: resource.resource_name,
                    ..Default::default()
                },
            )
            .collect();
        let response = AlterConfigsResponse {
            responses: Array::from(&responses),
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
        Ok(())
    }

    pub(crate) fn handle_incremental_alter_configs(
        &mut self,
        now: Now,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = IncrementalAlterConfigsRequest::parse(request.version, body)?;
        check_entries(decoded.resources.iter().map(|one| 1 + one.configs.len()))?;
        let changes = decoded
            .resources
            .iter()
            .filter(|resource| is_alterable(resource.resource_type))
            .map(|resource| ConfigChange {
                target: target_of(resource.resource_type, resource.resource_name),
                operations: resource
                    .configs
                    .iter()
                    .map(|config| {
                        let value = config.value.map(String::from);
                        (
                            config.name.to_string(),
                            operation_of(config.config_operation),
                            value,
                        )
                    })
                    .collect(),
                replace: false,
            })
            .collect();
        let change = Change::Configure {
            changes,
            validate_only: decoded.validate_only,
        };
        self.request_change(now, request.pending_change(body), change, out);
        Ok(())
    }

    pub(crate) fn answer_incremental_alter_configs(
        &mut self,
        request: &Request,
        body: &[u8],
        outcome: &ChangeOutcome,
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = IncrementalAlterConfigsRequest::parse(request.version, body)?;
        let merged = merge(decoded.resources.iter().map(|r| r.resource_type), outcome);
        let responses: Vec<IncrementalResourceResponse<'_>> = decoded
            .resources
            .iter()
            .zip(merged)
            .map(
                |(resource, (error_code, error_message))| IncrementalResourceResponse {
                    error_code,
                    error_message,
                    resource_type: resource.resource_type,
                    resource_name: resource.resource_name,
                    ..Default::default()
                },
            )
            .collect();
        let response = IncrementalAlterConfigsResponse {
            responses: Array::from(&responses),
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
        Ok(())
    }
}
