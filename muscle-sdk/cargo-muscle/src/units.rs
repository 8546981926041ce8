//! Sizes and times as authors write them.

use std::time::{Duration, SystemTime};

use referee_bundle::UnixTime;

use crate::error::Error;

/// Reads `65536`, `64 KiB`, `16 MiB` or `1 GiB` as bytes.
pub(crate) fn bytes_from_text(text: &str) -> Result<u64, Error> {
    let wrong = || Error::Size {
        text: text.to_owned(),
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

/// Reads a date, a date and time, or a span from `now`.
pub(crate) fn time_from_text(text: &str, now: SystemTime) -> Result<UnixTime, Error> {
    let wrong = || Error::Time {
        text: text.to_owned(),
    };
    if let Ok(span) = humantime::parse_duration(text) {
        return now.checked_add(span).map(UnixTime::from).ok_or_else(wrong);
    }
    let day = format!("{text}T00:00:00Z");
    let time = humantime::parse_rfc3339_weak(text).or_else(|_| humantime::parse_rfc3339_weak(&day));
    time.map(UnixTime::from).map_err(|_| wrong())
}

/// Writes a time as RFC 3339, or as seconds where that has no such form.
pub(crate) fn time_to_text(time: UnixTime) -> String {
    // The last second of the year 9999, which is all that RFC 3339 has.
    const LAST: u64 = 253_402_300_799;
    match SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.0)) {
        Some(at) if time.0 <= LAST => humantime::format_rfc3339_seconds(at).to_string(),
        _ => time.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_exactly() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64 KiB", 65536),
            ("16MiB", 16 << 20),
            ("1 GiB", 1 << 30),
        ] {
            assert_eq!(bytes_from_text(text).expect("a size"), bytes, "{text}");
        }
        for text in ["", "KiB", "1 kb", "-1", "1.5 MiB", "99999999999 GiB", "1 MiB "] {
            assert!(bytes_from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read_in_three_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for (text, seconds) in [("1d", 87400), ("1970-01-02", 86400), ("1970-01-01T00:00:07Z", 7)] {
            assert_eq!(
                time_from_text(text, now).expect("a time"),
                UnixTime(seconds),
                "{text}"
            );
        }
        assert!(time_from_text("soon", now).is_err());
        assert_eq!(time_to_text(UnixTime(86400)), "1970-01-02T00:00:00Z");
        assert_eq!(time_to_text(UnixTime(u64::MAX)), format!("@{}", u64::MAX));
    }
}
