#![expect(clippy::disallowed_methods, reason = "the queue is between threads")]

use super::*;
use futures_lite::future::block_on;
use std::thread;

#[test]
fn keeps_the_order_of_each_sender_and_loses_nothing() {
    const SENDERS: u64 = 4;
    const EACH: u64 = 20_000;
    let (sender, mut receiver) = mailbox::<(u64, u64)>(8);
    let threads: Vec<_> = (0..SENDERS)
        .map(|who| {
            let sender = sender.clone();
            thread::spawn(move || {
                block_on(async {
                    for n in 0..EACH {
                        sender.send((who, n)).await.expect("the receiver lives");
                    }
                });
            })
        })
        .collect();
    drop(sender);
    let mut next = [0; SENDERS as usize];
    block_on(async {
        while let Some((who, n)) = receiver.recv().await {
            assert_eq!(n, next[who as usize], "sender {who}");
            next[who as usize] += 1;
        }
    });
    assert_eq!(next, [EACH; SENDERS as usize]);
    for t in threads {
        t.join().expect("a sender panicked");
    }
}

#[test]
fn a_full_queue_refuses_and_a_lost_receiver_gives_back() {
    let (sender, mut receiver) = mailbox(2);
    sender.try_send(1).expect("room");
    sender.try_send(2).expect("room");
    assert!(matches!(sender.try_send(3), Err(TrySendError::Full(3))));
    assert_eq!(receiver.try_recv(), Some(1));
    sender.try_send(3).expect("room again");
    assert_eq!(receiver.depth(), 2);
    drop(receiver);
    assert!(matches!(sender.try_send(4), Err(TrySendError::Closed(4))));
    assert!(matches!(block_on(sender.send(5)), Err(Closed(5))));
}

#[test]
fn takes_many_at_once_and_ends_with_the_last_sender() {
    let (sender, mut receiver) = mailbox(16);
    for n in 0..10 {
        sender.try_send(n).expect("room");
    }
    let mut got = Vec::new();
    assert_eq!(block_on(receiver.recv_many(&mut got, 4)), 4);
    assert_eq!(block_on(receiver.recv_many(&mut got, 100)), 6);
    assert_eq!(got, (0..10).collect::<Vec<_>>());
    drop(sender);
    assert_eq!(block_on(receiver.recv_many(&mut got, 1)), 0);
}
