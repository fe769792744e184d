//! Who may do what to which resource (KIP-11, KIP-290), as Kafka's StandardAuthorizer decides it.
//!
//! An ACL lets a principal do an operation, or forbids it, on resources of a type whose name is this one, begins so, or is any. Forbidding wins over
//! letting, and what nobody lets is forbidden. Who may read, write, delete or alter something may have it described, too; who may alter settings may
//! read them.
//!
//! Rules are filed by type, then by principal, then by name, so that a check looks at the rules of one principal (and at those for everybody) that have
//! to do with the resource, and at no others, however many there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::Bound,
};

/// The one resource of type [`ResourceType::Cluster`].
pub const CLUSTER: &str = "kafka-cluster";
/// Stands for every name, host or user.
pub const ANY: &str = "*";
/// Everybody.
const EVERYBODY: &str = "User:*";
/// Longest name of a resource, in bytes.
pub const RESOURCE_BYTES_MAX: usize = 255;
/// Longest principal, in bytes: `User:` and a name.
pub const PRINCIPAL_BYTES_MAX: usize = 260;

macro_rules! numbered {
    ($(#[$about:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $number:literal $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$each])* $variant = $number,)* }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Kafka's number for it.
            #[must_use]
            pub fn number(self) -> i8 {
                self as i8
            }

            /// The one of this number.
            #[must_use]
            pub fn of_number(number: i8) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.number() == number)
            }

            /// As it is written down.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The one that is written so.
            #[must_use]
            pub fn of_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }
    };
}

numbered! {
    /// What a resource is.
    ResourceType {
        /// A topic.
        Topic = 2 "topic",
        /// A consumer group.
        Group = 3 "group",
        /// The cluster, [`CLUSTER`].
        Cluster = 4 "cluster",
        /// A transactional id.
        TransactionalId = 5 "transactional-id",
        /// A delegation token; there are none, so nothing comes of it.
        DelegationToken = 6 "delegation-token",
        /// A user, whose tokens these would be; the same.
        User = 7 "user",
    }
}

numbered! {
    /// How the name of an ACL is meant.
    Pattern {
        /// As it is; [`ANY`] for all names.
        Literal = 3 "literal",
        /// As a beginning.
        Prefixed = 4 "prefixed",
    }
}

numbered! {
    /// What is done to a resource.
    Operation {
        /// Whatever there is.
        All = 2 "all",
        /// Read.
        Read = 3 "read",
        /// Write.
        Write = 4 "write",
        /// Create.
        Create = 5 "create",
        /// Delete.
        Delete = 6 "delete",
        /// Alter.
        Alter = 7 "alter",
        /// Have it described.
        Describe = 8 "describe",
        /// What nodes do among themselves.
        ClusterAction = 9 "cluster-action",
        /// Read its settings.
        DescribeConfigs = 10 "describe-configs",
        /// Change its settings.
        AlterConfigs = 11 "alter-configs",
        /// Write so that nothing is there twice; who may write to a topic may do that.
        IdempotentWrite = 12 "idempotent-write",
        /// Make delegation tokens.
        CreateTokens = 13 "create-tokens",
        /// Have delegation tokens described.
        DescribeTokens = 14 "describe-tokens",
        /// Prepare a transaction, to be ended by others.
        TwoPhaseCommit = 15 "two-phase-commit",
    }
}

numbered! {
    /// Whether an ACL lets or forbids.
    Permission {
        /// It forbids.
        Deny = 2 "deny",
        /// It lets.
        Allow = 3 "allow",
    }
}

/// One ACL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    /// What the resource is.
    pub resource: ResourceType,
    /// Its name, or how that begins.
    pub name: String,
    /// Which of the two.
    pub pattern: Pattern,
    /// `User:` and a name, or [`ANY`] for everybody.
    pub principal: String,
    /// An address, or [`ANY`].
    pub host: String,
    /// What is done.
    pub operation: Operation,
    /// Whether it may be.
    pub permission: Permission,
}

impl Acl {
    /// The same as it is kept, or why it cannot be. What could never fit anything is refused: a rule that forbids should.
    pub fn checked(mut self) -> Result<Self, &'static str> {
        let is_text = |text: &str, max: usize| (1..=max).contains(&text.len()) && !text.chars().any(char::is_control);
        if !is_text(&self.name, RESOURCE_BYTES_MAX) {
            return Err("a resource's name has 1 to 255 bytes, and no control characters");
        }
        if self.resource == ResourceType::Cluster && self.name != CLUSTER {
            return Err("the only name of a cluster is kafka-cluster");
        }
        let user = self.principal.strip_prefix("User:").unwrap_or_default();
        if user.is_empty() || !is_text(&self.principal, PRINCIPAL_BYTES_MAX) {
            return Err("a principal is User: and a name of 1 to 255 bytes, without control characters");
        }
        self.host = host(&self.host).ok_or("a host is an address, or *")?;
        Ok(self)
    }
}

/// A host as it is written here: of an address there are several texts.
fn host(text: &str) -> Option<String> {
    if text == ANY { Some(text.to_owned()) } else { Some(text.parse::<IpAddr>().ok()?.to_canonical().to_string()) }
}

/// Which ACLs are meant; what is not given does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// What the resource is.
    pub resource: Option<ResourceType>,
    /// Its name.
    pub name: Option<String>,
    /// How the name is meant.
    pub pattern: Meant,
    /// The principal.
    pub principal: Option<String>,
    /// The host.
    pub host: Option<String>,
    /// What is done.
    pub operation: Option<Operation>,
    /// Whether it may be.
    pub permission: Option<Permission>,
}

/// How the name of a filter is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Meant {
    /// ACLs of any pattern that have it.
    #[default]
    Any,
    /// ACLs that have to do with a resource of this name.
    Match,
    /// ACLs of this pattern that have it.
    As(Pattern),
}

impl Filter {
    /// Whether an ACL is meant.
    #[must_use]
    pub fn means(&self, acl: &Acl) -> bool {
        fn same<T: PartialEq + ?Sized>(wanted: Option<&T>, is: &T) -> bool {
            wanted.is_none_or(|wanted| wanted == is)
        }
        let host = self.host.as_deref().map(|text| host(text).unwrap_or_else(|| text.to_owned()));
        same(self.resource.as_ref(), &acl.resource)
            && self.means_name(acl)
            && same(self.principal.as_ref(), &acl.principal)
            && same(host.as_ref(), &acl.host)
            && same(self.operation.as_ref(), &acl.operation)
            && same(self.permission.as_ref(), &acl.permission)
    }

    fn means_name(&self, acl: &Acl) -> bool {
        let name = self.name.as_deref();
        match (self.pattern, acl.pattern) {
            (Meant::As(wanted), is) if wanted != is => false,
            (Meant::Match, Pattern::Literal) => name.is_none_or(|name| name == acl.name || acl.name == ANY),
            (Meant::Match, Pattern::Prefixed) => name.is_none_or(|name| name.starts_with(&acl.name)),
            (Meant::Any | Meant::As(_), _) => name.is_none_or(|name| name == acl.name),
        }
    }
}

/// A rule of one principal about one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    host: String,
    operation: Operation,
    permission: Permission,
}

impl Rule {
    fn speaks_of(&self, host: &str, operation: Operation) -> bool {
        (self.host == ANY || self.host == host)
            && (self.operation == Operation::All || self.operation == operation || self.implies(operation))
    }

    /// Whoever may do the one may do the other. Whoever may not do the one may do the other, too.
    fn implies(&self, operation: Operation) -> bool {
        self.permission == Permission::Allow
            && match operation {
                Operation::Describe => {
                    matches!(self.operation, Operation::Read | Operation::Write | Operation::Delete | Operation::Alter)
                }
                Operation::DescribeConfigs => self.operation == Operation::AlterConfigs,
                _ => false,
            }
    }
}

/// Rules of one principal, by names of one pattern.
type Named = BTreeMap<String, BTreeSet<Rule>>;

/// Rules of one principal about resources of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rules {
    literal: Named,
    prefixed: Named,
}

impl Rules {
    fn named(&mut self, pattern: Pattern) -> &mut Named {
        match pattern {
            Pattern::Literal => &mut self.literal,
            Pattern::Prefixed => &mut self.prefixed,
        }
    }

    /// All rules that have to do with a resource of this name.
    fn about(&self, name: &str) -> impl Iterator<Item = &Rule> {
        let literal = [self.literal.get(name), self.literal.get(ANY).filter(|_| name != ANY)];
        literal.into_iter().flatten().flatten().chain(beginnings(&self.prefixed, name).flatten())
    }
}

/// The rules for each beginning of a name, from the longest on. It goes from each that it finds, or misses, to what the two have in common, so it looks as
/// often as there are such beginnings and ends of common parts, and not at all others.
fn beginnings<'a>(prefixed: &'a Named, name: &str) -> impl Iterator<Item = &'a BTreeSet<Rule>> {
    let mut end = name.len();
    std::iter::from_fn(move || {
        while end > 0 {
            let (beginning, rules) = prefixed.range::<str, _>((Bound::Unbounded, Bound::Included(&name[..end]))).next_back()?;
            if name.starts_with(&**beginning) {
                // Whatever else is a beginning is shorter.
                end = name.floor_char_boundary(beginning.len().saturating_sub(1));
                return Some(rules);
            }
            let common = beginning.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
            end = name.floor_char_boundary(common);
        }
        None
    })
}

/// All ACLs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acls {
    all: BTreeSet<Acl>,
    rules: BTreeMap<ResourceType, BTreeMap<String, Rules>>,
}

impl Acls {
    /// Whether a principal may do something to a resource, from a host. Without an ACL that lets it, it may not.
    #[must_use]
    pub fn allows(&self, principal: &str, host: &str, operation: Operation, resource: ResourceType, name: &str) -> bool {
        let mut allowed = false;
        for rule in self.of(principal, resource).flat_map(|rules| rules.about(name)).filter(|rule| rule.speaks_of(host, operation)) {
            if rule.permission == Permission::Deny {
                return false;
            }
            allowed = true;
        }
        allowed
    }

    /// Whether there may be a resource of this type to which a principal may do something: one of which that is allowed and not forbidden.
    #[must_use]
    pub fn allows_some(&self, principal: &str, host: &str, operation: Operation, resource: ResourceType) -> bool {
        let speaks =
            |rules: &BTreeSet<Rule>, permission| rules.iter().any(|rule| rule.permission == permission && rule.speaks_of(host, operation));
        let denied = |name: &str, pattern| {
            self.of(principal, resource).any(|rules| {
                let denies = |rules: &BTreeSet<Rule>| speaks(rules, Permission::Deny);
                let all = rules.literal.get(ANY).is_some_and(denies);
                let same = pattern == Pattern::Literal && rules.literal.get(name).is_some_and(denies);
                // Of all names only those that begin so are forbidden: others are left.
                let is_every = pattern == Pattern::Literal && name == ANY;
                all || same || (!is_every && beginnings(&rules.prefixed, name).any(denies))
            })
        };
        self.of(principal, resource).any(|rules| {
            let literal = rules.literal.iter().map(|(name, rules)| (name, rules, Pattern::Literal));
            let prefixed = rules.prefixed.iter().map(|(name, rules)| (name, rules, Pattern::Prefixed));
            literal.chain(prefixed).any(|(name, rules, pattern)| speaks(rules, Permission::Allow) && !denied(name, pattern))
        })
    }

    /// The rules of a principal, and those of everybody.
    fn of(&self, principal: &str, resource: ResourceType) -> impl Iterator<Item = &Rules> {
        let rules = self.rules.get(&resource);
        let own = rules.and_then(|rules| rules.get(principal)).filter(|_| principal != EVERYBODY);
        own.into_iter().chain(rules.and_then(|rules| rules.get(EVERYBODY)))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether this one is there.
    #[must_use]
    pub fn contains(&self, acl: &Acl) -> bool {
        self.all.contains(acl)
    }

    /// All of them, those of one resource behind each other.
    pub fn iter(&self) -> impl Iterator<Item = &Acl> {
        self.all.iter()
    }

    /// Adds one, if it is not there.
    pub fn insert(&mut self, acl: Acl) {
        let Acl { resource, name, pattern, principal, host, operation, permission } = acl.clone();
        let rules = self.rules.entry(resource).or_default().entry(principal).or_default();
        rules.named(pattern).entry(name).or_default().insert(Rule { host, operation, permission });
        self.all.insert(acl);
    }

    /// Takes one away, if it is there.
    pub fn remove(&mut self, acl: &Acl) {
        if !self.all.remove(acl) {
            return;
        }
        let Acl { resource, name, pattern, principal, host, operation, permission } = acl.clone();
        let Some(principals) = self.rules.get_mut(&resource) else { return };
        let Some(rules) = principals.get_mut(&principal) else { return };
        let named = rules.named(pattern);
        if let Some(same) = named.get_mut(&name) {
            same.remove(&Rule { host, operation, permission });
            if same.is_empty() {
                named.remove(&name);
            }
        }
        if *rules == Rules::default() {
            principals.remove(&principal);
        }
        if principals.is_empty() {
            self.rules.remove(&resource);
        }
    }

    /// Panics if an invariant is broken; run after every change in tests and simulation.
    pub fn check(&self) {
        let filed: usize = self
            .rules
            .values()
            .flat_map(BTreeMap::values)
            .flat_map(|r| r.literal.values().chain(r.prefixed.values()))
            .map(BTreeSet::len)
            .sum();
        assert_eq!(filed, self.all.len(), "each ACL is filed as one rule");
    }
}

#[cfg(test)]
mod tests;
