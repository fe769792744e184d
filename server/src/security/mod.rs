//! Who somebody is, and what he may do: what is kept of a user's password, how a client shows that it knows it, and who may do what to which resource.
//!
//! Nothing here waits, reads a socket or knows of connections. Deriving a key from a password takes milliseconds of a CPU on purpose, so whoever calls
//! [`Credential::of_password`] or [`check_password`] does that beside the cores (`Rt::offload`).
//!
//! In reading order: [`credential`] what is kept · [`scram`] the exchange · [`base64`] how its bytes are written · [`principal`] which user a
//! certificate stands for · [`acl`] who may do what.

pub mod acl;
mod base64;
mod credential;
mod principal;
mod scram;

pub use credential::{
    Credential, ITERATIONS_DEFAULT, ITERATIONS_MAX, ITERATIONS_MIN, Mechanism, PASSWORD_BYTES_MAX, SALT_BYTES_MAX, Strangers,
    USER_BYTES_MAX, check_password,
};
pub use principal::{PrincipalRules, Rule};
pub use scram::{MESSAGE_BYTES_MAX, Refused, Scram};

use ring::rand::{SecureRandom, SystemRandom};

/// Bytes that nobody can guess: salts, nonces, secrets. From the system and not from `Rt::rand`, whose numbers follow from a seed.
///
/// # Panics
///
/// If the system has no randomness to give: nothing could be kept secret then.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the system has no randomness to give, without which no secret can be made");
    bytes
}

/// A nonce of an exchange, as it travels.
#[must_use]
pub fn nonce() -> String {
    base64::encode(&random::<18>())
}
