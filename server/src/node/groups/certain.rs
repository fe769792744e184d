//! Which answers of a coordinator are given only once it is certain that it still is one.
//!
//! A leader that was stuck, or cut off, may not know yet that another one leads. What it writes comes to nothing, and whoever asked is told that; but what it answers
//! from memory may be old. An old refusal ends a consumer or a producer for good, and an old success says of something that it was done which was not. So what
//! was not written for this answer is confirmed by a majority before it is told. Signs of life are not, as long as they are answered with success, or a
//! refusal that has the member come again: there are many of them, and the member learns of a newer coordinator with the next one.

use crate::{
    coordinator::{
        self,
        classic::{self, Joined, Synced},
        consumer::{self, Beaten},
        transactions::{DescribedTransaction, Step},
    },
    node::is_final,
};
use millpond_wire::messages::{
    CommitOffsetsReply, DescribeGroupReply, Done, Failure, FetchOffsetsReply, GroupHeartbeatReply, JoinTransactionReply, TransactionRefusal,
};
use std::collections::BTreeSet;

/// What a coordinator answers.
pub(super) trait Answer {
    /// Whether it rests on nothing but what the coordinator remembers.
    fn is_from_memory(&self) -> bool;
}

macro_rules! answers {
    ($($answer:ty),+ $(,)? => $from_memory:expr) => {
        $(impl Answer for $answer {
            fn is_from_memory(&self) -> bool {
                let is: fn(&Self) -> bool = $from_memory;
                is(self)
            }
        })+
    };
}

answers!((), Done, GroupHeartbeatReply, Joined, Synced, Beaten => |_| false);
// What was kept was written; what was not is said from memory.
answers!(CommitOffsetsReply => |reply| !reply.failures.is_empty());
// What is not known is not deleted, and that is told as success.
answers!(BTreeSet<String> => |_| true);
answers!(FetchOffsetsReply, (FetchOffsetsReply, BTreeSet<(String, u32)>) => |_| true);
answers!(DescribeGroupReply, classic::Described, consumer::Described, DescribedTransaction => |_| true);
// An end that is asked for again is not written again, nor is what is in a transaction already; a number of one is told.
answers!(Step, JoinTransactionReply, u32 => |_| true);
answers!(Failure => is_final);
answers!(coordinator::Refused, TransactionRefusal => |_| true);
answers!(classic::Refused => |refused| {
    use classic::Refused::{NameGiven, Rebalance, StaleEpoch};
    !matches!(refused, Rebalance | NameGiven { .. } | StaleEpoch { .. })
});

impl<T: Answer, E: Answer> Answer for Result<T, E> {
    fn is_from_memory(&self) -> bool {
        self.as_ref().map_or_else(Answer::is_from_memory, Answer::is_from_memory)
    }
}

/// That there is nothing is told, too.
impl<T: Answer> Answer for Option<T> {
    fn is_from_memory(&self) -> bool {
        self.as_ref().is_none_or(Answer::is_from_memory)
    }
}

impl<T: Answer> Answer for Vec<T> {
    fn is_from_memory(&self) -> bool {
        self.iter().any(Answer::is_from_memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{coordinator::transactions::Who, node::not_owner};
    use millpond_wire::messages::{Code, CommitFailure};

    /// Ends for good, and ends that were decided before, are not told by whoever is not certain; what has its member come again is, since there is so much of it.
    #[test]
    fn what_nobody_comes_back_from_is_confirmed() {
        type Refused<T> = Result<Result<T, classic::Refused>, Failure>;
        let fenced = || classic::Refused::Fenced { instance: "one".into() };
        assert!(Refused::<()>::Ok(Err(fenced())).is_from_memory());
        assert!(!Refused::<()>::Ok(Err(classic::Refused::Rebalance)).is_from_memory());
        assert!(!Refused::<()>::Ok(Ok(())).is_from_memory());
        assert!(Refused::Ok(Ok(vec![Ok(()), Err(fenced())])).is_from_memory(), "one of those that leave");
        let within: Refused<Result<CommitOffsetsReply, TransactionRefusal>> = Ok(Ok(Err(TransactionRefusal::Fenced)));
        assert!(within.is_from_memory());
        let who: Who = (1, 0);
        assert!(
            Result::<_, Failure>::Ok(Result::<_, TransactionRefusal>::Ok(Step::Is(who))).is_from_memory(),
            "an end that is asked for again"
        );
        assert!(Result::<_, Failure>::Ok(BTreeSet::<String>::new()).is_from_memory(), "positions that are not known are deleted already");
        let kept = CommitOffsetsReply::default();
        let refused = CommitOffsetsReply { failures: vec![CommitFailure::default()] };
        assert_eq!([kept.is_from_memory(), refused.is_from_memory()], [false, true]);
        assert!(Result::<Done, _>::Err(Failure::new(Code::UnknownGroup, "", "")).is_from_memory());
        assert!(!Result::<Done, _>::Err(not_owner(None)).is_from_memory(), "that says it already");
        assert!(Result::<_, Failure>::Ok(Option::<DescribedTransaction>::None).is_from_memory());
    }
}
