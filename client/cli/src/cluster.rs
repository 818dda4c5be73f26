//! `highwater cluster`.

use clap::Subcommand;
use highwater_client::calls::{DescribeCluster, Target};
use serde_json::json;

use crate::CommandError;
use crate::arguments::Common;
use crate::output::{Lean, Table, print_either};

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show the cluster's id, its brokers and which of them takes changes.
    #[command(after_help = "Example:\n  highwater cluster describe -b broker1:9092")]
    Describe {
        #[command(flatten)]
        common: Common,
    },
}

pub(crate) async fn run(command: ClusterCommand) -> Result<(), CommandError> {
    let ClusterCommand::Describe { common } = command;
    let client = common.connect.connect().await?;
    let cluster = client.call(Target::Any, &DescribeCluster).await?;
    let mut table = Table::new(&[
        ("BROKER", Lean::Right),
        ("ADDRESS", Lean::Left),
        ("RACK", Lean::Left),
        ("ROLE", Lean::Left),
    ]);
    let mut brokers = Vec::new();
    for broker in &cluster.brokers {
        let role = match (broker.fenced, cluster.controller_id == Some(broker.id)) {
            (true, _) => "fenced",
            (false, true) => "controller",
            (false, false) => "broker",
        };
        table.row(vec![
            broker.id.to_string(),
            format!("{}:{}", broker.host, broker.port),
            broker.rack.clone().unwrap_or_else(|| "-".to_string()),
            role.to_string(),
        ]);
        brokers.push(json!({
            "id": broker.id,
            "host": broker.host,
            "port": broker.port,
            "rack": broker.rack,
            "role": role,
        }));
    }
    let document = json!({
        "cluster_id": cluster.cluster_id,
        "controller_id": cluster.controller_id,
        "brokers": brokers,
    });
    let text = format!("Cluster {}\n\n{}", cluster.cluster_id, table.render());
    Ok(print_either(common.json, &document, &text)?)
}
