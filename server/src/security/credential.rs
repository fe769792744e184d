//! What is kept of a password (RFC 5802, section 3): not the password, and nothing that one could log in with.
//!
//! ```text
//!   salted password = PBKDF2(password, salt, iterations)
//!   client key = HMAC(salted password, "Client Key")      stored key = H(client key)
//!   server key = HMAC(salted password, "Server Key")
//! ```
//!
//! Whoever knows the password can make the client key, and shows that he can; the stored key is enough to tell.

use ring::{digest, hmac, pbkdf2};
use std::{fmt, num::NonZeroU32};

/// Fewest iterations, as in Kafka.
pub const ITERATIONS_MIN: u32 = 4_096;
/// Most, as in Kafka.
pub const ITERATIONS_MAX: u32 = 16_384;
/// Iterations if nobody says.
pub const ITERATIONS_DEFAULT: u32 = 15_000;
/// Longest salt, in bytes.
pub const SALT_BYTES_MAX: usize = 128;
/// Longest name of a user, in bytes.
pub const USER_BYTES_MAX: usize = 255;
/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1_024;

/// A salt that we make ourselves, in bytes.
const SALT_BYTES: usize = 24;

/// How a client shows that it knows a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mechanism {
    /// RFC 7677.
    ScramSha256,
    /// The same with the longer digest.
    ScramSha512,
}

impl Mechanism {
    /// All of them, as they are preferred.
    pub const ALL: [Self; 2] = [Self::ScramSha512, Self::ScramSha256];

    /// As Kafka and SASL call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// Kafka's number for it.
    #[must_use]
    pub fn number(self) -> i8 {
        match self {
            Self::ScramSha256 => 1,
            Self::ScramSha512 => 2,
        }
    }

    /// The one of this number.
    #[must_use]
    pub fn of_number(number: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.number() == number)
    }

    /// Bytes of a key.
    #[must_use]
    pub fn key_bytes(self) -> usize {
        self.digest().output_len()
    }

    pub(super) fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::ScramSha256 => &digest::SHA256,
            Self::ScramSha512 => &digest::SHA512,
        }
    }

    pub(super) fn hmac(self, key: &[u8], message: &[u8]) -> hmac::Tag {
        let algorithm = match self {
            Self::ScramSha256 => hmac::HMAC_SHA256,
            Self::ScramSha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), message)
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::ScramSha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::ScramSha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
}

/// What is kept of a user's password, for one mechanism.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Goes into the password's key, so that equal passwords have different ones.
    pub salt: Vec<u8>,
    /// How dear a guess is.
    pub iterations: u32,
    /// Tells who knows the password.
    pub stored_key: Vec<u8>,
    /// Shows the client that the server knows it.
    pub server_key: Vec<u8>,
}

/// Its keys are nobody's business.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl Credential {
    /// That of a password, with a salt of its own. Takes milliseconds.
    #[must_use]
    pub fn of_password(mechanism: Mechanism, password: &[u8], iterations: NonZeroU32) -> Self {
        let salt = super::random::<SALT_BYTES>().to_vec();
        Self::of_salted(mechanism, &salted(mechanism, password, &salt, iterations), salt, iterations.get())
    }

    /// That of a password which was salted already, as Kafka's tools send it.
    #[must_use]
    pub fn of_salted(mechanism: Mechanism, salted: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        let client_key = mechanism.hmac(salted, b"Client Key");
        Self {
            salt,
            iterations,
            stored_key: digest::digest(mechanism.digest(), client_key.as_ref()).as_ref().to_vec(),
            server_key: mechanism.hmac(salted, b"Server Key").as_ref().to_vec(),
        }
    }

    /// Why it cannot be kept, if it cannot.
    #[must_use]
    pub fn fault(&self, mechanism: Mechanism) -> Option<String> {
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&self.iterations) {
            return Some(format!("{} iterations, from {ITERATIONS_MIN} to {ITERATIONS_MAX} are taken", self.iterations));
        }
        if self.salt.is_empty() || self.salt.len() > SALT_BYTES_MAX {
            return Some(format!("a salt of {} bytes, from 1 to {SALT_BYTES_MAX} are taken", self.salt.len()));
        }
        let wanted = mechanism.key_bytes();
        let wrong = [&self.stored_key, &self.server_key].into_iter().find(|key| key.len() != wanted)?;
        Some(format!("a key of {} bytes, those of {} have {wanted}", wrong.len(), mechanism.name()))
    }
}

fn salted(mechanism: Mechanism, password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Vec<u8> {
    let mut salted = vec![0; mechanism.key_bytes()];
    pbkdf2::derive(mechanism.pbkdf2(), iterations, salt, password, &mut salted);
    salted
}

/// Whether this is the password, in a time that does not tell how nearly. Takes milliseconds.
#[must_use]
pub fn check_password(credential: &Credential, mechanism: Mechanism, password: &[u8]) -> bool {
    let Some(iterations) = NonZeroU32::new(credential.iterations) else { return false };
    if password.len() > PASSWORD_BYTES_MAX {
        return false;
    }
    let salted = salted(mechanism, password, &credential.salt, iterations);
    let client_key = mechanism.hmac(&salted, b"Client Key");
    is_client_key(credential, mechanism, client_key.as_ref())
}

/// Whether this is the client key of a password, in a time that does not tell how nearly.
pub(super) fn is_client_key(credential: &Credential, mechanism: Mechanism, client_key: &[u8]) -> bool {
    let shown = digest::digest(mechanism.digest(), client_key);
    // Keyed by what nobody knows, so that there is nothing to be learnt of how far the two agree; and compared in constant time.
    let key = hmac::Key::new(hmac::HMAC_SHA256, &super::random::<32>());
    hmac::verify(&key, shown.as_ref(), hmac::sign(&key, &credential.stored_key).as_ref()).is_ok()
}

/// Credentials of users that there are not: whoever tries names should not learn which of them are users. The same name has the same salt each time, by a
/// secret; no password belongs to it.
#[derive(Clone)]
pub struct Strangers(hmac::Key);

impl fmt::Debug for Strangers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Strangers")
    }
}

impl Strangers {
    /// By this secret; nodes of one cluster that share it cannot be told apart.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA512, secret))
    }

    /// What a user of this name might have.
    #[must_use]
    pub fn credential(&self, mechanism: Mechanism, user: &str) -> Credential {
        let made = |what: &str| hmac::sign(&self.0, format!("{what} {} {user}", mechanism.name()).as_bytes()).as_ref().to_vec();
        let cut = |mut bytes: Vec<u8>, len| {
            bytes.truncate(len);
            bytes
        };
        let key_bytes = mechanism.key_bytes();
        Credential {
            salt: cut(made("salt"), SALT_BYTES),
            iterations: ITERATIONS_DEFAULT,
            // A digest of something that nobody will find.
            stored_key: cut(made("stored"), key_bytes),
            server_key: cut(made("server"), key_bytes),
        }
    }
}
