//! Configuration of topics and brokers: describing it and changing single keys (KIP-339).

use highwater_wire::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
};
use highwater_wire::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use highwater_wire::{ApiKey, Array, EncodeError};

use super::{AnswerError, Call, owned};
use crate::error::ClientError;

/// Whose configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigResource {
    Topic(String),
    Broker(i32),
    /// What was changed at run time for all brokers of the cluster.
    AllBrokers,
}

impl ConfigResource {
    fn type_code(&self) -> i8 {
        match self {
            ConfigResource::Topic(_) => 2,
            ConfigResource::Broker(_) | ConfigResource::AllBrokers => 4,
        }
    }

    fn name(&self) -> String {
        match self {
            ConfigResource::Topic(name) => name.clone(),
            ConfigResource::Broker(id) => id.to_string(),
            ConfigResource::AllBrokers => String::new(),
        }
    }

    /// In words.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            ConfigResource::Topic(name) => format!("topic {name:?}"),
            ConfigResource::Broker(id) => format!("broker {id}"),
            ConfigResource::AllBrokers => "all brokers".to_string(),
        }
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    Topic,
    Broker,
    /// Changed at run time for all brokers.
    Cluster,
    File,
    Default,
    Other,
}

impl ConfigSource {
    fn from_code(code: i8) -> ConfigSource {
        match code {
            1 => ConfigSource::Topic,
            2 => ConfigSource::Broker,
            3 => ConfigSource::Cluster,
            4 => ConfigSource::File,
            5 => ConfigSource::Default,
            _ => ConfigSource::Other,
        }
    }

    /// In one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ConfigSource::Topic => "topic",
            ConfigSource::Broker => "broker",
            ConfigSource::Cluster => "cluster",
            ConfigSource::File => "file",
            ConfigSource::Default => "default",
            ConfigSource::Other => "other",
        }
    }
}

/// One key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: String,
    /// `None` for values that are kept secret.
    pub value: Option<String>,
    pub source: ConfigSource,
    pub read_only: bool,
    pub documentation: Option<String>,
}

/// Asks for all keys of one resource.
#[derive(Clone, Debug)]
pub struct DescribeConfigs {
    pub resource: ConfigResource,
}

impl Call for DescribeConfigs {
    const API: ApiKey = ApiKey::DescribeConfigs;
    /// Ascending by name.
    type Answer = Vec<ConfigEntry>;

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let name = self.resource.name();
        let resources = [DescribeConfigsResource {
            resource_type: self.resource.type_code(),
            resource_name: &name,
            configuration_keys: None,
        }];
        DescribeConfigsRequest {
            resources: Array::from(&resources),
            include_documentation: true,
            ..Default::default()
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<Vec<ConfigEntry>, AnswerError> {
        let response = DescribeConfigsResponse::parse(version, body)?;
        let subject = self.resource.subject();
        let result = response.results.iter().next();
        let result = result.ok_or_else(|| AnswerError::Missing(subject.clone()))?;
        ClientError::check(&subject, result.error_code, result.error_message)?;
        let entries = result.configs.iter().map(|config| ConfigEntry {
            name: config.name.to_string(),
            value: owned(config.value),
            source: ConfigSource::from_code(config.config_source),
            read_only: config.read_only,
            documentation: owned(config.documentation),
        });
        let mut entries: Vec<ConfigEntry> = entries.collect();
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }
}

/// What happens to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOperation {
    Set(String),
    /// Back to the default.
    Unset,
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterConfig {
    pub name: String,
    pub operation: ConfigOperation,
}

/// Changes some keys of one resource and leaves the others alone.
#[derive(Clone, Debug)]
pub struct AlterConfigs {
    pub resource: ConfigResource,
    pub changes: Vec<AlterConfig>,
    /// Only ask whether it would be taken.
    pub validate_only: bool,
}

impl Call for AlterConfigs {
    const API: ApiKey = ApiKey::IncrementalAlterConfigs;
    type Answer = ();

    fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let configs: Vec<AlterableConfig<'_>> = self
            .changes
            .iter()
            .map(|change| match &change.operation {
                ConfigOperation::Set(value) => AlterableConfig {
                    name: &change.name,
                    config_operation: 0,
                    value: Some(value),
                },
                ConfigOperation::Unset => AlterableConfig {
                    name: &change.name,
                    config_operation: 1,
                    value: None,
                },
            })
            .collect();
        let name = self.resource.name();
        let resources = [AlterConfigsResource {
            resource_type: self.resource.type_code(),
            resource_name: &name,
            configs: Array::from(&configs),
        }];
        IncrementalAlterConfigsRequest {
            resources: Array::from(&resources),
            validate_only: self.validate_only,
        }
        .encode(version, out)
    }

    fn decode(&self, version: i16, body: &[u8]) -> Result<(), AnswerError> {
        let response = IncrementalAlterConfigsResponse::parse(version, body)?;
        let subject = self.resource.subject();
        let result = response.responses.iter().next();
        let result = result.ok_or_else(|| AnswerError::Missing(subject.clone()))?;
        ClientError::check(&subject, result.error_code, result.error_message)?;
        Ok(())
    }
}
