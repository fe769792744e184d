//! The executor: one thread, virtual time, every choice from the seed.
//!
//! One step fires the timers that are due, takes any ready task (not the oldest: any) and polls it; each poll costs some
//! hundred nanoseconds of virtual time. When nothing is ready, time jumps to the next timer.
//!
//! Rule of borrowing: no `RefCell` of the world is borrowed while a future, a waker's owner or an event is polled,
//! called or dropped. Destructors come back here: they close files, cancel timers and may even spawn.
//!
//! A task belongs to one *life* of its node. Crash, exit and restart begin another one, and whatever still holds
//! a handle from a former life (a destructor, a late event) finds itself ignored.

use super::{Stopped, dice::Dice, disk::Disk, net::Net};
use crate::{CoreId, Nanos, NodeId};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// Polls without any progress of the predicate or of time beyond their own cost that count as a livelock.
const POLLS_IN_ONE_RUN_MAX: u64 = 50_000_000;

/// Payload of the panic by which `halt` leaves the poll.
pub(super) struct Halting;

/// What a simulation is made of. Everything is behind `&self`, since tasks hold it too.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) now: Cell<Nanos>,
    pub(super) dice: RefCell<Dice>,
    pub(super) nodes: RefCell<BTreeMap<NodeId, Node>>,
    pub(super) net: RefCell<Net>,
    trace: Cell<u64>,
    ready: Arc<Mutex<Vec<u64>>>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    timers: RefCell<BTreeMap<TimerKey, Event>>,
    next_id: Cell<u64>,
    failure: RefCell<Option<Stopped>>,
}

/// When; a tie is broken by chance, then by the number of the timer.
pub(super) type TimerKey = (Nanos, u32, u64);

pub(super) enum Event {
    Wake(Waker),
    Call(Box<dyn FnOnce(&World)>),
}

/// One machine.
pub(super) struct Node {
    /// Counts starts. Tasks, handles and connections of another life are dead.
    pub(super) life: u64,
    pub(super) state: State,
    /// Why the node halted, in its last life that did. Set within the poll, before the executor ends the life.
    pub(super) halted: Option<String>,
    /// Polls of this life.
    pub(super) polls: u64,
    pub(super) crash_at_poll: Option<u64>,
    pub(super) kill_at_poll: Option<u64>,
    pub(super) disk: Disk,
    pub(super) clock: Clock,
    paused: BTreeMap<CoreId, Nanos>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Up,
    /// No power: nobody answers.
    Off,
    /// The process is gone and the machine answers for it.
    Exited,
}

impl Node {
    /// Up, and not on its way out.
    pub(super) fn runs(&self) -> bool {
        self.state == State::Up && self.halted.is_none()
    }
}

/// The crooked clocks of a node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    pub(super) booted_at: Nanos,
    pub(super) mono_start: Nanos,
    /// Nanoseconds too many (or too few) per second.
    pub(super) drift_ppb: i64,
    pub(super) wall_offset_ms: i64,
}

struct Task {
    node: NodeId,
    core: CoreId,
    life: u64,
    name: &'static str,
    /// Absent while it is being polled.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    waker: Arc<TaskWaker>,
}

struct TaskWaker {
    id: u64,
    queued: AtomicBool,
    ready: Arc<Mutex<Vec<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
        }
    }
}

/// How one step went.
pub(super) enum Step {
    /// A task was polled.
    Ran,
    /// Nothing is ready before this time; `None`: ever.
    Idle(Option<Nanos>),
}

impl World {
    pub(super) fn new(seed: u64, dice: Dice, net: Net) -> Self {
        Self {
            seed,
            now: Cell::new(0),
            dice: RefCell::new(dice),
            nodes: RefCell::default(),
            net: RefCell::new(net),
            trace: Cell::new(seed),
            ready: Arc::default(),
            tasks: RefCell::default(),
            timers: RefCell::default(),
            next_id: Cell::new(1),
            failure: RefCell::default(),
        }
    }

    /// A number that nothing else in this world has.
    pub(super) fn id(&self) -> u64 {
        self.next_id.replace(self.next_id.get() + 1)
    }

    /// Takes an event into the rolling hash.
    pub(super) fn trace(&self, kind: u8, facts: [u64; 3]) {
        let mut hash = self.trace.get() ^ self.now.get();
        for word in [u64::from(kind), facts[0], facts[1], facts[2]] {
            hash = (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        self.trace.set(hash);
    }

    pub(super) fn trace_hash(&self) -> u64 {
        self.trace.get()
    }

    // Time.

    /// Has `event` happen `delay` from now.
    pub(super) fn after(&self, delay: Nanos, event: Event) -> TimerKey {
        let tie = self.dice.borrow_mut().bits() as u32;
        let key = (self.now.get().saturating_add(delay), tie, self.id());
        self.timers.borrow_mut().insert(key, event);
        key
    }

    pub(super) fn call_after(&self, delay: Nanos, call: impl FnOnce(&World) + 'static) {
        self.after(delay, Event::Call(Box::new(call)));
    }

    pub(super) fn cancel(&self, key: TimerKey) {
        let event = self.timers.borrow_mut().remove(&key);
        drop(event);
    }

    fn fire_due(&self) {
        loop {
            let due = {
                let mut timers = self.timers.borrow_mut();
                match timers.first_entry() {
                    Some(first) if first.key().0 <= self.now.get() => first.remove(),
                    _ => return,
                }
            };
            match due {
                Event::Wake(waker) => waker.wake(),
                Event::Call(call) => call(self),
            }
        }
    }

    fn next_timer(&self) -> Option<Nanos> {
        self.timers.borrow().first_key_value().map(|(key, _)| key.0)
    }

    // Tasks.

    /// Whether that life of that node still runs.
    pub(super) fn alive(&self, node: NodeId, life: u64) -> bool {
        self.nodes.borrow().get(&node).is_some_and(|node| node.life == life && node.runs())
    }

    /// Starts a task; of a life that is over, it is dropped.
    pub(super) fn spawn(&self, (node, core, life): (NodeId, CoreId, u64), name: &'static str, future: Pin<Box<dyn Future<Output = ()>>>) {
        if !self.alive(node, life) {
            return;
        }
        let id = self.id();
        let waker = Arc::new(TaskWaker { id, queued: AtomicBool::new(false), ready: self.ready.clone() });
        self.tasks.borrow_mut().insert(id, Task { node, core, life, name, future: Some(future), waker: waker.clone() });
        waker.wake();
    }

    /// Every task, as node/core/name.
    pub(super) fn task_names(&self) -> Vec<String> {
        let name = |task: &Task| format!("n{}/c{}/{}", task.node, task.core, task.name);
        self.tasks.borrow().values().map(name).collect()
    }

    /// Runs until `stop` answers true (asked before each step) or time is `end`.
    pub(super) fn run(&self, end: Nanos, mut stop: impl FnMut() -> bool) -> Result<RunEnd, Stopped> {
        for _ in 0..POLLS_IN_ONE_RUN_MAX {
            if let Some(failure) = self.failure.borrow().clone() {
                return Err(failure);
            }
            if stop() {
                return Ok(RunEnd::Stopped);
            }
            if self.now.get() >= end {
                return Ok(RunEnd::Time);
            }
            match self.step() {
                Step::Ran => {}
                Step::Idle(Some(next)) if next <= end => self.now.set(next),
                Step::Idle(Some(_)) => self.now.set(end),
                Step::Idle(None) if stop() => return Ok(RunEnd::Stopped),
                Step::Idle(None) => return Ok(RunEnd::Idle),
            }
        }
        Err(Stopped::Livelock { seed: self.seed, tasks: self.task_names() })
    }

    fn step(&self) -> Step {
        self.fire_due();
        while let Some(id) = self.pick() {
            if self.poll(id) {
                return Step::Ran;
            }
        }
        Step::Idle(self.next_timer())
    }

    fn pick(&self) -> Option<u64> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.is_empty() {
            return None;
        }
        let any = self.dice.borrow_mut().index(ready.len());
        Some(ready.swap_remove(any))
    }

    /// Polls a task, or crashes or kills its node in its stead. False if nothing happened: it is gone, or its core stands still.
    fn poll(&self, id: u64) -> bool {
        let Some((node, core, life, name, waker)) =
            self.tasks.borrow().get(&id).map(|task| (task.node, task.core, task.life, task.name, task.waker.clone()))
        else {
            return false;
        };
        if self.crash_is_due(node) {
            self.dice.borrow_mut().count("crash_at_poll");
            self.power_off(node);
            return true;
        }
        if self.kill_is_due(node) {
            self.exit(node, "kill_at_poll");
            return true;
        }
        waker.queued.store(false, Ordering::Relaxed);
        if let Some(until) = self.pause(node, core) {
            self.after(until.saturating_sub(self.now.get()), Event::Wake(Waker::from(waker)));
            return false;
        }
        let Some(mut future) = self.tasks.borrow_mut().get_mut(&id).and_then(|task| task.future.take()) else {
            return false;
        };
        self.trace(b'p', [id, node.0, 0]);
        let cost = self.dice.borrow_mut().within(100..=1000);
        self.now.set(self.now.get() + cost);
        if let Some(node) = self.nodes.borrow_mut().get_mut(&node) {
            node.polls += 1;
        }
        let waker = Waker::from(waker);
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_pending() && self.alive(node, life) {
                return Some(future);
            }
            drop(future);
            None
        }));
        match polled {
            Ok(Some(future)) => {
                if let Some(task) = self.tasks.borrow_mut().get_mut(&id) {
                    task.future = Some(future);
                }
            }
            Ok(None) => self.forget(id),
            Err(payload) => {
                self.forget(id);
                self.blame(node, core, name, payload.as_ref());
            }
        }
        self.exit_if_halted(node);
        true
    }

    fn forget(&self, id: u64) {
        let task = self.tasks.borrow_mut().remove(&id);
        drop(task);
    }

    fn crash_is_due(&self, node: NodeId) -> bool {
        self.nodes.borrow().get(&node).is_some_and(|node| node.crash_at_poll.is_some_and(|at| node.polls >= at))
    }

    fn kill_is_due(&self, node: NodeId) -> bool {
        self.nodes.borrow().get(&node).is_some_and(|node| node.kill_at_poll.is_some_and(|at| node.polls >= at))
    }

    /// Until when the core stands still, if it does.
    fn pause(&self, node: NodeId, core: CoreId) -> Option<Nanos> {
        let mut nodes = self.nodes.borrow_mut();
        let paused = &mut nodes.get_mut(&node)?.paused;
        let mut dice = self.dice.borrow_mut();
        let p = dice.plan.core_pause;
        if dice.fault("core_pause", p) {
            let until = self.now.get() + dice.skewed(100_000..=100_000_000);
            paused.insert(core, until);
        }
        paused.get(&core).copied().filter(|until| *until > self.now.get())
    }

    pub(super) fn pause_core(&self, node: NodeId, core: CoreId, until: Nanos) {
        if let Some(node) = self.nodes.borrow_mut().get_mut(&node) {
            node.paused.insert(core, until);
            self.dice.borrow_mut().count("core_pause");
        }
    }

    /// Records a panic as the failure of the run, unless it was `halt` leaving its poll.
    fn blame(&self, node: NodeId, core: CoreId, task: &str, payload: &(dyn std::any::Any + Send)) {
        if payload.is::<Halting>() {
            return;
        }
        let message = panic_message(payload);
        let task = format!("n{node}/c{core}/{task}");
        let failure = Stopped::Panicked { seed: self.seed, task, message: message.clone() };
        self.failure.borrow_mut().get_or_insert(failure);
        self.halt(node, &message);
    }

    // Nodes.

    pub(super) fn boot(&self, id: NodeId) {
        let mut nodes = self.nodes.borrow_mut();
        let mut dice = self.dice.borrow_mut();
        let node = nodes.entry(id).or_insert_with(|| Node {
            life: 0,
            state: State::Off,
            halted: None,
            polls: 0,
            crash_at_poll: None,
            kill_at_poll: None,
            disk: Disk::new(),
            clock: Clock::default(),
            paused: BTreeMap::new(),
        });
        assert!(node.state != State::Up, "node {id} runs already");
        node.life += 1;
        node.state = State::Up;
        node.halted = None;
        node.polls = 0;
        node.crash_at_poll = None;
        node.kill_at_poll = None;
        node.paused.clear();
        node.clock.booted_at = self.now.get();
        node.clock.mono_start = dice.below(1 << 40);
        let ppb = (dice.plan.mono_drift * 1e9) as u64;
        node.clock.drift_ppb = if ppb > 0 { dice.within(0..=2 * ppb) as i64 - ppb as i64 } else { 0 };
        if ppb > 0 {
            dice.count("mono_drift");
        }
        drop((nodes, dice));
        self.trace(b'b', [id.0, 0, 0]);
        self.net.borrow_mut().node_is_back(self, id);
    }

    /// The power goes.
    pub(super) fn power_off(&self, id: NodeId) {
        self.end_life(id, State::Off);
        self.net.borrow_mut().node_lost_power(id, &mut self.dice.borrow_mut());
        if let Some(node) = self.nodes.borrow_mut().get_mut(&id) {
            node.disk.crash(&mut self.dice.borrow_mut());
        }
        self.dice.borrow_mut().count("crash");
    }

    /// The process goes; the machine closes its sockets.
    pub(super) fn exit(&self, id: NodeId, counted_as: &'static str) {
        self.dice.borrow_mut().count(counted_as);
        self.end_life(id, State::Exited);
        self.net.borrow_mut().node_exited(self, id);
        if let Some(node) = self.nodes.borrow_mut().get_mut(&id) {
            node.disk.exit(&mut self.dice.borrow_mut());
        }
    }

    fn end_life(&self, id: NodeId, state: State) {
        if let Some(node) = self.nodes.borrow_mut().get_mut(&id) {
            node.state = state;
            node.crash_at_poll = None;
            node.kill_at_poll = None;
        }
        self.trace(b'c', [id.0, 0, 0]);
        let mut dead = Vec::new();
        self.tasks.borrow_mut().retain(|_, task| {
            if task.node == id {
                dead.push((task.core, task.name, task.future.take()));
            }
            task.node != id
        });
        for (core, name, future) in dead {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
                self.blame(id, core, name, payload.as_ref());
            }
        }
    }

    /// Notes that a node wants to stop; its handles are dead from here on. The executor ends the life after the poll.
    pub(super) fn halt(&self, id: NodeId, why: &str) {
        if let Some(node) = self.nodes.borrow_mut().get_mut(&id)
            && node.runs()
        {
            node.halted = Some(why.to_owned());
        }
    }

    fn exit_if_halted(&self, id: NodeId) {
        let halted = |node: &Node| node.state == State::Up && node.halted.is_some();
        if self.nodes.borrow().get(&id).is_some_and(halted) {
            self.exit(id, "halt");
        }
    }

    /// Drops all there is, outside of any borrow.
    pub(super) fn clear(&self) {
        for node in self.nodes.borrow_mut().values_mut() {
            node.state = State::Off;
        }
        let tasks = mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
        let timers = mem::take(&mut *self.timers.borrow_mut());
        drop(timers);
    }
}

/// Why a run ended without a failure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RunEnd {
    Stopped,
    Time,
    Idle,
}

/// The text of a panic.
pub(super) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "(not a text)".to_owned())
}

/// A place where a result will be left for a future that waits.
pub(super) struct Slot<T> {
    result: Option<T>,
    waker: Option<Waker>,
}

/// Waits for a result that an event leaves.
pub(super) struct Later<T>(pub(super) std::rc::Rc<RefCell<Slot<T>>>);

impl<T> Later<T> {
    pub(super) fn new() -> Self {
        Self(std::rc::Rc::new(RefCell::new(Slot { result: None, waker: None })))
    }
}

impl<T> Slot<T> {
    /// Leaves the result. If nobody waits any more it is dropped, outside of the borrow.
    pub(super) fn fill(slot: &RefCell<Self>, result: T) {
        let (old, waker) = {
            let mut slot = slot.borrow_mut();
            (slot.result.replace(result), slot.waker.take())
        };
        drop(old);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Later<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut slot = self.0.borrow_mut();
        match slot.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
