//! What was done to a cluster, and seen of it, and when: beside the logs of its nodes and with the same clock.

use anyhow::{Context, Result};
use std::{fs::File, io::Write, path::Path};

/// See the module.
#[derive(Debug)]
pub(crate) struct Timeline(File);

impl Timeline {
    /// One in this directory.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let path = dir.join("timeline");
        File::create(&path).map(Self).with_context(|| format!("making {}", path.display()))
    }

    /// Something is done, or seen.
    pub(crate) fn say(&self, what: &str) -> Result<()> {
        (&self.0).write_all(format!("{:.6} {what}\n", jiff::Timestamp::now()).as_bytes()).context("writing the timeline")
    }
}
