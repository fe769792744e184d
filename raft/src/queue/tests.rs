use super::*;
use millpond_runtime::GroupId;
use raft::eraftpb::{Entry, Message};

fn some(group: u64, bytes: usize) -> Envelope {
    let mut message = Message::default();
    message.entries.push(Entry { data: vec![0; bytes].into(), ..Entry::default() });
    Envelope { group: GroupId(group), said: crate::wire::Said::Raft(message) }
}

fn take(queue: &Queue) -> Option<Vec<u64>> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(queue.take()).poll(&mut cx) {
        std::task::Poll::Ready(taken) => Some(taken?.iter().map(|envelope| envelope.group.0).collect()),
        std::task::Poll::Pending => panic!("there is nothing to take"),
    }
}

#[test]
fn a_frame_takes_what_has_room_in_it_in_order() {
    let queue = Queue::new(usize::MAX);
    for (group, bytes) in [(1, 10), (2, CUT_BYTES), (3, 10)] {
        queue.push(some(group, bytes));
    }
    assert_eq!(take(&queue), Some(vec![1, 2]), "the one that reaches the cut is the last");
    assert_eq!(take(&queue), Some(vec![3]));
}

#[test]
fn what_is_too_much_is_dropped_and_one_always_fits() {
    let queue = Queue::new(1000);
    for (group, bytes) in [(1, 5000), (2, 10)] {
        queue.push(some(group, bytes));
    }
    assert_eq!(take(&queue), Some(vec![1]));
    queue.push(some(3, 10));
    queue.push(some(4, 10));
    let (messages, bytes) = queue.waiting();
    assert!(messages == 2 && (20..1000).contains(&bytes), "{messages} messages of {bytes} bytes");
    queue.clear();
    assert_eq!(queue.waiting(), (0, 0));
    queue.wake();
    assert_eq!(take(&queue), None, "somebody wanted it to look");
    queue.push(some(5, 10));
    assert_eq!(take(&queue), Some(vec![5]), "nothing counts that is gone");
}

#[test]
fn a_beat_brings_a_frame_with_whatever_waits() {
    let queue = Queue::new(1000);
    queue.beat();
    assert_eq!(take(&queue), Some(vec![]));
    queue.push(some(1, 10));
    queue.beat();
    assert_eq!(take(&queue), Some(vec![1]), "one frame, not two");
}
