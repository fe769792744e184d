//! Takes a key and a time out of a line of JSON without building the rest of it.

use super::units;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use std::fmt;

/// Which fields of a line to look for: top-level names.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) key: Option<String>,
    pub(super) time: Option<String>,
}

/// What a line had.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    /// The key's bytes: text without its quotes, anything else as JSON. `None` if it is `null`.
    pub(super) key: Option<Vec<u8>>,
    /// In ms since 1970.
    pub(super) time_ms: Option<i64>,
}

impl Fields {
    /// Whether lines need not be looked into at all.
    pub(super) fn is_empty(&self) -> bool {
        self.key.is_none() && self.time.is_none()
    }

    /// Looks into one line. A field that is asked for must be there.
    pub(super) fn find(&self, line: &[u8]) -> Result<Found, String> {
        let mut json = serde_json::Deserializer::from_slice(line);
        let (key, time) = Look(self).deserialize(&mut json).map_err(|e| e.to_string())?;
        json.end().map_err(|e| e.to_string())?;
        Ok(Found { key: key.flatten(), time_ms: time })
    }
}

struct Look<'a>(&'a Fields);

type Seen = (Option<Option<Vec<u8>>>, Option<i64>);

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = Seen;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Seen, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seen, A::Error> {
        let Fields { key: want_key, time: want_time } = self.0;
        let (mut key, mut time) = (None, None);
        while let Some(name) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            let (is_key, is_time) = (want_key.as_deref() == Some(&*name), want_time.as_deref() == Some(&*name));
            if !is_key && !is_time {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: Value = map.next_value()?;
            if is_time {
                time = Some(time_ms(&value).map_err(A::Error::custom)?);
            }
            if is_key {
                key = Some(key_bytes(value));
            }
        }
        let missing = |name: &String| A::Error::custom(format!("there is no field `{name}`"));
        if let (Some(name), None) = (want_key, &key) {
            return Err(missing(name));
        }
        if let (Some(name), None) = (want_time, time) {
            return Err(missing(name));
        }
        Ok((key, time))
    }
}

fn key_bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.into_bytes()),
        other => Some(other.to_string().into_bytes()),
    }
}

fn time_ms(value: &Value) -> Result<i64, String> {
    let ms = match value {
        Value::Number(n) => n.as_i64(),
        Value::String(text) => units::time(text),
        _ => None,
    };
    ms.ok_or_else(|| format!("{value} is no time: give ms since 1970, or text such as 2026-01-31T12:00:00Z"))
}
