//! A node of one core in the simulator, for tests of what runs on it.

use super::*;
use millpond_runtime::{
    NodeId,
    mailbox::mailbox,
    sim::{Sim, SimRt},
};
use std::path::PathBuf;

/// The node of a simulation that tests start.
pub(crate) const NODE: NodeId = NodeId(1);

/// Small enough to be made in no time.
pub(crate) fn config() -> NodeConfig {
    NodeConfig {
        data: PathBuf::from("/data"),
        listen: SocketAddr::from(([127, 0, 0, 1], 7400)),
        advertise: "localhost".into(),
        log: LogConfig {
            journal_file_bytes: 1 << 20,
            journal_files_max: 4,
            flush_bytes_max: 1 << 16,
            disk_reserve_bytes: 0,
            ..LogConfig::default()
        },
        raft: millpond_raft::RaftConfig::default(),
        ip: std::net::IpAddr::from([127, 0, 0, 1]),
        tls: false,
        authenticate: false,
        strangers: crate::security::Strangers::new(&[0; 32]),
        rack: String::new(),
        join: Vec::new(),
        replace: None,
        memory_bytes: 64 << 20,
        partitions_default: 1,
        connections_max: 10,
        security: crate::node::config::Security::default(),
    }
}

/// Starts a core, up to where its doors would be opened.
pub(crate) async fn core(rt: SimRt) -> Result<Rc<Core<SimRt>>, StartFailed> {
    let (config, shared) = (Arc::new(config()), Arc::new(Shared::new()));
    let (calls, called) = mailbox(crate::node::mesh::DEPTH);
    let identity = identity::establish(&rt, &config, 1, &mut None).await?;
    let logs = open_homes(&rt, &config, identity, 1).await?;
    let core = Core::new(rt, config, shared, identity, logs, vec![calls]);
    core.answer_calls(called);
    know(&core, None, false).await?;
    Ok(core)
}

#[test]
fn a_node_finds_itself_after_a_power_cut() {
    let sim = Sim::new(1);
    let start = || sim.block_on(NODE, |rt| async move { core(rt).await.map(|core| (core.identity, core.catalog.borrow().partitions())) });
    let before = start().expect("it runs").expect("a first start");
    sim.crash(NODE);
    sim.restart(NODE);
    assert_eq!(start().expect("it runs").expect("a second start"), before);
}
