//! A whole group under a bad network: members that join, leave, die, come back, and whose heartbeats and answers are
//! lost, repeated and late.
//!
//! What is watched is not the coordinator's opinion but what the members really read. A member keeps to the protocol: it
//! obeys answers to its newest heartbeat, ignores others, and stops reading when it has had no answer for as long as its
//! session lasts.

use super::*;
use proptest::prelude::*;

const SESSION_MS: u64 = 10_000;
const TICK_MS: u64 = 100;

struct Client {
    id: String,
    alive: bool,
    epoch: i64,
    topics: Vec<String>,
    reading: BTreeSet<(String, u32)>,
    /// To be given up, and not yet: it is still finishing what it read.
    finishing: BTreeSet<(String, u32)>,
    heard_ms: u64,
    next_ms: u64,
    /// Number of the heartbeat whose answer it waits for.
    waits_for: Option<u64>,
}

impl Client {
    fn forget(&mut self) {
        self.epoch = 0;
        self.reading.clear();
        self.finishing.clear();
        self.waits_for = None;
    }
}

struct Envelope {
    at_ms: u64,
    client: usize,
    number: u64,
    what: Result<GroupHeartbeat, Result<GroupHeartbeatReply, Code>>,
}

struct World {
    dice: Dice,
    now: u64,
    coordinator: Coordinator,
    clients: Vec<Client>,
    mail: Vec<Envelope>,
    sent: u64,
    /// Share of messages that are lost, repeated or late: one in this many; 0 for none.
    bad: u64,
    /// Partitions that members stopped reading since this was last cleared.
    given_up: BTreeSet<(String, u32)>,
}

impl World {
    fn new(seed: u64, list: &[(&str, u32)]) -> Self {
        let mut coordinator = Coordinator::new();
        coordinator.set_topics(topics(list));
        Self {
            dice: Dice(seed | 1),
            now: 0,
            coordinator,
            clients: Vec::new(),
            mail: Vec::new(),
            sent: 0,
            bad: 0,
            given_up: BTreeSet::new(),
        }
    }

    fn join(&mut self, topics: &[&str]) {
        let id = format!("m{}", self.clients.len());
        self.clients.push(Client {
            id,
            alive: true,
            epoch: 0,
            topics: topics.iter().map(|t| (*t).to_owned()).collect(),
            reading: BTreeSet::new(),
            finishing: BTreeSet::new(),
            heard_ms: self.now,
            next_ms: self.now,
            waits_for: None,
        });
    }

    fn post(&mut self, client: usize, number: u64, what: Result<GroupHeartbeat, Result<GroupHeartbeatReply, Code>>) {
        let bad = self.bad > 0;
        let copies = if bad && self.dice.one_in(self.bad) { self.dice.roll(3) } else { 1 };
        for _ in 0..copies {
            let late = if bad && self.dice.one_in(self.bad) { self.dice.roll(2 * SESSION_MS) } else { self.dice.roll(30) };
            self.mail.push(Envelope { at_ms: self.now + late, client, number, what: what.clone() });
        }
    }

    fn send(&mut self, i: usize, epoch: i64) {
        self.sent += 1;
        let number = self.sent;
        let c = &mut self.clients[i];
        c.waits_for = Some(number);
        let owned: BTreeSet<_> = c.reading.union(&c.finishing).cloned().collect();
        let beat = GroupHeartbeat {
            group: "g".into(),
            member_id: c.id.clone(),
            member_epoch: epoch,
            topics: c.topics.clone(),
            owned: unflat(&owned),
            session_timeout_ms: SESSION_MS as u32,
            client_id: String::new(),
        };
        self.post(i, number, Ok(beat));
    }

    fn leave(&mut self, i: usize) {
        self.clients[i].reading.clear();
        self.clients[i].finishing.clear();
        self.send(i, LEAVE);
        self.clients[i].alive = false;
    }

    fn tick(&mut self) {
        self.now += TICK_MS;
        for i in 0..self.clients.len() {
            self.live(i);
        }
        let mut due: Vec<Envelope> = Vec::new();
        for e in std::mem::take(&mut self.mail) {
            if e.at_ms <= self.now { due.push(e) } else { self.mail.push(e) }
        }
        due.sort_by_key(|e| (e.at_ms, e.number));
        for e in due {
            match e.what {
                Ok(beat) => {
                    let reply = self.coordinator.heartbeat(self.now, "host", &beat).map_err(|r| r.code());
                    self.post(e.client, e.number, Err(reply));
                }
                Err(reply) => self.hear(e.client, e.number, reply),
            }
            self.watch();
        }
        self.coordinator.expire(self.now);
        self.coordinator.check();
        self.watch();
    }

    /// What a member does on its own: finish, give up hope, send heartbeats.
    fn live(&mut self, i: usize) {
        let now = self.now;
        let c = &mut self.clients[i];
        if !c.alive {
            return;
        }
        // Its session began before the coordinator's did, so it stops first.
        if c.epoch != 0 && now >= c.heard_ms + SESSION_MS - TICK_MS {
            c.forget();
        }
        let mut at_once = false;
        if !c.finishing.is_empty() && (self.bad == 0 || self.dice.one_in(3)) {
            self.given_up.append(&mut c.finishing);
            at_once = true;
        }
        let retry = c.waits_for.is_some() && now >= c.next_ms + 1_000;
        if (c.waits_for.is_none() && (at_once || now >= c.next_ms)) || retry {
            c.next_ms = now;
            let epoch = c.epoch;
            self.send(i, epoch);
        }
    }

    fn hear(&mut self, i: usize, number: u64, reply: Result<GroupHeartbeatReply, Code>) {
        let c = &mut self.clients[i];
        if !c.alive || c.waits_for != Some(number) {
            return;
        }
        c.waits_for = None;
        match reply {
            Ok(reply) => {
                c.heard_ms = self.now;
                c.next_ms = self.now + u64::from(reply.heartbeat_ms);
                c.epoch = reply.member_epoch;
                let assigned = flat(&reply.assigned);
                let gone: Vec<_> = c.reading.difference(&assigned).cloned().collect();
                c.finishing.extend(gone);
                c.finishing.retain(|p| !assigned.contains(p));
                if !c.finishing.is_empty() {
                    c.next_ms = self.now;
                }
                c.reading = assigned;
            }
            Err(Code::UnknownMember | Code::FencedMember) => {
                c.forget();
                c.next_ms = self.now;
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    /// The one thing that must never happen.
    fn watch(&self) {
        let mut readers = BTreeMap::new();
        for c in &self.clients {
            for part in c.reading.iter().chain(&c.finishing) {
                if let Some(other) = readers.insert(part, &c.id) {
                    panic!("{part:?} is read by {other} and {} at {} ms", c.id, self.now);
                }
            }
        }
    }

    /// Runs on a good network until nothing changes any more.
    fn settle(&mut self) {
        self.bad = 0;
        for _ in 0..(4 * SESSION_MS / TICK_MS) {
            self.tick();
        }
        let alive: Vec<&Client> = self.clients.iter().filter(|c| c.alive).collect();
        let state = self.coordinator.list().groups.first().map_or("none".into(), |g| g.state.clone());
        assert_eq!(state, if alive.is_empty() { "none" } else { "stable" });
    }

    fn owners(&self) -> BTreeMap<(String, u32), String> {
        self.clients.iter().flat_map(|c| c.reading.iter().map(|p| (p.clone(), c.id.clone()))).collect()
    }

    fn loads(&self) -> Vec<usize> {
        self.clients.iter().filter(|c| c.alive).map(|c| c.reading.len()).collect()
    }
}

const TOPICS: &[(&str, u32)] = &[("a", 120), ("b", 50), ("c", 29), ("d", 1)];
const ALL: &[&str] = &["a", "b", "c", "d"];

fn pick(world: &mut World) -> Option<usize> {
    let alive: Vec<usize> = (0..world.clients.len()).filter(|i| world.clients[*i].alive).collect();
    if alive.is_empty() {
        return None;
    }
    Some(alive[world.dice.roll(alive.len() as u64) as usize])
}

/// Hundreds of changes under a bad network, then peace: everything is read by exactly one, evenly.
fn chaos(seed: u64, mixed: bool) {
    let mut world = World::new(seed, TOPICS);
    for _ in 0..30 {
        world.join(ALL);
    }
    world.bad = 4;
    for _ in 0..300 {
        match world.dice.roll(10) {
            0..=2 if world.loads().len() < 50 => {
                let wants = if mixed { &ALL[world.dice.roll(4) as usize..] } else { ALL };
                world.join(wants);
            }
            3 if world.loads().len() > 1 => {
                if let Some(i) = pick(&mut world) {
                    world.leave(i);
                }
            }
            4 if world.loads().len() > 1 => {
                if let Some(i) = pick(&mut world) {
                    // SIGKILL: it reads no more, and nobody is told.
                    world.clients[i].alive = false;
                    world.clients[i].forget();
                }
            }
            5 => {
                let grown = 50 + world.dice.roll(2) as u32;
                let list = [("a", 120), ("b", grown), ("c", 29), ("d", 1)];
                world.coordinator.set_topics(topics(&list[..3 + world.dice.roll(2) as usize]));
            }
            _ => {}
        }
        for _ in 0..world.dice.roll(20) {
            world.tick();
        }
    }
    world.coordinator.set_topics(topics(TOPICS));
    world.settle();
    let loads = world.loads();
    if !mixed {
        assert_eq!(world.owners().len(), 200, "every partition is read");
        let (min, max) = (loads.iter().min(), loads.iter().max());
        assert!(max.zip(min).is_some_and(|(max, min)| max - min <= 1), "{loads:?}");
    }
}

#[test]
fn fifty_members_under_a_bad_network() {
    for seed in 1..=3u64 {
        chaos(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), seed % 3 == 0);
    }
}

#[test]
fn one_change_at_a_time_moves_no_more_than_must() {
    let mut world = World::new(7, TOPICS);
    for _ in 0..20 {
        world.join(ALL);
    }
    world.settle();
    for round in 0..30 {
        let before = world.owners();
        world.given_up.clear();
        let had = world.loads();
        let victim = pick(&mut world).filter(|_| world.loads().len() > 2);
        let lost = match (round % 3, victim) {
            (1, Some(i)) => {
                let lost = world.clients[i].reading.len();
                world.leave(i);
                lost
            }
            (2, Some(i)) => {
                let lost = world.clients[i].reading.len();
                world.clients[i].alive = false;
                world.clients[i].forget();
                lost
            }
            _ => {
                world.join(ALL);
                0
            }
        };
        world.settle();
        let after = world.owners();
        assert_eq!(after.len(), 200);
        let moved = before.iter().filter(|(p, owner)| after[*p] != **owner).count();
        let must = if lost > 0 { lost } else { 200 / (had.len() + 1) };
        assert_eq!(moved, must, "round {round}");
        for part in &world.given_up {
            assert_ne!(before[part], after[part], "{part:?} stayed where it was, and was given up meanwhile");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn any_seed(seed in 1..u64::MAX, mixed in any::<bool>()) {
        chaos(seed, mixed);
    }
}
