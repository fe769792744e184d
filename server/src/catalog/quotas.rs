//! Quotas: of client ids, of users, and of client ids of users.

use super::{Catalog, CatalogError, Plan, names, records};
use crate::security::USER_BYTES_MAX;
use millpond_wire::messages::AlterQuota;

/// Most quotas.
pub const QUOTAS_MAX: usize = 10_000;
/// Longest client id of a quota, in bytes.
pub const CLIENT_ID_BYTES_MAX: usize = 255;

/// Limits in bytes per second and core; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Bytes per second that may be produced.
    pub produce_bytes_per_s: u64,
    /// Bytes per second that may be fetched.
    pub fetch_bytes_per_s: u64,
}

impl Quota {
    /// Whether it limits nothing.
    #[must_use]
    pub fn is_unlimited(self) -> bool {
        self == Self::default()
    }
}

/// Whose quota it is: a client id's, a user's, or that of a client id of a user; never nobody's. An empty name stands for all that have none of their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Whose {
    /// The user, if it is one's.
    pub user: Option<String>,
    /// The client id, if it is one's; without it a quota is of all clients of a user together.
    pub client: Option<String>,
}

impl Whose {
    /// That of a client id, whoever uses it.
    #[must_use]
    pub fn client(client: &str) -> Self {
        Self { user: None, client: Some(client.to_owned()) }
    }
}

impl From<&AlterQuota> for Whose {
    fn from(request: &AlterQuota) -> Self {
        let of_all = request.user.is_some() && request.all_clients;
        Self { user: request.user.clone(), client: (!of_all).then(|| request.client_id.clone()) }
    }
}

/// A quota as it is told and asked for.
#[must_use]
pub fn to_wire(whose: &Whose, quota: Quota) -> AlterQuota {
    AlterQuota {
        client_id: whose.client.clone().unwrap_or_default(),
        produce_bytes_per_s: quota.produce_bytes_per_s,
        fetch_bytes_per_s: quota.fetch_bytes_per_s,
        user: whose.user.clone(),
        all_clients: whose.client.is_none(),
    }
}

impl Catalog {
    /// All quotas.
    pub fn quotas(&self) -> impl Iterator<Item = (&Whose, Quota)> {
        self.quotas.iter().map(|(whose, quota)| (whose, *quota))
    }

    /// What is limited for somebody, nothing if there is no quota of exactly that.
    #[must_use]
    pub fn quota(&self, whose: &Whose) -> Quota {
        self.quotas.get(whose).copied().unwrap_or_default()
    }

    /// Sets or takes away a quota.
    pub fn plan_quota(&self, request: &AlterQuota) -> Result<Plan, CatalogError> {
        let whose = Whose::from(request);
        if request.client_id.len() > CLIENT_ID_BYTES_MAX {
            return Err(CatalogError::BadClientId { len: request.client_id.len(), max: CLIENT_ID_BYTES_MAX });
        }
        // The user need not be there: as in Kafka, a quota may come first.
        if let Some(user) = whose.user.as_ref().filter(|user| user.len() > USER_BYTES_MAX || user.chars().any(char::is_control)) {
            let why = format!("a name has at most {USER_BYTES_MAX} bytes, and no control characters");
            return Err(CatalogError::BadUser { name: names::shorten(user), why });
        }
        let quota = Quota { produce_bytes_per_s: request.produce_bytes_per_s, fetch_bytes_per_s: request.fetch_bytes_per_s };
        let there = self.quota(&whose);
        if there == quota {
            return Ok(Plan { records: Vec::new(), topic: None });
        }
        if there.is_unlimited() && self.quotas.len() >= QUOTAS_MAX {
            return Err(CatalogError::Full { what: "quotas", there: self.quotas.len(), max: QUOTAS_MAX });
        }
        Ok(Plan { records: vec![records::quota(&whose, quota)], topic: None })
    }

    /// Takes over what is limited for somebody.
    pub(super) fn put_quota(&mut self, whose: &Whose, quota: Quota) {
        if quota.is_unlimited() {
            self.quotas.remove(whose);
        } else {
            self.quotas.insert(whose.clone(), quota);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(user: Option<&str>, client: Option<&str>) -> AlterQuota {
        let whose = Whose { user: user.map(Into::into), client: client.map(Into::into) };
        to_wire(&whose, Quota { produce_bytes_per_s: 7, fetch_bytes_per_s: 0 })
    }

    fn apply(catalog: &mut Catalog, request: &AlterQuota) {
        for record in catalog.plan_quota(request).expect("it is in order").records {
            catalog.apply(&record.key, record.value.as_deref()).expect("it is a record of ours");
            catalog.check();
        }
    }

    #[test]
    fn each_is_kept_by_whose_it_is() {
        let mut catalog = Catalog::default();
        let names = [None, Some(""), Some("ann"), Some("a/\"b\"")];
        let all: Vec<AlterQuota> = names
            .iter()
            .flat_map(|user| names.iter().map(move |client| (*user, *client)))
            .filter(|(user, client)| user.is_some() || client.is_some())
            .map(|(user, client)| request(user, client))
            .collect();
        for one in &all {
            assert_eq!(to_wire(&Whose::from(one), Quota { produce_bytes_per_s: 7, fetch_bytes_per_s: 0 }), *one);
            apply(&mut catalog, one);
        }
        assert_eq!(catalog.quotas().count(), all.len());
        for one in &all {
            assert!(!catalog.plan_quota(one).expect("it is in order").changes(), "it is there: {one:?}");
            apply(&mut catalog, &AlterQuota { produce_bytes_per_s: 0, ..one.clone() });
        }
        assert_eq!(catalog.quotas().count(), 0);
    }

    #[test]
    fn names_that_nobody_can_have_are_refused() {
        let catalog = Catalog::default();
        let long = "x".repeat(CLIENT_ID_BYTES_MAX + 1);
        for (user, client) in [(None, Some(&*long)), (Some(&*long), None), (Some("a\0b"), Some("c"))] {
            catalog.plan_quota(&request(user, client)).expect_err("nobody has that name");
        }
    }
}
