//! Ports for servers that are started again and again where they were.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    net::TcpListener,
};

/// Below the ports that systems give to connections that go out (Linux 32,768 on; RFC 6335 has 49,152): one of those would take a port between two starts of a server.
const FIRST: u16 = 10_000;
const LAST: u16 = 32_000;

/// The first of so many ports in a row that are free now. Others who ask at the same time get other ones, most likely.
pub(crate) fn free_ports(count: u16) -> u16 {
    for _ in 0..1_000 {
        let chance = RandomState::new().build_hasher().finish();
        let first = FIRST + (chance % u64::from(LAST - FIRST - count)) as u16;
        if (first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return first;
        }
    }
    panic!("there are not {count} free ports in a row");
}
