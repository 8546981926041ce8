//! What a guest's file says about how it ends: `exit 7` or `fault page-fault vector=14 error=0x4`.

use std::fmt;

/// How a guest is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expectation {
    /// With one of these exit codes, all below 100.
    Exit(Vec<u8>),
    /// With a fault.
    Fault(FaultExpectation),
}

/// What a fault's report must say; what is `None` may be anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FaultExpectation {
    /// One of these names.
    pub names: Vec<String>,
    /// The exception's vector.
    pub vector: Option<u64>,
    /// The exception's error code.
    pub error: Option<u64>,
    /// The address.
    pub address: Option<u64>,
    /// The region in which, or nearest to which, the address lies.
    pub region: Option<String>,
    /// `inside`, `below` or `above`.
    pub side: Option<String>,
    /// Bytes from the region's edge.
    pub distance: Option<u64>,
    /// Words of the message.
    pub message: Option<String>,
}

/// A line that is no expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// What cannot be read.
    pub what: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` is not understood", self.what)
    }
}

impl std::error::Error for ParseError {}

impl Expectation {
    /// Reads an expectation.
    ///
    /// # Errors
    /// [`ParseError`] names the first word that means nothing.
    pub fn parse(text: &str) -> Result<Expectation, ParseError> {
        let wrong = |what: &str| ParseError {
            what: what.to_owned(),
        };
        let words = words(text);
        let (first, rest) = words.split_first().ok_or_else(|| wrong(text))?;
        let (name, rest) = rest.split_first().ok_or_else(|| wrong(text))?;
        let alternatives = name.strip_prefix("any-of=").unwrap_or(name).split(',');
        match first.as_str() {
            "exit" if rest.is_empty() => {
                let codes = alternatives.map(|code| code.parse().ok().filter(|code| *code < 100));
                codes
                    .collect::<Option<Vec<u8>>>()
                    .map(Expectation::Exit)
                    .ok_or_else(|| wrong(name))
            }
            "fault" => {
                let mut fault = FaultExpectation {
                    names: alternatives.map(str::to_owned).collect(),
                    ..FaultExpectation::default()
                };
                for word in rest {
                    let (key, value) = word.split_once('=').ok_or_else(|| wrong(word))?;
                    let number = || number(value).ok_or_else(|| wrong(word)).map(Some);
                    match key {
                        "vector" => fault.vector = number()?,
                        "error" => fault.error = number()?,
                        "address" => fault.address = number()?,
                        "distance" => fault.distance = number()?,
                        "region" => fault.region = Some(value.to_owned()),
                        "side" => fault.side = Some(value.to_owned()),
                        "message" => fault.message = Some(value.to_owned()),
                        _ => return Err(wrong(word)),
                    }
                }
                Ok(Expectation::Fault(fault))
            }
            _ => Err(wrong(first)),
        }
    }
}

/// Reads a decimal or `0x` hexadecimal number.
pub(crate) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Cuts a line at spaces that are not between double quotes; the quotes go.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words
                .iter_mut()
                .last()
                .into_iter()
                .for_each(|word| word.push(other)),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms() {
        assert_eq!(Expectation::parse("exit 7"), Ok(Expectation::Exit(vec![7])));
        assert_eq!(
            Expectation::parse("exit any-of=1,2"),
            Ok(Expectation::Exit(vec![1, 2]))
        );
        let text =
            "fault page-fault vector=14 error=0x4 region=stack side=below distance=8 message=\"not mapped\"";
        let expected = FaultExpectation {
            names: vec!["page-fault".into()],
            vector: Some(14),
            error: Some(4),
            region: Some("stack".into()),
            side: Some("below".into()),
            distance: Some(8),
            message: Some("not mapped".into()),
            address: None,
        };
        assert_eq!(Expectation::parse(text), Ok(Expectation::Fault(expected)));
    }

    #[test]
    fn refuses_what_means_nothing() {
        for bad in [
            "",
            "exit",
            "exit 100",
            "exit 7 8",
            "fault",
            "fault x y",
            "fault x vector=v",
            "fault x colour=3",
            "ends",
        ] {
            assert!(Expectation::parse(bad).is_err(), "{bad}");
        }
    }
}
