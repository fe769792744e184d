use super::*;

fn config(memory_bytes: usize) -> NodeConfig {
    NodeConfig {
        data: PathBuf::from("/data"),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        advertise: "localhost".into(),
        log: LogConfig::default(),
        raft: RaftConfig::default(),
        ip: IpAddr::from([127, 0, 0, 1]),
        tls: false,
        authenticate: false,
        strangers: crate::security::Strangers::new(&[0; 32]),
        rack: String::new(),
        join: Vec::new(),
        replace: None,
        memory_bytes,
        partitions_default: 1,
        connections_max: 100_000,
        security: Security::default(),
    }
}

#[test]
fn what_is_handed_out_leaves_a_reserve() {
    for memory in [0, 128 << 20, 1 << 30, 64 << 30] {
        for (cores, homes) in [(1, 1), (2, 2), (2, 8), (16, 16), (64, 64)] {
            let plan = config(memory).memory_plan(cores, homes);
            let memory = memory.max(MEMORY_PER_CORE_MIN * cores);
            let all = plan.tail * homes + plan.total(0) * cores;
            assert!(all <= memory / 32 * 28 && all >= memory / 32 * 26, "{all} of {memory} for {cores} cores: {plan:?}");
            assert!(plan.arriving - plan.frame_bytes_max() >= plan.frame_bytes_max(), "a frame fits into the pool and into the lane");
            assert!(plan.frame_bytes_max() > 2 * millpond_runtime::limits::BATCH_BYTES_MAX);
            assert!(plan.fetch_bytes_max() * 8 <= plan.leaving);
            for home in 0..homes as u16 {
                config(memory).log_config(home, cores, homes).check().expect("a log of it can be opened");
            }
        }
    }
}
