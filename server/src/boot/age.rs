//! The file `age` of the data directory: how often the node has counted its disk up, see [`crate::catalog::Age`], and whether its journals have begun.
//!
//! ```text
//!   0  8  magic "MPAGE\0\0\0"    8  8  count    16  4  begun 0 or 1    20  4  CRC-32C of bytes 0 to 20, then zeros to 4096
//! ```
//!
//! All little-endian. It is replaced as a whole ([`super::block`]). Without it the count is 0: a node that has never counted, or one that the cluster
//! refuses if it knows better.

use super::block;
use crate::node::shared::StartFailed;
use bytes::BufMut;
use millpond_runtime::{Rt, codec::Reader};
use std::path::Path;

const NAME: &str = "age";
const MAGIC: &[u8; 8] = b"MPAGE\0\0\0";
const HEAD_BYTES: usize = 20;

/// What the file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// How often the disk was counted up.
    pub(super) count: u64,
    /// The catalog's log has been on it: if it is not there, it was lost.
    pub(super) begun: bool,
}

fn encode(Counted { count, begun }: Counted) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + 4);
    out.put_slice(MAGIC);
    out.put_u64_le(count);
    out.put_u32_le(u32::from(begun));
    out.put_u32_le(crc32c::crc32c(&out));
    out
}

fn decode(bytes: &[u8]) -> Result<Counted, String> {
    let read = || {
        let mut reader = Reader::new(bytes);
        Ok::<_, millpond_runtime::codec::Short>((reader.take(8)?, reader.u64()?, reader.u32()?, reader.u32()?))
    };
    let (magic, count, begun, crc) = read().map_err(|short| short.to_string())?;
    if magic != MAGIC {
        return Err("it does not begin as the file of a disk's age does".into());
    }
    if crc32c::crc32c(&bytes[..HEAD_BYTES]) != crc {
        return Err("its checksum is wrong".into());
    }
    Ok(Counted { count, begun: begun != 0 })
}

/// Counts the disk up by one, and says what it has come to once that is on stable media.
pub(super) async fn count_up<R: Rt>(rt: &R, data: &Path) -> Result<Counted, StartFailed> {
    change(rt, data, |before| Some(Counted { count: before.count.checked_add(1)?, ..before })).await
}

/// Notes that the journals have begun.
pub(super) async fn begin<R: Rt>(rt: &R, data: &Path) -> Result<Counted, StartFailed> {
    change(rt, data, |before| Some(Counted { begun: true, ..before })).await
}

async fn change<R: Rt>(rt: &R, data: &Path, to: impl Fn(Counted) -> Option<Counted>) -> Result<Counted, StartFailed> {
    let path = data.join(NAME);
    let failed = |why: String| {
        StartFailed::new(format!("cannot change {}", path.display()), why, "check the disk; if the file is damaged restore it from a copy")
    };
    let before = read(rt, &path).await.map_err(failed)?;
    let now = to(before).ok_or_else(|| failed("it has come to its end".into()))?;
    block::replace(rt, data, NAME, encode(now)).await.map_err(|e| failed(e.to_string()))?;
    Ok(now)
}

async fn read<R: Rt>(rt: &R, path: &Path) -> Result<Counted, String> {
    let bytes = block::read(rt, path).await.map_err(|e| e.to_string())?;
    bytes.map_or_else(|| Ok(Counted::default()), |bytes| decode(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::tests::{NODE, config};
    use millpond_runtime::sim::{Sim, for_seeds};

    fn counted(sim: &Sim) -> u64 {
        let count = |rt: millpond_runtime::sim::SimRt| async move {
            rt.create_dir_all(&config().data).await.expect("made");
            count_up(&rt, &config().data).await.expect("counted").count
        };
        sim.block_on(NODE, count).expect("it runs to its end")
    }

    #[test]
    fn a_count_that_was_told_is_never_told_again() {
        for_seeds(100, |seed| {
            let sim = Sim::new(seed);
            // The name of the directory is the node's own business.
            assert_eq!(counted(&sim), 1);
            let synced = sim.block_on(NODE, |rt| async move { rt.sync_dir(Path::new("/")).await });
            synced.expect("it runs to its end").expect("synced");
            let told = std::rc::Rc::new(std::cell::Cell::new(1));
            let tell = std::rc::Rc::clone(&told);
            sim.node(NODE).start(millpond_runtime::CoreId(0), |rt| async move {
                for _ in 0..20 {
                    tell.set(count_up(&rt, &config().data).await.expect("counted").count);
                }
            });
            let _ = sim.run_for(std::time::Duration::from_micros(seed * 100));
            sim.crash(NODE);
            sim.restart(NODE);
            assert!(counted(&sim) > told.get());
        });
    }

    #[test]
    fn damage_is_told() {
        let counted = Counted { count: 7, begun: true };
        let good = encode(counted);
        assert_eq!(decode(&good), Ok(counted));
        for at in 0..HEAD_BYTES + 4 {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(decode(&bad).is_err(), "byte {at}");
        }
        assert!(decode(&good[..10]).is_err());
    }
}
