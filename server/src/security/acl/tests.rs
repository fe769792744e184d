use super::*;
use proptest::{collection::vec, prelude::*, sample::select};

fn acl(resource: ResourceType, name: &str, pattern: Pattern, principal: &str, operation: Operation, permission: Permission) -> Acl {
    Acl { resource, name: name.into(), pattern, principal: principal.into(), host: ANY.into(), operation, permission }
}

fn of(acls: impl IntoIterator<Item = Acl>) -> Acls {
    let mut all = Acls::default();
    acls.into_iter().for_each(|acl| all.insert(acl.checked().expect("sound")));
    all.check();
    all
}

use Operation::{All, Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};
use Pattern::{Literal, Prefixed};
use Permission::{Allow, Deny};
use ResourceType::{Group, Topic};

#[test]
fn what_nobody_lets_is_forbidden_and_forbidding_wins() {
    let acls = of([
        acl(Topic, "orders", Literal, "User:ann", Read, Allow),
        acl(Topic, "order", Prefixed, "User:bob", All, Allow),
        acl(Topic, "orders-secret", Literal, "User:*", Read, Deny),
        acl(Group, "*", Literal, "User:*", Read, Allow),
    ]);
    let may = |user: &str, operation, resource, name: &str| acls.allows(&format!("User:{user}"), "10.0.0.1", operation, resource, name);
    assert!(may("ann", Read, Topic, "orders") && may("ann", Describe, Topic, "orders"), "who reads may look");
    assert!(!may("ann", Write, Topic, "orders") && !may("ann", Read, Topic, "orders2") && !may("ann", DescribeConfigs, Topic, "orders"));
    assert!(may("bob", Write, Topic, "orders") && may("bob", Delete, Topic, "order") && !may("bob", Write, Topic, "orde"));
    assert!(!may("bob", Read, Topic, "orders-secret") && may("bob", Write, Topic, "orders-secret"));
    assert!(may("bob", Describe, Topic, "orders-secret"), "who may not read may look");
    assert!(may("eve", Read, Group, "any") && !may("eve", Delete, Group, "any") && !may("eve", Read, Topic, "any"));
    assert!(!Acls::default().allows("User:ann", "10.0.0.1", Read, Topic, "t"));
}

#[test]
fn hosts_and_implied_operations() {
    let mut one = acl(Topic, "t", Literal, "User:ann", AlterConfigs, Allow);
    one.host = "::ffff:10.0.0.1".into();
    let acls = of([one, acl(Topic, "t", Literal, "User:bob", Alter, Allow), acl(Topic, "t", Literal, "User:eve", Describe, Deny)]);
    assert!(
        acls.allows("User:ann", "10.0.0.1", DescribeConfigs, Topic, "t")
            && !acls.allows("User:ann", "10.0.0.2", DescribeConfigs, Topic, "t")
    );
    assert!(!acls.allows("User:ann", "10.0.0.1", Describe, Topic, "t"));
    assert!(acls.allows("User:bob", "::1", Describe, Topic, "t") && !acls.allows("User:bob", "::1", Read, Topic, "t"));
    let mut acls = acls;
    acls.insert(acl(Topic, "t", Literal, "User:eve", Read, Allow));
    assert!(acls.allows("User:eve", "::1", Read, Topic, "t") && !acls.allows("User:eve", "::1", Describe, Topic, "t"));
}

#[test]
fn some_resource_may_be_there() {
    let some = |acls: &[&Acl]| of(acls.iter().map(|acl| (*acl).clone())).allows_some("User:ann", "::1", Write, Topic);
    let let_one = acl(Topic, "ab", Literal, "User:ann", Write, Allow);
    let let_some = acl(Topic, "ab", Prefixed, "User:*", All, Allow);
    let deny = |name: &str, pattern| acl(Topic, name, pattern, "User:ann", Write, Deny);
    assert!(!some(&[]) && some(&[&let_one]) && some(&[&let_some]));
    assert!(
        !some(&[&acl(Topic, "ab", Literal, "User:ann", Read, Allow)]) && !some(&[&acl(Group, "ab", Literal, "User:ann", Write, Allow)])
    );
    assert!(
        !some(&[&let_one, &deny("ab", Literal)]) && !some(&[&let_one, &deny("a", Prefixed)]) && !some(&[&let_one, &deny("*", Literal)])
    );
    assert!(some(&[&let_one, &deny("abc", Prefixed)]) && some(&[&let_one, &deny("b", Literal)]));
    assert!(some(&[&let_some, &deny("ab", Literal)]), "abc is left");
    assert!(!some(&[&let_some, &deny("ab", Prefixed)]) && !some(&[&let_some, &deny("*", Literal)]));
    assert!(some(&[&acl(Topic, "*", Literal, "User:ann", Write, Allow), &deny("*", Prefixed)]), "a is left");
}

#[test]
fn acls_that_could_never_fit_are_refused() {
    let good = acl(Topic, "t", Literal, "User:ann", Read, Allow);
    assert_eq!(good.clone().checked(), Ok(good.clone()));
    for wrong in [
        Acl { name: String::new(), ..good.clone() },
        Acl { name: "x".repeat(256), ..good.clone() },
        Acl { name: "a\nb".into(), ..good.clone() },
        Acl { principal: "ann".into(), ..good.clone() },
        Acl { principal: "User:".into(), ..good.clone() },
        Acl { principal: "Group:ann".into(), ..good.clone() },
        Acl { principal: format!("User:{}", "x".repeat(256)), ..good.clone() },
        Acl { host: "example.com".into(), ..good.clone() },
        Acl { host: String::new(), ..good.clone() },
        Acl { resource: ResourceType::Cluster, ..good.clone() },
    ] {
        wrong.clone().checked().expect_err(&format!("{wrong:?}"));
    }
    let mut other = good;
    other.host = "0:0:0:0:0:0:0:1".into();
    assert_eq!(other.checked().expect("an address").host, "::1");
}

#[test]
fn filters_mean_what_kafkas_mean() {
    let literal = acl(Topic, "ab", Literal, "User:ann", Read, Allow);
    let prefixed = acl(Topic, "a", Prefixed, "User:ann", Read, Allow);
    let all = acl(Topic, "*", Literal, "User:ann", Read, Allow);
    let means = |pattern, name: Option<&str>| {
        let filter = Filter { pattern, name: name.map(Into::into), ..Filter::default() };
        [&literal, &prefixed, &all].map(|acl| filter.means(acl))
    };
    assert_eq!(means(Meant::Any, None), [true; 3]);
    assert_eq!(means(Meant::Any, Some("ab")), [true, false, false]);
    assert_eq!(means(Meant::Any, Some("a")), [false, true, false]);
    assert_eq!(means(Meant::As(Literal), Some("*")), [false, false, true]);
    assert_eq!(means(Meant::As(Prefixed), None), [false, true, false]);
    assert_eq!(means(Meant::Match, Some("ab")), [true, true, true]);
    assert_eq!(means(Meant::Match, Some("b")), [false, false, true]);
    let filter = |change: &dyn Fn(&mut Filter)| {
        let mut filter = Filter::default();
        change(&mut filter);
        filter.means(&literal)
    };
    assert!(filter(&|f| f.resource = Some(Topic)) && !filter(&|f| f.resource = Some(Group)));
    assert!(filter(&|f| f.principal = Some("User:ann".into())) && !filter(&|f| f.principal = Some("User:*".into())));
    assert!(filter(&|f| f.host = Some(ANY.into())) && !filter(&|f| f.host = Some("::1".into())));
    assert!(filter(&|f| f.operation = Some(Read)) && !filter(&|f| f.operation = Some(All)));
    assert!(filter(&|f| f.permission = Some(Allow)) && !filter(&|f| f.permission = Some(Deny)));
}

/// Reads all ACLs from the first to the last.
fn naive(acls: &[Acl], principal: &str, host: &str, operation: Operation, resource: ResourceType, name: &str) -> bool {
    let about = |acl: &&Acl| {
        let named = match acl.pattern {
            Literal => acl.name == name || acl.name == "*",
            Prefixed => name.starts_with(&acl.name),
        };
        acl.resource == resource
            && named
            && (acl.principal == principal || acl.principal == "User:*")
            && (acl.host == host || acl.host == "*")
    };
    let denies = |acl: &Acl| acl.permission == Deny && (acl.operation == All || acl.operation == operation);
    let implied: &[Operation] = match operation {
        Describe => &[Read, Write, Delete, Alter],
        DescribeConfigs => &[AlterConfigs],
        _ => &[],
    };
    let allows =
        |acl: &Acl| acl.permission == Allow && (acl.operation == All || acl.operation == operation || implied.contains(&acl.operation));
    acls.iter().filter(about).any(allows) && !acls.iter().filter(about).any(denies)
}

/// Names that have much in common, and characters of several bytes.
fn names() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[abé]{1,5}", 1 => Just("*".to_owned())]
}

fn acls() -> impl Strategy<Value = Acl> {
    let who = (select(vec!["User:a", "User:b", "User:*"]), select(vec!["*", "10.0.0.1"]));
    let what = (select(vec![Topic, Group]), names(), select(Pattern::ALL.to_vec()));
    let how = (select(Operation::ALL[..10].to_vec()), select(vec![Allow, Allow, Deny]));
    (who, what, how).prop_map(|((principal, host), (resource, name, pattern), (operation, permission))| Acl {
        resource,
        name,
        pattern,
        principal: principal.into(),
        host: host.into(),
        operation,
        permission,
    })
}

proptest! {
    #[test]
    fn checks_agree_with_reading_all_of_them(kept in vec(acls(), 0..30), gone in vec(acls(), 0..10), asked in vec((names(), select(Operation::ALL.to_vec())), 20)) {
        let mut all = Acls::default();
        kept.iter().chain(&gone).cloned().for_each(|acl| all.insert(acl));
        all.check();
        gone.iter().for_each(|acl| all.remove(acl));
        all.check();
        let left: Vec<Acl> = kept.into_iter().filter(|acl| !gone.contains(acl)).collect();
        for (name, operation) in asked {
            for principal in ["User:a", "User:c"] {
                for (host, resource) in [("10.0.0.1", Topic), ("10.0.0.2", Group)] {
                    let expected = naive(&left, principal, host, operation, resource, &name);
                    prop_assert_eq!(all.allows(principal, host, operation, resource, &name), expected, "{} {:?} {}", principal, operation, name);
                    // What is allowed for one resource is allowed for some.
                    prop_assert!(!expected || all.allows_some(principal, host, operation, resource));
                }
            }
        }
        left.iter().for_each(|acl| all.remove(acl));
        prop_assert_eq!(all, Acls::default());
    }

    /// Whatever some resource is allowed by, there is a name for it: one of the ACLs', or one that begins so.
    #[test]
    fn some_resource_is_one_that_there_could_be(kept in vec(acls(), 0..12)) {
        let mut all = Acls::default();
        kept.iter().cloned().for_each(|acl| all.insert(acl));
        for operation in [Read, Write, Describe] {
            let tried: Vec<String> = kept.iter().flat_map(|acl| [acl.name.clone(), format!("{}zzz", acl.name)]).chain(["zzz".to_owned()]).collect();
            let found = tried.iter().any(|name| naive(&kept, "User:a", "10.0.0.1", operation, Topic, name));
            prop_assert!(!found || all.allows_some("User:a", "10.0.0.1", operation, Topic));
        }
    }
}
