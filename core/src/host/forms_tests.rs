//! Two versions of a plugin, whose states have different forms, on the same stored states.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use echo_bus::state::Document;
use echo_sdk::{
    BaseMessage, Manifest, Pattern, Plugin, PluginContext, PluginError, ProcessingStatus,
    StateError, Topic,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::Host;
use crate::config::{Config, DurableSync};
use crate::state::Forms;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// What a version's way between the forms is like.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Whole,
    /// What comes down is another.
    Loses,
    Fails,
    Panics,
}

/// Adds up: a number in form 1, `{"n": number}` in form 2.
struct Adding {
    context: PluginContext,
    form: u32,
    way: Way,
    /// Steps that were asked for.
    steps: Arc<AtomicU64>,
}

impl Adding {
    async fn number(&self, name: &str) -> Result<Option<i64>, PluginError> {
        let state = self.context.state();
        if self.form == 1 {
            return Ok(state.get::<i64>(name).await?);
        }
        let value = state.get::<BTreeMap<String, i64>>(name).await?;
        Ok(value.map(|value| value["n"]))
    }

    async fn set(&self, name: &str, number: i64) -> Result<(), StateError> {
        let state = self.context.state();
        match self.form {
            1 => state.set(name, &number).await,
            _ => state.set(name, &json!({ "n": number })).await,
        }
    }

    fn step(&self) -> Result<(), PluginError> {
        self.steps.fetch_add(1, Ordering::Relaxed);
        match self.way {
            Way::Fails => Err(PluginError::InvalidData("no way".into())),
            Way::Panics => panic!("out of the way"),
            Way::Whole | Way::Loses => Ok(()),
        }
    }
}

/// The entries that there are.
type Sums = BTreeMap<String, i64>;

/// Adds so much to an entry, or removes it.
type Step = (usize, Option<i64>);

impl Plugin for Adding {
    fn name(&self) -> &str {
        "adding"
    }

    async fn process_message(
        &self,
        _: &Topic,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        if message.data()?.is_null() {
            // It does not care whether there is a state.
            let _ = self.context.state().get::<Value>("a").await;
            return Ok(ProcessingStatus::Acknowledged);
        }
        for (name, by) in message.json::<Vec<Step>>()? {
            let name = NAMES[name];
            match by {
                Some(by) => {
                    let number = self.number(name).await?.unwrap_or_default();
                    self.set(name, number + by).await?;
                }
                None => self.context.state().delete(name).await?,
            }
        }
        let mut all = BTreeMap::new();
        for name in NAMES {
            if let Some(number) = self.number(name).await? {
                all.insert(name, number);
            }
        }
        self.context.reply(message, &all).await?;
        Ok(ProcessingStatus::Acknowledged)
    }

    fn state_schema(&self) -> u32 {
        self.form
    }

    fn state_up(&self, _: Option<&str>, from: u32, data: Value) -> Result<Value, PluginError> {
        assert_eq!(from, 1);
        self.step()?;
        Ok(json!({ "n": data }))
    }

    fn state_down(&self, _: Option<&str>, to: u32, mut data: Value) -> Result<Value, PluginError> {
        assert_eq!(to, 1);
        self.step()?;
        Ok(if self.way == Way::Loses { json!(0) } else { data["n"].take() })
    }
}

/// A host with one version of the plugin.
struct Bed {
    host: Host,
    forms: Arc<Forms>,
    /// Steps from one form to another that the plugin was asked for.
    steps: Arc<AtomicU64>,
}

impl Bed {
    /// One whose states are in this folder.
    async fn at(dir: &Path, form: u32, way: Way) -> Self {
        let mut config = Config::default();
        config.bus.durable.topics = vec![Pattern::new("add").unwrap()];
        config.bus.durable.dir = dir.to_owned();
        config.bus.durable.sync = DurableSync::Never;
        config.bus.durable.segment_size = 1 << 20;
        config.bus.durable.remember_ids = 1 << 8;
        config.shutdown.timeout = Duration::from_secs(1);
        config.delivery.retry_base_delay = Duration::from_millis(1);
        config.delivery.retry_max_delay = Duration::from_millis(5);
        let manifest = json!({
            "name": "adding", "version": format!("{form}.0.0"), "description": "adds up", "state": "keyed",
            "subscriptions": ["add"], "worker_pool": {"min_workers": 1, "max_workers": 1, "max_attempts": 3},
        });
        let steps = Arc::new(AtomicU64::default());
        let counted = Arc::clone(&steps);
        let make = move |context| {
            let steps = Arc::clone(&counted);
            Ok(Adding { context, form, way, steps })
        };
        let manifest = Manifest::from_json(&manifest.to_string()).unwrap();
        let host = Host::builder().config(config).plugin(manifest, make).start().await.unwrap();
        let forms = Arc::clone(&host.shared.managed("adding").unwrap().current().slot.forms);
        Self { host, forms, steps }
    }

    /// Has the state of a key changed, and says what it is then.
    async fn ask(&self, key: &str, steps: &[Step]) -> Sums {
        let client = self.host.client("test");
        let message = client.message_builder().data(&steps).key(key).build().unwrap();
        let answer = client.request("add", message, Duration::from_secs(60)).await.unwrap();
        answer.json().unwrap()
    }

    /// Publishes without waiting for what becomes of it.
    async fn tell(&self, key: &str, data: Value) {
        let client = self.host.client("test");
        let message = client.message_builder().data(&data).key(key).build().unwrap();
        client.publish("add", message).await.unwrap();
    }

    async fn document(&self, key: &str) -> Document {
        self.host.transport().states("adding").load(Some(key)).await.unwrap()
    }

    /// The entries of a key as they are stored.
    async fn stored(&self, key: &str) -> Value {
        let document = self.document(key).await;
        let entry = |(name, json): (&str, &Arc<[u8]>)| {
            (name.to_owned(), serde_json::from_slice(json).unwrap())
        };
        Value::Object(document.entries.iter().map(entry).collect())
    }

    fn steps(&self) -> u64 {
        self.steps.swap(0, Ordering::Relaxed)
    }

    async fn sweep(&self) -> Result<u64, PluginError> {
        self.forms.sweep(&*self.host.transport().states("adding")).await
    }

    async fn check(&self, limit: usize) -> Result<usize, PluginError> {
        self.forms.check(&*self.host.transport().states("adding"), limit).await
    }

    async fn end(self) {
        assert!(self.host.shutdown().await.is_clean());
    }
}

#[tokio::test]
async fn entries_of_an_earlier_form_are_taken_up_as_they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let first = Bed::at(dir.path(), 1, Way::Whole).await;
    first.ask("k", &[(0, Some(3)), (1, Some(4))]).await;
    assert_eq!(first.stored("k").await, json!({"a": 3, "b": 4}));
    assert_eq!(first.steps(), 0, "forms that are equal cost nothing");
    first.end().await;

    let second = Bed::at(dir.path(), 2, Way::Whole).await;
    assert_eq!(second.check(1_000).await.unwrap(), 1);
    assert_eq!(second.steps(), 4, "two entries up and down");
    assert_eq!(second.ask("k", &[]).await, sums(&[("a", 3), ("b", 4)]));
    assert_eq!(second.stored("k").await, json!({"a": 3, "b": 4}), "it was only read");
    assert_eq!(second.steps(), 2);
    second.ask("k", &[(0, Some(1)), (1, None)]).await;
    assert_eq!(second.stored("k").await, json!({"": 2, "a": {"n": 4}}));
    assert_eq!(second.steps(), 2);
    assert_eq!(second.ask("k", &[(2, Some(1))]).await, sums(&[("a", 4), ("c", 1)]));
    assert_eq!(second.steps(), 0, "it has the version's own form by now");
    second.ask("k", &[(0, None), (2, None)]).await;
    assert_eq!(second.stored("k").await, json!({}), "nothing is left of it");
    second.end().await;
}

#[tokio::test]
async fn what_did_not_change_keeps_its_bytes_in_the_stored_form() {
    let dir = tempfile::tempdir().unwrap();
    let first = Bed::at(dir.path(), 1, Way::Whole).await;
    first.ask("k", &[(0, Some(3)), (1, Some(4)), (2, Some(5))]).await;
    first.end().await;

    let second = Bed::at(dir.path(), 2, Way::Whole).await;
    second.forms.store_in(1);
    let sum = second.ask("k", &[(0, Some(1)), (2, None)]).await;
    assert_eq!(sum, sums(&[("a", 4), ("b", 4)]));
    assert_eq!(second.stored("k").await, json!({"a": 4, "b": 4}));
    assert_eq!(second.steps(), 3 + 1, "all up, and down what changed");
    second.ask("new", &[(0, Some(1))]).await;
    assert_eq!(second.stored("new").await, json!({"a": 1}));
    second.end().await;
}

#[tokio::test]
async fn documents_of_a_later_form_than_the_stored_one_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let second = Bed::at(dir.path(), 2, Way::Whole).await;
    let keys: Vec<String> = (0..150).map(|n| format!("k{n}")).collect();
    for key in &keys {
        second.ask(key, &[(0, Some(7)), (1, Some(8))]).await;
    }
    second.forms.store_in(1);
    second.ask("k0", &[(0, Some(1))]).await;
    assert_eq!(second.stored("k0").await, json!({"a": 8, "b": 8}), "as a whole");
    assert_eq!(second.sweep().await.unwrap(), 149);
    assert_eq!(second.sweep().await.unwrap(), 0);
    for key in &keys[1..] {
        assert_eq!(second.stored(key).await, json!({"a": 7, "b": 8}));
    }
    second.forms.store_own();
    second.ask("k1", &[(0, Some(1))]).await;
    assert_eq!(second.stored("k1").await, json!({"": 2, "a": {"n": 8}, "b": {"n": 8}}));
    second.end().await;
}

#[tokio::test]
async fn a_state_of_a_later_form_is_not_touched_and_its_message_stays() {
    let dir = tempfile::tempdir().unwrap();
    let second = Bed::at(dir.path(), 2, Way::Whole).await;
    second.ask("k", &[(0, Some(3))]).await;
    second.ask("careless", &[(0, Some(3))]).await;
    second.end().await;

    let first = Bed::at(dir.path(), 1, Way::Whole).await;
    let error = first.check(1_000).await.unwrap_err().to_string();
    assert!(error.contains("form 2"), "{error}");
    first.tell("k", json!([[0, 4]])).await;
    first.tell("careless", Value::Null).await;
    // Past the three attempts that each has.
    let metrics = || first.host.plugin("adding").unwrap().metrics;
    while metrics().retried < 20 {
        first.ask("other", &[]).await;
    }
    assert_eq!(metrics().dead, 0);
    assert_eq!(first.stored("k").await, json!({"": 2, "a": {"n": 3}}));
    first.host.shutdown().await;

    // Another host cannot tell such a message from one whose workers died of it: it is not lost, nor handled again.
    let second = Bed::at(dir.path(), 2, Way::Whole).await;
    assert_eq!(second.ask("k", &[]).await, sums(&[("a", 3)]));
    let metrics = || second.host.plugin("adding").unwrap().metrics;
    let all_buried = async {
        while metrics().dead < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all_buried).await.unwrap();
    assert_eq!(second.host.dead_letters().0.len(), 2);
    second.end().await;
}

#[tokio::test]
async fn a_way_that_fails_is_the_handlers_failure() {
    for (way, word) in [(Way::Fails, "no way"), (Way::Panics, "out of the way")] {
        let dir = tempfile::tempdir().unwrap();
        let first = Bed::at(dir.path(), 1, Way::Whole).await;
        first.ask("up", &[(0, Some(3))]).await;
        first.end().await;

        let second = Bed::at(dir.path(), 2, way).await;
        let error = second.check(1_000).await.unwrap_err().to_string();
        assert!(error.contains("`up`") && error.contains(word), "{error}");
        second.forms.store_in(1);
        second.tell("up", json!([[0, 4]])).await;
        second.tell("up", Value::Null).await;
        second.tell("down", json!([[0, 4]])).await;
        second.host.shared.managed("adding").unwrap().idle().await;
        let (letters, _) = second.host.dead_letters();
        assert_eq!(letters.len(), 3);
        for letter in letters {
            assert_eq!(letter.attempts, 3);
            assert!(letter.reason.contains("`a`"), "{}", letter.reason);
            assert!(letter.reason.contains(word), "{}", letter.reason);
        }
        assert_eq!(second.stored("up").await, json!({"a": 3}));
        assert_eq!(second.stored("down").await, json!({}));
        second.end().await;
    }
}

#[tokio::test]
async fn a_way_that_loses_something_is_found_out_before() {
    let dir = tempfile::tempdir().unwrap();
    let first = Bed::at(dir.path(), 1, Way::Whole).await;
    first.ask("k1", &[(0, Some(0))]).await;
    first.ask("k2", &[(1, Some(3))]).await;
    first.end().await;
    let second = Bed::at(dir.path(), 2, Way::Loses).await;
    assert_eq!(second.check(1).await.unwrap(), 1, "where there was nothing to lose");
    let error = second.check(2).await.unwrap_err().to_string();
    assert!(error.contains("`k2`") && error.contains("`b`"), "{error}");
    assert_eq!(second.stored("k2").await, json!({"b": 3}));
    second.end().await;
}

fn sums(sums: &[(&str, i64)]) -> Sums {
    sums.iter().map(|(name, sum)| ((*name).to_owned(), *sum)).collect()
}

/// What happens to a host and its states.
#[derive(Debug, Clone)]
enum Event {
    Handle(usize, Vec<Step>),
    StoreIn(u32),
    Restart(u32),
}

fn event() -> impl Strategy<Value = Event> {
    let step = (0..NAMES.len(), proptest::option::weighted(0.8, -9i64..9));
    let handled = (0..3usize, proptest::collection::vec(step, 0..5));
    prop_oneof![
        8 => handled.prop_map(|(key, steps)| Event::Handle(key, steps)),
        1 => (1..=2u32).prop_map(Event::StoreIn),
        1 => (1..=2u32).prop_map(Event::Restart),
    ]
}

/// Runs the events on hosts with the second version, and with the first one where the states can be brought down to it.
async fn play(events: Vec<Event>) {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = [Sums::new(), Sums::new(), Sums::new()];
    let mut bed = Bed::at(dir.path(), 1, Way::Whole).await;
    for event in events {
        match event {
            Event::Handle(key, steps) => {
                for (name, by) in &steps {
                    match by {
                        Some(by) => *expected[key].entry(NAMES[*name].into()).or_default() += by,
                        None => drop(expected[key].remove(NAMES[*name])),
                    }
                }
                assert_eq!(bed.ask(&format!("k{key}"), &steps).await, expected[key]);
            }
            Event::StoreIn(form) => bed.forms.store_in(form),
            Event::Restart(form) => bed = bed.followed_by(dir.path(), form).await,
        }
    }
    let first = bed.followed_by(dir.path(), 1).await;
    for (key, expected) in expected.iter().enumerate() {
        let key = format!("k{key}");
        assert_eq!(&first.ask(&key, &[]).await, expected);
        assert_eq!(first.stored(&key).await, json!(expected), "as the first version writes it");
    }
    first.end().await;
}

impl Bed {
    /// Another version, which has the states of this one in its own form.
    async fn followed_by(self, dir: &Path, form: u32) -> Self {
        self.forms.store_in(form);
        self.sweep().await.unwrap();
        self.end().await;
        Self::at(dir, form, Way::Whole).await
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn versions_follow_each_other_and_each_finds_its_own_form(
        events in proptest::collection::vec(event(), 0..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(events));
    }
}
