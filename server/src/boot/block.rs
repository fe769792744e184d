//! A small file that is one block and is replaced as a whole: written beside, synced, renamed, and the directory synced. So it says what it said before, or what it was to
//! say, wherever the power goes.

use bytes::BufMut;
use millpond_runtime::{File as _, IoBuf, IoError, Open, Rt, limits::BLOCK_BYTES};
use std::{io, path::Path};

/// What such a file is called while it is written beside the one that it replaces.
pub(super) fn name_new(name: &str) -> String {
    format!("{name}.new")
}

/// Its bytes; none if there is no such file. What is wrong with them is for the caller to find.
pub(super) async fn read<R: Rt>(rt: &R, path: &Path) -> Result<Option<Vec<u8>>, IoError> {
    let file = match rt.open(path, Open::Read).await {
        Ok(file) => file,
        Err(IoError::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes = file.read_at(0, BLOCK_BYTES).await?.to_vec();
    file.close().await?;
    Ok(Some(bytes))
}

/// Has it consist of these bytes, at most a block, and zeros. They are on stable media when this returns.
pub(super) async fn replace<R: Rt>(rt: &R, dir: &Path, name: &str, mut bytes: Vec<u8>) -> Result<(), IoError> {
    assert!(bytes.len() <= BLOCK_BYTES, "{} bytes of {name} are more than a block", bytes.len());
    bytes.put_bytes(0, BLOCK_BYTES - bytes.len());
    let (new, name) = (dir.join(name_new(name)), dir.join(name));
    let file = rt.open(&new, Open::Create).await?;
    let mut buf = file.buf(BLOCK_BYTES);
    buf.put(&bytes);
    file.write_at(0, buf).await?;
    file.sync().await?;
    file.close().await?;
    rt.rename(&new, &name).await?;
    rt.sync_dir(dir).await
}
