//! Any bytes as the files of a journal: opened in the simulator, appended to, closed, and opened again.
//!
//! Chance does not find checksums. So half of the inputs are bodies of flushes (`length u16, bytes`, again and again), around
//! which the headers, heads and sectors are put right; some sectors are then left out, or damaged.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use millpond_batch::{Builder, Compression};
use millpond_log::{
    Appended, GroupConfig, Log, LogConfig, LogError, inspect,
    journal::{
        format::{FIRST_FLUSH, FLUSH_HEADER_BYTES, FRAME_HEAD_BYTES, FileHeader, FlushHeader, Frames, flush_disk_len},
        sector::{CONTENT_BYTES, SECTOR_BYTES},
    },
};
use millpond_runtime::{
    File, GroupId, IoBuf, NodeId, Open, Rt,
    sim::{Sim, SimRt},
};
use std::path::{Path, PathBuf};

const NODE: NodeId = NodeId(1);
const JOURNAL: &str = "/data/core-00/journal";
const BLOCK: usize = 4096;

fn config() -> LogConfig {
    LogConfig {
        journal_file_bytes: 16 * BLOCK as u64,
        journal_files_max: 3,
        flush_bytes_max: 4 * BLOCK,
        unsynced_bytes_max: 64 << 10,
        tail_bytes_max: 256 << 10,
        settle_bytes: 8 << 10,
        settle_run_bytes_max: 16 << 10,
        disk_reserve_bytes: 0,
        ..LogConfig::default()
    }
}

/// The frames of `body` with right heads, as far as their lengths go.
fn mended(body: &[u8]) -> (Vec<u8>, u32) {
    let (mut out, mut frames) = (Vec::new(), 0);
    let mut rest = body;
    while rest.len() >= FRAME_HEAD_BYTES {
        let len = FRAME_HEAD_BYTES + usize::from(rest[0]) + (usize::from(rest[1] & 3) << 8);
        let (frame, behind) = rest.split_at(len.min(rest.len()));
        rest = behind;
        let mut frame = frame.to_vec();
        let len = (frame.len() as u32).to_le_bytes();
        frame[..4].copy_from_slice(&len);
        // Small numbers meet each other.
        for number in [12, 20, 28] {
            frame[number + 1..number + 8].fill(0);
        }
        frame[8] = 1 + frame[8] % 13;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&frame[..4]);
        crc.update(&frame[8..FRAME_HEAD_BYTES]);
        frame[4..8].copy_from_slice(&crc.finalize().to_le_bytes());
        out.extend_from_slice(&frame);
        frames += 1;
    }
    (out, frames)
}

/// Journal files of flushes that are right, but for what they say.
fn journal(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    let (mut flush_seq, mut prev_crc) = (1, 0);
    for file_seq in 1..=3_u64 {
        let header = FileHeader { cluster_id: 0, node_id: 0, home: 0, file_seq, nonce: file_seq * 77, file_len: config().journal_file_bytes };
        let mut file = vec![0; header.file_len as usize];
        file[..64].copy_from_slice(&header.encode());
        let mut position = FIRST_FLUSH;
        while let [low, high, damage, rest @ ..] = data {
            let len = usize::from(*low) + (usize::from(high & 15) << 8);
            let (body, behind) = rest.split_at(len.min(rest.len()));
            let (body, frames) = mended(body);
            let end = position + flush_disk_len(body.len());
            if end > header.file_len || high & 0xe0 == 0x20 {
                data = if end > header.file_len { data } else { behind };
                break;
            }
            data = behind;
            let stamp = flush_seq as u32 + 1;
            let flush = FlushHeader { frames, nonce: header.nonce, flush_seq, position, body_len: body.len() as u32, stamp, prev_crc };
            let head = flush.encode();
            let content = [&head[..], &body].concat();
            for (i, piece) in content.chunks(CONTENT_BYTES).enumerate() {
                let at = position as usize + i * SECTOR_BYTES;
                file[at..at + piece.len()].copy_from_slice(piece);
            }
            for at in (position as usize..end as usize).step_by(SECTOR_BYTES) {
                let seal = if at == position as usize { flush.seal().head() } else { flush.seal() };
                seal.close(at as u64, &mut file[at..at + SECTOR_BYTES]);
            }
            let sectors = (end - position) as usize / SECTOR_BYTES;
            let hit = position as usize + usize::from(*damage) % sectors * SECTOR_BYTES;
            match damage >> 5 {
                6 => file[hit..hit + SECTOR_BYTES].fill(0),
                7 => file[hit + usize::from(*damage)] ^= 1,
                _ => {}
            }
            (flush_seq, prev_crc) = (flush_seq + 1, u32::from_le_bytes([head[60], head[61], head[62], head[63]]));
            position = end;
        }
        files.push(file);
        if data.len() < 3 {
            break;
        }
    }
    files
}

async fn put(rt: &SimRt, files: &[Vec<u8>]) {
    rt.create_dir_all(Path::new(JOURNAL)).await.expect("made");
    for (bytes, seq) in files.iter().zip(1..) {
        let file = rt.open(&PathBuf::from(format!("{JOURNAL}/{seq:08}.jnl")), Open::Create).await.expect("created");
        let mut buf = file.buf(bytes.len().next_multiple_of(BLOCK));
        buf.put(bytes);
        buf.pad_to_block();
        if !bytes.is_empty() {
            file.write_at(0, buf).await.expect("written");
        }
        file.sync().await.expect("synced");
    }
}

type States = Vec<(GroupId, Option<millpond_log::GroupState>)>;

fn states(log: &Log<SimRt>) -> States {
    log.groups().into_iter().map(|id| (id, log.state(id).map(|s| millpond_log::GroupState { bytes: 0, ..s }))).collect()
}

/// Opens the home; if that succeeds, reads everything, writes something, and closes it.
async fn live(rt: SimRt) -> Result<(States, States), LogError> {
    let (log, _) = Log::open(rt, PathBuf::from("/data/core-00"), config()).await?;
    log.check();
    let before = states(&log);
    for (id, state) in before.iter().filter_map(|(id, state)| Some((*id, (*state)?))) {
        let limits = millpond_log::ReadLimits { bytes_max: 1 << 20, end: state.high_watermark };
        let read = log.read(id, state.start_offset, limits).await;
        assert!(!matches!(read, Err(LogError::OffsetOutOfRange { .. })), "{id}: {state:?} does not hold its own start");
        let mut builder = Builder::new(Compression::None, 64);
        let headers: [(&[u8], Option<&[u8]>); 0] = [];
        builder.append(1, None, Some(b"more"), &headers);
        let batch: BytesMut = builder.build(None).expect("no codec");
        let header = millpond_batch::check(&batch).expect("just built");
        if state.end_offset.0 < 1 << 62
            && let Ok(Appended::New { lsn, base_offset }) = log.append(id, batch, &header, 0)
        {
            assert_eq!(base_offset, state.end_offset);
            log.synced(lsn).await?;
        }
    }
    if log.groups().is_empty() {
        let lsn = log.create_group(GroupId(1 << 40), GroupConfig::default());
        if let Ok(lsn) = lsn {
            log.synced(lsn).await?;
        }
    }
    log.check();
    let after = states(&log);
    log.close().await;
    Ok((before, after))
}

fn run(files: Vec<Vec<u8>>) {
    for file in &files {
        assert!(!inspect::describe(file, true).is_empty());
        let _ = Frames::new(file).count();
        let _ = FlushHeader::decode(&file[file.len().min(FIRST_FLUSH as usize)..]).map(|(h, _)| h.body_len as usize + FLUSH_HEADER_BYTES);
    }
    let sim = Sim::new(1);
    sim.block_on(NODE, move |rt| async move { put(&rt, &files).await }).expect("files are put in place");
    match sim.block_on(NODE, live) {
        Ok(Ok((_, after))) => {
            // A crash now or later must find what was there.
            sim.crash(NODE);
            sim.restart(NODE);
            match sim.block_on(NODE, live) {
                Ok(Ok((again, _))) => assert_eq!(again, after),
                Ok(Err(error)) => panic!("it opened once, and then it did not: {error}"),
                Err(_) => assert!(sim.halted(NODE).is_some()),
            }
        }
        Ok(Err(error)) => {
            assert!(!error.advice().is_empty());
            // Refused is refused: nothing was cut.
            sim.crash(NODE);
            sim.restart(NODE);
            let again = sim.block_on(NODE, live);
            assert!(matches!(&again, Ok(Err(again)) if again.to_string() == error.to_string()), "first {error}, then {again:?}");
        }
        // A segment that the journal speaks of is missing or damaged, and that is only seen when it is to grow.
        Err(stopped) => assert!(sim.halted(NODE).is_some(), "{stopped}"),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    match mode % 4 {
        0 => run(data.chunks(5 * BLOCK).take(3).map(<[u8]>::to_vec).collect()),
        _ => run(journal(data)),
    }
});
