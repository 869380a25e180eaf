//! The W3C trace context that a message carries from hand to hand.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that is no W3C `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no traceparent; it reads `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`")]
pub struct TraceParentError(String);

/// Where in a distributed trace a message was made, after <https://www.w3.org/TR/trace-context/>.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace that the message belongs to; never all zero.
    pub trace_id: [u8; 16],
    /// The span in which the message was made; never all zero.
    pub span_id: [u8; 8],
    /// The trace flags; bit 0 says that the trace is recorded.
    pub flags: u8,
    /// Vendors' own `tracestate`, passed on as it came.
    pub tracestate: Option<String>,
}

impl TraceContext {
    /// How many bytes a `traceparent` has.
    pub const TRACEPARENT_LEN: usize = 55;

    /// Reads a `traceparent` header.
    ///
    /// # Errors
    /// [`TraceParentError`] when the text has another form, another version than a readable one, or an
    /// identifier that is all zero.
    pub fn parse(traceparent: &str) -> Result<Self, TraceParentError> {
        Self::parse_opt(traceparent).ok_or_else(|| TraceParentError(traceparent.to_owned()))
    }

    fn parse_opt(text: &str) -> Option<Self> {
        let (head, rest) = text.as_bytes().split_first_chunk::<{ Self::TRACEPARENT_LEN }>()?;
        if [head[2], head[35], head[52]] != *b"---" {
            return None;
        }
        let [version] = hex(&head[..2])?;
        let trace_id: [u8; 16] = hex(&head[3..35])?;
        let span_id: [u8; 8] = hex(&head[36..52])?;
        let [flags] = hex(&head[53..])?;
        // Later versions may say more.
        let well_formed = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => matches!(rest, [] | [b'-', ..]),
        };
        let present = trace_id != [0; 16] && span_id != [0; 8];
        (well_formed && present).then_some(Self { trace_id, span_id, flags, tracestate: None })
    }

    /// The `traceparent` header for this context.
    pub fn traceparent(&self) -> String {
        self.encode(&mut [0; Self::TRACEPARENT_LEN]).to_owned()
    }

    /// The `traceparent` header for this context, written into a buffer of the caller's.
    pub fn encode<'b>(&self, buffer: &'b mut [u8; Self::TRACEPARENT_LEN]) -> &'b str {
        *buffer = [b'-'; Self::TRACEPARENT_LEN];
        let parts: [(usize, &[u8]); 4] =
            [(0, &[0]), (3, &self.trace_id), (36, &self.span_id), (53, &[self.flags])];
        for (place, bytes) in parts {
            let (pairs, _) = buffer[place..].as_chunks_mut();
            for (pair, byte) in pairs.iter_mut().zip(bytes) {
                *pair = PAIRS[usize::from(*byte)];
            }
        }
        // Digits and dashes are text.
        std::str::from_utf8(buffer).unwrap_or_default()
    }

    /// Whether the trace is recorded somewhere.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encode(&mut [0; Self::TRACEPARENT_LEN]))
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Each byte as two digits.
const PAIRS: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 0xf]];
        byte += 1;
    }
    pairs
};

/// What is no digit.
const NONE: u8 = 0xff;

/// Each digit's value.
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < 16 {
        values[DIGITS[value] as usize] = value as u8;
        value += 1;
    }
    values
};

#[inline]
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let (mut out, mut all) = ([0; N], 0);
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        let (high, low) = (VALUES[usize::from(*high)], VALUES[usize::from(*low)]);
        all |= high | low;
        *byte = high << 4 | low & 0xf;
    }
    (all != NONE).then_some(out)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    traceparent: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tracestate: Option<String>,
}

impl Serialize for TraceContext {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Wire { traceparent: self.traceparent(), tracestate: self.tracestate.clone() }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TraceContext {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        let context = Self::parse(&wire.traceparent).map_err(serde::de::Error::custom)?;
        Ok(Self { tracestate: wire.tracestate, ..context })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_reads_and_writes() {
        let context = TraceContext::parse(PARENT).unwrap();
        assert_eq!(context.traceparent(), PARENT);
        assert!(context.is_sampled());
    }

    proptest::proptest! {
        #[test]
        fn any_context_reads_back(trace_id in 1_u128.., span_id in 1_u64.., flags: u8) {
            let (trace_id, span_id) = (trace_id.to_be_bytes(), span_id.to_be_bytes());
            let context = TraceContext { trace_id, span_id, flags, tracestate: None };
            let text = context.traceparent();
            proptest::prop_assert_eq!(&text, &context.to_string());
            proptest::prop_assert_eq!(TraceContext::parse(&text), Ok(context));
        }
    }

    #[test]
    fn a_wrong_traceparent_is_refused() {
        let later = format!("01{}-and-more", &PARENT[2..]);
        assert!(TraceContext::parse(&later).is_ok());
        for text in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
            "00.0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331x01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
            "00-0af7651916cd43dd8448eb211c8031é-b7ad6b7169203331-01",
        ] {
            assert!(TraceContext::parse(text).is_err(), "{text}");
        }
    }
}
