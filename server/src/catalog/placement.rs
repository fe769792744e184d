//! Where new partitions go. Pure: the same arguments give the same answer on every node.

use super::Home;

/// Places `count` new partitions of one topic on journal homes.
///
/// `load[h]` is how many partitions of any topic home `h` has, `own[h]` how many of this topic. A topic is spread evenly
/// first (its own load is what its clients feel), then the emptier home wins, then the lower number.
///
/// Both slices have one entry per home, at least one.
#[must_use]
pub fn place(count: u32, load: &[usize], own: &[usize]) -> Vec<Home> {
    assert!(!load.is_empty() && load.len() == own.len(), "a node has at least one core, and both counts cover all of them");
    let (mut load, mut own) = (load.to_vec(), own.to_vec());
    let mut homes = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let mut best = 0;
        for home in 1..load.len() {
            if (own[home], load[home]) < (own[best], load[best]) {
                best = home;
            }
        }
        own[best] += 1;
        load[best] += 1;
        homes.push(Home(best as u16));
    }
    homes
}
