//! One thing at a time.

use super::*;

fn with(list: &[(&str, u32)]) -> Coordinator {
    let mut c = Coordinator::new();
    assert!(c.set_topics(topics(list)).is_empty());
    c
}

fn beat(member: &str, epoch: i64, wants: &[&str], owned: &[(&str, u32)]) -> GroupHeartbeat {
    GroupHeartbeat {
        group: "g".into(),
        member_id: member.into(),
        member_epoch: epoch,
        topics: wants.iter().map(|t| (*t).to_owned()).collect(),
        owned: unflat(&owned.iter().map(|(t, p)| ((*t).to_owned(), *p)).collect()),
        session_timeout_ms: 10_000,
        client_id: "app".into(),
    }
}

fn said(c: &mut Coordinator, now: u64, beat: &GroupHeartbeat) -> (i64, Vec<(String, u32)>) {
    let reply = c.heartbeat(now, "host", beat).expect("accepted");
    c.check();
    (reply.member_epoch, flat(&reply.assigned).into_iter().collect())
}

fn t(p: u32) -> (String, u32) {
    ("t".into(), p)
}

fn position(partition: u32, offset: u64) -> Position {
    Position { topic: "t".into(), partition, offset, metadata: String::new(), leader_epoch: None }
}

fn commit(member: &str, epoch: i64, positions: Vec<Position>) -> CommitOffsets {
    CommitOffsets { group: "g".into(), member_id: member.into(), member_epoch: epoch, positions, sequence: 0, committer: 0 }
}

fn apply(c: &mut Coordinator, records: &[Record]) {
    for r in records {
        c.apply(&r.key, r.value.as_deref()).expect("we read what we wrote");
    }
    c.check();
}

fn code(refused: Result<impl Sized, Refused>) -> Code {
    refused.map(|_| ()).expect_err("refused").code()
}

#[test]
fn a_partition_moves_only_after_its_owner_has_given_it_up() {
    let mut c = with(&[("t", 2)]);
    let (a1, got) = said(&mut c, 0, &beat("a", 0, &["t"], &[]));
    assert_eq!(got, [t(0), t(1)]);
    let (b1, got) = said(&mut c, 10, &beat("b", 0, &["t"], &[]));
    assert_eq!(got, [], "a may own both");
    let waits = c.heartbeat(11, "host", &beat("b", b1, &["t"], &[])).expect("accepted").heartbeat_ms;
    assert_eq!(u64::from(waits), HEARTBEAT_WAITING_MS);

    let (a2, got) = said(&mut c, 20, &beat("a", a1, &["t"], &[("t", 0), ("t", 1)]));
    assert_eq!(got, [t(0)]);
    assert!(a2 > a1);
    assert_eq!(said(&mut c, 30, &beat("b", b1, &["t"], &[])).1, [], "a was told, and has not answered");
    // A heartbeat that a sent before it knew: it owns nothing, but by an old epoch.
    assert_eq!(said(&mut c, 31, &beat("a", a1, &["t"], &[])), (a2, vec![t(0)]));
    assert_eq!(said(&mut c, 32, &beat("b", b1, &["t"], &[])).1, [], "an old epoch proves nothing");

    assert_eq!(said(&mut c, 40, &beat("a", a2, &["t"], &[("t", 0)])), (a2, vec![t(0)]));
    let (b2, got) = said(&mut c, 50, &beat("b", b1, &["t"], &[]));
    assert_eq!(got, [t(1)]);
    assert_eq!(c.list().groups[0].state, "stable");
    let stable = c.heartbeat(60, "host", &beat("b", b2, &["t"], &[("t", 1)])).expect("accepted");
    assert_eq!((stable.member_epoch, u64::from(stable.heartbeat_ms)), (b2, HEARTBEAT_MS));
}

#[test]
fn a_lost_answer_is_repeated_and_still_counts_as_owned() {
    let mut c = with(&[("t", 1)]);
    let (a1, got) = said(&mut c, 0, &beat("a", 0, &["t"], &[]));
    assert_eq!(said(&mut c, 1, &beat("a", 0, &["t"], &[])), (a1, got), "the same answer to the same join");
    assert_eq!(said(&mut c, 2, &beat("b", 0, &["t"], &[])).1, [], "a may have had the first answer");
}

#[test]
fn the_dead_lose_their_partitions_and_are_fenced() {
    let mut c = with(&[("t", 1)]);
    let (a1, _) = said(&mut c, 0, &beat("a", 0, &["t"], &[]));
    let (b1, _) = said(&mut c, 5_000, &beat("b", 0, &["t"], &[]));
    assert!(c.expire(9_999).is_empty());
    assert_eq!(c.expire(10_000), [Expired { group: "g".into(), member: "a".into() }]);
    c.check();
    assert_eq!(said(&mut c, 10_001, &beat("b", b1, &["t"], &[])).1, [t(0)]);
    assert_eq!(code(c.heartbeat(10_002, "host", &beat("a", a1, &["t"], &[("t", 0)]))), Code::UnknownMember);
    assert_eq!(code(c.commit(&commit("a", a1, vec![position(0, 5)]))), Code::UnknownMember);
    let (a2, _) = said(&mut c, 10_003, &beat("a", 0, &["t"], &[]));
    assert!(a2 > a1, "epochs are never given twice");
    assert_eq!(c.expire(99_999).len(), 2);
    assert!(c.list().groups.is_empty(), "a group without members and positions is no more");
}

/// A member gives a partition up, others move its position on, and it gets it back: what it had committed before, and comes late, is theirs to overtake (KIP-1251).
#[test]
fn what_a_member_committed_before_others_had_its_partition_comes_too_late() {
    let mut c = with(&[("t", 2)]);
    let (a1, _) = said(&mut c, 0, &beat("a", 0, &["t"], &[]));
    let (b1, _) = said(&mut c, 1, &beat("b", 0, &["t"], &[]));
    let (a2, _) = said(&mut c, 2, &beat("a", a1, &["t"], &[("t", 0), ("t", 1)]));
    said(&mut c, 3, &beat("a", a2, &["t"], &[("t", 0)]));
    let (b2, got) = said(&mut c, 4, &beat("b", b1, &["t"], &[]));
    assert_eq!(got, [t(1)]);
    let kept = c.commit(&commit("b", b2, vec![position(1, 12)])).expect("it may").records;
    apply(&mut c, &kept);
    said(&mut c, 5, &beat("b", -1, &["t"], &[]));
    let (a3, got) = said(&mut c, 6, &beat("a", a2, &["t"], &[("t", 0)]));
    assert_eq!(got, [t(0), t(1)]);
    for late in [a1, a2] {
        let commit = c.commit(&commit("a", late, vec![position(0, 3), position(1, 11)])).expect("it is a member");
        let refused: Vec<_> =
            commit.reply.failures.iter().map(|f| (f.position, f.failure.as_ref().map(|failure| failure.code()))).collect();
        assert_eq!(refused, [(1, Some(Code::FencedMember))], "what it never gave up it may commit by any of its epochs");
    }
    assert!(c.commit(&commit("a", a3, vec![position(1, 13)])).expect("it may").reply.failures.is_empty());
}

#[test]
fn a_member_that_does_not_let_go_is_removed_in_the_end() {
    let mut c = with(&[("t", 1)]);
    let (mut a, _) = said(&mut c, 0, &beat("a", 0, &["t"], &[]));
    (a, _) = said(&mut c, 1, &beat("a", a, &["u"], &[("t", 0)]));
    let mut now = 1;
    while c.expire(now).is_empty() {
        now += 1_000;
        assert!(now < 2 * REVOKE_MS_MAX, "it is still there");
        if c.list().groups[0].members > 0 && now <= REVOKE_MS_MAX {
            said(&mut c, now, &beat("a", a, &["u"], &[("t", 0)]));
        }
    }
    assert!(now >= REVOKE_MS_MAX);
    assert_eq!(code(c.heartbeat(now, "host", &beat("a", a, &["u"], &[]))), Code::UnknownMember);
}

#[test]
fn stale_and_impossible_epochs_are_fenced() {
    let mut c = with(&[("t", 4)]);
    let (a1, _) = said(&mut c, 0, &beat("a", 0, &["t"], &[]));
    said(&mut c, 1, &beat("b", 0, &["t"], &[]));
    let (a2, _) = said(&mut c, 2, &beat("a", a1, &["t"], &[]));
    said(&mut c, 3, &beat("a", a2, &["t"], &[]));
    assert_eq!(code(c.heartbeat(4, "host", &beat("a", a1, &["t"], &[]))), Code::FencedMember);
    assert_eq!(code(c.heartbeat(4, "host", &beat("a", a2 + 9, &["t"], &[]))), Code::FencedMember);
    assert_eq!(code(c.heartbeat(4, "host", &beat("x", 7, &["t"], &[]))), Code::UnknownMember);
    assert_eq!(code(c.heartbeat(4, "host", &beat("a", -7, &["t"], &[]))), Code::InvalidArgument);
    c.check();
}

#[test]
fn leaving_frees_at_once_and_may_be_repeated() {
    let mut c = with(&[("t", 1)]);
    let (a1, _) = said(&mut c, 0, &beat("a", 0, &["t"], &[]));
    let (b1, _) = said(&mut c, 1, &beat("b", 0, &["t"], &[]));
    assert_eq!(said(&mut c, 2, &beat("a", -1, &[], &[])).0, -1);
    assert_eq!(said(&mut c, 3, &beat("b", b1, &["t"], &[])).1, [t(0)]);
    assert_eq!(said(&mut c, 4, &beat("a", -1, &[], &[])).0, -1);
    assert_eq!(code(c.heartbeat(5, "host", &beat("a", a1, &["t"], &[]))), Code::UnknownMember);
}

#[test]
fn topics_appear_grow_and_go() {
    let mut c = with(&[]);
    let (a, got) = said(&mut c, 0, &beat("a", 0, &["t"], &[]));
    assert_eq!(got, []);
    c.set_topics(topics(&[("t", 1)]));
    let (a, got) = said(&mut c, 1, &beat("a", a, &["t"], &[]));
    assert_eq!(got, [t(0)]);
    c.set_topics(topics(&[("t", 3)]));
    let (a, got) = said(&mut c, 2, &beat("a", a, &["t"], &[("t", 0)]));
    assert_eq!(got, [t(0), t(1), t(2)]);
    let before = c.describe(&DescribeGroup { group: "g".into() }).expect("there").epoch;
    c.set_topics(topics(&[("t", 3), ("u", 1)]));
    let after = c.describe(&DescribeGroup { group: "g".into() }).expect("there").epoch;
    assert_eq!(before, after, "another topic is none of its business");
    c.set_topics(topics(&[]));
    assert_eq!(said(&mut c, 3, &beat("a", a, &["t"], &[("t", 0)])).1, []);
}

#[test]
fn positions_are_kept_by_members_for_what_they_own() {
    let mut c = with(&[("t", 2)]);
    let (a1, _) = said(&mut c, 0, &beat("a", 0, &["t"], &[]));
    let (b1, _) = said(&mut c, 1, &beat("b", 0, &["t"], &[]));
    let plan = c.commit(&commit("a", a1, vec![position(0, 7), position(1, 8), position(2, 9)])).expect("accepted");
    assert_eq!(plan.records.len(), 2);
    let failures: Vec<_> = plan.reply.failures.iter().map(|f| (f.position, f.failure.clone().map(|f| f.code))).collect();
    assert_eq!(failures, [(2, Some(Code::UnknownTopic as i32))]);
    let all = FetchOffsets { group: "g".into(), partitions: vec![] };
    assert!(c.fetch_offsets(&all).positions.is_empty(), "nothing is kept before it is synced");
    apply(&mut c, &plan.records);
    assert_eq!(c.fetch_offsets(&all).positions, [position(0, 7), position(1, 8)]);
    let one = FetchOffsets { partitions: vec![TopicPartitions { topic: "t".into(), partitions: vec![1, 5] }], ..all.clone() };
    assert_eq!(c.fetch_offsets(&one).positions, [position(1, 8)]);

    // a gives up t-1; from then on it cannot move its position.
    let (a2, _) = said(&mut c, 2, &beat("a", a1, &["t"], &[("t", 0), ("t", 1)]));
    let late = c.commit(&commit("a", a1, vec![position(1, 9)])).expect("accepted");
    assert!(late.reply.failures.is_empty(), "it may still own it");
    said(&mut c, 3, &beat("a", a2, &["t"], &[("t", 0)]));
    // One that was overtaken on its way comes too late; the same one may come again.
    let counted = |sequence, offset| CommitOffsets { sequence, ..commit("a", a2, vec![position(0, offset)]) };
    for (sequence, kept) in [(5, 1), (4, 0), (5, 1), (6, 1)] {
        let plan = c.commit(&counted(sequence, 7)).expect("accepted");
        assert_eq!((plan.records.len(), plan.reply.failures.len()), (kept, 1 - kept), "{sequence}");
    }
    let late = c.commit(&commit("a", a2, vec![position(1, 9)])).expect("accepted");
    assert!(late.records.is_empty());
    assert_eq!(late.reply.failures[0].failure.as_ref().map(|f| f.code), Some(Code::FencedMember as i32));
    assert_eq!(code(c.commit(&commit("a", a2 + 50, vec![]))), Code::FencedMember);
    assert_eq!(code(c.commit(&commit("", 0, vec![position(0, 1)]))), Code::GroupNotEmpty);
    assert_eq!(code(c.delete(&DeleteGroup { group: "g".into() }, 9)), Code::GroupNotEmpty);
    let _ = b1;
}

/// A commit from outside that was overtaken on its way by a newer one of the same client does not take its place, whether that is applied or only written, or was
/// read back by a new leader; one that is tried again does, and so does one of another client.
#[test]
fn a_commit_from_outside_that_comes_late_is_not_kept() {
    let mut c = with(&[("t", 2)]);
    let counted = |committer, sequence, offset| CommitOffsets { sequence, committer, ..commit("", 0, vec![position(0, offset)]) };
    let mut log = Vec::new();
    for (committer, sequence, offset, kept) in
        [(7, 5, 10, 1), (7, 4, 9, 0), (7, 5, 10, 1), (7, 6, 11, 1), (8, 1, 12, 1), (8, 0, 13, 1), (0, 3, 14, 1)]
    {
        let plan = c.commit(&counted(committer, sequence, offset)).expect("accepted");
        assert_eq!((plan.records.len(), plan.reply.failures.len()), (kept, 0), "{committer} {sequence}");
        c.written(&plan.records);
        let again = c.commit(&counted(committer, sequence.saturating_sub(1), 1)).expect("accepted");
        assert_eq!(
            again.records.len(),
            usize::from(committer == 0 || sequence <= 1),
            "an older one, while {committer} {sequence} is written only"
        );
        apply(&mut c, &plan.records);
        log.extend(plan.records);
    }
    let plan = c.commit(&counted(7, 9, 20)).expect("accepted");
    log.extend(plan.records);
    let mut next = with(&[("t", 2)]);
    apply(&mut next, &log);
    assert!(next.commit(&counted(7, 8, 19)).expect("accepted").records.is_empty(), "a new leader knows as much");
    assert_eq!(next.commit(&counted(7, 10, 21)).expect("accepted").records.len(), 1);
}

/// The position that a member had read up to when it was forgotten may still be on its way when it has joined again and was told where
/// the group is. If it were kept then, the member would go on from further back, and commit that: the position would go back.
#[test]
fn a_former_membership_commits_nothing() {
    let mut c = with(&[("t", 1)]);
    let (a1, _) = said(&mut c, 0, &beat("a", 0, &["t"], &[]));
    assert_eq!(c.expire(10_000).len(), 1);
    let (a2, _) = said(&mut c, 10_001, &beat("a", 0, &["t"], &[]));
    assert_eq!(code(c.commit(&commit("a", a1, vec![position(0, 5)]))), Code::FencedMember);
    let (a3, _) = said(&mut c, 10_002, &beat("a", a2, &["t", "u"], &[("t", 0)]));
    assert_eq!(a3, a2, "nothing was taken from it or given to it");
    assert_eq!(c.commit(&commit("a", a2, vec![position(0, 6)])).expect("it is a member by this epoch").records.len(), 1);
    // It has grown since, and a commit that was under way meanwhile is of the same membership.
    c.set_topics(topics(&[("t", 1), ("u", 1)]));
    let (a4, _) = said(&mut c, 10_003, &beat("a", a2, &["t", "u"], &[("t", 0)]));
    assert!(a4 > a2);
    assert_eq!(c.commit(&commit("a", a2, vec![position(0, 7)])).expect("it is a member by this epoch").records.len(), 1);
}

#[test]
fn a_membership_ends_with_the_coordinator_that_gave_it() {
    let lives = [(1, 1_000), (1_000, 1), (7, 7 + (1 << 32))];
    for (before, after) in lives {
        let start = |epochs| {
            let mut c = Coordinator::with_epochs_after(epochs);
            c.set_topics(topics(&[("t", 1)]));
            let (epoch, got) = said(&mut c, 0, &beat("a", 0, &["t"], &[]));
            assert_eq!(got, [t(0)]);
            (c, epoch)
        };
        let (_, old) = start(before);
        let (mut c, new) = start(after);
        assert_ne!(old, new);
        assert_eq!(code(c.commit(&commit("a", old, vec![position(0, 5)]))), Code::FencedMember);
        assert_eq!(code(c.heartbeat(1, "host", &beat("a", old, &["t"], &[]))), Code::FencedMember);
        assert_eq!(c.commit(&commit("a", new, vec![position(0, 5)])).expect("it is a member").records.len(), 1);
    }
}

#[test]
fn positions_survive_a_restart_and_not_their_topic() {
    let mut c = with(&[("t", 2)]);
    let plan = c.commit(&commit("", 0, vec![position(0, 7), position(1, 8)])).expect("nobody consumes");
    apply(&mut c, &plan.records);
    let mut again = with(&[("t", 2)]);
    apply(&mut again, &plan.records);
    let all = FetchOffsets { group: "g".into(), partitions: vec![] };
    assert_eq!(again.fetch_offsets(&all), c.fetch_offsets(&all));
    assert_eq!(again.list().groups[0].state, "empty");

    // Deleted and created anew under the same name: another topic.
    let anew: BTreeMap<_, _> = [(Arc::from("t"), TopicView { topic_id: 99, partitions: 2 })].into();
    let gone = again.set_topics(anew);
    assert_eq!(gone.len(), 2);
    assert!(again.fetch_offsets(&all).positions.is_empty());
    // A position in the new one before the old ones are buried.
    let kept = again.commit(&commit("", 0, vec![position(1, 1)])).expect("nobody consumes");
    apply(&mut again, &kept.records);
    let stale = again.still_stale(&gone);
    assert_eq!(stale, gone[..1]);
    apply(&mut again, &stale);
    assert!(again.still_stale(&gone).is_empty());
    assert_eq!(again.fetch_offsets(&all).positions, [position(1, 1)]);
    let anew: BTreeMap<_, _> = [(Arc::from("t"), TopicView { topic_id: 100, partitions: 2 })].into();
    let gone = again.set_topics(anew);
    apply(&mut again, &gone);
    assert_eq!(code(again.describe(&DescribeGroup { group: "g".into() })), Code::UnknownGroup);

    // The topic went while the server was down: the first news tells it.
    let mut late = Coordinator::new();
    apply(&mut late, &plan.records);
    assert_eq!(late.set_topics(topics(&[("u", 1)])).len(), 2);
    assert!(late.set_topics(topics(&[("u", 1), ("v", 1)])).is_empty());

    let gone = c.delete(&DeleteGroup { group: "g".into() }, 1).expect("nobody consumes");
    assert_eq!(gone.len(), 1);
    apply(&mut c, &gone);
    let gone = c.delete(&DeleteGroup { group: "g".into() }, 9).expect("nobody consumes");
    apply(&mut c, &gone);
    assert!(c.list().groups.is_empty());
    assert_eq!(code(c.delete(&DeleteGroup { group: "g".into() }, 9)), Code::UnknownGroup);
}

#[test]
fn limits_are_limits() {
    let mut c = with(&[("t", 1)]);
    let refuse = |c: &mut Coordinator, change: &dyn Fn(&mut GroupHeartbeat)| {
        let mut b = beat("a", 0, &["t"], &[]);
        change(&mut b);
        code(c.heartbeat(0, "host", &b))
    };
    assert_eq!(refuse(&mut c, &|b| b.group = String::new()), Code::InvalidArgument);
    assert_eq!(refuse(&mut c, &|b| b.member_id = "x".repeat(256)), Code::InvalidArgument);
    assert_eq!(refuse(&mut c, &|b| b.topics = vec!["t".into(); 1_001]), Code::InvalidArgument);
    assert_eq!(refuse(&mut c, &|b| b.session_timeout_ms = 10), Code::InvalidArgument);
    for i in 0..MEMBERS_PER_GROUP_MAX {
        c.heartbeat(0, "host", &beat(&format!("m{i}"), 0, &["t"], &[])).expect("room");
    }
    assert_eq!(refuse(&mut c, &|_| {}), Code::Overloaded);
    let mut long = position(0, 1);
    long.metadata = "x".repeat(METADATA_BYTES_MAX + 1);
    let c = with(&[("t", 1)]);
    let plan = c.commit(&commit("", 0, vec![long])).expect("one position is bad, not the request");
    assert_eq!(plan.reply.failures[0].failure.as_ref().map(|f| f.code), Some(Code::InvalidArgument as i32));
    assert_eq!(code(c.commit(&commit("", 0, vec![position(0, 1); 1_001]))), Code::InvalidArgument);
}

#[test]
fn foreign_records_are_refused() {
    let mut c = with(&[]);
    for (key, value) in [(&b""[..], None), (b"\x02abc", None), (b"\x01\xff\xff", None), (b"\x01", Some(&b"\x09"[..]))] {
        c.apply(key, value).expect_err("refused");
        c.check();
    }
}

#[test]
fn a_group_stays_in_its_partition() {
    // Part of the format: these must never change.
    assert_eq!((partition_of("", 50), partition_of("g", 50), partition_of("billing", 50)), (37, 24, 24));
    assert_eq!(partition_of("anything", 1), 0);
}

/// As it was written before epochs of leaders were kept, byte for byte; and with one.
#[test]
fn positions_of_old_have_no_epoch_and_new_ones_keep_theirs() {
    let mut c = with(&[("t", 2)]);
    let key = |partition: u8| [&[1, 10, 1, b'g', 18, 1, b't'][..], if partition > 0 { &[24, 1][..] } else { &[] }].concat();
    // Offset 7, and the topic's id.
    c.apply(&key(0), Some(&[1, 8, 7, 24, 10])).expect("it is read");
    c.apply(&key(1), Some(&[1, 8, 8, 24, 10, 48, 6])).expect("it is read");
    let told = |c: &Coordinator| c.current_positions("g").map(|p| (p.partition, p.offset, p.leader_epoch)).collect::<Vec<_>>();
    assert_eq!(told(&c), [(0, 7, None), (1, 8, Some(3))]);
    let new = Position { leader_epoch: Some(4), ..position(0, 9) };
    let records = c.commit(&commit("", 0, vec![new])).expect("nobody is there").records;
    apply(&mut c, &records);
    assert_eq!(told(&c), [(0, 9, Some(4)), (1, 8, Some(3))]);
}
