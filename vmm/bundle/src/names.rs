//! What names may look like, and which names a scope covers.
//!
//! A muscle's name becomes part of file names, log lines and policies, so that it can hold nothing which
//! means something to any of them: no slash, no space, no control character, no leading dot, no `..`.

use std::fmt;

/// Most bytes of a muscle's name, of a publisher's name and of a scope without its `.*`.
pub(crate) const NAME_MAX: usize = 64;
/// Most bytes of a version as people read it.
pub(crate) const VERSION_MAX: usize = 64;
/// Most bytes of an exported function's name.
pub(crate) const EXPORT_MAX: usize = 128;
/// Most bytes of the name of an environment variable.
pub(crate) const VARIABLE_MAX: usize = 64;

/// Whether this is a muscle's name: `[a-z0-9]([a-z0-9.-]*[a-z0-9])?`, at most 64 bytes, without `..`.
pub fn is_muscle_name(name: &str) -> bool {
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let ends =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = name.as_bytes();
    bytes.len() <= NAME_MAX
        && bytes.iter().all(inner)
        && ends(bytes.first())
        && ends(bytes.last())
        && !name.contains("..")
}

/// Whether this is a publisher's name; the rule is that of a muscle's name.
pub fn is_publisher_name(name: &str) -> bool {
    is_muscle_name(name)
}

/// Whether this is a slot's name: a muscle's name without dots, of at most 32 bytes.
pub(crate) fn is_slot_name(name: &str) -> bool {
    is_muscle_name(name) && !name.contains('.') && name.len() <= muscle_abi::capability::SLOT_NAME_MAX
}

/// Whether this is a version: 1 to 64 of `[0-9A-Za-z.+-]`.
pub(crate) fn is_version(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-');
    (1..=VERSION_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

/// Whether this is an identifier of at most `max` bytes: `[A-Za-z_][A-Za-z0-9_]*`.
pub(crate) fn is_identifier(text: &str, max: usize) -> bool {
    text.len() <= max
        && text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The names that a publisher may sign: all of them, one, or those below a prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameScope {
    /// `*`: every name.
    All,
    /// `prefix.*`: every name that begins with `prefix.`; holds the prefix without dot and star.
    Below(String),
    /// One name.
    Exactly(String),
}

impl NameScope {
    /// Reads a scope as it is written in a trust store.
    pub fn parse(text: &str) -> Option<NameScope> {
        if text == "*" {
            return Some(NameScope::All);
        }
        let (name, below) = match text.strip_suffix(".*") {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        is_muscle_name(name).then(|| match below {
            true => NameScope::Below(name.to_owned()),
            false => NameScope::Exactly(name.to_owned()),
        })
    }

    /// Whether a muscle of this name may be signed.
    pub fn covers(&self, name: &str) -> bool {
        match self {
            NameScope::All => true,
            NameScope::Exactly(only) => only == name,
            NameScope::Below(prefix) => name
                .strip_prefix(prefix.as_str())
                .and_then(|rest| rest.strip_prefix('.'))
                .is_some_and(|rest| !rest.is_empty()),
        }
    }
}

impl fmt::Display for NameScope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameScope::All => out.write_str("*"),
            NameScope::Exactly(name) => out.write_str(name),
            NameScope::Below(prefix) => write!(out, "{prefix}.*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_muscle_name_is_never_a_path() {
        for good in ["thumbnail", "com.example.thumbnail", "a", "9", "a-b", "a.b-c"] {
            assert!(is_muscle_name(good), "{good}");
        }
        for bad in [
            "", ".", "..", "a/b", "/a", "a..b", ".a", "a.", "-a", "a-", "A", "a b", "a\0", "a\n", "ä",
            "a\\b", "~",
        ] {
            assert!(!is_muscle_name(bad), "{bad:?}");
        }
        assert!(is_muscle_name(&"a".repeat(64)));
        assert!(!is_muscle_name(&"a".repeat(65)));
    }

    #[test]
    fn a_scope_covers_whole_labels_only() {
        let scope = |text| NameScope::parse(text).expect("is a scope");
        assert!(scope("*").covers("anything"));
        assert!(scope("com.example.*").covers("com.example.a"));
        assert!(scope("com.example.*").covers("com.example.a.b"));
        assert!(!scope("com.example.*").covers("com.example"));
        assert!(!scope("com.example.*").covers("com.examples.a"));
        assert!(!scope("com.example.*").covers("com.example."));
        assert!(scope("thumbnail").covers("thumbnail"));
        assert!(!scope("thumbnail").covers("thumbnail.x"));
    }

    #[test]
    fn other_patterns_are_no_scopes() {
        for bad in ["", "**", "a*", "*.a", ".*", "a.*.b", "a..*", "A.*", "a/*"] {
            assert_eq!(NameScope::parse(bad), None, "{bad:?}");
        }
    }
}
