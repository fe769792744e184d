//! What a start makes of the journal's directory. Reads, decides with [`super::walk`], changes nothing but names:
//! unfinished files go, and old names that a power cut has brought back ([`super::file`]). A torn flush is cut by [`defuse`], whose steps leave it torn until it is gone, so recovery can crash
//! anywhere and be run again.
//!
//! The live files are a contiguous run of numbers, and each begins with a complete checkpoint; number 1 may hold nothing at all,
//! if the journal was never synced, and the last one is given up if its checkpoint was cut short. Flush numbers run on from file to file; the journal ends where the next number is
//! not found and nothing later proves that it once was there.

use super::{
    file::{JournalFile, Name, journal_path, parse_name, retire, spare_path},
    format::{FIRST_FLUSH, FLUSH_HEADER_BYTES, FileHeader, FlushHeader, FormatError, Frames, NOT_IN_USE},
    replay::Replay,
    sector::{SECTOR_BYTES, disarm, place},
    walk::{Chain, Fault, Look, Proof, find_proof, look, read_body},
};
use crate::{
    config::LogConfig,
    error::{LogError, Result},
    log::TornTail,
};
use millpond_runtime::{File, IoBuf, Open, Rt, limits::BLOCK_BYTES};
use std::{collections::BTreeSet, ops::Range, path::Path, rc::Rc};

/// Bytes read at once while walking and scanning.
const WINDOW_BYTES: usize = 1 << 20;

/// Everything that was found.
pub struct Found<R: Rt> {
    /// Files that hold flushes, oldest first, and whether their checkpoint is complete.
    pub live: Vec<(Rc<JournalFile<R>>, bool)>,
    /// Files behind them that hold none.
    pub prepared: Vec<Rc<JournalFile<R>>>,
    /// Files to be used again.
    pub spares: BTreeSet<u64>,
    /// Where the next flush goes in the last live file.
    pub position: u64,
    /// What it follows.
    pub chain: Chain,
    /// The groups, before their last checks.
    pub replay: Replay,
    /// A flush that was cut.
    pub torn: Option<TornTail>,
    /// The last file was given up.
    pub gave_up_file: bool,
    /// Flushes read.
    pub flushes: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// A file, with the piece of it that was read last.
struct Windowed<'a, R: Rt> {
    file: &'a JournalFile<R>,
    at: u64,
    bytes: Option<<R::File as File>::Read>,
    read: u64,
}

fn corrupt(file: &Path, position: u64, len: u64, what: String) -> LogError {
    LogError::Corrupt { file: file.to_path_buf(), position, len, what }
}

impl<'a, R: Rt> Windowed<'a, R> {
    fn new(file: &'a JournalFile<R>) -> Self {
        Self { file, at: 0, bytes: None, read: 0 }
    }

    /// At least `len` bytes at `position`, or what the file has of them; more if they were read anyway.
    async fn at(&mut self, position: u64, len: usize) -> Result<&[u8]> {
        let within = |at: u64, have: usize| -> Option<Range<usize>> {
            let from = usize::try_from(position.checked_sub(at)?).ok()?;
            (from + len <= have).then_some(from..have)
        };
        let have = self.bytes.as_ref().map_or(0, |bytes| bytes.len());
        let range = match within(self.at, have) {
            Some(range) => range,
            None => {
                let left = self.file.header.file_len.saturating_sub(position) as usize;
                let want = len.next_multiple_of(BLOCK_BYTES).max(WINDOW_BYTES).min(left);
                let read = self.file.file.read_at(position, want).await;
                let read = read.map_err(|error| corrupt(&self.file.path, position, want as u64, format!("unreadable: {error}")))?;
                self.read += read.len() as u64;
                self.at = position;
                0..self.bytes.insert(read).len()
            }
        };
        Ok(self.bytes.as_ref().map_or(&[], |bytes| &bytes[range]))
    }
}

/// Where and why a walk ended.
struct End {
    file: usize,
    position: u64,
    /// A flush with a good header and with sectors that were never written; without one, there is no flush of ours.
    suspect: Option<FlushHeader>,
}

/// Reads the whole journal. Nothing on disk is changed but names.
pub async fn recover<R: Rt>(rt: &R, dir: &Path, config: &LogConfig) -> Result<Found<R>> {
    let (seqs, spares) = list(rt, dir).await?;
    let mut files = open_all(rt, dir, &seqs, &spares, config).await?;
    let mut found = Found {
        live: Vec::new(),
        prepared: Vec::new(),
        spares,
        position: FIRST_FLUSH,
        chain: Chain { next_seq: 1, prev_crc: None },
        replay: Replay::at(rt.wall_ms()),
        torn: None,
        gave_up_file: false,
        flushes: 0,
        bytes: 0,
    };
    let Some(base) = files.first() else { return Ok(found) };
    if base.header.file_seq > 1 {
        found.chain.next_seq = first_seq(base).await?;
    }
    let (end, before_last) = walk_files(&files, &mut found).await?;
    refuse_proof(&files, &end, &found.chain).await?;
    let without = found.live.iter().position(|(_, checkpointed)| !checkpointed);
    let cut_short = without.is_some_and(|i| i > 0 && i + 1 == found.live.len());
    if (without.is_some() && !cut_short) || (found.live.is_empty() && base.header.file_seq > 1) {
        let file = &files[without.unwrap_or(0)];
        let what = "the checkpoint is damaged or missing; it was synced, since something follows it or the file before is gone";
        return Err(corrupt(&file.path, FIRST_FLUSH, file.header.file_len - FIRST_FLUSH, what.into()));
    }
    if let Some(header) = &end.suspect {
        let file = files[end.file].path.clone();
        found.torn = Some(TornTail { file, position: end.position, len: header.disk_len() });
    }
    found.prepared = files.split_off(found.live.len());
    drop(files);
    if cut_short {
        give_up_last(rt, dir, &mut found, before_last).await?;
    }
    Ok(found)
}

/// The power went while the last file's checkpoint was written, so nothing else is in it. It is given up, and those prepared behind
/// it: going on in it would leave a file that recovery cannot begin with. The journal ends where it did `before`.
async fn give_up_last<R: Rt>(rt: &R, dir: &Path, found: &mut Found<R>, before: (u64, Chain)) -> Result<()> {
    let last = found.live.pop().map(|(file, _)| file);
    // From the newest on: whatever a crash leaves is a run without a hole.
    for file in last.into_iter().chain(found.prepared.drain(..)).collect::<Vec<_>>().into_iter().rev() {
        found.spares.insert(retire(rt, dir, file).await?);
    }
    (found.position, found.chain) = before;
    found.gave_up_file = true;
    Ok(())
}

/// Makes a cut flush look like no flush at all, for two reasons. The next one may find no room in its place and go to another file: then
/// it must not seem to prove that this one was synced. And what is written over it may be torn inside a sector: see
/// [`super::sector`]. That is why its stamps go first, and its head after that is synced.
pub async fn defuse<R: Rt>(found: &Found<R>) -> Result<()> {
    let Some(torn) = &found.torn else { return Ok(()) };
    let mut files = found.live.iter().map(|(file, _)| file).chain(&found.prepared);
    let Some(file) = files.find(|file| file.path == torn.file) else {
        // Its file was given up.
        return Ok(());
    };
    let bytes = file.file.read_at(torn.position, torn.len as usize).await?;
    let (header, _) = FlushHeader::decode(&bytes)
        .map_err(|error| corrupt(&file.path, torn.position, torn.len, format!("it was read before, and now: {error}")))?;
    let mut stampless = file.file.buf(bytes.len());
    stampless.put(&bytes);
    disarm(&header.seal(), stampless.filled());
    let mut nothing = file.file.buf(BLOCK_BYTES);
    nothing.put_zeros(BLOCK_BYTES);
    for buf in [stampless, nothing] {
        file.file.write_at(torn.position, buf).await?;
        file.file.sync().await?;
    }
    Ok(())
}

/// Accepts flush after flush, file after file. Where that ended, and where it stood before the last file that holds any.
async fn walk_files<R: Rt>(files: &[Rc<JournalFile<R>>], found: &mut Found<R>) -> Result<(End, (u64, Chain))> {
    let mut i = 0;
    let mut before_last = (found.position, found.chain);
    loop {
        let file = &files[i];
        let before = (found.position, found.chain);
        let mut window = Windowed::new(file);
        found.replay.begin_file(file.header.file_seq, i == 0);
        let (position, suspect) = walk(&mut window, found).await?;
        found.bytes += window.read;
        if position > FIRST_FLUSH {
            found.live.push((file.clone(), found.replay.checkpointed()));
            found.position = position;
            before_last = before;
        }
        let end = End { file: i, position, suspect };
        let Some(next) = files.get(i + 1).filter(|_| end.suspect.is_none()) else { return Ok((end, before_last)) };
        let mut window = Windowed::new(next);
        match look(window.at(FIRST_FLUSH, BLOCK_BYTES).await?, &next.header, FIRST_FLUSH, &found.chain) {
            Look::Expected(..) if position > FIRST_FLUSH => i += 1,
            Look::Expected(..) | Look::Later(_) => return Err(missing(file, position, &found.chain, &next.path, FIRST_FLUSH)),
            Look::Unchained(_) => return Err(unchained(next, FIRST_FLUSH)),
            Look::Rotten(error) => return Err(rotten(next, FIRST_FLUSH, &error)),
            Look::Stale(_) | Look::Nothing(_) => return Ok((end, before_last)),
        }
    }
}

/// Accepts the flushes of one file. Where it ended, and the flush that it ended at, if its header is good.
async fn walk<R: Rt>(window: &mut Windowed<'_, R>, found: &mut Found<R>) -> Result<(u64, Option<FlushHeader>)> {
    let file = window.file;
    let mut position = FIRST_FLUSH;
    let mut body = Vec::new();
    while position + BLOCK_BYTES as u64 <= file.header.file_len {
        let (header, crc) = match look(window.at(position, BLOCK_BYTES).await?, &file.header, position, &found.chain) {
            Look::Expected(header, crc) => (header, crc),
            Look::Later(_) => return Err(missing(file, position, &found.chain, &file.path, position)),
            Look::Unchained(_) => return Err(unchained(file, position)),
            Look::Rotten(error) => return Err(rotten(file, position, &error)),
            Look::Stale(_) | Look::Nothing(_) => break,
        };
        let flush = window.at(position, header.disk_len() as usize).await?;
        body.clear();
        match read_body(&header, flush, &mut body) {
            Ok(()) => {}
            Err(Fault::Torn { .. }) => return Ok((position, Some(header))),
            Err(Fault::Rotten { position }) => {
                let what = format!("a sector of flush {} was written, and is not what was written", header.flush_seq);
                return Err(corrupt(&file.path, position, SECTOR_BYTES as u64, what));
            }
            Err(Fault::Senseless(error)) => return Err(senseless(file, position, header.disk_len(), &error)),
        }
        for frame in Frames::new(&body) {
            let frame = frame.map_err(|error| senseless(file, position, header.disk_len(), &error))?;
            let applied = found.replay.apply(&frame);
            applied.map_err(|error| {
                let at = position + place(FLUSH_HEADER_BYTES + frame.at) as u64;
                senseless(file, at, frame.payload.len() as u64, &error)
            })?;
        }
        found.chain = Chain { next_seq: found.chain.next_seq + 1, prev_crc: Some(crc) };
        found.flushes += 1;
        position += header.disk_len();
    }
    Ok((position, None))
}

/// Looks for anything later than where the walk ended: then that place was synced once, and is corrupt now.
async fn refuse_proof<R: Rt>(files: &[Rc<JournalFile<R>>], end: &End, chain: &Chain) -> Result<()> {
    let ended = &files[end.file];
    for (i, file) in files.iter().enumerate().skip(end.file) {
        let mut position = if i == end.file { end.position + BLOCK_BYTES as u64 } else { FIRST_FLUSH };
        let mut window = Windowed::new(file);
        while position + BLOCK_BYTES as u64 <= file.header.file_len {
            let bytes = window.at(position, BLOCK_BYTES).await?;
            if bytes.is_empty() {
                break;
            }
            if let Some(proof) = find_proof(bytes, &file.header, position, chain) {
                let proof = match proof {
                    Proof::Later(header) => header,
                    Proof::Rotten(at, error) => return Err(rotten(file, at, &error)),
                };
                return Err(match &end.suspect {
                    Some(header) => corrupt(
                        &ended.path,
                        end.position,
                        header.disk_len(),
                        format!(
                            "sectors of flush {} are missing; flush {} at byte {} of {} proves that it was synced",
                            header.flush_seq,
                            proof.flush_seq,
                            proof.position,
                            file.path.display()
                        ),
                    ),
                    None if i == end.file => missing(ended, end.position, chain, &file.path, proof.position),
                    // A later file holds flushes, so it once began with one.
                    None => missing(&files[end.file + 1], FIRST_FLUSH, chain, &file.path, proof.position),
                });
            }
            position += bytes.len() as u64 / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        }
    }
    Ok(())
}

fn missing<R: Rt>(file: &JournalFile<R>, position: u64, chain: &Chain, proof: &Path, at: u64) -> LogError {
    let len = if proof == file.path { at.saturating_sub(position) } else { file.header.file_len.saturating_sub(position) };
    let what = format!("flush {} is missing; a later flush at byte {at} of {} proves that it was synced", chain.next_seq, proof.display());
    corrupt(&file.path, position, len, what)
}

fn unchained<R: Rt>(file: &JournalFile<R>, position: u64) -> LogError {
    corrupt(&file.path, position, BLOCK_BYTES as u64, "the flush does not follow the one before it".into())
}

fn rotten<R: Rt>(file: &JournalFile<R>, position: u64, error: &FormatError) -> LogError {
    let what = format!("the header of a flush was written, and is not what was written: {error}");
    corrupt(&file.path, position, SECTOR_BYTES as u64, what)
}

fn senseless<R: Rt>(file: &JournalFile<R>, position: u64, len: u64, error: &FormatError) -> LogError {
    corrupt(&file.path, position, len, format!("checksums are right, but {error}"))
}

/// The number of the first flush of the oldest file.
async fn first_seq<R: Rt>(base: &JournalFile<R>) -> Result<u64> {
    let mut window = Windowed::new(base);
    let block = window.at(FIRST_FLUSH, BLOCK_BYTES).await?;
    match FlushHeader::decode(block) {
        Ok((header, _)) if header.belongs(&base.header, FIRST_FLUSH) => Ok(header.flush_seq),
        Ok(_) => Err(corrupt(&base.path, FIRST_FLUSH, BLOCK_BYTES as u64, "the first flush is of another place".into())),
        Err(error) => Err(corrupt(&base.path, FIRST_FLUSH, BLOCK_BYTES as u64, format!("the first flush: {error}"))),
    }
}

/// Opens the files, which are a run. Old names that have come back are not among them, and go.
async fn open_all<R: Rt>(rt: &R, dir: &Path, seqs: &[u64], spares: &BTreeSet<u64>, config: &LogConfig) -> Result<Vec<Rc<JournalFile<R>>>> {
    let (mut files, mut others) = (Vec::new(), Vec::new());
    for &seq in seqs {
        let file = open(rt, dir, seq, config).await?;
        if file.header.file_seq == seq {
            files.push(Rc::new(file));
        } else {
            others.push((seq, file));
        }
    }
    for (seq, JournalFile { header, path, file }) in others {
        file.close().await?;
        let known = header.file_seq == NOT_IN_USE || files.iter().any(|file| file.header.nonce == header.nonce);
        if !known && !is_spare(rt, dir, spares, header.nonce).await? {
            return Err(LogError::Foreign { file: path, what: format!("it says number {}, expected {seq}", header.file_seq) });
        }
        tracing::warn!(file = %path.display(), "an old name of a file that is in other use, or in none, has come back: removed");
        rt.remove(&path).await?;
        rt.sync_dir(dir).await?;
    }
    for pair in files.windows(2) {
        let (one, next) = (pair[0].header.file_seq, pair[1].header.file_seq);
        if next != one + 1 {
            let missing = journal_path(dir, one + 1);
            return Err(corrupt(&missing, 0, 0, format!("missing, though files {one} and {next} are there")));
        }
    }
    Ok(files)
}

/// Whether a spare file has this nonce: it was to become the file of that number, or was that.
async fn is_spare<R: Rt>(rt: &R, dir: &Path, spares: &BTreeSet<u64>, nonce: u64) -> Result<bool> {
    for &spare in spares {
        let file = rt.open(&spare_path(dir, spare), Open::Read).await?;
        let block = file.read_at(0, BLOCK_BYTES).await;
        file.close().await?;
        if block.is_ok_and(|block| FileHeader::decode(&block).is_ok_and(|header| header.nonce == nonce)) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn open<R: Rt>(rt: &R, dir: &Path, seq: u64, config: &LogConfig) -> Result<JournalFile<R>> {
    let path = journal_path(dir, seq);
    let file = rt.open(&path, Open::ReadWrite).await?;
    let block = file.read_at(0, BLOCK_BYTES).await;
    let block = block.map_err(|error| corrupt(&path, 0, BLOCK_BYTES as u64, format!("unreadable: {error}")))?;
    let header = match FileHeader::decode(&block) {
        Ok(header) => header,
        Err(error @ FormatError::Version { .. }) => return Err(LogError::Foreign { file: path, what: error.to_string() }),
        Err(error) => return Err(corrupt(&path, 0, BLOCK_BYTES as u64, format!("the header: {error}"))),
    };
    for (what, found, ours) in [
        ("cluster", header.cluster_id, config.cluster_id),
        ("node", header.node_id, config.node_id),
        ("journal home", u64::from(header.home), u64::from(config.home)),
    ] {
        if found != ours {
            return Err(LogError::Foreign { file: path, what: format!("it says {what} {found}, expected {ours}") });
        }
    }
    let len = file.len().await?;
    if len < header.file_len || header.file_len < FIRST_FLUSH + BLOCK_BYTES as u64 {
        return Err(corrupt(
            &path,
            len,
            header.file_len.saturating_sub(len),
            format!("the file has {len} bytes, its header says {}", header.file_len),
        ));
    }
    Ok(JournalFile { header, path, file })
}

async fn list<R: Rt>(rt: &R, dir: &Path) -> Result<(Vec<u64>, BTreeSet<u64>)> {
    let (mut seqs, mut spares) = (Vec::new(), BTreeSet::new());
    for name in rt.list(dir).await? {
        match parse_name(&name) {
            Name::Journal(seq) => seqs.push(seq),
            Name::Spare(seq) => _ = spares.insert(seq),
            Name::Unfinished => rt.remove(&dir.join(name)).await?,
            Name::Foreign => tracing::warn!(file = %dir.join(name).display(), "not a file of the journal: left alone"),
        }
    }
    seqs.sort_unstable();
    Ok((seqs, spares))
}

#[cfg(test)]
mod tests;
