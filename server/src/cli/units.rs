//! Sizes, rates and points in a log, as people type them.

use jiff::{Span, Timestamp, civil, tz::TimeZone};
use std::str::FromStr;

/// A number of bytes: `4096`, `64k`, `1.5GiB`, `10MB`. Letters without `i` count in thousands, but for a lone `k`, `m`, `g`
/// and `t`, which count in 1024s as memory does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text);
        let factor: f64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "k" | "kib" => 1024.0,
            "m" | "mib" => 1024.0 * 1024.0,
            "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
            "t" | "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "tb" => 1e12,
            _ => return Err(format!("`{unit}` is no unit of size: use B, KiB, MiB, GiB, TiB, kB, MB, GB or TB")),
        };
        let bytes = positive(number)? * factor;
        if bytes >= u64::MAX as f64 {
            return Err(format!("{text} is more than fits"));
        }
        Ok(Self(bytes as u64))
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.iter().find(|(n, _)| self.0 >= *n) {
            Some((n, unit)) => write!(f, "{:.1} {unit}", self.0 as f64 / *n as f64),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// How fast something may go: `5MB/s` or `1000/s`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Bytes per second.
    Bytes(f64),
    /// Records per second.
    Records(f64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let per_second = text.strip_suffix("/s").unwrap_or(text);
        let rate = if per_second.ends_with(|c: char| c.is_ascii_digit()) {
            Self::Records(positive(per_second)?)
        } else {
            Self::Bytes(per_second.parse::<Size>()?.0 as f64)
        };
        match rate {
            Self::Bytes(n) | Self::Records(n) if n > 0.0 => Ok(rate),
            _ => Err("a rate of nothing never ends".into()),
        }
    }
}

/// A place in a log: an offset, a time, or one of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The first record still there.
    Earliest,
    /// After the last record.
    Latest,
    /// This offset, in every partition.
    Offset(u64),
    /// The first record at or after this time, in ms since 1970.
    Time(i64),
}

/// What a [`Point`] may look like, for help texts.
pub const POINTS: &str = "`earliest`, `latest`, an offset such as `1200`, a time such as `2026-01-31`, \
`2026-01-31T12:00:00Z` or `@1769860800000` (ms since 1970), or a time ago such as `15m` or `2d`";

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" | "start" | "beginning" => return Ok(Self::Earliest),
            "latest" | "end" | "now" => return Ok(Self::Latest),
            _ => {}
        }
        if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            return text.parse().map(Self::Offset).map_err(|_| format!("{text} is more than any offset"));
        }
        if let Some(ms) = text.strip_prefix('@') {
            return ms.parse().map(Self::Time).map_err(|_| format!("`{ms}` is not a number of milliseconds"));
        }
        time(text).map(Self::Time).ok_or_else(|| format!("give {POINTS}"))
    }
}

/// A time as text: RFC 3339, a date, a date and time without zone (taken as UTC), or a span before now. In ms since 1970.
pub(super) fn time(text: &str) -> Option<i64> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.as_millisecond());
    }
    if let Ok(at) = text.parse::<civil::DateTime>() {
        return at.to_zoned(TimeZone::UTC).ok().map(|z| z.timestamp().as_millisecond());
    }
    let ago = text.strip_suffix("ago").unwrap_or(text).trim();
    let span: Span = ago.parse().ok()?;
    let seconds = span.total((jiff::Unit::Second, jiff::SpanRelativeTo::days_are_24_hours())).ok()?;
    Some(Timestamp::now().as_millisecond() - (seconds * 1000.0) as i64)
}

/// Milliseconds since 1970 as RFC 3339, UTC.
pub(super) fn show_time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| format!("@{ms}"), |t| format!("{t:.3}"))
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if n.is_finite() && n >= 0.0 => Ok(n),
        _ => Err(format!("`{text}` is not a number")),
    }
}
