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
        let mut parts = text.split('-');
        let [version] = hex(parts.next()?)?;
        let trace_id: [u8; 16] = hex(parts.next()?)?;
        let span_id: [u8; 8] = hex(parts.next()?)?;
        let [flags] = hex(parts.next()?)?;
        let well_formed = version != 0xff && (version > 0 || parts.next().is_none());
        let present = trace_id != [0; 16] && span_id != [0; 8];
        (well_formed && present).then_some(Self { trace_id, span_id, flags, tracestate: None })
    }

    /// The `traceparent` header for this context.
    pub fn traceparent(&self) -> String {
        self.encode(&mut [0; Self::TRACEPARENT_LEN]).to_owned()
    }

    /// The `traceparent` header for this context, written into a buffer of the caller's.
    pub fn encode<'b>(&self, buffer: &'b mut [u8; Self::TRACEPARENT_LEN]) -> &'b str {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        *buffer = [b'-'; Self::TRACEPARENT_LEN];
        let parts: [(usize, &[u8]); 4] =
            [(0, &[0]), (3, &self.trace_id), (36, &self.span_id), (53, &[self.flags])];
        for (place, bytes) in parts {
            for (pair, byte) in buffer[place..].chunks_exact_mut(2).zip(bytes) {
                pair[0] = DIGITS[usize::from(byte >> 4)];
                pair[1] = DIGITS[usize::from(byte & 0xf)];
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

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes = text.as_bytes();
    let lower_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if bytes.len() != 2 * N || !bytes.iter().all(lower_hex) {
        return None;
    }
    let digit = |byte: u8| {
        if byte <= b'9' { byte - b'0' } else { byte - b'a' + 10 }
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        *byte = digit(pair[0]) << 4 | digit(pair[1]);
    }
    Some(out)
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
        for text in [
            "",
            "00",
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
