use super::*;
use crate::coordinator::{
    TopicView,
    tests::{Dice, keep, put, read_back},
};
use std::sync::Arc;

/// A coordinator, and the log that it is written to.
struct Seat {
    coordinator: Coordinator,
    log: Vec<Record>,
    now: Times,
    /// The last id that was never used.
    fresh: u64,
}

const SECOND: u64 = 1_000;

impl Seat {
    fn new() -> Self {
        let mut seat =
            Self { coordinator: Coordinator::new(), log: Vec::new(), now: Times { mono_ms: 0, wall_ms: 1_700_000_000_000 }, fresh: 40 };
        seat.tell();
        seat
    }

    fn tell(&mut self) {
        let topics = [("t", 7, 4), ("u", 8, 2)];
        let topics = topics.iter().map(|(name, topic_id, n)| (Arc::from(*name), TopicView { topic_id: *topic_id, partitions: *n }));
        self.coordinator.set_topics(topics.collect());
    }

    /// Another node looks after the ids: it knows what was written.
    fn moves(&mut self) {
        self.coordinator = read_back(&self.log);
        self.tell();
    }

    fn keep(&mut self) {
        keep(&mut self.coordinator, &mut self.log);
    }

    fn put(&mut self, records: Vec<Record>) {
        put(&mut self.coordinator, &records);
        self.log.extend(records);
    }

    fn wait(&mut self, ms: u64) -> Vec<String> {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms as i64;
        let ending = self.coordinator.expire_transactions(self.now);
        self.keep();
        ending
    }

    fn init(&mut self, id: &str, known: Option<Who>) -> Result<Step, Refusal> {
        let begun = self.coordinator.init_transactions(self.now, id, 60_000, known, None);
        let begun = if begun == Ok(Step::NeedsId) {
            self.fresh += 1;
            self.coordinator.init_transactions(self.now, id, 60_000, known, Some(self.fresh))
        } else {
            begun
        };
        self.keep();
        begun
    }

    fn join(&mut self, id: &str, who: Who, partitions: &[u32], groups: &[&str], add: bool) -> Result<u32, Refusal> {
        let parts = [TopicPartitions { topic: "t".into(), partitions: partitions.to_vec() }];
        let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
        let joined = self.coordinator.join_transaction(self.now, id, who, (&parts, &groups), add);
        self.keep();
        joined
    }

    fn end(&mut self, id: &str, who: Who, commit: bool, begins_epoch: bool) -> Result<Step, Refusal> {
        let ended = self.coordinator.end_transaction(self.now, id, who, commit, begins_epoch, None);
        self.keep();
        ended
    }

    /// It is ended everywhere.
    fn finish(&mut self, id: &str) -> Ending {
        let ending = self.coordinator.ending(id).expect("it is being ended");
        self.coordinator.complete_transaction(self.now, id, &ending);
        self.keep();
        ending
    }

    fn disown(&mut self, producer_id: u64, partition: u32, ended: u32) -> Result<Option<u32>, Refusal> {
        let number = self.coordinator.disown_transaction(self.now, producer_id, ("t", partition), ended);
        self.keep();
        number
    }

    fn state(&self, id: &str) -> State {
        self.coordinator.described_transaction(id).expect("it is known").state
    }
}

#[test]
fn the_first_protocol_from_beginning_to_end() {
    let mut seat = Seat::new();
    assert_eq!(seat.init("a", None), Ok(Step::Is((41, 0))));
    let who = (41, 0);
    assert_eq!(seat.end("a", who, true, false), Err(Refusal::State), "nothing has begun");
    assert_eq!(seat.join("a", who, &[0], &[], false), Err(Refusal::State));
    assert_eq!(seat.join("a", who, &[0, 1], &["g"], true), Ok(1));
    assert_eq!(seat.join("a", who, &[1], &[], false), Ok(1));
    assert_eq!(seat.join("a", who, &[2], &[], false), Err(Refusal::State), "it is not in it");
    assert_eq!(seat.join("a", who, &[9], &[], true), Err(Refusal::Unknown));
    assert_eq!(seat.end("a", who, true, false), Ok(Step::Wait));
    assert_eq!(seat.end("a", who, true, false), Ok(Step::Wait));
    assert_eq!(seat.end("a", who, false, false), Err(Refusal::State), "it is decided");
    assert_eq!(seat.join("a", who, &[0], &[], true), Err(Refusal::Concurrent));
    seat.moves();
    let ending = seat.finish("a");
    assert_eq!((ending.who, ending.number, ending.commit, ending.partitions.len(), ending.groups.len()), (who, 1, true, 2, 1));
    assert_eq!(seat.end("a", who, true, false), Ok(Step::Is(who)), "it is asked again");
    assert_eq!(seat.join("a", who, &[3], &[], true), Ok(2), "the next one");
    assert_eq!(seat.end("a", who, false, false), Ok(Step::Wait));
    let ending = seat.finish("a");
    assert_eq!((ending.number, ending.commit, ending.partitions.len()), (2, false, 1));
    assert_eq!(seat.state("a"), State::CompleteAbort);
}

#[test]
fn by_the_second_protocol_each_end_begins_an_epoch() {
    let mut seat = Seat::new();
    assert_eq!(seat.init("a", None), Ok(Step::Is((41, 0))));
    assert_eq!(seat.join("a", (41, 0), &[0], &[], true), Ok(1));
    assert_eq!(seat.end("a", (41, 0), true, true), Ok(Step::Wait));
    assert_eq!(seat.join("a", (41, 0), &[0], &[], true), Err(Refusal::Fenced), "what is still under way is too late");
    assert_eq!(seat.finish("a").who, (41, 1));
    assert_eq!(seat.end("a", (41, 0), true, true), Ok(Step::Is((41, 1))), "it is asked again");
    assert_eq!(seat.end("a", (41, 0), false, true), Err(Refusal::State), "and not otherwise");
    assert_eq!(seat.end("a", (41, 1), false, true), Ok(Step::Is((41, 2))), "nothing was written");
    assert_eq!(seat.end("a", (41, 2), true, true), Err(Refusal::State));
    assert_eq!(seat.join("a", (41, 2), &[0], &[], true), Ok(2));
    assert_eq!(seat.end("a", (41, 1), false, true), Err(Refusal::Fenced), "that was the one before");
}

#[test]
fn a_newer_producer_fences_the_one_before_and_gives_its_transaction_up() {
    let mut seat = Seat::new();
    assert_eq!(seat.init("a", None), Ok(Step::Is((41, 0))));
    assert_eq!(seat.join("a", (41, 0), &[0], &[], true), Ok(1));
    assert_eq!(seat.init("a", None), Ok(Step::Wait));
    assert_eq!(seat.end("a", (41, 0), true, false), Err(Refusal::Fenced));
    let ending = seat.finish("a");
    assert_eq!((ending.who, ending.commit), ((41, 1), false));
    assert_eq!(seat.init("a", None), Ok(Step::Is((41, 2))));
    assert_eq!(seat.init("a", Some((41, 0))), Err(Refusal::Fenced));
    // One that says who it is goes on from there, and is answered again if it asks again.
    assert_eq!(seat.init("a", Some((41, 2))), Ok(Step::Is((41, 3))));
    assert_eq!(seat.init("a", Some((41, 2))), Ok(Step::Is((41, 3))));
    assert_eq!(seat.init("b", Some((41, 3))), Err(Refusal::Producer));
    assert_eq!(seat.join("b", (41, 3), &[0], &[], true), Err(Refusal::Producer));
}

#[test]
fn what_is_open_for_too_long_is_given_up_whoever_looks_after_it() {
    let mut seat = Seat::new();
    assert_eq!(seat.init("a", None), Ok(Step::Is((41, 0))));
    assert_eq!(seat.join("a", (41, 0), &[0], &[], true), Ok(1));
    assert!(seat.wait(59 * SECOND).is_empty());
    seat.moves();
    assert!(seat.wait(SECOND).is_empty(), "its time begins anew");
    assert!(seat.wait(59 * SECOND).is_empty());
    assert_eq!(seat.wait(SECOND), ["a"]);
    assert_eq!(seat.finish("a").who, (41, 1));
    assert_eq!(seat.join("a", (41, 0), &[0], &[], true), Err(Refusal::Fenced));
    // Ids that nobody uses any more are forgotten.
    assert!(seat.wait(8 * 24 * 3_600 * SECOND).is_empty());
    assert_eq!(seat.coordinator.described_transaction("a"), None);
    assert_eq!(seat.coordinator.bytes(), 0);
    seat.moves();
    assert_eq!(seat.coordinator.described_transaction("a"), None);
}

#[test]
fn a_producer_whose_epochs_run_out_gets_another_id() {
    let mut seat = Seat::new();
    assert_eq!(seat.init("a", None), Ok(Step::Is((41, 0))));
    for epoch in 0..i16::MAX - 1 {
        assert_eq!(seat.join("a", (41, epoch), &[0], &[], true), Ok(epoch as u32 + 1));
        assert_eq!(seat.end("a", (41, epoch), true, true), Ok(Step::Wait));
        seat.finish("a");
        seat.log.clear();
    }
    let last = (41, i16::MAX - 1);
    assert_eq!(seat.join("a", last, &[0], &[], true), Ok(i16::MAX as u32));
    assert_eq!(seat.end("a", last, true, true), Ok(Step::NeedsId));
    assert_eq!(seat.coordinator.end_transaction(seat.now, "a", last, true, true, Some(99)), Ok(Step::Wait));
    seat.keep();
    assert_eq!(seat.finish("a").who, (41, i16::MAX), "nobody writes by the last epoch");
    assert_eq!(seat.end("a", last, true, true), Ok(Step::Is((99, 0))), "it is asked again");
    assert_eq!(seat.join("a", (99, 0), &[0], &[], true), Ok(1), "numbers begin anew with an id");
}

/// What does not fit into a record is refused, and many changes at once go in several batches.
#[test]
fn records_of_transactions_fit_into_batches() {
    let mut seat = Seat::new();
    assert_eq!(seat.init("a", None), Ok(Step::Is((41, 0))));
    let names: Vec<String> = (0..2_000).map(|n| format!("{n:0>200}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(seat.join("a", (41, 0), &[], &all, true), Err(Refusal::Invalid));
    assert_eq!(seat.join("a", (41, 0), &[], &all[..1_000], true), Ok(1));
    assert_eq!(seat.join("a", (41, 0), &[], &all[1_000..], true), Err(Refusal::Invalid));
    assert_eq!(seat.join("a", (41, 0), &[0], &all[..10], true), Ok(1));
    for n in 0..100 {
        let (id, who) = (format!("b{n}"), (41 + n, 0));
        let fresh = seat.coordinator.init_transactions(seat.now, &id, 60_000, None, Some(who.0));
        assert_eq!(fresh, Ok(Step::Is(who)));
        let joined = seat.coordinator.join_transaction(seat.now, &id, who, (&[], &names[..500]), true);
        assert_eq!(joined, Ok(1));
    }
    let mut batches = Vec::new();
    let kept = seat.coordinator.write_changed(|records| {
        batches.push(records.iter().map(|record| record.value.as_ref().map_or(0, bytes::Bytes::len)).sum::<usize>());
        Ok::<(), ()>(())
    });
    kept.expect("it has room");
    assert!(batches.len() > 20 && batches.iter().all(|bytes| *bytes < 2 * RECORD_BYTES_MAX), "{batches:?}");
}

#[test]
fn positions_wait_for_the_end_of_their_transaction() {
    let mut seat = Seat::new();
    let speaker = Speaker { group: "g".into(), member: String::new(), instance: None, generation: -1 };
    let position = |partition, offset| Position { topic: "t".into(), partition, offset, metadata: String::new(), leader_epoch: None };
    let fetch = millpond_wire::messages::FetchOffsets { group: "g".into(), ..Default::default() };
    let offsets =
        |seat: &Seat| seat.coordinator.fetch_offsets(&fetch).positions.iter().map(|p| (p.partition, p.offset)).collect::<Vec<_>>();
    let commit = seat.coordinator.commit_classic(&speaker, vec![position(0, 5)]).expect("it may");
    seat.put(commit.records);
    let commit = seat.coordinator.commit_in_transaction(&speaker, vec![position(0, 9), position(1, 3)], 41, 1).expect("it may");
    seat.put(commit.records);
    assert_eq!(offsets(&seat), [(0, 5)]);
    assert_eq!(seat.coordinator.unstable("g").len(), 2);
    seat.moves();
    assert_eq!(seat.coordinator.unstable("g").len(), 2);
    // The end of another producer, or of an earlier transaction that comes late, changes nothing.
    assert!(seat.coordinator.end_in_group("g", 42, 1, true, 100).is_empty());
    assert!(seat.coordinator.end_in_group("g", 41, 0, true, 100).is_empty());
    // Some at a time, each with its position.
    let some = seat.coordinator.end_in_group("g", 41, 1, true, 2);
    seat.put(some);
    assert_eq!((offsets(&seat), seat.coordinator.unstable("g").len()), (vec![(0, 9)], 1));
    let some = seat.coordinator.end_in_group("g", 41, 1, true, 2);
    seat.put(some);
    assert_eq!((offsets(&seat), seat.coordinator.unstable("g").len()), (vec![(0, 9), (1, 3)], 0));
    let commit = seat.coordinator.commit_in_transaction(&speaker, vec![position(0, 77)], 41, 2).expect("it may");
    seat.put(commit.records);
    let given_up = seat.coordinator.end_in_group("g", 41, 2, false, 100);
    seat.put(given_up);
    assert_eq!((offsets(&seat), seat.coordinator.unstable("g").len()), (vec![(0, 9), (1, 3)], 0));
}

/// A transaction that hangs in a partition is ended by a number of its own; one that is open, or is being ended, is its coordinator's alone.
#[test]
fn what_hangs_is_ended_beside_what_is_open() {
    let mut seat = Seat::new();
    assert_eq!(seat.init("a", None), Ok(Step::Is((41, 0))));
    let who = (41, 0);
    assert_eq!(seat.disown(99, 0, 5), Ok(None), "nobody knows it");
    assert_eq!(seat.disown(41, 0, 0), Ok(Some(1)));
    assert_eq!(seat.join("a", who, &[0], &[], true), Ok(2));
    assert_eq!(seat.disown(41, 0, 1), Err(Refusal::State), "it is a part of what is open");
    assert_eq!(seat.disown(41, 1, 0), Ok(Some(3)));
    seat.moves();
    assert_eq!(seat.join("a", who, &[1], &[], true), Ok(4), "its markers come after that one");
    assert_eq!(seat.end("a", who, true, false), Ok(Step::Wait));
    assert_eq!(seat.disown(41, 2, 0), Err(Refusal::Concurrent));
    assert_eq!(seat.finish("a").number, 4);
    assert_eq!(seat.disown(41, 0, 9), Ok(Some(10)), "the partition knows of later ones: they were forgotten here");
    assert_eq!(seat.join("a", who, &[0], &[], true), Ok(11));
    assert_eq!(seat.disown(41, 1, i32::MAX as u32), Err(Refusal::Full));
}

/// The last of so many for the most part.
fn one_of(dice: &mut Dice, n: usize) -> usize {
    if dice.one_in(4) { dice.roll(n as u64) as usize } else { n - 1 }
}

/// Producers of one name come and go, ends are asked for again, coordinators move: each transaction has one end, each end one number, and an epoch that was fenced ends nothing.
#[test]
fn a_transaction_has_one_end_whatever_happens() {
    let mut all = 0;
    for seed in 0..400 {
        let (mut seat, mut dice) = (Seat::new(), Dice((seed + 1_u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1));
        let mut ends: BTreeMap<(u64, u32), bool> = BTreeMap::new();
        let mut disowned: BTreeSet<(u64, u32)> = BTreeSet::new();
        let mut newest = (0, -1);
        let mut producers: Vec<(Who, bool)> = Vec::new();
        for _ in 0..300 {
            match dice.roll(9) {
                0 if producers.is_empty() || dice.one_in(3) => {
                    let known = producers.last().map(|(who, _)| *who).filter(|_| dice.one_in(3));
                    if let Ok(Step::Is(who)) = seat.init("a", known) {
                        assert!(known.is_some() || who > newest, "seed {seed}: {who:?} follows {newest:?}");
                        newest = newest.max(who);
                        producers.push((who, dice.one_in(2)));
                    }
                }
                1..=3 if !producers.is_empty() => {
                    let (who, _) = producers[one_of(&mut dice, producers.len())];
                    let joined = seat.join("a", who, &[dice.roll(4) as u32], &[], !dice.one_in(4));
                    assert!(joined.is_err() || who == newest, "seed {seed}: {who:?} is fenced by {newest:?}");
                }
                4 | 5 if !producers.is_empty() => {
                    let n = one_of(&mut dice, producers.len());
                    let (who, second) = producers[n];
                    if let Ok(Step::Is(next)) = seat.end("a", who, dice.one_in(2), second) {
                        producers[n].0 = next;
                        newest = newest.max(next);
                    }
                }
                6 if dice.one_in(4) => seat.moves(),
                7 if dice.one_in(2) => {
                    let (id, part) = (newest.0, dice.roll(4) as u32);
                    let is_open = |seat: &Seat| {
                        let described = seat.coordinator.described_transaction("a");
                        described.is_some_and(|is| is.who.0 == id && is.partitions.iter().any(|of| of.partitions.contains(&part)))
                    };
                    let was_open = is_open(&seat);
                    if let Ok(Some(number)) = seat.disown(id, part, dice.roll(3) as u32) {
                        assert!(!was_open, "seed {seed}: {part} is a part of what is open");
                        assert!(disowned.insert((id, number)), "seed {seed}: {number} twice");
                        assert!(!ends.contains_key(&(id, number)), "seed {seed}: {number} is the coordinator's");
                    }
                }
                _ => {
                    if dice.one_in(6) {
                        seat.wait(61 * SECOND);
                    }
                    if let Some(ending) = seat.coordinator.ending("a") {
                        let told = ends.insert((ending.who.0, ending.number), ending.commit);
                        assert!(!disowned.contains(&(ending.who.0, ending.number)), "seed {seed}: {ending:?} has the number of another");
                        assert!(told.is_none_or(|told| told == ending.commit), "seed {seed}: {ending:?} ended otherwise before");
                        newest = newest.max(ending.who);
                        if dice.one_in(2) {
                            seat.finish("a");
                        }
                    }
                }
            }
        }
        all += ends.len();
    }
    assert!(all > 4_000, "{all} transactions have ended");
}
