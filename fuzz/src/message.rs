//! Messages, as JSON and as they come over a wire.

use echo_bus::wire::{self, Incoming};
use echo_sdk::{BaseMessage, Form};

/// A message that is read from JSON is written as JSON that reads as the same message.
pub fn message_json(data: &[u8]) {
    let Ok(message) = serde_json::from_slice::<BaseMessage>(data) else {
        return;
    };
    look_at(&message);
    let written = serde_json::to_vec(&message).expect("a message that was read can be written");
    let again: BaseMessage = serde_json::from_slice(&written).expect("what was written reads");
    same(&message, &again);
    same(
        &message,
        &message
            .to_builder()
            .build()
            .unwrap()
            .with_hops(message.hops())
            .with_attempt(message.attempt()),
    );
}

/// Whatever a tool sends becomes a message, or is refused; what is plain goes out as it came, and a whole message
/// comes back from what it goes out as.
///
/// The input is a reply subject, headers as `name:value`, an empty line, and the payload.
pub fn wire_read(data: &[u8]) {
    let (head, payload) = split(data, b"\n\n");
    let Ok(head) = std::str::from_utf8(head) else {
        return;
    };
    let mut lines = head.split('\n');
    let reply = lines.next().filter(|reply| !reply.is_empty());
    let headers = lines.filter_map(|line| line.split_once(':'));
    let incoming = Incoming { payload, headers: headers.clone(), reply, source: "fuzz" };
    let Ok(message) = wire::read(incoming) else {
        return;
    };
    look_at(&message);
    assert!(reply.is_none() || message.reply_to().is_some_and(|to| Some(to.as_str()) == reply));
    let out = wire::payload(&message).unwrap();
    let mut written = Vec::new();
    wire::headers(&message, |name, value| written.push((name.to_owned(), value.to_owned())));
    if message.form() != Form::Message {
        assert_eq!(out, payload, "{:?}", message.form());
        // Blanks around a value are none of it.
        let sent: Vec<_> =
            headers.map(|(n, v)| (n.to_owned(), v.trim_matches([' ', '\t']).to_owned())).collect();
        assert_eq!(written, sent);
        return;
    }
    let headers = written.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let back = wire::read(Incoming { payload: &out, headers, reply, source: "fuzz" }).unwrap();
    assert_eq!(back.id(), message.id());
    assert_eq!(
        (back.hops(), back.key(), back.source()),
        (message.hops(), message.key(), message.source())
    );
    assert_eq!(back.data_bytes(), message.data_bytes());
}

fn split<'a>(data: &'a [u8], at: &[u8]) -> (&'a [u8], &'a [u8]) {
    let place = data.windows(at.len()).position(|window| window == at);
    place.map_or((data, &[]), |place| (&data[..place], &data[place + at.len()..]))
}

/// Calls all that looks at a message.
fn look_at(message: &BaseMessage) {
    let _ = (message.id(), message.timestamp(), message.version(), message.schema());
    let _ = (message.key(), message.reply_to(), message.size(), format!("{message:?}"));
    if let Some(trace) = message.trace_context() {
        assert!(echo_sdk::TraceContext::parse(&trace.traceparent()).is_ok());
    }
    for (name, _) in message.fields() {
        assert!(message.field(name).is_some());
    }
    let _ = message.data();
}

fn same(one: &BaseMessage, other: &BaseMessage) {
    assert_eq!(one, other);
    assert_eq!(
        (one.attempt(), one.hops(), one.form()),
        (other.attempt(), other.hops(), other.form())
    );
}
