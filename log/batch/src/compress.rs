//! The five codecs of Kafka, with bounds on what comes out.
//!
//! Decompression never fills memory by a claim: output grows as bytes come, and ends at the limit. The absolute limit is what
//! protects memory. The limit on the ratio is there for the processor, and is asked only past a size that honest batches do
//! not reach: one line a million times is honest, and zstd makes a ten-thousandth of it.

use crate::BatchError;
use bytes::Bytes;
use std::{
    fmt,
    io::{Read, Write},
};

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// gzip.
    Gzip = 1,
    /// Snappy, in the framing of xerial's snappy-java; bare blocks are read too.
    Snappy = 2,
    /// LZ4's frame format.
    Lz4 = 3,
    /// Zstandard (KIP-110).
    Zstd = 4,
}

impl Compression {
    pub(crate) fn from_attributes(bits: u16) -> Result<Self, BatchError> {
        Ok(match bits {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            other => return Err(BatchError::Codec(other as u8)),
        })
    }

    /// Kafka's name of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Compression {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd]
            .into_iter()
            .find(|c| c.name() == name)
            .ok_or_else(|| format!("no compression is called {name:?}: use none, gzip, snappy, lz4 or zstd"))
    }
}

/// How much may come out of a batch: never more than `bytes_max`; up to `ratio_from` whatever the ratio is; between the two
/// at most `ratio_max` times what went in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecompressLimits {
    /// Decompressed bytes at most.
    pub bytes_max: usize,
    /// Decompressed bytes up to which the ratio is not asked.
    pub ratio_from: usize,
    /// Decompressed bytes per compressed byte at most, past `ratio_from`.
    pub ratio_max: usize,
}

impl Default for DecompressLimits {
    /// 128 MiB, eight times the largest batch that a topic may be configured to take (16 MiB). Up to that largest size any
    /// ratio is fine, since the same records would have been taken uncompressed; past it 100 to 1.
    fn default() -> Self {
        Self { bytes_max: 128 * 1024 * 1024, ratio_from: 16 * 1024 * 1024, ratio_max: 100 }
    }
}

impl DecompressLimits {
    /// At most `bytes_max` bytes, whatever the ratio is.
    #[must_use]
    pub fn bytes(bytes_max: usize) -> Self {
        Self { bytes_max, ratio_from: bytes_max, ratio_max: usize::MAX }
    }

    /// Bytes that may come out of `len` compressed ones.
    #[must_use]
    pub fn ceiling(&self, len: usize) -> usize {
        self.bytes_max.min(self.ratio_from.max(len.saturating_mul(self.ratio_max)))
    }
}

/// Windows of zstd are refused past these bounds, as powers of two. The lower is what RFC 8878 asks of every reader; the
/// upper is what the highest level of any client's library uses.
const ZSTD_WINDOW_LOG: std::ops::RangeInclusive<u32> = 23..=27;

/// Head of xerial's framing: its magic, then two version numbers that readers ignore.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEAD_BYTES: usize = 16;
/// What xerial's writer puts in a block, in bytes.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;

/// Compresses `bytes`.
pub(crate) fn compress(codec: Compression, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    match codec {
        Compression::None => Ok(bytes.to_vec()),
        Compression::Gzip => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            out.write_all(bytes)?;
            out.finish()
        }
        Compression::Snappy => {
            let mut out = XERIAL_MAGIC.to_vec();
            out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
            let mut encoder = snap::raw::Encoder::new();
            for block in bytes.chunks(XERIAL_BLOCK_BYTES) {
                let packed = encoder.compress_vec(block)?;
                out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
                out.extend_from_slice(&packed);
            }
            Ok(out)
        }
        Compression::Lz4 => {
            let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
            out.write_all(bytes)?;
            Ok(out.finish()?)
        }
        Compression::Zstd => zstd::bulk::compress(bytes, 3),
    }
}

/// Decompresses the records of a batch.
pub(crate) fn decompress(codec: Compression, bytes: &Bytes, limits: DecompressLimits) -> Result<Bytes, BatchError> {
    let limit = limits.ceiling(bytes.len());
    match codec {
        Compression::None => Ok(bytes.clone()),
        Compression::Gzip => drain(codec, flate2::read::MultiGzDecoder::new(&bytes[..]), limit),
        Compression::Lz4 => drain(codec, lz4_flex::frame::FrameDecoder::new(&bytes[..]), limit),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&bytes[..]).map_err(|e| refused(codec, e))?;
            // The library takes a window's memory by the frame's claim, and touches no more of it than comes out.
            let window_log = (usize::BITS - limit.leading_zeros()).clamp(*ZSTD_WINDOW_LOG.start(), *ZSTD_WINDOW_LOG.end());
            decoder.window_log_max(window_log).map_err(|e| refused(codec, e))?;
            drain(codec, decoder, limit)
        }
        Compression::Snappy => snappy(bytes, limit),
    }
}

/// What a batch of one bare block of snappy may become while it is read as a stream, in bytes: it can be unpacked as a whole only.
const SNAPPY_STREAM_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The records of a batch as a stream, which takes no more memory than the codec's window: 8 MiB at the most. It ends at the limit.
pub(crate) fn stream(codec: Compression, bytes: &Bytes, limits: DecompressLimits) -> Result<Box<dyn Read + '_>, BatchError> {
    let limit = limits.ceiling(bytes.len()) as u64;
    Ok(match codec {
        Compression::None => Box::new(&bytes[..]),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(&bytes[..]).take(limit)),
        Compression::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(&bytes[..]).take(limit)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&bytes[..]).map_err(|e| refused(codec, e))?;
            decoder.window_log_max(*ZSTD_WINDOW_LOG.start()).map_err(|e| refused(codec, e))?;
            Box::new(decoder.take(limit))
        }
        Compression::Snappy => Box::new(std::io::Cursor::new(snappy(bytes, SNAPPY_STREAM_BYTES_MAX.min(limit as usize))?)),
    })
}

fn refused(codec: Compression, why: impl fmt::Display) -> BatchError {
    BatchError::Decompress { codec, message: why.to_string() }
}

/// Reads all that `decoder` gives, up to the limit and not a byte more.
fn drain(codec: Compression, decoder: impl Read, limit: usize) -> Result<Bytes, BatchError> {
    let mut out = Vec::new();
    decoder.take((limit as u64).saturating_add(1)).read_to_end(&mut out).map_err(|e| refused(codec, e))?;
    if out.len() > limit {
        return Err(BatchError::TooLarge { limit });
    }
    Ok(Bytes::from(out))
}

fn snappy(bytes: &[u8], limit: usize) -> Result<Bytes, BatchError> {
    let mut out = Vec::new();
    if !bytes.starts_with(&XERIAL_MAGIC) {
        snappy_block(bytes, &mut out, limit)?;
        return Ok(Bytes::from(out));
    }
    let short = |wanted, left| BatchError::Short { what: "snappy frame", wanted, left };
    let mut rest = bytes.get(XERIAL_HEAD_BYTES..).ok_or(short(XERIAL_HEAD_BYTES, bytes.len()))?;
    while !rest.is_empty() {
        let (head, behind) = rest.split_first_chunk::<4>().ok_or(short(4, rest.len()))?;
        let len = u32::from_be_bytes(*head) as usize;
        let block = behind.get(..len).ok_or(short(len, behind.len()))?;
        snappy_block(block, &mut out, limit)?;
        rest = &behind[len..];
    }
    Ok(Bytes::from(out))
}

/// A bare block says at its head how long it will be; snappy's own format bounds that by 64 times its length or so, which
/// is checked before memory is taken by the claim.
fn snappy_block(block: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), BatchError> {
    let codec = Compression::Snappy;
    let len = snap::raw::decompress_len(block).map_err(|e| refused(codec, e))?;
    if len > limit.saturating_sub(out.len()) {
        return Err(BatchError::TooLarge { limit });
    }
    // No element of the format yields more than 64 bytes of two.
    if len > block.len().saturating_mul(64) {
        return Err(refused(codec, format!("{} bytes cannot become {len}", block.len())));
    }
    let from = out.len();
    out.resize(from + len, 0);
    let n = snap::raw::Decoder::new().decompress(block, &mut out[from..]).map_err(|e| refused(codec, e))?;
    out.truncate(from + n);
    Ok(())
}
