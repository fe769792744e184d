//! Showing the server who this client is: the client's side of SCRAM-SHA-512 (RFC 5802 and 7677), without channel binding. The password goes nowhere, and a server
//! that does not know it is noticed.
//!
//! ```text
//!   client: n,,n=user,r=NONCE                     server: r=NONCE+THEIRS,s=SALT,i=ITERATIONS
//!   client: c=biws,r=NONCE+THEIRS,p=PROOF         server: v=SIGNATURE
//! ```

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::{
    digest, hmac, pbkdf2,
    rand::{SecureRandom, SystemRandom},
};
use std::{
    fmt,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard},
};

/// The mechanism, as SASL calls it.
pub(crate) const MECHANISM: &str = "SCRAM-SHA-512";

/// Bytes of its keys.
const KEY_BYTES: usize = 64;
/// Fewest iterations of a server that one may log in to: with fewer, whoever listens could guess the password.
const ITERATIONS_MIN: u32 = 4_096;
/// Most: each takes a microsecond of this side's CPU.
const ITERATIONS_MAX: u32 = 1_000_000;
/// Longest message of a server, in bytes.
const MESSAGE_BYTES_MAX: usize = 4_096;
/// Random bytes of a nonce.
const NONCE_BYTES: usize = 18;
/// The binding `n,,` in base64: none.
const BINDING: &str = "c=biws";

/// A user and its password; what is derived from it is kept for the next connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct User(Arc<Kept>);

struct Kept {
    name: String,
    password: String,
    derived: Mutex<Option<Derived>>,
}

/// The password is nobody's business.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.0.name).finish_non_exhaustive()
    }
}

/// The password with a salt, which takes milliseconds to make.
#[derive(Clone)]
struct Derived {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    salted: [u8; KEY_BYTES],
}

/// What the server has answered to the first message.
struct Challenge {
    nonce: String,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

/// An exchange that waits for the server's first message.
pub(crate) struct Exchange {
    user: User,
    nonce: String,
    /// The first message without its header.
    bare: String,
}

/// One that waits for the server's second.
pub(crate) struct Proven {
    expected: hmac::Tag,
}

fn sign(key: &[u8], message: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, key), message)
}

impl User {
    pub(crate) fn new(name: String, password: String) -> Self {
        Self(Arc::new(Kept { name, password, derived: Mutex::default() }))
    }

    /// Begins an exchange: what to send.
    pub(crate) fn begin(&self) -> Result<(Exchange, String), String> {
        let mut random = [0; NONCE_BYTES];
        SystemRandom::new().fill(&mut random).map_err(|_| "the system has no randomness to give".to_owned())?;
        Ok(self.begin_with(BASE64_STANDARD.encode(random)))
    }

    fn begin_with(&self, nonce: String) -> (Exchange, String) {
        let name = self.0.name.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={name},r={nonce}");
        let message = format!("n,,{bare}");
        (Exchange { user: self.clone(), nonce, bare }, message)
    }

    fn derived(&self) -> MutexGuard<'_, Option<Derived>> {
        self.0.derived.lock().expect("no code panics while it holds this lock")
    }

    /// The password with this salt. Takes milliseconds, the first time.
    fn salted(&self, salt: &[u8], iterations: NonZeroU32) -> [u8; KEY_BYTES] {
        if let Some(kept) = &*self.derived()
            && kept.salt == salt
            && kept.iterations == iterations
        {
            return kept.salted;
        }
        let mut salted = [0; KEY_BYTES];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, salt, self.0.password.as_bytes(), &mut salted);
        *self.derived() = Some(Derived { salt: salt.to_vec(), iterations, salted });
        salted
    }
}

impl Exchange {
    /// Takes the server's first message: what to send. May take milliseconds of a CPU.
    pub(crate) fn prove(self, server_first: &[u8]) -> Result<(Proven, String), String> {
        let said = text(server_first)?;
        let Challenge { nonce, salt, iterations } = challenge(said, &self.nonce)?;
        let salted = self.user.salted(&salt, iterations);
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA512, client_key.as_ref());
        let without_proof = format!("{BINDING},r={nonce}");
        let signed = format!("{},{said},{without_proof}", self.bare);
        let signature = sign(stored_key.as_ref(), signed.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let expected = sign(sign(&salted, b"Server Key").as_ref(), signed.as_bytes());
        Ok((Proven { expected }, format!("{without_proof},p={}", BASE64_STANDARD.encode(proof))))
    }
}

impl Proven {
    /// Takes the server's last message.
    pub(crate) fn check(&self, server_final: &[u8]) -> Result<(), String> {
        let said = text(server_final)?.strip_prefix("v=").and_then(|v| BASE64_STANDARD.decode(v.split(',').next().unwrap_or(v)).ok());
        let said = said.ok_or("the server's last message of the login is none of SCRAM")?;
        if said == self.expected.as_ref() {
            Ok(())
        } else {
            Err("the server does not know the password, so it is not the one that the user belongs to".into())
        }
    }
}

fn text(message: &[u8]) -> Result<&str, String> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(format!("the server's message of the login has {} bytes, at most {MESSAGE_BYTES_MAX} are taken", message.len()));
    }
    std::str::from_utf8(message).map_err(|_| "the server's message of the login is no text".into())
}

/// Reads `r=...,s=...,i=...`, and perhaps extensions, of which none is mandatory here.
fn challenge(said: &str, nonce: &str) -> Result<Challenge, String> {
    let mut parts = said.split(',');
    let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name));
    let (Some(both), Some(salt), Some(iterations)) = (part("r="), part("s="), part("i=")) else {
        return Err("the server's first message of the login is none of SCRAM".into());
    };
    if !both.starts_with(nonce) || both.len() == nonce.len() {
        return Err("the server's nonce does not go on from ours".into());
    }
    let salt = BASE64_STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty()).ok_or("the server's salt is no base64")?;
    let iterations = iterations.parse().ok().filter(|n| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(n)).and_then(NonZeroU32::new);
    let iterations =
        iterations.ok_or_else(|| format!("the server wants other than {ITERATIONS_MIN} to {ITERATIONS_MAX} iterations of the password"))?;
    Ok(Challenge { nonce: both.to_owned(), salt, iterations })
}

#[cfg(test)]
mod tests;
