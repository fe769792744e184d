//! What `millpond doctor` looks at: whether this machine can run a node, how well, and what to mend.
//!
//! Each check reads something and judges it. The judging is pure, so that machines that we do not have are tested too; what
//! lies below /proc and /sys is read through [`Root`], which tests point at made-up trees.
//!
//! Nothing is changed but one file of 256 KiB in the data directory, which is written, synced and removed; and nothing here
//! panics: what cannot be read is a finding.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "it looks at the machine, and no core runs it")]

mod clock;
mod disk;
mod kernel;
mod limits;
mod machine;

use crate::{pool::panic_message, topology::Topology};
use serde::Serialize;
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// A node runs, but slower, or less safely than it should.
    Warn,
    /// A node does not run, or would lose data.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it came out.
    pub status: Status,
    /// What was found, for people, with figures and their units.
    pub found: String,
    /// What to do, always there for a failure; with [`Status::Ok`] it says what would be better still.
    pub advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, found: found.into(), advice: None }
    }

    fn hint(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, found: found.into(), advice: Some(advice.into()) }
    }

    fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, status: Status::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, status: Status::Fail, found: found.into(), advice: Some(advice.into()) }
    }
}

/// Where /proc and /sys are: `/`, or a made-up tree.
#[derive(Clone, Debug)]
struct Root(PathBuf);

impl Root {
    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// What a file says, without the spaces around it; `None` if it cannot be read.
    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_owned())
    }
}

/// Looks at this machine and at the disk of `dir`, which need not exist yet. Takes a second or so, and longer only on a
/// disk that is slow to sync.
#[must_use]
pub fn doctor(dir: &Path) -> Vec<Check> {
    let root = Root("/".into());
    let topology = Topology::read();
    let mut checks = Vec::new();
    let mut look = |name, part: &dyn Fn() -> Vec<Check>| checks.extend(guarded(name, part));
    look("kernel", &|| kernel::checks(&root));
    look("limits", &|| limits::checks(&topology));
    look("clock", &|| clock::checks(&root));
    look("disk", &|| disk::checks(&root, dir));
    look("machine", &|| machine::checks(&root, &topology));
    checks
}

/// A panic while looking is our own bug, and no reason not to look at the rest.
fn guarded(name: &'static str, part: &dyn Fn() -> Vec<Check>) -> Vec<Check> {
    catch_unwind(AssertUnwindSafe(part)).unwrap_or_else(|panic| {
        vec![Check::fail(name, format!("the check itself failed: {}", panic_message(&*panic)), "report this as a bug")]
    })
}

/// Bytes for people: in the largest unit of which there is at least one.
fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut size, mut unit) = (bytes as f64, "B");
    for next in UNITS {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, next);
    }
    if unit == "B" || size.fract() == 0.0 { format!("{size:.0} {unit}") } else { format!("{size:.1} {unit}") }
}

#[cfg(test)]
mod tests;
