use chrono::DateTime;
use echo_sdk::{BaseMessage, Form, Topic, TraceContext};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn topic() -> Topic {
    Topic::new("order.created").unwrap()
}

fn read(event: &Value) -> Result<BaseMessage, CloudEventError> {
    from_json(&topic(), event.to_string().as_bytes())
}

fn written(message: &BaseMessage) -> Value {
    serde_json::to_value(to_event(&topic(), message).unwrap()).unwrap()
}

fn event() -> Value {
    json!({
        "specversion": "1.0", "id": "A234-1234", "source": "https://example.org/a?b=c",
        "type": "com.example.created", "time": "2026-01-02T03:04:05.000000006Z",
        "datacontenttype": "application/json", "subject": "42", "comexample": "x",
        "partitionkey": "k", "dataschema": "https://example.org/s", "data": {"a": [1, null]},
    })
}

#[test]
fn an_event_goes_out_as_it_came() {
    let message = read(&event()).unwrap();
    assert_eq!(message.source(), "https://example.org/a?b=c");
    assert_eq!((message.key(), message.schema()), (Some("k"), Some("https://example.org/s")));
    assert_eq!(message.data().unwrap(), &json!({"a": [1, null]}));
    assert_eq!(message.field("ce-subject"), Some("42"));
    assert_eq!(message.timestamp().timestamp_subsec_nanos(), 6);
    assert_eq!(written(&message), event());
    assert_eq!(read(&event()).unwrap().id(), message.id(), "the same event, the same id");
}

#[test]
fn a_message_stays_what_it_is() {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace = TraceContext::parse(trace).unwrap();
    let message = BaseMessage::builder("a \"source\"")
        .data(&json!({"text": "hällo"}))
        .version("2.1")
        .schema("greeting/1")
        .key("k")
        .reply_to(Topic::new("a.b").unwrap())
        .trace_context(TraceContext { tracestate: Some("v=1".into()), ..trace })
        .field("Tenant", "a, b")
        .field("tenant", "c")
        .build()
        .unwrap()
        .with_hops(2)
        .with_attempt(3);
    let event = written(&message);
    assert_eq!(event["type"], "order.created");
    assert_eq!(event["source"], "a%20%22source%22");
    assert_eq!((&event["hops"], &event["partitionkey"]), (&json!(2), &json!("k")));
    let back = read(&event).unwrap();
    assert_eq!(back, message);
    assert_eq!((back.hops(), back.attempt()), (2, 3));
}

#[test]
fn data_keeps_its_form() {
    let base = json!({"specversion": "1.0", "id": "1", "source": "/a", "type": "order.created"});
    let with = |more: Value| {
        let mut event = base.clone();
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    for (more, form, data) in [
        (json!({"data": "hello"}), Form::Json, json!("hello")),
        (json!({"datacontenttype": "text/plain", "data": "hello"}), Form::Text, json!("hello")),
        (json!({"datacontenttype": "text/xml", "data": "<a/>"}), Form::Text, json!("<a/>")),
        (json!({"data_base64": "/w=="}), Form::Bytes, json!("/w==")),
        (
            json!({"datacontenttype": "image/png", "data_base64": "/w=="}),
            Form::Bytes,
            json!("/w=="),
        ),
        (
            json!({"datacontenttype": "a/b+json", "data_base64": "eyJhIjoxfQ=="}),
            Form::Json,
            json!({"a": 1}),
        ),
        (json!({}), Form::Json, Value::Null),
    ] {
        let message = read(&with(more.clone())).unwrap();
        assert_eq!((message.form(), message.data().unwrap()), (form, &data), "{more}");
        let out = written(&message);
        let again = read(&out).unwrap();
        assert_eq!(again, message, "{more}");
        if let Some(kind) = more.get("datacontenttype") {
            assert_eq!(out["datacontenttype"], *kind);
        }
    }
}

#[test]
fn headers_make_an_event_as_well() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "0190163d-8694-739b-aea5-966c26f8ad91"),
        ("ce-source", "/a"),
        ("ce-type", "order.created"),
        ("ce-subject", "h%C3%A4llo"),
        ("content-type", "application/json; charset=utf-8"),
        ("user-agent", "curl"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    assert!(is_binary(&headers));
    let message = from_headers(&topic(), &headers, b"{\"a\": 1}").unwrap();
    assert_eq!(message.id().to_string(), "0190163d-8694-739b-aea5-966c26f8ad91");
    assert_eq!(message.field("ce-subject"), Some("hällo"));
    assert_eq!(message.fields().count(), 2, "the subject, and a content type with a parameter");
    assert_eq!(message.data().unwrap(), &json!({"a": 1}));
    assert!(from_headers(&topic(), &headers, b"{\"a\": ").is_err());
    headers.insert("content-type", HeaderValue::from_static("text/plain"));
    let message = from_headers(&topic(), &headers, b"plain").unwrap();
    assert_eq!((message.form(), message.data().unwrap()), (Form::Text, &json!("plain")));
}

#[test]
fn what_is_no_event_is_refused_with_its_reason() {
    let without = |key: &str, value: Value| {
        let mut event = event();
        event[key] = value;
        read(&event).unwrap_err().to_string()
    };
    assert!(without("id", Value::Null).contains("`id`"));
    assert!(without("source", json!("")).contains("`source`"));
    assert!(without("specversion", json!("0.3")).contains("0.3"));
    assert!(without("time", json!("yesterday")).contains("yesterday"));
    assert!(without("subject", json!({})).contains("`subject`"));
    assert!(without("Upper", json!("x")).contains("`Upper`"));
    assert!(without("subject", json!("a\nb")).contains("`subject`"));
    assert!(without("replyto", json!("a.*")).contains("`replyto`"));
    assert!(without("hops", json!(-1)).contains("`hops`"));
    assert!(without("traceparent", json!("zz")).contains("`traceparent`"));
    assert!(without("data_base64", json!("/w==")).contains("both"));
    for text in ["", "[]", "1", "{\"specversion\""] {
        assert!(matches!(from_json(&topic(), text.as_bytes()), Err(CloudEventError::NotJson(_))));
    }
}

proptest! {
    #[test]
    fn any_message_survives(
        source in "\\PC*",
        key in proptest::option::of("\\PC*"),
        data in ".*",
        fields in proptest::collection::vec(("[A-Za-z-]{1,8}", "\\PC{0,8}"), 0..4),
        seconds in 0_i64..4_000_000_000,
    ) {
        let mut builder = BaseMessage::builder(&source)
            .data(&data)
            .timestamp(DateTime::from_timestamp(seconds, 7).unwrap());
        builder = key.iter().fold(builder, |builder, key| builder.key(key));
        for (name, value) in fields.iter().filter(|(name, _)| !name.starts_with("ce-")) {
            builder = builder.field(name, value);
        }
        let message = builder.build().unwrap();
        prop_assert_eq!(read(&written(&message)).unwrap(), message);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
        let _ = from_json(&topic(), &bytes);
    }
}
