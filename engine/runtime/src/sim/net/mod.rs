//! The simulated network: addresses, links and byte streams, without futures (those are in `conn`).
//!
//! Node N has the address 10.x.y.z made of the bits of its id (node 1: 10.0.0.1) and reaches itself as 127.0.0.1
//! too. A connection has two ends. What an end sends lies on its `wire`, cut into pieces of seeded sizes that
//! arrive in order after seeded delays, then in the `inbox` of the other end until it is read. Wire and inbox together hold at
//! most `window` bytes: who never reads stalls who sends.
//!
//! A link is directed. While it is cut or clogged nothing arrives over it, and nothing is lost: TCP sends it again. A
//! stream that cannot deliver for 15 minutes breaks with `TimedOut`. A node without power answers nothing, so its
//! peers' connections stay half-open until they send to it after it is back, and get a reset.

mod stream;

pub(super) use stream::latency;

use super::{
    dice::Dice,
    world::{State, World},
};
use crate::{CoreId, Nanos, NodeId};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    task::Waker,
};

/// After this long without an arrival a stream breaks (Linux: `tcp_retries2`, about 924 s).
const RETRANSMIT_NS: Nanos = 900_000_000_000;

/// Connections that wait to be accepted; further ones are not answered.
const BACKLOG_MAX: usize = 128;

/// All streams, listeners and links.
#[derive(Debug, Default)]
pub(super) struct Net {
    conns: BTreeMap<u64, [End; 2]>,
    listeners: BTreeMap<u64, ListenState>,
    links: BTreeMap<(NodeId, NodeId), Link>,
    next_port: BTreeMap<NodeId, u16>,
}

/// Which end of a connection: 0 dialled, 1 accepted.
pub(super) type Side = usize;

#[derive(Debug)]
struct End {
    node: NodeId,
    life: u64,
    addr: SocketAddr,
    /// The process holds the socket.
    open: bool,
    /// `shutdown` was called here.
    shut: bool,
    inbox: VecDeque<Bytes>,
    /// The other end has sent all it will.
    ended: bool,
    broken: Option<io::ErrorKind>,
    wire: VecDeque<(Nanos, Item)>,
    /// A pump event is on its way.
    pumping: bool,
    blocked_since: Option<Nanos>,
    /// Bytes sent that the other end has not read.
    unread: usize,
    window: usize,
    /// Largest piece: some streams arrive byte by byte.
    piece_max: usize,
    receiver: Option<Waker>,
    sender: Option<Waker>,
}

#[derive(Debug)]
enum Item {
    Data(Bytes),
    Fin,
    Reset,
}

#[derive(Debug)]
struct ListenState {
    node: NodeId,
    life: u64,
    core: CoreId,
    addr: SocketAddr,
    backlog: VecDeque<u64>,
    acceptors: Vec<Waker>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    cut: bool,
    clogged_until: Nanos,
    /// Multiplies every latency; 0 counts as 1.
    slowness: u64,
}

/// What became of a request to connect, at the moment when it would arrive.
pub(super) enum Syn {
    /// Nobody answers.
    Lost,
    Refused,
    Connected(u64),
}

/// What `recv` and `send` find.
pub(super) enum Io {
    Done(usize),
    Wait,
    Broken(io::ErrorKind),
}

/// The address of a node.
pub(super) fn ip_of(node: NodeId) -> Ipv4Addr {
    assert!(node.0 < 1 << 24, "node {node} has no address in 10.0.0.0/8");
    Ipv4Addr::from(0x0a00_0000 | node.0 as u32)
}

impl End {
    fn new(node: NodeId, life: u64, addr: SocketAddr, dice: &mut Dice) -> Self {
        let piece_max = match dice.below(4) {
            0 => dice.within(1..=64),
            1 => 1460,
            _ => dice.within(4096..=65_536),
        };
        Self {
            node,
            life,
            addr,
            open: true,
            shut: false,
            inbox: VecDeque::new(),
            ended: false,
            broken: None,
            wire: VecDeque::new(),
            pumping: false,
            blocked_since: None,
            unread: 0,
            window: dice.skewed(4096..=262_144) as usize,
            piece_max: piece_max as usize,
            receiver: None,
            sender: None,
        }
    }

    fn wake(&mut self) {
        for waker in [self.receiver.take(), self.sender.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn break_with(&mut self, kind: io::ErrorKind) {
        self.broken.get_or_insert(kind);
        self.wire.clear();
        self.unread = 0;
        self.wake();
    }
}

impl Net {
    /// The node that an address means to somebody on `from`.
    pub(super) fn node_at(from: NodeId, ip: IpAddr) -> Option<NodeId> {
        match ip {
            IpAddr::V4(ip) if ip.is_loopback() => Some(from),
            IpAddr::V4(ip) if ip.octets()[0] == 10 => Some(NodeId(u64::from(u32::from(ip) & 0x00ff_ffff))),
            _ => None,
        }
    }

    fn port(&mut self, node: NodeId) -> u16 {
        let next = self.next_port.entry(node).or_insert(32_768);
        *next = if *next == 60_999 { 32_768 } else { *next + 1 };
        *next
    }

    // Listening.

    pub(super) fn listen(&mut self, id: u64, (node, core, life): (NodeId, CoreId, u64), mut at: SocketAddr) -> io::Result<SocketAddr> {
        let ours = at.ip().is_unspecified() || at.ip().is_loopback() || at.ip() == IpAddr::V4(ip_of(node));
        if !ours || at.is_ipv6() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        if at.port() == 0 {
            at.set_port(self.port(node));
        }
        let state = ListenState { node, life, core, addr: at, backlog: VecDeque::new(), acceptors: Vec::new() };
        self.listeners.insert(id, state);
        Ok(at)
    }

    pub(super) fn unlisten(&mut self, world: &World, id: u64) {
        if let Some(listener) = self.listeners.remove(&id) {
            for conn in listener.backlog {
                self.close(world, conn, 1);
            }
        }
    }

    /// The next connection of a listener, with both addresses: its own and the peer's.
    pub(super) fn accept(&mut self, id: u64, waker: &Waker) -> Option<(u64, SocketAddr, SocketAddr)> {
        let listener = self.listeners.get_mut(&id)?;
        let Some(conn) = listener.backlog.pop_front() else {
            listener.acceptors.push(waker.clone());
            return None;
        };
        let ends = self.conns.get(&conn).expect("a connection in a backlog exists: its accepted end is open");
        Some((conn, ends[1].addr, ends[0].addr))
    }

    /// A request to connect arrives.
    pub(super) fn syn(&mut self, world: &World, (node, life): (NodeId, u64), to: SocketAddr) -> Syn {
        let Some(target) = Self::node_at(node, to.ip()) else { return Syn::Lost };
        if self.is_blocked(world, node, target) || self.is_blocked(world, target, node) {
            return Syn::Lost;
        }
        let (target_life, up, powered) = match world.nodes.borrow().get(&target) {
            Some(node) => (node.life, node.runs(), node.state != State::Off),
            None => (0, false, false),
        };
        if !powered {
            return Syn::Lost;
        }
        let fits = |listener: &&mut ListenState| {
            let ours = (listener.node, listener.life, listener.addr.port()) == (target, target_life, to.port());
            ours && (listener.addr.ip().is_unspecified() || listener.addr.ip() == to.ip())
        };
        let mut listening: Vec<&mut ListenState> = self.listeners.values_mut().filter(fits).collect();
        // The kernel prefers whoever asked for just this address.
        if listening.iter().any(|listener| !listener.addr.ip().is_unspecified()) {
            listening.retain(|listener| !listener.addr.ip().is_unspecified());
        }
        if !up || listening.is_empty() {
            return Syn::Refused;
        }
        let mut dice = world.dice.borrow_mut();
        let chosen = dice.index(listening.len());
        let listener = &mut listening[chosen];
        if listener.backlog.len() >= BACKLOG_MAX {
            dice.count("backlog_full");
            return Syn::Lost;
        }
        let id = world.id();
        listener.backlog.push_back(id);
        listener.acceptors.drain(..).for_each(Waker::wake);
        let core = listener.core;
        let ip = if to.ip().is_loopback() { to.ip() } else { IpAddr::V4(ip_of(node)) };
        let from = SocketAddr::new(ip, self.port(node));
        let ends = [End::new(node, life, from, &mut dice), End::new(target, target_life, to, &mut dice)];
        drop(dice);
        self.conns.insert(id, ends);
        world.trace(b'n', [node.0, target.0, u64::from(core.0)]);
        Syn::Connected(id)
    }

    pub(super) fn local(&self, conn: u64, side: Side) -> Option<SocketAddr> {
        self.conns.get(&conn).map(|ends| ends[side].addr)
    }

    // Links.

    pub(super) fn is_blocked(&self, world: &World, from: NodeId, to: NodeId) -> bool {
        self.links.get(&(from, to)).is_some_and(|link| link.cut || link.clogged_until > world.now.get())
    }

    pub(super) fn cut(&mut self, from: NodeId, to: NodeId) {
        self.links.entry((from, to)).or_default().cut = true;
    }

    pub(super) fn slow_down(&mut self, from: NodeId, to: NodeId, times: u64) {
        self.links.entry((from, to)).or_default().slowness = times;
    }

    /// Nothing arrives over the link for `ns` nanoseconds.
    pub(super) fn clog(&mut self, world: &World, from: NodeId, to: NodeId, ns: Nanos) {
        let link = self.links.entry((from, to)).or_default();
        link.clogged_until = link.clogged_until.max(world.now.get().saturating_add(ns));
        world.call_after(ns, move |world| world.net.borrow_mut().resume(world, from, to));
    }

    /// Ends a cut, a clog and slowness: what waited goes on.
    pub(super) fn heal(&mut self, world: &World, from: NodeId, to: NodeId) {
        self.links.remove(&(from, to));
        self.resume(world, from, to);
    }

    pub(super) fn heal_all(&mut self, world: &World) {
        for (from, to) in self.links.keys().copied().collect::<Vec<_>>() {
            self.heal(world, from, to);
        }
    }

    fn resume(&mut self, world: &World, from: NodeId, to: NodeId) {
        for (conn, ends) in &mut self.conns {
            for side in [0, 1] {
                if ends[side].node == from && ends[1 - side].node == to {
                    stream::schedule(world, *conn, side, &mut ends[side]);
                }
            }
        }
    }

    // Nodes.

    /// The power of a node goes: what it had sent may be lost from some byte on, and it says goodbye to nobody.
    pub(super) fn node_lost_power(&mut self, node: NodeId, dice: &mut Dice) {
        self.listeners.retain(|_, listener| listener.node != node);
        for end in self.conns.values_mut().flatten().filter(|end| end.node == node) {
            let kept = dice.index(end.wire.len() + 1);
            end.wire.truncate(kept);
            end.receiver = None;
            end.sender = None;
        }
    }

    /// The process of a node goes: its machine closes the sockets.
    pub(super) fn node_exited(&mut self, world: &World, node: NodeId) {
        let listeners: Vec<u64> = self.listeners.iter().filter(|(_, listener)| listener.node == node).map(|(id, _)| *id).collect();
        for id in listeners {
            self.unlisten(world, id);
        }
        let life = world.nodes.borrow().get(&node).map_or(0, |node| node.life);
        let mut ours: Vec<(u64, Side)> = Vec::new();
        for (conn, ends) in &self.conns {
            let of_it = |side: &Side| (ends[*side].node, ends[*side].life) == (node, life);
            ours.extend([0, 1].into_iter().filter(of_it).map(|side| (*conn, side)));
        }
        for (conn, side) in ours {
            self.close(world, conn, side);
        }
    }

    /// A node is there again, and knows nothing of its old connections.
    pub(super) fn node_is_back(&mut self, world: &World, node: NodeId) {
        for (conn, ends) in &mut self.conns {
            for side in [0, 1] {
                if ends[1 - side].node == node {
                    stream::schedule(world, *conn, side, &mut ends[side]);
                }
            }
        }
    }
}
