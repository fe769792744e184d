//! Batches that come while the leadership of their group is handed over: they wait for that moment, in order, and are then appended, or their senders told who leads
//! and where. Nothing else waits behind them.

use super::{
    core::Core,
    partition::Partition,
    produce::{Checked, Hop, Outcome},
};
use bytes::BytesMut;
use millpond_runtime::{FxHashMap, GroupId, NodeId, Rt, Share, rt::timeout};
use millpond_wire::messages::{Code, Failure};
use std::{cell::RefCell, collections::VecDeque, rc::Rc, time::Duration};
use tokio::sync::Notify;

/// Batches wait no longer: longer than a leadership is tried to be handed over.
const HOLD_MAX: Duration = Duration::from_millis(500);
/// One that comes to nothing is not told of: it is looked for so often.
const LOOK: Duration = Duration::from_millis(10);

/// Batches that wait, by group. Their memory is that of batches that hop.
pub(super) type Holding = RefCell<FxHashMap<GroupId, VecDeque<Hop>>>;

impl<R: Rt> Core<R> {
    /// Whether batches for a partition have to wait.
    pub(super) fn holds(&self, partition: &Partition<R>) -> bool {
        partition.hands_over() || self.holding.borrow().contains_key(&partition.group)
    }

    /// Keeps a batch that came straight here.
    pub(super) async fn hold_here(
        self: &Rc<Self>,
        partition: &Rc<Partition<R>>,
        batch: BytesMut,
        checked: Checked,
        synced: bool,
    ) -> Outcome<R> {
        let (hop, answered) = self.prepare_hop(partition.group, batch, checked, synced).await;
        self.hold(Rc::clone(partition), hop);
        Outcome::There(answered)
    }

    /// Keeps a batch until it is known who leads.
    pub(super) fn hold(self: &Rc<Self>, partition: Rc<Partition<R>>, hop: Hop) {
        let mut holding = self.holding.borrow_mut();
        let waiting = holding.entry(partition.group).or_default();
        waiting.push_back(hop);
        if waiting.len() > 1 {
            return;
        }
        let core = Rc::clone(self);
        self.rt.spawn("hold", Share::Serve, async move {
            let until = core.rt.mono() + HOLD_MAX.as_nanos() as u64;
            while partition.hands_over() && core.rt.mono() < until {
                let waiter = Rc::new(Notify::new());
                partition.wait_on(&waiter);
                // Not to hear of anything is fine: it looks again.
                let _ = timeout(&core.rt, LOOK, waiter.notified()).await;
            }
            let waiting = core.holding.borrow_mut().remove(&partition.group).unwrap_or_default();
            for hop in waiting {
                core.append_now(core.partition(hop.group), hop);
            }
        });
    }

    /// Says of a refusal that names who answers for a group where that is: the core that owns it there.
    pub(super) fn told_where(&self, failure: Failure, group: GroupId) -> Failure {
        if failure.code() != Code::NotOwner || failure.node_id == 0 {
            return failure;
        }
        let catalog = self.catalog.borrow();
        let home = catalog.partition_of(group).map(|(topic, n)| topic.partitions[n as usize].home);
        match home.and_then(|home| catalog.place_of(NodeId(failure.node_id), home)) {
            Some((host, port)) => Failure { host: host.to_owned(), port: u32::from(port), ..failure },
            None => failure,
        }
    }
}
