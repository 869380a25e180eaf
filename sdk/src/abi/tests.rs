//! Messages and answers of a side that makes mistakes; what goes well is tested with real libraries.

#![allow(unsafe_code, reason = "calls what a host and a plugin call")]

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::message::{MessageView, OwnedMessage};
use super::{Answer, Bytes, Fault, HostCall, HostOp, Op, Seat};
use crate::message::raw::tests::{FOREIGN_FREED, Flaw, foreign};
use crate::message::raw::{MessageRef, Part, SECTIONS};
use crate::{
    BaseMessage, Health, PluginError, ProcessingStatus, PublishError, RequestError, Topic,
};

type Parts = [Option<&'static [u8]>; SECTIONS];

const SOUND: Parts = [
    Some(b"{\"n\":1}"),
    Some(b"me"),
    Some(b"1.0"),
    None,
    Some("schlüssel".as_bytes()),
    Some(b"a.b"),
    None,
    None,
];

fn adopted(parts: Parts, flaw: Flaw) -> Result<BaseMessage, Fault> {
    let message = BaseMessage::from_content(foreign(parts, flaw)).with_attempt(2).with_hops(3);
    let adopted = OwnedMessage::give(message).adopt();
    adopted.inspect(|copy| assert!(copy.content().is_own()))
}

fn with(part: Part, bytes: &'static [u8]) -> Parts {
    let mut parts = SOUND;
    parts[part as usize] = Some(bytes);
    parts
}

#[test]
fn the_other_sides_message_is_copied_and_given_back() {
    let before = FOREIGN_FREED.load(Ordering::SeqCst);
    let message = adopted(SOUND, Flaw::None).unwrap();
    assert!(FOREIGN_FREED.load(Ordering::SeqCst) > before);
    assert_eq!((message.attempt(), message.hops()), (2, 3));
    assert_eq!((message.source(), message.key()), ("me", Some("schlüssel")));
    assert_eq!(message.data().unwrap()["n"], 1);
    assert_eq!((message.schema(), message.reply_to()), (None, Topic::new("a.b").ok()));
    assert_eq!(message.timestamp().timestamp_nanos_opt(), Some(7));
}

#[test]
fn a_message_of_ones_own_is_shared() {
    let message = BaseMessage::builder("me").build().unwrap();
    // SAFETY: lent by `message`, which lives on.
    let back = unsafe { MessageView::lend(&message).adopt() }.unwrap();
    assert_eq!(back.data_bytes().as_ptr(), message.data_bytes().as_ptr());
}

#[test]
fn a_lent_message_reads_and_clones_and_keeps_the_count() {
    let message = BaseMessage::builder("me").data(&[1, 2]).build().unwrap();
    // SAFETY: lent by `message`, which outlives it.
    let lent = unsafe { MessageView::lend(&message).borrow() };
    assert_eq!(lent.data().unwrap()[1], 2);
    let kept = (*lent).clone();
    drop(lent);
    drop(message);
    assert_eq!(kept.json::<[u8; 2]>().unwrap(), [1, 2]);
}

#[test]
fn a_message_that_breaks_the_rules_is_refused() {
    let head = MessageRef::build(&Default::default(), [None; SECTIONS]).unwrap().block_len() as u32;
    for flaw in [
        Flaw::Size(head - 1),
        Flaw::Size(u32::MAX),
        Flaw::Total(head - 1),
        Flaw::Total(u32::MAX),
        Flaw::Section(Part::Key, 1, 1),
        Flaw::Section(Part::Key, head, u32::MAX),
        Flaw::Section(Part::Key, u32::MAX, 1),
        Flaw::Section(Part::Data, 0, 0),
    ] {
        assert!(matches!(adopted(SOUND, flaw), Err(Fault::Message(_))), "{flaw:?}");
    }
    for (part, bytes) in [
        (Part::Source, &b"\xff"[..]),
        (Part::Version, b"\xc3"),
        (Part::Schema, b"\xff"),
        (Part::Key, b"\xff"),
        (Part::TraceState, b"\xff"),
        (Part::ReplyTo, b"\xff"),
        (Part::ReplyTo, b"a..b"),
        (Part::Data, b"{"),
        (Part::Data, b""),
        (Part::Data, b"\"\xff\""),
        (Part::Data, b"1 2"),
    ] {
        assert!(adopted(with(part, bytes), Flaw::None).is_err(), "{part:?} {bytes:?}");
    }
    // SAFETY: there is nothing to read at null.
    assert!(unsafe { MessageView::NONE.adopt() }.is_err());
}

#[test]
fn a_call_that_knows_fewer_fields_is_read_as_far_as_it_goes() {
    let older = HostCall {
        size: std::mem::offset_of!(HostCall, value) as u32,
        op: HostOp::Request.code(),
        topic: Bytes::lend("a.b"),
        timeout_nanos: 7,
        value: Bytes::lend("is not there"),
        ..HostCall::NONE
    };
    // SAFETY: there are as many bytes as it says, and what it lends is this test's.
    let (read, value) = unsafe {
        let read = HostCall::read(&raw const older);
        (read, read.value.slice())
    };
    assert_eq!((HostOp::from_code(read.op), read.timeout_nanos), (Some(HostOp::Request), 7));
    assert_eq!(value, Ok(&b""[..]));
    let newer = HostCall { size: u32::MAX, value: Bytes::lend("[1]"), ..older };
    // SAFETY: no more is read than this version has.
    let value = unsafe { HostCall::read(&raw const newer).value.slice() };
    assert_eq!(value, Ok(&b"[1]"[..]));
}

#[test]
fn a_seat_of_an_older_host_says_nothing_of_patience() {
    let newer = Seat {
        size: size_of::<Seat>() as u32,
        minor: 2,
        table: std::ptr::null(),
        host: std::ptr::null(),
        name: Bytes::lend("a"),
        version: Bytes::lend("1.0.0"),
        config: Bytes::lend("{}"),
        patience_nanos: 7,
    };
    let older = Seat { size: std::mem::offset_of!(Seat, patience_nanos) as u32, minor: 1, ..newer };
    // SAFETY: there are as many bytes as they say, and what they lend is this test's.
    let read = [&older, &newer].map(|seat| unsafe {
        let read = Seat::read(seat);
        (read.minor, read.name.text().unwrap(), read.config.text().unwrap(), read.patience_nanos)
    });
    assert_eq!(read, [(1, "a", "{}", 0), (2, "a", "{}", 7)]);
}

fn error_of(answer: Answer) -> String {
    answer.status().unwrap_err().to_string()
}

#[test]
fn an_answer_reads_back_as_what_it_was() {
    for status in [
        ProcessingStatus::Acknowledged,
        ProcessingStatus::RetryLater(Duration::new(u64::MAX, 999_999_999)),
        ProcessingStatus::Failed(String::new()),
        ProcessingStatus::Forward(
            Topic::new("a.b").unwrap(),
            BaseMessage::builder("me").key("k").build().unwrap().with_hops(4),
        ),
    ] {
        assert_eq!(Answer::from(status.clone()).status().unwrap(), status);
    }
    for health in [
        Health::Healthy,
        Health::Degraded("a".into()),
        Health::Unhealthy("b".into()),
        Health::Unchecked,
    ] {
        assert_eq!(Answer::from(health.clone()).health().unwrap(), health);
    }
    for error in [
        PluginError::InvalidData("a".into()),
        PluginError::Config("b".into()),
        PluginError::ProcessingError("c".into()),
        PluginError::Panicked("d".into()),
        PluginError::Publish(PublishError::Closed),
    ] {
        let text = error.to_string();
        assert_eq!(error_of(error.into()), text);
    }
}

#[test]
fn errors_of_the_bus_keep_their_kind() {
    let published = |error: PublishError| Answer::from(error).published().unwrap_err();
    let full = published(PublishError::Full { slot: "s".into() });
    assert!(matches!(full, PublishError::Full { slot } if slot == "s"));
    assert!(matches!(published(PublishError::Closed), PublishError::Closed));
    let large = published(PublishError::TooLarge { len: 7, max: 5 });
    assert!(matches!(large, PublishError::TooLarge { len: 7, max: 5 }));
    let transport = published(PublishError::Transport("down".into()));
    assert!(matches!(transport, PublishError::Transport(text) if text == "down"));

    let (topic, second) = (Topic::new("a.b").unwrap(), Duration::from_secs(1));
    let requested = |error: RequestError| Answer::from(error).reply(&topic, second).unwrap_err();
    let nobody = requested(RequestError::NoResponders { topic: topic.clone() });
    assert!(matches!(nobody, RequestError::NoResponders { topic } if topic == "a.b"));
    let late = requested(RequestError::TimedOut { topic: topic.clone(), timeout: second });
    assert!(matches!(late, RequestError::TimedOut { timeout, .. } if timeout == second));
    let closed = requested(PublishError::Closed.into());
    assert!(matches!(closed, RequestError::Publish(PublishError::Closed)));
}

#[test]
fn an_answer_to_something_else_breaks_the_rules() {
    let text = error_of(Answer::done());
    assert!(text.contains("broke the rules") && text.contains("0, which is no status"), "{text}");
    assert!(Answer::from(Health::Healthy).finished().is_err());
    assert!(Answer::from(ProcessingStatus::Acknowledged).published().is_err());
    assert!(Answer::done().into_value().is_err());
    assert!(Answer::done().health().is_err());
    assert!(Answer::done().next().is_none());
    assert!(error_of(Answer::unknown("operation", 99)).contains("99, which is no operation"));
    assert_eq!((Op::from_code(10), Op::from_code(11)), (Some(Op::ConvertState), None));
}
