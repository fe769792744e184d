//! Debian's kcat, installed where it is missing.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Output, Stdio},
    sync::Once,
};

/// So long, in seconds, may one command take.
const PATIENCE: &str = "120";

pub(crate) struct Kcat {
    server: String,
}

/// Installs it, as root or with sudo.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if Command::new("kcat").arg("-V").output().is_ok() {
            return;
        }
        let script = "set -e; s=; [ \"$(id -u)\" -eq 0 ] || s=sudo; $s apt-get update -qq; DEBIAN_FRONTEND=noninteractive $s apt-get install -y -qq kcat";
        let done = Command::new("sh").args(["-c", script]).output().expect("a shell");
        assert!(done.status.success(), "install kcat (Debian: apt-get install kcat): {}", String::from_utf8_lossy(&done.stderr));
    });
}

pub(crate) fn succeeded(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kcat: {said}");
    String::from_utf8(output.stdout).expect("text")
}

impl Kcat {
    pub(crate) fn new(server: &str) -> Self {
        install();
        Self { server: server.to_owned() }
    }

    pub(crate) fn command(&self, mode: &str, args: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args([PATIENCE, "kcat", "-b", &self.server, mode]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Produces lines.
    pub(crate) fn produce(&self, args: &[&str], lines: &str) {
        let mut child = self.command("-P", args).spawn().expect("it is installed");
        child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("it reads");
        succeeded(child.wait_with_output().expect("it ends"));
    }

    /// What there is, from the beginning if the arguments say nothing else.
    pub(crate) fn consume(&self, args: &[&str]) -> String {
        succeeded(self.command("-C", &[&["-e", "-q"], args].concat()).output().expect("it is installed"))
    }

    /// What a group reads, up to the ends.
    pub(crate) fn group(&self, group: &str, topics: &[&str]) -> String {
        let args = ["-e", "-q", "-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000"];
        succeeded(self.command("-G", &[&[group], topics, &args].concat()).output().expect("it is installed"))
    }

    /// Offsets by time: `topic:partition:time`.
    pub(crate) fn query(&self, what: &str) -> String {
        succeeded(self.command("-Q", &["-t", what]).output().expect("it is installed"))
    }

    /// All that Metadata tells.
    pub(crate) fn list(&self) -> String {
        succeeded(self.command("-L", &[]).output().expect("it is installed"))
    }
}

/// Topics and how many partitions they have, out of a list.
pub(crate) fn listed(list: &str) -> BTreeMap<String, usize> {
    let topic = |line: &str| {
        let (name, rest) = line.trim().strip_prefix("topic \"")?.split_once("\" with ")?;
        Some((name.to_owned(), rest.split(' ').next()?.parse().ok()?))
    };
    list.lines().filter_map(topic).collect()
}
