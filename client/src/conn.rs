//! One connection: requests go out as they are submitted, replies come back in the same order.
//!
//! Whoever submits writes to the socket at once where it takes the bytes; what it does not take is written by the
//! connection's own task, which also connects ([`opening`]), and reads. A submitter never waits: before the connection stands
//! its requests queue up, and when the connection dies every request without a reply is answered with [`Broken`],
//! which knows whether any of its bytes were handed to the system.
//!
//! Bounds: callers wait for their replies, so the queue holds at most what they have in flight; producers bound theirs by
//! memory and by requests per endpoint.

use crate::{
    error::{Effect, Error},
    login::User,
    opening::{self, Opened},
    tls::{Session, Tls},
};
use bytes::{Buf, Bytes, BytesMut};
use millpond_wire::{
    frame::{Decoder, Flags, Frame, encode},
    messages::{Failure, Kind},
};
use prost::Message;
use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::{Notify, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

/// Pieces of one gathered write.
const SLICES_MAX: usize = 64;
/// Room that is made for a read, in bytes, when a frame is not known to need more.
const READ_BYTES: usize = 256 * 1024;
/// What a frame's length may be before a batch of the largest size with its envelope is refused, in bytes.
pub(crate) const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a connection needs to know.
#[derive(Clone, Debug)]
pub(crate) struct ConnConfig {
    pub(crate) client_id: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) tls: Option<Tls>,
    pub(crate) user: Option<User>,
}

/// Why a connection ended, or was never made.
#[derive(Clone, Debug)]
pub(crate) struct End {
    why: Arc<str>,
    /// The server has said it: this client is not served.
    refusal: Option<Arc<Failure>>,
}

impl From<String> for End {
    fn from(why: String) -> Self {
        Self { why: why.into(), refusal: None }
    }
}

impl From<&str> for End {
    fn from(why: &str) -> Self {
        Self { why: why.into(), refusal: None }
    }
}

impl End {
    /// What the server says of a client that it does not serve.
    pub(crate) fn refused(failure: Failure) -> Self {
        Self { why: format!("{} ({})", failure.message, failure.advice).into(), refusal: Some(Arc::new(failure)) }
    }
}

/// Why a request has no reply.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) endpoint: Arc<str>,
    pub(crate) end: End,
    /// Whether some of its bytes were handed to the system.
    pub(crate) written: bool,
    /// Whether the connection ever stood.
    pub(crate) connected: bool,
}

impl Broken {
    pub(crate) fn error(self, doing: impl Into<String>) -> Error {
        if let Some(failure) = self.end.refusal {
            return Error::refused(doing, Arc::unwrap_or_clone(failure));
        }
        let (doing, endpoint, why) = (doing.into(), self.endpoint.to_string(), self.end.why.to_string());
        match self.connected {
            false => Error::Connect { doing, endpoint, why },
            true => Error::Lost { doing, endpoint, why, effect: if self.written { Effect::Unknown } else { Effect::None } },
        }
    }
}

/// Takes the reply. Runs in the connection's task: it must be short and must not wait.
pub(crate) type Callback = Box<dyn FnOnce(Result<Frame, Broken>) + Send>;

struct Pending {
    kind: Kind,
    correlation: u64,
    deadline: Instant,
    /// Where it begins in the stream of bytes.
    begins: u64,
    callback: Callback,
}

enum Phase {
    Connecting,
    Open(Arc<TcpStream>),
    /// Why, and since when.
    Dead(End, Instant),
}

struct State {
    phase: Phase,
    /// Of a connection that is open and speaks TLS.
    tls: Option<Session>,
    connected: bool,
    /// Queued and not written.
    out: VecDeque<Bytes>,
    /// Bytes ever queued, and ever written.
    queued: u64,
    written: u64,
    pending: VecDeque<Pending>,
    next_correlation: u64,
    /// The socket took less than there was: the task waits until it takes more.
    blocked: bool,
}

struct Shared {
    endpoint: Arc<str>,
    config: ConnConfig,
    state: Mutex<State>,
    /// Wakes the task: something is blocked, or the connection is to end.
    wake: Notify,
}

/// A connection, open or on its way. Dropping the last handle closes it.
#[derive(Clone)]
pub(crate) struct Conn(Arc<Handle>);

struct Handle(Arc<Shared>);

/// A request that was submitted.
pub(crate) struct Sent {
    shared: Arc<Shared>,
    begins: u64,
}

impl Sent {
    /// Whether any of its bytes were handed to the system.
    pub(crate) fn is_written(&self) -> bool {
        self.begins < self.shared.lock().written
    }
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sent").field("begins", &self.begins).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.die("it was closed on this side");
    }
}

impl Conn {
    /// Begins to connect after `delay`. Needs a tokio runtime.
    pub(crate) fn open(endpoint: Arc<str>, config: ConnConfig, delay: Duration) -> Self {
        let state = State {
            phase: Phase::Connecting,
            tls: None,
            connected: false,
            out: VecDeque::new(),
            queued: 0,
            written: 0,
            pending: VecDeque::new(),
            next_correlation: 1,
            blocked: false,
        };
        let shared = Arc::new(Shared { endpoint, config, state: Mutex::new(state), wake: Notify::new() });
        tokio::spawn(drive(Arc::clone(&shared), delay));
        Self(Arc::new(Handle(shared)))
    }

    /// Whether requests can still succeed.
    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.0.0.lock().phase, Phase::Dead(..))
    }

    /// How long it has been dead; not at all, if it is not.
    pub(crate) fn dead_for(&self) -> Duration {
        match &self.0.0.lock().phase {
            Phase::Dead(_, since) => since.elapsed(),
            Phase::Connecting | Phase::Open(_) => Duration::ZERO,
        }
    }

    /// Whether the connection stands, or stood once.
    pub(crate) fn was_connected(&self) -> bool {
        self.0.0.lock().connected
    }

    /// Gives it up if it is yet to stand: nothing of what waits for it was written, and may go elsewhere.
    pub(crate) fn abandon(&self) {
        if matches!(self.0.0.lock().phase, Phase::Connecting) {
            self.0.0.die("it was given up for another server");
        }
    }

    pub(crate) fn endpoint(&self) -> &Arc<str> {
        &self.0.0.endpoint
    }

    /// Sends a request, and says how to tell whether any of it was written. `wait` is how long the server may take on purpose, on top of the timeout. A request that is answered
    /// by nothing has no callback.
    pub(crate) fn submit(&self, kind: Kind, meta: &impl Message, payload: &[Bytes], wait: Duration, callback: Option<Callback>) -> Sent {
        let shared = &self.0.0;
        let mut state = shared.lock();
        if let Phase::Dead(end, _) = &state.phase {
            let broken = shared.broken(end, false, state.connected);
            drop(state);
            if let Some(callback) = callback {
                callback(Err(broken));
            }
            return Sent { shared: Arc::clone(shared), begins: u64::MAX };
        }
        let correlation = state.next_correlation;
        state.next_correlation += 1;
        let payload_len = payload.iter().map(Bytes::len).sum();
        let head = encode(kind, Flags::REQUEST, correlation, meta, payload_len);
        let begins = state.queued;
        state.queued += (head.len() + payload_len) as u64;
        state.out.push_back(head);
        state.out.extend(payload.iter().filter(|p| !p.is_empty()).cloned());
        if let Some(callback) = callback {
            let deadline = Instant::now() + shared.config.request_timeout + wait;
            state.pending.push_back(Pending { kind, correlation, deadline, begins, callback });
        }
        match state.write() {
            Ok(false) => {}
            Ok(true) => shared.wake.notify_one(),
            Err(error) => {
                drop(state);
                shared.die(format!("writing failed: {error}"));
            }
        }
        Sent { shared: Arc::clone(shared), begins }
    }

    /// Sends a request and waits for the reply's frame.
    pub(crate) async fn call(&self, kind: Kind, meta: &impl Message, payload: &[Bytes], wait: Duration) -> Result<Frame, Broken> {
        let (reply, replied) = oneshot::channel();
        let callback: Callback = Box::new(move |result| {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(result);
        });
        self.submit(kind, meta, payload, wait, Some(callback));
        let gone = |_| Err(self.0.0.broken(&End::from("its task ended with the runtime"), true, true));
        replied.await.unwrap_or_else(gone)
    }
}

impl State {
    /// Writes what the socket takes. True if it took less than there is, for the first time.
    fn write(&mut self) -> io::Result<bool> {
        let Phase::Open(stream) = &self.phase else { return Ok(false) };
        if let Some(tls) = &mut self.tls {
            while !self.blocked {
                match tls.flush(stream) {
                    Ok(()) => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        self.blocked = true;
                        return Ok(true);
                    }
                    Err(e) => return Err(e),
                }
                // One piece at a time is encrypted, so that no more is kept than the socket is about to take.
                let Some(piece) = self.out.pop_front() else { break };
                self.written += piece.len() as u64;
                tls.put(&piece)?;
            }
            return Ok(false);
        }
        while !self.out.is_empty() && !self.blocked {
            let slices: Vec<IoSlice<'_>> = self.out.iter().take(SLICES_MAX).map(|b| IoSlice::new(b)).collect();
            match stream.try_write_vectored(&slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(mut n) => {
                    self.written += n as u64;
                    while let Some(front) = self.out.front_mut().filter(|_| n > 0) {
                        let taken = front.len().min(n);
                        front.advance(taken);
                        n -= taken;
                        if front.is_empty() {
                            self.out.pop_front();
                        }
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(true);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(false)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    fn broken(&self, end: &End, written: bool, connected: bool) -> Broken {
        Broken { endpoint: Arc::clone(&self.endpoint), end: end.clone(), written, connected }
    }

    /// Ends the connection and answers everything that waits for a reply.
    fn die(&self, end: impl Into<End>) {
        let end = end.into();
        let mut state = self.lock();
        if matches!(state.phase, Phase::Dead(..)) {
            return;
        }
        state.phase = Phase::Dead(end.clone(), Instant::now());
        state.out.clear();
        let pending = std::mem::take(&mut state.pending);
        let (written, connected) = (state.written, state.connected);
        drop(state);
        self.wake.notify_one();
        for request in pending {
            (request.callback)(Err(self.broken(&end, request.begins < written, connected)));
        }
    }

    /// Hands a reply to whoever waits for it.
    fn reply(&self, frame: Frame) -> Result<(), String> {
        let front = self.lock().pending.pop_front();
        let Some(front) = front else { return Err(format!("a {:?} frame that nobody asked for", frame.kind)) };
        if !frame.flags.is_reply() || frame.correlation != front.correlation || frame.kind != front.kind {
            let why = format!(
                "the answer to {:?} number {} was due, {:?} number {} came",
                front.kind, front.correlation, frame.kind, frame.correlation
            );
            // Back in its place, so that it hears of the end with the others.
            self.lock().pending.push_front(front);
            return Err(why);
        }
        (front.callback)(Ok(frame));
        Ok(())
    }

    fn is_overdue(&self) -> bool {
        self.lock().pending.front().is_some_and(|p| p.deadline <= Instant::now())
    }
}

async fn drive(shared: Arc<Shared>, delay: Duration) {
    if !delay.is_zero() {
        tokio::select! {
            () = sleep(delay) => {}
            () = shared.wake.notified() => {}
        }
    }
    let connecting = timeout(shared.config.connect_timeout, opening::open(&shared.endpoint, &shared.config));
    let opened = tokio::select! {
        opened = connecting => opened.unwrap_or_else(|_| Err(format!("it took longer than {:?}", shared.config.connect_timeout).into())),
        () = ended(&shared) => return,
    };
    let Opened { stream, tls, buf } = match opened {
        Ok(opened) => opened,
        Err(end) => return shared.die(end),
    };
    let stream = Arc::new(stream);
    {
        let mut state = shared.lock();
        if matches!(state.phase, Phase::Dead(..)) {
            return;
        }
        state.connected = true;
        state.tls = tls;
        state.phase = Phase::Open(Arc::clone(&stream));
        state.blocked = true;
    }
    if let Err(why) = serve(&shared, &stream, buf).await {
        shared.die(why);
    }
}

/// Returns when the connection is to end.
async fn ended(shared: &Shared) {
    while !matches!(shared.lock().phase, Phase::Dead(..)) {
        shared.wake.notified().await;
    }
}

/// Reads replies, and writes what submitters could not, until the connection ends.
async fn serve(shared: &Shared, stream: &TcpStream, mut buf: BytesMut) -> Result<(), String> {
    let decoder = Decoder { frame_bytes_max: FRAME_BYTES_MAX };
    let every = (shared.config.request_timeout / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let blocked = {
            let state = shared.lock();
            if matches!(state.phase, Phase::Dead(..)) {
                return Ok(());
            }
            state.blocked
        };
        tokio::select! {
            ready = stream.readable() => {
                ready.map_err(|e| e.to_string())?;
                read(shared, stream, decoder, &mut buf)?;
            }
            ready = stream.writable(), if blocked => {
                ready.map_err(|e| e.to_string())?;
                let mut state = shared.lock();
                state.blocked = false;
                state.write().map_err(|e| format!("writing failed: {e}"))?;
            }
            () = shared.wake.notified() => {}
            _ = tick.tick() => {
                if shared.is_overdue() {
                    return Err("a request was not answered in time".into());
                }
            }
        }
    }
}

/// Reads once and hands out the frames that are whole.
fn read(shared: &Shared, stream: &TcpStream, decoder: Decoder, buf: &mut BytesMut) -> Result<(), String> {
    // All of a long frame at once, so that its beginning is copied at most once.
    let whole = buf.get(..4).and_then(|len| len.try_into().ok()).map_or(0, |len| 4 + u32::from_le_bytes(len) as usize);
    let missing = whole.min(FRAME_BYTES_MAX).saturating_sub(buf.len());
    if buf.capacity() - buf.len() < missing.max(READ_BYTES / 4) {
        buf.reserve(missing.max(READ_BYTES));
    }
    let read = match &mut shared.lock().tls {
        None => stream.try_read_buf(buf),
        Some(tls) => tls.receive(stream, buf),
    };
    match read {
        Ok(0) => return Err("the other side closed it".into()),
        Ok(_) => {}
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return Ok(()),
        Err(e) => return Err(format!("reading failed: {e}")),
    }
    while let Some(frame) = decoder.decode(buf).map_err(|e| e.to_string())? {
        shared.reply(frame)?;
    }
    Ok(())
}
