//! Traces and attributes that cross.

#![allow(unsafe_code, reason = "reads and writes at addresses from the other side of the boundary")]

use super::bytes::{Bytes, Fault, OwnedBytes};
use super::table::Attribute;
use crate::TraceContext;

/// A place in a trace.
#[repr(C)]
#[derive(Debug)]
pub struct Trace {
    size: u32,
    flags: u32,
    trace_id: [u8; 16],
    span_id: [u8; 8],
    state: OwnedBytes,
}

impl Trace {
    /// A place to write to.
    pub const fn empty() -> Self {
        let size = size_of::<Self>() as u32;
        Self { size, flags: 0, trace_id: [0; 16], span_id: [0; 8], state: OwnedBytes::NONE }
    }

    /// Gives a place in a trace away.
    pub fn give(context: TraceContext) -> Self {
        let state = context.tracestate.map_or(OwnedBytes::NONE, OwnedBytes::give);
        let TraceContext { trace_id, span_id, flags, .. } = context;
        Self { flags: flags.into(), trace_id, span_id, state, ..Self::empty() }
    }

    /// Describes one that stays where it is; the caller keeps it for as long.
    pub(super) fn lend(context: &TraceContext) -> Self {
        let state = context.tracestate.as_deref().map_or(OwnedBytes::NONE, OwnedBytes::lend);
        let TraceContext { trace_id, span_id, flags, .. } = *context;
        Self { flags: flags.into(), trace_id, span_id, state, ..Self::empty() }
    }

    /// Reads it; `None` where there is no trace.
    ///
    /// # Errors
    /// [`Fault`] when its state is no text, or its flags are more than a byte.
    pub fn read(&self) -> Result<Option<TraceContext>, Fault> {
        if self.trace_id == [0; 16] || self.span_id == [0; 8] {
            return Ok(None);
        }
        let flags = u8::try_from(self.flags)
            .map_err(|_| Fault::Number { what: "trace flags", found: self.flags.into() })?;
        let (trace_id, span_id) = (self.trace_id, self.span_id);
        Ok(Some(TraceContext { trace_id, span_id, flags, tracestate: self.state.read()? }))
    }

    /// Writes it to a place of the other side's; the number that says so.
    ///
    /// # Safety
    /// `out` points to a trace of the other side's that holds nothing.
    pub unsafe fn put(context: Option<TraceContext>, out: *mut Self) -> u32 {
        let Some(context) = context else { return 0 };
        // SAFETY: the caller vouches for `out`; what it held needs no dropping. Version 1.0 of the boundary
        // knows one size of this struct.
        unsafe { out.write(Self::give(context)) };
        1
    }
}

/// Describes attributes that stay where they are; the caller keeps them for as long.
pub fn lend_attributes(attributes: &[(&str, &str)]) -> Vec<Attribute> {
    let lend = |(key, value): &(&str, &str)| Attribute {
        key: Bytes::lend(key),
        value: Bytes::lend(value),
    };
    attributes.iter().map(lend).collect()
}

/// Reads attributes that are lent.
///
/// # Errors
/// [`Fault`] when a name or a value is no text.
///
/// # Safety
/// There are `count` attributes at `first`, and what they describe stays for `'a`.
pub unsafe fn attributes<'a>(
    first: *const Attribute,
    count: usize,
) -> Result<Vec<(&'a str, &'a str)>, Fault> {
    let fits = count <= isize::MAX as usize / size_of::<Attribute>();
    let lent: &[Attribute] = match count {
        0 => &[],
        _ if first.is_null() || !first.is_aligned() || !fits => return Err(Fault::Bytes),
        // SAFETY: the caller vouches for them, and the checks above for the rest.
        _ => unsafe { std::slice::from_raw_parts(first, count) },
    };
    // SAFETY: the caller vouches for what they describe.
    lent.iter().map(|it| unsafe { Ok((it.key.text()?, it.value.text()?)) }).collect()
}
