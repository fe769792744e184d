//! `millpond doctor`: whether this machine can run a node, how well, and what to mend.

use super::{
    fail::{Fail, Result},
    out::Out,
};
use clap::Args;
use millpond_runtime::probe::{self, Status};
use std::path::PathBuf;

/// Check this machine: kernel, io_uring, limits, clock, disk, memory
#[derive(Args)]
#[command(after_help = "\
Writes, syncs and removes one small file in the data directory, to see how the disk syncs. Exit code 1 if something keeps \
a server from running or from keeping data safe.")]
pub(super) struct Doctor {
    /// Where the data is, or is to be, kept
    #[arg(long, short = 'd', env = "MILLPOND_DATA", hide_env_values = true, default_value = "./data", value_name = "DIR")]
    data: PathBuf,
}

impl Doctor {
    pub(super) fn run(self, out: &mut Out) -> Result {
        let checks = probe::doctor(&self.data);
        let failed = checks.iter().filter(|check| check.status == Status::Fail).count();
        if out.json {
            checks.iter().try_for_each(|check| out.value(check))?;
        }
        for check in checks.iter().filter(|_| !out.json).collect::<Vec<_>>() {
            let status = match check.status {
                Status::Ok => "ok  ",
                Status::Warn => "WARN",
                Status::Fail => "FAIL",
            };
            out.line(format!("{status}  {:<12}  {}", check.name, check.found))?;
            if let Some(advice) = &check.advice {
                out.line(format!("{:18}  try: {advice}", ""))?;
            }
        }
        out.flush()?;
        match failed {
            0 => Ok(()),
            1 => Err(Fail::new("one check failed", "do what it says above, then run `millpond doctor` again")),
            n => Err(Fail::new(format!("{n} checks failed"), "do what they say above, then run `millpond doctor` again")),
        }
    }
}
