//! A host that is killed with -9 at any moment of a transition: nothing is lost, nothing is added twice, and it comes
//! back on the old version unless the new one was to stay.
//!
//! The host is this program again, started with the name of its part and a variable that makes it act. It runs a
//! ledger from a library, whose two versions keep their accounts in different forms, on durable topics, and has one
//! version after another take its place. It speaks a line for each event: `@version` of the ledger that it starts with,
//! `=step` of a transition, `+key seq` once an amount's publish is confirmed, and `-key last seq sum` when the ledger
//! has added it, so that its acknowledgement is in the log.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and its host speaks by standard output"
)]

#[allow(dead_code, reason = "the kit of another test, of which only the ledgers are used")]
#[path = "library/kit.rs"]
mod kit;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use echo_core::{Config, Host};
use echo_sdk::contract::transition::TransitionEvent;
use echo_sdk::{Pattern, PluginContext, ProcessingStatus, TransitionSettings, TransitionStrategy};
use echo_tests::killed::{Running, rounds, say};
use echo_tests::scripted::{WithHandler, handler, manifest, workers};
use serde_json::{Value, json};

/// Tells the host where it is at home.
const HOME: &str = "HOME_OF_HOST";

/// The round, which all that it publishes has a number from; without it, it handles what there is.
const ROUND: &str = "ROUND_OF_HOST";

/// How many keys there are.
const KEYS: u64 = 16;

/// How much is to be added with a number.
fn amount(key: u64, seq: u64) -> i64 {
    (key * 7 + seq % 1_009).cast_signed() - 500
}

/// Where the versions of the ledger and all that a host keeps are.
struct Home(PathBuf);

impl Home {
    fn version(&self, version: u64) -> PathBuf {
        self.0.join(format!("version{version}.so"))
    }

    fn enabled(&self) -> PathBuf {
        self.0.join("enabled")
    }

    fn link(&self) -> PathBuf {
        self.enabled().join("libledger.so")
    }

    fn enabled_version(&self) -> u64 {
        let enabled = self.link().canonicalize().unwrap();
        [1, 2].into_iter().find(|it| self.version(*it).canonicalize().unwrap() == enabled).unwrap()
    }

    /// A host that was killed while it loaded a library takes that for the cause; it was not.
    fn forgive(&self) {
        let markers = self.0.join("state/loading");
        std::fs::read_dir(markers)
            .unwrap()
            .for_each(|it| std::fs::remove_file(it.unwrap().path()).unwrap());
    }

    fn config(&self) -> Config {
        let mut config = Config::default();
        config.bus.durable.topics = vec![Pattern::new("ledger.>").unwrap()];
        config.bus.durable.dir = self.0.join("log");
        config.bus.durable.segment_size = 256 << 10;
        config.bus.max_payload = 32 << 10;
        config.plugins.dir = self.enabled();
        config.gateway.state_dir = Some(self.0.join("state"));
        config
    }
}

/// Puts both versions into place, the first one enabled.
fn settle(home: &Home) {
    std::fs::create_dir(home.enabled()).unwrap();
    let (first, second) = kit::ledger();
    std::fs::copy(first.path(), home.version(1)).unwrap();
    std::fs::copy(second.path(), home.version(2)).unwrap();
    std::os::unix::fs::symlink(home.version(1), home.link()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host() {
    let Some(home) = std::env::var_os(HOME) else { return };
    let home = Home(home.into());
    let host = Host::builder().config(home.config()).enabled_dir(home.enabled()).with(
        manifest("heard", &["ledger.added"], workers(1)),
        handler(|_, _, message| async move {
            let added: Value = message.json()?;
            let [key, last, seq, sum] = ["key", "last", "seq", "sum"].map(|name| &added[name]);
            say('-', format!("{key} {last} {seq} {sum}"));
            Ok(ProcessingStatus::Acknowledged)
        }),
    );
    let host = host.start().await.unwrap();
    let running = host.plugin("ledger").map(|plugin| plugin.version);
    say('@', running.unwrap_or_else(|_| format!("nothing: {:?}", host.refused())));
    let Some(round) = std::env::var(ROUND).ok() else {
        // Until it is killed.
        return std::future::pending().await;
    };
    let round: u64 = round.parse().unwrap();
    let mut told =
        host.watch(&Pattern::new("system.plugin.transition.>").unwrap(), 1_000).await.unwrap();
    tokio::spawn(async move {
        while let Some(received) = told.next().await {
            let event: TransitionEvent = received.message.json().unwrap();
            let reason = event.reason.unwrap_or_default().replace('\n', " ");
            say('=', format!("{} {reason}", event.step.as_str()));
        }
    });
    for key in 0..KEYS {
        tokio::spawn(publish(host.client("test"), key, round * 1_000_000));
    }
    let strategies = [
        TransitionStrategy::Immediate,
        TransitionStrategy::Graceful,
        TransitionStrategy::Gradual,
        TransitionStrategy::BlueGreen,
    ];
    for turn in round.. {
        let strategy = strategies[turn as usize % strategies.len()];
        let brief = Some(Duration::from_millis(60));
        let settings = TransitionSettings {
            strategy: Some(strategy),
            steps: Some(vec![10, 50, 100]),
            interval: brief,
            trial: brief,
            // A machine that tests something else meanwhile makes anything slow.
            latency: Some(1_000.0),
            ..TransitionSettings::default()
        };
        let next = match host.plugin("ledger").unwrap().version.as_str() {
            "1.0.0" => 2,
            _ => 1,
        };
        let last = host.transition("ledger", &home.version(next), settings).await.unwrap();
        assert_eq!(last.step.as_str(), "committed", "{last:?}");
    }
}

async fn publish(client: PluginContext, key: u64, before: u64) {
    for seq in before + 1.. {
        let add = json!({ "key": key, "seq": seq, "amount": amount(key, seq) });
        let message = client.message_builder().data(&add).key(&format!("k{key}")).build().unwrap();
        client.publish("ledger.add", message).await.unwrap();
        say('+', format!("{key} {seq}"));
    }
}

/// Starts a host, which publishes and changes versions where it is told a round.
fn start(home: &Home, round: Option<u64>) -> Running {
    let round = round.map(|round| OsString::from(round.to_string()));
    let round = round.iter().map(|round| (ROUND, &**round));
    Running::start(round.chain([(HOME, home.0.as_os_str())]))
}

#[derive(Default)]
struct Heard {
    confirmed: u64,
    /// Confirmed, and not added by now: keys and numbers.
    open: BTreeSet<(u64, u64)>,
    /// By key and number, the number before it and the sum that it came to.
    added: BTreeMap<(u64, u64), (u64, i64)>,
    /// By key and number, the number after it.
    after: BTreeMap<(u64, u64), u64>,
    /// The version that the host has.
    version: u64,
    /// The version that was enabled when the host was killed.
    enabled: u64,
    /// The last step of the host's transitions.
    step: String,
    commits: u64,
}

impl Heard {
    fn hear(&mut self, line: &str) {
        let numbers = |line: &str| -> Vec<i64> {
            line.split(' ').map(|number| number.parse().unwrap()).collect()
        };
        if let Some(line) = line.strip_prefix('+') {
            let &[key, seq] = &*numbers(line) else { panic!("{line}") };
            let it = (key.cast_unsigned(), seq.cast_unsigned());
            self.confirmed += 1;
            if !self.added.contains_key(&it) {
                self.open.insert(it);
            }
        } else if let Some(line) = line.strip_prefix('-') {
            let &[key, last, seq, sum] = &*numbers(line) else { panic!("{line}") };
            let [key, last, seq] = [key, last, seq].map(i64::cast_unsigned);
            self.open.remove(&(key, seq));
            let known = *self.added.entry((key, seq)).or_insert((last, sum));
            assert_eq!(known, (last, sum), "{seq} was added to {key} twice");
            let next = *self.after.entry((key, last)).or_insert(seq);
            assert_eq!(next, seq, "both were added to {key} after {last}");
        } else if let Some(version) = line.strip_prefix('@') {
            self.start(version);
        } else if let Some(step) = line.strip_prefix('=') {
            let (step, reason) = step.split_once(' ').unwrap_or((step, ""));
            assert!(!matches!(step, "refused" | "rolling_back"), "{step}: {reason}");
            step.clone_into(&mut self.step);
            if step == "committed" {
                self.commits += 1;
                self.version = 3 - self.version;
            }
        }
    }

    /// Holds the version that a host starts with to what was heard of the one that was killed.
    fn start(&mut self, version: &str) {
        let version = match version {
            "1.0.0" => 1,
            "2.0.0" => 2,
            other => panic!("the host runs {other}"),
        };
        // Nobody has heard of the end of a trial that the host did not live to tell, but what is enabled shows it.
        let may_be_new = matches!(&*self.step, "shifted" | "cut") && version == self.enabled;
        assert!(version == self.version || may_be_new, "{version} after {}", self.step);
        self.version = version;
        self.step.clear();
    }

    /// Holds the sums to it that each amount was added once.
    fn check_sums(&self) {
        let mut links = 0;
        for key in 0..KEYS {
            let (mut last, mut sum) = (0, 0);
            while let Some(seq) = self.after.get(&(key, last)) {
                sum += amount(key, *seq);
                assert_eq!(self.added[&(key, *seq)], (last, sum), "{seq} of {key}");
                last = *seq;
                links += 1;
            }
        }
        assert_eq!(links, self.added.len(), "something was added after nothing");
    }
}

#[test]
fn a_host_that_is_killed_in_a_transition_comes_back_on_the_version_that_was_to_stay() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home(dir.path().to_owned());
    settle(&home);
    let mut heard = Heard { version: 1, ..Heard::default() };
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    // Where in a transition the host was killed.
    let mut kills = BTreeMap::<String, u64>::new();
    let rounds = rounds(12);
    // Of few kills each may come before the end of the trial: the last round waits for a version that stays.
    for round in 1..=rounds + 1 {
        let running = start(&home, Some(round));
        while heard.step.is_empty() || (round > rounds && heard.commits == 0) {
            heard.hear(&running.next());
        }
        // By the amount of what it has said: at any moment of its work, whatever the machine's speed.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        for _ in 0..(random >> 33) % 12_000 {
            heard.hear(&running.next());
        }
        running.kill().iter().for_each(|line| heard.hear(line));
        home.forgive();
        heard.enabled = home.enabled_version();
        *kills.entry(heard.step.clone()).or_default() += 1;
    }
    let running = start(&home, None);
    while !heard.open.is_empty() {
        match running.lines.recv_timeout(Duration::from_secs(30)) {
            Ok(line) => heard.hear(&line),
            Err(_) => panic!("confirmed and lost: {:?}", heard.open),
        }
    }
    heard.check_sums();
    let (confirmed, commits) = (heard.confirmed, heard.commits);
    println!("killed {} times, after {kills:?}", rounds + 1);
    println!("{confirmed} confirmed, {} added, {commits} versions stayed", heard.added.len());
    assert!(confirmed > 10 * rounds, "only {confirmed} were confirmed");
    assert!(commits > 0, "no version stayed");
}
