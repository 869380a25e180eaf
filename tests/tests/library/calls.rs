//! What crosses the boundary, both ways.

use std::time::Duration;

use echo_sdk::handover::take_up;
use echo_sdk::testing::{When, message, request};
use echo_sdk::{
    HandoverError, Health, LogLevel, Plugin, PluginError, ProcessingStatus, StateSnapshot, Topic,
};
use serde_json::json;

use crate::kit::{Copy, echo, handle, load, load_with, misbehave, replace, wait};

fn order(what: &str) -> echo_sdk::BaseMessage {
    request(&json!({ "do": what }))
}

#[test]
fn a_library_answers_with_each_of_the_four_statuses() {
    let (library, probe) = load(echo());
    assert_eq!(library.plugin().name(), "echo");
    assert_eq!(library.manifest().subscriptions.len(), 1);
    let answer = |data| handle(&library, request(&data).with_attempt(1)).unwrap();

    assert_eq!(answer(json!({ "text": "hi" })), ProcessingStatus::Acknowledged);
    let reply = probe.replies().remove(0);
    assert_eq!(reply.message.json::<serde_json::Value>().unwrap(), json!({ "text": "hi" }));
    assert_eq!((reply.when, reply.message.source()), (When::WithAcknowledgement, "echo"));

    let later = answer(json!({ "status": "retry_later", "after": "1500ms" }));
    assert_eq!(later, ProcessingStatus::RetryLater(Duration::from_millis(1500)));

    let failed = answer(json!({ "status": "failed", "reason": "häßlich" }));
    assert_eq!(failed, ProcessingStatus::Failed("häßlich".into()));

    let forwarded = request(&json!({ "status": "forward", "topic": "else.where" })).with_hops(2);
    match handle(&library, forwarded.clone()).unwrap() {
        ProcessingStatus::Forward(topic, message) => {
            assert_eq!(topic, "else.where");
            assert_eq!((&message, message.hops()), (&forwarded, 2));
            // The host's own message comes back as it is, uncopied.
            assert_eq!(message.data_bytes().as_ptr(), forwarded.data_bytes().as_ptr());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(wait(library.plugin().metrics()), json!({ "said": 1 }));
}

#[test]
fn what_a_plugin_publishes_arrives_complete_and_outlives_the_library() {
    let (library, probe) = load(misbehave());
    let sent = order("publish").with_hops(7);
    handle(&library, sent.clone()).unwrap();
    let report = library.unload();
    assert!(report.to_string().ends_with("is unloaded"), "{report}");

    let published = probe.published();
    let seen: Vec<_> = published.iter().map(|it| (it.topic.as_str(), it.when)).collect();
    let with = When::WithAcknowledgement;
    let expected =
        [("out.buffered", with), ("out.now", When::Now), ("out.tried", with), ("out.same", with)];
    assert_eq!(seen, expected);
    for (n, published) in (1..=3).zip(&published) {
        let message = &published.message;
        assert_eq!(message.data().unwrap(), &json!({ "n": n }));
        assert_eq!((message.source(), message.version()), ("misbehave", "1.0"));
        assert_eq!((message.key(), message.schema()), (Some("k"), Some("s/1")));
        assert_eq!((message.reply_to(), message.hops()), (Topic::new("a.reply").ok(), 3));
        assert_eq!(message.id().get_version_num(), 7);
    }
    assert_eq!((&published[3].message, published[3].message.hops()), (&sent, 7));
}

#[test]
fn requests_are_answered_through_the_boundary() {
    let (library, probe) = load(misbehave());
    let ask = || handle(&library, request(&json!({ "do": "request", "ask": [20, 22] })));

    let nobody = ask().unwrap_err().to_string();
    assert_eq!(nobody, "nobody answers to `oracle`");

    probe.answer_with(|_, message| Some(json!(message.json::<Vec<u8>>().ok()?.iter().sum::<u8>())));
    assert_eq!(ask().unwrap(), ProcessingStatus::Acknowledged);
    let answer = probe.replies().remove(0).message.json::<serde_json::Value>().unwrap();
    assert_eq!(answer, json!({ "answer": 42 }));
}

#[test]
fn a_plugin_subscribes_and_hears() {
    let (library, probe) = load(misbehave());
    let plugin = library.plugin();
    let topic = Topic::new("plugin.misbehave.do").unwrap();
    let handled = library
        .runtime()
        .spawn(async move { plugin.process_message(&topic, &order("subscribe")).await });
    wait(async {
        probe.next("listening").await;
        assert_eq!(probe.deliver("news.today", message(&"sunny")), 1);
        assert_eq!(handled.await.unwrap().unwrap(), ProcessingStatus::Acknowledged);
    });
    let heard = probe.replies().remove(0).message.json::<serde_json::Value>().unwrap();
    assert_eq!(heard, json!(["news.today", "sunny"]));
}

#[test]
fn managed_state_crosses_the_boundary() {
    let (library, probe) = load(misbehave());
    probe.set_state("count", &41);
    probe.set_state("old", &"x");
    assert_eq!(handle(&library, order("state")).unwrap(), ProcessingStatus::Acknowledged);
    let read = probe.replies().remove(0).message.json::<serde_json::Value>().unwrap();
    assert_eq!(read, json!({ "count": 42, "missing": null, "raw": [1, 2] }));
    assert_eq!(probe.state("count"), Some(json!(42)));
    assert_eq!(probe.state("old"), None);
}

/// What a library of version 1.0 looks like: no addition is made use of on either side.
#[test]
fn a_library_of_an_older_minor_version_loads_and_has_no_state() {
    let older = Copy::of(misbehave(), |bytes| {
        let note = (b"Echo\0\0\0\0\x01\0\0\0\x02\0\0\0", b"Echo\0\0\0\0\x01\0\0\0\0\0\0\0");
        replace(bytes, note.0, note.1);
        replace(bytes, b"EchoCore\x01\0\0\0\x02\0\0\0", b"EchoCore\x01\0\0\0\0\0\0\0");
    });
    let (library, probe) = load(&older.path());
    assert_eq!(handle(&library, order("publish")).unwrap(), ProcessingStatus::Acknowledged);
    assert_eq!(probe.published().len(), 4);
    let refused = handle(&library, order("state")).unwrap_err().to_string();
    assert!(refused.contains("keeps no managed state"), "{refused}");
    let plugin = library.plugin();
    assert_eq!(wait(plugin.export_state()).unwrap(), None);
    let refused = wait(plugin.import_state(StateSnapshot::new(2, json!([])))).unwrap_err();
    assert!(refused.to_string().contains("hands no state over"), "{refused}");
}

#[test]
fn a_state_is_handed_over_and_taken_from_form_to_form() {
    let ((old, _), (new, _)) = (load(misbehave()), load(misbehave()));
    let (old, new) = (old.plugin(), new.plugin());
    assert_eq!((old.state_schema(), new.state_schema()), (2, 2));
    wait(async {
        old.init().await.unwrap();
        old.pause().await.unwrap();
        let state = old.export_state().await.unwrap().unwrap();
        assert_eq!(state, StateSnapshot::new(2, json!(["init", "pause"])));
        new.import_state(state).await.unwrap();
        assert_eq!(new.metrics().await, json!({ "calls": ["before", "before"] }));

        let up = take_up(&new, StateSnapshot::new(1, json!(3))).await.unwrap();
        assert_eq!(up, StateSnapshot::new(2, json!(["?", "?", "?"])));
        assert_eq!(new.convert_state(up, 1).await.unwrap(), StateSnapshot::new(1, json!(3)));
        let entry = take_up(&new, StateSnapshot::of_entry(1, "seen", json!(7))).await.unwrap();
        assert_eq!(entry, StateSnapshot::of_entry(2, "seen", json!({ "seen": 7 })));

        let lossy = take_up(&new, StateSnapshot::new(1, json!(4))).await;
        assert!(matches!(lossy, Err(HandoverError::Lossy { from: 1, to: 2, .. })), "{lossy:?}");
        let text = new.convert_state(StateSnapshot::new(1, json!("x")), 2).await.unwrap_err();
        assert!(matches!(text, PluginError::InvalidData(_)), "{text}");
    });
}

#[test]
fn a_plugin_without_a_state_hands_nothing_over() {
    let (library, _) = load(echo());
    let plugin = library.plugin();
    wait(async {
        assert_eq!(plugin.state_schema(), 1);
        assert_eq!(plugin.export_state().await.unwrap(), None);
        let refused = plugin.import_state(StateSnapshot::new(1, json!(1))).await.unwrap_err();
        assert!(refused.to_string().contains("takes over no state"), "{refused}");
    });
}

#[test]
fn a_thread_of_the_plugins_wakes_its_handler() {
    let (library, _) = load(misbehave());
    let handled = handle(&library, order("wait for a thread"));
    assert_eq!(handled.unwrap(), ProcessingStatus::Acknowledged);
}

#[test]
fn measurements_logs_and_spans_reach_the_host() {
    let (library, probe) = load(misbehave());
    handle(&library, order("measure")).unwrap();
    let hits = &probe.measured("hits")[0];
    let attributes = [("kind".into(), "x".into()), ("other".into(), String::new())];
    assert_eq!((hits.value, &hits.attributes[..]), (2.0, &attributes[..]));
    assert_eq!(probe.measured("level")[0].value, 0.5);
    assert_eq!(probe.measured("seconds")[0].value, 1.25);
    assert_eq!(probe.logs(), [(LogLevel::Warn, "careful".to_owned())]);
    assert_eq!(probe.spans(), ["work", "inner"]);
}

#[test]
fn the_lifecycle_reaches_the_plugin_and_its_errors_the_host() {
    let (library, _) = load(misbehave());
    let plugin = library.plugin();
    wait(async {
        plugin.init().await.unwrap();
        plugin.pause().await.unwrap();
        plugin.resume().await.unwrap();
        assert_eq!(plugin.health_check().await, Health::Degraded("as ever".into()));
        assert!(
            matches!(plugin.reset().await, Err(PluginError::Panicked(text)) if text == "no reset")
        );
        assert_eq!(plugin.shutdown().await.unwrap_err().to_string(), "it likes it here");
        let calls = plugin.metrics().await;
        assert_eq!(calls, json!({ "calls": ["init", "pause", "resume", "shutdown"] }));
    });
}

#[test]
fn a_panicking_handler_is_a_failed_attempt_and_the_next_message_is_handled() {
    let (library, _) = load(misbehave());
    let panicked = |what| match handle(&library, order(what).with_attempt(3)).unwrap_err() {
        PluginError::Panicked(text) => text,
        other => panic!("{other:?}"),
    };
    assert_eq!(panicked("panic"), "told to panic on attempt 3");
    assert_eq!(panicked("panic later"), "told to panic later");
    assert_eq!(panicked("panic oddly"), "its payload is no text");
    let error = handle(&library, order("err")).unwrap_err();
    assert!(matches!(error, PluginError::InvalidData(text) if text == "told to fail"));
    assert_eq!(handle(&library, order("measure")).unwrap(), ProcessingStatus::Acknowledged);
}

#[test]
fn a_handler_that_panics_when_it_is_cut_off_does_no_harm() {
    let (library, probe) = load(misbehave());
    let plugin = library.plugin();
    let topic = Topic::new("plugin.misbehave.do").unwrap();
    let handling = library
        .runtime()
        .spawn(async move { plugin.process_message(&topic, &order("wait with a fuse")).await });
    wait(async {
        probe.next("waiting").await;
        handling.abort();
        assert!(handling.await.unwrap_err().is_cancelled());
    });
    assert_eq!(handle(&library, order("measure")).unwrap(), ProcessingStatus::Acknowledged);
    let report = library.unload();
    assert!(report.to_string().ends_with("is unloaded"), "{report}");
}

#[test]
fn a_plugin_that_panics_when_it_is_dropped_is_unloaded_all_the_same() {
    let (library, _) = load_with(misbehave(), json!({ "create": "drop" })).unwrap();
    let report = library.unload();
    let said = report.panic.as_deref().unwrap_or_default();
    assert!(said.contains("it does not want to go"), "{report:?}");
    assert!(report.to_string().ends_with("is unloaded"), "{report}");
}
