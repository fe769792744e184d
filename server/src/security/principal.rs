//! Which user a certificate's name stands for, by rules as Kafka has them (`ssl.principal.mapping.rules`, KIP-371).

use regex::Regex;
use std::str::FromStr;

/// The longest name of such a user, in bytes: it is kept with each connection.
const NAME_BYTES_MAX: usize = 1024;

/// Rules, of which the first that fits decides. Without any, the name itself is the user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrincipalRules(pub Vec<Rule>);

/// `DEFAULT`, or `RULE:pattern/replacement/` with an `L` or `U` behind it for lower or upper case. The pattern has to fit the whole name; it is read as Rust's `regex`
/// does. `$1` stands for its first group.
#[derive(Clone, Debug)]
pub struct Rule {
    text: String,
    /// `None` for the name as it is.
    change: Option<(Regex, String, Case)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Kept,
    Lower,
    Upper,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Rule {}

impl PrincipalRules {
    /// The user of this distinguished name (RFC 2253); nobody if no rule fits, or what comes of it is empty or longer than [`NAME_BYTES_MAX`].
    #[must_use]
    pub fn user(&self, name: &str) -> Option<String> {
        let user = if self.0.is_empty() { Some(name.to_owned()) } else { self.0.iter().find_map(|rule| rule.apply(name)) };
        user.filter(|user| (1..=NAME_BYTES_MAX).contains(&user.len()))
    }
}

impl Rule {
    fn apply(&self, name: &str) -> Option<String> {
        let Some((pattern, with, case)) = &self.change else { return Some(name.to_owned()) };
        let found = pattern.captures(name)?;
        let mut user = String::new();
        found.expand(with, &mut user);
        Some(match case {
            Case::Kept => user,
            Case::Lower => user.to_lowercase(),
            Case::Upper => user.to_uppercase(),
        })
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "DEFAULT" {
            return Ok(Self { text: text.to_owned(), change: None });
        }
        let wrong =
            || format!("`{text}` is no rule: give DEFAULT, or RULE:pattern/replacement/ with L or U behind it for lower or upper case");
        let parts = split(text.strip_prefix("RULE:").ok_or_else(wrong)?);
        let [pattern, with, case] = &parts[..] else { return Err(wrong()) };
        let case = match case.as_str() {
            "" => Case::Kept,
            "L" => Case::Lower,
            "U" => Case::Upper,
            _ => return Err(wrong()),
        };
        let pattern = Regex::new(&format!("^(?:{pattern})$")).map_err(|e| format!("`{text}`: {e}"))?;
        Ok(Self { text: text.to_owned(), change: Some((pattern, groups(with), case)) })
    }
}

/// The parts between slashes. One behind a backslash belongs to its part.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let part = parts.last_mut().expect("there is one from the start");
        match c {
            '/' => parts.push(String::new()),
            '\\' => match chars.next() {
                Some('/') => part.push('/'),
                other => part.extend(std::iter::once('\\').chain(other)),
            },
            c => part.push(c),
        }
    }
    parts
}

/// A replacement as `regex` reads it: a number of a group ends where its digits do.
fn groups(with: &str) -> String {
    let mut out = String::with_capacity(with.len() + 4);
    let mut rest = with;
    while let Some((before, after)) = rest.split_once('$') {
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        out.push_str(before);
        out.push_str(&if digits > 0 { format!("${{{}}}", &after[..digits]) } else { "$$".into() });
        rest = &after[digits..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> PrincipalRules {
        PrincipalRules(texts.iter().map(|text| text.parse().expect("a rule")).collect())
    }

    /// The examples of Kafka's documentation, and what becomes of names that fit none.
    #[test]
    fn the_first_rule_that_fits_decides() {
        let name = "CN=serviceuser,OU=ServiceUsers,O=Unknown,L=Unknown,ST=Unknown,C=Unknown";
        assert_eq!(rules(&[]).user(name).as_deref(), Some(name));
        assert_eq!(rules(&[]).user(&"x".repeat(NAME_BYTES_MAX)).map(|user| user.len()), Some(NAME_BYTES_MAX));
        assert_eq!(rules(&[]).user(&"x".repeat(NAME_BYTES_MAX + 1)), None);
        let some = rules(&[
            "RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/",
            "RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L",
            "DEFAULT",
        ]);
        assert_eq!(some.user(name).as_deref(), Some("serviceuser"));
        assert_eq!(some.user("CN=Admin,OU=Admin,O=U,L=U,ST=U,C=U").as_deref(), Some("admin@admin"));
        assert_eq!(some.user("CN=other").as_deref(), Some("CN=other"));
        assert_eq!(rules(&["RULE:^CN=(.*?),.*$/$1/U"]).user("CN=ann,O=x").as_deref(), Some("ANN"));
        let strict = rules(&["RULE:CN=([a-z]+),O=x/$1x_$2$/"]);
        assert_eq!(strict.user("CN=ann,O=x").as_deref(), Some("annx_$"), "groups end with their digits; one that is not there is empty");
        for strange in ["CN=ann,O=xy", "O=x,CN=ann,O=x", "CN=ann", ""] {
            assert_eq!(strict.user(strange), None, "{strange}");
        }
        assert_eq!(rules(&["RULE:CN=(a\\/b)/$1\\/c/"]).user("CN=a/b").as_deref(), Some("a/b/c"));
        assert_eq!(rules(&["RULE:CN=(.*)/$2/"]).user("CN=a"), None, "nobody is called nothing");
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in ["", "default", "RULE:", "RULE:a/b", "RULE:a/b/X", "RULE:a/b/L/", "RULE:(/b/", "CN=a"] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
    }
}
