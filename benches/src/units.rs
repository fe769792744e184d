//! Sizes, counts and durations as people type and read them.

use std::time::Duration;

/// A number of bytes: `4096`, `16KiB`, `1MB`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is no size; try 16KiB, 1MiB or 4096");
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..digits].parse().map_err(|_| bad())?;
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "kb" => 1e3,
        "m" | "mib" => 1024.0 * 1024.0,
        "mb" => 1e6,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "gb" => 1e9,
        _ => return Err(bad()),
    };
    let value = number * unit;
    if value.is_finite() && (0.0..9e15).contains(&value) { Ok(value as u64) } else { Err(bad()) }
}

/// A count or a rate: `1000`, `10k`, `1.5M`.
pub fn count(text: &str) -> Result<f64, String> {
    let bad = || format!("`{text}` is no number; try 1000, 10k or 1.5M");
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1e3),
        Some((at, 'm' | 'M')) => (&text[..at], 1e6),
        _ => (text, 1.0),
    };
    let value = digits.parse::<f64>().map_err(|_| bad())? * unit;
    if value.is_finite() && (0.0..1e15).contains(&value) { Ok(value) } else { Err(bad()) }
}

/// A whole number, at least 1.
pub fn positive(text: &str) -> Result<usize, String> {
    let value = count(text)?;
    if value >= 1.0 && value.fract() == 0.0 && value < 1e9 {
        Ok(value as usize)
    } else {
        Err(format!("`{text}` must be a whole number from 1 on"))
    }
}

/// A time span: `10s`, `500ms`, `2m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| format!("`{text}` is no time span; try 10s, 500ms or 2m"))
}

/// Nanoseconds, in the unit that reads best.
#[must_use]
pub fn show_ns(ns: f64) -> String {
    if ns < 1e3 {
        format!("{ns:.0} ns")
    } else if ns < 1e6 {
        format!("{} µs", three(ns / 1e3))
    } else if ns < 1e9 {
        format!("{} ms", three(ns / 1e6))
    } else {
        format!("{} s", three(ns / 1e9))
    }
}

/// A rate in bytes per second, in decimal units as disks and networks have them.
#[must_use]
pub fn show_rate(bytes_per_s: f64) -> String {
    if bytes_per_s >= 1e9 {
        format!("{} GB/s", three(bytes_per_s / 1e9))
    } else if bytes_per_s >= 1e6 {
        format!("{} MB/s", three(bytes_per_s / 1e6))
    } else {
        format!("{} kB/s", three(bytes_per_s / 1e3))
    }
}

/// A number of bytes, in binary units.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", three(value), UNITS[unit])
}

/// A count with thousands in groups, or shortened from ten million on.
#[must_use]
pub fn show_count(n: f64) -> String {
    if n >= 1e7 {
        return format!("{} M", three(n / 1e6));
    }
    let digits = format!("{n:.0}");
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Three significant digits, where there are so many behind the point.
#[must_use]
pub fn three(value: f64) -> String {
    if value == 0.0 || value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else if value >= 0.1 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

#[cfg(test)]
mod tests;
