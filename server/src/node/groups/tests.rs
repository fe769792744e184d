//! Positions of groups on a whole core: what is kept, whoever asks when.

use super::*;
use crate::{
    boot::tests::{NODE, core},
    node::meta::Change,
};
use millpond_log::ProducerView;
use millpond_runtime::sim::{Sim, SimRt, for_seeds};
use millpond_wire::messages::{CreateTopic, DeleteTopic, Position, TopicPartitions};

type Node = Rc<Core<SimRt>>;

async fn create(core: &Node) {
    let create = CreateTopic { name: "t".into(), partitions: 1, ..CreateTopic::default() };
    core.change(Change::Create(create)).await.expect("created");
}

async fn delete(core: &Node) {
    core.change(Change::Delete(DeleteTopic { name: "t".into(), ..DeleteTopic::default() })).await.expect("deleted");
}

fn at(offset: u64) -> Vec<Position> {
    vec![Position { topic: "t".into(), partition: 0, offset, metadata: String::new(), leader_epoch: None }]
}

fn commit(offset: u64) -> CommitOffsets {
    CommitOffsets { group: "g".into(), member_id: String::new(), member_epoch: 0, positions: at(offset), sequence: 0, committer: 0 }
}

async fn committed(core: &Node) -> Option<u64> {
    let reply = core.fetch_offsets(FetchOffsets { group: "g".into(), partitions: Vec::new() }).await.expect("told");
    reply.positions.first().map(|p| p.offset)
}

fn run<F: Future<Output = ()> + 'static>(seed: u64, test: impl FnOnce(Node) -> F + 'static) {
    let sim = Sim::new(seed);
    let done = sim.block_on(NODE, |rt| async move { test(core(rt).await.expect("a first start")).await });
    done.expect("it runs to its end");
}

/// A commit that is written and not synced yet will be kept: whoever asks meanwhile, to go on from there, must not be told of the one
/// before.
#[test]
fn whoever_asks_is_told_of_commits_under_way() {
    for_seeds(20, |seed| {
        run(seed, |core| async move {
            create(&core).await;
            core.commit_offsets(commit(15)).await.expect("kept");
            let (here, log) = (Rc::clone(&core), core.logs.values().next().expect("one home").clone());
            let before = log.state(core.offsets(0).expect("here").group).expect("there").end_offset;
            core.rt.spawn("committer", Share::Serve, async move {
                here.commit_offsets(commit(401)).await.expect("kept");
            });
            let group = core.offsets(0).expect("here").group;
            while log.state(group).expect("there").end_offset == before {
                core.rt.yield_now().await;
            }
            assert!(log.state(group).expect("there").high_watermark == before, "it is not synced");
            assert_eq!(committed(&core).await, Some(401));
        });
    });
}

/// Members are not written down. One that had read further than it had committed joins again after a restart and goes on from what was
/// committed; what it had sent before and repeats is not to be taken for a commit of the new membership.
#[test]
fn memberships_end_with_the_node() {
    for_seeds(20, |seed| {
        let sim = Sim::new(seed);
        let beat = |epoch| GroupHeartbeat {
            group: "g".into(),
            member_id: "m".into(),
            member_epoch: epoch,
            topics: vec!["t".into()],
            ..GroupHeartbeat::default()
        };
        let member = |epoch, offset| CommitOffsets { member_id: "m".into(), member_epoch: epoch, ..commit(offset) };
        let before = sim.block_on(NODE, move |rt| async move {
            let core = core(rt).await.expect("a first start");
            create(&core).await;
            let epoch = core.heartbeat("host".into(), beat(0)).await.expect("joined").member_epoch;
            core.commit_offsets(member(epoch, 15)).await.expect("kept");
            epoch
        });
        let before = before.expect("it runs to its end");
        sim.crash(NODE);
        sim.restart(NODE);
        let after = sim.block_on(NODE, move |rt| async move {
            let core = core(rt).await.expect("a second start");
            let unknown = core.heartbeat("host".into(), beat(before)).await.expect_err("forgotten");
            assert_eq!(unknown.code(), Code::UnknownMember);
            let epoch = core.heartbeat("host".into(), beat(0)).await.expect("joined again").member_epoch;
            assert_eq!(committed(&core).await, Some(15));
            let late = core.commit_offsets(member(before, 401)).await.expect_err("of the membership before");
            assert_eq!(late.code(), Code::FencedMember);
            core.commit_offsets(member(epoch, 16)).await.expect("kept");
            assert_eq!(committed(&core).await, Some(16));
        });
        after.expect("it runs to its end");
    });
}

/// Tombstones for the positions of a topic that is gone are written in the background: they must not bury what was committed in the next
/// one of its name.
#[test]
fn a_position_outlives_the_topic_before_its_own() {
    for_seeds(20, |seed| {
        run(seed, |core| async move {
            create(&core).await;
            core.commit_offsets(commit(15)).await.expect("kept");
            delete(&core).await;
            create(&core).await;
            core.commit_offsets(commit(7)).await.expect("kept");
            assert_eq!(committed(&core).await, Some(7));
            core.rt.sleep(3 * EXPIRE_EVERY).await;
            assert_eq!(committed(&core).await, Some(7), "kept for good");
        });
    });
}

fn batch(producer_id: i64, sequence: i32) -> bytes::BytesMut {
    let mut builder = millpond_batch::Builder::new(millpond_batch::Compression::None, 100);
    builder.set_transactional();
    let headers: [(&[u8], Option<&[u8]>); 0] = [];
    builder.append(1_700_000_000_000, None, Some(b"value"), &headers);
    builder.build(Some(millpond_batch::Producer { id: producer_id, epoch: 0, base_sequence: sequence })).expect("built")
}

/// Appends a batch of a transaction of which no coordinator has heard, as if that had been forgotten: nothing else makes one hang.
async fn append(core: &Node, producer_id: u64, sequence: i32) -> ProducerView {
    let here = core.partition(core.route("t").expect("known").places[0].group).expect("here");
    let batch = batch(producer_id as i64, sequence);
    let header = millpond_batch::Header::parse(&batch).expect("just built");
    here.append(batch, header, core.rt.wall_ms()).expect("it may").settle(&here.log).await.expect("it lasts");
    here.producer(producer_id).expect("it serves").expect("known")
}

/// A transaction that nobody will end is given up by hand; one that its coordinator has open, or one that has gone on since somebody looked, is not. What the producer
/// does next is ended by its coordinator, as ever.
#[test]
fn a_transaction_that_hangs_is_given_up_and_no_other() {
    use crate::coordinator::Part;
    use millpond_wire::messages::{JoinTransaction, TransactionRefusal as Refusal};
    for_seeds(20, |seed| {
        run(seed, |core| async move {
            create(&core).await;
            let part = Part { topic: "t".into(), partition: 0 };
            let group = core.route("t").expect("known").places[0].group;
            let here = core.partition(group).expect("here");
            let aborted = || here.log.aborted(group, Offset(0), Offset(100)).len();

            // Of a producer that nobody looks after.
            let seen = append(&core, 900, 0).await;
            assert_eq!(core.give_up_hanging(&part, 900, seen).await.expect("it serves"), Ok(()));
            let after = here.producer(900).expect("it serves").expect("known");
            assert_eq!((after.open, after.ended, aborted()), (None, 1, 1));
            assert_eq!(core.give_up_hanging(&part, 900, seen).await.expect("it serves"), Err(Refusal::Concurrent), "it was another one");

            // Of one that has a coordinator, which knows nothing of it here.
            let (id, epoch) = core.init_transactions("a".into(), 60_000, None).await.expect("it serves").expect("begun");
            assert_eq!(epoch, 0);
            let seen = append(&core, id, 0).await;
            let later = append(&core, id, 1).await;
            assert_eq!(core.give_up_hanging(&part, id, seen).await.expect("it serves"), Err(Refusal::Concurrent), "it has gone on");
            assert_eq!(core.give_up_hanging(&part, id, later).await.expect("it serves"), Ok(()));
            assert_eq!(aborted(), 2);

            // The next one is its coordinator's.
            let join = JoinTransaction {
                transactional_id: "a".into(),
                producer_id: id,
                partitions: vec![TopicPartitions { topic: "t".into(), partitions: vec![0] }],
                add: true,
                ..JoinTransaction::default()
            };
            assert_eq!(core.join_transaction(&join).await.expect("it serves").refusal, i32::from(Refusal::None));
            let seen = append(&core, id, 2).await;
            assert_eq!(core.give_up_hanging(&part, id, seen).await.expect("it serves"), Err(Refusal::State));
            assert_eq!(core.end_transaction("a".into(), (id, 0), true, false).await.expect("it serves"), Ok((id, 0)));
            let after = here.producer(id).expect("it serves").expect("known");
            assert_eq!((after.open, after.ended > seen.ended, aborted()), (None, true, 2), "it took effect");
        });
    });
}

#[test]
fn a_large_group_is_deleted_whole() {
    run(1, |core| async move {
        let create = CreateTopic { name: "t".into(), partitions: 1_200, ..CreateTopic::default() };
        core.change(Change::Create(create)).await.expect("created");
        let all: Vec<Position> = (0..1_200).map(|partition| Position { partition, ..at(1).remove(0) }).collect();
        for some in all.chunks(1_000) {
            core.commit_offsets(CommitOffsets { positions: some.to_vec(), ..commit(0) }).await.expect("kept");
        }
        let group = || DeleteGroup { group: "g".into() };
        core.delete_group(group()).await.expect("deleted");
        assert_eq!(committed(&core).await, None);
        let gone = core.delete_group(group()).await.expect_err("gone");
        assert_eq!(gone.code(), Code::UnknownGroup);
    });
}

/// What a member of Kafka's newer sort is told is synced before: after a power cut it goes on by its epoch with what it owns, and keeps its positions.
#[test]
fn memberships_of_kafkas_newer_sort_outlive_the_node() {
    use crate::coordinator::{classic::Speaker, consumer::Beat};
    for_seeds(20, |seed| {
        let sim = Sim::new(seed);
        let join = || Beat {
            group: "g".into(),
            member: "m".into(),
            rebalance_timeout_ms: Some(1_000),
            names: Some(vec!["t".into()]),
            ..Beat::default()
        };
        let speaker = |generation| Speaker { group: "g".into(), member: "m".into(), generation, ..Speaker::default() };
        let before = sim.block_on(NODE, move |rt| async move {
            let core = core(rt).await.expect("a first start");
            create(&core).await;
            let joined = core.beat_consumer(join()).await.expect("it serves").expect("joined");
            core.commit_group(speaker(joined.epoch), at(15)).await.expect("it serves").expect("kept");
            joined
        });
        let before = before.expect("it runs to its end");
        assert_eq!(before.assigned.as_ref().map(std::collections::BTreeSet::len), Some(1));
        sim.crash(NODE);
        sim.restart(NODE);
        let after = sim.block_on(NODE, move |rt| async move {
            let core = core(rt).await.expect("a second start");
            let says = Beat { group: "g".into(), member: "m".into(), epoch: before.epoch, owned: before.assigned, ..Beat::default() };
            let beaten = core.beat_consumer(says).await.expect("it serves").expect("it is known");
            assert_eq!((beaten.epoch, beaten.assigned), (before.epoch, None), "nothing has changed");
            core.commit_group(speaker(before.epoch), at(16)).await.expect("it serves").expect("kept");
            let told = core.fetch_group(speaker(before.epoch)).await.expect("it serves").expect("a member may ask");
            assert_eq!(told.0.positions.first().map(|p| p.offset), Some(16));
            assert!(core.fetch_group(speaker(before.epoch + 1)).await.expect("it serves").is_err());
            let leaves = Beat { group: "g".into(), member: "m".into(), epoch: -1, ..Beat::default() };
            core.beat_consumer(leaves).await.expect("it serves").expect("it has left");
            assert_eq!(core.described_consumer("g".into()).await.expect("it serves"), None);
        });
        after.expect("it runs to its end");
    });
}
