//! Who the node is: the file `node` of the data directory, one block, written at the first start and when homes are added.
//!
//! ```text
//!   0  8  magic "MPNODE\0\0"     8  4  version 1     12  2  homes     14  2  zero
//!  16  8  cluster id           24  8  node id       32  4  CRC-32C of bytes 0 to 32, then zeros to 4096
//! ```
//!
//! All little-endian. It is replaced as a whole ([`super::block`]); so a home exists only if
//! the file says so. A directory with homes and without this file is refused: a new identity would orphan its records.

use super::block;
use crate::{
    catalog::FOUNDER,
    node::{
        NodeConfig,
        shared::{Identity, StartFailed},
    },
};
use bytes::BufMut;
use millpond_runtime::{IoError, Rt, codec::Reader, limits::BLOCK_BYTES};
use millpond_wire::messages::JoinReply;
use std::path::Path;

const NAME: &str = "node";
const MAGIC: &[u8; 8] = b"MPNODE\0\0";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 32;
/// Most homes of a node.
pub const HOMES_MAX: u16 = 1_024;

/// The directory of a home.
#[must_use]
pub fn home_name(home: u16) -> String {
    format!("core-{home:02}")
}

/// The bytes of the file.
#[must_use]
pub fn encode(identity: Identity) -> Vec<u8> {
    let mut out = Vec::with_capacity(BLOCK_BYTES);
    out.put_slice(MAGIC);
    out.put_u32_le(VERSION);
    out.put_u16_le(identity.homes);
    out.put_u16_le(0);
    out.put_u64_le(identity.cluster_id);
    out.put_u64_le(identity.node_id);
    out.put_u32_le(crc32c::crc32c(&out));
    out.resize(BLOCK_BYTES, 0);
    out
}

/// Whether these bytes are meant to be such a file.
#[must_use]
pub fn is_it(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Reads the bytes of the file, or says what is wrong with them.
pub fn decode(bytes: &[u8]) -> Result<Identity, String> {
    let read = || {
        let mut reader = Reader::new(bytes);
        let head = (reader.take(8)?, reader.u32()?, reader.u16()?, reader.u16()?, reader.u64()?, reader.u64()?, reader.u32()?);
        Ok::<_, millpond_runtime::codec::Short>(head)
    };
    let (magic, version, homes, _, cluster_id, node_id, crc) = read().map_err(|short| short.to_string())?;
    if magic != MAGIC {
        return Err("it does not begin as the file of a node does".into());
    }
    if crc32c::crc32c(&bytes[..HEAD_BYTES]) != crc {
        return Err("its checksum is wrong".into());
    }
    if version != VERSION {
        return Err(format!("it has version {version}, this is version {VERSION}"));
    }
    if !(1..=HOMES_MAX).contains(&homes) {
        return Err(format!("it tells of {homes} homes"));
    }
    Ok(Identity { cluster_id, node_id, homes })
}

/// Reads who the node is; decides it at the first start, or has the cluster that it is to be a part of say it (`joined` is what that has said); and
/// adds homes where there are more cores than homes.
pub async fn establish<R: Rt>(rt: &R, config: &NodeConfig, cores: usize, joined: &mut Option<JoinReply>) -> Result<Identity, StartFailed> {
    let data = &config.data;
    let failed = |e: IoError| {
        StartFailed::new(format!("cannot use the data directory {}", data.display()), e, "check who may write there, and the disk")
    };
    rt.create_dir_all(data).await.map_err(failed)?;
    let cores = u16::try_from(cores).unwrap_or(u16::MAX).min(HOMES_MAX);
    let mut identity = match read(rt, data).await? {
        Some(identity) => identity,
        None => {
            let names = rt.list(data).await.map_err(failed)?;
            if names.iter().any(|name| name.starts_with("core-")) {
                let why = format!("it holds records, and the file {NAME} that says whose they are is missing");
                return Err(StartFailed::new(
                    format!("cannot use {}", data.display()),
                    why,
                    "restore the file, or choose another directory with --data",
                ));
            }
            let identity = begin(rt, config, cores, joined).await?;
            block::replace(rt, data, NAME, encode(identity)).await.map_err(failed)?;
            tracing::info!(data = %data.display(), cluster = identity.cluster(), node = identity.node_id, "a new node");
            return Ok(identity);
        }
    };
    if identity.homes < cores {
        tracing::info!(before = identity.homes, now = cores, "there are more cores than homes: new partitions will use all");
        identity.homes = cores;
        block::replace(rt, data, NAME, encode(identity)).await.map_err(failed)?;
    }
    Ok(identity)
}

/// Who a node is that has not been anybody yet.
async fn begin<R: Rt>(rt: &R, config: &NodeConfig, cores: u16, joined: &mut Option<JoinReply>) -> Result<Identity, StartFailed> {
    if config.join.is_empty() {
        // 0 stands for "no cluster" elsewhere.
        return Ok(Identity { cluster_id: rt.rand().max(1), node_id: FOUNDER, homes: cores });
    }
    let reply = super::join::ask(rt, config, None, usize::from(cores)).await?;
    let homes = u16::try_from(reply.homes).ok().filter(|homes| (1..=HOMES_MAX).contains(homes));
    let Some(homes) = homes.filter(|_| reply.node_id > FOUNDER && reply.meta_replica != 0 && reply.cluster_id != 0) else {
        return Err(StartFailed::new("cannot join the cluster", "its answer makes no sense", "use the same version on all nodes"));
    };
    let identity = Identity { cluster_id: reply.cluster_id, node_id: reply.node_id, homes };
    *joined = Some(reply);
    Ok(identity)
}

/// Reads who the node is, if it is anybody.
pub(super) async fn read<R: Rt>(rt: &R, data: &Path) -> Result<Option<Identity>, StartFailed> {
    let path = data.join(NAME);
    let failed = |why: String| {
        StartFailed::new(format!("cannot read {}", path.display()), why, "restore the file from a copy; the records are untouched")
    };
    let bytes = block::read(rt, &path).await.map_err(|e| failed(e.to_string()))?;
    bytes.map(|bytes| decode(&bytes)).transpose().map_err(failed)
}

#[cfg(test)]
mod tests;
