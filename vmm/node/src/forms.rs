//! Forms of JSON in which serde's own reading is not what a client means: objects that are arrays, and whole numbers with a point.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// Reads a structure from a map and from nothing else: a sequence would be taken for its fields in their order, whatever was meant.
pub(crate) fn from_map<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Map<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Map<T> {
        type Value = T;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Map(PhantomData))
}

/// Reads a list of structures, each as [`from_map`].
pub(crate) fn all_from_maps<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct One<T>(T);

    impl<'de, T: Deserialize<'de>> Deserialize<'de> for One<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<One<T>, D::Error> {
            from_map(deserializer).map(One)
        }
    }

    let all = Vec::<One<T>>::deserialize(deserializer)?;
    Ok(all.into_iter().map(|One(one)| one).collect())
}

/// Reads a number without a sign. `4.0` is one too: JSON has one kind of number, and JSON Schema counts it among the whole ones.
pub(crate) fn whole<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let number = Option::<Whole>::deserialize(deserializer)?;
    let Some(Whole(number)) = number else {
        return Err(D::Error::invalid_type(Unexpected::Unit, &EXPECTED));
    };
    T::try_from(number).map_err(|_| D::Error::invalid_value(Unexpected::Unsigned(number), &EXPECTED))
}

/// As [`whole`], or none.
pub(crate) fn whole_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = Option::<Whole>::deserialize(deserializer)?;
    Ok(number.map(|Whole(number)| number))
}

const EXPECTED: &str = "a whole number within its bounds";
/// Below it every whole number is exact as a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

struct Whole(u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Whole, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = Whole;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(EXPECTED)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Whole, E> {
                Ok(Whole(number))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Whole, E> {
                let found = |_| E::invalid_value(Unexpected::Signed(number), &self);
                u64::try_from(number).map(Whole).map_err(found)
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Whole, E> {
                // Its digits are the number: the language has no conversion that refuses.
                let digits =
                    (number.fract() == 0.0 && (0.0..EXACT).contains(&number)).then(|| format!("{number:.0}"));
                let whole = digits.and_then(|digits| digits.trim_start_matches('-').parse().ok());
                whole
                    .map(Whole)
                    .ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
            }
        }

        // Whatever is there: within a tagged enum serde gives nothing but a whole number to whoever asks for one.
        deserializer.deserialize_any(Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Numbers {
        #[serde(deserialize_with = "whole")]
        small: u8,
        #[serde(default, deserialize_with = "whole_or_none")]
        large: Option<u64>,
    }

    fn read(text: &str) -> Result<(u8, Option<u64>), String> {
        let numbers: Result<Numbers, _> = serde_json::from_str(text);
        let numbers = numbers.map_err(|error| error.to_string())?;
        Ok((numbers.small, numbers.large))
    }

    #[test]
    fn a_whole_number_may_have_a_point() {
        assert_eq!(
            read(r#"{"small": 7, "large": 18446744073709551615}"#),
            Ok((7, Some(u64::MAX)))
        );
        assert_eq!(read(r#"{"small": 7.0, "large": 1e3}"#), Ok((7, Some(1000))));
        assert_eq!(read(r#"{"small": -0.0, "large": null}"#), Ok((0, None)));
        assert_eq!(read(r#"{"small": 0}"#), Ok((0, None)));
    }

    #[test]
    fn what_is_no_whole_number_within_bounds_is_refused() {
        for bad in [
            r#"{"small": 7.5}"#,
            r#"{"small": -1}"#,
            r#"{"small": -1.0}"#,
            r#"{"small": 256}"#,
            r#"{"small": 256.0}"#,
            r#"{"small": "7"}"#,
            r#"{"small": null}"#,
            r#"{"small": true}"#,
            r#"{"small": [7]}"#,
            r#"{"small": 0, "large": 1e300}"#,
            r#"{"small": 0, "large": 18446744073709551616}"#,
            r#"{"small": 0, "large": 9007199254740992.0}"#,
            r#"{"small": 0, "large": -1}"#,
            r#"{"small": 0, "large": "1"}"#,
        ] {
            let error = read(bad).expect_err("no whole number");
            assert!(
                error.contains("a whole number within its bounds"),
                "{bad}: {error}"
            );
        }
    }
}
