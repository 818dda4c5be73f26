//! What the endpoint knows of its node besides the cores, and where the node stands.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use serde_json::Value;

use crate::collect::Cores;
use crate::figures::{CoreFigures, ProcessFigures, QuarantineFigures};

/// What does not change while the process lives.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NodeFacts {
    pub node_id: i32,
    pub cluster_id: String,
    pub version: String,
    pub started_ms: i64,
    pub advertised: String,
    #[serde(skip)]
    pub config: Value,
    /// Topics told by name in the metrics.
    #[serde(skip)]
    pub metrics_topics_max: usize,
    /// What the node's memory is bounded by, by pool, in bytes.
    pub memory_budget: Vec<MemoryPool>,
}

/// A part of the node's memory and its bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryPool {
    pub pool: &'static str,
    pub bytes_max: u64,
}

/// Says what lies in quarantine now. It may read the disk: it is asked on the endpoint's thread.
pub type QuarantineSource = Box<dyn Fn() -> Vec<QuarantineFigures> + Send + Sync>;

/// The node as the endpoint sees it.
pub struct Node {
    pub facts: NodeFacts,
    pub process: fn() -> ProcessFigures,
    pub quarantine: QuarantineSource,
    cores: OnceLock<Box<dyn Cores>>,
    is_stopping: AtomicBool,
}

/// Why a node is not ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotReady {
    pub ready: bool,
    pub reason: String,
}

impl NotReady {
    /// A reason in words.
    #[must_use]
    pub fn because(reason: impl Into<String>) -> NotReady {
        NotReady {
            ready: false,
            reason: reason.into(),
        }
    }
}

impl Node {
    pub(crate) fn new(
        facts: NodeFacts,
        process: fn() -> ProcessFigures,
        quarantine: QuarantineSource,
    ) -> Node {
        Node {
            facts,
            process,
            quarantine,
            cores: OnceLock::new(),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// The node serves: from now on the cores answer. Said once.
    pub fn serves(&self, cores: Box<dyn Cores>) {
        let _ = self.cores.set(cores);
    }

    /// The node has stopped serving.
    pub fn stops(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
    }

    /// The way to the cores.
    ///
    /// # Errors
    /// While the node starts or stops.
    pub fn cores(&self) -> Result<&dyn Cores, NotReady> {
        if self.is_stopping.load(Ordering::SeqCst) {
            return Err(NotReady::because("the node is stopping"));
        }
        let cores = self.cores.get();
        cores.map(|cores| &**cores).ok_or_else(|| {
            NotReady::because("the node is starting: it recovers its logs and does not serve yet")
        })
    }
}

/// Whether cores that all answer may be sent clients.
///
/// # Errors
/// A core that stops.
pub fn readiness(cores: &[CoreFigures]) -> Result<(), NotReady> {
    for figures in cores {
        let core = figures.core;
        if figures.stopping {
            return Err(NotReady::because(format!("core {core} is stopping")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_stops_is_named() {
        let ready = CoreFigures::default();
        let stopping = CoreFigures {
            core: 2,
            stopping: true,
            ..CoreFigures::default()
        };
        assert_eq!(readiness(&[ready.clone(), ready.clone()]), Ok(()));
        let error = readiness(&[ready, stopping]).expect_err("stops");
        assert_eq!(error.reason, "core 2 is stopping");
    }
}
