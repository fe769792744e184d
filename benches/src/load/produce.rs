//! Producers, in closed loop (a window of requests that is always full) or open loop (at intended moments, whatever the system
//! does).

use super::{
    Measured, Window, Work, all,
    pace::{Due, Gaps, hand_out},
    unshare,
};
use crate::{
    args::{Arrivals, Distribution},
    batches::{Picker, Shape},
    measure::record,
    system::{Acks, Producer, ProducerSpec, Seat, System, Topic},
};
use anyhow::{Result, ensure};
use std::{cell::RefCell, rc::Rc, time::Instant};

/// Requests under way per connection in open loop: far more than a system that keeps up ever needs. Past it, moments wait in
/// the generator, and count from when they were to be sent.
const OPEN_IN_FLIGHT: usize = 256;

/// When to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As soon as there is room in a window of so many requests per connection.
    Closed {
        /// The window.
        in_flight: usize,
    },
    /// At intended moments.
    Open {
        /// Batches per second, all connections together.
        per_s: f64,
        /// How moments are spaced.
        arrivals: Arrivals,
    },
}

/// Producers.
#[derive(Clone, Debug)]
pub struct Produce<S> {
    /// To what.
    pub system: S,
    /// Where.
    pub topics: Vec<Topic>,
    /// What.
    pub shape: Shape,
    /// Connections in all.
    pub connections: usize,
    /// When.
    pub pace: Pace,
    /// What an ack means.
    pub acks: Acks,
    /// With producer ids.
    pub idempotent: bool,
    /// Closed loop: a connection that was stalled would have sent one per this interval; add those.
    pub correct_omission: Option<std::time::Duration>,
    /// See [`ProducerSpec::stamp_since`].
    pub stamp_since: Option<Instant>,
    /// Send so many bytes in all and end, rather than with the window. Closed loop only.
    pub bytes_all: Option<u64>,
}

impl<S: System> Work for Produce<S> {
    type Open = S::Producer;

    fn connections(&self) -> usize {
        self.connections
    }

    async fn open(&self, number: usize) -> Result<S::Producer> {
        let spec = ProducerSpec {
            seat: Seat { number, of: self.connections },
            topics: self.topics.clone(),
            shape: Rc::new(self.shape.clone()),
            acks: self.acks,
            idempotent: self.idempotent,
            stamp_since: self.stamp_since,
        };
        self.system.producer(spec).await
    }

    async fn run(&self, open: Vec<(usize, S::Producer)>, window: Window) -> Result<Measured> {
        let measured = Rc::new(RefCell::new(Measured::new(&window, self.ends_by_itself())));
        let mine = open.len();
        let task = |(number, producer): (usize, S::Producer)| Sender {
            lanes: Lanes::new(&self.shape, producer.lanes(), number as u64),
            batch: producer.batch(),
            producer,
            measured: Rc::clone(&measured),
            correct_omission: self.correct_omission,
            bytes_left: self.bytes_all.map_or(u64::MAX, |bytes| bytes / self.connections as u64),
            window,
        };
        let senders: Vec<_> = open.into_iter().map(task).collect();
        match self.pace {
            Pace::Closed { in_flight } => all(senders.into_iter().map(|s| s.closed(in_flight)).collect()).await?,
            Pace::Open { per_s, arrivals } => {
                let due: Vec<Rc<Due>> = senders.iter().map(|_| Rc::new(Due::default())).collect();
                let gaps = Gaps::new(per_s * mine as f64 / self.connections as f64, arrivals, self.shape.seed);
                let late = Rc::new(RefCell::new(crate::measure::latencies()));
                let pacer = hand_out(gaps, window, due.clone(), Rc::clone(&late));
                let sending = all(senders.into_iter().zip(due).map(|(s, due)| s.open(due)).collect());
                tokio::try_join!(pacer, sending)?;
                measured.borrow_mut().late = unshare(late)?;
            }
        }
        unshare(measured)
    }

    fn ends_by_itself(&self) -> bool {
        self.bytes_all.is_some()
    }
}

/// Whose turn it is among a connection's partitions: one after the other, or, with keys, as often as their keys come.
struct Lanes {
    picker: Picker,
    lanes: u64,
}

impl Lanes {
    fn new(shape: &Shape, lanes: usize, seed: u64) -> Self {
        let (bound, distribution) =
            if shape.keys == 0 { (lanes as u64, Distribution::Sequential) } else { (shape.keys, shape.distribution) };
        Self { picker: Picker::new(bound, distribution, shape.seed ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)), lanes: lanes as u64 }
    }

    fn next(&mut self) -> usize {
        (self.picker.pick() % self.lanes) as usize
    }
}

struct Sender<P> {
    producer: P,
    lanes: Lanes,
    batch: (u64, u64),
    measured: Rc<RefCell<Measured>>,
    correct_omission: Option<std::time::Duration>,
    bytes_left: u64,
    window: Window,
}

impl<P: Producer> Sender<P> {
    /// Keeps `in_flight` requests under way until the window ends or all bytes are sent.
    async fn closed(mut self, in_flight: usize) -> Result<()> {
        let mut slots = vec![self.window.begin; in_flight];
        let mut free: Vec<usize> = (0..in_flight).collect();
        let mut acks = Vec::with_capacity(in_flight);
        loop {
            let now = Instant::now();
            let goes_on = if self.bytes_left == u64::MAX { now < self.window.to } else { self.bytes_left > 0 };
            while let Some(slot) = free.pop_if(|_| goes_on && self.bytes_left > 0) {
                let lane = self.lanes.next();
                self.producer.put(slot, lane, now)?;
                slots[slot] = now;
                if self.bytes_left != u64::MAX {
                    self.bytes_left = self.bytes_left.saturating_sub(self.batch.1);
                }
            }
            if free.len() == in_flight {
                self.measured.borrow_mut().ended = Instant::now();
                return Ok(());
            }
            acks.clear();
            self.producer.turn(&mut acks).await?;
            self.count(&acks, &slots);
            free.extend(acks.iter().map(|ack| ack.slot));
        }
    }

    /// Sends when it is due.
    async fn open(mut self, due: Rc<Due>) -> Result<()> {
        let mut slots = vec![self.window.begin; OPEN_IN_FLIGHT];
        let mut free: Vec<usize> = (0..OPEN_IN_FLIGHT).collect();
        let mut acks = Vec::with_capacity(OPEN_IN_FLIGHT);
        loop {
            while !free.is_empty()
                && let Some(moment) = due.pop()
            {
                let slot = free.pop().expect("just seen not to be empty");
                let lane = self.lanes.next();
                self.producer.put(slot, lane, moment)?;
                slots[slot] = moment;
            }
            let idle = free.len() == OPEN_IN_FLIGHT;
            if idle && due.is_over() {
                self.measured.borrow_mut().ended = Instant::now();
                return Ok(());
            }
            acks.clear();
            tokio::select! {
                turned = self.producer.turn(&mut acks), if !idle => turned?,
                () = due.changed(), if !free.is_empty() && !due.is_over() => {}
            }
            self.count(&acks, &slots);
            free.extend(acks.iter().map(|ack| ack.slot));
        }
    }

    fn count(&self, acks: &[crate::system::Ack], slots: &[Instant]) {
        let now = Instant::now();
        let mut measured = self.measured.borrow_mut();
        for ack in acks {
            let intended = slots[ack.slot];
            let latency = now.saturating_duration_since(intended);
            if !ack.taken {
                measured.refused += 1;
                continue;
            }
            measured.requests.ended(now, latency, self.batch.0, self.batch.1);
            measured.requests.took(intended, latency);
            if let Some(interval) = self.correct_omission {
                let mut missed = latency.saturating_sub(interval);
                while missed >= interval && !interval.is_zero() {
                    measured.requests.took(intended, missed);
                    missed -= interval;
                }
            }
        }
    }
}

impl<S> Produce<S> {
    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// With the reason.
    pub fn check(&self) -> Result<()> {
        ensure!(self.connections >= 1 && !self.topics.is_empty(), "a run needs a connection and a topic");
        if let Pace::Closed { in_flight } = self.pace {
            ensure!((1..=100_000).contains(&in_flight), "a window goes from 1 to 100,000 requests");
        }
        ensure!(self.bytes_all.is_none() || matches!(self.pace, Pace::Closed { .. }), "only a closed loop sends a number of bytes");
        Ok(())
    }
}

/// Counts stamps that arrived.
pub(super) fn arrived(measured: &mut Measured, since: Instant, window: &Window, stamps: &[u64]) {
    let now = Instant::now();
    for ns in stamps {
        let intended = since + std::time::Duration::from_nanos(*ns);
        if intended >= window.from && intended < window.to {
            record(&mut measured.end_to_end, now.saturating_duration_since(intended));
        }
    }
}
