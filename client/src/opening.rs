//! How a connection begins: TLS, hello, and who the client is. Nothing else is on its way meanwhile, so this is one request after the other.

use crate::{
    conn::{ConnConfig, End, FRAME_BYTES_MAX},
    login,
    tls::Session,
};
use bytes::BytesMut;
use millpond_wire::{
    VERSION,
    frame::{Decoder, Flags, Frame, encode},
    messages::{Failure, Hello, Kind, Login, LoginReply, Welcome},
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A connection that is ready for requests.
pub(crate) struct Opened {
    pub(crate) stream: TcpStream,
    pub(crate) tls: Option<Session>,
    /// What has come and is not read.
    pub(crate) buf: BytesMut,
}

/// Connects, says hello and logs in.
pub(crate) async fn open(endpoint: &str, config: &ConnConfig) -> Result<Opened, End> {
    let mut stream = TcpStream::connect(endpoint).await.map_err(|e| e.to_string())?;
    // Small requests must not wait for one another's acknowledgement.
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let tls = match &config.tls {
        None => None,
        Some(tls) => {
            let shaken = Session::shake_hands(tls, endpoint, &mut stream).await;
            Some(shaken.map_err(|e| {
                format!("TLS: {e}; does the server speak it, and has the authority that is trusted signed its certificate?")
            })?)
        }
    };
    let mut opened = Opened { stream, tls, buf: BytesMut::with_capacity(4096) };
    let hello = Hello {
        version_min: VERSION,
        version_max: VERSION,
        client_id: config.client_id.clone(),
        software: concat!("millpond-client ", env!("CARGO_PKG_VERSION")).into(),
        from_node: 0,
    };
    let welcome: Welcome = opened.ask(Kind::Hello, &hello).await?;
    tracing::debug!(endpoint, server = welcome.software, core = welcome.core, "connected");
    if let Some(user) = &config.user {
        opened.log_in(user).await?;
    }
    Ok(opened)
}

impl Opened {
    /// Shows who the client is, and sees that the server knows it.
    async fn log_in(&mut self, user: &login::User) -> Result<(), End> {
        let (exchange, message) = user.begin()?;
        let first = Login { mechanism: login::MECHANISM.into(), message: message.into() };
        let LoginReply { message } = self.ask(Kind::Login, &first).await?;
        // Takes milliseconds, the first time.
        let proving = tokio::task::spawn_blocking(move || exchange.prove(&message));
        let (proven, message) = proving.await.map_err(|e| e.to_string())??;
        let LoginReply { message } = self.ask(Kind::Login, &Login { mechanism: String::new(), message: message.into() }).await?;
        Ok(proven.check(&message)?)
    }

    /// Sends a request and waits for its reply.
    async fn ask<A: Message + Default>(&mut self, kind: Kind, request: &impl Message) -> Result<A, End> {
        let request = encode(kind, Flags::REQUEST, 0, request, 0);
        match &mut self.tls {
            None => self.stream.write_all(&request).await,
            Some(tls) => tls.send_all(&mut self.stream, &request).await,
        }
        .map_err(|e| e.to_string())?;
        let frame = self.frame().await?;
        if frame.flags.is_failure() {
            return Err(End::refused(frame.message::<Failure>().map_err(|e| e.to_string())?));
        }
        if frame.kind != kind {
            return Err(format!("a {:?} frame came in answer to {kind:?}", frame.kind).into());
        }
        Ok(frame.message().map_err(|e| e.to_string())?)
    }

    async fn frame(&mut self) -> Result<Frame, End> {
        let decoder = Decoder { frame_bytes_max: FRAME_BYTES_MAX };
        loop {
            if let Some(frame) = decoder.decode(&mut self.buf).map_err(|e| e.to_string())? {
                return Ok(frame);
            }
            let read = match &mut self.tls {
                None => self.stream.read_buf(&mut self.buf).await,
                Some(tls) => tls.read(&self.stream, &mut self.buf).await,
            };
            if read.map_err(|e| e.to_string())? == 0 {
                return Err("it was closed before it answered; is it a Millpond server, and does it want TLS?".into());
            }
        }
    }
}
