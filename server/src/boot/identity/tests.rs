use super::*;
use crate::boot::tests::{NODE, config, core};
use millpond_runtime::{
    File as _, IoBuf, Open,
    sim::{Sim, for_seeds},
};
use proptest::prelude::*;
use std::path::PathBuf;

const IDENTITY: Identity = Identity { cluster_id: 0x0123_4567_89ab_cdef, node_id: 1, homes: 3 };

fn file() -> PathBuf {
    config().data.join(NAME)
}

fn established(sim: &Sim, cores: usize) -> Result<Identity, StartFailed> {
    sim.block_on(NODE, move |rt| async move { establish(&rt, &config(), cores, &mut None).await }).expect("it runs to its end")
}

fn power_cut(sim: &Sim) {
    sim.crash(NODE);
    sim.restart(NODE);
}

/// Puts these bytes in the place of the file.
fn put(sim: &Sim, bytes: Vec<u8>) {
    let done = sim.block_on(NODE, |rt| async move {
        let file = rt.open(&file(), Open::Create).await?;
        let mut buf = file.buf(BLOCK_BYTES);
        buf.put(&bytes);
        buf.pad_to_block();
        file.write_at(0, buf).await?;
        file.sync().await
    });
    done.expect("it runs to its end").expect("written");
}

/// With a checksum that is right again.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes[..HEAD_BYTES]);
    bytes[HEAD_BYTES..HEAD_BYTES + 4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The refusal of a start with these bytes: what was done, and what came of it.
fn refusal(bytes: Vec<u8>) -> (String, String) {
    let sim = Sim::new(1);
    established(&sim, 2).expect("a first start");
    put(&sim, bytes);
    let before = sim.node(NODE).disk().read(&file(), 0, BLOCK_BYTES).expect("there");
    let failed = established(&sim, 2).expect_err("refused");
    assert!(failed.advice.contains("restore the file from a copy"), "{failed:?}");
    let after = sim.node(NODE).disk().read(&file(), 0, BLOCK_BYTES).expect("there");
    assert!(before == after, "a file that is refused is left as it is");
    (failed.doing, failed.why)
}

#[test]
fn an_identity_is_decided_once() {
    for_seeds(20, |seed| {
        let sim = Sim::new(seed);
        let first = established(&sim, 2).expect("a first start");
        assert_eq!((first.node_id, first.homes), (1, 2));
        assert_ne!(first.cluster_id, 0);
        assert_eq!(established(&sim, 2).expect("a second start"), first);
        assert_ne!(established(&Sim::new(seed + 1_000), 2).expect("another node"), first);
    });
}

/// The power goes at any moment of a first start: the next one finds an identity, or decides one, and from then on it stays.
#[test]
fn a_first_start_that_is_cut_off_is_no_obstacle() {
    for_seeds(200, |seed| {
        let sim = Sim::new(seed);
        let told = std::rc::Rc::new(std::cell::Cell::new(None));
        let tell = std::rc::Rc::clone(&told);
        sim.node(NODE).start(millpond_runtime::CoreId(0), |rt| async move {
            let core = core(rt).await.expect("a first start");
            tell.set(Some(core.identity));
        });
        // Now and then past the end, so that what is told is held against what is found.
        let within = std::time::Duration::from_micros(seed * seed * 2);
        let _ = sim.run_for(within);
        power_cut(&sim);
        let found = established(&sim, 1).expect("a second start");
        assert!(told.get().is_none_or(|told| told == found), "the node serves under an identity that is lost");
        power_cut(&sim);
    });
}

#[test]
fn homes_are_added_and_never_taken_away() {
    let sim = Sim::new(1);
    let first = established(&sim, 2).expect("a first start");
    let grown = established(&sim, 5).expect("on more cores");
    // The name of the directory itself is synced with the first home.
    let synced = sim.block_on(NODE, |rt| async move { rt.sync_dir(Path::new("/")).await });
    synced.expect("it runs to its end").expect("synced");
    assert_eq!(grown, Identity { homes: 5, ..first });
    power_cut(&sim);
    assert_eq!(established(&sim, 1).expect("on fewer cores"), grown);
}

#[test]
fn records_without_an_identity_are_refused() {
    let sim = Sim::new(1);
    sim.block_on(NODE, |rt| async move { core(rt).await.map(drop) }).expect("it runs to its end").expect("a first start");
    sim.node(NODE).disk().lose_name(&file()).expect("there");
    let failed = established(&sim, 1).expect_err("whose are the records?");
    assert_eq!(failed.to_string(), "cannot use /data: it holds records, and the file node that says whose they are is missing");
    assert_eq!(failed.advice, "restore the file, or choose another directory with --data");
    assert!(sim.node(NODE).disk().read(&file(), 0, 1).is_err(), "none is made up");
}

#[test]
fn the_records_of_another_node_are_refused() {
    for (what, foreign) in
        [("cluster", Identity { cluster_id: 77, node_id: 1, homes: 1 }), ("node", Identity { cluster_id: 0, node_id: 2, homes: 1 })]
    {
        let sim = Sim::new(1);
        let start = || sim.block_on(NODE, |rt| async move { core(rt).await.map(|core| core.identity) }).expect("it runs to its end");
        let ours = start().expect("a first start");
        power_cut(&sim);
        let cluster_id = if foreign.cluster_id == 0 { ours.cluster_id } else { foreign.cluster_id };
        let (was, is) = match what {
            "cluster" => (ours.cluster_id, cluster_id),
            _ => (ours.node_id, foreign.node_id),
        };
        put(&sim, encode(Identity { cluster_id, ..foreign }));
        let failed = start().expect_err("the records are of another one");
        assert_eq!(failed.doing, "cannot open /data/core-00");
        assert!(failed.why.ends_with(&format!("is not ours: it says {what} {was}, expected {is}")), "{}", failed.why);
        assert_eq!(failed.advice, "check that the data directory belongs to this node and this version of millpond");
        // With its own file again, nothing was harmed.
        put(&sim, encode(ours));
        assert_eq!(start().expect("its own"), ours);
    }
}

#[test]
fn damage_is_told_and_left_alone() {
    let good = encode(IDENTITY);
    let why = |bytes| {
        let (doing, why) = refusal(bytes);
        assert_eq!(doing, "cannot read /data/node");
        why
    };
    assert_eq!(why(vec![0; BLOCK_BYTES]), "it does not begin as the file of a node does");
    assert_eq!(why(b"{}".to_vec()), "it does not begin as the file of a node does");
    let mut flipped = good.clone();
    flipped[20] ^= 1;
    assert_eq!(why(flipped), "its checksum is wrong");
    let mut later = good.clone();
    later[8] = 2;
    assert_eq!(why(sealed(later)), "it has version 2, this is version 1");
    let homes = |homes: u16| encode(Identity { homes, ..IDENTITY });
    assert_eq!(why(homes(0)), "it tells of 0 homes");
    assert_eq!(why(homes(HOMES_MAX + 1)), "it tells of 1025 homes");
    assert_ne!(why(Vec::new()), "", "an empty file");
}

#[test]
fn a_file_that_was_not_finished_counts_for_nothing() {
    let sim = Sim::new(1);
    let ours = established(&sim, 1).expect("a first start");
    let half = sim.block_on(NODE, |rt| async move { rt.open(&config().data.join(block::name_new(NAME)), Open::Create).await.map(drop) });
    half.expect("it runs to its end").expect("made");
    assert_eq!(established(&sim, 1).expect("a second start"), ours);
    assert_eq!(established(&sim, 2).expect("which writes it anew").cluster_id, ours.cluster_id);
}

proptest! {
    #[test]
    fn what_is_written_is_read(cluster_id: u64, node_id: u64, homes in 1..=HOMES_MAX) {
        let identity = Identity { cluster_id, node_id, homes };
        let bytes = encode(identity);
        prop_assert!(bytes.len() == BLOCK_BYTES && is_it(&bytes));
        prop_assert_eq!(decode(&bytes), Ok(identity));
    }

    #[test]
    fn no_bit_of_the_head_may_flip(bit in 0..(HEAD_BYTES + 4) * 8) {
        let mut bytes = encode(IDENTITY);
        bytes[bit / 8] ^= 1 << (bit % 8);
        decode(&bytes).expect_err("damaged");
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        prop_assert!(decode(&bytes).is_err());
    }
}
