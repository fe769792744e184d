use super::*;
use std::sync::{Arc, Mutex};
use tracing::{Event, Metadata, Subscriber, field::Visit, span};

/// Writes fields of events down.
struct Listener(Arc<Mutex<Vec<String>>>);

struct Fields(Vec<String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        self.0.push(format!("{field}={value:?}"));
    }
}

impl Subscriber for Listener {
    fn enabled(&self, of: &Metadata<'_>) -> bool {
        *of.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(vec![event.metadata().target().to_owned()]);
        event.record(&mut fields);
        fields.0.sort();
        self.0.lock().expect("no test panics with it").push(fields.0.join(" "));
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn what_raft_says_names_the_group_the_replica_and_the_term() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    tracing::subscriber::with_default(Listener(Arc::clone(&heard)), || {
        let replica = of_group(&logger(), GroupId(7)).new(o!("raft_id" => 3_u64));
        slog::warn!(replica, "lost"; "term" => 5_u64, "msg_term" => 6_u64);
        slog::error!(replica, "broken");
        slog::info!(replica, "an election"; "term" => 5_u64);
    });
    let heard = heard.lock().expect("no test panics with it");
    assert_eq!(*heard, ["group=7 message=lost raft replica=3 term=5", "group=7 message=broken raft replica=3"]);
}
