//! What must hold in the end.

use crate::{
    ask::ask,
    book::{GROUPS, TOPIC},
    clients::Client,
    nodes::{CLIENTS, Nodes, PORT, WHOLE_WITHIN, is_whole},
};
use millpond_runtime::{Rt, sim::FaultPlan};
use millpond_wire::messages::{Kind, Metadata, MetadataReply};
use std::{collections::BTreeMap, net::SocketAddr, rc::Rc, time::Duration};

impl Nodes {
    /// All is well again: until everybody has got something done that was begun after it, and nothing is under way.
    pub(crate) fn heal(&self) {
        self.sim.set_faults(FaultPlan::none());
        self.mend();
        for node in &self.schedule.nodes {
            self.sim.crash_at_poll(*node, u64::MAX);
            self.sim.kill_at_poll(*node, u64::MAX);
        }
        let stands = || {
            let ends = self.book.ends.borrow().clone();
            let registers = self.book.registers.borrow().iter().map(|register| register.acked).collect::<Vec<_>>();
            let shared = self.book.shared.borrow().iter().map(|register| register.acked).collect::<Vec<_>>();
            (ends, registers, shared, self.book.made.borrow().len())
        };
        let before = stands();
        let goes_on = || {
            let now = stands();
            now.0.iter().zip(&before.0).all(|(now, before)| *now > before + 5)
                && now.1.iter().zip(&before.1).all(|(now, before)| *now > before + 2)
                && now.2.iter().zip(&before.2).all(|(now, before)| *now > before + 2)
                && now.3 > before.3
        };
        self.until("everybody gets on", goes_on);
        self.book.quiet.set(true);
        self.until("nothing is under way", || self.book.busy.get() == 0);
        self.wait_for("the cluster is whole", is_whole);
    }

    fn until(&self, what: &str, done: impl Fn() -> bool) {
        for _ in 0..WHOLE_WITHIN.as_millis() / 100 {
            self.schedule.nodes.iter().for_each(|node| self.up(*node));
            if done() {
                return;
            }
            self.run_for(Duration::from_millis(100));
        }
        panic!("it is not so, long after all was healed: {what}; {:?}", self.book.marks.borrow());
    }

    pub(crate) fn check(&self) {
        for partition in 0..self.schedule.partitions {
            let copies: Vec<Vec<(u64, u64)>> = self.replicas(partition).into_iter().map(|at| self.copy(at, partition)).collect();
            assert_eq!(copies.len(), 3, "replicas of partition {partition}");
            let copy = &copies[0];
            assert!(copies.iter().all(|other| other == copy), "nodes tell different things of partition {partition}");
            let by_offset: BTreeMap<u64, u64> = copy.iter().copied().collect();
            let by_value: BTreeMap<u64, u64> = copy.iter().map(|(offset, value)| (*value, *offset)).collect();
            assert_eq!(by_value.len(), copy.len(), "something is in partition {partition} twice");
            for (_, offset, value) in self.book.acked.borrow().iter().filter(|(of, ..)| *of == partition) {
                assert_eq!(by_value.get(value), Some(offset), "value {value} was acknowledged at offset {offset} of partition {partition}");
            }
            for ((_, offset), value) in self.book.seen.borrow().range((partition, 0)..(partition + 1, 0)) {
                assert_eq!(by_offset.get(offset), Some(value), "what was read at offset {offset} of partition {partition}");
            }
            for value in self.book.refused.borrow().iter() {
                assert!(!by_value.contains_key(value), "value {value} is in partition {partition} though it was refused");
            }
        }
        self.check_positions();
        for at in &self.book.servers {
            self.check_topics(*at);
        }
    }

    /// Where the nodes are that have a replica of a partition.
    fn replicas(&self, partition: u32) -> Vec<SocketAddr> {
        let reply = self.metadata(self.book.servers[0], |reply| reply.topics.iter().any(|topic| topic.name == TOPIC));
        let topic = reply.topics.iter().find(|topic| topic.name == TOPIC).unwrap();
        let replicas = &topic.partitions.iter().find(|info| info.partition == partition).unwrap().replicas;
        // Nodes have their numbers in the order in which they came in.
        let at = |node: u64| reply.endpoints.iter().find(|endpoint| endpoint.node_id == node).unwrap().host.parse().unwrap();
        replicas.iter().map(|replica| SocketAddr::new(at(replica.node_id), PORT)).collect()
    }

    /// All that a node tells of a partition, once it knows of all that anybody was told.
    fn copy(&self, at: SocketAddr, partition: u32) -> Vec<(u64, u64)> {
        let (book, least) = (Rc::clone(&self.book), self.book.ends.borrow()[partition as usize]);
        let read = self.sim.block_on(CLIENTS, move |rt| async move {
            let until = rt.mono() + WHOLE_WITHIN.as_nanos() as u64;
            let (mut all, mut next, mut end, mut why) = (Vec::new(), 0, None::<u64>, None);
            while end.is_none_or(|end| next < end.max(least)) {
                assert!(rt.mono() < until, "{at} does not tell partition {partition}: offset {next} of {end:?}, {least} at least, {why:?}");
                // Each time at this node, and not where it sends others.
                match Client::of(&rt, &book, at).fetch(partition, next, None).await {
                    Ok((some, known)) => {
                        let some = some.into_iter().filter(|(offset, ..)| *offset >= next).map(|(offset, _, value)| (offset, value));
                        let some: Vec<(u64, u64)> = some.collect();
                        next = some.last().map_or(next, |(offset, _)| offset + 1);
                        all.extend(some);
                        end = Some(known);
                    }
                    Err(trouble) => {
                        why = Some(trouble);
                        rt.sleep(Duration::from_millis(100)).await;
                    }
                }
            }
            all
        });
        read.unwrap()
    }

    /// Whoever reads a position now reads the last one that was acknowledged.
    fn check_positions(&self) {
        for group in 0..GROUPS {
            self.until_told(&format!("the position of group {group}"), async move |client: &Client| client.position(group).await);
            let register = self.book.registers.borrow()[group];
            assert_eq!((register.acked, register.read), (register.sent, register.sent), "the position of group {group}");
        }
        for partition in 0..self.schedule.partitions {
            let what = format!("the position of members in partition {partition}");
            self.until_told(&what, async move |client: &Client| client.shared_position(partition).await.is_some());
        }
    }

    /// Has a client ask until there is an answer.
    fn until_told(&self, what: &str, asks: impl AsyncFn(&Client) -> bool + 'static) {
        let (book, at) = (Rc::clone(&self.book), self.book.servers[0]);
        let told = self.sim.block_on(CLIENTS, move |rt| async move {
            let client = Client::of(&rt, &book, at);
            for _ in 0..100 {
                if asks(&client).await {
                    return true;
                }
            }
            false
        });
        assert!(told.unwrap(), "nobody tells {what}");
    }

    /// The topics that a node knows are those that were made and not taken away, with their ids, once it knows what its cluster does.
    fn check_topics(&self, at: SocketAddr) {
        let mut wanted = self.book.made.borrow().clone();
        wanted.retain(|name, _| !self.book.gone.borrow().contains(name));
        self.metadata(at, move |reply| {
            let known = reply.topics.iter().filter(|topic| topic.name != TOPIC).map(|topic| (topic.name.clone(), topic.topic_id));
            known.collect::<BTreeMap<_, _>>() == wanted
        });
    }

    /// What a node says of all topics, once that is as it must be.
    fn metadata(&self, at: SocketAddr, enough: impl Fn(&MetadataReply) -> bool + 'static) -> MetadataReply {
        let asked = self.sim.block_on(CLIENTS, move |rt| async move {
            let until = rt.mono() + WHOLE_WITHIN.as_nanos() as u64;
            loop {
                let asked = ask::<MetadataReply>(&rt, at, Kind::Metadata, &Metadata::default(), &[]).await;
                match asked {
                    Ok((reply, _)) if enough(&reply) => return reply,
                    other => assert!(rt.mono() < until, "the topics that {at} knows: {other:?}"),
                }
                rt.sleep(Duration::from_millis(100)).await;
            }
        });
        asked.unwrap()
    }
}
