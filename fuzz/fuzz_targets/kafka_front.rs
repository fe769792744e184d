//! Any bytes as what two clients of Kafka's protocol do: the whole front, with the partitions and groups behind it, on the simulator.
//!
//! An input is steps, one behind the other; the first byte of each says whose connection it is (bit 0) and what happens (bits 1 to 3):
//!
//! ```text
//!   0  | key | version | len u16 | body |            a request; what stands before the body is right
//!   1  | key | version | len u16 | body |            the same, one byte at a time
//!   2  | version | acks | len u16 | batch |          batches for topic `t`, of which lengths, magic and checksum are put right
//!   3  | lie | key | version | len u16 | body |      a request whose length lies
//!   4  | len u16 | bytes |                           bytes as they are
//!   5  | n |                                         n × 50 ms pass
//!   6                                                the connection is closed, the next step on it opens another one
//!   7  | key | version | len u16 | body |            as 0
//! ```
//!
//! Whatever comes: nobody panics; each connection has its requests answered in their order, or is closed; no more memory is taken than a core
//! may have; once the connections are gone the front holds none; and a new client is served.
#![no_main]

mod kafka_front {
    pub mod client;
    pub mod memory;
    pub mod node;
    pub mod steps;
}

use kafka_front::{
    client::Clients,
    memory,
    node::Node,
    steps::{Step, steps},
};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static COUNTED: memory::Counted = memory::Counted;

fuzz_target!(|data: &[u8]| {
    let all: Vec<Step> = steps(data.to_vec()).collect();
    let node = Node::start();
    let before = memory::begin();
    node.run(|rt, at| async move {
        let mut clients = Clients::new(rt, at);
        for step in all {
            clients.take(step).await;
        }
        clients.finish().await;
    });
    node.check_memory(memory::peak_since(before));
    node.check_quiet();
    node.run(|rt, at| async move { Clients::new(rt, at).probe().await });
    node.check_quiet();
});
