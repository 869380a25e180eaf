//! Durations as people write them: `"250ms"`, `"1.5s"`, `"2m"`, `"1h 30m"`.
//!
//! Used with serde as `#[serde(with = "echo_sdk::duration")]`, or `echo_sdk::duration::option` for an
//! optional one. Written back, a duration takes the largest unit that holds it exactly.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de};

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no duration; write a number and a unit, such as \"250ms\", \"5s\", \"2m\" or \"1h 30m\""
)]
pub struct DurationError(String);

/// The units, in nanoseconds.
const UNITS: [(&str, u128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration such as `"250ms"` or `"1h 30m"`.
///
/// # Errors
/// [`DurationError`] when a number or its unit is missing, or the sum is more than a [`Duration`] holds.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError(text.to_owned());
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(error());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == ' ').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
        let part = scaled(number, *nanos).ok_or_else(error)?;
        total = total.checked_add(part).ok_or_else(error)?;
        rest = tail.trim_start();
    }
    Ok(total)
}

/// A decimal number of units, in whole nanoseconds; what is finer is cut off.
fn scaled(number: &str, unit_nanos: u128) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u128 = whole.parse().ok()?;
    let digits = u32::try_from(fraction.len()).ok()?;
    let fraction: u128 = fraction.parse().ok()?;
    let part = fraction.checked_mul(unit_nanos)? / 10_u128.checked_pow(digits)?;
    let nanos = whole.checked_mul(unit_nanos)?.checked_add(part)?;
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    Some(Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).ok()?))
}

/// Writes a duration so that [`parse`] reads the same one.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    for (unit, size) in [
        ("h", 3_600_000_000_000_u128),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
    ] {
        if nanos >= size && nanos.is_multiple_of(size) {
            return format!("{}{unit}", nanos / size);
        }
    }
    if nanos == 0 { "0s".to_owned() } else { format!("{nanos}ns") }
}

/// Writes the duration for serde.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// Reads the duration for serde.
///
/// # Errors
/// When the value is no text or [`parse`] refuses it.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
    parse(&text).map_err(de::Error::custom)
}

/// The same for an optional duration; give the field `#[serde(default)]` as well.
pub mod option {
    use super::{Deserialize, Deserializer, Duration, Serializer, de};

    /// Writes the duration, or null.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads the duration, or nothing.
    ///
    /// # Errors
    /// When the value is no text or [`super::parse`] refuses it.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<std::borrow::Cow<str>>::deserialize(deserializer)?;
        text.map(|text| super::parse(&text).map_err(de::Error::custom)).transpose()
    }
}

/// The JSON Schema of a duration, for `#[schemars(schema_with = "echo_sdk::duration::schema")]`.
#[cfg(feature = "schema")]
pub fn schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "title": "duration",
        "type": "string",
        "pattern": r"^\s*([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h)\s*)+$",
        "examples": ["250ms", "5s", "2m"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_durations() {
        assert_eq!(parse("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(parse("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(parse("1h 30m").unwrap(), Duration::from_secs(5400));
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "5 s",
            "5 parsecs",
            "1e400s",
            "99999999999999999999h",
            "1.s",
            ".5s",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back(millis in 0u64..u64::from(u32::MAX)) {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse(&format(duration)).unwrap(), duration);
        }
    }
}
