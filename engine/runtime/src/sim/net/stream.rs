//! Byte streams: sending, arriving, receiving, closing.

use super::{End, Io, Item, Net, RETRANSMIT_NS, Side};
use crate::{
    Nanos, NodeId,
    sim::{
        dice::Dice,
        world::{State, World},
    },
};
use bytes::{Bytes, BytesMut};
use std::{
    collections::{BTreeSet, VecDeque},
    io,
    task::Waker,
};

/// Pieces that one `send` is cut into, apart from one large rest.
const PIECES_MAX: usize = 32;

/// How long something takes between two nodes, in nanoseconds.
pub(in crate::sim) fn latency(from: NodeId, to: NodeId, dice: &mut Dice) -> Nanos {
    if from == to { dice.skewed(5_000..=100_000) } else { dice.skewed(30_000..=3_000_000) }
}

impl Net {
    /// Puts as much of `bytes` on the wire as there is room for, and takes it off `bytes`.
    pub(in crate::sim) fn send(&mut self, world: &World, conn: u64, side: Side, bytes: &mut Bytes, waker: &Waker) -> Io {
        let Some(ends) = self.conns.get_mut(&conn) else { return Io::Broken(io::ErrorKind::BrokenPipe) };
        let (node, peer) = (ends[side].node, ends[1 - side].node);
        let slowness = self.links.get(&(node, peer)).map_or(1, |link| link.slowness.max(1));
        let end = &mut ends[side];
        if let Some(kind) = end.broken {
            return Io::Broken(kind);
        }
        if end.shut {
            return Io::Broken(io::ErrorKind::BrokenPipe);
        }
        let room = end.window.saturating_sub(end.unread);
        if room == 0 && !bytes.is_empty() {
            end.sender = Some(waker.clone());
            return Io::Wait;
        }
        let taken = bytes.split_to(room.min(bytes.len()));
        let n = taken.len();
        end.unread += n;
        world.trace(b's', [conn, side as u64, u64::from(crc32fast::hash(&taken))]);
        let pieces = cut(taken, end.piece_max, &mut world.dice.borrow_mut());
        for piece in pieces {
            let delay = slowness * latency(node, peer, &mut world.dice.borrow_mut());
            put(world, conn, side, end, delay, Item::Data(piece));
        }
        self.perhaps_break(world, conn, node, peer);
        Io::Done(n)
    }

    fn perhaps_break(&mut self, world: &World, conn: u64, node: NodeId, peer: NodeId) {
        let mut dice = world.dice.borrow_mut();
        let (reset, clog) = (dice.plan.conn_reset, dice.plan.link_clog);
        let reset = dice.fault("conn_reset", reset);
        let clog = dice.fault("link_clog", clog).then(|| dice.skewed(1_000_000..=2_000_000_000));
        drop(dice);
        if reset {
            self.reset(world, conn);
        }
        if let Some(ns) = clog {
            self.clog(world, node, peer, ns);
        }
    }

    /// Appends at most the spare capacity of `into`; `Done(0)` is the end.
    pub(in crate::sim) fn recv(&mut self, world: &World, conn: u64, side: Side, into: &mut BytesMut, waker: &Waker) -> Io {
        let Some(ends) = self.conns.get_mut(&conn) else { return Io::Done(0) };
        let end = &mut ends[side];
        let mut n = 0;
        while let Some(front) = end.inbox.front_mut() {
            let spare = into.capacity() - into.len();
            // The system may always answer with less than there is.
            if spare == 0 || (n > 0 && world.dice.borrow_mut().below(4) == 0) {
                break;
            }
            let taken = front.split_to(spare.min(front.len()));
            n += taken.len();
            into.extend_from_slice(&taken);
            if front.is_empty() {
                end.inbox.pop_front();
            }
        }
        if n > 0 {
            world.trace(b'r', [conn, side as u64, n as u64]);
            ends[1 - side].was_read(n);
            return Io::Done(n);
        }
        if let Some(kind) = end.broken {
            return Io::Broken(kind);
        }
        if end.ended || end.shut {
            return Io::Done(0);
        }
        end.receiver = Some(waker.clone());
        Io::Wait
    }

    /// Ends our direction; our own receiving ends too, after what has arrived.
    pub(in crate::sim) fn shutdown(&mut self, world: &World, conn: u64, side: Side) {
        let Some(ends) = self.conns.get_mut(&conn) else { return };
        let (node, peer) = (ends[side].node, ends[1 - side].node);
        let end = &mut ends[side];
        if end.shut || !end.open {
            return;
        }
        end.shut = true;
        end.wake();
        if end.broken.is_none() {
            let delay = latency(node, peer, &mut world.dice.borrow_mut());
            put(world, conn, side, end, delay, Item::Fin);
        }
    }

    /// The process lets go of an end. Unread bytes turn the farewell into a reset, as TCP has it.
    pub(in crate::sim) fn close(&mut self, world: &World, conn: u64, side: Side) {
        let Some(ends) = self.conns.get_mut(&conn) else { return };
        let (node, peer) = (ends[side].node, ends[1 - side].node);
        let end = &mut ends[side];
        if !end.open {
            return;
        }
        end.open = false;
        (end.receiver, end.sender) = (None, None);
        let unread = !std::mem::take(&mut end.inbox).is_empty();
        let goodbye = if unread { Some(Item::Reset) } else { (!end.shut).then_some(Item::Fin) };
        if let Some(item) = goodbye.filter(|_| end.broken.is_none()) {
            let delay = latency(node, peer, &mut world.dice.borrow_mut());
            put(world, conn, side, end, delay, item);
        }
        self.forget_if_over(world, conn);
    }

    /// Breaks a connection at both ends; what had arrived may be lost too.
    pub(in crate::sim) fn reset(&mut self, world: &World, conn: u64) {
        let Some(ends) = self.conns.get_mut(&conn) else { return };
        for end in ends {
            end.reset(&mut world.dice.borrow_mut());
        }
        self.forget_if_over(world, conn);
    }

    /// The connections between two nodes, in either direction.
    pub(in crate::sim) fn between(&self, a: NodeId, b: NodeId) -> Vec<u64> {
        let fits = |ends: &[End; 2]| BTreeSet::from([ends[0].node, ends[1].node]) == BTreeSet::from([a, b]);
        self.conns.iter().filter(|(_, ends)| fits(ends)).map(|(conn, _)| *conn).collect()
    }

    /// Lets arrive what is due on one direction of a connection.
    fn pump(&mut self, world: &World, conn: u64, side: Side) {
        let Some(ends) = self.conns.get_mut(&conn) else { return };
        ends[side].pumping = false;
        let (from, to) = (ends[side].node, ends[1 - side].node);
        let off = world.nodes.borrow().get(&to).is_none_or(|node| node.state == State::Off);
        if off || self.is_blocked(world, from, to) {
            return self.wait_or_break(world, conn, side);
        }
        let Some(ends) = self.conns.get_mut(&conn) else { return };
        ends[side].blocked_since = None;
        while ends[side].wire.front().is_some_and(|(due, _)| *due <= world.now.get()) {
            if let Some((_, item)) = ends[side].wire.pop_front() {
                arrive(world, ends, side, item);
            }
        }
        schedule(world, conn, side, &mut ends[side]);
        self.forget_if_over(world, conn);
    }

    /// Nothing arrives now. Whoever heals the link or starts the node pumps again; after 15 minutes it is too late.
    fn wait_or_break(&mut self, world: &World, conn: u64, side: Side) {
        let Some(ends) = self.conns.get_mut(&conn) else { return };
        let end = &mut ends[side];
        if end.wire.is_empty() || end.blocked_since.is_some() {
            return;
        }
        let since = world.now.get();
        end.blocked_since = Some(since);
        world.call_after(RETRANSMIT_NS, move |world| {
            let mut net = world.net.borrow_mut();
            let Some(ends) = net.conns.get_mut(&conn) else { return };
            if ends[side].blocked_since == Some(since) {
                world.dice.borrow_mut().count("stream_timed_out");
                ends[side].break_with(io::ErrorKind::TimedOut);
                net.forget_if_over(world, conn);
            }
        });
    }

    fn forget_if_over(&mut self, world: &World, conn: u64) {
        let Some(ends) = self.conns.get(&conn) else { return };
        let nodes = world.nodes.borrow();
        let gone = |end: &End| !end.open || nodes.get(&end.node).is_none_or(|node| node.life != end.life);
        if ends.iter().all(|end| gone(end) && end.wire.is_empty()) {
            self.conns.remove(&conn);
        }
    }
}

impl End {
    /// The other end has read (or thrown away) `n` of the bytes sent here.
    fn was_read(&mut self, n: usize) {
        self.unread = self.unread.saturating_sub(n);
        if let Some(waker) = self.sender.take() {
            waker.wake();
        }
    }

    fn reset(&mut self, dice: &mut Dice) {
        if dice.coin() {
            self.inbox.clear();
        }
        self.break_with(io::ErrorKind::ConnectionReset);
    }
}

/// Something sent from `side` reaches the other end.
fn arrive(world: &World, ends: &mut [End; 2], side: Side, item: Item) {
    let to = &mut ends[1 - side];
    let known = to.open && world.nodes.borrow().get(&to.node).is_some_and(|node| node.life == to.life);
    match item {
        Item::Data(_) if !known => {
            world.dice.borrow_mut().count("reset_by_absent_peer");
            ends[side].break_with(io::ErrorKind::ConnectionReset);
        }
        Item::Fin | Item::Reset if !known => {}
        Item::Data(piece) if to.shut || to.broken.is_some() => ends[side].was_read(piece.len()),
        Item::Data(piece) => {
            to.inbox.push_back(piece);
            to.wake_receiver();
        }
        Item::Fin => {
            to.ended = true;
            to.wake_receiver();
        }
        Item::Reset => to.reset(&mut world.dice.borrow_mut()),
    }
}

impl End {
    fn wake_receiver(&mut self) {
        if let Some(waker) = self.receiver.take() {
            waker.wake();
        }
    }
}

fn put(world: &World, conn: u64, side: Side, end: &mut End, delay: Nanos, item: Item) {
    let due = world.now.get() + delay;
    let due = end.wire.back().map_or(due, |(last, _)| due.max(*last));
    end.wire.push_back((due, item));
    schedule(world, conn, side, end);
}

/// Has the first item of a wire arrive when it is due.
pub(super) fn schedule(world: &World, conn: u64, side: Side, end: &mut End) {
    let Some((due, _)) = end.wire.front() else { return };
    if !end.pumping {
        end.pumping = true;
        let delay = due.saturating_sub(world.now.get());
        world.call_after(delay, move |world| world.net.borrow_mut().pump(world, conn, side));
    }
}

/// Cuts what is sent into the pieces in which it will arrive; one of them may have a flipped bit.
fn cut(mut bytes: Bytes, piece_max: usize, dice: &mut Dice) -> VecDeque<Bytes> {
    let mut pieces = VecDeque::new();
    while !bytes.is_empty() {
        let n = if pieces.len() < PIECES_MAX { dice.within(1..=piece_max as u64) as usize } else { bytes.len() };
        let mut piece = bytes.split_to(n.min(bytes.len()));
        let p = dice.plan.stream_bit_flip;
        if dice.fault("stream_bit_flip", p) {
            let mut flipped = piece.to_vec();
            flipped[dice.index(piece.len())] ^= 1 << dice.below(8);
            piece = flipped.into();
        }
        pieces.push_back(piece);
    }
    pieces
}
