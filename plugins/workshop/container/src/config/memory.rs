//! `"256mb"`: an amount of memory.

use serde::Deserialize;

/// An amount of memory in bytes; units count in steps of 1024, as the engine's do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Memory(pub i64);

/// A text that is no amount of memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no amount of memory; write a whole number and a unit, such as \"256mb\" or \"1gb\""
)]
pub struct MemoryError(String);

impl TryFrom<String> for Memory {
    type Error = MemoryError;

    fn try_from(text: String) -> Result<Self, MemoryError> {
        parse(&text).ok_or(MemoryError(text))
    }
}

fn parse(text: &str) -> Option<Memory> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let unit: i64 = match unit.to_ascii_lowercase().as_str() {
        "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        _ => return None,
    };
    let bytes = number.parse::<i64>().ok()?.checked_mul(unit)?;
    (bytes > 0).then_some(Memory(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_amounts() {
        let memory = |text: &str| Memory::try_from(text.to_owned());
        assert_eq!(memory("256mb"), Ok(Memory(256 * 1024 * 1024)));
        assert_eq!(memory("1G"), Ok(Memory(1024 * 1024 * 1024)));
        assert_eq!(memory("4096b"), Ok(Memory(4096)));
        for text in ["", "256", "mb", "0mb", "-1mb", "1.5gb", "256 mb", "1tb", "99999999999gb"] {
            assert!(memory(text).is_err(), "{text}");
        }
    }
}
