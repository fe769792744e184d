//! Who may do what: DescribeAcls, CreateAcls and DeleteAcls (KIP-11, KIP-290).
//!
//! ACLs are kept whether or not this node heeds them (`--authorize`), so that they can be there before it does. What could never fit a client here is refused:
//! principals that are no users, hosts that are no addresses.

use super::{
    super::{Front, conn::Conn, requests::look_elsewhere},
    answered, codes, decoded,
    groups::text,
    topics::{CHANGE_MAX, change},
};
use crate::{
    catalog::{ACLS_PER_CHANGE_MAX, acl_entry},
    kafka::wire::{Request, StrBytes, WireError},
    node::meta::Change,
    security::acl::{Acl, Filter, Meant, Operation, Pattern, Permission, ResourceType},
};
use bytes::Bytes;
use kafka_protocol::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse, DescribeAclsRequest, DescribeAclsResponse,
    create_acls_request::AclCreation,
    create_acls_response::AclCreationResult,
    delete_acls_request::DeleteAclsFilter,
    delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl},
    describe_acls_response::{AclDescription, DescribeAclsResource},
};
use millpond_runtime::Rt;
use millpond_wire::messages::{AlterAcls, Done, Failure, Kind};
use std::{collections::BTreeSet, rc::Rc};

/// An ACL in an answer, in bytes: as a message and as its bytes.
const ACL_BYTES: usize = 1536;
/// Most filters of one request: each is held against all ACLs.
const FILTERS_MAX: usize = 100;
/// In a filter, whatever there is; as a pattern, what has to do with a name.
const ANY: i8 = 1;
const MATCH: i8 = 2;

/// A code, and for people why.
type Refused = (i16, StrBytes);

fn refused(code: i16, why: &str) -> Refused {
    (code, text(why))
}

fn forbidden() -> Refused {
    refused(codes::CLUSTER_AUTHORIZATION_FAILED, "ACLs may not be looked after by this client")
}

/// What an answer takes, in bytes.
pub(super) fn weigh<R: Rt>(front: &Front<R>) -> usize {
    front.core.catalog.borrow().acls().len() * ACL_BYTES
}

/// Which ACLs there are.
pub(super) async fn describe<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: DescribeAclsRequest = decoded(request)?;
    let response = DescribeAclsResponse::default();
    let filter = if front.may_cluster(conn, Operation::Describe) {
        filter(
            (asked.resource_type_filter, asked.pattern_type_filter, asked.operation, asked.permission_type),
            [asked.resource_name_filter, asked.principal_filter, asked.host_filter],
        )
    } else {
        Err(forbidden())
    };
    let filter = match filter {
        Ok(filter) => filter,
        Err((code, why)) => return answered(request, &response.with_error_code(code).with_error_message(Some(why))),
    };
    look_elsewhere(front).await;
    let mut resources: Vec<DescribeAclsResource> = Vec::new();
    for acl in front.core.catalog.borrow().acls().iter().filter(|acl| filter.means(acl)) {
        let (resource, pattern) = (acl.resource.number(), acl.pattern.number());
        // Those of one resource come behind each other.
        let is_last = |last: &DescribeAclsResource| {
            (last.resource_type, &*last.resource_name, last.pattern_type) == (resource, acl.name.as_str(), pattern)
        };
        if !resources.last().is_some_and(is_last) {
            let next = DescribeAclsResource::default().with_resource_type(resource).with_resource_name(text(&acl.name));
            resources.push(next.with_pattern_type(pattern));
        }
        let told = AclDescription::default().with_principal(text(&acl.principal)).with_host(text(&acl.host));
        let told = told.with_operation(acl.operation.number()).with_permission_type(acl.permission.number());
        resources.last_mut().expect("one was added if there was none").acls.push(told);
    }
    answered(request, &response.with_resources(resources))
}

/// What is meant: by the numbers of resource, pattern, operation and permission, and by name, principal and host.
fn filter((resource, pattern, operation, permission): (i8, i8, i8, i8), texts: [Option<StrBytes>; 3]) -> Result<Filter, Refused> {
    fn part<T>(number: i8, of: impl Fn(i8) -> Option<T>) -> Result<Option<T>, Refused> {
        if number == ANY {
            return Ok(None);
        }
        of(number).map(Some).ok_or_else(|| refused(codes::INVALID_REQUEST, "a number of the filter means nothing"))
    }
    let [name, principal, host] = texts.map(|text| text.map(|text| text.to_string()));
    let pattern = match pattern {
        ANY => Meant::Any,
        MATCH => Meant::Match,
        number => part(number, Pattern::of_number)?.map_or(Meant::Any, Meant::As),
    };
    Ok(Filter {
        resource: part(resource, ResourceType::of_number)?,
        name,
        pattern,
        principal,
        host,
        operation: part(operation, Operation::of_number)?,
        permission: part(permission, Permission::of_number)?,
    })
}

/// Adds ACLs. Those of one request that are in order are added in pieces; each is answered for itself.
pub(super) async fn create<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: CreateAclsRequest = decoded(request)?;
    let may = front.may_cluster(conn, Operation::Alter);
    let mut results: Vec<Result<Acl, Refused>> =
        asked.creations.iter().map(|creation| if may { wanted(creation) } else { Err(forbidden()) }).collect();
    for some in results.chunks_mut(ACLS_PER_CHANGE_MAX) {
        let add: Vec<_> = some.iter().flatten().map(acl_entry).collect();
        if let Err(failure) = alter(front, AlterAcls { add, remove: Vec::new() }).await {
            let why = (codes::of_controller(&failure), codes::text(&failure));
            some.iter_mut().filter(|result| result.is_ok()).for_each(|result| *result = Err(why.clone()));
        }
    }
    let told = |result: Result<Acl, Refused>| match result {
        Ok(_) => AclCreationResult::default(),
        Err((code, why)) => AclCreationResult::default().with_error_code(code).with_error_message(Some(why)),
    };
    answered(request, &CreateAclsResponse::default().with_results(results.into_iter().map(told).collect()))
}

fn wanted(creation: &AclCreation) -> Result<Acl, Refused> {
    fn part<T>(one: Option<T>) -> Result<T, Refused> {
        one.ok_or_else(|| refused(codes::INVALID_REQUEST, "an ACL is of one resource and pattern, one operation, and lets or forbids"))
    }
    let acl = Acl {
        resource: part(ResourceType::of_number(creation.resource_type))?,
        name: creation.resource_name.to_string(),
        pattern: part(Pattern::of_number(creation.resource_pattern_type))?,
        principal: creation.principal.to_string(),
        host: creation.host.to_string(),
        operation: part(Operation::of_number(creation.operation))?,
        permission: part(Permission::of_number(creation.permission_type))?,
    };
    acl.checked().map_err(|why| refused(codes::INVALID_REQUEST, why))
}

async fn alter<R: Rt>(front: &Rc<Front<R>>, wanted: AlterAcls) -> Result<(), Failure> {
    if wanted.add.is_empty() && wanted.remove.is_empty() {
        return Ok(());
    }
    let alter = (Kind::AlterAcls, |_| wanted.clone());
    let done: Result<Done, Failure> = change(front, alter, (Change::Acls, |_| Done {}), CHANGE_MAX).await;
    done.map(drop)
}

/// Takes away what filters mean, one filter after the other.
pub(super) async fn delete<R: Rt>(front: &Rc<Front<R>>, conn: &Conn<R>, request: &Request) -> Result<Vec<Bytes>, WireError> {
    let asked: DeleteAclsRequest = decoded(request)?;
    let may = front.may_cluster(conn, Operation::Alter);
    look_elsewhere(front).await;
    // What one filter means no other means any more: together they tell of each ACL once.
    let mut gone: BTreeSet<Acl> = BTreeSet::new();
    let mut results = Vec::with_capacity(asked.filters.len());
    for (number, asked) in asked.filters.into_iter().enumerate() {
        front.core.rt.yield_if_needed().await;
        let result = DeleteAclsFilterResult::default();
        let done = if !may {
            Err(forbidden())
        } else if number >= FILTERS_MAX {
            Err(refused(codes::INVALID_REQUEST, "at most 100 filters are taken at a time"))
        } else {
            delete_one(front, asked, &mut gone).await
        };
        results.push(match done {
            Ok(acls) => result.with_matching_acls(acls.iter().map(matching).collect()),
            Err((code, why)) => result.with_error_code(code).with_error_message(Some(why)),
        });
    }
    answered(request, &DeleteAclsResponse::default().with_filter_results(results))
}

async fn delete_one<R: Rt>(front: &Rc<Front<R>>, asked: DeleteAclsFilter, gone: &mut BTreeSet<Acl>) -> Result<Vec<Acl>, Refused> {
    let filter = filter(
        (asked.resource_type_filter, asked.pattern_type_filter, asked.operation, asked.permission_type),
        [asked.resource_name_filter, asked.principal_filter, asked.host_filter],
    )?;
    let meant: Vec<Acl> = {
        let catalog = front.core.catalog.borrow();
        catalog.acls().iter().filter(|acl| filter.means(acl) && !gone.contains(acl)).cloned().collect()
    };
    for some in meant.chunks(ACLS_PER_CHANGE_MAX) {
        let wanted = AlterAcls { add: Vec::new(), remove: some.iter().map(acl_entry).collect() };
        alter(front, wanted).await.map_err(|failure| (codes::of_controller(&failure), codes::text(&failure)))?;
        gone.extend(some.iter().cloned());
    }
    Ok(meant)
}

fn matching(acl: &Acl) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl::default()
        .with_resource_type(acl.resource.number())
        .with_resource_name(text(&acl.name))
        .with_pattern_type(acl.pattern.number())
        .with_principal(text(&acl.principal))
        .with_host(text(&acl.host))
        .with_operation(acl.operation.number())
        .with_permission_type(acl.permission.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_and_acls_are_read_by_their_numbers() {
        let all = filter((1, 1, 1, 1), [None, None, None]).expect("whatever there is");
        assert_eq!(all, Filter::default());
        let one = filter((2, 3, 4, 2), [Some(text("t")), Some(text("User:a")), None]).expect("a filter");
        assert_eq!((one.resource, one.pattern), (Some(ResourceType::Topic), Meant::As(Pattern::Literal)));
        assert_eq!((one.operation, one.permission), (Some(Operation::Write), Some(Permission::Deny)));
        assert_eq!(filter((2, 2, 1, 1), [None, None, None]).expect("a filter").pattern, Meant::Match);
        for wrong in [(0, 1, 1, 1), (1, 0, 1, 1), (1, 5, 1, 1), (1, 1, 99, 1), (1, 1, 1, 0), (-1, 1, 1, 1)] {
            assert_eq!(filter(wrong, [None, None, None]).expect_err("refused").0, codes::INVALID_REQUEST);
        }
        let creation = AclCreation::default().with_resource_type(2).with_resource_name(text("t")).with_resource_pattern_type(3);
        let creation = creation.with_principal(text("User:a")).with_host(text("*")).with_operation(3).with_permission_type(3);
        assert_eq!(wanted(&creation).map(|acl| acl.operation), Ok(Operation::Read));
        for wrong in [
            creation.clone().with_resource_type(1),
            creation.clone().with_resource_pattern_type(2),
            creation.clone().with_operation(1),
            creation.clone().with_permission_type(1),
            creation.clone().with_principal(text("a")),
        ] {
            assert_eq!(wanted(&wrong).expect_err("refused").0, codes::INVALID_REQUEST);
        }
    }
}
