use super::*;
use crate::{
    boot::tests::{NODE, core},
    catalog::{Home, TopicSettings},
};
use millpond_batch::{Builder, Compression, builder::NO_HEADERS};
use millpond_log::GroupConfig;
use millpond_raft::Membership;
use millpond_runtime::{NodeId, sim::Sim};
use std::collections::BTreeMap;

/// The writer asks whether an answer is ready, and takes it without waiting: an entry that is lost sight of is ready, and is no success.
#[test]
fn a_batch_whose_leader_is_gone_is_not_acknowledged() {
    let sim = Sim::new(1);
    let results = sim.block_on(NODE, |rt| async move {
        let core = core(rt).await.expect("it starts");
        let (group, home) = (GroupId(99), Home(0));
        let (log, driver) = (core.logs[&home].clone(), core.drivers[&home].clone());
        let members = Membership::first(7, BTreeMap::from([(7, NodeId(1))]));
        driver.create(group, GroupConfig::default(), &members).expect("created");
        driver.campaign(group);
        let partition = Partition::new(group, log.clone(), driver.clone(), &TopicSettings::default());
        while partition.serves().is_err() {
            core.rt.sleep(Duration::from_millis(1)).await;
        }
        let append = || {
            let mut builder = Builder::new(Compression::None, 64);
            builder.append(1, None, Some(b"value"), NO_HEADERS);
            let batch = builder.build(None).expect("no codec");
            let header = check_produced(&batch).expect("just built");
            Outcome::Here(log.clone(), partition.append(batch, header, 1).expect("it leads"))
        };
        let kept = append();
        while !kept.is_ready() {
            core.rt.sleep(Duration::from_millis(1)).await;
        }
        let (lost, mut lost_too) = (append(), append());
        driver.close(group);
        assert!(lost.is_ready());
        lost_too.settle().await;
        [kept, lost, lost_too].map(Outcome::into_result)
    });
    let [kept, lost, lost_too] = results.expect("it runs");
    assert_eq!((kept.base_offset, kept.failure), (0, None));
    for lost in [lost, lost_too] {
        assert_eq!(lost.failure.map(|failure| failure.code()), Some(Code::MaybeDone));
    }
}
