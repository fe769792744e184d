//! Who a client is, whichever protocol it speaks: by SCRAM, or, where nobody reads along and its protocol has it, by its password (PLAIN).
//!
//! ```text
//!   Nobody ──choose──▶ Chosen ──say──▶ Challenged ──say──▶ Done       Refused: not again on this connection
//! ```
//!
//! Where the server wants to know its clients (`--authenticate`), nothing else is answered before.

use super::{Front, conn::Conn};
use crate::security::{self, Credential, Mechanism, Refused, Scram};
use millpond_runtime::{Rt, Shown};

/// PLAIN, as SASL calls it.
pub(super) const PLAIN: &str = "PLAIN";

/// How far a client has come with showing who it is.
#[derive(Debug, Default)]
pub(super) enum Login {
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
pub(super) enum Way {
    /// By its password.
    Plain,
    /// By knowing it.
    Scram(Mechanism),
}

impl Way {
    /// As SASL calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => PLAIN,
            Self::Scram(mechanism) => mechanism.name(),
        }
    }

    /// What a client can choose from. A password is not said where others may read it.
    pub(super) fn all<R: Rt>(conn: &Conn<R>) -> impl Iterator<Item = Self> + use<R> {
        let plain = (conn.shown.get() != Shown::Plain).then_some(Self::Plain);
        Mechanism::ALL.into_iter().map(Self::Scram).chain(plain)
    }
}

/// Why a message of a client gets no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// It has not chosen how, or is done with it.
    OutOfTurn,
    /// It is not who it says, or cannot be told to be.
    Refused(Refused),
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// A client chooses how to show who it is. False, if not so.
pub(super) fn choose<R: Rt>(conn: &Conn<R>, name: &str) -> bool {
    let chosen = Way::all(conn).find(|way| way.name() == name);
    if let Some(way) = chosen
        && !matches!(&*conn.login.borrow(), Login::Refused)
    {
        conn.login.replace(Login::Chosen(way));
    }
    chosen.is_some()
}

/// A client says something of who it is: what it is told.
pub(super) async fn say<R: Rt>(front: &Front<R>, conn: &Conn<R>, message: &[u8]) -> Result<Vec<u8>, Failed> {
    let step = match conn.login.replace(Login::Refused) {
        Login::Chosen(Way::Scram(mechanism)) => begin(front, mechanism, message),
        Login::Challenged(scram) => scram.finish(message).map(|(user, said)| Step::Known(user, said)),
        Login::Chosen(Way::Plain) => plain(front, message).await.map(|user| Step::Known(user, Vec::new())),
        Login::Nobody | Login::Refused | Login::Done => return Err(Failed::OutOfTurn),
    };
    match step {
        Ok(Step::Asked(scram, said)) => {
            conn.login.replace(Login::Challenged(scram));
            Ok(said)
        }
        Ok(Step::Known(user, said)) => {
            tracing::debug!(peer = %conn.peer, user, "a client has shown who it is");
            conn.know(&user);
            Ok(said)
        }
        Err(refused) => {
            front.core.counters.borrow_mut().logins_refused += 1;
            tracing::info!(peer = %conn.peer, client = &*conn.client(), %refused, "a client has not shown who it is");
            Err(refused.into())
        }
    }
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
