//! `millpond dev-cluster`: several nodes on this machine, to try things out.

use super::{
    fail::{Fail, Result},
    out::Out,
    units::Size,
};
use clap::Args;
use serde::Deserialize;
use serde_json::json;
use std::{fs::File, net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

/// Ports between two nodes.
const SPACING: u16 = 100;
/// From the port of a node to the one where it serves HTTP.
const HTTP: u16 = 80;
/// A node that does not serve after this time will not.
const START_WITHIN: Duration = Duration::from_secs(60);
/// Nodes that have been asked to stop are waited for so long.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// Run a cluster of several nodes on this machine, to try things out
///
/// Each node is a process of its own. What is written is synced on each of them, so the disk writes as often as there are nodes.
#[derive(Args)]
#[command(after_help = "\
Node N listens on the port of --listen and 100 x (N - 1) above, and serves HTTP 80 above that. Their data lie in node-1, node-2 and so on, below the directory of \
--data; what they log in node-1.log and so on. The command ends with all of them on SIGTERM and SIGINT; nodes that end by themselves, or are killed, are \
left alone: start one again with the command that `--json` shows.")]
pub(super) struct DevCluster {
    /// How many nodes
    #[arg(default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50))]
    nodes: u16,
    /// Where the data are kept
    #[arg(long, short = 'd', default_value = "./dev-cluster", value_name = "DIR")]
    data: PathBuf,
    /// Where clients connect to the first node
    #[arg(long, short = 'l', default_value = "127.0.0.1:7400", value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// Cores of each node
    #[arg(long, short = 'c', default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    cores: u16,
    /// Memory of each node
    #[arg(long, short = 'm', default_value = "256MiB", value_name = "SIZE")]
    memory: Size,
}

/// What a node says when it serves.
#[derive(Deserialize)]
struct Ready {
    listen: SocketAddr,
    node_id: u64,
    cluster_id: String,
}

struct Node {
    child: Child,
    pid: u32,
    args: Vec<String>,
    ready: Option<Ready>,
}

impl DevCluster {
    pub(super) async fn run(self, out: &mut Out) -> Result {
        let failed = |e| Fail::io("hear signals", &e);
        let (mut term, mut int) = (signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::interrupt()).map_err(failed)?);
        std::fs::create_dir_all(&self.data).map_err(|e| Fail::io(format_args!("make {}", self.data.display()), &e))?;
        let mut nodes = Vec::new();
        let started = tokio::select! {
            started = self.start(&mut nodes) => started,
            _ = term.recv() => Err(Fail::new("stopped before all nodes served", "")),
            _ = int.recv() => Err(Fail::new("stopped before all nodes served", "")),
        };
        if let Err(failed) = started {
            stop(&mut nodes).await;
            return Err(failed);
        }
        tell(&nodes, out)?;
        out.flush()?;
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        stop(&mut nodes).await;
        Ok(())
    }

    /// Starts all nodes. Those that are new join one after the other, so that their ids are as their directories say; those that know each other
    /// need each other to begin.
    async fn start(&self, nodes: &mut Vec<Node>) -> Result {
        for n in 1..=self.nodes {
            let new = !self.data.join(format!("node-{n}")).exists();
            nodes.push(self.spawn(n)?);
            if new {
                for (n, node) in nodes.iter_mut().enumerate() {
                    ready(node, n + 1).await?;
                }
            }
        }
        for (n, node) in nodes.iter_mut().enumerate() {
            ready(node, n + 1).await?;
        }
        Ok(())
    }

    fn address(&self, n: u16) -> Result<SocketAddr> {
        let port = (n - 1).checked_mul(SPACING).and_then(|more| self.listen.port().checked_add(more)).filter(|p| *p < u16::MAX - SPACING);
        let port = port.ok_or_else(|| Fail::usage("there are not so many ports", "choose a lower port with --listen, or fewer nodes"))?;
        Ok(SocketAddr::new(self.listen.ip(), port))
    }

    fn spawn(&self, n: u16) -> Result<Node> {
        let at = self.address(n)?;
        let http = SocketAddr::new(at.ip(), at.port() + HTTP);
        let mut args: Vec<String> = ["serve", "--json", "--no-pin"].map(str::to_owned).to_vec();
        let mut add = |name: &str, value: String| args.extend([name.to_owned(), value]);
        add("--listen", at.to_string());
        add("--http", http.to_string());
        add("--data", self.data.join(format!("node-{n}")).display().to_string());
        add("--cores", self.cores.to_string());
        add("--memory", self.memory.0.to_string());
        if n > 1 {
            add("--join", self.address(1)?.to_string());
        }
        let program = std::env::current_exe().map_err(|e| Fail::io("find this program", &e))?;
        let log = self.data.join(format!("node-{n}.log"));
        let log =
            File::options().create(true).append(true).open(&log).map_err(|e| Fail::io(format_args!("write {}", log.display()), &e))?;
        let mut command = Command::new(program);
        // What is meant for another server is not for these.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"MILLPOND_")) {
            command.env_remove(name);
        }
        command.args(&args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true).process_group(0);
        let child = command.spawn().map_err(|e| Fail::io("start a node", &e))?;
        let pid = child.id().unwrap_or(0);
        Ok(Node { child, pid, args, ready: None })
    }
}

/// Waits until a node serves.
async fn ready(node: &mut Node, n: usize) -> Result {
    if node.ready.is_some() {
        return Ok(());
    }
    let Some(stdout) = node.child.stdout.take() else { return Ok(()) };
    let mut lines = BufReader::new(stdout).lines();
    let said = tokio::time::timeout(START_WITHIN, lines.next_line()).await;
    let line = said.ok().and_then(std::result::Result::ok).flatten().unwrap_or_default();
    let advice = format!("see node-{n}.log in the directory of --data");
    node.ready = Some(serde_json::from_str(&line).map_err(|_| Fail::new(format!("node {n} did not begin to serve"), advice))?);
    // It says nothing more, but must be able to.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(())
}

fn tell(nodes: &[Node], out: &mut Out) -> Result {
    let ready = || nodes.iter().filter_map(|node| node.ready.as_ref());
    let cluster = ready().next().map_or_else(String::new, |ready| ready.cluster_id.clone());
    if out.json {
        let program = std::env::current_exe().map(|p| p.display().to_string()).unwrap_or_default();
        let node = |node: &Node| {
            let ready = node.ready.as_ref();
            let command: Vec<&str> = std::iter::once(&program).chain(&node.args).map(String::as_str).collect();
            json!({
                "node": ready.map(|r| r.node_id), "listen": ready.map(|r| r.listen), "pid": node.pid,
                "command": command,
            })
        };
        return out.value(&json!({ "cluster_id": cluster, "nodes": nodes.iter().map(node).collect::<Vec<_>>() }));
    }
    for node in nodes {
        if let Some(Ready { listen, node_id, .. }) = &node.ready {
            out.line(format!("node {node_id} serves on {listen}, process {}", node.pid))?;
        }
    }
    let servers: Vec<String> = ready().map(|ready| ready.listen.to_string()).collect();
    out.line(format!("cluster {cluster}; for all commands: export MILLPOND_SERVER={}", servers.join(",")))
}

/// Has all nodes stop, each asked at the same time.
async fn stop(nodes: &mut [Node]) {
    for node in &*nodes {
        if node.child.id().is_some() {
            // One that has ended meanwhile needs no asking.
            let _ = millpond_bench::sys::ask_to_stop(node.pid);
        }
    }
    for node in nodes {
        if tokio::time::timeout(STOP_WITHIN, node.child.wait()).await.is_err() {
            let _ = node.child.kill().await;
        }
    }
}
