//! Clients of Kafka in Python, installed into an environment of their own where that is missing.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Once,
};

/// The clients, each of this version: librdkafka of today among them.
const CLIENTS: [&str; 3] = ["confluent-kafka==2.16.1", "kafka-python==3.0.12", "aiokafka==0.14.0"];
/// So long, in seconds, may one program take.
const PATIENCE: &str = "180";

fn environment() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka-clients")
}

pub(crate) fn done(what: &str, output: Output) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {out}{err}");
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let python = environment().join("bin/python");
        let made = Command::new("python3").args(["-m", "venv"]).arg(environment()).output();
        if !made.is_ok_and(|made| made.status.success()) {
            let script = "set -e; s=; [ \"$(id -u)\" -eq 0 ] || s=sudo; $s apt-get update -qq; DEBIAN_FRONTEND=noninteractive $s apt-get install -y -qq python3-venv";
            done("install python3-venv", Command::new("sh").args(["-c", script]).output().expect("a shell"));
            done("make an environment", Command::new("python3").args(["-m", "venv"]).arg(environment()).output().expect("python3"));
        }
        let pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check"];
        done("install clients", Command::new(python).args(pip).args(CLIENTS).output().expect("it is there"));
    });
}

/// Runs a program of `clients/` to its end; what it asserts holds.
pub(crate) fn run(program: &str, args: &[&str]) {
    done(program, command(program, args).output().expect("timeout is there"));
}

/// The same for one that says something in between: then `meanwhile` is done, and it is told so.
pub(crate) fn run_with(program: &str, args: &[&str], meanwhile: impl FnOnce(&str)) {
    done_with(program, &mut command(program, args), meanwhile);
}

/// Runs a program, and does `meanwhile` when it says something.
pub(crate) fn done_with(program: &str, command: &mut Command, meanwhile: impl FnOnce(&str)) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("timeout is there");
    let mut line = String::new();
    let mut said = BufReader::new(child.stdout.take().expect("piped"));
    said.read_line(&mut line).expect("it says something, or ends");
    if !line.is_empty() {
        meanwhile(line.trim());
        child.stdin.as_mut().expect("piped").write_all(b"done\n").expect("it reads");
    }
    done(program, child.wait_with_output().expect("it ends"));
}

fn command(program: &str, args: &[&str]) -> Command {
    install();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/clients").join(program);
    let mut command = Command::new("timeout");
    command.arg(PATIENCE).arg(environment().join("bin/python")).arg(script).args(args);
    command
}
