//! Apache Kafka's own client, in Java, and its command line tools: fetched and compiled by Maven, both installed where they are missing.

use crate::python::{Running, done, done_with};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

/// So long, in seconds, may one program take.
const PATIENCE: &str = "180";

/// Programs of `clients`, in a directory of their own.
#[derive(Clone, Copy)]
pub(crate) struct Programs(&'static str);

/// Those that need the client alone.
pub(crate) const CLIENT: Programs = Programs("java");
/// Those that need Kafka Streams.
pub(crate) const STREAMS: Programs = Programs("streams");
/// Those that need Kafka's tools.
pub(crate) const TOOLS: Programs = Programs("tools");

impl Programs {
    fn built(self) -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kafka-clients-{}", self.0))
    }

    fn build(self) {
        static BUILT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
        let mut built = BUILT.lock().expect("whoever failed before has said so");
        if built.contains(self.0) {
            return;
        }
        let is_there = |name: &str| Command::new(name).arg("-version").output().is_ok_and(|said| said.status.success());
        if !is_there("javac") || !is_there("mvn") {
            let script = "set -e; s=; [ \"$(id -u)\" -eq 0 ] || s=sudo; $s apt-get update -qq; \
                          DEBIAN_FRONTEND=noninteractive $s apt-get install -y -qq default-jdk-headless maven";
            done("install Java and Maven", Command::new("sh").args(["-c", script]).output().expect("a shell"));
        }
        let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/clients").join(self.0).join("pom.xml");
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-f"]).arg(pom).arg(format!("-Dout={}", self.built().display()));
        maven.args(["package", "dependency:copy-dependencies"]).arg(format!("-DoutputDirectory={}", self.built().join("lib").display()));
        done("compile the programs in Java", maven.output().expect("it is there"));
        built.insert(self.0);
    }

    /// Runs one to its end; what it checks holds.
    pub(crate) fn run(self, class: &str, args: &[&str]) {
        done(class, self.command(class, args).output().expect("timeout is there"));
    }

    /// The same for one that says something in between: then `meanwhile` is done, and it is told so.
    pub(crate) fn run_with(self, class: &str, args: &[&str], meanwhile: impl FnOnce(&str)) {
        done_with(class, &mut self.command(class, args), meanwhile);
    }

    /// Begins one that runs beside others.
    pub(crate) fn begin(self, class: &str, args: &[&str]) -> Running {
        Running::begin(class, &mut self.command(class, args))
    }

    fn command(self, class: &str, args: &[&str]) -> Command {
        self.build();
        let path = format!("{0}/classes:{0}/lib/*", self.built().display());
        let mut command = Command::new("timeout");
        command.args([PATIENCE, "java", "-cp", &path, class]).args(args);
        command
    }
}
