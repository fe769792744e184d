//! Apache Kafka's own client, in Java: fetched and compiled by Maven, both installed where they are missing.

use crate::python::done;
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
};

/// So long, in seconds, may one program take.
const PATIENCE: &str = "180";

fn built() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka-clients-java")
}

fn build() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let is_there = |name: &str| Command::new(name).arg("-version").output().is_ok_and(|said| said.status.success());
        if !is_there("javac") || !is_there("mvn") {
            let script = "set -e; s=; [ \"$(id -u)\" -eq 0 ] || s=sudo; $s apt-get update -qq; \
                          DEBIAN_FRONTEND=noninteractive $s apt-get install -y -qq default-jdk-headless maven";
            done("install Java and Maven", Command::new("sh").args(["-c", script]).output().expect("a shell"));
        }
        let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/clients/java/pom.xml");
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-f"]).arg(pom).arg(format!("-Dout={}", built().display()));
        maven.args(["package", "dependency:copy-dependencies"]).arg(format!("-DoutputDirectory={}", built().join("lib").display()));
        done("compile the programs in Java", maven.output().expect("it is there"));
    });
}

/// Runs a class of `clients/java` to its end; what it checks holds.
pub(crate) fn run(class: &str, args: &[&str]) {
    build();
    let path = format!("{0}/classes:{0}/lib/*", built().display());
    let mut command = Command::new("timeout");
    command.args([PATIENCE, "java", "-cp", &path, class]).args(args);
    done(class, command.output().expect("timeout is there"));
}
