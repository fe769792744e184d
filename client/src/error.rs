//! What can go wrong, whether it took effect, and what to do about it.

use millpond_batch::BatchError;
use millpond_wire::messages::{Code, Failure};
use std::{fmt, time::Duration};

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether a request that failed changed anything at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Nothing happened: it may be repeated freely.
    None,
    /// It happened, though something after it failed.
    Done,
    /// The answer was lost: it may have happened.
    Unknown,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "it had no effect",
            Self::Done => "it took effect",
            Self::Unknown => "it may have taken effect",
        })
    }
}

/// Why something failed. [`Error::effect`] says whether it took effect, [`Error::advice`] what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection could be made, so nothing was sent.
    #[error("{doing}: no connection to {endpoint}: {why}")]
    Connect {
        /// What was to be done.
        doing: String,
        /// Host and port.
        endpoint: String,
        /// What the system, or the other side, said.
        why: String,
    },
    /// The connection broke while an answer was awaited.
    #[error("{doing}: the connection to {endpoint} was lost: {why}")]
    Lost {
        /// What was to be done.
        doing: String,
        /// Host and port.
        endpoint: String,
        /// What broke it.
        why: String,
        /// None if nothing of the request had been sent.
        effect: Effect,
    },
    /// The server refused.
    #[error("{doing}: {message}")]
    Refused {
        /// What was to be done.
        doing: String,
        /// For programs.
        code: Code,
        /// What the server said.
        message: String,
        /// What it advises.
        advice: String,
        /// How long it asks to wait before another try; zero if it does not say.
        retry_after: Duration,
        /// Whether it took effect.
        effect: Effect,
    },
    /// It was tried for as long as was allowed.
    #[error("{doing}: not done within {after:?}{}", .last.as_ref().map_or_else(String::new, |e| format!("; the last try: {e}")))]
    Timeout {
        /// What was to be done.
        doing: String,
        /// For how long.
        after: Duration,
        /// Why the last try failed, if one did.
        last: Option<Box<Error>>,
        /// Whether it took effect.
        effect: Effect,
    },
    /// The other side sent what this version does not understand.
    #[error("{doing}: the answer of {endpoint} makes no sense: {what}")]
    Protocol {
        /// What was to be done.
        doing: String,
        /// Host and port.
        endpoint: String,
        /// What is wrong.
        what: String,
    },
    /// A batch arrived damaged.
    #[error("a batch of {topic}-{partition} at offset {offset} cannot be read: {source}")]
    Damaged {
        /// Topic.
        topic: String,
        /// Partition.
        partition: u32,
        /// Where reading stopped.
        offset: u64,
        /// What is wrong.
        source: BatchError,
    },
    /// A consumer has no valid position in a partition and was told not to choose one.
    #[error("{topic}-{partition} has no valid position: {why}")]
    NoPosition {
        /// Topic.
        topic: String,
        /// Partition.
        partition: u32,
        /// None was committed, or it is out of range.
        why: String,
    },
    /// Larger than allowed; refused before it was sent.
    #[error("{what} of {bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The caller's request makes no sense; refused before it was sent.
    #[error("{0}")]
    Invalid(String),
    /// It was closed before.
    #[error("the {0} is closed")]
    Closed(&'static str),
    /// A value is not the JSON that was expected.
    #[error("{doing}: {why}")]
    Json {
        /// What was to be done.
        doing: &'static str,
        /// What the parser said.
        why: String,
    },
}

impl Error {
    /// Whether what failed took effect at the server.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self {
            Self::Lost { effect, .. } | Self::Refused { effect, .. } | Self::Timeout { effect, .. } => *effect,
            Self::Protocol { .. } => Effect::Unknown,
            _ => Effect::None,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &str {
        match self {
            Self::Connect { .. } => "is a server running there? start one with `millpond serve`",
            Self::Lost { effect: Effect::Unknown, .. } | Self::Timeout { effect: Effect::Unknown, .. } => {
                "it may have taken effect: look before it is repeated"
            }
            Self::Lost { .. } => "repeat it",
            Self::Refused { advice, .. } => advice,
            Self::Timeout { last: Some(last), .. } => last.advice(),
            Self::Timeout { .. } => "is the server overloaded? repeat it, or allow more time",
            Self::Protocol { .. } => "use a client and a server of the same version",
            Self::Damaged { .. } => "fetch it again; if it stays so, check the server with `millpond doctor` and `millpond inspect`",
            Self::NoPosition { .. } => "seek to a position, or set auto_offset_reset",
            Self::TooLarge { .. } => "make it smaller, or raise the limit",
            Self::Invalid(_) => "correct the request",
            Self::Closed(_) => "make a new one",
            Self::Json { .. } => "correct the value or the type",
        }
    }

    /// The server's code, if the server refused.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Timeout { last: Some(last), .. } => last.code(),
            _ => None,
        }
    }

    /// Whether another try may succeed without anything being changed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Lost { .. } | Self::Timeout { .. } => true,
            Self::Refused { code, .. } => is_retryable(*code),
            _ => false,
        }
    }

    /// How long the server asks to wait before another try.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => Duration::ZERO,
        }
    }

    pub(crate) fn refused(doing: impl Into<String>, failure: Failure) -> Self {
        let code = failure.code();
        Self::Refused {
            doing: doing.into(),
            code,
            message: failure.message,
            advice: failure.advice,
            retry_after: Duration::from_millis(u64::from(failure.retry_after_ms)),
            effect: effect_of(code),
        }
    }

    pub(crate) fn json(doing: &'static str, error: &serde_json::Error) -> Self {
        Self::Json { doing, why: error.to_string() }
    }
}

/// Whether a request that was refused so took effect.
pub(crate) fn effect_of(code: Code) -> Effect {
    match code {
        Code::MaybeDone | Code::Internal => Effect::Unknown,
        _ => Effect::None,
    }
}

/// Refusals that pass by themselves.
pub(crate) fn is_retryable(code: Code) -> bool {
    matches!(code, Code::NotOwner | Code::Overloaded | Code::DiskFull | Code::Unavailable | Code::MaybeDone)
}
