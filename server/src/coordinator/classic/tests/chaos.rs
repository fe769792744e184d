//! A whole group whose members die, fall silent, leave, come back and lose answers, while its coordinator moves to other nodes.
//!
//! What is watched is what members believe. A member reads its part until it is told to join anew, or has had no answer for as long as its session lasts. No
//! partition has two readers, and whoever keeps a position of a partition is the one that reads it.

use super::*;
use crate::coordinator::tests::Dice;
use proptest::prelude::*;
use std::collections::BTreeSet;

const PARTITIONS: u32 = 12;
const SESSION_MS: u64 = 10_000;

#[derive(Default)]
enum Does {
    #[default]
    Nothing,
    Joins(Receiver<Result<Joined, Refused>>),
    Syncs(Receiver<Result<Synced, Refused>>),
    Reads,
}

#[derive(Default)]
struct Client {
    name: String,
    instance: Option<String>,
    member: String,
    generation: i32,
    does: Does,
    reads: BTreeSet<u32>,
    heard_ms: u64,
    /// When it last did anything.
    acted_ms: u64,
    /// Says and does nothing until then, but goes on reading.
    stuck_until_ms: u64,
}

impl Client {
    fn forget(&mut self) {
        self.member.clear();
        self.reads.clear();
        self.does = Does::Nothing;
    }

    fn speaker(&self) -> Speaker {
        Speaker { group: "g".into(), member: self.member.clone(), instance: self.instance.clone(), generation: self.generation }
    }

    fn joins(&self) -> Join {
        Join { member: self.member.clone(), instance: self.instance.clone(), named_first: true, ..super::join(&self.name) }
    }

    fn refused(&mut self, refused: &Refused) {
        match refused {
            Refused::NameGiven { member } => self.member.clone_from(member),
            Refused::UnknownMember { .. } | Refused::Fenced { .. } => self.forget(),
            _ => self.reads.clear(),
        }
        self.does = Does::Nothing;
    }
}

struct World {
    dice: Dice,
    seat: Seat,
    clients: Vec<Client>,
    born: u64,
    /// One in so many moments something goes wrong; 0 for never.
    bad: u64,
    generations: BTreeSet<i32>,
}

impl World {
    fn is_bad(&mut self) -> bool {
        self.bad > 0 && self.dice.roll(self.bad) == 0
    }

    fn born(&mut self) -> Client {
        self.born += 1;
        let instance = (self.dice.roll(3) == 0).then(|| format!("static-{}", self.born));
        Client { name: format!("c{}", self.born), instance, heard_ms: self.seat.now_ms, ..Client::default() }
    }

    /// Something that goes wrong.
    fn misfortune(&mut self) {
        let n = self.dice.roll(self.clients.len() as u64) as usize;
        match self.dice.roll(6) {
            // It dies; a member by name is there again at once.
            0 => {
                let instance = self.clients[n].instance.clone();
                let mut next = self.born();
                if instance.is_some() {
                    next.instance = instance;
                }
                self.clients[n] = next;
            }
            1 => self.clients[n].stuck_until_ms = self.seat.now_ms + self.dice.roll(3 * SESSION_MS),
            2 => {
                let client = &mut self.clients[n];
                let who = [Leaver { member: client.member.clone(), instance: client.instance.clone() }];
                client.forget();
                let _ = self.seat.coordinator.leave_classic(self.seat.now_ms, "g", &who);
            }
            // The coordinator moves; whoever waits for an answer gets none.
            3 => {
                self.seat.moves();
                for client in &mut self.clients {
                    if !matches!(client.does, Does::Reads) {
                        client.does = Does::Nothing;
                    }
                }
            }
            // An answer is lost.
            4 if !matches!(self.clients[n].does, Does::Reads) => self.clients[n].does = Does::Nothing,
            _ => {
                let more = self.born();
                if self.clients.len() < 6 {
                    self.clients.push(more);
                }
            }
        }
    }

    fn act(&mut self, n: usize) {
        let now_ms = self.seat.now_ms;
        let client = &mut self.clients[n];
        if client.stuck_until_ms > now_ms {
            return;
        }
        let acted_ms = std::mem::replace(&mut client.acted_ms, now_ms);
        let heard_ms = if matches!(client.does, Does::Reads) { client.heard_ms } else { acted_ms };
        if now_ms >= heard_ms + SESSION_MS {
            // It was silent for so long that others may read its part, whatever it is told now.
            client.does = Does::Nothing;
        }
        match std::mem::take(&mut client.does) {
            Does::Nothing => {
                // What it reads it has given up before it joins.
                client.reads.clear();
                let join = client.joins();
                match self.seat.join(&join) {
                    Ok(answer) => self.clients[n].does = Does::Joins(answer),
                    Err(refused) => self.clients[n].refused(&refused),
                }
            }
            Does::Joins(mut answer) => match answer.try_recv() {
                Err(tokio::sync::oneshot::error::TryRecvError::Empty) => client.does = Does::Joins(answer),
                Err(_) => {}
                Ok(Err(refused)) => client.refused(&refused),
                Ok(Ok(joined)) => self.joined(n, &joined),
            },
            Does::Syncs(mut answer) => match answer.try_recv() {
                Err(tokio::sync::oneshot::error::TryRecvError::Empty) => client.does = Does::Syncs(answer),
                Err(_) => {}
                Ok(Err(refused)) => client.refused(&refused),
                Ok(Ok(synced)) => {
                    client.reads = synced.assignment.iter().map(|p| u32::from(*p)).collect();
                    // The answer may have lain here for a while: its session began when that was given, which is after it looked last.
                    client.heard_ms = acted_ms;
                    client.does = Does::Reads;
                }
            },
            Does::Reads => {
                client.does = Does::Reads;
                let speaker = client.speaker();
                match self.seat.coordinator.beat_classic(now_ms, &speaker) {
                    Ok(()) => self.clients[n].heard_ms = now_ms,
                    Err(refused) => self.clients[n].refused(&refused),
                }
                self.commit(n, speaker);
            }
        }
    }

    fn joined(&mut self, n: usize, joined: &Joined) {
        let client = &mut self.clients[n];
        self.generations.insert(joined.generation);
        (client.member, client.generation) = (joined.member.clone(), joined.generation);
        let mut parts: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        if !joined.skip_assignment {
            for partition in (0..PARTITIONS).filter(|_| !joined.members.is_empty()) {
                let member = &joined.members[partition as usize % joined.members.len()].member;
                parts.entry(member.clone()).or_default().push(partition as u8);
            }
        }
        let assignments = parts.into_iter().map(|(member, part)| (member, part.into())).collect();
        let sync = Sync { speaker: client.speaker(), protocol_type: None, protocol: None, assignments };
        match self.seat.sync(&sync) {
            Ok(answer) => self.clients[n].does = Does::Syncs(answer),
            Err(refused) => self.clients[n].refused(&refused),
        }
    }

    /// A reader keeps a position, as it may have meant to do for long.
    fn commit(&mut self, n: usize, speaker: Speaker) {
        let Some(partition) = self.clients[n].reads.first().copied() else { return };
        let position = Position { topic: "t".into(), partition, offset: self.seat.now_ms, metadata: String::new(), leader_epoch: None };
        if self.seat.coordinator.commit_classic(&speaker, vec![position]).is_ok() {
            let now_ms = self.seat.now_ms;
            let others = self.clients.iter().enumerate().filter(|(other, c)| *other != n && now_ms < c.heard_ms + SESSION_MS);
            for (other, client) in others {
                assert!(!client.reads.contains(&partition), "{n} keeps a position of {partition}, which {other} reads");
            }
        }
    }

    fn step(&mut self) {
        self.seat.wait(100);
        if self.is_bad() {
            self.misfortune();
        }
        for n in 0..self.clients.len() {
            if self.dice.roll(3) > 0 {
                self.act(n);
            }
        }
        let mut readers: BTreeMap<u32, usize> = BTreeMap::new();
        let now_ms = self.seat.now_ms;
        // Who is stuck does not see that its session is over: it must not keep positions, but it reads.
        for (n, client) in self.clients.iter().enumerate().filter(|(_, c)| now_ms < c.heard_ms + SESSION_MS) {
            for partition in &client.reads {
                assert_eq!(readers.insert(*partition, n), None, "partition {partition} has two readers");
            }
        }
    }
}

fn world(seed: u64, bad: u64) -> World {
    let mut world = World { dice: Dice(seed | 1), seat: Seat::new(), clients: Vec::new(), born: 0, bad, generations: BTreeSet::new() };
    for _ in 0..3 {
        let client = world.born();
        world.clients.push(client);
    }
    world
}

/// Everybody is well in the end.
fn goes_on(seed: u64, bad: u64) -> Result<(), TestCaseError> {
    let mut world = world(seed, bad);
    for _ in 0..1_500 {
        world.step();
    }
    world.bad = 0;
    for client in &mut world.clients {
        client.stuck_until_ms = 0;
    }
    for _ in 0..1_500 {
        world.step();
    }
    let all: BTreeSet<u32> = world.clients.iter().flat_map(|c| &c.reads).copied().collect();
    prop_assert_eq!(all, (0..PARTITIONS).collect::<BTreeSet<u32>>(), "after {:?}", world.generations);
    prop_assert!(world.clients.iter().all(|c| matches!(c.does, Does::Reads)), "everybody is in the group");
    prop_assert!(world.generations.len() > 1, "something has happened");
    Ok(())
}

/// An answer of the coordinator lay there for 300 ms before the member looked, which then was stuck for its session.
#[test]
fn a_session_begins_when_its_answer_is_given() {
    goes_on(6_949_434_247_155_640_660, 24).expect("nothing is read by two");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_read_by_two_and_everything_by_somebody_in_the_end(seed in any::<u64>(), bad in 5_u64..60) {
        goes_on(seed, bad)?;
    }
}
