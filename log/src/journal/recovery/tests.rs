//! Journal files that are right in every checksum and wrong in what they say. Most were found by the fuzz targets.

use super::*;
use crate::{
    Appended, Log,
    config::GroupConfig,
    journal::{
        checkpoint::{encode_config, encode_group},
        format::{FrameHead, FrameKind, Settled},
        gather::Gather,
        sector::Seal,
    },
    lsn::Lsn,
};
use bytes::BufMut;
use millpond_batch::{Builder, Compression};
use millpond_runtime::{GroupId, Index, NodeId, Offset, Term, sim::Sim};
use std::path::PathBuf;

const FILE: FileHeader = FileHeader { cluster_id: 0, node_id: 0, home: 0, file_seq: 1, nonce: 7, file_len: 16 * BLOCK_BYTES as u64 };

type Frame = (FrameKind, Vec<u8>);

/// The first file of a journal, with a flush for each row of frames, all about group 1.
fn file(flushes: &[Vec<Frame>]) -> Vec<u8> {
    file_after((0, 0), FILE, flushes).0
}

/// A file whose flushes follow one of this number and header crc; and what follows them.
fn file_after((last, mut prev_crc): (u64, u32), header: FileHeader, flushes: &[Vec<Frame>]) -> (Vec<u8>, (u64, u32)) {
    let mut bytes = vec![0; header.file_len as usize];
    bytes[..64].copy_from_slice(&header.encode());
    let mut position = FIRST_FLUSH;
    for (frames, seq) in flushes.iter().zip(last + 1..) {
        let mut gather = Gather::new(Vec::with_capacity(1 << 20), Seal { nonce: header.nonce, stamp: seq as u32 }, 1, position, Lsn(0));
        for (kind, payload) in frames {
            let head = FrameHead { kind: *kind, variant: 0, group: GroupId(1), index: Index(0), term: Term(0) };
            gather.put(&head, payload, Lsn(0));
        }
        let (flush, crc) = gather.finish(seq, prev_crc);
        bytes[position as usize..position as usize + flush.len()].copy_from_slice(&flush);
        prev_crc = crc;
        position += flush.len() as u64;
    }
    (bytes, (last + flushes.len() as u64, prev_crc))
}

fn config() -> LogConfig {
    LogConfig { journal_file_bytes: FILE.file_len, flush_bytes_max: 4 * BLOCK_BYTES, disk_reserve_bytes: 0, ..LogConfig::default() }
}

/// A node whose home has these journal files.
fn node_with(files: Vec<Vec<u8>>) -> Sim {
    let sim = Sim::new(1);
    let written = sim.block_on(NodeId(1), |rt| async move {
        rt.create_dir_all("/home/journal".as_ref()).await.expect("made");
        for (bytes, seq) in files.iter().zip(1..) {
            let file = rt.open(&journal_path("/home/journal".as_ref(), seq), Open::Create).await.expect("created");
            let mut buf = file.buf(bytes.len());
            buf.put(bytes);
            file.write_at(0, buf).await.expect("written");
            file.sync().await.expect("synced");
        }
        rt.sync_dir("/home/journal".as_ref()).await.expect("synced");
    });
    written.expect("nothing goes wrong");
    sim
}

/// Opens the home, and appends a record to group 1 if it is told how many bytes of it.
fn open_on(sim: &Sim, append: Option<usize>) -> Result<crate::Recovered, LogError> {
    let opened = sim.block_on(NodeId(1), move |rt| async move {
        let (log, recovered) = Log::open(rt, PathBuf::from("/home"), config()).await?;
        if let Some(len) = append {
            log.wait_room().await;
            let mut builder = Builder::new(Compression::None, len);
            let headers: [(&[u8], Option<&[u8]>); 0] = [];
            builder.append(0, None, Some(&vec![7; len]), &headers);
            let batch = builder.build(None).expect("no codec, so none can fail");
            let header = millpond_batch::check(&batch).expect("just built");
            let Appended::New { lsn, .. } = log.append(GroupId(1), batch, &header, 0)? else { unreachable!("no producer, no duplicate") };
            log.synced(lsn).await?;
        }
        log.check();
        Ok(recovered)
    });
    opened.expect("neither a panic nor a halt")
}

fn open_with(bytes: Vec<u8>) -> Result<(), LogError> {
    open_on(&node_with(vec![bytes]), None).map(drop)
}

fn end(groups: u64) -> Frame {
    (FrameKind::CheckpointEnd, groups.to_le_bytes().to_vec())
}

fn create() -> Frame {
    let mut out = Vec::new();
    encode_config(&GroupConfig::default(), &mut out);
    (FrameKind::GroupCreate, out)
}

fn trim(start: u64, settled: Settled) -> Frame {
    let mut out = Vec::new();
    out.put_u64_le(start);
    settled.encode(&mut out);
    (FrameKind::Trim, out)
}

/// A group in a checkpoint: start, end, last index, and what is settled of it.
fn group(start: u64, end: u64, last: u64, settled: Settled) -> Frame {
    let mut group = crate::group::Group::new(GroupId(1), GroupConfig::default());
    (group.start_offset, group.end_offset, group.last_index, group.settled) = (Offset(start), Offset(end), Index(last), settled);
    let mut out = Vec::new();
    encode_group(&group, &mut out);
    (FrameKind::CheckpointGroup, out)
}

fn refused(flushes: &[Vec<Frame>]) {
    match open_with(file(flushes)) {
        Err(LogError::Corrupt { file, .. }) => assert!(file.starts_with("/home/journal"), "{}", file.display()),
        other => panic!("{other:?} of {flushes:?}"),
    }
}

#[test]
fn what_follows_from_the_checkpoint_is_opened() {
    open_with(file(&[vec![end(0)], vec![create()]])).expect("sound");
    open_with(file(&[vec![group(5, 5, 9, Settled { index: Index(9), next_offset: Offset(5), ..Settled::default() }), end(1)]]))
        .expect("sound");
}

#[test]
fn a_journal_without_a_checkpoint_is_refused_before_anything_is_appended_to_it() {
    refused(&[vec![]]);
    refused(&[vec![], vec![end(0)], vec![create()], vec![end(3)]]);
}

#[test]
fn a_checkpoint_of_a_group_that_cannot_be_is_refused() {
    let settled = |index, next| Settled { index: Index(index), next_offset: Offset(next), ..Settled::default() };
    refused(&[vec![group(0, 0, 0, settled(1, 0)), end(1)]]);
    refused(&[vec![group(0, 0, 1, settled(1, 1)), end(1)]]);
    refused(&[vec![group(1, 0, 1, settled(1, 0)), end(1)]]);
    refused(&[vec![group(0, u64::MAX, 1, settled(1, 0)), end(1)]]);
    refused(&[vec![group(0, 0, u64::MAX, settled(u64::MAX, 0)), end(1)]]);
}

#[test]
fn a_trim_past_the_end_is_refused() {
    let before = group(0, 10, 3, Settled { index: Index(3), next_offset: Offset(10), ..Settled::default() });
    refused(&[vec![before.clone(), end(1)], vec![trim(5, Settled { index: Index(3), next_offset: Offset(11), ..Settled::default() })]]);
    refused(&[vec![before, end(1)], vec![trim(5, Settled { index: Index(4), next_offset: Offset(10), ..Settled::default() })]]);
}

#[test]
fn a_flush_that_was_cut_where_no_room_was_left_stays_cut_when_the_journal_goes_on_in_another_file() {
    let mut flushes = vec![vec![]; 15];
    flushes[0] = vec![group(5, 5, 0, Settled { next_offset: Offset(5), ..Settled::default() }), end(1)];
    let mut bytes = file(&flushes);
    let torn = 15 * BLOCK_BYTES;
    bytes[torn + SECTOR_BYTES..].fill(0);
    let sim = node_with(vec![bytes]);
    let recovered = open_on(&sim, Some(2 * BLOCK_BYTES)).expect("sound");
    assert_eq!(recovered.torn.map(|t| t.position), Some(torn as u64));
    for entries in 1..4 {
        sim.crash(NodeId(1));
        sim.restart(NodeId(1));
        let recovered = open_on(&sim, Some(1)).expect("what was cut stays cut");
        assert_eq!((recovered.torn, recovered.entries), (None, entries));
        assert!(recovered.end.is_some_and(|(file, _)| file.ends_with("00000002.jnl")));
    }
}

/// Two groups, and of the second file's checkpoint only the first of them: the power went while it was written.
fn cut_short(behind: &[Vec<Frame>], prepared: bool) -> Sim {
    let group = group(5, 5, 0, Settled { next_offset: Offset(5), ..Settled::default() });
    let (first, last) = file_after((0, 0), FILE, &[vec![group.clone(), end(1)], vec![]]);
    let second = FileHeader { file_seq: 2, nonce: 8, ..FILE };
    let (second, _) = file_after(last, second, &[&[vec![group]], behind].concat());
    let third = file_after((0, 0), FileHeader { file_seq: 3, nonce: 9, ..FILE }, &[]).0;
    node_with(if prepared { vec![first, second, third] } else { vec![first, second] })
}

#[test]
fn a_file_whose_checkpoint_was_cut_short_is_begun_anew() {
    for prepared in [false, true] {
        let sim = cut_short(&[vec![]], prepared);
        let recovered = open_on(&sim, Some(2 * BLOCK_BYTES)).expect("nothing was acked that is in it");
        assert_eq!((recovered.files, recovered.torn), (1, None), "it would be no file to begin with once the first has gone");
        for entries in 1..4 {
            sim.crash(NodeId(1));
            sim.restart(NodeId(1));
            assert_eq!(open_on(&sim, Some(BLOCK_BYTES)).expect("sound").entries, entries);
        }
    }
}

#[test]
fn entries_before_the_end_of_a_checkpoint_are_refused() {
    assert!(
        matches!(open_on(&cut_short(&[vec![create()]], false), None), Err(LogError::Corrupt { file, .. }) if file.ends_with("00000002.jnl"))
    );
}

#[test]
fn a_file_without_a_checkpoint_between_others_is_refused() {
    let (first, last) = file_after((0, 0), FILE, &[vec![end(0)]]);
    let (second, last) = file_after(last, FileHeader { file_seq: 2, nonce: 8, ..FILE }, &[vec![]]);
    let (third, _) = file_after(last, FileHeader { file_seq: 3, nonce: 9, ..FILE }, &[vec![end(0)]]);
    let opened = open_on(&node_with(vec![first, second, third]), None);
    assert!(matches!(&opened, Err(LogError::Corrupt { file, .. }) if file.ends_with("00000002.jnl")), "{opened:?}");
}

/// Found by the fuzz target: the journal opened, since the missing flush was taken for its end; and when that had been written over,
/// it did not open any more, since the head behind it was seen.
#[test]
fn a_rotten_head_behind_the_end_is_seen_at_once() {
    let mut bytes = file(&[vec![end(0)], vec![create()], vec![(FrameKind::GroupDrop, Vec::new())]]);
    let block = |n: usize| FIRST_FLUSH as usize + n * BLOCK_BYTES;
    // The second flush was never written, says the disk now; and the head of the third has lost a bit.
    bytes[block(1)..block(2)].fill(0);
    bytes[block(2) + 8] ^= 1;
    let opened = open_with(bytes);
    assert!(matches!(&opened, Err(LogError::Corrupt { position, .. }) if *position == block(2) as u64), "{opened:?}");
}
