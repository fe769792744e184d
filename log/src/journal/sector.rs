//! What every 512 bytes of a flush say about themselves, so that a torn flush and a rotten one are told apart. Pure.
//!
//! ```text
//!   0                          504        508        512
//!   | content of the flush ... | crc u32  | stamp u32 |
//! ```
//!
//! `stamp` is drawn anew for each flush, from 1 to 2^31 - 1; the first sector of a flush, its head, ends with the stamp and the topmost
//! bit set. `crc` is CRC-32 of the content, begun from [`Seal::start`]: the stamp, the nonce of the file's life and the sector's
//! own place, so that neither an older sector nor a misdirected one passes.
//!
//! A disk writes a sector from its first byte to its last, whole or, when the power goes, not to its end; sectors of one write
//! reach the disk in any order. So of a flush whose sync never ended some sectors are as they were *before*, and end with
//! another stamp (or a zero). A sector that ends with the flush's stamp was written to its end, and if its `crc` is wrong
//! nevertheless, then it rotted: that is never taken for a tear. A stamp alone may rot as well: the `crc` does not cover it, so
//! the sector still passes.
//!
//! A head that cannot be read tells no stamp. It is rotten if it ends with the stamp of a good sector behind it.
//!
//! A torn flush is cut by writing the next one over it, and that may be torn in its turn: inside a sector, which then has new
//! content and ends with the old stamp. So that this never looks like rot of the old flush, recovery first takes the stamps
//! of the old one away, see [`disarm`], and syncs that. It changes nothing but stamps, and a sector with a good crc is good
//! without one: whatever of it reaches the disk, the flush stays what it was, torn.
//!
//! Written by [`super::gather`], read by [`super::walk`].

use millpond_runtime::limits::BLOCK_BYTES;
use std::ops::Range;

/// What a disk writes as a whole, in bytes. Disks with larger sectors write several of these as a whole.
pub const SECTOR_BYTES: usize = 512;
/// Bytes of a sector that carry content.
pub const CONTENT_BYTES: usize = SECTOR_BYTES - 8;

const _: () = assert!(BLOCK_BYTES.is_multiple_of(SECTOR_BYTES));

/// What the sectors of one flush have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The nonce of the file's life.
    pub nonce: u64,
    /// Drawn for the flush; what its sectors end with.
    pub stamp: u32,
}

/// What the stamp of a flush's first sector has besides.
const HEAD: u32 = 1 << 31;

/// Stamps, one after the other, in an order that a random number decides.
#[derive(Clone, Debug)]
pub struct Stamps(u64);

impl Stamps {
    /// `random` is drawn at each start: a stamp must not come again at the same place after a flush was cut there.
    #[must_use]
    pub fn new(random: u64) -> Self {
        Self(random)
    }

    /// The next one. Never 0, which is what a sector that was never written ends with.
    pub fn draw(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.0) as u32 & !HEAD).max(1)
    }
}

/// The mixing of splitmix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What became of a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it was written.
    Good,
    /// It was written to its end, and is not what was written.
    Rotten,
    /// It was not written to its end.
    Unwritten,
}

impl Seal {
    /// The same for the first sector of the flush.
    #[must_use]
    pub fn head(self) -> Self {
        Self { stamp: self.stamp | HEAD, ..self }
    }

    /// Where the crc of the sector at `position` (bytes in the file) begins: the lower half of splitmix64's mixing of the nonce,
    /// the stamp and the sector's number.
    #[must_use]
    pub fn start(&self, position: u64) -> u32 {
        mix(self.nonce ^ (u64::from(self.stamp) << 32) ^ (position / SECTOR_BYTES as u64)) as u32
    }

    /// The CRC-32 of a sector's content that begins from [`Seal::start`].
    fn crc(&self, position: u64, content: &[u8]) -> u32 {
        thread_local! {
            /// To be copied: making one asks what the CPU can do, which took a third of the time for so few bytes.
            static FRESH: crc32fast::Hasher = crc32fast::Hasher::new();
        }
        let mut hasher = FRESH.with(Clone::clone);
        hasher.update(content);
        // A checksum is linear: where it begins and what follows may be taken apart.
        hasher.finalize() ^ begun::behind_content(self.start(position))
    }

    /// Writes the end of a sector whose content is in place.
    pub fn close(&self, position: u64, sector: &mut [u8]) {
        let crc = self.crc(position, &sector[..CONTENT_BYTES]);
        sector[CONTENT_BYTES..CONTENT_BYTES + 4].copy_from_slice(&crc.to_le_bytes());
        sector[CONTENT_BYTES + 4..SECTOR_BYTES].copy_from_slice(&self.stamp.to_le_bytes());
    }

    /// Looks at a sector of the flush.
    #[must_use]
    pub fn check(&self, position: u64, sector: &[u8]) -> State {
        let (crc, stamp) = tail(sector);
        if self.crc(position, &sector[..CONTENT_BYTES]) == crc {
            State::Good
        } else if stamp == self.stamp {
            State::Rotten
        } else {
            State::Unwritten
        }
    }
}

/// What the beginning of a CRC-32 adds to its end.
mod begun {
    use super::CONTENT_BYTES;

    /// CRC-32's polynomial (IEEE 802.3), reflected.
    const POLYNOMIAL: u32 = 0xedb8_8320;

    /// What each bit of the beginning has become behind [`CONTENT_BYTES`] bytes, summed up for each value of each of its four bytes.
    static SUMS: [[u32; 256]; 4] = sums();

    const fn sums() -> [[u32; 256]; 4] {
        let mut bits = [0; 32];
        let mut bit = 0;
        while bit < 32 {
            let (mut crc, mut step) = (1_u32 << bit, 0);
            while step < CONTENT_BYTES * 8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
                step += 1;
            }
            bits[bit] = crc;
            bit += 1;
        }
        let mut sums = [[0; 256]; 4];
        let mut at = 0;
        while at < 4 * 256 {
            let (byte, value, mut bit) = (at / 256, at % 256, 0);
            while bit < 8 {
                if value & (1 << bit) != 0 {
                    sums[byte][value] ^= bits[8 * byte + bit];
                }
                bit += 1;
            }
            at += 1;
        }
        sums
    }

    /// The difference that it makes at the end of [`CONTENT_BYTES`] bytes to begin from `start` instead of 0.
    pub(super) fn behind_content(start: u32) -> u32 {
        let [a, b, c, d] = start.to_le_bytes();
        SUMS[0][usize::from(a)] ^ SUMS[1][usize::from(b)] ^ SUMS[2][usize::from(c)] ^ SUMS[3][usize::from(d)]
    }
}

/// `crc` and `stamp`.
fn tail(sector: &[u8]) -> (u32, u32) {
    let number = |at: usize| u32::from_le_bytes([sector[at], sector[at + 1], sector[at + 2], sector[at + 3]]);
    (number(CONTENT_BYTES), number(CONTENT_BYTES + 4))
}

/// Whether the first sector of a flush, which cannot be read as one, was once written to its end: a sector behind it in the same
/// block is good by its own stamp, and the first one bears that stamp too.
#[must_use]
pub fn head_is_rotten(nonce: u64, position: u64, flush: &[u8]) -> bool {
    // Not further: what is behind the first block may be of an older flush that was cut here.
    let block = &flush[..flush.len().min(BLOCK_BYTES)];
    let mut sectors = block.chunks_exact(SECTOR_BYTES).zip((position..).step_by(SECTOR_BYTES));
    let Some(ours) = sectors.next().map(|(first, _)| tail(first).1) else { return false };
    let seal = Seal { nonce, stamp: ours & !HEAD };
    ours & HEAD != 0 && sectors.any(|(sector, at)| tail(sector).1 == seal.stamp && seal.check(at, sector) == State::Good)
}

/// Takes the stamps of the flush away from its sectors in `flush`.
pub fn disarm(seal: &Seal, flush: &mut [u8]) {
    for sector in flush.chunks_exact_mut(SECTOR_BYTES) {
        if tail(sector).1 & !HEAD == seal.stamp {
            sector[CONTENT_BYTES + 4..].fill(0);
        }
    }
}

/// Bytes of whole sectors that `content` bytes take.
#[must_use]
pub fn sectors_len(content: usize) -> usize {
    content.div_ceil(CONTENT_BYTES) * SECTOR_BYTES
}

/// Byte of a flush at which byte `at` of its content lies.
#[must_use]
pub fn place(at: usize) -> usize {
    at / CONTENT_BYTES * SECTOR_BYTES + at % CONTENT_BYTES
}

/// Appends the content at `range` of a flush to `out`. What `flush` does not hold is missing at the end.
pub fn copy_content(flush: &[u8], range: Range<usize>, out: &mut Vec<u8>) {
    let (mut at, end) = (range.start, range.end);
    while at < end {
        let n = (CONTENT_BYTES - at % CONTENT_BYTES).min(end - at);
        let Some(piece) = flush.get(place(at)..place(at) + n) else { return };
        out.extend_from_slice(piece);
        at += n;
    }
}

#[cfg(test)]
mod tests;
