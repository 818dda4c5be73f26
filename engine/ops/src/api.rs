//! The routes: `/metrics`, `/health`, `/ready` and the read-only JSON under `/v1/`.
//!
//! `openapi.json` describes each; a test compares the two. What cannot be answered because the node
//! starts, stops or a core is silent is 503 with a reason.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::collect::{self, Beyond, Silent};
use crate::figures::{DamageFigures, GroupFigures, TopicFigures};
use crate::group_walk::{self, GroupCursor};
use crate::metrics::{self, GROUPS_MAX, LAGS_MAX, Snapshot};
use crate::node::{Node, NotReady, readiness};
use crate::text;

/// Topics in one answer, unless asked for fewer.
const TOPICS_LISTED_MAX: usize = 1000;
/// Groups in one answer, unless asked for fewer.
const GROUPS_LISTED_MAX: usize = 1000;

/// Damaged partitions that `/health` tells by name.
const DAMAGED_TOLD_MAX: usize = 100;

/// The description of all routes.
const OPENAPI: &str = include_str!("../openapi.json");

/// Something that cannot be answered now.
#[derive(Debug)]
struct Unavailable(NotReady);

impl From<NotReady> for Unavailable {
    fn from(reason: NotReady) -> Unavailable {
        Unavailable(reason)
    }
}

impl From<Silent> for Unavailable {
    fn from(silent: Silent) -> Unavailable {
        Unavailable(NotReady::because(silent.to_string()))
    }
}

impl IntoResponse for Unavailable {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, Json(self.0)).into_response()
    }
}

type Answered = Result<Response, Unavailable>;
type Routed = MethodRouter<Arc<Node>>;

fn routes() -> Vec<(&'static str, Routed)> {
    vec![
        ("/metrics", get(metrics)),
        ("/health", get(health)),
        ("/ready", get(ready)),
        ("/v1/node", get(node)),
        ("/v1/cores", get(cores)),
        ("/v1/topics", get(topics)),
        ("/v1/topics/{name}", get(topic)),
        ("/v1/connections", get(connections)),
        ("/v1/groups", get(groups)),
        ("/v1/groups/{group}", get(group)),
        ("/v1/config", get(config)),
        ("/v1/openapi.json", get(openapi)),
    ]
}

/// All routes of a node.
pub(crate) fn router(node: Arc<Node>) -> Router {
    let mut router = Router::new();
    for (path, route) in routes() {
        router = router.route(path, route);
    }
    router.fallback(unknown).with_state(node)
}

async fn unknown() -> Response {
    let told = json!({"error": "no such path; /v1/openapi.json lists those there are"});
    (StatusCode::NOT_FOUND, Json(told)).into_response()
}

async fn metrics(State(node): State<Arc<Node>>) -> Answered {
    let way = node.cores()?;
    let cores = collect::core_figures(way).await?;
    let wanted = node.facts.metrics_topics_max;
    let topics = collect::topics(way, "", wanted, Beyond::AddUp).await?;
    let groups = group_walk::all(way, GROUPS_MAX, LAGS_MAX).await?;
    let damage = collect::damage(way, 0).await?;
    let body = metrics::expose(&Snapshot {
        node: &node.facts,
        is_ready: readiness(&cores).is_ok(),
        process: (node.process)(),
        cores: &cores,
        topics: &topics,
        groups: &groups,
        damage: &damage,
        quarantine: &(node.quarantine)(),
    });
    Ok(([(header::CONTENT_TYPE, text::CONTENT_TYPE)], body).into_response())
}

/// A node that recovers its logs is healthy: ending it would only make it begin again. So is one with
/// damage, which a restart does not mend: it says what is wrong and serves the rest.
async fn health(State(node): State<Arc<Node>>) -> Answered {
    let Ok(way) = node.cores() else {
        return Ok(Json(json!({"healthy": true, "cores": 0})).into_response());
    };
    let cores = collect::core_figures(way).await?;
    let mut told = json!({"healthy": true, "cores": cores.len()});
    let mut damage = DamageFigures::default();
    for of_core in collect::damage(way, DAMAGED_TOLD_MAX).await? {
        damage.add(of_core, DAMAGED_TOLD_MAX);
    }
    let quarantine = (node.quarantine)();
    let unknown = quarantine.iter().find(|kept| kept.reason == "unknown");
    let unknown = unknown.map_or(0, |kept| kept.topics);
    if damage.any() || unknown > 0 {
        told["degraded"] = true.into();
        told["damage"] = json!(damage);
        told["unknown_topics_in_quarantine"] = unknown.into();
    }
    Ok(Json(told).into_response())
}

async fn ready(State(node): State<Arc<Node>>) -> Answered {
    let cores = collect::core_figures(node.cores()?).await?;
    readiness(&cores)?;
    Ok(Json(json!({"ready": true})).into_response())
}

async fn node(State(node): State<Arc<Node>>) -> Answered {
    let cores = collect::core_figures(node.cores()?).await?;
    let first = cores.first();
    let told = json!({
        "node": node.facts,
        "cores": cores.len(),
        "topics": first.map(|core| core.topics_of_node),
        "partitions": first.map(|core| core.partitions_of_node),
        "connections": cores.iter().map(|core| core.connections).sum::<u64>(),
        "process": (node.process)(),
    });
    Ok(Json(told).into_response())
}

async fn cores(State(node): State<Arc<Node>>) -> Answered {
    let cores = collect::core_figures(node.cores()?).await?;
    Ok(Json(json!({"cores": cores})).into_response())
}

/// A page of a list by name.
#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    from: String,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
struct TopicPage {
    topics: Vec<TopicFigures>,
    /// The value of `from` that gives the next page.
    next: Option<String>,
}

async fn topics(State(node): State<Arc<Node>>, Query(page): Query<Page>) -> Answered {
    let limit = page.limit.unwrap_or(TOPICS_LISTED_MAX);
    let limit = limit.clamp(1, TOPICS_LISTED_MAX);
    // One more than is told says where the next page begins.
    let found = collect::topics(node.cores()?, &page.from, limit + 1, Beyond::Skip).await?;
    let mut topics: Vec<TopicFigures> = found.topics.into_values().collect();
    let next = topics.get(limit).map(|topic| topic.name.clone());
    topics.truncate(limit);
    Ok(Json(TopicPage { topics, next }).into_response())
}

async fn topic(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Answered {
    let partitions = collect::partitions(node.cores()?, &name).await?;
    if partitions.is_empty() {
        let told = json!({"error": format!("there is no topic {name:?}")});
        return Ok((StatusCode::NOT_FOUND, Json(told)).into_response());
    }
    Ok(Json(json!({"name": name, "partitions": partitions})).into_response())
}

async fn connections(State(node): State<Arc<Node>>) -> Answered {
    let way = node.cores()?;
    let connections = collect::connections(way).await?;
    let cores = collect::core_figures(way).await?;
    let total: u64 = cores.iter().map(|core| core.connections).sum();
    Ok(Json(json!({"total": total, "connections": connections})).into_response())
}

#[derive(Debug, Serialize)]
struct GroupPage {
    groups: Vec<GroupFigures>,
    /// The value of `from` that gives the next page.
    next: Option<String>,
}

async fn groups(State(node): State<Arc<Node>>, Query(page): Query<Page>) -> Answered {
    let from = match page.from.is_empty() {
        true => Some(GroupCursor::default()),
        false => GroupCursor::parse(&page.from),
    };
    let Some(from) = from else {
        let wrong = format!("from is {:?}; allowed is `next` of another page", page.from);
        return Ok((StatusCode::BAD_REQUEST, Json(json!({"error": wrong}))).into_response());
    };
    let limit = page.limit.unwrap_or(GROUPS_LISTED_MAX);
    let limit = limit.clamp(1, GROUPS_LISTED_MAX);
    let (groups, next) = group_walk::list(node.cores()?, from, limit).await?;
    let next = next.map(|cursor| cursor.text());
    Ok(Json(GroupPage { groups, next }).into_response())
}

async fn group(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Answered {
    let Some(group) = group_walk::one(node.cores()?, &name).await? else {
        let told = json!({"error": format!("there is no group {name:?}, or it is being loaded")});
        return Ok((StatusCode::NOT_FOUND, Json(told)).into_response());
    };
    Ok(Json(group).into_response())
}

async fn config(State(node): State<Arc<Node>>) -> Response {
    Json(&node.facts.config).into_response()
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let described: serde_json::Value = serde_json::from_str(OPENAPI).expect("valid JSON");
        assert_eq!(described["openapi"], "3.1.0");
        let paths = described["paths"].as_object().expect("an object of paths");
        let described: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
        let routed: BTreeSet<&str> = routes().iter().map(|(path, _)| *path).collect();
        assert_eq!(described, routed);
        for (path, methods) in paths {
            let get = &methods["get"];
            assert!(get["summary"].is_string(), "{path} has no summary");
            assert!(get["responses"]["200"].is_object(), "{path} has no answer");
        }
    }
}
