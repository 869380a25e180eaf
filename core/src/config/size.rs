//! Sizes as people write them: `"8mb"`, `"512kb"`, or a number of bytes.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserializer, Serializer};

/// The units, largest first; `kb` is 1024 bytes, and so on.
const UNITS: [(&str, usize); 4] = [("gb", 1 << 30), ("mb", 1 << 20), ("kb", 1 << 10), ("b", 1)];

/// Reads a size in bytes such as `"8mb"`, as it stands in the configuration; nothing where there is none.
pub fn parse(text: &str) -> Option<usize> {
    let lower = text.trim().to_ascii_lowercase();
    let (number, unit) = UNITS
        .iter()
        .find_map(|(name, size)| lower.strip_suffix(name).map(|number| (number, *size)))?;
    number.trim_end().parse::<usize>().ok()?.checked_mul(unit)
}

fn format(size: usize) -> String {
    let fitting = UNITS.iter().find(|(_, unit)| size >= *unit && size.is_multiple_of(*unit));
    let (name, unit) = fitting.copied().unwrap_or(("b", 1));
    format!("{}{name}", size / unit)
}

pub(super) fn serialize<S: Serializer>(size: &usize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*size))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    deserializer.deserialize_any(Size)
}

struct Size;

impl Visitor<'_> for Size {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"8mb\" or \"512kb\", or a number of bytes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<usize, E> {
        parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<usize, E> {
        usize::try_from(bytes).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(bytes), &self))
    }
}

/// The same for a size that may be missing; the field has a default as well.
pub(super) mod option {
    use super::{Deserializer, Serializer, Size, Visitor, de, fmt};

    pub(in super::super) fn serialize<S: Serializer>(
        size: &Option<usize>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match size {
            Some(size) => super::serialize(size, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_option(Optional)
    }

    struct Optional;

    impl<'de> Visitor<'de> for Optional {
        type Value = Option<usize>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            Size.expecting(f)
        }

        fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
            super::deserialize(from).map(Some)
        }
    }
}

pub(super) fn schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": ["string", "integer"],
        "minimum": 0,
        "examples": ["8mb", "512kb"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_sizes() {
        for (text, size) in
            [("8mb", 8 << 20), ("512KB", 512 << 10), ("1 gb", 1 << 30), ("0b", 0), ("7b", 7)]
        {
            assert_eq!(parse(text), Some(size), "{text}");
            assert_eq!(parse(&format(size)), Some(size), "{text}");
        }
        for text in ["", "8", "mb", "-1mb", "1.5mb", "8 parsecs", "99999999999999999999gb"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
