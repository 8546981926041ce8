//! What structured fields say about people, to be found again in free text.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use regex::Regex;

use crate::Kind;

/// Texts that stand for a person.
#[derive(Debug, Default)]
pub(crate) struct Known {
    texts: BTreeMap<String, Kind>,
    finder: Option<Regex>,
}

impl Known {
    /// Remembers a text. What is too short, or a common word of the format, would take out too much.
    pub(crate) fn learn(&mut self, text: &str, kind: Kind) {
        let text = text.trim();
        let shortest = match kind {
            Kind::Name => 2,
            _ => 4,
        };
        let is_word = text.chars().any(char::is_alphanumeric);
        if text.chars().count() >= shortest && is_word && !text.starts_with('[') {
            self.texts.insert(text.to_lowercase(), kind);
            self.finder = None;
        }
    }

    /// Remembers a name, and each of its words.
    pub(crate) fn learn_name(&mut self, text: &str) {
        if text.starts_with('[') {
            return;
        }
        self.learn(text, Kind::Name);
        for word in text.split(|c: char| !(c.is_alphanumeric() || c == '\'' || c == '-')) {
            if word.chars().count() > 2 && word.starts_with(char::is_uppercase) && !TITLES.contains(&word) {
                self.learn(word, Kind::Name);
            }
        }
    }

    /// The kind of a text that is known as a whole.
    pub(crate) fn kind_of(&self, text: &str) -> Option<Kind> {
        self.texts.get(&text.trim().to_lowercase()).copied()
    }

    /// Replaces every known text that stands between word boundaries.
    pub(crate) fn replace(&mut self, text: &str, mut count: impl FnMut(Kind)) -> String {
        if self.texts.is_empty() {
            return text.into();
        }
        let finder = self.finder.get_or_insert_with(|| finder(&self.texts));
        let texts = &self.texts;
        finder
            .replace_all(text, |found: &regex::Captures<'_>| {
                let kind = texts.get(&found[0].to_lowercase()).copied().unwrap_or(Kind::Name);
                count(kind);
                kind.tag()
            })
            .into_owned()
    }
}

/// One alternative for each text, longest first, so that a whole name wins over its parts.
fn finder(texts: &BTreeMap<String, Kind>) -> Regex {
    let mut all: Vec<&str> = texts.keys().map(String::as_str).collect();
    all.sort_by_key(|text| core::cmp::Reverse(text.len()));
    let edge = |c: Option<char>| {
        if c.is_some_and(char::is_alphanumeric) {
            r"\b"
        } else {
            ""
        }
    };
    let mut pattern = String::from("(?i)(?:");
    for (index, text) in all.into_iter().enumerate() {
        if index > 0 {
            pattern.push('|');
        }
        pattern.push_str(edge(text.chars().next()));
        pattern.push_str(&regex::escape(text));
        pattern.push_str(edge(text.chars().next_back()));
    }
    pattern.push(')');
    regex::RegexBuilder::new(&pattern)
        .size_limit(SIZE_MAX)
        .build()
        .expect("escaped texts are a pattern, and the memory of the cell is the smaller limit")
}

const TITLES: &[&str] = &[
    "Mr", "Mrs", "Ms", "Miss", "Dr", "Prof", "Jr", "Sr", "III", "MD", "RN",
];
const SIZE_MAX: usize = 1 << 30;
