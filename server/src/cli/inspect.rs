//! `millpond inspect`: any of our files, told to people. Nothing is changed, and no server need run.

use super::{
    fail::{Fail, Result},
    out::Out,
};
use crate::boot::identity;
use clap::Args;
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// How the line of a finding begins that means damage.
const DAMAGED: &str = "DAMAGED";

/// Print what is in a file of ours, or in all below a directory
#[derive(Args)]
#[command(after_help = "\
Knows the journal, segments and the file that says who the node is. Damage is told with its byte, and makes the exit code 1. \
Files of a running server are read as they are at the moment: what it is writing may look damaged.")]
pub(super) struct Inspect {
    /// Files, or directories such as a data directory
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// List every entry and frame
    #[arg(long, short = 'e')]
    entries: bool,
}

impl Inspect {
    pub(super) fn run(self, out: &mut Out) -> Result {
        let mut files = Vec::new();
        for path in &self.paths {
            gather(path, &mut files)?;
        }
        let mut damaged = 0;
        for path in &files {
            let bytes = fs::read(path).map_err(|e| reading(path, &e))?;
            let told = describe(path, &bytes, self.entries);
            let hurt = told.lines().any(|line| line.trim_start().starts_with(DAMAGED));
            damaged += u64::from(hurt);
            if out.json {
                let lines: Vec<_> = told.lines().collect();
                out.value(&json!({ "file": path, "bytes": bytes.len(), "damaged": hurt, "lines": lines }))?;
                continue;
            }
            if files.len() > 1 {
                out.line(format!("{}:", path.display()))?;
            }
            out.bytes(told.as_bytes())?;
        }
        out.flush()?;
        if damaged > 0 {
            let what = if damaged == 1 { "one file is damaged".into() } else { format!("{damaged} files are damaged") };
            return Err(Fail::new(what, "keep a copy of the files as they are, and check the disk (`smartctl`, `dmesg`)"));
        }
        Ok(())
    }
}

fn reading(path: &Path, error: &std::io::Error) -> Fail {
    Fail::io(format_args!("read {}", path.display()), error)
}

/// All files at or below a path, in order of their names.
fn gather(path: &Path, files: &mut Vec<PathBuf>) -> Result {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(path).and_then(|entries| entries.map(|e| Ok(e?.path())).collect::<Result<Vec<_>, std::io::Error>>());
    let mut entries = entries.map_err(|e| reading(path, &e))?;
    entries.sort();
    entries.iter().try_for_each(|entry| gather(entry, files))
}

fn describe(path: &Path, bytes: &[u8], entries: bool) -> String {
    if identity::is_it(bytes) {
        return match identity::decode(bytes) {
            Ok(node) => format!(
                "node {:016x} of cluster {:016x}, {} {}\n",
                node.node_id,
                node.cluster_id,
                node.homes,
                if node.homes == 1 { "home" } else { "homes" }
            ),
            Err(why) => format!("{DAMAGED} at byte 0: {why}\n"),
        };
    }
    if bytes.is_empty() {
        let lock = path.file_name().is_some_and(|name| name == "lock");
        return if lock { "held by a running server\n".into() } else { "empty\n".into() };
    }
    millpond_log::inspect::describe(bytes, entries)
}
