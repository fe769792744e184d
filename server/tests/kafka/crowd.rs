//! Fifty members of one group over two hundred partitions, a hundred of which die one after the other and are replaced, by requests as bytes.
//!
//! All members tell a board which partitions they read. So it is seen at once if one has two readers, and in the end if one has none.

use crate::{node::Node, raw::Raw};
use bytes::Bytes;
use kafka_protocol::{
    messages::{
        ConsumerGroupHeartbeatRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
        TopicName, consumer_group_heartbeat_request::TopicPartitions, join_group_request::JoinGroupRequestProtocol,
        leave_group_request::MemberIdentity, sync_group_request::SyncGroupRequestAssignment,
    },
    protocol::StrBytes,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    thread::JoinHandle,
    time::{Duration, Instant},
};

const MEMBERS: usize = 50;
const DEATHS: usize = 100;
const BETWEEN_DEATHS: Duration = Duration::from_millis(120);
/// All of it ends within this time.
const PATIENCE: Duration = Duration::from_secs(88);

const MEMBER_ID_REQUIRED: i16 = 79;
const REBALANCE_IN_PROGRESS: i16 = 27;
/// The coordinator is not there, or not yet: one comes again.
const AGAIN: [i16; 3] = [14, 15, 16];

#[derive(Default)]
struct Board {
    readers: BTreeMap<u32, usize>,
    /// Members that are to end; some say so before.
    dead: BTreeMap<usize, bool>,
    /// Partitions that began to be read.
    taken: usize,
    wrong: Vec<String>,
}

/// What all members know.
#[derive(Clone)]
struct World {
    address: String,
    topic: &'static str,
    group: &'static str,
    partitions: u32,
    board: Arc<Mutex<Board>>,
}

/// One member, in a thread of its own.
struct Member {
    world: World,
    number: usize,
    raw: Raw,
    owned: BTreeSet<u32>,
}

impl World {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().expect("no thread has panicked")
    }
}

impl Member {
    fn group(&self) -> GroupId {
        GroupId(StrBytes::from_static_str(self.world.group))
    }

    /// Whether it is to end, and to say so.
    fn ends(&self) -> Option<bool> {
        self.world.board().dead.get(&self.number).copied()
    }

    fn naps(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end && self.ends().is_none() {
            std::thread::sleep(Duration::from_millis(20).min(time));
        }
    }

    fn wrong(&self, what: String) {
        let mut board = self.world.board();
        if !board.dead.contains_key(&self.number) {
            board.wrong.push(format!("member {}: {what}", self.number));
        }
    }

    /// Goes from what it reads to something else. Whether it gave something up.
    fn reads(&mut self, next: BTreeSet<u32>) -> bool {
        let mut board = self.world.board();
        if board.dead.contains_key(&self.number) {
            return false;
        }
        for p in self.owned.difference(&next) {
            board.readers.remove(p);
        }
        for p in next.difference(&self.owned) {
            board.taken += 1;
            if let Some(other) = board.readers.insert(*p, self.number) {
                board.wrong.push(format!("{p} is read by {other} and {}", self.number));
            }
        }
        drop(board);
        let gave_up = !self.owned.is_subset(&next);
        self.owned = next;
        gave_up
    }

    /// By KIP-848.
    fn lives_by_heartbeats(mut self, topic_id: [u8; 16]) {
        let text = StrBytes::from_string;
        let id = text(format!("member-{}", self.number));
        let beat = |epoch| {
            ConsumerGroupHeartbeatRequest::default().with_group_id(self.group()).with_member_id(id.clone()).with_member_epoch(epoch)
        };
        let (mut epoch, mut is_news, joins) = (0, true, beat(0));
        let leaves = beat(-1);
        loop {
            match self.ends() {
                Some(true) => return drop(self.raw.call(1, &leaves)),
                Some(false) => return,
                None => {}
            }
            let owned = TopicPartitions::default()
                .with_topic_id(TryFrom::try_from(topic_id.to_vec()).expect("sixteen bytes"))
                .with_partitions(self.owned.iter().map(|p| *p as i32).collect());
            let owned = if self.owned.is_empty() { Vec::new() } else { vec![owned] };
            let beat = joins.clone().with_member_epoch(epoch).with_topic_partitions(is_news.then_some(owned));
            let names = vec![TopicName(StrBytes::from_static_str(self.world.topic))];
            let beat = if epoch > 0 { beat } else { beat.with_rebalance_timeout_ms(30_000).with_subscribed_topic_names(Some(names)) };
            let Some(answer) = self.raw.call(1, &beat) else { return self.wrong("the connection ended".into()) };
            if AGAIN.contains(&answer.error_code) {
                self.naps(Duration::from_millis(50));
                continue;
            }
            if answer.error_code != 0 {
                return self.wrong(format!("refused with {}: {:?}", answer.error_code, answer.error_message));
            }
            (epoch, is_news) = (answer.member_epoch, false);
            if let Some(assigned) = answer.assignment {
                let next = assigned.topic_partitions.iter().flat_map(|t| t.partitions.iter().map(|p| *p as u32)).collect();
                is_news = next != self.owned;
                self.reads(next);
            }
            if !is_news {
                self.naps(Duration::from_millis(answer.heartbeat_interval_ms as u64));
            }
        }
    }

    /// By classic groups, cooperatively: it goes on with what it owns while generations change.
    fn lives_by_generations(mut self) {
        let mut id = StrBytes::default();
        let kind = StrBytes::from_static_str("consumer");
        while self.ends().is_none() {
            let owned: Vec<u8> = self.owned.iter().map(|p| *p as u8).collect();
            let protocol = JoinGroupRequestProtocol::default().with_name(StrBytes::from_static_str("steady")).with_metadata(owned.into());
            let join = JoinGroupRequest::default()
                .with_group_id(self.group())
                .with_member_id(id.clone())
                .with_protocol_type(kind.clone())
                .with_session_timeout_ms(5_000)
                .with_rebalance_timeout_ms(10_000)
                .with_protocols(vec![protocol]);
            let Some(joined) = self.raw.call(5, &join) else { return self.wrong("the connection ended".into()) };
            match joined.error_code {
                0 => {}
                MEMBER_ID_REQUIRED => id = joined.member_id.clone(),
                REBALANCE_IN_PROGRESS => {}
                code if AGAIN.contains(&code) => self.naps(Duration::from_millis(50)),
                code => return self.wrong(format!("it may not join: {code}")),
            }
            if joined.error_code != 0 {
                continue;
            }
            id = joined.member_id.clone();
            let generation = joined.generation_id;
            let sync = SyncGroupRequest::default()
                .with_group_id(self.group())
                .with_member_id(id.clone())
                .with_generation_id(generation)
                .with_assignments(shared_out(&joined, self.world.partitions));
            let Some(synced) = self.raw.call(3, &sync) else { return self.wrong("the connection ended".into()) };
            match synced.error_code {
                0 => {}
                REBALANCE_IN_PROGRESS => continue,
                code => return self.wrong(format!("it has no part: {code}")),
            }
            if self.reads(synced.assignment.iter().map(|p| u32::from(*p)).collect()) {
                // What it has given up others can have once it has joined again.
                continue;
            }
            let beat = HeartbeatRequest::default().with_group_id(self.group()).with_member_id(id.clone()).with_generation_id(generation);
            while self.ends().is_none() {
                self.naps(Duration::from_millis(300));
                match self.raw.call(3, &beat).map(|beaten| beaten.error_code) {
                    Some(0) => {}
                    Some(REBALANCE_IN_PROGRESS) => break,
                    other => return self.wrong(format!("it is no member any more: {other:?}")),
                }
            }
        }
        if self.ends() == Some(true) {
            let leave = LeaveGroupRequest::default().with_group_id(self.group());
            drop(self.raw.call(4, &leave.with_members(vec![MemberIdentity::default().with_member_id(id)])));
        }
    }
}

/// What a leader hands out: everybody keeps what they own up to their part of it; what is owned beyond is nobody's until it is given up.
fn shared_out(joined: &JoinGroupResponse, partitions: u32) -> Vec<SyncGroupRequestAssignment> {
    let count = joined.members.len();
    if count == 0 {
        return Vec::new();
    }
    let mut parts: Vec<Vec<u8>> = joined.members.iter().map(|m| m.metadata.to_vec()).collect();
    let owned: BTreeSet<u8> = parts.iter().flatten().copied().collect();
    let mut free = (0..partitions as u8).filter(|p| !owned.contains(p));
    let (each, mut more) = (partitions as usize / count, partitions as usize % count);
    let mut quota = vec![each; count];
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|n| std::cmp::Reverse(parts[*n].len()));
    for n in order {
        if more > 0 {
            (quota[n], more) = (each + 1, more - 1);
        }
        parts[n].truncate(quota[n]);
    }
    for (part, quota) in parts.iter_mut().zip(quota) {
        part.extend(free.by_ref().take(quota - part.len()));
    }
    let assignment = |(m, part): (&kafka_protocol::messages::join_group_response::JoinGroupResponseMember, Vec<u8>)| {
        SyncGroupRequestAssignment::default().with_member_id(m.member_id.clone()).with_assignment(Bytes::from(part))
    };
    joined.members.iter().zip(parts).map(assignment).collect()
}

/// How members live.
#[derive(Clone, Copy)]
pub(crate) enum Sort {
    /// By KIP-848, with the id of the topic.
    Consumer([u8; 16]),
    Classic,
}

/// Runs a crowd over a topic of so many partitions, and asserts that it comes to no harm.
pub(crate) fn run(node: &Node, topic: &'static str, partitions: u32, sort: Sort) {
    let board = Arc::default();
    let world = World { address: node.address(), topic, group: "crowd", partitions, board };
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let start = Instant::now();
    let begin = |threads: &mut Vec<JoinHandle<()>>| {
        let member = Member { world: world.clone(), number: threads.len(), raw: Raw::connect(&world.address), owned: BTreeSet::new() };
        threads.push(std::thread::spawn(move || match sort {
            Sort::Consumer(topic_id) => member.lives_by_heartbeats(topic_id),
            Sort::Classic => member.lives_by_generations(),
        }));
    };
    let wait = |what: &str| {
        loop {
            let board = world.board();
            assert!(board.wrong.is_empty(), "{what}: {:?}", board.wrong);
            let busy: BTreeSet<usize> = board.readers.values().copied().collect();
            if board.readers.len() == partitions as usize && busy.len() == MEMBERS {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: {} partitions are read by {} members", board.readers.len(), busy.len());
            drop(board);
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    (0..MEMBERS).for_each(|_| begin(&mut threads));
    wait("in the beginning");
    world.board().taken = 0;
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..DEATHS {
        std::thread::sleep(BETWEEN_DEATHS);
        dice = dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let mut board = world.board();
        let alive: Vec<usize> = (0..threads.len()).filter(|n| !board.dead.contains_key(n)).collect();
        let victim = alive[(dice >> 33) as usize % alive.len()];
        // Two of three say nothing.
        board.dead.insert(victim, (dice >> 17).is_multiple_of(3));
        board.readers.retain(|_, reader| *reader != victim);
        drop(board);
        begin(&mut threads);
    }
    wait("in the end");
    let taken = world.board().taken;
    // A death frees the part of one member and a birth asks for as much. Were all stopped each time, it would be ten times as many.
    let part = partitions as usize / MEMBERS + 1;
    assert!(taken <= 4 * part * DEATHS, "{taken} times a partition came to another reader");
    for n in 0..threads.len() {
        world.board().dead.entry(n).or_insert(true);
    }
    threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
    assert_eq!(world.board().wrong, Vec::<String>::new());
}
