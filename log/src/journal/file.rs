//! Journal files by name: made of zeros, prepared, retired, used again.
//!
//! | name | what |
//! |---|---|
//! | `NNNNNNNN.jnl` | live or prepared: its header is valid and synced, and its number is the name's |
//! | `NNNNNNNN.spare` | written once from end to end, not in use; its header says so, or means nothing |
//! | `*.tmp` | in the making; removed at start |
//!
//! A file is written with zeros from end to end before it gets a name that counts, so that no flush ever has to
//! allocate: it can neither meet a full disk nor make the sync record new extents. A name is changed before the
//! contents are, and the directory is synced between, so that whatever a crash leaves under `.jnl` is whole.
//!
//! After a sync of the directory that failed, a change of a name may be seen and yet never last: the disk has given it up, and no later sync says so. The next
//! power cut brings the old name back, for a file that may have had other uses since. So a file that is in no use says so itself: it is [marked](mark) once its
//! name has changed, and a start marks all spare files anew. Recovery tells an old name by that, or by a header of another number and a nonce that
//! another name has, too, and removes it.

use super::format::{FIRST_FLUSH, FileHeader, NOT_IN_USE};
use crate::error::Result;
use millpond_runtime::{File, IoBuf, Open, Rt, limits::BLOCK_BYTES};
use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

/// Whoever writes beside it waits no longer than for a write of so many bytes.
const ZEROS_AT_ONCE: u64 = 256 << 10;

/// A file that flushes may go to.
pub struct JournalFile<R: Rt> {
    /// What its block 0 says.
    pub header: FileHeader,
    /// Its path.
    pub path: PathBuf,
    /// The open file.
    pub file: R::File,
}

/// What a name in the journal's directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// A live or prepared file.
    Journal(u64),
    /// A file to be used again.
    Spare(u64),
    /// A file in the making.
    Unfinished,
    /// Not ours.
    Foreign,
}

/// Reads a name.
#[must_use]
pub fn parse_name(name: &str) -> Name {
    let Some((stem, ext)) = name.rsplit_once('.') else { return Name::Foreign };
    let seq = || stem.parse::<u64>().ok().filter(|seq| *seq > 0 && format!("{seq:08}") == stem);
    match ext {
        "tmp" => Name::Unfinished,
        "jnl" => seq().map_or(Name::Foreign, Name::Journal),
        "spare" => seq().map_or(Name::Foreign, Name::Spare),
        _ => Name::Foreign,
    }
}

/// The name of a live or prepared file.
#[must_use]
pub fn journal_path(dir: &Path, seq: u64) -> PathBuf {
    dir.join(format!("{seq:08}.jnl"))
}

/// The name of a file to be used again.
#[must_use]
pub fn spare_path(dir: &Path, seq: u64) -> PathBuf {
    dir.join(spare_name(seq))
}

/// The name alone.
#[must_use]
pub fn spare_name(seq: u64) -> String {
    format!("{seq:08}.spare")
}

/// Makes a spare file of zeros, and waits before each piece as long as `turn` does, which is told how many bytes are written. On an error nothing is left of it.
pub async fn make_spare<R: Rt>(rt: &R, dir: &Path, seq: u64, len: u64, turn: impl AsyncFn(u64)) -> Result<()> {
    let tmp = dir.join(format!("{seq:08}.tmp"));
    let made = write_zeros(rt, &tmp, len, turn).await;
    if let Err(error) = made {
        // A full disk must not stay full on our account; if removing fails too, the next start removes it.
        let _ = rt.remove(&tmp).await;
        return Err(error);
    }
    rt.rename(&tmp, &spare_path(dir, seq)).await?;
    rt.sync_dir(dir).await?;
    Ok(())
}

async fn write_zeros<R: Rt>(rt: &R, path: &Path, len: u64, turn: impl AsyncFn(u64)) -> Result<()> {
    let file = rt.open(path, Open::Create).await?;
    let mut at = 0;
    while at < len {
        turn(at).await;
        let piece = ZEROS_AT_ONCE.min(len - at) as usize;
        let mut buf = file.buf(piece);
        buf.put_zeros(piece);
        file.write_at(at, buf).await?;
        at += piece as u64;
        rt.yield_if_needed().await;
    }
    file.sync().await?;
    file.close().await?;
    Ok(())
}

/// Gives a spare file a new life under `header.file_seq`: its header, then its name. Durable when this returns.
pub async fn prepare<R: Rt>(rt: &R, dir: &Path, spare: u64, header: FileHeader) -> Result<JournalFile<R>> {
    let from = spare_path(dir, spare);
    let file = rt.open(&from, Open::ReadWrite).await?;
    let mut block = file.buf(BLOCK_BYTES);
    block.put(&header.encode());
    block.pad_to_block();
    file.write_at(0, block).await?;
    file.sync().await?;
    file.close().await?;
    let path = journal_path(dir, header.file_seq);
    rt.rename(&from, &path).await?;
    rt.sync_dir(dir).await?;
    let file = rt.open(&path, Open::ReadWrite).await?;
    Ok(JournalFile { header, path, file })
}

/// Says in a spare file that it is in no use, whatever name of it comes back. Durable when this returns.
pub async fn mark<R: Rt>(rt: &R, dir: &Path, spare: u64, header: FileHeader) -> Result<()> {
    let file = rt.open(&spare_path(dir, spare), Open::ReadWrite).await?;
    let mut block = file.buf(BLOCK_BYTES);
    block.put(&FileHeader { file_seq: NOT_IN_USE, ..header }.encode());
    block.pad_to_block();
    file.write_at(0, block).await?;
    file.sync().await?;
    file.close().await?;
    Ok(())
}

/// Takes a live file out of use: its name changes, then its header says so, too. Both last when this returns.
pub async fn retire<R: Rt>(rt: &R, dir: &Path, file: Rc<JournalFile<R>>) -> Result<u64> {
    let header = file.header;
    let seq = header.file_seq;
    if let Some(file) = Rc::into_inner(file) {
        file.file.close().await?;
    }
    rt.rename(&journal_path(dir, seq), &spare_path(dir, seq)).await?;
    rt.sync_dir(dir).await?;
    mark(rt, dir, seq, header).await?;
    Ok(seq)
}

/// Bytes of a file of this length that flushes may fill.
#[must_use]
pub fn usable(file_len: u64) -> u64 {
    file_len.saturating_sub(FIRST_FLUSH)
}
