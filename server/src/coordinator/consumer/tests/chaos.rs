//! A whole group whose members die, fall silent, leave, come back and lose answers, while topics grow and its coordinator moves to other nodes.
//!
//! What is watched is what members read, not what the coordinator thinks. A member is like those of Kafka's client in Java: one heartbeat is under way at a time, what
//! it owns it says when it has come to a new assignment, whether or not it had to move for it (the local epoch there), it takes its time to get from one assignment
//! to the next, and after an answer that was lost it says everything.

use super::*;
use crate::coordinator::tests::Dice;
use proptest::prelude::*;

const TICK_MS: u64 = 100;
const REBALANCE_MS: u64 = 20_000;

#[derive(Default)]
struct Client {
    member: String,
    instance: Option<String>,
    range: bool,
    epoch: i32,
    reads: BTreeSet<Slot>,
    /// Where it is going.
    to: Option<BTreeSet<Slot>>,
    /// Assignments that it has come to, up to which of them it has told, and is about to tell in the heartbeat that is under way.
    came_to: u64,
    told: u64,
    tells: Option<u64>,
    /// It lost an answer, or joins.
    says_all: bool,
    /// An answer that it has not got yet, and when it will.
    answer: Option<(u64, Result<Beaten, Refused>)>,
    /// When its newest heartbeat came that was answered well.
    heard_ms: u64,
    /// Since when it is told to give something up, and has not told that it did.
    behind_ms: Option<u64>,
    next_ms: u64,
    stuck_until_ms: u64,
}

impl Client {
    fn beat(&self) -> Beat {
        let all = self.says_all || self.epoch == 0;
        Beat {
            instance: self.instance.clone(),
            epoch: self.epoch,
            rebalance_timeout_ms: all.then_some(REBALANCE_MS as u32),
            names: all.then(|| vec!["t".into(), "u".into()]),
            assignor: all.then(|| if self.range { "range" } else { "uniform" }.into()),
            owned: (all || self.came_to != self.told).then(|| self.reads.clone()),
            ..join(&self.member, &[])
        }
    }

    fn forget(&mut self) {
        (self.epoch, self.says_all, self.to, self.behind_ms) = (0, true, None, None);
        self.reads.clear();
    }

    /// Who lost an answer goes nowhere before it has another one.
    fn lost(&mut self) {
        (self.says_all, self.to, self.answer) = (true, None, None);
    }
}

struct World {
    dice: Dice,
    seat: Seat,
    clients: Vec<Client>,
    born: u64,
    /// One in so many moments something goes wrong; 0 for never.
    bad: u64,
    grown: u32,
    /// The newest epoch of the group, while it has members.
    epoch: i32,
    range: bool,
}

impl World {
    fn is_bad(&mut self) -> bool {
        self.bad > 0 && self.dice.one_in(self.bad)
    }

    fn born(&mut self) {
        self.born += 1;
        let instance = self.dice.one_in(3).then(|| format!("static-{}", self.born));
        let member = format!("m{}", self.born);
        self.clients.push(Client { member, instance, range: self.range, says_all: true, ..Client::default() });
    }

    /// Something that goes wrong.
    fn misfortune(&mut self) {
        let n = self.dice.roll(self.clients.len() as u64) as usize;
        match self.dice.roll(7) {
            // It dies.
            0 if self.clients.len() > 1 => drop(self.clients.remove(n)),
            1 => self.clients[n].stuck_until_ms = self.seat.now_ms + self.dice.roll(2 * SESSION_MS),
            // It leaves; one with a name may come back.
            2 if self.clients.len() > 1 => {
                let mut gone = self.clients.remove(n);
                let back = gone.instance.is_some() && self.dice.one_in(2);
                let epoch = if back { AWAY } else { LEAVE };
                let left = self.seat.beat(&Beat { epoch, owned: None, ..gone.beat() }).is_ok();
                if back && left {
                    self.born += 1;
                    gone.forget();
                    gone.answer = None;
                    gone.member = format!("m{}", self.born);
                    self.clients.push(gone);
                }
            }
            // The coordinator moves; answers under way are lost.
            3 => {
                self.seat.moves();
                self.clients.iter_mut().filter(|c| c.answer.is_some()).for_each(Client::lost);
            }
            4 if self.clients[n].answer.is_some() => self.clients[n].lost(),
            5 => {
                self.grown = (self.grown + 1) % 4;
                let grown = self.grown;
                self.seat.tell(&[("t", 7, 12 + grown), ("u", 8, 3)]);
            }
            _ if self.clients.len() < 7 => self.born(),
            _ => {}
        }
    }

    fn act(&mut self, n: usize) {
        let now_ms = self.seat.now_ms;
        let client = &mut self.clients[n];
        if client.stuck_until_ms > now_ms {
            return;
        }
        match client.answer.take() {
            Some((at_ms, answer)) if at_ms > now_ms => client.answer = Some((at_ms, answer)),
            Some((_, Ok(beaten))) => {
                assert!(beaten.epoch >= client.epoch, "{} goes back from {} to {}", client.member, client.epoch, beaten.epoch);
                (client.epoch, client.says_all) = (beaten.epoch, false);
                client.told = client.tells.take().unwrap_or(client.told);
                client.next_ms = now_ms + u64::from(beaten.heartbeat_ms);
                if let Some(assigned) = beaten.assigned.filter(|assigned| assigned != client.to.as_ref().unwrap_or(&client.reads)) {
                    client.to = Some(assigned);
                }
            }
            Some((_, Err(Refused::Unreleased { .. }))) => {}
            Some((_, Err(_))) => client.forget(),
            None => {}
        }
        if self.dice.one_in(3)
            && let Some(to) = self.clients[n].to.take()
        {
            let client = &mut self.clients[n];
            client.came_to += 1;
            client.next_ms = now_ms;
            client.reads = to;
        }
        let client = &self.clients[n];
        if client.answer.is_none() && client.next_ms <= now_ms {
            self.say(n);
        }
    }

    fn say(&mut self, n: usize) {
        let now_ms = self.seat.now_ms;
        let beat = self.clients[n].beat();
        let answer = self.seat.beat(&beat);
        let late = self.dice.roll(if self.bad > 0 { 400 } else { 30 });
        let client = &mut self.clients[n];
        if let Ok(beaten) = &answer {
            client.heard_ms = now_ms;
            let may_stay = beaten.assigned.as_ref().is_none_or(|assigned| client.reads.is_subset(assigned));
            client.behind_ms = match client.behind_ms {
                _ if may_stay && beat.owned.is_some() => None,
                before if may_stay => before,
                before => before.or(Some(now_ms)),
            };
        }
        client.tells = beat.owned.map(|_| client.came_to);
        client.next_ms = now_ms + 1_000;
        client.answer = Some((now_ms + late, answer));
    }

    fn watch(&mut self) {
        let now_ms = self.seat.now_ms;
        let mut readers: BTreeMap<Slot, &str> = BTreeMap::new();
        let group = self.seat.coordinator.described_consumer("g");
        let members: BTreeSet<&str> = group.iter().flat_map(|g| &g.members).map(|m| m.member.as_str()).collect();
        // Who is stuck does not see that it was removed; and nobody is long before its time.
        for client in &self.clients {
            if !members.contains(&*client.member) {
                let lingers = client.behind_ms.is_some_and(|since_ms| now_ms >= since_ms + REBALANCE_MS);
                let ill = now_ms >= client.heard_ms + REBALANCE_MS / 2 || client.reads.is_empty() || lingers;
                assert!(ill, "{} is removed too early", client.member);
                continue;
            }
            for slot in &client.reads {
                let other = readers.insert(*slot, &client.member);
                assert_eq!(other, None, "{slot:?} is read by {}, too, at {now_ms} ms", client.member);
            }
        }
        let epoch = group.as_ref().map_or(0, |group| group.epoch);
        assert!(epoch == 0 || epoch >= self.epoch, "the group goes back from {} to {epoch}", self.epoch);
        self.epoch = epoch;
    }

    fn step(&mut self) {
        // Looked at after each, so that a group that ends by one and begins again by the next is seen to have ended.
        self.seat.wait(TICK_MS);
        self.watch();
        if self.is_bad() {
            self.misfortune();
            self.watch();
        }
        for n in 0..self.clients.len() {
            if self.dice.roll(3) > 0 {
                self.act(n);
            }
            self.watch();
        }
    }

    /// Nothing goes wrong any more: everything is read by one, and evenly.
    fn settle(&mut self) {
        self.bad = 0;
        self.clients.iter_mut().for_each(|client| client.stuck_until_ms = 0);
        for _ in 0..(3 * SESSION_MS / TICK_MS) {
            self.step();
        }
        assert_eq!(self.seat.described().state, "stable");
        let read: usize = self.clients.iter().map(|c| c.reads.len()).sum();
        assert_eq!(read, (12 + self.grown + 3) as usize, "everything is read");
        let loads = self.clients.iter().map(|c| c.reads.len());
        if !self.range {
            assert!(loads.clone().max() <= loads.min().map(|least| least + 1), "evenly");
        }
    }
}

fn world(seed: u64, bad: u64, range: bool) -> World {
    let seat = Seat::new(&[("t", 7, 12), ("u", 8, 3)]);
    let mut world = World { dice: Dice(seed | 1), seat, clients: Vec::new(), born: 0, bad, grown: 0, epoch: 0, range };
    (0..3).for_each(|_| world.born());
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_read_by_two_and_everything_by_somebody_in_the_end(seed in any::<u64>(), bad in 5_u64..60, range in any::<bool>()) {
        walk(seed, bad, range);
    }
}

fn walk(seed: u64, bad: u64, range: bool) {
    let mut world = world(seed, bad, range);
    for _ in 0..1_500 {
        world.step();
    }
    world.settle();
}

/// All members are gone at once, and somebody joins in the same moment: another group begins, with epochs of its own.
#[test]
fn a_group_that_ended_begins_with_epochs_of_its_own() {
    walk(9_816_994_930_298_548_254, 10, false);
}

/// A member is told to give up what it was given a moment ago and has not come to yet: it has nothing to move, and says so.
#[test]
fn what_was_given_and_taken_back_at_once_is_given_up() {
    walk(3_181_277_902_979_574_218, 56, true);
}

/// A member is stuck, says that it lives, and has not moved yet.
#[test]
fn who_does_not_move_for_as_long_as_it_may_is_removed() {
    walk(16_176_874_295_180_605_426, 17, true);
    walk(8_563_808_629_506_164_012, 29, true);
}

/// One member more or less, again and again: whoever keeps a partition is never told to give it up, and no more of them move than must.
#[test]
fn what_does_not_move_is_never_given_up() {
    let mut world = world(7, 0, false);
    world.settle();
    for round in 0..20 {
        let before: BTreeMap<Slot, String> = world.clients.iter().flat_map(|c| c.reads.iter().map(|s| (*s, c.member.clone()))).collect();
        let lost = if round % 2 == 0 || world.clients.len() < 3 {
            world.born();
            0
        } else {
            let n = world.dice.roll(world.clients.len() as u64) as usize;
            world.clients.remove(n).reads.len()
        };
        let must = if lost > 0 { lost } else { 15 / world.clients.len() };
        let stays = |world: &World, told: &mut BTreeSet<Slot>| {
            for client in &world.clients {
                told.extend(
                    before.iter().filter(|(slot, owner)| **owner == client.member && !client.reads.contains(slot)).map(|(slot, _)| *slot),
                );
            }
        };
        let mut given_up = BTreeSet::new();
        for _ in 0..(3 * SESSION_MS / TICK_MS) {
            world.step();
            stays(&world, &mut given_up);
        }
        world.settle();
        let after: BTreeMap<Slot, String> = world.clients.iter().flat_map(|c| c.reads.iter().map(|s| (*s, c.member.clone()))).collect();
        let moved: BTreeSet<Slot> = before.iter().filter(|(slot, owner)| after[slot] != **owner).map(|(slot, _)| *slot).collect();
        assert_eq!(moved.len(), must, "round {round}");
        assert!(given_up.is_subset(&moved), "round {round}: {given_up:?} of which {moved:?} moved");
    }
}
