//! Users and what is kept of their passwords: DescribeUserScramCredentials and AlterUserScramCredentials (KIP-554).
//!
//! What is asked of one user is done together or not at all, and answered for itself, as in Kafka. The tools send the password salted, never itself; keys
//! are derived from that here, and only those are kept.

use super::{
    super::{Front, conn::Conn, requests::look_elsewhere},
    answered, codes, decoded,
    groups::text,
    topics::{CHANGE_MAX, change},
};
use crate::{
    kafka::wire::{Request, StrBytes, WireError},
    node::meta::Change,
    security::{Credential, ITERATIONS_MAX, ITERATIONS_MIN, Mechanism, SALT_BYTES_MAX, USER_BYTES_MAX, acl::Operation},
};
use bytes::Bytes;
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
    alter_user_scram_credentials_request::ScramCredentialUpsertion,
    alter_user_scram_credentials_response::AlterUserScramCredentialsResult,
    describe_user_scram_credentials_response::{CredentialInfo, DescribeUserScramCredentialsResult},
};
use millpond_runtime::Rt;
use millpond_wire::messages::{AlterUser, Done, Failure, Kind, UserCredential};
use std::{collections::BTreeMap, rc::Rc};

/// A user in an answer, in bytes: as a message and as its bytes.
const USER_BYTES: usize = 1024;
/// Longest salted password, in bytes; those of Kafka's tools are as long as a digest.
const SALTED_BYTES_MAX: usize = 128;

/// What an answer takes, in bytes.
pub(super) fn weigh<R: Rt>(front: &Front<R>) -> usize {
    front.core.catalog.borrow().users().count() * USER_BYTES
}

/// Which users there are, and by which mechanisms they log in.
pub(super) async fn describe<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: DescribeUserScramCredentialsRequest = decoded(request)?;
    if !front.may_cluster(conn, Operation::Describe) {
        let refused = DescribeUserScramCredentialsResponse::default().with_error_code(codes::CLUSTER_AUTHORIZATION_FAILED);
        return answered(request, &refused);
    }
    look_elsewhere(front).await;
    let catalog = front.core.catalog.borrow();
    let mut times: BTreeMap<StrBytes, usize> = BTreeMap::new();
    for user in asked.users.unwrap_or_default() {
        *times.entry(user.name).or_default() += 1;
    }
    let info = |(mechanism, kept): (&Mechanism, &Credential)| {
        CredentialInfo::default().with_mechanism(mechanism.number()).with_iterations(kept.iterations as i32)
    };
    let told = |name: &str, kept: &BTreeMap<Mechanism, Credential>| {
        DescribeUserScramCredentialsResult::default().with_user(text(name)).with_credential_infos(kept.iter().map(info).collect())
    };
    let results = if times.is_empty() {
        catalog.users().map(|(name, kept)| told(name, kept)).collect()
    } else {
        let one = |(name, times): (StrBytes, usize)| {
            let refused = |code, why: &str| {
                let result = DescribeUserScramCredentialsResult::default().with_user(name.clone());
                result.with_error_code(code).with_error_message(Some(text(why)))
            };
            match catalog.user(&name) {
                _ if times > 1 => refused(codes::DUPLICATE_RESOURCE, "a user is asked for twice in one request"),
                Some(kept) => told(&name, kept),
                None => refused(codes::RESOURCE_NOT_FOUND, "there is no such user"),
            }
        };
        times.into_iter().map(one).collect()
    };
    answered(request, &DescribeUserScramCredentialsResponse::default().with_results(results))
}

/// What is asked of one user: what is to be kept and forgotten, or why not.
type Wanted = Result<AlterUser, (i16, &'static str)>;

/// Changes what is kept of users, one after the other.
pub(super) async fn alter<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: AlterUserScramCredentialsRequest = decoded(request)?;
    let may = front.may_cluster(conn, Operation::Alter);
    look_elsewhere(front).await;
    let mut users: BTreeMap<StrBytes, Wanted> = BTreeMap::new();
    for deletion in asked.deletions {
        let (is_there, mechanism) = {
            let catalog = front.core.catalog.borrow();
            let mechanism = Mechanism::of_number(deletion.mechanism);
            (mechanism.is_some_and(|mechanism| catalog.credential(&deletion.name, mechanism).is_some()), mechanism)
        };
        want(&mut users, &deletion.name, mechanism, |_| if is_there { Ok(None) } else { Err(NOT_THERE) });
    }
    for upsertion in asked.upsertions {
        let mechanism = Mechanism::of_number(upsertion.mechanism);
        want(&mut users, &upsertion.name, mechanism, |mechanism| derived(mechanism, &upsertion).map(Some));
    }
    let mut results = Vec::with_capacity(users.len());
    for (name, wanted) in users {
        let done = match wanted {
            _ if !may => Err((codes::CLUSTER_AUTHORIZATION_FAILED, text("users may not be altered by this client"))),
            Ok(wanted) => {
                let alter = (Kind::AlterUser, |again| AlterUser { again, ..wanted.clone() });
                let done: Result<Done, Failure> = change(front, alter, (Change::User, |_| Done {}), CHANGE_MAX).await;
                done.map(drop).map_err(|failure| (codes::of_controller(&failure), codes::text(&failure)))
            }
            Err((code, why)) => Err((code, text(why))),
        };
        let result = AlterUserScramCredentialsResult::default().with_user(name);
        results.push(match done {
            Ok(()) => result,
            Err((code, why)) => result.with_error_code(code).with_error_message(Some(why)),
        });
    }
    answered(request, &AlterUserScramCredentialsResponse::default().with_results(results))
}

const NOT_THERE: (i16, &str) = (codes::RESOURCE_NOT_FOUND, "there is no such user, or he has no password for this mechanism");

/// Adds to what is asked of a user: a credential, or that it is to be forgotten. Whoever is refused once stays so.
fn want(
    users: &mut BTreeMap<StrBytes, Wanted>,
    name: &StrBytes,
    mechanism: Option<Mechanism>,
    what: impl FnOnce(Mechanism) -> Result<Option<UserCredential>, (i16, &'static str)>,
) {
    let empty = || Ok(AlterUser { name: name.to_string(), ..AlterUser::default() });
    let wanted = users.entry(name.clone()).or_insert_with(empty);
    let Ok(user) = wanted else { return };
    let refused = if name.is_empty() || name.len() > USER_BYTES_MAX || name.chars().any(char::is_control) {
        (codes::UNACCEPTABLE_CREDENTIAL, "a name has 1 to 255 bytes, and no control characters")
    } else if let Some(mechanism) = mechanism {
        let number = mechanism.number() as u32;
        if user.forget.contains(&number) || user.keep.iter().any(|kept| kept.mechanism == number) {
            (codes::DUPLICATE_RESOURCE, "a user's password for one mechanism cannot be changed twice in one request")
        } else {
            match what(mechanism) {
                Ok(Some(kept)) => return user.keep.push(kept),
                Ok(None) => return user.forget.push(number),
                Err(refused) => refused,
            }
        }
    } else {
        (codes::UNSUPPORTED_SASL_MECHANISM, "the mechanisms are SCRAM-SHA-256 (1) and SCRAM-SHA-512 (2)")
    };
    *wanted = Err(refused);
}

/// What is kept of a password that came salted.
fn derived(mechanism: Mechanism, asked: &ScramCredentialUpsertion) -> Result<UserCredential, (i16, &'static str)> {
    let refuse = |why| Err((codes::UNACCEPTABLE_CREDENTIAL, why));
    let Some(iterations) = u32::try_from(asked.iterations).ok().filter(|n| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(n)) else {
        return refuse("from 4096 to 16384 iterations are taken");
    };
    if asked.salt.is_empty() || asked.salt.len() > SALT_BYTES_MAX {
        return refuse("a salt has 1 to 128 bytes");
    }
    if asked.salted_password.is_empty() || asked.salted_password.len() > SALTED_BYTES_MAX {
        return refuse("a salted password has 1 to 128 bytes");
    }
    let Credential { salt, iterations, stored_key, server_key } =
        Credential::of_salted(mechanism, &asked.salted_password, asked.salt.to_vec(), iterations);
    Ok(UserCredential { mechanism: mechanism.number() as u32, iterations, salt, stored_key, server_key })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upsertion(iterations: i32, salt: &'static [u8], salted: &'static [u8]) -> ScramCredentialUpsertion {
        let asked = ScramCredentialUpsertion::default().with_iterations(iterations);
        asked.with_salt(Bytes::from_static(salt)).with_salted_password(Bytes::from_static(salted))
    }

    #[test]
    fn what_is_sent_salted_is_kept_as_keys() {
        let mechanism = Mechanism::ScramSha256;
        let kept = derived(mechanism, &upsertion(4_096, b"salt", &[7; 32])).expect("it may be kept");
        let own = Credential::of_salted(mechanism, &[7; 32], b"salt".to_vec(), 4_096);
        assert_eq!((kept.mechanism, kept.stored_key, kept.server_key), (1, own.stored_key, own.server_key));
        for wrong in [
            upsertion(4_095, b"salt", &[7; 32]),
            upsertion(16_385, b"salt", &[7; 32]),
            upsertion(-1, b"salt", &[7; 32]),
            upsertion(4_096, b"", &[7; 32]),
            upsertion(4_096, &[0; 129], &[7; 32]),
            upsertion(4_096, b"salt", b""),
            upsertion(4_096, b"salt", &[7; 129]),
        ] {
            assert_eq!(derived(mechanism, &wrong).expect_err("refused").0, codes::UNACCEPTABLE_CREDENTIAL);
        }
    }

    #[test]
    fn one_fault_of_a_user_refuses_all_that_is_asked_of_him() {
        let keep = |mechanism: Mechanism| derived(mechanism, &upsertion(4_096, b"salt", &[7; 32])).map(Some);
        let refused = |users: &BTreeMap<StrBytes, Wanted>| users[&text("u")].as_ref().map_err(|(code, _)| *code).cloned();
        let mut users = BTreeMap::new();
        want(&mut users, &text("u"), Some(Mechanism::ScramSha256), keep);
        want(&mut users, &text("u"), Some(Mechanism::ScramSha512), |_| Ok(None));
        let wanted = refused(&users).expect("nothing is wrong with it");
        assert_eq!((wanted.keep.len(), wanted.forget), (1, vec![2]));
        want(&mut users, &text("v"), Some(Mechanism::ScramSha256), keep);
        want(&mut users, &text("u"), Some(Mechanism::ScramSha512), keep);
        assert_eq!(refused(&users), Err(codes::DUPLICATE_RESOURCE));
        want(&mut users, &text("u"), Some(Mechanism::ScramSha256), |_| Err(NOT_THERE));
        assert_eq!(refused(&users), Err(codes::DUPLICATE_RESOURCE), "the first fault is told");
        assert!(users[&text("v")].is_ok());
        let mut users = BTreeMap::new();
        want(&mut users, &text("u"), None, keep);
        assert_eq!(refused(&users), Err(codes::UNSUPPORTED_SASL_MECHANISM));
        want(&mut users, &text(""), Some(Mechanism::ScramSha256), keep);
        assert_eq!(users[&text("")].as_ref().expect_err("no name").0, codes::UNACCEPTABLE_CREDENTIAL);
    }
}
