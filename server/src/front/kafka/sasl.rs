//! Who a client is: SaslHandshake and SaslAuthenticate (KIP-43, KIP-152).
//!
//! A client shows that it knows a password by SCRAM, or, where nobody reads along, says it (PLAIN). Where the server wants to know its clients, nothing
//! else is answered before. Who is refused may not try again on the same connection.

use super::{super::Front, answered, codes, decoded};
use crate::{
    kafka::wire::{Request, StrBytes, WireError, versions},
    security::{self, Credential, Mechanism, Refused, Scram},
};
use bytes::Bytes;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse};
use millpond_runtime::{Rt, Shown};
use std::rc::Rc;

use super::super::conn::Conn;

const PLAIN: &str = "PLAIN";

/// How far a client has come with showing who it is.
#[derive(Debug, Default)]
pub(in super::super) enum Login {
    /// It has said nothing of it.
    #[default]
    Nobody,
    /// It has chosen how.
    Chosen(Way),
    /// It has been asked something.
    Challenged(Box<Scram>),
    /// It was refused.
    Refused,
    /// It has shown it.
    Done,
}

/// How a client shows who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Way {
    /// By its password.
    Plain,
    /// By knowing it.
    Scram(Mechanism),
}

impl Way {
    fn of_name(name: &str) -> Option<Self> {
        if name == PLAIN { Some(Self::Plain) } else { Mechanism::of_name(name).map(Self::Scram) }
    }
}

/// Whether a client that has not shown who it is may ask for this.
pub(super) fn is_login(request: &Request) -> bool {
    [versions::SASL_HANDSHAKE.key, versions::SASL_AUTHENTICATE.key].contains(&request.api.key)
}

/// What can be chosen from. A password is not said where others may read it.
fn ways<R: Rt>(conn: &Conn<R>) -> Vec<Way> {
    let plain = (conn.shown.get() != Shown::Plain).then_some(Way::Plain);
    Mechanism::ALL.into_iter().map(Way::Scram).chain(plain).collect()
}

/// A client chooses how to show who it is.
pub(super) fn handshake<R: Rt>(conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: SaslHandshakeRequest = decoded(request)?;
    let ways = ways(conn);
    let chosen = Way::of_name(&asked.mechanism).filter(|way| ways.contains(way));
    let error_code = if chosen.is_some() { codes::NONE } else { codes::UNSUPPORTED_SASL_MECHANISM };
    if let Some(way) = chosen
        && !matches!(&*conn.login.borrow(), Login::Refused)
    {
        conn.login.replace(Login::Chosen(way));
    }
    let names = ways.into_iter().map(|way| match way {
        Way::Plain => StrBytes::from_static_str(PLAIN),
        Way::Scram(mechanism) => StrBytes::from_static_str(mechanism.name()),
    });
    answered(request, &SaslHandshakeResponse::default().with_error_code(error_code).with_mechanisms(names.collect()))
}

/// A client says something of who it is.
pub(super) async fn authenticate<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: SaslAuthenticateRequest = decoded(request)?;
    let login = conn.login.replace(Login::Refused);
    let step = match login {
        Login::Chosen(Way::Scram(mechanism)) => begin(front, mechanism, &asked.auth_bytes),
        Login::Challenged(scram) => scram.finish(&asked.auth_bytes).map(|(user, said)| Step::Known(user, said)),
        Login::Chosen(Way::Plain) => plain(front, &asked.auth_bytes).await.map(|user| Step::Known(user, Vec::new())),
        Login::Nobody | Login::Refused | Login::Done => {
            let why = StrBytes::from_static_str("SaslAuthenticate comes after SaslHandshake, once");
            let response = SaslAuthenticateResponse::default().with_error_code(codes::ILLEGAL_SASL_STATE).with_error_message(Some(why));
            return answered(request, &response);
        }
    };
    let response = SaslAuthenticateResponse::default();
    let response = match step {
        Ok(Step::Asked(scram, said)) => {
            conn.login.replace(Login::Challenged(scram));
            response.with_auth_bytes(said.into())
        }
        Ok(Step::Known(user, said)) => {
            tracing::debug!(peer = %conn.peer, user, "a client has shown who it is");
            conn.know(&user);
            response.with_auth_bytes(said.into())
        }
        Err(refused) => {
            front.core.counters.borrow_mut().logins_refused += 1;
            tracing::info!(peer = %conn.peer, client = &*conn.client(), %refused, "a client has not shown who it is");
            let why = StrBytes::from_string(format!("authentication failed: {refused}"));
            response.with_error_code(codes::SASL_AUTHENTICATION_FAILED).with_error_message(Some(why))
        }
    };
    answered(request, &response)
}

/// What comes of one message.
enum Step {
    /// The client is asked something more.
    Asked(Box<Scram>, Vec<u8>),
    /// It is known, and told what shows it that we know it, too.
    Known(String, Vec<u8>),
}

fn begin<R: Rt>(front: &Front<R>, mechanism: Mechanism, message: &[u8]) -> Result<Step, Refused> {
    let catalog = front.core.catalog.borrow();
    let find = |user: &str| catalog.credential(user, mechanism).cloned();
    let (scram, said) = Scram::begin(mechanism, message, &security::nonce(), &front.core.config.strangers, find)?;
    Ok(Step::Asked(Box::new(scram), said))
}

/// Checks a password (RFC 4616), which takes as long for somebody who is no user.
async fn plain<R: Rt>(front: &Front<R>, message: &[u8]) -> Result<String, Refused> {
    let text = std::str::from_utf8(message).map_err(|_| Refused::Malformed("it is not UTF-8"))?;
    let mut parts = text.split('\0');
    let (Some(acts_for), Some(user), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(Refused::Malformed("it is not three texts with a zero byte between"));
    };
    if !acts_for.is_empty() && acts_for != user {
        return Err(Refused::OtherUser);
    }
    if user.is_empty() || user.len() > security::USER_BYTES_MAX || password.len() > security::PASSWORD_BYTES_MAX {
        return Err(Refused::Wrong);
    }
    let (mechanism, credential, known) = kept(front, user);
    let password = password.to_owned();
    let check = move || security::check_password(&credential, mechanism, password.as_bytes());
    // A job that panicked has not found it right.
    let right = front.core.rt.offload("check a password", check).await.unwrap_or(false);
    if right && known { Ok(user.to_owned()) } else { Err(Refused::Wrong) }
}

/// What is kept of a user, and whether there is such a user.
fn kept<R: Rt>(front: &Front<R>, user: &str) -> (Mechanism, Credential, bool) {
    let catalog = front.core.catalog.borrow();
    let found = Mechanism::ALL.into_iter().find_map(|mechanism| Some((mechanism, catalog.credential(user, mechanism)?.clone(), true)));
    found.unwrap_or_else(|| (Mechanism::ScramSha512, front.core.config.strangers.credential(Mechanism::ScramSha512, user), false))
}
