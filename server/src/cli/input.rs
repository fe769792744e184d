//! Lines from a file or standard input, decompressed if need be, read on a thread of their own.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};
use tokio::sync::mpsc;

/// Longest line, in bytes: the largest batch that any topic accepts.
pub(super) const LINE_BYTES_MAX: usize = millpond_runtime::limits::BATCH_BYTES_LIMIT;
/// Lines that are read ahead at most, in pieces of about [`PIECE_BYTES`].
const PIECES_AHEAD: usize = 8;
/// Bytes of lines that are handed over together.
const PIECE_BYTES: usize = 256 * 1024;

/// Lines without their ends, back to back.
#[derive(Debug, Default)]
pub(super) struct Piece {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Piece {
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

/// A source of lines.
pub(super) struct Input {
    /// What is read: a path, or `standard input`.
    pub(super) name: String,
    /// Bytes of the file as it lies on disk; `None` where that is not known.
    pub(super) bytes_total: Option<u64>,
    bytes_read: Arc<AtomicU64>,
    pieces: mpsc::Receiver<io::Result<Piece>>,
}

impl Input {
    /// Opens `path`, or standard input for `-` and none. What begins with zstd's magic is decompressed.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let path: Option<PathBuf> = path.filter(|p| *p != Path::new("-")).map(Path::to_owned);
        let (source, bytes_total): (Box<dyn Read + Send>, _) = match &path {
            Some(path) => {
                let file = File::open(path)?;
                let len = file.metadata()?.is_file().then_some(file.metadata()?.len());
                (Box::new(file), len)
            }
            None => (Box::new(io::stdin()), None),
        };
        let name = path.map_or_else(|| "standard input".into(), |p| p.display().to_string());
        let bytes_read = Arc::new(AtomicU64::new(0));
        let counted = Counted { source, count: Arc::clone(&bytes_read) };
        let (send, pieces) = mpsc::channel(PIECES_AHEAD);
        thread::Builder::new().name("input".into()).spawn(move || {
            if let Err(e) = read_all(counted, &send) {
                // Nobody listens any more if this fails.
                let _ = send.blocking_send(Err(e));
            }
        })?;
        Ok(Self { name, bytes_total, bytes_read, pieces })
    }

    /// The next lines; `None` at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Piece>> {
        self.pieces.recv().await.transpose()
    }

    /// Bytes read of the file as it lies on disk.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }
}

struct Counted {
    source: Box<dyn Read + Send>,
    count: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(into)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

fn read_all(source: Counted, send: &mpsc::Sender<io::Result<Piece>>) -> io::Result<()> {
    const ZSTD: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
    let mut source = BufReader::with_capacity(1 << 20, source);
    if source.fill_buf()?.starts_with(&ZSTD) {
        let plain = zstd::Decoder::with_buffer(source)?;
        return read_lines(BufReader::with_capacity(1 << 20, plain), send);
    }
    read_lines(source, send)
}

fn read_lines(mut source: BufReader<impl Read>, send: &mpsc::Sender<io::Result<Piece>>) -> io::Result<()> {
    let mut number = 0u64;
    loop {
        let mut piece = Piece { bytes: Vec::with_capacity(PIECE_BYTES + 4096), ends: Vec::new() };
        let mut ended = false;
        while piece.bytes.len() < PIECE_BYTES {
            let start = piece.bytes.len();
            let n = (&mut source).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut piece.bytes)?;
            number += 1;
            if n == 0 {
                ended = true;
                break;
            }
            if n > LINE_BYTES_MAX {
                let why = format!("line {number} is longer than {LINE_BYTES_MAX} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            if piece.bytes.ends_with(b"\n") {
                piece.bytes.pop();
                if piece.bytes.len() > start && piece.bytes.ends_with(b"\r") {
                    piece.bytes.pop();
                }
            }
            piece.ends.push(piece.bytes.len());
            if source.buffer().is_empty() {
                // The next read may wait for somebody who types: hand over what is there.
                break;
            }
        }
        if !piece.ends.is_empty() && send.blocking_send(Ok(piece)).is_err() {
            return Ok(());
        }
        if ended {
            return Ok(());
        }
    }
}
