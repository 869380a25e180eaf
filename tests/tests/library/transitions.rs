//! A version of a plugin takes another's place while messages flow.

use std::path::PathBuf;
use std::time::Duration;

use echo_core::{Config, Host, HostError};
use echo_sdk::contract::dead::DeadLetter;
use echo_sdk::contract::transition::{TransitionEvent, TransitionStep};
use echo_sdk::{Pattern, Subscription, Topic, TransitionSettings, TransitionStrategy};
use echo_tests::until;
use serde_json::json;

use crate::kit::{Copy, mapped, misbehave, replace};
use crate::records::version;

fn settings(strategy: TransitionStrategy, trial: Duration) -> TransitionSettings {
    let (strategy, trial) = (Some(strategy), Some(trial));
    let interval = trial;
    TransitionSettings { strategy, trial, interval, ..TransitionSettings::default() }
}

/// Where a host finds its plugins and keeps its state.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.enabled()).unwrap();
        place
    }

    fn enabled(&self) -> PathBuf {
        self.0.path().join("enabled")
    }

    /// Starts a host with what is enabled.
    async fn host(&self) -> Host {
        self.host_with(Config::default()).await
    }

    /// The same, configured otherwise.
    async fn host_with(&self, mut config: Config) -> Host {
        config.plugins.dir = self.enabled();
        config.plugins.transition.trial = Some(Duration::from_millis(1));
        config.gateway.state_dir = Some(self.0.path().join("state"));
        Host::builder().config(config).enabled_dir(self.enabled()).start().await.unwrap()
    }
}

async fn steps(told: &mut Subscription) -> (Vec<TransitionStep>, TransitionEvent) {
    let mut steps = Vec::new();
    loop {
        let event: TransitionEvent = told.next().await.unwrap().message.json().unwrap();
        steps.push(event.step);
        if event.step.is_last() {
            return (steps, event);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_change_there_and_back_under_traffic() {
    const MESSAGES: u64 = 20_000;
    let versions = [version("ech5", "0.1.0"), version("ech5", "0.2.0")];
    let place = Place::new();
    let host = place.host().await;
    host.load(&versions[0].path()).await.unwrap();
    let client = host.client("test");
    let mut said = host.watch(&Pattern::new("plugin.echo.said").unwrap(), 100_000).await.unwrap();
    let publisher = tokio::spawn(async move {
        for number in 0..MESSAGES {
            client.publish_data("plugin.echo.say", &json!({"text": number})).await.unwrap();
            if number % 100 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    let strategies = [
        TransitionStrategy::Immediate,
        TransitionStrategy::Graceful,
        TransitionStrategy::Gradual,
        TransitionStrategy::BlueGreen,
    ];
    for (round, strategy) in strategies.into_iter().cycle().take(24).enumerate() {
        let next = &versions[(round + 1) % 2];
        let settings = settings(strategy, Duration::from_millis(1));
        let last = host.transition("ech5", &next.path(), settings).await.unwrap();
        assert_eq!(last.step, TransitionStep::Committed, "{last:?}");
        assert_eq!(last.reason, None);
    }
    publisher.await.unwrap();
    let mut numbers = Vec::new();
    for _ in 0..MESSAGES {
        numbers.push(said.next().await.unwrap().message.data().unwrap()["text"].as_u64().unwrap());
    }
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..MESSAGES), "each message was handled once");
    assert_eq!(host.plugin("ech5").unwrap().version, "0.1.0");
    assert_eq!(mapped("ech5").iter().filter(|line| line.contains("r-xp")).count(), 1);
    assert!(host.shutdown().await.is_clean());
    assert_eq!(mapped("ech5"), [""; 0]);
}

#[tokio::test]
async fn whoever_wants_the_version_before_has_it_back() {
    let (old, new) = (version("ech6", "0.1.0"), version("ech6", "0.2.0"));
    let place = Place::new();
    let host = place.host().await;
    host.load(&old.path()).await.unwrap();
    let mut told =
        host.watch(&Pattern::new("system.plugin.transition.>").unwrap(), 100).await.unwrap();
    let long = settings(TransitionStrategy::Graceful, Duration::from_secs(3600));
    let begun = host.begin_transition("ech6", Some(new.path()), long.clone(), false).unwrap();
    assert!(!begun.queued);
    for step in [TransitionStep::Started, TransitionStep::Prepared, TransitionStep::Cut] {
        let event: TransitionEvent = told.next().await.unwrap().message.json().unwrap();
        assert_eq!((event.step, event.id), (step, begun.id));
    }
    // Nobody else changes the plugin meanwhile.
    for refused in [
        host.pause("ech6").await.unwrap_err(),
        host.unload("ech6", false).await.unwrap_err(),
        host.begin_transition("ech6", None, long.clone(), false).unwrap_err(),
    ] {
        assert!(matches!(refused, HostError::Changing(_)), "{refused}");
    }
    let queued = host.begin_transition("ech6", Some(old.path()), long, true).unwrap();
    assert!(queued.queued);
    assert_eq!(host.rollback("ech6").unwrap(), begun.id);
    let (steps_left, last) = steps(&mut told).await;
    assert_eq!(steps_left, [TransitionStep::RollingBack, TransitionStep::RolledBack]);
    assert_eq!(last.reason.as_deref(), Some("somebody wants the version before"));
    assert_eq!((last.from.as_str(), last.to.as_deref()), ("0.1.0", Some("0.2.0")));
    assert_eq!(host.plugin("ech6").unwrap().version, "0.1.0");
    let client = host.client("test");
    let message = client.message_builder().data(&json!({"text": "hi"})).build().unwrap();
    let answer = client.request("plugin.echo.say", message, Duration::from_secs(10)).await.unwrap();
    assert_eq!(answer.data().unwrap()["text"], "hi");
    // The one that waited was told to end as well, and does as soon as it comes to its turn.
    let last = queued.ended().await.unwrap();
    assert_eq!(last.step, TransitionStep::RolledBack, "{last:?}");
    let none = host.rollback("ech6").unwrap_err();
    assert!(matches!(none, HostError::NothingBefore(_)), "{none}");
    assert!(host.shutdown().await.is_clean());
}

#[tokio::test]
async fn what_cannot_take_the_place_is_refused_and_nothing_changes() {
    let (old, other) = (version("ech7", "0.1.0"), version("ech8", "0.1.0"));
    let place = Place::new();
    let host = place.host().await;
    host.load(&old.path()).await.unwrap();
    let brief = settings(TransitionStrategy::Immediate, Duration::ZERO);
    for (library, word) in [
        (other.path(), "the library is of plugin `ech8`, which cannot take the place of `ech7`"),
        ("/no/such/library.so".into(), "/no/such/library.so"),
    ] {
        let last = host.transition("ech7", &library, brief.clone()).await.unwrap();
        assert_eq!(last.step, TransitionStep::Refused);
        assert!(last.reason.as_deref().unwrap().contains(word), "{last:?}");
    }
    let faulty = TransitionSettings { steps: Some(vec![7]), ..brief.clone() };
    let faulty = host.transition("ech7", &old.path(), faulty).await.unwrap_err();
    assert!(faulty.to_string().contains("`steps`"), "{faulty}");
    let nobody = host.transition("nobody", &old.path(), brief).await.unwrap_err();
    assert!(matches!(nobody, HostError::NoSuchPlugin(_)));
    assert_eq!(host.plugins().len(), 1);
    assert!(mapped("ech8").is_empty());
    assert!(host.shutdown().await.is_clean());
}

#[tokio::test]
async fn nothing_dies_of_a_version_on_trial() {
    let (old, new) = (version("ech9", "0.1.0"), version("ech9", "0.2.0"));
    let place = Place::new();
    let host = place.host().await;
    host.load(&old.path()).await.unwrap();
    let pattern = |text: &str| Pattern::new(text).unwrap();
    let mut told = host.watch(&pattern("system.plugin.transition.>"), 100).await.unwrap();
    let mut dead = host.watch(&pattern("dead.ech9.>"), 100).await.unwrap();
    let long = settings(TransitionStrategy::Graceful, Duration::from_secs(3600));
    host.begin_transition("ech9", Some(new.path()), long, false).unwrap();
    for _ in 0..3 {
        told.next().await.unwrap();
    }
    let wish = json!({"status": "failed", "reason": "as it was told"});
    host.client("test").publish_data("plugin.echo.say", &wish).await.unwrap();
    // Past the attempts that a message has otherwise.
    let most = u64::from(host.config().delivery.max_attempts);
    let counted = || host.plugin("ech9").unwrap().metrics;
    until("it failed more often", async || counted().failed > most).await;
    assert_eq!(counted().dead, 0);
    host.rollback("ech9").unwrap();
    let letter: DeadLetter = dead.next().await.unwrap().message.json().unwrap();
    assert_eq!(letter.reason, "as it was told");
    assert!(u64::from(letter.attempts) > most, "the old version had it as well");
    let (_, last) = steps(&mut told).await;
    assert_eq!(last.step, TransitionStep::RolledBack);
    // The letter is on its way before it is counted.
    until("the one is counted", async || counted().dead == 1).await;
    assert!(host.shutdown().await.is_clean());
}

#[tokio::test]
async fn a_host_starts_with_the_version_that_stays() {
    let (old, new) = (version("ec10", "0.1.0"), version("ec10", "0.2.0"));
    let place = Place::new();
    let link = place.enabled().join("libec10.so");
    std::os::unix::fs::symlink(old.path(), &link).unwrap();
    let runs = async |host: &Host| {
        let client = host.client("test");
        let message = client.message_builder().data(&json!({"text": 1})).build().unwrap();
        client.request("plugin.echo.say", message, Duration::from_secs(10)).await.unwrap();
        host.plugin("ec10").unwrap().version
    };

    let host = place.host().await;
    assert_eq!(runs(&host).await, "0.1.0");
    let brief = settings(TransitionStrategy::Graceful, Duration::from_millis(1));
    let last = host.transition("ec10", &new.path(), brief).await.unwrap();
    assert_eq!((last.step, last.reason), (TransitionStep::Committed, None));
    assert_eq!(std::fs::read_link(&link).unwrap(), new.path().canonicalize().unwrap());
    host.shutdown().await;

    let host = place.host().await;
    assert_eq!(runs(&host).await, "0.2.0");
    let pattern = Pattern::new("system.plugin.transition.>").unwrap();
    let mut told = host.watch(&pattern, 100).await.unwrap();
    // The file is gone; the copy that was kept is not.
    drop(old);
    host.rollback("ec10").unwrap();
    let (_, last) = steps(&mut told).await;
    assert_eq!((last.step, last.from.as_str()), (TransitionStep::Committed, "0.2.0"), "{last:?}");
    assert_eq!(runs(&host).await, "0.1.0");
    host.shutdown().await;

    let host = place.host().await;
    assert_eq!(std::fs::read_link(&link).unwrap(), new.path().canonicalize().unwrap());
    assert_eq!(runs(&host).await, "0.1.0");
    let nothing = host.rollback("ec10").unwrap_err();
    assert!(matches!(nothing, HostError::NothingBefore(_)), "{nothing}");
    host.shutdown().await;
}

#[tokio::test]
async fn a_version_that_was_rolled_back_is_not_what_a_host_starts_with() {
    let (old, new) = (version("ec11", "0.1.0"), version("ec11", "0.2.0"));
    let place = Place::new();
    let link = place.enabled().join("libec11.so");
    std::os::unix::fs::symlink(old.path(), &link).unwrap();
    let host = place.host().await;
    // As somebody does who enables a new version, and then finds that they do not want it.
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(new.path(), &link).unwrap();
    let long = settings(TransitionStrategy::Immediate, Duration::from_secs(3600));
    let begun = host.begin_transition("ec11", Some(new.path()), long, false).unwrap();
    host.rollback("ec11").unwrap();
    assert_eq!(begun.ended().await.unwrap().step, TransitionStep::RolledBack);
    host.shutdown().await;

    let host = place.host().await;
    assert_eq!(host.plugin("ec11").unwrap().version, "0.1.0");
    let reason = &host.refused()[0].reason;
    assert!(reason.contains("was rolled back: somebody wants the version before"), "{reason}");
    host.shutdown().await;
}

#[tokio::test]
async fn what_a_version_remembers_is_handed_over_and_back() {
    let next = next_misbehave();
    let place = Place::new();
    let host = place.host().await;
    host.load(misbehave()).await.unwrap();
    host.pause("misbehave").await.unwrap();
    host.resume("misbehave").await.unwrap();
    let calls = async || host.plugin_metrics("misbehave").await.unwrap()["calls"].clone();
    assert_eq!(calls().await, json!(["init", "pause", "resume"]));
    let pattern = Pattern::new("system.plugin.transition.>").unwrap();
    let mut told = host.watch(&pattern, 100).await.unwrap();

    // Two versions at work would each have a part of it.
    let gradual = settings(TransitionStrategy::Gradual, Duration::from_millis(1));
    let last = host.transition("misbehave", &next.path(), gradual).await.unwrap();
    assert_eq!(last.step, TransitionStep::Refused);
    assert!(last.reason.as_deref().unwrap().contains("choose another strategy"), "{last:?}");
    assert_eq!(calls().await, json!(["init", "pause", "resume"]));
    while !steps(&mut told).await.1.step.is_last() {}

    let long = settings(TransitionStrategy::Graceful, Duration::from_secs(3600));
    let begun = host.begin_transition("misbehave", Some(next.path()), long.clone(), false).unwrap();
    for _ in 0..3 {
        told.next().await.unwrap();
    }
    host.rollback("misbehave").unwrap();
    assert_eq!(begun.ended().await.unwrap().step, TransitionStep::RolledBack);
    assert_eq!(calls().await, json!(["before", "before", "before"]), "it went there and back");

    let brief = settings(TransitionStrategy::Graceful, Duration::from_millis(1));
    let last = host.transition("misbehave", &next.path(), brief).await.unwrap();
    assert_eq!(last.step, TransitionStep::Committed);
    let reason = last.reason.unwrap();
    assert!(reason.contains("did not shut down well: it likes it here"), "{reason}");
    assert_eq!(host.plugin("misbehave").unwrap().version, "0.2.0");
    assert_eq!(calls().await, json!(["before", "before", "before"]));
    host.shutdown().await;
}

/// The plugin that does whatever it is told, as its next version.
fn next_misbehave() -> Copy {
    Copy::of(misbehave(), |bytes| {
        replace(bytes, b"\"version\": \"0.1.0\"", b"\"version\": \"0.2.0\"");
    })
}

#[tokio::test]
async fn a_version_that_is_not_well_is_rolled_back() {
    let next = next_misbehave();
    let place = Place::new();
    let file = "[[plugins.register]]\nid = \"misbehave\"\nconfig.init = \"sick\"\n";
    let host = place.host_with(Config::parse("echo-core.toml", file).unwrap()).await;
    host.load(misbehave()).await.unwrap();
    let long = settings(TransitionStrategy::Graceful, Duration::from_secs(3600));
    let last = host.transition("misbehave", &next.path(), long).await.unwrap();
    assert_eq!(last.step, TransitionStep::RolledBack);
    let reason = last.reason.unwrap();
    assert!(reason.contains("the new version is not well: it has a cold"), "{reason}");
    host.shutdown().await;
}

#[tokio::test]
async fn a_version_with_which_the_host_grows_is_rolled_back() {
    let next = next_misbehave();
    let place = Place::new();
    let host = place.host().await;
    host.load(misbehave()).await.unwrap();
    let pattern = Pattern::new("system.plugin.transition.cut").unwrap();
    let mut cut = host.watch(&pattern, 100).await.unwrap();
    let memory = Some(32 << 20);
    let long = TransitionSettings {
        memory,
        ..settings(TransitionStrategy::Graceful, Duration::from_secs(3600))
    };
    let begun = host.begin_transition("misbehave", Some(next.path()), long, false).unwrap();
    cut.next().await.unwrap();
    // A library's memory is the host's, whoever asks for it.
    let block = vec![1_u8; 256 << 20];
    let last = begun.ended().await.unwrap();
    assert_eq!(last.step, TransitionStep::RolledBack);
    let reason = last.reason.unwrap();
    assert!(reason.contains("the host's memory has grown by"), "{reason} {}", block.len());
    host.shutdown().await;
}

#[tokio::test]
async fn a_version_gets_what_it_subscribes_to_as_long_as_it_stays() {
    let old = version("ec12", "0.1.0");
    let new = Copy::of(&old.path(), |bytes| {
        replace(bytes, b"\"version\": \"0.1.0\"", b"\"version\": \"0.2.0\"");
        replace(bytes, b"plugin.echo.say", b"plugin.ec12.say");
    });
    let place = Place::new();
    let host = place.host().await;
    host.load(&old.path()).await.unwrap();
    let heard = || {
        ["plugin.echo.say", "plugin.ec12.say"]
            .map(|topic| host.transport().is_heard(&Topic::new(topic).unwrap()))
    };
    assert_eq!(heard(), [true, false]);
    let pattern = Pattern::new("system.plugin.transition.>").unwrap();
    let mut told = host.watch(&pattern, 100).await.unwrap();
    for strategy in [TransitionStrategy::Graceful, TransitionStrategy::Gradual] {
        let mut long = settings(strategy, Duration::from_secs(3600));
        long.interval = Some(Duration::from_millis(1));
        let begun = host.begin_transition("ec12", Some(new.path()), long, false).unwrap();
        while told.next().await.unwrap().topic.as_str() != "system.plugin.transition.cut" {}
        assert_eq!(heard(), [false, true], "{strategy:?}");
        let client = host.client("test");
        let message = client.message_builder().data(&json!({"text": "hi"})).build().unwrap();
        let patience = Duration::from_secs(10);
        let answer = client.request("plugin.ec12.say", message, patience).await.unwrap();
        assert_eq!(answer.data().unwrap()["text"], "hi");
        host.rollback("ec12").unwrap();
        assert_eq!(begun.ended().await.unwrap().step, TransitionStep::RolledBack);
        assert_eq!(heard(), [true, false], "{strategy:?}");
    }
    assert!(host.shutdown().await.is_clean());
}
