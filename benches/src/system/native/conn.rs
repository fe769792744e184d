//! One connection: frames out, frames in.
//!
//! What is to be sent goes to the socket at once, without a copy where it is large; only what the socket does not take waits here.

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BytesMut};
use millpond_wire::{
    VERSION,
    frame::{Decoder, Flags, Frame, encode},
    messages::{Failure, Hello, InitProducer, InitProducerReply, Kind, Welcome},
};
use std::{io, time::Duration};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// The largest frame taken, in bytes.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// From so many bytes on, a batch is sent from where it lies.
const DIRECT_BYTES_MIN: usize = 8 * 1024;
/// Bytes read at a time, at most, unless [`Conn::expect`] says more.
const READ_BYTES: usize = 64 * 1024;
/// A server that is there answers a connection and its greeting within this time.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    out: BytesMut,
    inbox: BytesMut,
    read_bytes: usize,
    correlation: u64,
    software: String,
}

/// What a failure says.
pub(crate) fn describe(failure: &Failure) -> String {
    if failure.advice.is_empty() { failure.message.clone() } else { format!("{}; {}", failure.message, failure.advice) }
}

impl Conn {
    /// Connects and says hello.
    ///
    /// # Errors
    /// If nobody is there, or does not want us.
    pub async fn open(address: &str) -> Result<Self> {
        let doing = || format!("connecting to {address}");
        tokio::time::timeout(OPEN_TIMEOUT, Self::greet(address)).await.with_context(doing)?.with_context(doing)
    }

    async fn greet(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (out, inbox) = (BytesMut::new(), BytesMut::with_capacity(READ_BYTES));
        let mut conn = Self { stream, out, inbox, read_bytes: READ_BYTES, correlation: 0, software: String::new() };
        let software = concat!("millpond-bench ", env!("CARGO_PKG_VERSION"));
        let hello = Hello {
            version_min: VERSION,
            version_max: VERSION,
            client_id: "millpond-bench".into(),
            software: software.into(),
            from_node: 0,
        };
        let welcome: Welcome = conn.ask(Kind::Hello, &hello).await?;
        conn.software = welcome.software;
        Ok(conn)
    }

    /// The server's software and version.
    #[must_use]
    pub fn software(&self) -> &str {
        &self.software
    }

    /// Reads up to so many bytes at a time from now on.
    pub fn expect(&mut self, bytes: usize) {
        self.read_bytes = bytes.clamp(READ_BYTES, 1 << 20);
    }

    /// Puts a frame on its way: its head and message, and its payload.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn send(&mut self, head: &[u8], payload: &[u8]) -> Result<()> {
        let mut sent = 0;
        if self.out.is_empty() && payload.len() >= DIRECT_BYTES_MIN {
            match self.stream.try_write_vectored(&[io::IoSlice::new(head), io::IoSlice::new(payload)]) {
                Ok(n) => sent = n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("sending"),
            }
        }
        self.out.extend_from_slice(head.get(sent..).unwrap_or_default());
        self.out.extend_from_slice(payload.get(sent.saturating_sub(head.len())..).unwrap_or_default());
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        while !self.out.is_empty() {
            match self.stream.try_write(&self.out) {
                Ok(n) => self.out.advance(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("sending"),
            }
        }
        Ok(())
    }

    /// Takes a frame that is here already.
    ///
    /// # Errors
    /// If what came is no frame.
    pub fn take(&mut self) -> Result<Option<Frame>> {
        Ok(Decoder { frame_bytes_max: FRAME_BYTES_MAX }.decode(&mut self.inbox)?)
    }

    /// Sends what waits and receives something. Dropping the future loses nothing.
    ///
    /// # Errors
    /// If the connection is broken or was closed.
    pub async fn receive(&mut self) -> Result<()> {
        loop {
            self.flush()?;
            self.inbox.reserve(self.read_bytes);
            let (mut read, write) = self.stream.split();
            let received = if self.out.is_empty() {
                Some(read.read_buf(&mut self.inbox).await)
            } else {
                tokio::select! {
                    received = read.read_buf(&mut self.inbox) => Some(received),
                    writable = write.writable() => { writable.context("sending")?; None }
                }
            };
            if let Some(received) = received {
                ensure!(received.context("receiving")? > 0, "the server closed the connection");
                return Ok(());
            }
        }
    }

    /// The next frame.
    ///
    /// # Errors
    /// If the connection is broken.
    pub async fn frame(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            self.receive().await?;
        }
    }

    /// One request and its reply, with nothing else under way.
    ///
    /// # Errors
    /// If the server refuses it.
    pub async fn ask<A, B>(&mut self, kind: Kind, message: &A) -> Result<B>
    where
        A: prost::Message,
        B: prost::Message + Default,
    {
        self.correlation += 1;
        let head = encode(kind, Flags::REQUEST, self.correlation, message, 0);
        self.send(&head, &[])?;
        let reply = self.frame().await?;
        answer(&reply)
    }

    /// A new producer's id and epoch.
    ///
    /// # Errors
    /// If the server refuses it.
    pub async fn producer_id(&mut self) -> Result<(u64, u32)> {
        let reply: InitProducerReply = self.ask(Kind::InitProducer, &InitProducer {}).await?;
        Ok((reply.producer_id, reply.epoch))
    }
}

/// The message of a reply, unless it is a failure.
pub(crate) fn answer<M: prost::Message + Default>(frame: &Frame) -> Result<M> {
    if frame.flags.is_failure() {
        let failure: Failure = frame.message()?;
        bail!("the server refused a {:?} request: {}", frame.kind, describe(&failure));
    }
    ensure!(frame.flags.is_reply(), "the server sent a {:?} request", frame.kind);
    Ok(frame.message()?)
}
