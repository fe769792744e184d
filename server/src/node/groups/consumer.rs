//! Groups of Kafka's newer sort next to their coordinator: whatever a member is told was written and synced before.

use super::{Core, Held, ROOM_WAIT, Seat, await_room, classic::Answered};
use crate::{
    coordinator::{
        classic::Speaker,
        consumer::{Beat, Beaten, Described},
    },
    node::partition::Partition,
};
use millpond_runtime::Rt;
use millpond_wire::messages::{Failure, FetchOffsets, FetchOffsetsReply};
use std::{collections::BTreeSet, rc::Rc};

impl<R: Rt> Core<R> {
    /// A member's sign of life.
    pub async fn beat_consumer(self: &Rc<Self>, beat: Beat) -> Answered<Beaten> {
        let new_id = self.new_member_id(beat.instance.as_deref().unwrap_or(&beat.client_id));
        let group = beat.group.clone();
        self.with_group(&group, move |core, held, partition| async move {
            let here = core.offsets(partition)?;
            await_room(&core.rt, &here.log, ROOM_WAIT).await;
            let beaten = held.coordinator.borrow_mut().beat_consumer(core.now_ms(), beat, new_id);
            core.settle_changed(&here, &held).await?;
            Ok(beaten)
        })
        .await
    }

    /// A group of this sort; nothing if it has no members.
    pub async fn described_consumer(self: &Rc<Self>, group: String) -> Result<Option<Described>, Failure> {
        let name = group.clone();
        self.with_group(&name, move |core, held, partition| async move {
            let described = held.coordinator.borrow().described_consumer(&group);
            let here = core.offsets(partition)?;
            core.settle_changed(&here, &held).await?;
            Ok(described)
        })
        .await
    }

    /// All positions of a group, for one of its members, or for anybody: then its generation, or epoch, is -1. And the partitions
    /// whose positions wait for the end of a transaction.
    pub async fn fetch_group(self: &Rc<Self>, speaker: Speaker) -> Answered<(FetchOffsetsReply, BTreeSet<(String, u32)>)> {
        let group = speaker.group.clone();
        self.with_group(&group, move |core, held, partition| async move {
            let here = core.offsets(partition)?;
            core.settle(&here, &held).await?;
            let coordinator = held.coordinator.borrow();
            let may = coordinator.check_member(&speaker.group, &speaker.member, speaker.generation);
            let all = FetchOffsets { group: speaker.group, ..FetchOffsets::default() };
            Ok(may.map(|()| (coordinator.fetch_offsets(&all), coordinator.unstable(&all.group))))
        })
        .await
    }

    /// Writes what has changed in groups, and waits until that and all before it lasts.
    pub(super) async fn settle_changed(&self, here: &Partition<R>, held: &Seat) -> Result<(), Failure> {
        held.coordinator.borrow_mut().write_changed(|records| self.put(here, held, records))?;
        self.settle(here, held).await
    }

    /// Writes what has changed in groups by the clock or the catalog; nobody waits for it.
    pub(super) fn write_groups_at_leisure(&self, partition: u32, held: &Held) {
        let Ok(here) = self.offsets(partition) else { return };
        if let Err(failure) = held.coordinator.borrow_mut().write_changed(|records| self.put(&here, held, records)) {
            tracing::debug!(partition, failure = failure.message, "what has changed in groups stays unwritten for now");
        }
    }
}
