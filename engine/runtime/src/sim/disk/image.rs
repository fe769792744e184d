//! The bytes of one file: a length and those pages that were ever written.
//!
//! A page is a slice of what was written, shared between the stable image, the visible one and snapshots; where only a part of it is written, it
//! is copied. What was never written reads as zeros. A page of nothing but zeros takes no memory, but counts as space.

use crate::limits::BLOCK_BYTES;
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;

static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// Invariant, between operations: no page lies wholly behind `len`, and bytes behind `len` are zeros.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    len: u64,
    /// `None`: written, with zeros.
    pages: BTreeMap<u64, Option<Bytes>>,
}

impl Image {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes of disk that it occupies.
    pub(crate) fn allocated(&self) -> u64 {
        self.pages.len() as u64 * BLOCK_BYTES as u64
    }

    /// Bytes of disk that a write would add.
    pub(crate) fn would_allocate(&self, position: u64, len: usize) -> u64 {
        pages_of(position, len).filter(|page| !self.pages.contains_key(page)).count() as u64 * BLOCK_BYTES as u64
    }

    /// Up to `len` bytes from `position`, fewer at the end of the file.
    pub(crate) fn read(&self, position: u64, len: usize) -> Vec<u8> {
        let end = self.len.min(position.saturating_add(len as u64));
        let mut out = vec![0; end.saturating_sub(position) as usize];
        for number in pages_of(position, out.len()) {
            let Some(Some(page)) = self.pages.get(&number) else { continue };
            let (in_out, in_page, n) = overlap(number, position, out.len());
            out[in_out..in_out + n].copy_from_slice(&page[in_page..in_page + n]);
        }
        out
    }

    /// Writes and grows the file over what was written.
    pub(crate) fn write(&mut self, position: u64, data: &Bytes) {
        self.put(position, data);
        self.len = self.len.max(position + data.len() as u64);
    }

    /// Writes without growing: bytes behind the end wait for [`Image::set_len`] or [`Image::clip`].
    pub(crate) fn put(&mut self, position: u64, data: &Bytes) {
        for number in pages_of(position, data.len()) {
            let (in_data, in_page, n) = overlap(number, position, data.len());
            let piece = &data[in_data..in_data + n];
            let page = self.pages.entry(number).or_default();
            if *piece == ZEROS[..n] && (n == BLOCK_BYTES || page.is_none()) {
                *page = None;
            } else if n == BLOCK_BYTES {
                *page = Some(data.slice(in_data..in_data + n));
            } else {
                let mut changed = BytesMut::from(page.as_deref().unwrap_or(&ZEROS));
                changed[in_page..in_page + n].copy_from_slice(piece);
                *page = Some(changed.freeze());
            }
        }
    }

    /// Sets the length, keeping bytes that lie behind it for now.
    pub(crate) fn set_len(&mut self, len: u64) {
        self.len = len;
    }

    /// Forgets what lies behind the end.
    pub(crate) fn clip(&mut self) {
        let block = BLOCK_BYTES as u64;
        drop(self.pages.split_off(&self.len.div_ceil(block)));
        let tail = (self.len % block) as usize;
        if tail > 0
            && let Some(Some(page)) = self.pages.get_mut(&(self.len / block))
        {
            let mut cut = BytesMut::from(&page[..]);
            cut[tail..].fill(0);
            *page = cut.freeze();
        }
    }

    /// Cuts or extends with zeros.
    pub(crate) fn truncate(&mut self, len: u64) {
        self.len = len;
        self.clip();
    }
}

fn pages_of(position: u64, len: usize) -> std::ops::Range<u64> {
    let block = BLOCK_BYTES as u64;
    if len == 0 { 0..0 } else { position / block..(position + len as u64).div_ceil(block) }
}

/// Where page `number` and the range meet: index into the range, index into the page, length.
fn overlap(number: u64, position: u64, len: usize) -> (usize, usize, usize) {
    let begin = number * BLOCK_BYTES as u64;
    let from = begin.max(position);
    let to = (begin + BLOCK_BYTES as u64).min(position + len as u64);
    ((from - position) as usize, (from - begin) as usize, (to - from) as usize)
}
