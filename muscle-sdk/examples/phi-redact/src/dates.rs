//! Dates in the compact form of HL7 and the dashed form of ISO 8601 and FHIR.

/// A date whose text is nothing but it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoundDate<'a> {
    /// Its year.
    pub(crate) year: &'a str,
    /// Whether it says more than the year.
    pub(crate) has_more: bool,
    /// Whether it has a time with a zone, as FHIR's `instant` must.
    pub(crate) is_instant: bool,
}

/// Reads `YYYY[MM[DD[HH…]]]`, which HL7 v2 uses. Less than a day is not taken for a date, being too like a number.
pub(crate) fn compact(text: &str) -> Option<FoundDate<'_>> {
    let digits = text.split(['.', '+', '-']).next()?;
    let is_date = matches!(digits.len(), 8 | 10 | 12 | 14)
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b".+-".contains(&byte))
        && is_year(&digits[..4])
        && is_between(&digits[4..6], 1, 12)
        && is_between(&digits[6..8], 1, 31);
    is_date.then(|| FoundDate {
        year: &digits[..4],
        has_more: true,
        is_instant: false,
    })
}

/// Reads `YYYY`, `YYYY-MM`, `YYYY-MM-DD` or that with `T` and a time.
pub(crate) fn dashed(text: &str) -> Option<FoundDate<'_>> {
    let (day, time) = text.split_once('T').map_or((text, ""), |(day, time)| (day, time));
    let mut parts = day.split('-');
    let year = parts.next().filter(|year| year.len() == 4 && is_year(year))?;
    let (month, date, rest) = (parts.next(), parts.next(), parts.next());
    let is_date = rest.is_none()
        && month.is_none_or(|month| is_between(month, 1, 12))
        && date.is_none_or(|date| is_between(date, 1, 31))
        && time
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b":.+-Z".contains(&byte));
    is_date.then_some(FoundDate {
        year,
        has_more: month.is_some(),
        is_instant: !time.is_empty(),
    })
}

/// The latest year in a text, for telling ages. Years that have not come are not looked for: 2100 is the end.
pub(crate) fn latest_year(text: &str) -> u32 {
    let mut latest = 0;
    for (at, _) in text.match_indices(['1', '2']) {
        let begins = at == 0 || !text.as_bytes()[at - 1].is_ascii_digit();
        let year = text.get(at..at + 4).filter(|year| begins && is_year(year));
        let year = year.and_then(|year| year.parse().ok()).unwrap_or(0);
        let follows = text.as_bytes().get(at + 4).copied().unwrap_or(b' ');
        // A year that begins a date, in either form, or ends one.
        if year > latest && (follows == b'-' || is_compact_from(text, at) || !follows.is_ascii_alphanumeric())
        {
            latest = year;
        }
    }
    latest
}

fn is_compact_from(text: &str, at: usize) -> bool {
    text.get(at..at + 8).is_some_and(|day| compact(day).is_some())
}

fn is_year(text: &str) -> bool {
    is_between(text, 1890, 2100)
}

fn is_between(text: &str, low: u32, high: u32) -> bool {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number
        && text
            .parse()
            .is_ok_and(|number: u32| (low..=high).contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_told_from_numbers() {
        assert_eq!(compact("19610312").map(|date| date.year), Some("1961"));
        assert_eq!(compact("20240115083000-0500").map(|date| date.year), Some("2024"));
        for other in [
            "1961",
            "196103",
            "19611312",
            "19610332",
            "18120101",
            "1961031",
            "ABC",
            "",
            "123456789",
        ] {
            assert_eq!(compact(other), None, "{other}");
        }
        assert!(dashed("1961-03-12").is_some_and(|date| date.has_more && !date.is_instant));
        assert!(dashed("2024-01-15T08:30:00.000-05:00").is_some_and(|date| date.is_instant));
        assert!(dashed("1961").is_some_and(|date| !date.has_more));
        for other in ["1961-13", "1961-03-12-01", "555-0100", "2345-7", "1961 and", ""] {
            assert_eq!(dashed(other), None, "{other}");
        }
    }

    #[test]
    fn latest_year_is_that_of_a_date() {
        assert_eq!(latest_year("born 1931-02-03, seen 20240115, code 2099x"), 2024);
        assert_eq!(latest_year("no dates"), 0);
    }
}
