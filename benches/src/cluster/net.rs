//! A network for nodes that live on one machine: a namespace for each, and a bridge between them and us.
//!
//! ```text
//!   us ── mpXXXXb (bridge, 198.18.N.1) ─┬─ mpXXXXv0 ── eth0 (198.18.N.10) in namespace mpXXXXn0
//!                                       ├─ mpXXXXv1 ── eth0 (198.18.N.11) in namespace mpXXXXn1 ...
//! ```
//!
//! `XXXX` is our pid in hexadecimal, so that runs do not meet. Who has which hardware address is fixed from the beginning, so that
//! one direction of a path can be cut without a packet filter: what a namespace sends to a neighbour is then addressed to nobody.
//! Everything is done with `ip` and `tc`, needs to be root, and goes with [`Net`].

use anyhow::{Context, Result, bail};
use std::{net::Ipv4Addr, process::Command};

/// Addresses for tests of networks (RFC 2544): nobody is there.
const SUBNETS: std::ops::Range<u8> = 0..64;
/// The hardware address that nobody has.
const NOBODY: &str = "02:4d:50:ff:ff:ff";
/// What is left of a slow link: a megabyte in two seconds, and up to 300 ms in a queue.
const SLOW: &str = "root tbf rate 4mbit burst 16kb latency 300ms";

/// See the module.
#[derive(Debug)]
pub(crate) struct Net {
    /// What the names of all that belongs to it begin with.
    tag: String,
    subnet: u8,
    nodes: usize,
    /// Whether this kernel can make links slow.
    can_slow: bool,
}

impl Net {
    /// Makes a network for so many nodes.
    pub(crate) fn new(nodes: usize) -> Result<Self> {
        let taken = ip("-o -4 addr").context("looking at the network; is there `ip`, of iproute2?")?;
        let free = |subnet: &u8| !taken.contains(&format!(" 198.18.{subnet}."));
        let subnet = SUBNETS.into_iter().find(free).context("all networks that could be used are taken")?;
        let mut net = Self { tag: format!("mp{:x}", std::process::id()), subnet, nodes, can_slow: false };
        // If it fails in the middle, dropping it takes away what is there.
        net.make().context("making network namespaces; that needs root, and is not needed with --no-netns")?;
        net.can_slow = net.slow(0).is_ok();
        if net.can_slow {
            net.quicken(0)?;
        }
        Ok(net)
    }

    fn make(&self) -> Result<()> {
        let bridge = self.bridge();
        ip(&format!("link add {bridge} address {} type bridge", mac(None)))?;
        ip(&format!("addr add {}/24 dev {bridge}", self.gateway()))?;
        ip(&format!("link set {bridge} up"))?;
        for node in 0..self.nodes {
            let (space, link) = (self.namespace(node), self.link(node));
            ip(&format!("netns add {space}"))?;
            ip(&format!("link add {link} type veth peer name eth0 netns {space} address {}", mac(Some(node))))?;
            ip(&format!("link set {link} master {bridge} up"))?;
            ip(&format!("-n {space} addr add {}/24 dev eth0", self.address(node)))?;
            ip(&format!("-n {space} link set lo up"))?;
            ip(&format!("-n {space} link set eth0 up"))?;
            ip(&format!("neigh replace {} lladdr {} dev {bridge} nud permanent", self.address(node), mac(Some(node))))?;
            self.open(node, None)?;
            (0..self.nodes).filter(|to| *to != node).try_for_each(|to| self.open(node, Some(to)))?;
        }
        Ok(())
    }

    fn bridge(&self) -> String {
        format!("{}b", self.tag)
    }

    fn link(&self, node: usize) -> String {
        format!("{}v{node}", self.tag)
    }

    fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.subnet, 1)
    }

    /// The name of a node's namespace.
    pub(crate) fn namespace(&self, node: usize) -> String {
        format!("{}n{node}", self.tag)
    }

    /// The address of a node.
    pub(crate) fn address(&self, node: usize) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.subnet, 10 + node as u8)
    }

    /// Whether links can be made slow here.
    pub(crate) fn can_slow(&self) -> bool {
        self.can_slow
    }

    /// Nothing goes to a node or comes from it, and nobody is told.
    pub(crate) fn cut(&self, node: usize) -> Result<()> {
        ip(&format!("link set {} down", self.link(node))).map(drop)
    }

    /// It can be reached again.
    pub(crate) fn mend(&self, node: usize) -> Result<()> {
        ip(&format!("link set {} up", self.link(node))).map(drop)
    }

    /// What a node sends to another one, or to clients where none is named, gets lost.
    pub(crate) fn shut(&self, from: usize, to: Option<usize>) -> Result<()> {
        self.neighbour(from, to, NOBODY)
    }

    /// It arrives again.
    pub(crate) fn open(&self, from: usize, to: Option<usize>) -> Result<()> {
        self.neighbour(from, to, &mac(to))
    }

    fn neighbour(&self, from: usize, to: Option<usize>, mac: &str) -> Result<()> {
        let address = to.map_or_else(|| self.gateway(), |to| self.address(to));
        ip(&format!("-n {} neigh replace {address} lladdr {mac} dev eth0 nud permanent", self.namespace(from))).map(drop)
    }

    /// What a node sends and gets is slow.
    pub(crate) fn slow(&self, node: usize) -> Result<()> {
        run("tc", &format!("qdisc replace dev {} {SLOW}", self.link(node)))?;
        run("tc", &format!("-n {} qdisc replace dev eth0 {SLOW}", self.namespace(node))).map(drop)
    }

    /// It is as fast as it was.
    pub(crate) fn quicken(&self, node: usize) -> Result<()> {
        run("tc", &format!("qdisc del dev {} root", self.link(node)))?;
        run("tc", &format!("-n {} qdisc del dev eth0 root", self.namespace(node))).map(drop)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for node in 0..self.nodes {
            // Links go with the namespaces that their other ends live in. What was not made cannot be taken away.
            let _ = ip(&format!("link del {}", self.link(node)));
            let _ = ip(&format!("netns del {}", self.namespace(node)));
        }
        if let Err(error) = ip(&format!("link del {}", self.bridge())) {
            tracing::warn!(%error, "a network may be left behind");
        }
    }
}

/// The hardware address of a node, or of the bridge.
fn mac(node: Option<usize>) -> String {
    format!("02:4d:50:00:00:{:02x}", node.map_or(1, |node| 0x10 + node))
}

fn ip(words: &str) -> Result<String> {
    run("ip", words)
}

fn run(program: &str, words: &str) -> Result<String> {
    let out = Command::new(program).args(words.split(' ')).output().with_context(|| format!("running `{program} {words}`"))?;
    if !out.status.success() {
        bail!("`{program} {words}`: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
