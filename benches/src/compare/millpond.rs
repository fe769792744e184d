//! Millpond itself, by the protocol that the others speak.

use super::{
    driver::Driver,
    system::{Home, System},
};
use anyhow::Result;
use std::path::PathBuf;
use tokio::process::Command;

/// See the module.
pub(super) struct Millpond {
    pub(super) program: PathBuf,
    /// CPUs that it is confined to; none for all, as it is without settings.
    pub(super) cpus: Vec<usize>,
    /// CPUs of the machine.
    pub(super) cpus_max: usize,
    /// As `millpond serve --memory` takes it.
    pub(super) memory: Option<String>,
    pub(super) drivers: Vec<Driver>,
}

impl Millpond {
    fn args(&self) -> Vec<String> {
        let mut args = Vec::new();
        if !self.cpus.is_empty() {
            // One CPU alone would read as a count.
            let list: Vec<String> = self.cpus.iter().map(|cpu| format!("{cpu}-{cpu}")).collect();
            args.extend(["--cores".to_owned(), list.join(",")]);
        }
        if let Some(memory) = &self.memory {
            args.extend(["--memory".to_owned(), memory.clone()]);
        }
        args
    }
}

impl System for Millpond {
    fn name(&self) -> String {
        "millpond".into()
    }

    fn describe(&self) -> Vec<(String, String)> {
        let args = self.args().join(" ");
        vec![
            ("version".into(), env!("CARGO_PKG_VERSION").into()),
            ("syncs".into(), "before each ack".into()),
            ("settings".into(), if args.is_empty() { "none".into() } else { args }),
        ]
    }

    /// One for all cores, and one for each.
    fn ports(&self) -> u16 {
        u16::try_from(self.cpus_max + 1).unwrap_or(u16::MAX)
    }

    fn prepare(&self, _home: &Home) -> Result<Option<Command>> {
        Ok(None)
    }

    fn command(&self, home: &Home) -> Result<Command> {
        let mut command = Command::new(&self.program);
        // What is meant for another server is not for this one.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"MILLPOND_")) {
            command.env_remove(name);
        }
        command.args(["serve", "--http", "off", "--listen"]).arg(home.at().to_string()).arg("--data").arg(home.data()).args(self.args());
        Ok(command)
    }

    fn drivers(&self) -> Vec<Driver> {
        self.drivers.clone()
    }
}
