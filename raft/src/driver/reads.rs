//! Reads that see everything that was acknowledged before they began, at the leader or at a follower (Ongaro's thesis, 6.4): the leader notes
//! how far the log is committed, makes sure by a round of heartbeats that it still leads, and whoever reads waits until it has applied as much. With leases
//! (`driver/leases.rs`) that round serves the leader's reads for a while; what is committed by then has to be applied all the same.

use super::Driver;
use crate::replica::Replica;
use millpond_runtime::{GroupId, Index, Nanos, Rt};
use raft::ReadState;
use tokio::sync::oneshot;

/// A read that cannot be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The group does not live here, or has to be repaired.
    #[error("group {0} is not served here")]
    Unknown(GroupId),
    /// There is no leader, or it has changed, or it could not make sure that it leads: to be tried again.
    #[error("no leader has answered for the moment")]
    Again,
}

/// One that waits.
pub(crate) struct Read {
    number: u64,
    began: Nanos,
    /// How far the log must be applied, once that is known.
    index: Option<Index>,
    tell: oneshot::Sender<Result<Index, ReadError>>,
}

/// Where a read is told.
type Told = oneshot::Receiver<Result<Index, ReadError>>;

/// Reads of one group that wait at most; more are told to come again.
const READS_MAX: usize = 4096;

impl<R: Rt> Driver<R> {
    /// Waits until what this replica has applied includes everything that was acknowledged before the call. The entry up to which that is.
    pub async fn read_index(&self, group: GroupId) -> Result<Index, ReadError> {
        if let Some(index) = self.leased(group) {
            self.count(|c| c.lease_reads += 1);
            return self.once_applied(group, index).await;
        }
        let waiting = self.with(group, |replica| {
            replica.wake();
            if replica.leader().is_none() {
                return Err(ReadError::Again);
            }
            let (number, told) = self.wait(replica, None)?;
            replica.ask(|raw| raw.read_index(number.to_le_bytes().to_vec()));
            Ok(told)
        });
        waiting.unwrap_or(Err(ReadError::Unknown(group)))?.await.unwrap_or(Err(ReadError::Again))
    }

    /// Waits until what is committed up to an entry is applied here.
    async fn once_applied(&self, group: GroupId, index: Index) -> Result<Index, ReadError> {
        let told = {
            let mut replicas = self.0.replicas.borrow_mut();
            let replica = replicas.get_mut(&group).ok_or(ReadError::Unknown(group))?;
            if replica.applied >= index {
                return Ok(replica.applied);
            }
            self.wait(replica, Some(index))?.1
        };
        told.await.unwrap_or(Err(ReadError::Again))
    }

    /// Has one more wait: its number, and where it is told.
    fn wait(&self, replica: &mut Replica<R>, index: Option<Index>) -> Result<(u64, Told), ReadError> {
        if replica.reads.len() >= READS_MAX {
            return Err(ReadError::Again);
        }
        let (tell, told) = oneshot::channel();
        let number = self.read_number();
        replica.reads.push(Read { number, began: self.0.rt.mono(), index, tell });
        Ok((number, told))
    }

    /// A number that no read has had, of any start of any replica: an answer to an earlier one must not be taken for its own.
    fn read_number(&self) -> u64 {
        self.0.rt.rand()
    }

    /// Raft has made sure of these.
    pub(super) fn note_reads(&self, replica: &mut Replica<R>, states: Vec<ReadState>) {
        for state in states {
            if let Some(read) = replica.reads.iter_mut().find(|read| read.number.to_le_bytes()[..] == state.request_ctx[..]) {
                read.index = Some(Index(state.index));
                let began = read.began;
                self.renew_lease(replica, began);
            }
        }
        tell_reads(replica);
    }

    /// Gives up on reads that nobody has answered for.
    pub(super) fn expire_reads(&self, replica: &mut Replica<R>) {
        let patience = self.0.config.tick.as_nanos() as u64 * 2 * self.0.config.election_ticks as u64;
        let since = self.0.rt.mono().saturating_sub(patience);
        for read in replica.reads.extract_if(.., |read| read.began < since) {
            // Whoever asked may have gone.
            let _ = read.tell.send(Err(ReadError::Again));
        }
    }
}

/// Tells those who need no more than what is applied.
pub(super) fn tell_reads<R: Rt>(replica: &mut Replica<R>) {
    let applied = replica.applied;
    for read in replica.reads.extract_if(.., |read| read.index.is_some_and(|index| index <= applied)) {
        let _ = read.tell.send(Ok(applied));
    }
}
