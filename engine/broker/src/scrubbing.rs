//! How the settings of the node and the requests of its operators reach the scrubber of a core.

use highwater_base::disk::BootDisk;
use highwater_ops::figures::ScrubFigures;
use highwater_store::{ScrubConfig, Store};

use crate::config::NodeConfig;
use crate::metadata::Image;
use crate::shard::Shard;

const HOUR_MS: i64 = 3_600_000;

/// The pace of the file, and what is wanted by whom.
fn settings(config: &NodeConfig) -> ScrubConfig {
    ScrubConfig {
        bytes_per_second: (config.scrub_mb_per_second as u64) << 20,
        interval_ms: config.scrub_interval_hours as i64 * HOUR_MS,
    }
}

/// The scrubber of a core that starts goes on where the process before this one was.
pub(crate) fn begin(store: &mut Store, boot: &dyn BootDisk, config: &NodeConfig, image: &Image) {
    store.set_scrub(settings(config));
    store.resume_scrub(boot);
    store.request_scrub(image.scrub_requested_ms());
}

impl Shard {
    /// Somebody may have asked for a pass.
    pub(crate) fn request_scrub(&mut self) {
        self.store.request_scrub(self.image.scrub_requested_ms());
    }

    /// What the scrubber of this core has done.
    pub(crate) fn scrub_figures(&self) -> ScrubFigures {
        let progress = self.store.scrub_progress();
        ScrubFigures {
            bytes: progress.bytes,
            holes: progress.holes,
            passes: progress.passes,
            logs: progress.logs,
            logs_done: progress.logs_done,
            last_pass_began_seconds: (progress.last_pass_began_ms / 1000).max(0) as u64,
        }
    }
}
