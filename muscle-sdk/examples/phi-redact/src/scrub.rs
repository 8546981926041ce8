//! What both formats use: counting, dates, known texts and patterns together.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use crate::Kind;
use crate::dates::FoundDate;
use crate::known::Known;
use crate::patterns::Patterns;

/// Takes identifiers out of pieces of one document and counts them.
pub(crate) struct Scrubber {
    counts: BTreeMap<Kind, u64>,
    patterns: Patterns,
    /// What the document's own fields have told.
    pub(crate) known: Known,
    /// The document's latest year, against which ages are told; 0 when it has no date.
    now: u32,
}

impl Scrubber {
    pub(crate) fn new(now: u32) -> Scrubber {
        Scrubber {
            counts: BTreeMap::new(),
            patterns: Patterns::new(),
            known: Known::default(),
            now,
        }
    }

    pub(crate) fn into_counts(self) -> BTreeMap<Kind, u64> {
        self.counts
    }

    /// Counts an identifier and returns what stands in its place.
    pub(crate) fn tag(&mut self, kind: Kind) -> &'static str {
        *self.counts.entry(kind).or_default() += 1;
        kind.tag()
    }

    /// Free text without what is known and what patterns find.
    pub(crate) fn prose(&mut self, text: &str) -> String {
        let counts = &mut self.counts;
        let mut count = |kind: Kind| *counts.entry(kind).or_default() += 1;
        let text = self.known.replace(text, &mut count);
        self.patterns.replace(&text, &mut count)
    }

    /// The year of a date; of a birth that makes a person older than 89, not even that.
    pub(crate) fn date(&mut self, date: FoundDate<'_>, is_birth: bool) -> String {
        let year: u32 = date.year.parse().unwrap_or(0);
        if is_birth && self.now > year + 89 {
            return self.tag(Kind::Age).into();
        }
        if date.has_more {
            self.tag(Kind::Date);
        }
        if date.is_instant {
            // FHIR's instants must have a time.
            return format!("{}-01-01T00:00:00Z", date.year);
        }
        date.year.into()
    }
}
