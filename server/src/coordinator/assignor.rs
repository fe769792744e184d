//! Who should read what: sticky and balanced. Pure.
//!
//! 1. Every member keeps what it had, as far as it still subscribes to it.
//! 2. What nobody has goes to the subscriber with the least; among those, to whoever is still reading it.
//! 3. While somebody has at least two more than somebody who could take over (directly, or through others that pass
//!    partitions on), one partition moves along the shortest such way.
//!
//! So the result is balanced: no chain of moves makes the greater of two loads smaller. With equal subscriptions, loads
//! differ by at most one, and no more partitions move than must. The same arguments always give the same answer.
//!
//! Members with the same subscription form a *class*: whatever one member of a class may take, all may. It is enough to
//! look for moves from the most loaded member of each class, since it can hand anything to its class mates.

use super::Part;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// What the assignor needs to know of a member.
#[derive(Clone, Copy, Debug)]
pub struct Subscriber<'a> {
    /// Topics it wants; those that do not exist are ignored.
    pub topics: &'a BTreeSet<Arc<str>>,
    /// What it was to own by the last assignment.
    pub had: &'a BTreeSet<Part>,
    /// What it may be reading now.
    pub holds: &'a BTreeSet<Part>,
}

/// Assigns every partition of `topics` (name → partitions) that somebody subscribes to. One set per member, in the order
/// of `members`.
#[must_use]
pub fn assign(topics: &BTreeMap<Arc<str>, u32>, members: &[Subscriber<'_>]) -> Vec<BTreeSet<Part>> {
    let mut board = Board::new(topics, members);
    board.keep(members);
    board.fill();
    board.level();
    board.into_parts()
}

/// Topic as a number, and partition.
type Slot = (usize, u32);

struct Board<'a> {
    names: Vec<&'a Arc<str>>,
    counts: Vec<u32>,
    /// Classes that subscribe to a topic.
    classes_of: Vec<Vec<usize>>,
    class: Vec<usize>,
    /// Per class: its members by load.
    by_load: Vec<BTreeSet<(usize, usize)>>,
    load: Vec<usize>,
    owner: BTreeMap<Slot, usize>,
    /// Per member and topic: all that it owns, and what of that it did not have before.
    owned: Vec<BTreeMap<usize, BTreeSet<u32>>>,
    gained: Vec<BTreeMap<usize, BTreeSet<u32>>>,
    /// Per member: what it had or is reading. Giving it back moves nothing.
    home: Vec<BTreeSet<Slot>>,
    holder: BTreeMap<Slot, usize>,
}

impl<'a> Board<'a> {
    fn new(topics: &'a BTreeMap<Arc<str>, u32>, members: &[Subscriber<'_>]) -> Self {
        let names: Vec<&Arc<str>> = topics.keys().collect();
        let number: BTreeMap<&str, usize> = names.iter().enumerate().map(|(i, name)| (&***name, i)).collect();
        let mut classes: BTreeMap<&BTreeSet<Arc<str>>, usize> = BTreeMap::new();
        let mut classes_of = vec![Vec::new(); names.len()];
        let mut by_load: Vec<BTreeSet<(usize, usize)>> = Vec::new();
        let mut class = Vec::new();
        for (m, member) in members.iter().enumerate() {
            let c = *classes.entry(member.topics).or_insert_with(|| {
                for t in member.topics.iter().filter_map(|t| number.get(&**t)) {
                    classes_of[*t].push(by_load.len());
                }
                by_load.push(BTreeSet::new());
                by_load.len() - 1
            });
            class.push(c);
            by_load[c].insert((0, m));
        }
        let slot = |p: &Part| number.get(&*p.topic).map(|t| (*t, p.partition));
        let mut holder = BTreeMap::new();
        let mut home = Vec::new();
        for (m, member) in members.iter().enumerate() {
            holder.extend(member.holds.iter().filter_map(slot).map(|s| (s, m)));
            home.push(member.had.iter().chain(member.holds).filter_map(slot).collect());
        }
        Self {
            names,
            counts: topics.values().copied().collect(),
            classes_of,
            class,
            by_load,
            load: vec![0; members.len()],
            owner: BTreeMap::new(),
            owned: vec![BTreeMap::new(); members.len()],
            gained: vec![BTreeMap::new(); members.len()],
            home,
            holder,
        }
    }

    fn keep(&mut self, members: &[Subscriber<'_>]) {
        let number: BTreeMap<&str, usize> = self.names.iter().enumerate().map(|(i, name)| (&***name, i)).collect();
        for (m, member) in members.iter().enumerate() {
            for part in member.had {
                let Some(&t) = number.get(&*part.topic) else { continue };
                let slot = (t, part.partition);
                if part.partition < self.counts[t] && self.may_take(m, t) && !self.owner.contains_key(&slot) {
                    self.give(m, slot);
                }
            }
        }
    }

    fn fill(&mut self) {
        let mut free: Vec<Slot> = (0..self.names.len())
            .filter(|t| !self.classes_of[*t].is_empty())
            .flat_map(|t| (0..self.counts[t]).map(move |p| (t, p)))
            .filter(|slot| !self.owner.contains_key(slot))
            .collect();
        // What somebody is still reading is given first, while that member's load is low; then what few can take.
        free.sort_by_key(|slot| (!self.holder.contains_key(slot), self.takers(slot.0), *slot));
        for slot in free {
            let Some(least) = self.least(slot.0) else { continue };
            let holder = self.holder.get(&slot).copied();
            let m = holder.filter(|h| self.may_take(*h, slot.0) && self.load[*h] <= self.load[least]).unwrap_or(least);
            self.give(m, slot);
            if holder != Some(m) {
                self.gained[m].entry(slot.0).or_default().insert(slot.1);
            }
        }
    }

    fn level(&mut self) {
        'again: loop {
            let mut starts: Vec<(usize, usize)> = self.by_load.iter().filter_map(|c| c.last().copied()).collect();
            starts.sort_unstable_by(|a, b| b.cmp(a));
            for (load, start) in starts {
                if load < 2 {
                    return;
                }
                if let Some(way) = self.way_down(start) {
                    for (from, topic, to) in way {
                        self.pass(from, topic, to);
                    }
                    continue 'again;
                }
            }
            return;
        }
    }

    /// The shortest chain of moves that takes one partition from `start` and gives one to somebody who has at least two
    /// less: (from, topic, to), last move first.
    fn way_down(&self, start: usize) -> Option<Vec<(usize, usize, usize)>> {
        let mut reached = vec![false; self.by_load.len()];
        let mut came: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(from) = queue.pop_front() {
            for &topic in self.owned[from].keys() {
                for &c in &self.classes_of[topic] {
                    if std::mem::replace(&mut reached[c], true) {
                        continue;
                    }
                    let (least, to) = *self.by_load[c].first().expect("a class has members");
                    if least + 2 <= self.load[start] {
                        let mut way = vec![(from, topic, to)];
                        let mut at = from;
                        while let Some(&(before, topic)) = came.get(&at) {
                            way.push((before, topic, at));
                            at = before;
                        }
                        return Some(way);
                    }
                    if reached.iter().all(|r| *r) {
                        return None;
                    }
                    for &(_, m) in self.by_load[c].iter().filter(|(_, m)| *m != start) {
                        came.entry(m).or_insert((from, topic));
                        queue.push_back(m);
                    }
                }
            }
        }
        None
    }

    /// Moves one partition of `topic`: one that comes home, else one that has moved already, else the last.
    fn pass(&mut self, from: usize, topic: usize, to: usize) {
        let comes_home = self.home[to].range((topic, 0)..=(topic, u32::MAX)).find(|s| self.owner.get(s) == Some(&from));
        let partition = comes_home
            .map(|slot| slot.1)
            .or_else(|| self.gained[from].get(&topic).and_then(BTreeSet::last).copied())
            .or_else(|| self.owned[from].get(&topic).and_then(BTreeSet::last).copied())
            .expect("the way was found over a topic of which the member owns something");
        let slot = (topic, partition);
        self.take(from, slot);
        self.give(to, slot);
        if !self.home[to].contains(&slot) {
            self.gained[to].entry(topic).or_default().insert(partition);
        }
    }

    fn give(&mut self, m: usize, slot: Slot) {
        self.owner.insert(slot, m);
        self.owned[m].entry(slot.0).or_default().insert(slot.1);
        self.set_load(m, self.load[m] + 1);
    }

    fn take(&mut self, m: usize, slot: Slot) {
        self.owner.remove(&slot);
        for of in [&mut self.owned[m], &mut self.gained[m]] {
            if let Some(set) = of.get_mut(&slot.0) {
                set.remove(&slot.1);
                if set.is_empty() {
                    of.remove(&slot.0);
                }
            }
        }
        self.set_load(m, self.load[m] - 1);
    }

    fn set_load(&mut self, m: usize, load: usize) {
        let class = &mut self.by_load[self.class[m]];
        class.remove(&(self.load[m], m));
        class.insert((load, m));
        self.load[m] = load;
    }

    fn may_take(&self, m: usize, topic: usize) -> bool {
        self.classes_of[topic].contains(&self.class[m])
    }

    fn takers(&self, topic: usize) -> usize {
        self.classes_of[topic].iter().map(|c| self.by_load[*c].len()).sum()
    }

    fn least(&self, topic: usize) -> Option<usize> {
        self.classes_of[topic].iter().filter_map(|c| self.by_load[*c].first()).min().map(|(_, m)| *m)
    }

    fn into_parts(self) -> Vec<BTreeSet<Part>> {
        let name = |t: usize| Arc::clone(self.names[t]);
        self.owned
            .iter()
            .map(|of| of.iter().flat_map(|(t, set)| set.iter().map(|p| Part { topic: name(*t), partition: *p })).collect())
            .collect()
    }
}
