//! Identifiers that free text gives away by their form.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use regex::{Captures, Regex};

use crate::Kind;

/// The patterns, compiled once.
pub(crate) struct Patterns(Vec<(Regex, Rule)>);

/// What to do with what a pattern finds.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// Replace all of it.
    Whole(Kind),
    /// Keep the first group and replace the rest.
    AfterLabel(Kind),
    /// Keep the group named `year` if there is one.
    Year,
    /// Replace it unless it names a standard.
    Url,
}

impl Patterns {
    pub(crate) fn new() -> Patterns {
        let name = r"\p{Lu}[\p{L}'’-]+";
        let names = format!(r"{name}(?:\s+(?:\p{{Lu}}\.\s+)?{name}){{0,2}}");
        let month = r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\.?";
        let street = r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Way|Place|Pl|Terrace|Square|Sq|Circle|Cir|Parkway|Pkwy|Highway|Hwy)";
        let number = r"[\s:#.]*(?:(?:is|no|number)\b[\s:#.]*)?[A-Z]{0,4}-?\d[A-Z0-9-]{3,}";
        let sources = [
            (
                r"(?i)[a-z0-9._%+-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,}".to_string(),
                Rule::Whole(Kind::Email),
            ),
            (r#"(?i)\bhttps?://[^\s<>"']*[^\s<>"'.,;:)]"#.to_string(), Rule::Url),
            (r"\b\d{3}-\d{2}-\d{4}\b".to_string(), Rule::Whole(Kind::Ssn)),
            (
                r"(?i)\b((?:ssn|social security(?: number| no\.?)?)[\s:#]*)\d{9}\b".to_string(),
                Rule::AfterLabel(Kind::Ssn),
            ),
            (
                format!(r"(?i)\b(mrn|medical record(?: number| no\.?)?|chart(?: number| no\.?)){number}\b"),
                Rule::AfterLabel(Kind::Mrn),
            ),
            (
                format!(
                    r"(?i)\b(account|acct|policy|member(?: id)?|subscriber(?: id)?|licen[cs]e|passport|npi|visit|encounter|accession|serial|vin|plate|insurance(?: id)?){number}\b"
                ),
                Rule::AfterLabel(Kind::Id),
            ),
            (
                r"(?:\+?1[-. ]?)?(?:\(\d{3}\)\s?|\b\d{3}[-. ])\d{3}[-. ]\d{4}\b(?:\s*(?:x|ext\.?)\s*\d+)?".to_string(),
                Rule::Whole(Kind::Phone),
            ),
            (
                r"\+\d{1,3}[ -]?\(?\d{1,4}\)?(?:[ -]?\d{2,4}){2,4}\b".to_string(),
                Rule::Whole(Kind::Phone),
            ),
            (r"\b\d{3}-\d{4}\b".to_string(), Rule::Whole(Kind::Phone)),
            (
                r"\b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b".to_string(),
                Rule::Whole(Kind::Ip),
            ),
            (
                r"\b(?<year>(?:19|20)\d{2})-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?".to_string(),
                Rule::Year,
            ),
            (
                r"\b(?:0?[1-9]|[12]\d|3[01])[/.-](?:0?[1-9]|[12]\d|3[01])[/.-](?:(?<year>(?:19|20)\d{2})|\d{2})\b".to_string(),
                Rule::Year,
            ),
            (
                format!(r"\b{month}\s+\d{{1,2}}(?:st|nd|rd|th)?\b(?:,?\s+(?<year>(?:19|20)\d{{2}})\b)?"),
                Rule::Year,
            ),
            (
                format!(r"\b\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?{month}\b(?:,?\s+(?<year>(?:19|20)\d{{2}})\b)?"),
                Rule::Year,
            ),
            (
                format!(
                    r"\b\d{{1,6}}\s+(?:[NSEW]\.?\s+)?[\p{{Lu}}\d][\p{{L}}\d'.]*(?:\s+\p{{Lu}}[\p{{L}}'.]*){{0,3}}\s+{street}\b\.?(?:,?\s+(?:Apt|Apartment|Suite|Ste|Unit|Floor|Fl|#)\.?\s*\w+)?"
                ),
                Rule::Whole(Kind::Address),
            ),
            (r"(?i)\bP\.?\s?O\.?\s+Box\s+\d+".to_string(), Rule::Whole(Kind::Address)),
            (
                format!(r"\b{name}(?:\s{name}){{0,2}},\s+[A-Z]{{2}}\s+\d{{5}}(?:-\d{{4}})?\b"),
                Rule::Whole(Kind::Address),
            ),
            (
                r"(?i)\b((?:zip|postal code)(?: code)?[\s:]*)\d{5}(?:-\d{4})?\b".to_string(),
                Rule::AfterLabel(Kind::Address),
            ),
            (
                format!(r"\b(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof)\b\.?\s+{names}"),
                Rule::Whole(Kind::Name),
            ),
            (
                format!(
                    r"\b((?i:patient(?: name)?|pt|name|attending|provider|physician|signed by|dictated by|emergency contact|next of kin)\s*:\s*){names}(?:,\s*{names})?"
                ),
                Rule::AfterLabel(Kind::Name),
            ),
            (
                format!(
                    r"\b((?i:wife|husband|spouse|partner|mother|father|son|daughter|brother|sister|guardian|caregiver|neighbou?r),?\s+){names}"
                ),
                Rule::AfterLabel(Kind::Name),
            ),
            (
                r"(?i)\b(?:9\d|1[0-3]\d)(?:[- ]?(?:years?|yrs?)(?:[- ]old)?\b|[- ]?y/?o\b)".to_string(),
                Rule::Whole(Kind::Age),
            ),
            (
                r"(?i)\b(aged?:?\s+)(?:9\d|1[0-3]\d)\b".to_string(),
                Rule::AfterLabel(Kind::Age),
            ),
        ];
        let compile = |(source, rule): (String, Rule)| {
            let regex = Regex::new(&source).expect("the patterns above are patterns, as a test shows");
            (regex, rule)
        };
        Patterns(sources.into_iter().map(compile).collect())
    }

    /// Replaces everything that a pattern finds.
    pub(crate) fn replace(&self, text: &str, mut count: impl FnMut(Kind)) -> String {
        let mut text = text.to_string();
        for (regex, rule) in &self.0 {
            if !regex.is_match(&text) {
                continue;
            }
            let replaced = regex.replace_all(&text, |found: &Captures<'_>| {
                let (kind, replacement) = rule.apply(found);
                kind.map(&mut count);
                replacement
            });
            text = replaced.into_owned();
        }
        text
    }
}

impl Rule {
    fn apply(self, found: &Captures<'_>) -> (Option<Kind>, String) {
        match self {
            Rule::Whole(kind) => (Some(kind), kind.tag().into()),
            Rule::AfterLabel(kind) => {
                let label = found.get(1).map_or("", |label| label.as_str());
                let gap = if label.ends_with([' ', ':', '#']) { "" } else { " " };
                (Some(kind), format!("{label}{gap}{}", kind.tag()))
            }
            Rule::Year => {
                let replacement = match found.name("year") {
                    Some(year) => format!("[DATE {}]", year.as_str()),
                    None => Kind::Date.tag().into(),
                };
                (Some(Kind::Date), replacement)
            }
            Rule::Url => {
                let url = &found[0];
                if STANDARDS.iter().any(|host| url.contains(host)) {
                    (None, url.into())
                } else {
                    (Some(Kind::Url), Kind::Url.tag().into())
                }
            }
        }
    }
}

/// Hosts whose addresses name namespaces and code systems, not people.
const STANDARDS: &[&str] = &[
    "www.w3.org",
    "hl7.org",
    "loinc.org",
    "snomed.info",
    "unitsofmeasure.org",
];
