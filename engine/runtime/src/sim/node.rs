//! What a test may do to one node and its disk.

use super::{
    DiskFault, SimRt,
    disk::{Disk, image::Image},
    net::ip_of,
    world::World,
};
use crate::{CoreId, NodeId};
use std::{
    collections::BTreeMap,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

/// A simulated machine. Cheap to clone.
#[derive(Clone)]
pub struct SimNode {
    pub(super) world: Rc<World>,
    pub(super) id: NodeId,
}

impl SimNode {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Its address, by which other nodes reach it, with a port.
    #[must_use]
    pub fn addr(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(ip_of(self.id)), port)
    }

    /// Starts a task on a core. Cores exist from the first task on.
    ///
    /// # Panics
    /// If the node is down: restart it first.
    pub fn start<F: Future<Output = ()> + 'static>(&self, core: CoreId, task: impl FnOnce(SimRt) -> F) {
        assert!(self.is_up(), "node {} is down: restart it first", self.id);
        let task = task(self.rt(core));
        self.world.spawn((self.id, core, self.life()), "main", Box::pin(task));
    }

    /// A core's door, to be used inside of a run or for what needs no waiting.
    #[must_use]
    pub fn rt(&self, core: CoreId) -> SimRt {
        SimRt { world: self.world.clone(), node: self.id, core, life: self.life() }
    }

    pub(super) fn life(&self) -> u64 {
        self.world.nodes.borrow().get(&self.id).map_or(0, |node| node.life)
    }

    /// Whether its process runs.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.world.nodes.borrow().get(&self.id).is_some_and(super::world::Node::runs)
    }

    /// Polls of all its tasks since its last start.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.world.nodes.borrow().get(&self.id).map_or(0, |node| node.polls)
    }

    /// Has a core stand still for `d`: its tasks are not polled, time goes on.
    pub fn pause(&self, core: CoreId, d: Duration) {
        self.world.pause_core(self.id, core, self.world.now.get() + super::nanos(d));
    }

    /// Moves the wall clock by this many milliseconds.
    pub fn jump_wall(&self, by_ms: i64) {
        self.world.dice.borrow_mut().count("wall_jump");
        if let Some(node) = self.world.nodes.borrow_mut().get_mut(&self.id) {
            node.clock.wall_offset_ms += by_ms;
        }
    }

    /// Its disk.
    #[must_use]
    pub fn disk(&self) -> SimDisk {
        SimDisk { node: self.clone() }
    }
}

/// The disk of a node, seen from outside: costs no time, and works whether the node is up or down.
#[derive(Clone)]
pub struct SimDisk {
    node: SimNode,
}

/// All files of a disk with their contents.
#[derive(Clone, Debug, Default)]
pub struct DiskImage {
    files: BTreeMap<PathBuf, Image>,
}

impl DiskImage {
    /// A disk without files: the one that a replaced disk has.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }
}

impl SimDisk {
    fn with<T>(&self, op: impl FnOnce(&mut Disk, &mut super::dice::Dice) -> T) -> T {
        let world = &self.node.world;
        let mut nodes = world.nodes.borrow_mut();
        let node = nodes.get_mut(&self.node.id).expect("a node with a handle was made by Sim::node");
        op(&mut node.disk, &mut world.dice.borrow_mut())
    }

    /// Every file that the node sees, with its length in bytes, sorted by path.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        self.with(|disk, _| disk.files())
    }

    /// Up to `len` bytes of what the node sees.
    pub fn read(&self, path: &Path, position: u64, len: usize) -> io::Result<Vec<u8>> {
        self.with(|disk, _| disk.visible_image(path).map(|image| image.read(position, len)))
    }

    /// Up to `len` bytes of what a power cut surely leaves of a file (if it leaves the name).
    pub fn read_stable(&self, path: &Path, position: u64, len: usize) -> io::Result<Vec<u8>> {
        self.with(|disk, _| disk.stable_image(path).map(|image| image.read(position, len)))
    }

    /// Flips the bits of `mask` in the byte at `position` of the stable contents: rot.
    pub fn flip(&self, path: &Path, position: u64, mask: u8) -> io::Result<()> {
        self.with(|disk, dice| {
            dice.count("bit_rot");
            disk.flip(path, position, mask)
        })
    }

    /// Makes the 512-byte sector at `position` answer EIO until it is written.
    pub fn spoil(&self, path: &Path, position: u64) -> io::Result<()> {
        self.with(|disk, _| disk.spoil(path, position))
    }

    /// Has a name vanish for good.
    pub fn lose_name(&self, path: &Path) -> io::Result<()> {
        self.with(|disk, dice| disk.lose_name(path, dice))
    }

    /// Has the next fitting operation on a path that contains `piece` meet a fault, once.
    pub fn inject(&self, piece: &str, fault: DiskFault) {
        self.with(|disk, _| disk.want(piece, fault));
    }

    /// Forgets the faults that were asked for and have not happened, and makes the disk as fast as a healthy one. Bad sectors stay.
    pub fn calm(&self) {
        self.with(|disk, _| disk.calm());
    }

    /// Limits the space, in bytes; `None`: as good as unlimited.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.with(|disk, _| disk.set_quota(bytes));
    }

    /// Makes every operation take this many times as long; 1 is a healthy disk.
    pub fn slow_down(&self, times: u64) {
        self.with(|disk, dice| {
            dice.count("disk_slow");
            disk.slowness = times.max(1);
        });
    }

    /// Bytes that the node has read since the simulation began.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.with(|disk, _| disk.read_bytes)
    }

    /// Whether everything that the node sees would survive a power cut.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.with(|disk, _| disk.is_clean())
    }

    /// A copy of all files as the node sees them.
    #[must_use]
    pub fn snapshot(&self) -> DiskImage {
        self.with(|disk, _| {
            let image = |path: &Path| disk.visible_image(path).cloned().expect("a file that was just listed");
            let files = disk.files().into_iter().map(|(path, _)| (path.clone(), image(&path)));
            DiskImage { files: files.collect() }
        })
    }

    /// Puts a snapshot in the place of all files, synced. Directories without files are not in it.
    ///
    /// # Panics
    /// If the node is up: a disk is exchanged while it is off.
    pub fn restore(&self, image: &DiskImage) {
        assert!(!self.node.is_up(), "node {} is up: its disk can't be exchanged", self.node.id);
        self.with(|disk, dice| disk.restore(&image.files, dice));
    }
}
