//! A runtime whose connections may speak TLS. All else is as below it.

use super::{Stream, Tls};
use crate::{CoreId, Listener, Nanos, Open, Result, Rt, Share, Space};
use std::{future::Future, net::SocketAddr, path::Path, time::Duration};

/// See the module. Without [`Tls`] its connections are in the clear.
#[derive(Clone)]
pub struct Secure<R> {
    below: R,
    tls: Option<Tls>,
}

impl<R: Rt> Secure<R> {
    /// What is dialled and accepted by it is what `tls` says.
    pub fn new(below: R, tls: Option<Tls>) -> Self {
        Self { below, tls }
    }

    /// The runtime below.
    pub fn below(&self) -> &R {
        &self.below
    }
}

/// A socket whose connections are still to be opened.
pub struct SecureListener<L> {
    below: L,
    tls: Option<Tls>,
}

impl<L: Listener<Conn: crate::Conn>> Listener for SecureListener<L> {
    type Conn = Stream<L::Conn>;

    fn local(&self) -> SocketAddr {
        self.below.local()
    }

    async fn accept(&self) -> Result<Self::Conn> {
        Ok(Stream::Raw(self.below.accept().await?, self.tls.clone()))
    }
}

impl<R: Rt> Rt for Secure<R> {
    type File = R::File;
    type Conn = Stream<R::Conn>;
    type Listener = SecureListener<R::Listener>;

    fn core(&self) -> CoreId {
        self.below.core()
    }

    fn mono(&self) -> Nanos {
        self.below.mono()
    }

    fn wall_ms(&self) -> i64 {
        self.below.wall_ms()
    }

    fn rand(&self) -> u64 {
        self.below.rand()
    }

    fn is_crowded(&self) -> bool {
        self.below.is_crowded()
    }

    fn sleep(&self, d: Duration) -> impl Future<Output = ()> + 'static {
        self.below.sleep(d)
    }

    fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        self.below.yield_now()
    }

    fn yield_if_needed(&self) -> impl Future<Output = ()> + 'static {
        self.below.yield_if_needed()
    }

    fn spawn(&self, name: &'static str, share: Share, task: impl Future<Output = ()> + 'static) {
        self.below.spawn(name, share, task);
    }

    fn offload<T: Send + 'static>(
        &self,
        name: &'static str,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T>> + 'static {
        self.below.offload(name, job)
    }

    fn halt(&self, why: &str) -> ! {
        self.below.halt(why)
    }

    fn open(&self, path: &Path, how: Open) -> impl Future<Output = Result<Self::File>> {
        self.below.open(path, how)
    }

    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = Result<()>> {
        self.below.rename(from, to)
    }

    fn remove(&self, path: &Path) -> impl Future<Output = Result<()>> {
        self.below.remove(path)
    }

    fn links(&self, path: &Path) -> impl Future<Output = Result<u64>> {
        self.below.links(path)
    }

    fn create_dir_all(&self, dir: &Path) -> impl Future<Output = Result<()>> {
        self.below.create_dir_all(dir)
    }

    fn remove_dir(&self, dir: &Path) -> impl Future<Output = Result<()>> {
        self.below.remove_dir(dir)
    }

    fn list(&self, dir: &Path) -> impl Future<Output = Result<Vec<String>>> {
        self.below.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> impl Future<Output = Result<()>> {
        self.below.sync_dir(dir)
    }

    fn space(&self, dir: &Path) -> impl Future<Output = Result<Space>> {
        self.below.space(dir)
    }

    async fn dial(&self, to: SocketAddr) -> Result<Self::Conn> {
        Stream::dialled(self.below.dial(to).await?, self.tls.as_ref()).await
    }

    async fn listen(&self, at: SocketAddr) -> Result<Self::Listener> {
        Ok(SecureListener { below: self.below.listen(at).await?, tls: self.tls.clone() })
    }

    async fn listen_alone(&self, at: SocketAddr) -> Result<Self::Listener> {
        Ok(SecureListener { below: self.below.listen_alone(at).await?, tls: self.tls.clone() })
    }
}
