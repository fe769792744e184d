//! What nodes of a cluster do beside what all nodes do.

use super::node::Node;
use std::process::Command;

impl Node {
    /// Starts one that is to be a part of a cluster, and waits until it is.
    pub(crate) fn join(seed: &Self) -> Self {
        Self::of(Some(seed.address()))
    }

    /// One that is to take the place of a lost one, and was not started yet.
    pub(crate) fn replacing(seed: &Self, lost: u64) -> Self {
        Self::new(Some(seed.address()), Some(lost))
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let asked = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            assert!(asked.expect("kill is there").success());
            assert!(child.wait().expect("it was started").success(), "it stops as asked");
        }
    }

    /// What it has logged.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }
}
