//! Managed state: what a handler sets takes effect with its acknowledgement, or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use echo_bus::Transport;
use echo_bus::state::{Change, CommitError, Document, States};
use echo_core::Host;
use echo_sdk::{Manifest, PluginError, ProcessingStatus, StateError, StateKind};
use serde_json::{Value, json};
use tokio::sync::{Barrier, mpsc};

use super::bed::{next, to};
use super::{Bed, keyed, message, take, take_all, topic};
use crate::scripted::{Answer, WithHandler, handler, manifest, workers};

/// The manifest of a plugin with state.
fn stateful(kind: StateKind, patterns: &[&str], pool: Value) -> Manifest {
    Manifest { state: kind, ..manifest("counter", patterns, pool) }
}

async fn count(context: &echo_sdk::PluginContext) -> Result<u64, PluginError> {
    let count = context.state().get::<u64>("count").await?.unwrap_or_default() + 1;
    context.state().set("count", &count).await?;
    Ok(count)
}

/// What an entry of a slot's state is by now.
pub(super) async fn entry(bus: &dyn Transport, key: Option<&str>, name: &str) -> Option<Value> {
    let document = bus.states("counter").load(key).await.unwrap();
    document.entries.get(name).map(|json| serde_json::from_slice(json).unwrap())
}

async fn publish(host: &Host, key: Option<&str>, data: Value) {
    let client = host.client("test");
    let builder = client.message_builder().data(&data);
    let message = key.into_iter().fold(builder, |builder, key| builder.key(key)).build().unwrap();
    client.publish("in", message).await.unwrap();
}

/// What a handler sets is committed with `Acknowledged` and with `Forward`, along with what it published; it reads
/// back what it set itself before, and what earlier messages of its key set.
pub async fn what_is_set_is_committed_with_the_acknowledgement(bed: Bed) {
    let counting = handler(|context, _, message| async move {
        let state = context.state();
        let count = count(&context).await?;
        assert_eq!(state.get::<u64>("count").await?, Some(count), "it reads its own writes");
        state.set_json("raw", b"[1, 2]").await?;
        assert_eq!(state.get_json("raw").await?.as_deref(), Some(&b"[1, 2]"[..]));
        state.delete("raw").await?;
        assert_eq!(state.get_json("raw").await?, None);
        context.publish_data("out", &count).await?;
        Ok(match count {
            2 => ProcessingStatus::Forward(topic("away"), message),
            _ => ProcessingStatus::Acknowledged,
        })
    });
    let manifest = stateful(StateKind::Keyed, &["in"], workers(2));
    let host = bed.host().with(manifest, counting).start().await.unwrap();
    let mut out = bed.subscribe("out").await;
    for expected in 1..=3 {
        publish(&host, Some("k"), json!(0)).await;
        assert_eq!(next(&mut out).await.message.json::<u64>().unwrap(), expected);
    }
    assert!(host.shutdown().await.is_clean());
    assert_eq!(entry(&*bed.bus, Some("k"), "count").await, Some(json!(3)));
    assert_eq!(entry(&*bed.bus, Some("k"), "raw").await, None);
}

/// What was set is dropped where the handler answers `RetryLater` or `Failed`, returns an error, panics, or is past its
/// deadline: the next attempt finds the state as it was.
pub async fn what_is_set_is_dropped_on_any_other_answer(bed: Bed) {
    let (seen_by, mut seen) = mpsc::unbounded_channel();
    let failing = handler(move |context, _, message| {
        let seen_by = seen_by.clone();
        async move {
            let count = count(&context).await?;
            let (what, attempt) = (message.json::<String>()?, message.attempt());
            seen_by.send((what.clone(), attempt, count)).unwrap();
            match what.as_str() {
                _ if attempt > 1 => Ok(ProcessingStatus::Acknowledged),
                "retry" => Ok(ProcessingStatus::RetryLater(Duration::from_millis(5))),
                "failed" => Ok(ProcessingStatus::Failed("given up".into())),
                "error" => Err(PluginError::ProcessingError("no luck".into())),
                "panic" => panic!("out of luck"),
                _ => std::future::pending::<Answer>().await,
            }
        }
    });
    let mut pool = workers(1);
    pool["deadline"] = json!("50ms");
    let manifest = stateful(StateKind::Keyed, &["in"], pool);
    let host = bed.host().with(manifest, failing).start().await.unwrap();
    for what in ["retry", "failed", "error", "panic", "deadline"] {
        publish(&host, Some(what), json!(what)).await;
        let attempts: u16 = if what == "failed" { 1 } else { 2 };
        for attempt in 1..=attempts {
            assert_eq!(seen.recv().await.unwrap(), (what.to_owned(), attempt, 1));
        }
    }
    assert!(host.shutdown().await.is_clean());
    assert_eq!(entry(&*bed.bus, Some("failed"), "count").await, None);
    for what in ["retry", "error", "panic", "deadline"] {
        assert_eq!(entry(&*bed.bus, Some(what), "count").await, Some(json!(1)), "{what}");
    }
}

/// Each key of each slot has a state of its own; a message without a key has one where the manifest shares one, and an
/// error where it does not; and without a word in the manifest nobody has any.
pub async fn each_key_of_each_slot_has_a_state_of_its_own(bed: Bed) {
    let (seen_by, mut seen) = mpsc::unbounded_channel();
    let telling = |slot: &'static str| {
        let seen_by = seen_by.clone();
        handler(move |context, _, message| {
            let seen_by = seen_by.clone();
            async move {
                let counted = match count(&context).await {
                    Ok(count) => Ok(count),
                    Err(PluginError::State(error)) => Err(error),
                    Err(other) => return Err(other),
                };
                let key = message.key().unwrap_or("-").to_owned();
                seen_by.send((slot, key, counted)).unwrap();
                Ok(ProcessingStatus::Acknowledged)
            }
        })
    };
    let named = |name: &str, kind| Manifest { state: kind, ..manifest(name, &["in"], workers(1)) };
    let host = bed
        .host()
        .with(named("keyed", StateKind::Keyed), telling("keyed"))
        .with(named("shared", StateKind::Shared), telling("shared"))
        .with(named("none", StateKind::None), telling("none"));
    let host = host.start().await.unwrap();
    let mut all = Vec::new();
    for key in [Some("a"), Some("b"), Some("a"), None, None] {
        publish(&host, key, json!(0)).await;
        for _ in 0..3 {
            all.push(seen.recv().await.unwrap());
        }
    }
    let of = |slot: &str| {
        let own = all.iter().filter(|it| it.0 == slot);
        own.map(|(_, key, counted)| (key.as_str(), counted.clone())).collect::<Vec<_>>()
    };
    let counted = [("a", Ok(1)), ("b", Ok(1)), ("a", Ok(2))];
    let keyless = Err(StateError::NoKey);
    assert_eq!(of("keyed")[..3], counted);
    assert_eq!(of("keyed")[3..], [("-", keyless.clone()), ("-", keyless)]);
    assert_eq!(of("shared")[..3], counted);
    assert_eq!(of("shared")[3..], [("-", Ok(1)), ("-", Ok(2))]);
    assert!(of("none").iter().all(|(_, counted)| *counted == Err(StateError::NotDeclared)));
    // Where no handler is at work there is none.
    let nowhere = host.client("test").state().get::<u64>("count").await;
    assert_eq!(nowhere, Err(StateError::NoMessage));
    assert!(host.shutdown().await.is_clean());
}

/// Where two handlings of one state overlap, the first to be acknowledged wins; the other runs again, its publishes
/// and changes dropped, and its attempt does not count.
pub async fn who_was_quicker_wins_and_the_other_runs_again(bed: Bed) {
    let (runs, meeting) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(2)));
    let counted = Arc::clone(&runs);
    let racing = handler(move |context, _, message| {
        let (runs, meeting) = (Arc::clone(&counted), Arc::clone(&meeting));
        async move {
            let count = count(&context).await?;
            assert_eq!(message.attempt(), 1);
            // The first two have read the same state, whatever comes.
            if runs.fetch_add(1, Ordering::SeqCst) < 2 {
                meeting.wait().await;
            }
            context.publish_data("out", &count).await?;
            Ok(ProcessingStatus::Acknowledged)
        }
    });
    let manifest = stateful(StateKind::Shared, &["in"], workers(2));
    let host = bed.host().with(manifest, racing).start().await.unwrap();
    let mut out = bed.subscribe("out").await;
    for _ in 0..2 {
        publish(&host, None, json!(0)).await;
    }
    let mut outs = [0, 0];
    for out_of in &mut outs {
        *out_of = next(&mut out).await.message.json::<u64>().unwrap();
    }
    assert_eq!(outs, [1, 2]);
    assert!(bed.never(out.next()).await, "an effect of the one who lost");
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    assert!(host.shutdown().await.is_clean());
    assert_eq!(entry(&*bed.bus, None, "count").await, Some(json!(2)));
}

/// A document that changes by a commit, as a handler would make it.
pub(super) fn change(base: Document, value: u64) -> Change {
    let mut entries = base.entries.clone();
    entries.set("count", Some(value.to_string().into_bytes().into())).unwrap();
    Change { base, entries }
}

/// A commit with state publishes, changes and settles; one on a state that is not the latest does nothing of it, and
/// leaves the message in hand.
pub async fn a_commit_on_what_is_not_the_latest_does_nothing(bed: Bed) {
    let slot = bed.slot("counter", &["in"], 10).await;
    let told = bed.slot("told", &["out"], 10).await;
    let states = bed.bus.states("counter");
    let mut receiver = slot.receiver();
    let nothing = states.load(None).await.unwrap();
    bed.publish("in", message(1)).await;
    take(&mut receiver).await;
    let effects = vec![to("out", message(10))];
    receiver.commit_state(effects, change(nothing.clone(), 1)).await.unwrap();
    assert!(receiver.current().is_none(), "it is settled");
    assert_eq!(take_all(&mut told.receiver(), 1).await, [10]);
    bed.publish("in", message(2)).await;
    take(&mut receiver).await;
    let effects = vec![to("out", message(20))];
    let refused = receiver.commit_state(effects, change(nothing, 2)).await.unwrap_err();
    assert!(matches!(refused, CommitError::Conflict), "{refused}");
    assert!(receiver.current().is_some(), "it is in hand");
    assert!(bed.never(take(&mut told.receiver())).await);
    let latest = states.load(None).await.unwrap();
    receiver.commit_state(vec![to("out", message(21))], change(latest, 2)).await.unwrap();
    assert_eq!(take_all(&mut told.receiver(), 1).await, [21]);
    assert_eq!(entry(&*bed.bus, None, "count").await, Some(json!(2)));
    receiver.flush();
    slot.idle().await;
}

/// Every page of the keys that have a document, each of at most so many.
async fn all_keys(states: &dyn States, limit: usize) -> Vec<Option<String>> {
    let mut all = Vec::new();
    loop {
        let page = states.keys(all.last(), limit).await.unwrap();
        assert!(page.len() <= limit, "{page:?}");
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// Each key of a slot that has a document is listed once, in order, page by page; those of other slots are not.
pub async fn each_key_that_has_a_document_is_listed_once(bed: Bed) {
    let states = bed.bus.states("counter");
    assert!(all_keys(&*states, 3).await.is_empty());
    let keys = [None, Some(""), Some("a"), Some("a.b"), Some("a/b"), Some("k-1"), Some("ü =")];
    for slot in ["counter", "counter.a", "count"] {
        let states = bed.bus.states(slot);
        for (key, own) in keys.iter().rev().zip(1..) {
            let key = if slot == "counter" { *key } else { Some("other") };
            let base = states.load(key).await.unwrap();
            states.put(key, change(base, own)).await.unwrap();
        }
    }
    let expected = keys.map(|key| key.map(str::to_owned));
    for limit in [1, 3, 7, 100] {
        assert_eq!(all_keys(&*states, limit).await, expected, "{limit} at once");
    }
    assert_eq!(all_keys(&*bed.bus.states("count"), 2).await, [Some("other".to_owned())]);
}

/// A document is put without a message in hand, unless it is no longer as it was read; what a handler read before it
/// is a conflict then.
pub async fn a_document_is_put_without_a_message_unless_it_changed(bed: Bed) {
    let states = bed.bus.states("counter");
    let slot = bed.slot("counter", &["in"], 10).await;
    let mut receiver = slot.receiver();
    for key in [None, Some("k")] {
        let nothing = states.load(key).await.unwrap();
        states.put(key, change(nothing.clone(), 1)).await.unwrap();
        let refused = states.put(key, change(nothing, 2)).await.unwrap_err();
        assert!(matches!(refused, CommitError::Conflict), "{refused}");
        assert_eq!(entry(&*bed.bus, key, "count").await, Some(json!(1)));
        let first = states.load(key).await.unwrap();
        bed.publish("in", key.map_or_else(|| message(1), |key| keyed(key, 1))).await;
        take(&mut receiver).await;
        states.put(key, change(first.clone(), 3)).await.unwrap();
        let refused = receiver.commit_state(Vec::new(), change(first, 4)).await.unwrap_err();
        assert!(matches!(refused, CommitError::Conflict), "{refused}");
        let latest = states.load(key).await.unwrap();
        receiver.commit_state(Vec::new(), change(latest.clone(), 5)).await.unwrap();
        let refused = states.put(key, change(latest, 6)).await.unwrap_err();
        assert!(matches!(refused, CommitError::Conflict), "{refused}");
        // What its document has taken in stays so, and the key's next message finds what was put.
        let latest = states.load(key).await.unwrap();
        states.put(key, change(latest.clone(), 7)).await.unwrap();
        let put = states.load(key).await.unwrap();
        assert_eq!((&put.taken, &put.done), (&latest.taken, &latest.done));
        assert_eq!(entry(&*bed.bus, key, "count").await, Some(json!(7)));
    }
}

/// A state that would become too large is an error of its handler's, which may do something else.
pub async fn a_state_that_is_too_large_is_refused(bed: Bed) {
    let (seen_by, mut seen) = mpsc::unbounded_channel();
    let filling = handler(move |context, _, _| {
        let seen_by = seen_by.clone();
        async move {
            let text = "x".repeat(100_000);
            let mut set = Vec::new();
            for name in ["a", "b", "c"] {
                set.push(context.state().set(name, &text).await);
            }
            seen_by.send(set).unwrap();
            Ok(ProcessingStatus::Acknowledged)
        }
    });
    let manifest = stateful(StateKind::Keyed, &["in"], workers(1));
    let host = bed.host().with(manifest, filling).start().await.unwrap();
    publish(&host, Some("k"), json!(0)).await;
    let set = seen.recv().await.unwrap();
    assert!(set[0].is_ok() && set[1].is_ok());
    assert!(matches!(set[2], Err(StateError::TooLarge { len: 300_009, .. })), "{:?}", set[2]);
    assert!(host.shutdown().await.is_clean());
    assert!(entry(&*bed.bus, Some("k"), "b").await.is_some());
    assert!(entry(&*bed.bus, Some("k"), "c").await.is_none());
}
