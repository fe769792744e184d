//! The server's side of SCRAM (RFC 5802; RFC 7677), without channel binding, as Kafka has it: two messages each way, and nobody says the password.
//!
//! ```text
//!   client: n,,n=user,r=NONCE                     server: r=NONCE+OURS,s=SALT,i=ITERATIONS
//!   client: c=biws,r=NONCE+OURS,p=PROOF           server: v=SIGNATURE
//! ```
//!
//! What is not told: whether there is such a user. One that there is not goes all the way with a salt made up for it, and fails like a wrong password.
//! Names and passwords are bytes of UTF-8 and are compared as they are, as Kafka does; RFC 5802 would prepare them (SASLprep).

use super::{
    base64,
    credential::{Credential, Mechanism, Strangers, USER_BYTES_MAX, is_client_key},
};

/// Longest message of a client, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 2_048;
/// Longest nonce of a client, in bytes.
const NONCE_BYTES_MAX: usize = 256;

/// Why a client is not who it says, or cannot be told to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It does not speak SCRAM as we do.
    #[error("the message is no SCRAM message that is taken here: {0}")]
    Malformed(&'static str),
    /// It asks for something that is not done here.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// It wants to act for somebody else.
    #[error("a user can only act for himself")]
    OtherUser,
    /// There is no such user, or that is not his password.
    #[error("the name or the password is wrong")]
    Wrong,
}

/// An exchange that waits for the client's second message.
#[derive(Debug)]
pub struct Scram {
    mechanism: Mechanism,
    user: String,
    credential: Credential,
    /// Whether it is that of a user.
    known: bool,
    /// How the client's second message begins: `c=...,r=...`; or so, from librdkafka before 2.6.1, which puts its own nonce in front once more. Ours is at the end of
    /// both, which is what counts.
    expected: [String; 2],
    /// The first two messages, as they are signed.
    said: String,
}

impl Scram {
    /// Takes the client's first message: what to answer, and how to go on. `nonce` is new ([`super::nonce`]); `find` looks up what is kept of a user.
    pub fn begin(
        mechanism: Mechanism,
        client_first: &[u8],
        nonce: &str,
        strangers: &Strangers,
        find: impl FnOnce(&str) -> Option<Credential>,
    ) -> Result<(Self, Vec<u8>), Refused> {
        let First { header, bare, user, nonce: theirs } = first(text(client_first)?)?;
        let found = find(&user);
        let known = found.is_some();
        let credential = found.unwrap_or_else(|| strangers.credential(mechanism, &user));
        let answer = format!("r={theirs}{nonce},s={},i={}", base64::encode(&credential.salt), credential.iterations);
        let expected =
            [theirs, &format!("{theirs}{theirs}")].map(|theirs| format!("c={},r={theirs}{nonce}", base64::encode(header.as_bytes())));
        let said = format!("{bare},{answer}");
        Ok((Self { mechanism, user, credential, known, expected, said }, answer.into_bytes()))
    }

    /// Takes the client's second message: who it is, and what shows it that we know him.
    pub fn finish(self, client_final: &[u8]) -> Result<(String, Vec<u8>), Refused> {
        let (without_proof, proof) = text(client_final)?.rsplit_once(",p=").ok_or(Refused::Malformed("there is no proof at its end"))?;
        // Extensions that are not mandatory may come between.
        let extensions = self
            .expected
            .iter()
            .find_map(|expected| without_proof.strip_prefix(&**expected).filter(|rest| rest.is_empty() || rest.starts_with(',')));
        check_extensions(extensions.ok_or(Refused::Malformed("another nonce, or another binding"))?)?;
        let proof = base64::decode(proof).ok_or(Refused::Malformed("the proof is no base64"))?;
        if proof.len() != self.mechanism.key_bytes() {
            return Err(Refused::Malformed("the proof is not as long as a key"));
        }
        let signed = format!("{},{without_proof}", self.said);
        let signature = self.mechanism.hmac(&self.credential.stored_key, signed.as_bytes());
        let client_key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let is_so = is_client_key(&self.credential, self.mechanism, &client_key);
        if !(is_so && self.known) {
            return Err(Refused::Wrong);
        }
        let shown = self.mechanism.hmac(&self.credential.server_key, signed.as_bytes());
        Ok((self.user, format!("v={}", base64::encode(shown.as_ref())).into_bytes()))
    }
}

struct First<'a> {
    /// What of it is about the binding and the user to act for.
    header: &'a str,
    /// The rest.
    bare: &'a str,
    user: String,
    nonce: &'a str,
}

fn text(message: &[u8]) -> Result<&str, Refused> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(Refused::Malformed("it is too long"));
    }
    std::str::from_utf8(message).map_err(|_| Refused::Malformed("it is not UTF-8"))
}

fn first(message: &str) -> Result<First<'_>, Refused> {
    let mut parts = message.splitn(3, ',');
    let malformed = |why| Err(Refused::Malformed(why));
    // `y`: the client could bind and believes that we cannot, which is so.
    match parts.next() {
        Some("n" | "y") => {}
        Some(binding) if binding.starts_with("p=") => return Err(Refused::Unsupported("channel binding")),
        _ => return malformed("it does not begin with n, y or p"),
    }
    let (Some(acts_for), Some(bare)) = (parts.next(), parts.next()) else { return malformed("it ends too early") };
    let header = &message[..message.len() - bare.len()];
    if bare.starts_with("m=") {
        return Err(Refused::Unsupported("a mandatory extension"));
    }
    let Some((name, rest)) = bare.strip_prefix("n=").and_then(|rest| rest.split_once(',')) else { return malformed("there is no name") };
    let user = name_of(name)?;
    match acts_for.strip_prefix("a=") {
        None if acts_for.is_empty() => {}
        None => return malformed("whom it acts for is not said as a=..."),
        Some(other) if name_of(other)? == user => {}
        Some(_) => return Err(Refused::OtherUser),
    }
    let Some(rest) = rest.strip_prefix("r=") else { return malformed("there is no nonce") };
    let end = rest.find(',').unwrap_or(rest.len());
    let (nonce, extensions) = rest.split_at(end);
    if nonce.is_empty() || nonce.len() > NONCE_BYTES_MAX || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
        return malformed("its nonce is empty, too long or not printable");
    }
    check_extensions(extensions)?;
    Ok(First { header, bare, user, nonce })
}

/// A name as it is written: `,` as `=2C`, `=` as `=3D`.
fn name_of(written: &str) -> Result<String, Refused> {
    let mut name = String::with_capacity(written.len());
    let mut rest = written;
    while let Some(at) = rest.find('=') {
        name.push_str(&rest[..at]);
        name.push(match rest.get(at + 1..at + 3) {
            Some("2C") => ',',
            Some("3D") => '=',
            _ => return Err(Refused::Malformed("a name with = that is neither =2C nor =3D")),
        });
        rest = &rest[at + 3..];
    }
    name.push_str(rest);
    if name.is_empty() || name.len() > USER_BYTES_MAX || name.contains('\0') {
        return Err(Refused::Malformed("a name that is empty, too long or has a zero in it"));
    }
    Ok(name)
}

/// Extensions, each behind a comma: those that one may leave out are left out, but for Kafka's delegation tokens, whose owner would go in as another user.
fn check_extensions(extensions: &str) -> Result<(), Refused> {
    let Some(extensions) = extensions.strip_prefix(',') else {
        return if extensions.is_empty() { Ok(()) } else { Err(Refused::Malformed("something where an extension should begin")) };
    };
    for extension in extensions.split(',') {
        match extension.split_once('=') {
            Some(("m", _)) => return Err(Refused::Unsupported("a mandatory extension")),
            Some(("tokenauth", value)) if value != "false" => return Err(Refused::Unsupported("a delegation token")),
            Some((name, _)) if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic()) => {}
            _ => return Err(Refused::Malformed("an extension that has no name")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
