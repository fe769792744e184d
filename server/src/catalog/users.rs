//! Users, and what is kept of their passwords: for each of them one credential or more, each for a mechanism of its own.

use super::{Catalog, CatalogError, Plan, names, records};
use crate::security::{Credential, Mechanism, USER_BYTES_MAX};
use millpond_wire::messages::{AlterUser, UserCredential};
use std::collections::{BTreeMap, BTreeSet};

/// Most credentials of all users together.
pub const CREDENTIALS_MAX: usize = 20_000;

impl Catalog {
    /// What is kept of a user's password for a mechanism.
    #[must_use]
    pub fn credential(&self, user: &str, mechanism: Mechanism) -> Option<&Credential> {
        self.users.get(user)?.get(&mechanism)
    }

    /// All users by name, with what is kept of each.
    pub fn users(&self) -> impl Iterator<Item = (&str, &BTreeMap<Mechanism, Credential>)> {
        self.users.iter().map(|(name, kept)| (name.as_str(), kept))
    }

    /// What is kept of one user.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&BTreeMap<Mechanism, Credential>> {
        self.users.get(name)
    }

    /// Changes what is kept of a user.
    pub fn plan_user(&self, request: &AlterUser) -> Result<Plan, CatalogError> {
        let name = &request.name;
        let bad = |why: String| CatalogError::BadUser { name: names::shorten(name), why };
        if name.is_empty() || name.len() > USER_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(bad(format!("a name has 1 to {USER_BYTES_MAX} bytes, and no control characters")));
        }
        let there = self.users.get(name);
        let mut records = Vec::new();
        let mut named = BTreeSet::new();
        for number in &request.forget {
            let mechanism = mechanism(*number).ok_or_else(|| bad(format!("there is no mechanism {number}")))?;
            let is_there = there.is_some_and(|kept| kept.contains_key(&mechanism));
            if !is_there && !request.again {
                return Err(CatalogError::UnknownUser { name: names::shorten(name), mechanism: mechanism.name() });
            }
            if !named.insert(mechanism) {
                return Err(bad(format!("{} is named twice", mechanism.name())));
            }
            if is_there {
                records.push(records::user(name, mechanism, None));
            }
        }
        let mut more = 0;
        for kept in &request.keep {
            let UserCredential { mechanism: number, iterations, salt, stored_key, server_key } = kept.clone();
            let mechanism = mechanism(number).ok_or_else(|| bad(format!("there is no mechanism {number}")))?;
            if !named.insert(mechanism) {
                return Err(bad(format!("{} is named twice", mechanism.name())));
            }
            let credential = Credential { salt, iterations, stored_key, server_key };
            if let Some(fault) = credential.fault(mechanism) {
                return Err(bad(fault));
            }
            more += usize::from(self.credential(name, mechanism).is_none());
            records.push(records::user(name, mechanism, Some(&credential)));
        }
        let all: usize = self.users.values().map(BTreeMap::len).sum();
        if more > 0 && all + more > CREDENTIALS_MAX {
            return Err(CatalogError::Full { what: "credentials of users", there: all, max: CREDENTIALS_MAX });
        }
        Ok(Plan { records, topic: None })
    }

    pub(super) fn put_credential(&mut self, user: String, mechanism: Mechanism, credential: Option<Credential>) {
        match credential {
            Some(credential) => {
                self.users.entry(user).or_default().insert(mechanism, credential);
            }
            None => {
                if let Some(kept) = self.users.get_mut(&user) {
                    kept.remove(&mechanism);
                    if kept.is_empty() {
                        self.users.remove(&user);
                    }
                }
            }
        }
    }
}

fn mechanism(number: u32) -> Option<Mechanism> {
    Mechanism::of_number(i8::try_from(number).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(mechanism: Mechanism, byte: u8) -> UserCredential {
        let key = vec![byte; mechanism.key_bytes()];
        let mechanism = mechanism.number() as u32;
        UserCredential { mechanism, iterations: 4_096, salt: vec![byte; 9], stored_key: key.clone(), server_key: key }
    }

    fn alter(name: &str, keep: Vec<UserCredential>, forget: &[u32]) -> AlterUser {
        AlterUser { name: name.into(), keep, forget: forget.to_vec(), again: false }
    }

    fn apply(catalog: &mut Catalog, request: &AlterUser) {
        let plan = catalog.plan_user(request).expect("it may be");
        for record in &plan.records {
            catalog.apply(&record.key, record.value.as_deref()).expect("we read what we wrote");
        }
        catalog.check();
    }

    #[test]
    fn users_come_change_and_go() {
        let mut catalog = Catalog::new();
        let (short, long) = (Mechanism::ScramSha256, Mechanism::ScramSha512);
        apply(&mut catalog, &alter("a/b=c,d", vec![kept(short, 0x0f), kept(long, 0xf0)], &[]));
        let stored = |catalog: &Catalog, mechanism| catalog.credential("a/b=c,d", mechanism).map(|c| c.stored_key.clone());
        assert_eq!((stored(&catalog, short), stored(&catalog, long)), (Some(vec![0x0f; 32]), Some(vec![0xf0; 64])));
        assert_eq!(catalog.credential("a", short), None);
        apply(&mut catalog, &alter("a/b=c,d", vec![kept(short, 7)], &[2]));
        assert_eq!((stored(&catalog, short), stored(&catalog, long)), (Some(vec![7; 32]), None));
        apply(&mut catalog, &alter("a/b=c,d", vec![], &[1]));
        let gone = alter("a/b=c,d", vec![], &[1]);
        assert!(catalog.plan_user(&gone).is_err());
        assert!(!catalog.plan_user(&AlterUser { again: true, ..gone }).expect("it may have been done before").changes());
        assert_eq!(catalog.users().count(), 0);
        assert_eq!(catalog, Catalog::new());
    }

    #[test]
    fn users_that_cannot_be_are_refused() {
        let catalog = Catalog::new();
        let refuse = |request: &AlterUser| catalog.plan_user(request).expect_err("refused").to_string();
        let good = kept(Mechanism::ScramSha256, 1);
        let long = "x".repeat(USER_BYTES_MAX + 1);
        for name in ["", "a\nb", "\0", &long] {
            assert!(refuse(&alter(name, vec![good.clone()], &[])).contains("1 to 255 bytes"));
        }
        assert!(refuse(&alter("u", vec![], &[1])).contains("no user u with a password for SCRAM-SHA-256"));
        assert!(refuse(&alter("u", vec![], &[9])).contains("no mechanism 9"));
        assert!(refuse(&alter("u", vec![good.clone(), good.clone()], &[])).contains("named twice"));
        for (wrong, says) in [
            (UserCredential { iterations: 4_095, ..good.clone() }, "iterations"),
            (UserCredential { iterations: 16_385, ..good.clone() }, "iterations"),
            (UserCredential { salt: vec![], ..good.clone() }, "salt"),
            (UserCredential { salt: vec![0; 129], ..good.clone() }, "salt"),
            (UserCredential { stored_key: vec![0; 33], ..good.clone() }, "a key of 33 bytes"),
            (UserCredential { server_key: vec![], ..good.clone() }, "a key of 0 bytes"),
            (UserCredential { mechanism: 2, ..good.clone() }, "a key of 32 bytes"),
            (UserCredential { mechanism: 300, ..good.clone() }, "no mechanism 300"),
        ] {
            let refused = refuse(&alter("u", vec![wrong], &[]));
            assert!(refused.contains(says), "{refused}");
        }
    }

    #[test]
    fn damaged_records_are_refused() {
        let mut catalog = Catalog::new();
        let record = records::user(
            "u",
            Mechanism::ScramSha256,
            Some(&Credential { salt: vec![1], iterations: 4_096, stored_key: vec![2; 32], server_key: vec![3; 32] }),
        );
        let value = String::from_utf8(record.value.expect("a value").to_vec()).expect("text");
        catalog.apply(&record.key, Some(value.as_bytes())).expect("sound");
        for (from, to) in [("4096", "1"), ("\"01\"", "\"0\""), ("\"01\"", "\"0x\""), ("0202", "02"), ("\"v\":1", "\"v\":2")] {
            let damaged = value.replacen(from, to, 1);
            assert_ne!(damaged, value);
            catalog.apply(&record.key, Some(damaged.as_bytes())).expect_err(&damaged);
        }
        catalog.apply(b"user/SCRAM-MD5/u", None).expect_err("no such mechanism");
        catalog.apply(b"user/u", None).expect_err("no mechanism");
    }
}
