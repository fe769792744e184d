//! The Millpond client: produce, consume, replay and administer, on tokio.
