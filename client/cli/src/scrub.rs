//! `highwater log scrub`: asks running nodes to read everything that they store.
//!
//! The request is a broker configuration, a moment in time: each node reads everything again unless it
//! began to after that moment. So it is durable, it is seen in `config describe`, and asking twice
//! costs nothing.

use clap::Args;
use highwater_client::calls::{AlterConfig, AlterConfigs, ConfigOperation, ConfigResource, Target};
use serde_json::json;

use crate::CommandError;
use crate::arguments::Common;
use crate::output::print_either;

/// The broker configuration that carries the request.
pub const SCRUB_REQUESTED: &str = "log.scrub.requested.ms";

/// Flags of `log scrub`.
#[derive(Debug, Args)]
pub struct ScrubArguments {
    #[command(flatten)]
    common: Common,
    /// Ask the broker with this id only; else all are asked.
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
}

pub(crate) async fn run(arguments: &ScrubArguments) -> Result<(), CommandError> {
    let client = arguments.common.connect.connect().await?;
    let now_ms = client.now().wall_ms;
    let (resource, target) = match arguments.broker {
        Some(id) => (ConfigResource::Broker(id), Target::Broker(id)),
        None => (ConfigResource::AllBrokers, Target::Controller),
    };
    let call = AlterConfigs {
        resource,
        changes: vec![AlterConfig {
            name: SCRUB_REQUESTED.to_string(),
            operation: ConfigOperation::Set(now_ms.to_string()),
        }],
        validate_only: false,
    };
    client.call(target, &call).await?;
    let who = call.resource.subject();
    let text = format!(
        "Asked {who} to read everything stored. How far that is and what it finds: the metrics\n\
         highwater_scrub_logs_done of highwater_scrub_logs, highwater_scrub_holes_total, and the log.\n"
    );
    let document = json!({"asked": who, "requested_ms": now_ms});
    Ok(print_either(arguments.common.json, &document, &text)?)
}
