//! The folder of enabled plugins while a host runs: what comes, goes and cannot be taken.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use echo_core::library::inspect;
use echo_core::{Config, Host, Records};
use echo_sdk::contract::system::{PluginEvent, PluginRefused};
use echo_sdk::contract::transition::{TransitionEvent, TransitionStep};
use echo_sdk::{Pattern, Subscription, TransitionSettings};
use tempfile::TempDir;

use crate::changes::needing;
use crate::kit::{Copy, mapped, misbehave, renamed, replace};
use crate::records::version;

/// A host that watches, and what it tells.
struct Stage {
    place: TempDir,
    config: Config,
    host: Host,
    told: Subscription,
}

impl Stage {
    /// Starts a host whose folder of enabled plugins is as `prepare` leaves it; it is not there yet.
    async fn begin(prepare: impl FnOnce(&Path)) -> Self {
        Self::with_trial(Duration::from_millis(100), prepare).await
    }

    /// The same where versions are judged for so long.
    async fn with_trial(trial: Duration, prepare: impl FnOnce(&Path)) -> Self {
        let place = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.plugins.dir = place.path().join("plugins/enabled");
        config.gateway.state_dir = Some(place.path().join("state"));
        config.plugins.transition.trial = Some(trial);
        prepare(&config.plugins.dir);
        let builder = Host::builder().config(config.clone()).enabled_dir(&config.plugins.dir);
        let host = builder.watching().start().await.unwrap();
        let told = host.watch(&Pattern::new("system.plugin.*").unwrap(), 1000).await.unwrap();
        Self { place, config, host, told }
    }

    fn entry(&self, name: &str) -> PathBuf {
        self.config.plugins.dir.join(name)
    }

    fn enable(&self, name: &str, library: &Copy) {
        fs::create_dir_all(&self.config.plugins.dir).unwrap();
        symlink(library.path(), self.entry(name)).unwrap();
    }

    fn disable(&self, name: &str) {
        fs::remove_file(self.entry(name)).unwrap();
    }

    /// Waits until plugins have come into these statuses, one after the other: "running x".
    async fn until(&mut self, expected: &[&str]) {
        let mut seen = Vec::new();
        for wanted in expected {
            loop {
                let event = self.told.next().await.unwrap();
                if event.topic == "system.plugin.refused" {
                    seen.push(event.message.json::<PluginRefused>().unwrap().reason);
                    continue;
                }
                let Ok(PluginEvent { plugin, status, .. }) = event.message.json() else { continue };
                let is = format!("{} {plugin}", status.as_str());
                seen.push(is.clone());
                assert!(
                    is == *wanted || !expected.contains(&&*is),
                    "{is} before {wanted}: {seen:?}"
                );
                if is == *wanted {
                    break;
                }
            }
        }
    }

    /// Waits until an entry is refused; why.
    async fn refused(&mut self, name: &str) -> String {
        let entry = self.entry(name).display().to_string();
        loop {
            let event = self.told.next().await.unwrap();
            if event.topic == "system.plugin.refused" {
                let PluginRefused { file, reason } = event.message.json().unwrap();
                assert_eq!(file, entry, "{reason}");
                return reason;
            }
        }
    }

    fn plugins(&self) -> Vec<String> {
        self.host.plugins().into_iter().map(|plugin| plugin.name).collect()
    }

    async fn end(self) {
        assert_eq!(self.host.shutdown().await.faults, [""; 0]);
        drop(self.place);
    }
}

#[tokio::test]
async fn what_is_enabled_comes_and_what_is_disabled_goes() {
    let (first, second) = (renamed("wat1"), renamed("wat2"));
    let mut stage = Stage::begin(|_| {}).await;
    // The folder itself comes late.
    for _ in 0..2 {
        stage.enable("first", &first);
        stage.until(&["running wat1"]).await;
        stage.enable("second", &second);
        stage.until(&["running wat2"]).await;
        stage.disable("first");
        stage.until(&["unloaded wat1"]).await;
        fs::remove_dir_all(&stage.config.plugins.dir).unwrap();
        stage.until(&["unloaded wat2"]).await;
        assert_eq!(stage.plugins(), [""; 0]);
    }
    stage.end().await;
    assert_eq!((mapped("wat1").len(), mapped("wat2").len()), (0, 0));
}

#[tokio::test]
async fn what_was_there_when_the_host_started_is_followed_too() {
    let (good, mended, more) = (renamed("wat3"), renamed("wat4"), renamed("wat0"));
    let mut stage = Stage::begin(|enabled| {
        fs::create_dir_all(enabled).unwrap();
        symlink(good.path(), enabled.join("good")).unwrap();
        fs::write(enabled.join("bad"), "no library yet").unwrap();
    })
    .await;
    assert_eq!((stage.plugins(), stage.host.refused().len()), (vec!["wat3".to_owned()], 1));
    // It was told when the host started; what comes of it later is told anew, though it is the same.
    fs::write(stage.entry("bad"), "no library either").unwrap();
    assert!(stage.refused("bad").await.contains("no ELF file"));
    fs::copy(mended.path(), stage.entry("bad")).unwrap();
    stage.until(&["running wat4"]).await;
    // The same plugin under another name is no change.
    fs::rename(stage.entry("good"), stage.entry("better")).unwrap();
    stage.disable("bad");
    stage.until(&["unloaded wat4"]).await;
    // When another has come since, that one was looked at.
    stage.enable("more", &more);
    stage.until(&["running wat0"]).await;
    assert_eq!(stage.plugins(), ["wat3", "wat0"]);
    stage.disable("better");
    stage.until(&["unloaded wat3"]).await;
    stage.end().await;
}

#[tokio::test]
async fn a_file_counts_once_all_of_it_is_there() {
    let (slow, quick) = (renamed("wat5"), renamed("wat6"));
    let bytes = fs::read(slow.path()).unwrap();
    let mut stage = Stage::begin(|_| {}).await;
    fs::create_dir_all(&stage.config.plugins.dir).unwrap();
    fs::write(stage.entry("slow"), &bytes[..bytes.len() / 2]).unwrap();
    stage.enable("quick", &quick);
    stage.until(&["running wat6"]).await;
    assert_eq!(stage.plugins(), ["wat6"]);
    fs::write(stage.entry("slow"), &bytes).unwrap();
    stage.until(&["running wat5"]).await;
    // What becomes no library leaves what runs alone, and is told.
    fs::write(stage.entry("slow"), "no library").unwrap();
    let mut reason = stage.refused("slow").await;
    while reason.contains("is cut short") {
        // On a slow machine the half of it was told before.
        reason = stage.refused("slow").await;
    }
    assert!(reason.contains("no ELF file"), "{reason}");
    assert_eq!(stage.plugins(), ["wat6", "wat5"]);
    stage.end().await;
}

#[tokio::test]
async fn those_that_others_depend_on_come_first_and_go_last() {
    let (below, above) = (renamed("wat7"), needing("wat8", "wat7"));
    let mut stage = Stage::begin(|_| {}).await;
    let enabled = stage.config.plugins.dir.clone();
    let aside = stage.place.path().join("plugins/aside");
    fs::create_dir_all(&aside).unwrap();
    // By name the dependent would be first.
    symlink(above.path(), aside.join("a")).unwrap();
    symlink(below.path(), aside.join("b")).unwrap();
    fs::rename(&aside, &enabled).unwrap();
    stage.until(&["running wat7", "running wat8"]).await;
    fs::rename(&enabled, &aside).unwrap();
    stage.until(&["unloaded wat8", "unloaded wat7"]).await;

    // One by one, in the wrong order, is told, and comes right at last.
    stage.enable("a", &above);
    let reason = stage.refused("a").await;
    assert!(reason.contains("`wat8` depends on `wat7`, which is not there"), "{reason}");
    stage.enable("b", &below);
    stage.until(&["running wat7", "running wat8"]).await;
    stage.disable("b");
    let reason = stage.refused("b").await;
    assert!(reason.contains("plugin `wat7` stays, since `wat8` depends on it"), "{reason}");
    stage.disable("a");
    stage.until(&["unloaded wat8", "unloaded wat7"]).await;
    stage.end().await;
}

#[tokio::test]
async fn a_library_that_brought_a_host_down_or_was_rolled_back_is_not_taken_again() {
    let (crashed, back) = (renamed("wat9"), version("waa0", "0.2.0"));
    let hash = |library: &Copy| inspect(&library.path()).unwrap().1.hash;
    let mut stage = Stage::begin(|_| {}).await;
    let marks = stage.place.path().join("state/loading");
    fs::create_dir_all(&marks).unwrap();
    fs::write(marks.join(format!("loading-{}", hash(&crashed))), "by another host").unwrap();
    stage.enable("crashed", &crashed);
    let reason = stage.refused("crashed").await;
    assert!(reason.contains("has brought a host down") && reason.contains("delete"), "{reason}");

    let records = Records::of(&stage.config).unwrap();
    records.place("waa0", &hash(&back), b"the version before", "was rolled back").unwrap();
    stage.enable("back", &back);
    let reason = stage.refused("back").await;
    for words in ["`waa0` 0.2.0 was rolled back", "not taken again", "`plugin transition waa0"] {
        assert!(reason.contains(words), "{words}: {reason}");
    }
    assert_eq!(stage.plugins(), [""; 0]);
    stage.end().await;
}

#[tokio::test]
async fn what_is_ordered_stays_until_its_entry_changes() {
    let (ordered, other) = (renamed("waa1"), renamed("waa2"));
    let mut stage = Stage::begin(|_| {}).await;
    stage.enable("ordered", &ordered);
    stage.until(&["running waa1"]).await;
    stage.host.unload("waa1", false).await.unwrap();
    // The folder is looked at again, and the entry has not changed.
    stage.enable("other", &other);
    stage.until(&["running waa2"]).await;
    assert_eq!(stage.plugins(), ["waa2"]);
    stage.disable("ordered");
    stage.disable("other");
    stage.until(&["unloaded waa2"]).await;
    // One that was loaded by order has no entry that could go.
    stage.host.load(&other.path()).await.unwrap();
    stage.enable("ordered", &ordered);
    stage.until(&["running waa1"]).await;
    stage.disable("ordered");
    stage.until(&["unloaded waa1"]).await;
    assert_eq!(stage.plugins(), ["waa2"]);
    stage.end().await;
}

#[tokio::test]
async fn a_library_that_changes_takes_the_place_of_the_one_that_runs() {
    let [first, second, third] = ["0.1.0", "0.2.0", "0.3.0"].map(|number| version("waa3", number));
    let mut stage = Stage::begin(|_| {}).await;
    stage.enable("entry", &first);
    stage.until(&["running waa3"]).await;
    let pattern = Pattern::new("system.plugin.transition.*").unwrap();
    let mut steps = stage.host.watch(&pattern, 1000).await.unwrap();
    // The link is pointed at another file.
    symlink(second.path(), stage.entry(".fresh")).unwrap();
    fs::rename(stage.entry(".fresh"), stage.entry("entry")).unwrap();
    committed(&mut steps, "0.1.0", "0.2.0").await;
    assert_eq!(stage.host.plugin("waa3").unwrap().version, "0.2.0");
    // The file that it leads to is built anew.
    let fresh = second.path().with_extension("new");
    fs::copy(third.path(), &fresh).unwrap();
    fs::rename(fresh, second.path()).unwrap();
    committed(&mut steps, "0.2.0", "0.3.0").await;
    assert_eq!(stage.host.plugin("waa3").unwrap().version, "0.3.0");
    stage.end().await;
}

/// Waits until a transition between these versions is committed.
async fn committed(steps: &mut Subscription, from: &str, to: &str) {
    loop {
        let event: TransitionEvent = steps.next().await.unwrap().message.json().unwrap();
        if event.step.is_last() {
            assert_eq!(event.step, TransitionStep::Committed, "{:?}", event.reason);
            assert_eq!((event.from.as_str(), event.to.as_deref()), (from, Some(to)));
            return;
        }
    }
}

#[tokio::test]
async fn who_enables_the_version_that_runs_again_ends_the_transition() {
    let [first, second] = ["0.1.0", "0.2.0"].map(|number| version("waa4", number));
    let mut stage = Stage::with_trial(Duration::from_secs(600), |_| {}).await;
    stage.enable("entry", &first);
    stage.until(&["running waa4"]).await;
    let pattern = Pattern::new("system.plugin.transition.*").unwrap();
    let mut steps = stage.host.watch(&pattern, 1000).await.unwrap();
    for (library, last) in [(&second, TransitionStep::Cut), (&first, TransitionStep::RolledBack)] {
        symlink(library.path(), stage.entry(".fresh")).unwrap();
        fs::rename(stage.entry(".fresh"), stage.entry("entry")).unwrap();
        loop {
            let event: TransitionEvent = steps.next().await.unwrap().message.json().unwrap();
            if event.step == last {
                break;
            }
            assert!(!event.step.is_last(), "{:?}: {:?}", event.step, event.reason);
        }
    }
    assert_eq!(stage.host.plugin("waa4").unwrap().version, "0.1.0");
    stage.end().await;
}

#[tokio::test]
async fn a_version_that_is_ordered_is_none_of_the_folders_business() {
    let [first, second] = ["0.1.0", "0.2.0"].map(|number| version("waa5", number));
    let other = renamed("waa6");
    let mut stage = Stage::begin(|_| {}).await;
    stage.enable("entry", &first);
    stage.until(&["running waa5"]).await;
    let (file, settings) = (second.path(), TransitionSettings::default());
    let last = stage.host.transition("waa5", &file, settings).await.unwrap();
    assert_eq!(last.step, TransitionStep::Committed, "{:?}", last.reason);
    let link = fs::read_link(stage.entry("entry")).unwrap();
    assert_eq!(link, second.path().canonicalize().unwrap(), "the host has pointed it there");
    // The next order comes before the folder is looked at, and goes on after that.
    let long = TransitionSettings {
        trial: Some(Duration::from_secs(600)),
        ..TransitionSettings::default()
    };
    let begun = stage.host.begin_transition("waa5", Some(first.path()), long, false).unwrap();
    stage.enable("other", &other);
    stage.until(&["running waa6"]).await;
    assert_eq!(stage.host.rollback("waa5").unwrap(), begun.id);
    let last = begun.ended().await.unwrap();
    let reason = last.reason.as_deref();
    assert_eq!(last.step, TransitionStep::RolledBack);
    assert_eq!(reason, Some("somebody wants the version before"));
    assert_eq!(stage.plugins(), ["waa5", "waa6"]);
    stage.end().await;
}

#[tokio::test]
async fn a_version_that_does_not_start_is_not_what_a_host_starts_with() {
    let well = Copy::of(misbehave(), |_| {});
    let faulty = Copy::of(misbehave(), |bytes| {
        replace(bytes, b"\"create\": \"well\"", b"\"create\": \"name\"");
    });
    let mut stage = Stage::begin(|_| {}).await;
    stage.enable("entry", &well);
    stage.until(&["running misbehave"]).await;
    let pattern = Pattern::new("system.plugin.transition.refused").unwrap();
    let mut steps = stage.host.watch(&pattern, 1000).await.unwrap();
    symlink(faulty.path(), stage.entry(".fresh")).unwrap();
    fs::rename(stage.entry(".fresh"), stage.entry("entry")).unwrap();
    steps.next().await.unwrap();
    let Stage { place: _place, config, host, .. } = stage;
    assert_eq!(host.plugins().len(), 1);
    host.shutdown().await;

    let enabled = config.plugins.dir.clone();
    let host = Host::builder().config(config).enabled_dir(enabled).start().await.unwrap();
    assert_eq!(host.plugins().len(), 1);
    let [refused] = host.refused() else { panic!("{:?}", host.refused()) };
    let words = ["`misbehave` 0.1.0 was refused: `", "calls itself `somebody-else`"];
    assert!(words.iter().all(|it| refused.reason.contains(it)), "{refused:?}");
    host.shutdown().await;
}
