//! Names of topics, by Kafka's rules.

use super::CatalogError;

/// Longest name of a topic, in bytes. Kafka's limit: a file name of 255 less a suffix.
pub const NAME_BYTES_MAX: usize = 249;

/// Checks a name: 1 to 249 of `a-zA-Z0-9._-`, and neither `.` nor `..`.
pub fn check(name: &str) -> Result<(), CatalogError> {
    let bad = |why: String| Err(CatalogError::BadName { name: shorten(name), why });
    if name.is_empty() {
        return bad("it is empty".into());
    }
    if name == "." || name == ".." {
        return bad("`.` and `..` are not allowed".into());
    }
    if name.len() > NAME_BYTES_MAX {
        return bad(format!("it has {} bytes and at most {NAME_BYTES_MAX} are allowed", name.len()));
    }
    match name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-')) {
        Some(c) => bad(format!("{c:?} is not allowed, only a-z A-Z 0-9 . _ -")),
        None => Ok(()),
    }
}

/// A foreign text, cut to what an error message bears.
pub(super) fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    if text.chars().count() <= CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(CHARS_MAX).chain(std::iter::once('…')).collect()
}
