//! Apache Kafka: one node, broker and controller in one process (KRaft), from the jars that its project publishes.
//!
//! Settings are those of the files that Kafka comes with, and its defaults; the JVM has the flags of Kafka's own scripts. With
//! [`Syncs::EachAck`] it syncs before each ack, which is one setting.

use super::{
    driver::Driver,
    system::{Home, System},
    tools::Jars,
};
use anyhow::{Context, Result};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::fs;
use tokio::process::Command;

/// What `bin/kafka-server-start.sh` and `bin/kafka-run-class.sh` give to the JVM.
const JVM: [&str; 8] = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];
/// A log as Kafka has it by default: what matters, to where its process writes.
const LOG4J: &str = "\
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=[%d] %p %m (%c)%n
";
/// Characters of an id as Kafka has it: 128 bits in base64, without padding.
const ID_CHARS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const ID_LEN: usize = 22;

/// When it syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syncs {
    /// When the system gets round to it: Kafka's default.
    Never,
    /// Before each ack.
    EachAck,
}

/// See the module.
pub(super) struct Kafka {
    pub(super) jars: Jars,
    pub(super) syncs: Syncs,
    pub(super) drivers: Vec<Driver>,
}

impl Kafka {
    /// Its `server.properties`.
    fn settings(&self, home: &Home) -> String {
        let (broker, controller) = (home.port(0), home.port(1));
        let mut out = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\n\
             listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{broker}\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
             log.dirs={}\n\
             offsets.topic.replication.factor=1\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n",
            home.data().display()
        );
        if self.syncs == Syncs::EachAck {
            out += "log.flush.interval.messages=1\n";
        }
        out
    }

    /// One of its programs, with what the JVM is to be given.
    fn java(&self, home: &Home, class: &str, jvm: &[&str]) -> Command {
        let mut command = Command::new("java");
        command.args(jvm).arg(format!("-Dlog4j2.configurationFile={}", home.file("log4j2.properties").display()));
        command.arg("-cp").arg(self.jars.class_path()).arg(class);
        command
    }
}

impl System for Kafka {
    fn name(&self) -> String {
        match self.syncs {
            Syncs::Never => "kafka, defaults".into(),
            Syncs::EachAck => "kafka, synced".into(),
        }
    }

    fn describe(&self) -> Vec<(String, String)> {
        let syncs = match self.syncs {
            Syncs::Never => "never by itself (its default)",
            Syncs::EachAck => "before each ack (log.flush.interval.messages=1)",
        };
        vec![
            ("version".into(), self.jars.version.clone()),
            ("syncs".into(), syncs.into()),
            ("JVM".into(), format!("{} {}", self.jars.java, JVM.join(" "))),
        ]
    }

    /// That of the broker, and that of the controller.
    fn ports(&self) -> u16 {
        2
    }

    fn prepare(&self, home: &Home) -> Result<Option<Command>> {
        let write = |name: &str, text: &str| {
            let path = home.file(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display())).map(|()| path)
        };
        write("log4j2.properties", LOG4J)?;
        let settings = write("server.properties", &self.settings(home))?;
        let mut command = self.java(home, "kafka.tools.StorageTool", &["-Xmx256M"]);
        command.args(["format", "--cluster-id", &id(&mut SmallRng::from_os_rng()), "--config"]).arg(settings);
        Ok(Some(command))
    }

    fn command(&self, home: &Home) -> Result<Command> {
        let mut command = self.java(home, "kafka.Kafka", &JVM);
        command.arg(home.file("server.properties"));
        Ok(command)
    }

    fn drivers(&self) -> Vec<Driver> {
        self.drivers.clone()
    }
}

/// A new id of a cluster.
fn id(dice: &mut SmallRng) -> String {
    let mut id: Vec<u8> = (0..ID_LEN - 1).map(|_| ID_CHARS[dice.random_range(0..ID_CHARS.len())]).collect();
    // The last character has two bits of the id, and four that are zero.
    id.push(b'A');
    String::from_utf8_lossy(&id).into_owned()
}

#[cfg(test)]
mod tests;
