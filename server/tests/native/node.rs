//! A `millpond serve` process with a data directory of its own.

#[path = "../ports/mod.rs"]
mod ports;

use ports::free_ports;
use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

const CORES: u16 = 2;
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Killed, and its data removed, when dropped.
pub(crate) struct Node {
    pub(crate) child: Option<Child>,
    data: tempfile::TempDir,
    port: u16,
    join: Option<String>,
    rack: String,
    replace: Option<u64>,
    /// More arguments of `serve`.
    pub(crate) more: Vec<String>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Node {
    /// Starts one and waits until it serves.
    pub(crate) fn start() -> Self {
        // On a real disk: memory file systems know no O_DIRECT.
        Self::of(None)
    }

    pub(crate) fn of(join: Option<String>) -> Self {
        Self::standing("", join)
    }

    /// The same in a rack, if that is not empty.
    pub(crate) fn standing(rack: &str, join: Option<String>) -> Self {
        let mut node = Self::new(join, None);
        node.rack = rack.into();
        node.serve();
        node
    }

    /// One that was not started yet.
    pub(crate) fn new(join: Option<String>, replace: Option<u64>) -> Self {
        let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for data");
        Self { child: None, data, port: free_ports(CORES + 1), join, rack: String::new(), replace, more: Vec::new() }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where its data is.
    pub(crate) fn data(&self) -> PathBuf {
        self.data.path().join("data")
    }

    /// Ends it as a crash of the process would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it is ours");
            child.wait().expect("it was started");
        }
    }

    /// Starts it again where it was, and waits until it serves.
    pub(crate) fn serve(&mut self) {
        let said = self.launch();
        let line = said.recv_timeout(PATIENCE).unwrap_or_else(|_| "nothing in time".into());
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        assert!(line.contains("listen"), "it did not start, and said: {line}\n{log}");
    }

    /// Starts it again where it was. What it says once it serves comes later.
    pub(crate) fn launch(&mut self) -> mpsc::Receiver<String> {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).expect("a log file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_millpond"))
            .args(["serve", "--http", "off", "--no-pin", "--memory", "256MiB", "--json"])
            .args(["--cores", &CORES.to_string(), "--listen", &self.address()])
            .arg("--data")
            .arg(self.data())
            .args(["--rack", &self.rack].iter().filter(|_| !self.rack.is_empty()))
            .args(self.join.iter().flat_map(|seed| ["--join", seed]))
            .args(self.replace.iter().flat_map(|node| ["--replace".to_owned(), node.to_string()]))
            .args(&self.more)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the program was built");
        let stdout = child.stdout.take().expect("piped");
        self.child = Some(child);
        let (say, said) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            // A line that cannot be read is one that does not say that it listens.
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = say.send(line);
        });
        said
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.data.path().join("log")
    }
}
