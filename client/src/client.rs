//! The client: where servers are, which core owns which partition, and connections to them.

use crate::{
    admin::Admin,
    backoff::Backoff,
    conn::{Broken, Conn, ConnConfig},
    consumer::ConsumerBuilder,
    error::{Effect, Error, Result},
    login::User,
    metadata::{Cache, TopicMeta},
    producer::ProducerBuilder,
    replay::Replay,
    tls::Tls,
};
use millpond_wire::{
    frame::Frame,
    messages::{self as wire, Failure, Kind, MetadataReply},
};
use prost::Message;
use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Default port of a server.
pub const PORT_DEFAULT: u16 = 7400;

/// How to reach servers, and how patiently. Made by [`Client::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `connect`"]
pub struct ClientBuilder {
    bootstrap: Vec<String>,
    conn: ConnConfig,
    api_timeout: Duration,
    backoff: Duration,
    backoff_max: Duration,
    metadata_age_max: Duration,
    rack: String,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            bootstrap: Vec::new(),
            conn: ConnConfig {
                client_id: String::new(),
                connect_timeout: Duration::from_secs(10),
                request_timeout: Duration::from_secs(30),
                tls: None,
                user: None,
            },
            api_timeout: Duration::from_secs(60),
            backoff: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            metadata_age_max: Duration::from_secs(300),
            rack: String::new(),
        }
    }
}

impl ClientBuilder {
    /// Adds a server to begin with, as `host:port` or `host`; several may be given, separated by commas or in several calls.
    /// The others are learnt from it.
    pub fn bootstrap(mut self, servers: &str) -> Self {
        let servers = servers.split(',').map(str::trim).filter(|s| !s.is_empty());
        self.bootstrap.extend(servers.map(with_port));
        self
    }

    /// Names the application, for quotas, metrics and logs: at most 255 bytes. Default: empty.
    pub fn client_id(mut self, name: impl Into<String>) -> Self {
        self.conn.client_id = name.into();
        self
    }

    /// Connections speak TLS. Default: they are in the clear.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.conn.tls = Some(tls);
        self
    }

    /// Logs in as this user on each connection, by SCRAM-SHA-512: the password goes nowhere, and a server that does not know it is refused. A wrong one fails at once
    /// ([`Code::Unauthenticated`](crate::Code::Unauthenticated)). Default: as nobody.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.conn.user = Some(User::new(name.into(), password.into()));
        self
    }

    /// Where this client stands, as nodes say it (`millpond serve --rack`): replays read from a replica there, if there is one, and not from the leader elsewhere.
    /// Default: nowhere in particular.
    pub fn rack(mut self, rack: impl Into<String>) -> Self {
        self.rack = rack.into();
        self
    }

    /// How long connecting and saying hello may take. Default: 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.conn.connect_timeout = timeout;
        self
    }

    /// A connection on which the oldest request has waited so long for its reply is given up. Default: 30 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.conn.request_timeout = timeout;
        self
    }

    /// How long a call of this client (not a produced record; see
    /// [`delivery_timeout`](ProducerBuilder::delivery_timeout)) may take with all its tries. Default: 60 s.
    pub fn api_timeout(mut self, timeout: Duration) -> Self {
        self.api_timeout = timeout;
        self
    }

    /// The wait before a second try, doubled for each further one up to `max`, less a random part of up to a half.
    /// Default: 50 ms and 1 s.
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        (self.backoff, self.backoff_max) = (first, max.max(first));
        self
    }

    /// What is known of a topic is asked anew after this time even if nothing went wrong. Default: 5 minutes.
    pub fn metadata_age_max(mut self, age: Duration) -> Self {
        self.metadata_age_max = age;
        self
    }

    /// Connects to the first server that answers.
    ///
    /// # Errors
    /// If none answers within the time for a call, or one refuses this client.
    pub async fn connect(mut self) -> Result<Client> {
        if self.bootstrap.is_empty() {
            self.bootstrap.push(with_port("127.0.0.1"));
        }
        let backoff = Backoff::new(self.backoff, self.backoff_max);
        let inner = Inner {
            bootstrap: self.bootstrap.iter().map(|s| Arc::from(s.as_str())).collect(),
            committer: backoff.random_number(),
            backoff,
            conns: Mutex::default(),
            cache: Cache::new(self.metadata_age_max),
            turn: AtomicUsize::new(0),
            commits: AtomicU64::new(1),
            config: self,
        };
        let client = Client { inner: Arc::new(inner) };
        client.first_contact().await?;
        Ok(client)
    }
}

/// `host` or `host:port` as `host:port`. A bare IPv6 address gets its brackets.
fn with_port(server: &str) -> String {
    let is_v6 = server.parse::<std::net::Ipv6Addr>().is_ok();
    let has_port = server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match (is_v6, has_port) {
        (true, _) => format!("[{server}]:{PORT_DEFAULT}"),
        (false, true) => server.to_owned(),
        (false, false) => format!("{server}:{PORT_DEFAULT}"),
    }
}

/// What goes through a connection: replies come in order, so what may wait long does not share one with what should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Requests of all sorts.
    Control,
    /// Produced batches.
    Produce,
}

struct Slot {
    conn: Conn,
    /// Connections in a row that never stood.
    failures: u32,
}

struct Inner {
    config: ClientBuilder,
    bootstrap: Vec<Arc<str>>,
    backoff: Backoff,
    conns: Mutex<HashMap<(Arc<str>, Lane), Slot>>,
    cache: Cache,
    /// Which server requests for any server go to; moves on when it fails.
    turn: AtomicUsize,
    /// Who this client is among those that commit positions.
    committer: u64,
    /// Counts commits of positions, so that one that is late on its way is told from a newer one.
    commits: AtomicU64,
}

/// A client of a Millpond server or cluster. Cheap to clone; clones share connections and what is known of topics.
///
/// It must be used within a tokio runtime. Nothing is closed explicitly: connections end with the last clone and the
/// last producer, consumer or replay made from it.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("bootstrap", &self.inner.bootstrap).finish_non_exhaustive()
    }
}

/// Whether a request may be sent again when its answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing, or the same again.
    Freely,
    /// Only if nothing of it was sent.
    IfUnsent,
}

impl Client {
    /// Connects to `servers`: `host`, `host:port`, or several with commas. See [`Client::builder`] for settings.
    ///
    /// # Errors
    /// If no server answers.
    pub async fn connect(servers: &str) -> Result<Self> {
        Self::builder().bootstrap(servers).connect().await
    }

    /// A client with other than the default settings.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Topics, groups, offsets and quotas.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// A producer, to be configured and built.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(self.clone())
    }

    /// A consumer, to be configured and built.
    pub fn consumer(&self) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone())
    }

    /// Reads a stretch of a topic's history again, over all its partitions.
    pub fn replay(&self, topic: impl Into<String>) -> Replay {
        Replay::new(self.clone(), topic.into())
    }

    /// Asks the server for what is known of these topics; of all that are not internal if none is named. A topic that is not there
    /// has its `failure` set.
    ///
    /// # Errors
    /// If no server answers in time.
    pub async fn metadata(&self, topics: &[&str]) -> Result<MetadataReply> {
        let topics = topics.iter().map(|t| (*t).to_owned()).collect();
        let request = wire::Metadata { topics, internal: false, rack: self.inner.config.rack.clone() };
        self.ask_metadata(request).await
    }

    /// The time that a call may take, with all its tries.
    pub(crate) fn api_timeout(&self) -> Duration {
        self.inner.config.api_timeout
    }

    pub(crate) fn client_id(&self) -> &str {
        &self.inner.config.conn.client_id
    }

    /// Who this client is among those that commit positions, and the number of its next commit.
    pub(crate) fn next_commit(&self) -> (u64, u64) {
        (self.inner.committer, self.inner.commits.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn backoff(&self) -> &Backoff {
        &self.inner.backoff
    }

    pub(crate) async fn ask_metadata(&self, request: wire::Metadata) -> Result<MetadataReply> {
        let reply: MetadataReply = self.ask("asking where topics live", Kind::Metadata, &request, Repeat::Freely).await?;
        self.inner.cache.learn(&reply);
        Ok(reply)
    }

    /// What is known of a topic, asked for if it is not known, or longer ago than allowed.
    pub(crate) async fn topic(&self, name: &str) -> Result<Arc<TopicMeta>> {
        match self.inner.cache.topic(name) {
            Some(topic) => Ok(topic),
            None => self.refresh_topic(name).await,
        }
    }

    /// Forgets what is known of a topic.
    pub(crate) fn forget_topic(&self, name: &str) {
        self.inner.cache.forget(name);
    }

    /// Asks anew about a topic. A topic that is not there is an error.
    pub(crate) async fn refresh_topic(&self, name: &str) -> Result<Arc<TopicMeta>> {
        let mut reply = self.metadata(&[name]).await?;
        if let Some(failure) = reply.topics.iter_mut().find_map(|t| t.failure.take().filter(|_| t.name == name)) {
            return Err(Error::refused(format!("looking up {name}"), failure));
        }
        self.inner.cache.topic_of_any_age(name).ok_or_else(|| Error::Protocol {
            doing: format!("looking up {name}"),
            endpoint: "the server".into(),
            what: "metadata without the topic that was asked for".into(),
        })
    }

    /// The shared connection to an endpoint: the one there is, or a new one that begins to connect.
    pub(crate) fn conn(&self, endpoint: &Arc<str>, lane: Lane) -> Conn {
        let mut conns = self.inner.conns.lock().expect("no code panics while it holds this lock");
        let slot = conns.entry((Arc::clone(endpoint), lane));
        let slot = slot.or_insert_with(|| Slot { conn: self.private_conn(endpoint, Duration::ZERO), failures: 0 });
        if !slot.conn.is_alive() {
            slot.failures = if slot.conn.was_connected() { 1 } else { slot.failures + 1 };
            // One that broke a while ago is made anew at once.
            let delay = self.inner.backoff.after(slot.failures).saturating_sub(slot.conn.dead_for());
            slot.conn = self.private_conn(endpoint, delay);
        }
        slot.conn.clone()
    }

    /// Something was to be sent to this endpoint that is to go elsewhere, as is known by now. If it could not be reached before, whatever waits for it is told at once.
    pub(crate) fn leave(&self, endpoint: &Arc<str>, lane: Lane) {
        let conns = self.inner.conns.lock().expect("no code panics while it holds this lock");
        let failing = conns.get(&(Arc::clone(endpoint), lane)).filter(|slot| slot.failures > 0).map(|slot| slot.conn.clone());
        drop(conns);
        if let Some(conn) = failing {
            conn.abandon();
        }
    }

    /// A connection of the caller's own, which begins to connect after `delay`.
    pub(crate) fn private_conn(&self, endpoint: &Arc<str>, delay: Duration) -> Conn {
        Conn::open(Arc::clone(endpoint), self.inner.config.conn.clone(), delay)
    }

    /// The server whose turn it is to be asked what any server can answer.
    fn any_endpoint(&self) -> (usize, Arc<str>) {
        let turn = self.inner.turn.load(Ordering::Relaxed);
        let learnt = self.inner.cache.endpoints();
        let all = self.inner.bootstrap.len() + learnt.len();
        let n = turn % all;
        let endpoint = self.inner.bootstrap.get(n).unwrap_or_else(|| &learnt[n - self.inner.bootstrap.len()]);
        (turn, Arc::clone(endpoint))
    }

    /// One try of a request at whichever server has its turn. When that fails it is the next one's turn.
    async fn try_any<Q: Message>(&self, kind: Kind, request: &Q) -> Result<Frame, Broken> {
        let (turn, endpoint) = self.any_endpoint();
        let replied = self.conn(&endpoint, Lane::Control).call(kind, request, &[], Duration::ZERO).await;
        if replied.is_err() {
            let _ = self.inner.turn.compare_exchange(turn, turn.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
        }
        replied
    }

    /// Asks any server, as often as needed and allowed.
    pub(crate) async fn ask<Q: Message, A: Message + Default>(&self, doing: &str, kind: Kind, request: &Q, repeat: Repeat) -> Result<A> {
        let mut tries = Tries::new(doing, self.inner.config.api_timeout, repeat);
        loop {
            let Some(replied) = tries.within(self.try_any(kind, request)).await else { return Err(tries.timed_out()) };
            let failed = match replied.map_err(|broken| broken.error(doing)).and_then(|frame| answer(doing, &frame)) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            self.pause(&mut tries, failed).await?;
        }
    }

    /// Waits before the next try, or returns the error if there should be none.
    pub(crate) async fn pause(&self, tries: &mut Tries<'_>, failed: Error) -> Result<()> {
        let wait = self.inner.backoff.after(tries.failures + 1).max(failed.retry_after());
        tries.failed(failed, wait)?;
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Asks every server to begin with for metadata until one answers; gives up at once if all refuse connections.
    async fn first_contact(&self) -> Result<()> {
        let request = wire::Metadata::default();
        let mut last = None;
        for _ in 0..self.inner.bootstrap.len() * 2 {
            let doing = "connecting";
            let replied = self.try_any(Kind::Metadata, &request).await;
            match replied.map_err(|b| b.error(doing)).and_then(|f| answer::<MetadataReply>(doing, &f)) {
                Ok(reply) => {
                    self.inner.cache.learn(&reply);
                    return Ok(());
                }
                Err(error) if error.is_retryable() => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        // A server that is starting is worth waiting for; one that is not there is better told at once.
        match last {
            Some(error @ Error::Connect { .. }) => Err(error),
            _ => self.ask_metadata(request).await.map(|_| ()),
        }
    }
}

/// The tries of one call.
pub(crate) struct Tries<'a> {
    doing: &'a str,
    began: Instant,
    allowed: Duration,
    repeat: Repeat,
    failures: u32,
    last: Option<Error>,
    maybe_done: bool,
}

impl<'a> Tries<'a> {
    pub(crate) fn new(doing: &'a str, allowed: Duration, repeat: Repeat) -> Self {
        Self { doing, began: Instant::now(), allowed, repeat, failures: 0, last: None, maybe_done: false }
    }

    /// Runs a try within what is left of the time. `None` if that is over.
    async fn within<T>(&mut self, one: impl Future<Output = T>) -> Option<T> {
        let left = self.allowed.saturating_sub(self.began.elapsed());
        let done = tokio::time::timeout(left, one).await.ok();
        // A try that was cut off may have been sent.
        self.maybe_done |= done.is_none();
        done
    }

    /// Takes note of a failed try. An error means that there should be no other after `wait`.
    pub(crate) fn failed(&mut self, error: Error, wait: Duration) -> Result<()> {
        self.failures += 1;
        let unknown = error.effect() == Effect::Unknown;
        if !error.is_retryable() || (unknown && self.repeat == Repeat::IfUnsent) {
            return Err(error);
        }
        self.maybe_done |= unknown;
        self.last = Some(error);
        if self.began.elapsed() + wait >= self.allowed { Err(self.timed_out()) } else { Ok(()) }
    }

    fn timed_out(&mut self) -> Error {
        Error::Timeout {
            doing: self.doing.into(),
            after: self.allowed,
            last: self.last.take().map(Box::new),
            effect: if self.maybe_done { Effect::Unknown } else { Effect::None },
        }
    }
}

/// The message of a reply, or the failure.
pub(crate) fn answer<A: Message + Default>(doing: &str, frame: &Frame) -> Result<A> {
    let senseless =
        |e: millpond_wire::frame::FrameError| Error::Protocol { doing: doing.into(), endpoint: "the server".into(), what: e.to_string() };
    if frame.flags.is_failure() {
        return Err(Error::refused(doing, frame.message::<Failure>().map_err(senseless)?));
    }
    frame.message().map_err(senseless)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_people_write_them() {
        let b = Client::builder().bootstrap("a, b:1 ,::1").bootstrap("[::1]:9");
        assert_eq!(b.bootstrap, ["a:7400", "b:1", "[::1]:7400", "[::1]:9"]);
    }
}
