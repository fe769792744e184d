//! Streams between nodes: order, bounds, cuts, deaths.

use super::*;
use std::{io, net::SocketAddr};

fn any(port: u16) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], port))
}

fn kind<T>(result: crate::Result<T>) -> io::ErrorKind {
    match result {
        Err(IoError::Net { source, .. }) => source.kind(),
        Err(other) => panic!("not an error of the net: {other}"),
        Ok(_) => panic!("an error was expected"),
    }
}

/// A pair of connected ends, the dialled one first, handed out to the test.
fn connect(sim: &Sim, from: NodeId, to: NodeId) -> (SimConn, SimConn) {
    let (dialled, accepted) = (Rc::new(RefCell::new(None)), Rc::new(RefCell::new(None)));
    let (d, a, at) = (dialled.clone(), accepted.clone(), sim.node(to).addr(9000));
    sim.node(to).start(C0, |rt| async move {
        let listener = rt.listen(any(9000)).await.expect("the port is free");
        *a.borrow_mut() = Some(listener.accept().await.expect("accepting does not fail"));
    });
    sim.run_for(SECOND).expect("nothing fails");
    sim.node(from).start(C0, |rt| async move {
        *d.borrow_mut() = Some(rt.dial(at).await.expect("someone listens"));
    });
    sim.run_until(|| dialled.borrow().is_some() && accepted.borrow().is_some(), HOUR).expect("they connect");
    let ends = (dialled.take(), accepted.take());
    (ends.0.expect("waited for"), ends.1.expect("waited for"))
}

/// Receives until the end or an error.
async fn drain(reader: &mut SimConnRead) -> (Vec<u8>, crate::Result<()>) {
    let mut all = Vec::new();
    loop {
        let mut some = BytesMut::with_capacity(1000);
        match reader.recv(&mut some).await {
            Ok(0) => return (all, Ok(())),
            Ok(_) => all.extend_from_slice(&some),
            Err(error) => return (all, Err(error)),
        }
    }
}

#[test]
fn bytes_arrive_in_order_whole_and_in_other_pieces() {
    let mut sizes = BTreeSet::new();
    for seed in 0..100 {
        let faults = FaultPlan { link_clog: 0.05, ..FaultPlan::none() };
        let sim = Sim::new(SimConfig { seed, faults });
        let (dialled, accepted) = connect(&sim, N1, N2);
        assert_eq!((dialled.local(), dialled.peer()), (accepted.peer(), accepted.local()));
        let sent: Vec<u8> = (0..100_000).map(|n: u32| (n * 7 % 251) as u8).collect();
        let expected = sent.clone();
        let (mut reader, mut writer) = (accepted.split().0, dialled.split().1);
        sim.node(N1).start(C0, |rt| async move {
            let mut left = Bytes::from(sent);
            while !left.is_empty() {
                let some = left.split_to((rt.rand() % 5000) as usize % (left.len() + 1));
                let rest = left.split_to((rt.rand() % 10) as usize % (left.len() + 1));
                writer.send(&[some, rest]).await.expect("the connection lives");
            }
        });
        let got = Rc::new(RefCell::new(None));
        let (out, pieces) = (got.clone(), Rc::new(RefCell::new(BTreeSet::new())));
        let seen = pieces.clone();
        sim.node(N2).start(C0, |_| async move {
            let mut all = Vec::new();
            let mut some = BytesMut::with_capacity(8192);
            while reader.recv(&mut some).await.expect("the connection lives") > 0 {
                seen.borrow_mut().insert(some.len());
                all.extend_from_slice(&some);
                some.clear();
            }
            *out.borrow_mut() = Some(all);
        });
        sim.run_until(|| got.borrow().is_some(), HOUR).expect("all arrives");
        assert!(got.take() == Some(expected), "seed {seed}: other bytes arrived");
        sizes.append(&mut pieces.borrow_mut());
    }
    assert!(sizes.len() > 1000 && sizes.contains(&1), "pieces of any size: {} sizes", sizes.len());
}

#[test]
fn who_never_reads_stalls_who_sends() {
    for seed in 0..50 {
        let sim = Sim::new(seed);
        let (dialled, accepted) = connect(&sim, N1, N2);
        let (mut reader, mut writer) = (accepted.split().0, dialled.split().1);
        let sent = Rc::new(Cell::new(0));
        let count = sent.clone();
        sim.node(N1).start(C0, |_| async move {
            for _ in 0..1000 {
                writer.send(&[Bytes::from_static(&[1; 1024])]).await.expect("the connection lives");
                count.set(count.get() + 1024);
            }
        });
        sim.run_for(SECOND).expect("nothing fails");
        assert!((0..=262_144).contains(&sent.get()), "seed {seed}: {} bytes are under way", sent.get());
        let all = sim.block_on(N2, |_| async move { drain(&mut reader).await.0.len() });
        assert_eq!(all.expect("done"), 1000 * 1024);
    }
}

#[test]
fn cut_link_holds_back_one_direction() {
    let sim = Sim::new(4);
    let (dialled, accepted) = connect(&sim, N1, N2);
    let (reader1, mut writer1) = dialled.split();
    let (reader2, mut writer2) = accepted.split();
    let (got1, got2) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    for (node, got, mut reader) in [(N1, got1.clone(), reader1), (N2, got2.clone(), reader2)] {
        sim.node(node).start(C0, |_| async move {
            let mut some = BytesMut::with_capacity(10);
            while let Ok(n @ 1..) = reader.recv(&mut some).await {
                got.set(got.get() + n);
            }
        });
    }
    sim.cut(N1, N2);
    sim.node(N1).start(C0, |rt| async move {
        writer1.send(&[Bytes::from_static(b"there")]).await.expect("there is room");
        rt.sleep(10 * HOUR).await;
    });
    sim.node(N2).start(C0, |rt| async move {
        writer2.send(&[Bytes::from_static(b"back")]).await.expect("there is room");
        rt.sleep(10 * HOUR).await;
    });
    sim.run_for(60 * SECOND).expect("nothing fails");
    assert_eq!((got1.get(), got2.get()), (4, 0));
    let refused =
        sim.block_on(N1, |rt| async move { timeout(&rt, 10 * SECOND, rt.dial("10.0.0.2:9000".parse().expect("an address"))).await });
    assert!(refused.expect("done").is_err(), "nobody answers over a cut link");
    sim.heal(N1, N2);
    sim.run_for(SECOND).expect("nothing fails");
    assert_eq!((got1.get(), got2.get()), (4, 5));
}

#[test]
fn clogged_link_flows_again_by_itself() {
    let sim = Sim::new(4);
    let (dialled, accepted) = connect(&sim, N1, N2);
    sim.clog(N1, N2, 10 * SECOND);
    sim.clog(N1, N2, SECOND);
    let clogged_at = sim.elapsed();
    sim.node(N1).start(C0, |rt| async move {
        dialled.split().1.send(&[Bytes::from_static(b"late")]).await.expect("there is room");
        rt.sleep(HOUR).await;
    });
    let got = sim.block_on(N2, |_| async move {
        let mut some = BytesMut::with_capacity(10);
        accepted.split().0.recv(&mut some).await.map(|_| some)
    });
    assert!(b"late".starts_with(&got.expect("done").expect("nothing breaks")));
    let waited = sim.elapsed() - clogged_at;
    assert!(waited >= 10 * SECOND && waited < 11 * SECOND, "the longer clog counts: {waited:?}");
}

#[test]
fn slow_link_is_slow_until_it_is_healed() {
    let sim = Sim::new(4);
    let (dialled, accepted) = connect(&sim, N1, N2);
    let (mut reader, mut writer) = (accepted.split().0, dialled.split().1);
    sim.slow_link(N1, N2, 100_000);
    for (text, healed) in [(&b"a"[..], false), (b"b", true)] {
        if healed {
            sim.heal_all();
        }
        let began = sim.elapsed();
        writer = sim
            .block_on(N1, |_| async move { writer.send(&[Bytes::from_static(text)]).await.map(|()| writer) })
            .expect("done")
            .expect("room");
        let received = sim.block_on(N2, |_| async move {
            let mut one = BytesMut::with_capacity(1);
            reader.recv(&mut one).await.map(|_| (reader, one))
        });
        let one;
        (reader, one) = received.expect("done").expect("nothing breaks");
        assert_eq!(one, text);
        assert_eq!(sim.elapsed() - began < SECOND, healed, "100,000 times at least 30 µs");
    }
}

#[test]
fn stream_breaks_after_fifteen_minutes_of_silence() {
    let sim = Sim::new(4);
    let (dialled, _accepted) = connect(&sim, N1, N2);
    sim.cut(N1, N2);
    let broken = sim.block_on(N1, |_| async move {
        let (mut reader, mut writer) = dialled.split();
        writer.send(&[Bytes::from_static(b"hello?")]).await.expect("there is room");
        drain(&mut reader).await.1
    });
    assert_eq!(kind(broken.expect("done")), io::ErrorKind::TimedOut);
    assert!(sim.elapsed() > Duration::from_secs(900));
}

#[test]
fn nobody_listens() {
    let sim = Sim::new(2);
    let dial = |to: &str| {
        let to: SocketAddr = to.parse().expect("an address");
        kind(sim.block_on(N1, |rt| async move { rt.dial(to).await }).expect("done"))
    };
    let _ = sim.node(N2);
    assert_eq!(dial("10.0.0.2:1"), io::ErrorKind::ConnectionRefused);
    assert_eq!(dial("127.0.0.1:1"), io::ErrorKind::ConnectionRefused);
    assert!(sim.elapsed() < SECOND);
    sim.kill(N2);
    assert_eq!(dial("10.0.0.2:1"), io::ErrorKind::ConnectionRefused, "the machine answers for a dead process");
    sim.crash(N2);
    let before = sim.elapsed();
    assert_eq!(dial("10.0.0.2:1"), io::ErrorKind::TimedOut, "nobody answers for a dead machine");
    assert!(sim.elapsed() - before > 100 * SECOND);
    assert_eq!(dial("10.0.0.99:1"), io::ErrorKind::TimedOut);
}

#[test]
fn listening_is_for_own_addresses() {
    let sim = Sim::new(2);
    let (foreign, first, second) = sim
        .block_on(N1, |rt| async move {
            let foreign = rt.listen("10.0.0.2:80".parse().expect("an address")).await;
            let own = rt.listen("10.0.0.1:0".parse().expect("an address")).await.expect("own address");
            let other = rt.listen("127.0.0.1:0".parse().expect("an address")).await.expect("own address");
            (foreign.map(|listener| listener.local()), own.local(), other.local())
        })
        .expect("done");
    assert_eq!(kind(foreign), io::ErrorKind::AddrNotAvailable);
    assert!(first.port() > 0 && second.port() > 0 && first.port() != second.port());
}

#[test]
fn cores_share_an_address() {
    let sim = Sim::new(8);
    let node = sim.node(N1);
    let accepted = Rc::new(RefCell::new([0, 0]));
    for core in [C0, C1] {
        let accepted = accepted.clone();
        node.start(core, |rt| async move {
            let listener = rt.listen(any(7400)).await.expect("shared");
            while listener.accept().await.is_ok() {
                accepted.borrow_mut()[usize::from(rt.core().0)] += 1;
            }
        });
    }
    sim.run_for(SECOND).expect("nothing fails");
    let to = node.addr(7400);
    sim.node(N2).start(C0, |rt| async move {
        for _ in 0..40 {
            rt.dial(to).await.expect("they listen");
        }
    });
    sim.run_until(|| accepted.borrow().iter().sum::<u32>() == 40, HOUR).expect("all are accepted");
    assert!(accepted.borrow().iter().all(|n| *n > 5), "{accepted:?}");
}

#[test]
fn power_cut_leaves_the_peer_half_open() {
    for seed in 0..30 {
        let sim = Sim::new(seed);
        let (dialled, _accepted) = connect(&sim, N1, N2);
        let (mut reader, writer) = dialled.split();
        let over = Rc::new(RefCell::new(None));
        let out = over.clone();
        sim.crash(N2);
        sim.node(N1).start(C0, |_| async move {
            *out.borrow_mut() = Some(drain(&mut reader).await.1);
        });
        sim.run_for(HOUR).expect("nothing fails");
        assert!(over.borrow().is_none(), "seed {seed}: nobody says goodbye");
        sim.restart(N2);
        sim.run_for(SECOND).expect("nothing fails");
        assert!(over.borrow().is_none(), "seed {seed}: who sends nothing learns nothing");
        let mut writer = writer;
        sim.node(N1).start(C0, |rt| async move {
            let _ = writer.send(&[Bytes::from_static(b"still there?")]).await;
            rt.sleep(HOUR).await;
        });
        sim.run_until(|| over.borrow().is_some(), SECOND).expect("a reset comes");
        assert_eq!(kind(over.take().expect("waited for")), io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn power_cut_may_swallow_what_was_sent() {
    let mut arrived = BTreeSet::new();
    for seed in 0..100 {
        let sim = Sim::new(seed);
        let (dialled, accepted) = connect(&sim, N1, N2);
        sim.node(N2).start(C0, |rt| async move {
            let (_reader, mut writer) = accepted.split();
            for n in 0..3 {
                writer.send(&[Bytes::from(vec![n])]).await.expect("there is room");
            }
            rt.sleep(HOUR).await;
        });
        sim.run_for(Duration::from_micros(10)).expect("nothing fails");
        sim.crash(N2);
        let bytes = sim.block_on(N1, |rt| async move {
            let mut reader = dialled.split().0;
            let mut all = BytesMut::with_capacity(100);
            while let Ok(Ok(1..)) = timeout(&rt, HOUR, reader.recv(&mut all)).await {}
            all
        });
        arrived.insert(bytes.expect("done").to_vec());
    }
    let prefixes: BTreeSet<Vec<u8>> = (0..=3).map(|n| (0..n).collect()).collect();
    assert_eq!(arrived, prefixes, "any prefix, and nothing but prefixes");
}

#[test]
fn killed_process_says_goodbye() {
    for seed in 0..30 {
        let sim = Sim::new(seed);
        let (dialled, accepted) = connect(&sim, N1, N2);
        sim.node(N2).start(C0, |rt| async move {
            let (_reader, mut writer) = accepted.split();
            writer.send(&[Bytes::from_static(b"last words")]).await.expect("there is room");
            rt.sleep(HOUR).await;
        });
        sim.run_for(Duration::from_micros(10)).expect("nothing fails");
        sim.kill(N2);
        let (bytes, end) = sim.block_on(N1, |_| async move { drain(&mut dialled.split().0).await }).expect("done");
        end.expect("a farewell, not a reset: nothing was unread");
        assert!(bytes.is_empty() || bytes == b"last words", "seed {seed}");
    }
}

#[test]
fn shutdown_ends_both_readers() {
    let sim = Sim::new(6);
    let (dialled, accepted) = connect(&sim, N1, N2);
    let (ended, got) = (Rc::new(Cell::new(false)), Rc::new(RefCell::new(None)));
    let (flag, out) = (ended.clone(), got.clone());
    sim.node(N1).start(C0, |rt| async move {
        let (mut reader, mut writer) = dialled.split();
        rt.spawn("reader", Share::Serve, async move {
            drain(&mut reader).await.1.expect("an end and no error");
            flag.set(true);
        });
        rt.sleep(SECOND).await;
        writer.send(&[Bytes::from_static(b"all of it")]).await.expect("there is room");
        writer.shutdown();
        assert_eq!(kind(writer.send(&[Bytes::from_static(b"more")]).await), io::ErrorKind::BrokenPipe);
    });
    sim.node(N2).start(C0, |_| async move {
        *out.borrow_mut() = Some(drain(&mut accepted.split().0).await.0);
    });
    sim.run_until(|| ended.get() && got.borrow().is_some(), HOUR).expect("both end");
    assert_eq!(got.take().expect("waited for"), b"all of it");
}

#[test]
fn closing_with_unread_bytes_resets() {
    let sim = Sim::new(6);
    let (dialled, accepted) = connect(&sim, N1, N2);
    sim.node(N2).start(C0, |rt| async move {
        rt.sleep(SECOND).await;
        drop(accepted);
    });
    let end = sim.block_on(N1, |_| async move {
        let (mut reader, mut writer) = dialled.split();
        writer.send(&[Bytes::from_static(b"nobody reads this")]).await.expect("there is room");
        drain(&mut reader).await.1
    });
    assert_eq!(kind(end.expect("done")), io::ErrorKind::ConnectionReset);
}

#[test]
fn reset_breaks_both_ends() {
    let sim = Sim::new(6);
    let (dialled, accepted) = connect(&sim, N1, N2);
    sim.reset_conns(N2, N1);
    for (node, conn) in [(N1, dialled), (N2, accepted)] {
        let end = sim.block_on(node, |_| async move { drain(&mut conn.split().0).await.1 });
        assert_eq!(kind(end.expect("done")), io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn dropped_recv_loses_nothing() {
    for seed in 0..50 {
        let sim = Sim::new(seed);
        let (dialled, accepted) = connect(&sim, N1, N2);
        sim.node(N1).start(C0, |rt| async move {
            let mut writer = dialled.split().1;
            for n in 0..50_u8 {
                writer.send(&[Bytes::from(vec![n; 3])]).await.expect("the connection lives");
                rt.sleep(Duration::from_micros(rt.rand() % 500)).await;
            }
        });
        let got = sim.block_on(N2, |rt| async move {
            let mut reader = accepted.split().0;
            let mut all = BytesMut::with_capacity(1000);
            while all.len() < 150 {
                let _ = timeout(&rt, Duration::from_micros(100), reader.recv(&mut all)).await;
            }
            all
        });
        let expected: Vec<u8> = (0..50).flat_map(|n| [n; 3]).collect();
        assert_eq!(got.expect("done"), expected, "seed {seed}");
    }
}

#[test]
fn faults_of_the_net_happen() {
    let faults = FaultPlan { conn_reset: 0.05, link_clog: 0.05, stream_bit_flip: 0.05, ..FaultPlan::none() };
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..50 {
        let (.., coverage, _) = busy_run(seed, faults.clone());
        for (name, n) in coverage {
            *seen.entry(name).or_default() += n;
        }
    }
    for name in ["conn_reset", "link_clog", "stream_bit_flip", "dial_unanswered", "reset_by_absent_peer", "crash_at_poll"] {
        assert!(seen.contains_key(name), "{name} never happened: {seen:?}");
    }
}
