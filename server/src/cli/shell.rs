//! `millpond completions` and `millpond man`: for the shell and for the manual.

use super::{
    Cli,
    fail::{Fail, Result},
    out::Out,
};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::{fs, path::PathBuf};

/// Print completions for a shell: source them, or put them where the shell looks
#[derive(Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, out: &mut Out) -> Result {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "millpond", &mut script);
        out.bytes(&script)
    }
}

/// Print the manual page, or write those of all commands
#[derive(Args)]
pub(super) struct Man {
    /// Write one page per command into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self, out: &mut Out) -> Result {
        let Some(dir) = self.dir else {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(|e| Fail::io("render the page", &e))?;
            return out.bytes(&page);
        };
        let doing = format!("write into {}", dir.display());
        fs::create_dir_all(&dir).map_err(|e| Fail::io(&doing, &e))?;
        clap_mangen::generate_to(Cli::command(), &dir).map_err(|e| Fail::io(&doing, &e))?;
        out.note(format!("wrote the pages into {}", dir.display()));
        Ok(())
    }
}
