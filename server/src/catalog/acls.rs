//! ACLs: who may do what. [`crate::security::acl`] decides by them.

use super::{Catalog, CatalogError, Plan, records};
use crate::security::acl::{Acl, Acls, Operation, Pattern, Permission, ResourceType};
use millpond_wire::messages::{AclEntry, AlterAcls};
use std::collections::BTreeSet;

/// Most ACLs.
pub const ACLS_MAX: usize = 20_000;
/// Most ACLs that are added and taken away by one change: together they are one batch.
pub const ACLS_PER_CHANGE_MAX: usize = 500;

impl Catalog {
    /// Who may do what.
    #[must_use]
    pub fn acls(&self) -> &Acls {
        &self.acls
    }

    /// Adds and takes away ACLs.
    pub fn plan_acls(&self, request: &AlterAcls) -> Result<Plan, CatalogError> {
        let asked = request.add.len() + request.remove.len();
        if asked > ACLS_PER_CHANGE_MAX {
            return Err(CatalogError::BadAcl { why: "at most 500 are changed at a time" });
        }
        let read = |entries: &[AclEntry]| entries.iter().map(read).collect::<Result<BTreeSet<Acl>, _>>();
        let (mut add, mut remove) = (read(&request.add)?, read(&request.remove)?);
        add.retain(|acl| !self.acls.contains(acl));
        remove.retain(|acl| self.acls.contains(acl));
        if !add.is_empty() && self.acls.len() + add.len() > ACLS_MAX + remove.len() {
            return Err(CatalogError::Full { what: "ACLs", there: self.acls.len(), max: ACLS_MAX });
        }
        let gone = remove.iter().map(|acl| records::acl(acl, false));
        let records = gone.chain(add.iter().map(|acl| records::acl(acl, true))).collect();
        Ok(Plan { records, topic: None })
    }
}

fn read(entry: &AclEntry) -> Result<Acl, CatalogError> {
    fn number<T>(number: i32, of: impl Fn(i8) -> Option<T>) -> Result<T, CatalogError> {
        i8::try_from(number).ok().and_then(of).ok_or(CatalogError::BadAcl { why: "a number in it means nothing" })
    }
    let acl = Acl {
        resource: number(entry.resource, ResourceType::of_number)?,
        name: entry.name.clone(),
        pattern: number(entry.pattern, Pattern::of_number)?,
        principal: entry.principal.clone(),
        host: entry.host.clone(),
        operation: number(entry.operation, Operation::of_number)?,
        permission: number(entry.permission, Permission::of_number)?,
    };
    acl.checked().map_err(|why| CatalogError::BadAcl { why })
}

/// As it travels.
#[must_use]
pub fn acl_entry(acl: &Acl) -> AclEntry {
    AclEntry {
        resource: acl.resource.number().into(),
        name: acl.name.clone(),
        pattern: acl.pattern.number().into(),
        principal: acl.principal.clone(),
        host: acl.host.clone(),
        operation: acl.operation.number().into(),
        permission: acl.permission.number().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(name: &str) -> Acl {
        Acl {
            resource: ResourceType::TransactionalId,
            name: name.into(),
            pattern: Pattern::Prefixed,
            principal: "User:\"ann\"".into(),
            host: "*".into(),
            operation: Operation::TwoPhaseCommit,
            permission: Permission::Deny,
        }
    }

    fn alter(catalog: &mut Catalog, add: &[Acl], remove: &[Acl]) -> usize {
        let request = AlterAcls { add: add.iter().map(acl_entry).collect(), remove: remove.iter().map(acl_entry).collect() };
        let plan = catalog.plan_acls(&request).expect("it may be");
        for record in &plan.records {
            catalog.apply(&record.key, record.value.as_deref()).expect("we read what we wrote");
        }
        catalog.check();
        plan.records.len()
    }

    #[test]
    fn acls_come_and_go() {
        let mut catalog = Catalog::new();
        assert_eq!(alter(&mut catalog, &[acl("a/[\"b"), acl("c"), acl("c")], &[]), 2);
        assert_eq!(alter(&mut catalog, &[acl("c")], &[acl("nowhere")]), 0, "nothing is to be done");
        assert_eq!(catalog.acls().iter().cloned().collect::<Vec<_>>(), [acl("a/[\"b"), acl("c")]);
        assert_eq!(alter(&mut catalog, &[], &[acl("a/[\"b"), acl("c")]), 2);
        assert_eq!(catalog, Catalog::new());
    }

    #[test]
    fn acls_that_cannot_be_are_refused() {
        let mut catalog = Catalog::new();
        let good = acl_entry(&acl("a"));
        for wrong in [
            AclEntry { resource: 1, ..good.clone() },
            AclEntry { resource: 258, ..good.clone() },
            AclEntry { pattern: 2, ..good.clone() },
            AclEntry { operation: 1, ..good.clone() },
            AclEntry { permission: 1, ..good.clone() },
            AclEntry { principal: "ann".into(), ..good.clone() },
        ] {
            let refused = catalog.plan_acls(&AlterAcls { add: vec![wrong], remove: vec![] });
            assert!(matches!(refused, Err(CatalogError::BadAcl { .. })), "{refused:?}");
        }
        let many = |from: usize| (from..from + ACLS_PER_CHANGE_MAX).map(|n| acl(&n.to_string())).collect::<Vec<_>>();
        for change in 0..ACLS_MAX / ACLS_PER_CHANGE_MAX {
            alter(&mut catalog, &many(change * ACLS_PER_CHANGE_MAX), &[]);
        }
        let full = catalog.plan_acls(&AlterAcls { add: vec![good.clone()], remove: vec![] });
        assert!(matches!(full, Err(CatalogError::Full { .. })), "{full:?}");
        assert_eq!(alter(&mut catalog, &[acl("a")], &[acl("0")]), 2, "one comes for another");
        let many = AlterAcls { add: vec![good; ACLS_PER_CHANGE_MAX + 1], remove: vec![] };
        assert!(matches!(catalog.plan_acls(&many), Err(CatalogError::BadAcl { .. })));
    }

    #[test]
    fn the_longest_acls_of_a_change_fit_into_a_batch() {
        let mut long = acl(&"\"".repeat(255));
        long.principal = format!("User:{}", "\\".repeat(255));
        let bytes = records::acl(&long, true).key.len() + 64;
        assert!(bytes * ACLS_PER_CHANGE_MAX < 1 << 20, "{bytes} bytes each");
    }

    #[test]
    fn damaged_records_are_refused() {
        for key in ["acl/", "acl/[]", "acl/[\"topic\",\"any\",\"t\",\"User:a\",\"*\",\"read\",\"allow\"]", "acl/[1]"] {
            Catalog::new().apply(key.as_bytes(), Some(b"{\"v\":1}")).expect_err(key);
        }
    }
}
