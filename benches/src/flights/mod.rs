//! The flights out of New York in 2013: real events, each with a time and a key, that the demonstration loads.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

/// The name of the file with all of them.
const FILE: &str = "flights.ndjson.zst";
/// Where it lies beside a checkout.
const SHARED: &str = "../shared/data";
/// What is always at hand: the first 16,000 of them.
const SAMPLE: &[u8] = include_bytes!("../../data/flights-sample.ndjson.zst");
/// What a zstd frame begins with.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Longest line, in bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flight {
    /// When it was to leave, in milliseconds since 1970.
    pub(crate) time_ms: i64,
    /// Its number, such as `UA1545`: the key.
    pub(crate) key: Box<str>,
    /// The whole line: the value.
    pub(crate) line: Box<str>,
}

impl Flight {
    /// Bytes of key and value.
    pub(crate) fn bytes(&self) -> u64 {
        (self.key.len() + self.line.len()) as u64
    }
}

/// What is read out of a line.
#[derive(Deserialize)]
struct Head<'a> {
    ts: &'a str,
    #[serde(borrow)]
    key: std::borrow::Cow<'a, str>,
}

/// Where flights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    File(PathBuf),
    Sample,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Sample => f.write_str("the sample that is part of this program"),
        }
    }
}

impl Source {
    /// The file that was named, else that beside the checkout, else the sample.
    pub(crate) fn find(named: Option<&Path>) -> Self {
        if let Some(path) = named {
            return Self::File(path.to_owned());
        }
        let beside = Path::new(SHARED).join(FILE);
        if beside.is_file() { Self::File(beside) } else { Self::Sample }
    }

    /// All of them, at most `max`, in the order of the file.
    pub(crate) fn load(&self, max: usize) -> Result<Vec<Flight>> {
        let doing = || format!("reading flights from {self}");
        let flights = match self {
            Self::File(path) => read(File::open(path).with_context(doing)?, max),
            Self::Sample => read(SAMPLE, max),
        };
        flights.with_context(doing)
    }
}

fn read(from: impl Read, max: usize) -> Result<Vec<Flight>> {
    let mut from = BufReader::with_capacity(1 << 16, from);
    if from.fill_buf()?.starts_with(&ZSTD_MAGIC) {
        let plain = zstd::Decoder::with_buffer(from)?;
        return lines(BufReader::with_capacity(1 << 16, plain), max);
    }
    lines(from, max)
}

fn lines(mut from: impl BufRead, max: usize) -> Result<Vec<Flight>> {
    let mut flights = Vec::new();
    let mut line = String::new();
    while flights.len() < max {
        line.clear();
        if from.by_ref().take(LINE_BYTES_MAX).read_line(&mut line)? == 0 {
            break;
        }
        ensure!((line.len() as u64) < LINE_BYTES_MAX, "line {} is longer than {LINE_BYTES_MAX} bytes", flights.len() + 1);
        let text = line.trim_end();
        let head: Head<'_> = serde_json::from_str(text).with_context(|| format!("line {}", flights.len() + 1))?;
        let time: jiff::Timestamp = head.ts.parse().with_context(|| format!("the time in line {}", flights.len() + 1))?;
        flights.push(Flight { time_ms: time.as_millisecond(), key: head.key.into(), line: text.into() });
    }
    ensure!(!flights.is_empty(), "there are none");
    Ok(flights)
}

#[cfg(test)]
mod tests;
