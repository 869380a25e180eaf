//! The JSON form of a message, as quick as its usual shape allows.
//!
//! [`write`] gives the same bytes as the message's `Serialize`, and [`read`] the same message as its `Deserialize`,
//! which tests hold them to. The data is copied as it stands. What is out of the usual, such as a message with
//! fields, is left to those two.

use chrono::{DateTime, Datelike, NaiveDate, Timelike, Utc};
use echo_sdk::{BaseMessage, JsonText, MessageError, TraceContext};
use uuid::Uuid;

/// What the parts beside data and texts take, without the tracing system's own.
const AROUND: usize = 320;

/// Writes the JSON form at the end of `out`.
pub(super) fn write(message: &BaseMessage, out: &mut Vec<u8>) -> Result<(), MessageError> {
    if message.fields().next().is_some() {
        return serde_json::to_writer(out, message).map_err(MessageError::Data);
    }
    out.reserve(AROUND + message.size());
    out.extend_from_slice(b"{\"id\":\"");
    let mut id = Uuid::encode_buffer();
    out.extend_from_slice(message.id().as_hyphenated().encode_lower(&mut id).as_bytes());
    out.extend_from_slice(b"\",\"timestamp\":\"");
    timestamp(out, message.timestamp());
    out.extend_from_slice(b"\",\"source\":");
    text(out, message.source())?;
    out.extend_from_slice(b",\"version\":");
    text(out, message.version())?;
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(message.data_bytes().trim_ascii());
    if let Some(schema) = message.schema() {
        out.extend_from_slice(b",\"schema\":");
        text(out, schema)?;
    }
    if let Some(trace) = message.trace_context() {
        out.extend_from_slice(b",\"trace_context\":{\"traceparent\":\"");
        out.extend_from_slice(trace.encode(&mut [0; TraceContext::TRACEPARENT_LEN]).as_bytes());
        out.push(b'"');
        if let Some(state) = &trace.tracestate {
            out.extend_from_slice(b",\"tracestate\":");
            text(out, state)?;
        }
        out.push(b'}');
    }
    out.extend_from_slice(b",\"headers\":{\"attempt\":");
    number(out, message.attempt());
    out.extend_from_slice(b",\"hops\":");
    number(out, message.hops());
    if let Some(key) = message.key() {
        out.extend_from_slice(b",\"key\":");
        text(out, key)?;
    }
    if let Some(reply) = message.reply_to() {
        out.extend_from_slice(b",\"reply_to\":");
        text(out, reply.as_str())?;
    }
    out.extend_from_slice(b"}}");
    Ok(())
}

/// Writes a text with its quotes.
fn text(out: &mut Vec<u8>, text: &str) -> Result<(), MessageError> {
    let is_odd = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    if text.bytes().fold(false, |odd, byte| odd | is_odd(byte)) {
        return serde_json::to_writer(out, text).map_err(MessageError::Data);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
    Ok(())
}

/// Writes a number without leading zeros.
fn number(out: &mut Vec<u8>, number: u16) {
    let mut text = *b"00000";
    let count = number.checked_ilog10().unwrap_or_default() as usize + 1;
    digits(&mut text, number.into());
    out.extend_from_slice(text.get(text.len() - count..).unwrap_or_default());
}

/// Writes the last digits of a number over a text.
fn digits(text: &mut [u8], number: u32) {
    let mut rest = number;
    for place in text.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// Writes a time as RFC 3339 has it, with as many groups of three digits behind the second as it needs. The years
/// that a message's time can be in have four digits.
fn timestamp(out: &mut Vec<u8>, time: DateTime<Utc>) {
    let mut text = *TIME;
    let (date, clock) = (time.date_naive(), time.time());
    digits(&mut text[..4], date.year().unsigned_abs());
    digits(&mut text[5..7], date.month());
    digits(&mut text[8..10], date.day());
    digits(&mut text[11..13], clock.hour());
    digits(&mut text[14..16], clock.minute());
    digits(&mut text[17..19], clock.second());
    let nanos = time.timestamp_subsec_nanos();
    digits(&mut text[20..29], nanos);
    let end = match nanos {
        0 => 19,
        nanos if nanos % 1_000_000 == 0 => 23,
        nanos if nanos % 1000 == 0 => 26,
        _ => 29,
    };
    out.extend_from_slice(&text[..end]);
    out.push(b'Z');
}

/// What all that is read here begins with.
const BEGINNING: &str = "{\"id\":\"";

/// Reads what [`write`] writes of a message without key, schema and reply topic; `None` for anything else.
///
/// The parts before the data are read from the front, those after it from the back. What is left between is the data
/// if it is one JSON value: then there is no other way to read the whole.
pub(super) fn read(payload: &[u8]) -> Option<BaseMessage> {
    if !payload.starts_with(BEGINNING.as_bytes()) {
        return None;
    }
    // All of it at once, which takes hardly longer than one of its short texts.
    let rest = std::str::from_utf8(payload).ok()?.strip_prefix(BEGINNING)?;
    let (id, rest) = rest.split_at_checked(36)?;
    let id = Uuid::try_parse_ascii(id.as_bytes()).ok()?;
    let rest = rest.strip_prefix("\",\"timestamp\":\"")?;
    let (time, rest) = rest.split_at_checked(TIME.len())?;
    let timestamp = read_timestamp(time.as_bytes())?;
    let (source, rest) = read_text(rest.strip_prefix("\",\"source\":\"")?)?;
    let (version, rest) = read_text(rest.strip_prefix(",\"version\":\"")?)?;
    let rest = rest.strip_prefix(",\"data\":")?;
    let (rest, hops) = read_last_number(rest.strip_suffix("}}")?)?;
    let (rest, attempt) = read_last_number(rest.strip_suffix(",\"hops\":")?)?;
    let rest = rest.strip_suffix(",\"headers\":{\"attempt\":")?;
    let (data, trace) = read_trace(rest);
    let mut builder = BaseMessage::builder(source)
        .id(id)
        .timestamp(timestamp)
        .version(version)
        .data_checked(JsonText::check_text(data.trim_ascii())?);
    if let Some(trace) = trace {
        builder = builder.trace_context(trace);
    }
    Some(builder.build().ok()?.with_attempt(attempt).with_hops(hops))
}

/// A text without escapes behind its first quote, and what comes after it.
fn read_text(text: &str) -> Option<(&str, &str)> {
    let (text, rest) = text.split_at_checked(memchr::memchr(b'"', text.as_bytes())?)?;
    let is_odd = |byte: u8| (byte < 0x20) | (byte == b'\\');
    // All of them, so that several bytes are looked at at once.
    let is_plain = !text.bytes().fold(false, |odd, byte| odd | is_odd(byte));
    is_plain.then_some((text, rest.get(1..)?))
}

/// A number at the end, and what comes before it.
fn read_last_number(text: &str) -> Option<(&str, u16)> {
    let count = text.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (rest, digits) = text.split_at_checked(text.len() - count)?;
    match digits.as_bytes() {
        [digit] => Some((rest, u16::from(digit - b'0'))),
        [b'0', ..] => None,
        _ => Some((rest, digits.parse().ok()?)),
    }
}

/// A trace context at the end, and what comes before it.
fn read_trace(text: &str) -> (&str, Option<TraceContext>) {
    let found = || {
        let rest = text.strip_suffix("\"}")?;
        let start = rest.len().checked_sub(TraceContext::TRACEPARENT_LEN)?;
        let (rest, traceparent) = rest.split_at_checked(start)?;
        let rest = rest.strip_suffix(",\"trace_context\":{\"traceparent\":\"")?;
        let trace = TraceContext::parse(traceparent).ok()?;
        Some((rest, Some(trace)))
    };
    found().unwrap_or((text, None))
}

/// A time that is read here; `0` stands for any digit.
const TIME: &[u8; 30] = b"0000-00-00T00:00:00.000000000Z";

fn read_timestamp(text: &[u8]) -> Option<DateTime<Utc>> {
    let text: &[u8; TIME.len()] = text.try_into().ok()?;
    // All of them, so that several bytes are looked at at once.
    let is_odd = |(byte, form): (&u8, &u8)| match form {
        b'0' => !byte.is_ascii_digit(),
        other => byte != other,
    };
    if text.iter().zip(TIME).fold(false, |odd, pair| odd | is_odd(pair)) {
        return None;
    }
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to).unwrap_or_default();
        digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
    };
    let date = NaiveDate::from_ymd_opt(number(0, 4).cast_signed(), number(5, 7), number(8, 10))?;
    let time =
        date.and_hms_nano_opt(number(11, 13), number(14, 16), number(17, 19), number(20, 29))?;
    Some(time.and_utc())
}

#[cfg(test)]
mod tests {
    use echo_sdk::Topic;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn written(message: &BaseMessage) -> Vec<u8> {
        let mut out = Vec::new();
        write(message, &mut out).unwrap();
        out
    }

    /// Writes and reads a message both ways.
    fn agrees(message: &BaseMessage) -> bool {
        let written = written(message);
        assert_eq!(written, serde_json::to_vec(message).unwrap(), "{message:?}");
        agrees_on(&written)
    }

    /// Says whether it was read here.
    fn agrees_on(payload: &[u8]) -> bool {
        let Some(message) = read(payload) else { return false };
        let other: BaseMessage = serde_json::from_slice(payload).unwrap();
        assert_eq!(message, other);
        assert_eq!((message.attempt(), message.hops()), (other.attempt(), other.hops()));
        assert_eq!(message.form(), other.form());
        true
    }

    fn trace() -> TraceContext {
        TraceContext { trace_id: [0xa7; 16], span_id: [9; 8], flags: 1, tracestate: None }
    }

    #[test]
    fn the_usual_message_is_read_here() {
        let plain = || BaseMessage::builder("me").data(&json!({"n": [1, "x"]}));
        let message = plain().build().unwrap();
        assert!(agrees(&message));
        assert!(agrees(&message.with_attempt(12).with_hops(u16::MAX)));
        assert!(agrees(&plain().trace_context(trace()).build().unwrap()));
        let other = TraceContext { tracestate: Some("a=\"1\"".to_owned()), ..trace() };
        let topic = Topic::new("a.b").unwrap();
        for message in [
            plain().trace_context(other),
            plain().key("k\n"),
            plain().schema("s/1"),
            plain().reply_to(topic),
            plain().field("A", "b"),
            BaseMessage::builder("a \"quoted\" one"),
        ] {
            assert!(!agrees(&message.build().unwrap()));
        }
    }

    #[test]
    fn data_that_looks_like_what_follows_it_stays_data() {
        let message = BaseMessage::builder("me").data(&json!(1)).trace_context(trace());
        let written = String::from_utf8(written(&message.build().unwrap())).unwrap();
        let tail = written.split_once("\"data\":1").unwrap().1;
        assert!(!agrees_on(written.replace("\"data\":1", &format!("\"data\":1{tail}")).as_bytes()));
        for (from, to) in [
            ("\"data\":1", "\"data\":1,\"data\":2"),
            ("\"data\":1", "\"data\":"),
            ("\"data\":1", "\"data\": {\"a\":[1]} "),
            ("\"hops\":0", "\"hops\":00"),
            ("\"hops\":0", "\"hops\":"),
            ("\"hops\":0", "\"hops\":70000"),
            ("\"version\":\"1.0\"", "\"version\":\"\u{1}\""),
            ("a7", "00"),
        ] {
            let changed = written.replace(from, to);
            let is_message = serde_json::from_str::<BaseMessage>(&changed).is_ok();
            assert_eq!(agrees_on(changed.as_bytes()), is_message, "{changed}");
        }
    }

    proptest! {
        #[test]
        fn any_message_is_written_alike(
            source in ".*",
            data in ".*",
            nanos: i64,
            coarse in prop::sample::select(vec![1, 1000, 1_000_000, 1_000_000_000]),
            is_traced: bool,
            space in prop::sample::select(vec!["", " ", "\r\n"]),
        ) {
            let data = format!("{space}{}{space}", json!(data));
            let nanos = nanos / coarse * coarse;
            let mut builder = BaseMessage::builder(&source)
                .data_json(data.as_bytes())
                .timestamp(DateTime::from_timestamp_nanos(nanos));
            if is_traced {
                builder = builder.trace_context(trace());
            }
            agrees(&builder.build().unwrap());
        }

        #[test]
        fn a_changed_byte_is_read_alike(place in 0_usize..400, byte: u8) {
            let message = BaseMessage::builder("me").data(&json!({"a": 1})).trace_context(trace());
            let mut payload = written(&message.build().unwrap());
            let place = place % payload.len();
            payload[place] = byte;
            agrees_on(&payload);
        }
    }
}
