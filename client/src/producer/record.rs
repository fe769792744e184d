//! A record on its way out.

/// A record to be sent. It borrows its bytes: they are copied once, into the batch.
///
/// ```
/// use millpond_client::ProducerRecord;
/// let record = ProducerRecord::to("orders").key("customer-7").value(r#"{"total":12}"#).header("source", "web");
/// # let _ = record;
/// ```
#[derive(Clone, Debug, Default)]
pub struct ProducerRecord<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: Option<u32>,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

impl<'a> ProducerRecord<'a> {
    /// A record for `topic`, with neither key nor value.
    #[must_use]
    pub fn to(topic: &'a str) -> Self {
        Self { topic, ..Self::default() }
    }

    /// Its key. Records of one key keep their order.
    #[must_use]
    pub fn key<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// Its value. Without one it is a tombstone: in a compacted topic it deletes its key.
    #[must_use]
    pub fn value<V: AsRef<[u8]> + ?Sized>(mut self, value: &'a V) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header<V: AsRef<[u8]> + ?Sized>(mut self, name: &'a str, value: &'a V) -> Self {
        self.headers.push((name, Some(value.as_ref())));
        self
    }

    /// Adds a header that may be null.
    #[must_use]
    pub fn header_or_null(mut self, name: &'a str, value: Option<&'a [u8]>) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The partition it goes to, instead of the partitioner's choice.
    #[must_use]
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// When it happened, in milliseconds since 1970, instead of now.
    #[must_use]
    pub fn timestamp_ms(mut self, ms: i64) -> Self {
        self.timestamp_ms = Some(ms);
        self
    }
}
