//! How a record is printed.

use super::units::show_time;
use clap::Args;
use millpond_client::{ConsumerRecord, HeaderRef};
use serde_json::{Map, Value, json};
use std::io::{self, Write};

/// How a record is printed. With `--json` all of it is, as an object.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(super) struct Format {
    /// Print the key before the value, and a tab between them
    #[arg(long, conflicts_with = "json")]
    with_key: bool,
    /// Print partition, offset and time before the value
    #[arg(long, conflicts_with = "json")]
    with_place: bool,
}

impl Format {
    /// One record and the end of its line. Bytes go out as they are.
    pub(super) fn write(self, json: bool, record: &ConsumerRecord, to: &mut impl Write) -> io::Result<()> {
        if json {
            serde_json::to_writer(&mut *to, &object(record))?;
            return to.write_all(b"\n");
        }
        if self.with_place {
            write!(to, "{}-{}\t{}\t{}\t", record.topic, record.partition, record.offset(), show_time(record.timestamp_ms()))?;
        }
        if self.with_key {
            to.write_all(record.key().map(|b| &b[..]).unwrap_or_default())?;
            to.write_all(b"\t")?;
        }
        to.write_all(record.value().map(|b| &b[..]).unwrap_or_default())?;
        to.write_all(b"\n")
    }
}

fn object(record: &ConsumerRecord) -> Value {
    let mut map = Map::new();
    map.insert("topic".into(), json!(*record.topic));
    map.insert("partition".into(), json!(record.partition));
    map.insert("offset".into(), json!(record.offset()));
    map.insert("timestamp".into(), json!(record.timestamp_ms()));
    map.insert("time".into(), json!(show_time(record.timestamp_ms())));
    put(&mut map, "key", record.key().map(|b| &b[..]));
    put(&mut map, "value", record.value().map(|b| &b[..]));
    let mut headers = record.headers().peekable();
    if headers.peek().is_some() {
        let header = |HeaderRef { key, value }| {
            let mut map = Map::new();
            map.insert("name".into(), json!(String::from_utf8_lossy(&key)));
            put(&mut map, "value", value.as_deref());
            Value::Object(map)
        };
        map.insert("headers".into(), headers.map(header).collect());
    }
    Value::Object(map)
}

/// Bytes as text where they are text, else as hex under another name, so that nothing is lost.
fn put(map: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|b| (b, std::str::from_utf8(b))) {
        None => map.insert(name.into(), Value::Null),
        Some((_, Ok(text))) => map.insert(name.into(), json!(text)),
        Some((bytes, Err(_))) => {
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            map.insert(format!("{name}_hex"), json!(hex))
        }
    };
}
