//! NATS with JetStream: one server, one stream in files whose subjects are the partitions.
//!
//! The probes are a few lines of text on a socket, as [`super::wire`]'s are a few bytes:
//!
//! ```text
//! < INFO {...}
//! > CONNECT {...}   SUB inbox 1   PUB subject inbox length, payload
//! < MSG inbox 1 length, payload            or HMSG with status 503: nobody is there to answer
//! ```

use super::{
    driver::Driver,
    system::{Home, System, Topic},
    wire::connect,
};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};
use tokio::process::Command;

/// Where answers go.
const INBOX: &str = "_INBOX.probe";
/// An answer is not longer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Lines before the answer: more than a server says of itself.
const LINES_MAX: usize = 100;

/// When it syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syncs {
    /// Every two minutes: NATS's default.
    Rarely,
    /// Before each ack.
    Always,
}

/// See the module.
pub(super) struct NatsServer {
    pub(super) program: PathBuf,
    pub(super) version: String,
    pub(super) syncs: Syncs,
    pub(super) drivers: Vec<Driver>,
}

impl NatsServer {
    fn settings(&self, home: &Home) -> String {
        let sync = if self.syncs == Syncs::Always { "  sync_interval: always\n" } else { "" };
        format!("listen: {}\njetstream {{\n  store_dir: {:?}\n{sync}}}\n", home.at(), home.data().display().to_string())
    }
}

impl System for NatsServer {
    fn name(&self) -> String {
        match self.syncs {
            Syncs::Rarely => "nats, defaults".into(),
            Syncs::Always => "nats, synced".into(),
        }
    }

    fn describe(&self) -> Vec<(String, String)> {
        let syncs = match self.syncs {
            Syncs::Rarely => "every two minutes (its default)",
            Syncs::Always => "before each ack (sync_interval: always)",
        };
        let stream = "one stream in files, of one replica, with a subject for each partition";
        vec![("version".into(), self.version.clone()), ("syncs".into(), syncs.into()), ("topic".into(), stream.into())]
    }

    fn ports(&self) -> u16 {
        1
    }

    fn prepare(&self, home: &Home) -> Result<Option<Command>> {
        let path = home.file("nats.conf");
        fs::write(&path, self.settings(home)).with_context(|| format!("writing {}", path.display()))?;
        Ok(None)
    }

    fn command(&self, home: &Home) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(home.file("nats.conf"));
        Ok(command)
    }

    fn answers(&self, at: SocketAddr, patience: Duration) -> Result<()> {
        ask(at, patience, "$JS.API.INFO", b"").map(drop)
    }

    fn create(&self, at: SocketAddr, topic: &Topic, patience: Duration) -> Result<()> {
        let stream = json!({
            "name": topic.name,
            "subjects": [format!("{}.*", topic.name)],
            "storage": "file",
            "retention": "limits",
            "num_replicas": 1,
        });
        ask(at, patience, &format!("$JS.API.STREAM.CREATE.{}", topic.name), stream.to_string().as_bytes()).map(drop)
    }

    fn is_ready(&self, at: SocketAddr, topic: &Topic, patience: Duration) -> Result<()> {
        ask(at, patience, &format!("$JS.API.STREAM.INFO.{}", topic.name), b"").map(drop)
    }

    fn acknowledge(&self, at: SocketAddr, topic: &Topic, patience: Duration) -> Result<()> {
        let ack = ask(at, patience, &format!("{}.0", topic.name), b"is anybody there?")?;
        ensure!(ack["seq"].as_u64().is_some(), "a record is answered with {ack}");
        Ok(())
    }

    fn drivers(&self) -> Vec<Driver> {
        self.drivers.clone()
    }
}

/// Asks for something, and has the answer, which is JSON and no error.
fn ask(at: SocketAddr, patience: Duration, subject: &str, payload: &[u8]) -> Result<Value> {
    let stream = connect(at, patience)?;
    let mut request = format!(
        "CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true}}\r\nSUB {INBOX} 1\r\nPUB {subject} {INBOX} {}\r\n",
        payload.len()
    )
    .into_bytes();
    request.extend_from_slice(payload);
    request.extend_from_slice(b"\r\n");
    (&stream).write_all(&request).context("sending a request")?;
    answer(&mut BufReader::new(&stream))
}

/// The answer among what a server says.
fn answer(said: &mut impl BufRead) -> Result<Value> {
    for _ in 0..LINES_MAX {
        let mut line = String::new();
        let read = said.by_ref().take(ANSWER_BYTES_MAX as u64).read_line(&mut line).context("waiting for an answer")?;
        ensure!(read > 0, "the connection ended before an answer came");
        let line = line.trim_end();
        match line.split(' ').next().unwrap_or_default() {
            "MSG" => {
                let len: usize = line.rsplit(' ').next().unwrap_or_default().parse().with_context(|| format!("reading `{line}`"))?;
                ensure!(len <= ANSWER_BYTES_MAX, "an answer of {len} bytes");
                let mut payload = vec![0; len];
                said.read_exact(&mut payload).context("reading an answer")?;
                let value: Value = serde_json::from_slice(&payload).context("an answer that is no JSON")?;
                ensure!(value.get("error").is_none(), "it answers {}", value["error"]);
                return Ok(value);
            }
            "HMSG" => bail!("nobody is there to answer yet"),
            "-ERR" => bail!("it says {line}"),
            _ => {}
        }
    }
    bail!("no answer among {LINES_MAX} lines")
}

#[cfg(test)]
mod tests;
