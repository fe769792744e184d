//! Clients of Kafka in Python, installed into an environment of their own where that is missing.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::Once,
    thread::{self, JoinHandle},
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
    let mut running = Running::begin(program, command);
    let said = running.says();
    if !said.is_empty() {
        meanwhile(&said);
        running.tell();
    }
    running.finish();
}

/// Begins a program that runs beside others.
pub(crate) fn begin(program: &str, args: &[&str]) -> Running {
    Running::begin(program, &mut command(program, args))
}

/// A program under way. It is ended when dropped.
pub(crate) struct Running {
    name: String,
    child: Child,
    said: BufReader<ChildStdout>,
    /// What it complains of is read meanwhile: it must not wait for that.
    complaints: Option<JoinHandle<String>>,
}

impl Running {
    pub(crate) fn begin(name: &str, command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("timeout is there");
        let said = BufReader::new(child.stdout.take().expect("piped"));
        let mut stderr = child.stderr.take().expect("piped");
        let complaints = thread::spawn(move || {
            let mut all = Vec::new();
            stderr.read_to_end(&mut all).expect("it can be read");
            String::from_utf8_lossy(&all).into_owned()
        });
        Self { name: name.to_owned(), child, said, complaints: Some(complaints) }
    }

    /// Its next line; nothing if it ends.
    pub(crate) fn says(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("it says something, or ends");
        line.trim().to_owned()
    }

    /// Tells it that what it waits for is done.
    pub(crate) fn tell(&mut self) {
        // One that has ended says why at its end.
        let _ = self.child.stdin.as_mut().expect("piped").write_all(b"done\n");
    }

    /// Waits until it says just that; if it ends instead, that is what it fails with.
    pub(crate) fn awaits(&mut self, line: &str) {
        let said = self.says();
        if said != line {
            self.ended();
            panic!("{} said {said:?} and not {line:?}", self.name);
        }
    }

    /// Waits for its end; what it asserts holds.
    pub(crate) fn finish(mut self) {
        self.ended();
    }

    fn ended(&mut self) {
        let mut out = String::new();
        self.said.read_to_string(&mut out).expect("text");
        let status = self.child.wait().expect("it ends");
        let complaints = self.complaints.take().map(|read| read.join().expect("it does not panic")).unwrap_or_default();
        assert!(status.success(), "{}: {out}{complaints}", self.name);
        println!("{}: {}", self.name, complaints.lines().last().unwrap_or_default());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended by itself, if all is well; else `timeout` ends what it runs, if it is asked to and not killed.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
            let _ = self.child.wait();
        }
    }
}

fn command(program: &str, args: &[&str]) -> Command {
    install();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/clients").join(program);
    let mut command = Command::new("timeout");
    command.arg(PATIENCE).arg(environment().join("bin/python")).arg(script).args(args);
    command
}
