//! Two versions of a plugin with managed state that change again and again while messages flow: whether anything is
//! lost, doubled or out of order, and how long messages wait for it.

mod checker;
mod traffic;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use echo_core::{Config, Host};
use echo_sdk::contract::transition::{TransitionEvent, TransitionStep};
use echo_sdk::{Pattern, Subscription, TransitionSettings, TransitionStrategy};
use echo_test_ledger::{ADDED, ENTRY, Fault};
use serde::Serialize;
use serde_json::{Value, json};

use self::checker::{Latency, Phase, Seen};
use self::traffic::{Schedule, key_name, publish};
use super::library::{Kind, build, rounded};
use crate::check::Verdict;
use crate::machine::stolen;
use crate::ours::exports;
use crate::{BenchError, Options};

const PLUGIN: &str = "ledger";

/// What is measured without the options that say so.
const RATE: u64 = 50_000;
const KEYS: u64 = 2_000;
const TRANSITIONS: u64 = 1_000;
const QUICK: u64 = 10;

/// How long the handler computes for a message, beside what it does with its state.
const WORK: &str = "2us";

/// How many sums may wait to be looked at.
const WATCHED: usize = 1 << 18;

/// What does not count at the beginning.
const WARM_UP: Duration = Duration::from_millis(500);

/// How long nothing but the messages goes on after that.
const UNDISTURBED: Duration = Duration::from_secs(2);

/// What versions are held to.
const MAX_ADDED: f64 = 50.0;
const MAX_ROLLBACK: f64 = 2_000.0;

/// The line of the output.
#[derive(Debug, Serialize)]
struct Line {
    case: &'static str,
    strategy: &'static str,
    fault: Fault,
    transitions: u64,
    messages: u64,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    committed: u64,
    rolled_back: u64,
    /// The longest that a message took in the time of any transition, less the 99.9th percentile of the time before.
    max_added_ms: f64,
    /// The same for the transition in the middle.
    median_added_ms: f64,
    undisturbed_p999_ms: f64,
    undisturbed_max_ms: f64,
    /// From the moment when the new version was ready for messages until the old one had them all.
    longest_rollback_ms: Option<f64>,
    /// The cores' time that other machines took meanwhile.
    stolen_ms: Option<f64>,
    state_sums_exact: bool,
    msgs_per_s: u64,
}

/// Measures one strategy, or all of them in turn.
pub(super) fn measure(
    name: &'static str,
    options: &Options,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<Vec<Verdict>, BenchError> {
    let folder = tempfile::tempdir()?;
    let versions =
        [build(Kind::FirstLedger, folder.path())?, build(Kind::SecondLedger, folder.path())?];
    let all = [
        TransitionStrategy::Immediate,
        TransitionStrategy::Graceful,
        TransitionStrategy::Gradual,
        TransitionStrategy::BlueGreen,
    ];
    let mut verdicts = Vec::new();
    for strategy in all.into_iter().filter(|it| options.strategy.is_none_or(|one| one == *it)) {
        let course = Course {
            strategy,
            fault: options.fault.unwrap_or_default(),
            transitions: options.count.unwrap_or(if options.quick { QUICK } else { TRANSITIONS }),
            rate: options.rate.unwrap_or(RATE),
            keys: options.keys.unwrap_or(KEYS),
            versions: versions.clone(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let (line, remarks) = runtime.block_on(course.run(name, folder.path()))?;
        for remark in remarks {
            writeln!(notes, "# {name} {}: {remark}", strategy.as_str())?;
        }
        writeln!(out, "{}", serde_json::to_string(&line).unwrap_or_default())?;
        out.flush()?;
        verdicts.extend(line.verdicts());
    }
    Ok(verdicts)
}

impl Line {
    fn verdicts(&self) -> Vec<Verdict> {
        let Self { case, strategy, fault, transitions, .. } = self;
        let bar = |reached: bool, text: String| {
            let fault = serde_json::to_string(fault).unwrap_or_default();
            Verdict { reached, text: format!("{case} {strategy}, fault {fault}: {text}") }
        };
        let Self { lost, duplicated, reordered, state_sums_exact, .. } = self;
        let kept = (*lost, *duplicated, *reordered, *state_sums_exact) == (0, 0, 0, true);
        let text = format!(
            "{lost} lost, {duplicated} duplicated, {reordered} reordered, exact sums: {state_sums_exact}; wanted 0, 0, 0, true"
        );
        let mut verdicts = vec![bar(kept, text)];
        if *fault == Fault::None {
            let (committed, added) = (self.committed, self.max_added_ms);
            let before = self.undisturbed_p999_ms;
            let text = format!(
                "{before} milliseconds without any transition; more than {MAX_ADDED} say that the machine is too busy"
            );
            verdicts.push(bar(before <= MAX_ADDED, text));
            let text = format!("{committed} of {transitions} committed; wanted all");
            verdicts.push(bar(committed == *transitions, text));
            let text = format!("{added} milliseconds added at most; wanted under {MAX_ADDED}");
            verdicts.push(bar(added < MAX_ADDED, text));
        } else {
            let rolled_back = self.rolled_back;
            let text = format!("{rolled_back} of {transitions} rolled back; wanted all");
            verdicts.push(bar(rolled_back == *transitions, text));
            let longest = self.longest_rollback_ms;
            let text = format!(
                "{} milliseconds to roll back at most; wanted at most {MAX_ROLLBACK}",
                longest.unwrap_or_default()
            );
            verdicts.push(bar(longest.is_some_and(|longest| longest <= MAX_ROLLBACK), text));
        }
        verdicts
    }
}

/// What is to be measured.
struct Course {
    strategy: TransitionStrategy,
    fault: Fault,
    transitions: u64,
    rate: u64,
    keys: u64,
    versions: [PathBuf; 2],
}

impl Course {
    /// Runs the transitions on a host of their own; gives what there is to say besides.
    async fn run(
        &self,
        name: &'static str,
        folder: &Path,
    ) -> Result<(Line, Vec<String>), BenchError> {
        let host = self.host(folder).await?;
        let added = host.watch(&Pattern::new(ADDED)?, WATCHED).await?;
        let mut told = host.watch(&Pattern::new("system.plugin.transition.>")?, 1 << 12).await?;
        let schedule = Schedule { keys: self.keys, rate: self.rate, began: Instant::now() };
        let stolen_before = stolen();
        let (phase, stop) = (Phase::warm_up(), Arc::new(AtomicBool::new(false)));
        let watching = Seen::new(self.keys).watch(added, schedule, Arc::clone(&phase));
        let watching = tokio::spawn(watching);
        let publishing =
            tokio::spawn(publish(host.client("bench-client"), schedule, Arc::clone(&stop)));
        // These are lengths of a measurement: nothing is waited for.
        tokio::time::sleep(WARM_UP).await;
        phase.undisturbed();
        tokio::time::sleep(UNDISTURBED).await;
        let changes = self.change_versions(&host, &phase, &mut told).await;
        stop.store(true, Ordering::Relaxed);
        let messages = publishing.await.map_err(broke)??;
        let took = schedule.began.elapsed();
        phase.end(messages);
        let seen = watching.await.map_err(broke)??;
        let changes = changes?;
        let exact = self.sums_are_exact(&host, schedule, messages).await?;
        host.shutdown().await;
        let Latency { undisturbed_p999, undisturbed_max, median_worst, worst } = seen.latency();
        let millis = |time: Duration| rounded(time.as_secs_f64() * 1e3);
        let added = |time: Duration| millis(time.saturating_sub(undisturbed_p999));
        let line = Line {
            case: name,
            strategy: self.strategy.as_str(),
            fault: self.fault,
            transitions: self.transitions,
            messages,
            lost: messages.saturating_sub(seen.messages),
            duplicated: seen.duplicated,
            reordered: seen.reordered,
            committed: changes.committed,
            rolled_back: changes.rolled_back,
            max_added_ms: added(worst),
            median_added_ms: added(median_worst),
            undisturbed_p999_ms: millis(undisturbed_p999),
            undisturbed_max_ms: millis(undisturbed_max),
            longest_rollback_ms: changes.longest_rollback.map(millis),
            stolen_ms: stolen_before
                .zip(stolen())
                .map(|(before, after)| millis(after.saturating_sub(before))),
            state_sums_exact: exact,
            msgs_per_s: (messages as f64 / took.as_secs_f64()).round() as u64,
        };
        let mut remarks = changes.remarks();
        remarks.extend(self.by_direction(seen.worst()));
        Ok((line, remarks))
    }

    /// What transitions to the second version cost, and those back, where it is one after the other.
    fn by_direction(&self, worst: &[Duration]) -> Option<String> {
        let of = |first| {
            let mut worst: Vec<_> = worst.iter().skip(first).step_by(2).collect();
            worst.sort_unstable();
            Some((**worst.get(worst.len() / 2)?, **worst.last()?))
        };
        let ((there, most_there), (back, most_back)) = of(0).zip(of(1))?;
        (self.fault == Fault::None).then(|| {
            format!(
                "the longest that a message took, in the middle and at most: {there:.1?} and {most_there:.1?} \
                 to the second version, {back:.1?} and {most_back:.1?} back"
            )
        })
    }

    async fn host(&self, folder: &Path) -> Result<Host, BenchError> {
        let ledger = json!({
            "id": PLUGIN, "library": self.versions[0], "config": { "work": WORK, "fault": self.fault },
        });
        let mut config = Config::default();
        let ledger = serde_json::from_value(ledger);
        config.plugins.register =
            vec![ledger.map_err(|error| BenchError::Library(error.to_string()))?];
        config.plugins.dir = folder.join("enabled");
        config.gateway.state_dir = Some(folder.join("state"));
        let host = Host::builder().config(config).telemetry(exports()?).start().await?;
        match host.refused().first() {
            None => Ok(host),
            Some(refused) => Err(BenchError::Library(refused.reason.clone())),
        }
    }

    /// How each transition goes: briefly where nothing is to be found out, else as long as it may take to find it.
    fn settings(&self) -> TransitionSettings {
        let millis = Duration::from_millis;
        let (interval, trial) = match self.fault {
            Fault::None => (millis(20), millis(50)),
            _ => (millis(300), millis(2_000)),
        };
        TransitionSettings {
            strategy: Some(self.strategy),
            interval: Some(interval),
            trial: Some(trial),
            ..TransitionSettings::default()
        }
    }

    /// Has one version after the other take the place of the one before it.
    async fn change_versions(
        &self,
        host: &Host,
        phase: &Phase,
        told: &mut Subscription,
    ) -> Result<Changes, BenchError> {
        let (mut changes, mut current) = (Changes::default(), 0);
        for number in 0..self.transitions {
            phase.transition(number);
            let next = 1 - current;
            let last = host.transition(PLUGIN, &self.versions[next], self.settings()).await?;
            let ready = ready_at(told, &last).await?;
            if changes.count(&last, ready) {
                current = next;
            }
        }
        Ok(changes)
    }

    /// Whether the managed state of each key is what its messages make of it, in whichever form.
    async fn sums_are_exact(
        &self,
        host: &Host,
        schedule: Schedule,
        messages: u64,
    ) -> Result<bool, BenchError> {
        let states = host.transport().states(PLUGIN);
        for key in 0..self.keys {
            let document = states.load(Some(&key_name(key))).await;
            let document = document.map_err(|error| BenchError::Library(error.to_string()))?;
            let account: Value = match document.entries.get(ENTRY) {
                Some(account) => serde_json::from_slice(account).unwrap_or_default(),
                None => json!({ "sum": 0, "count": 0, "last": 0 }),
            };
            let (sum, count) = schedule.account(key, messages);
            let forms = [
                json!({ "sum": sum, "count": count, "last": count }),
                json!({ "balance": sum, "postings": { "count": count, "last": count } }),
            ];
            if !forms.contains(&account) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What came of the transitions.
#[derive(Debug, Default)]
struct Changes {
    committed: u64,
    rolled_back: u64,
    longest_rollback: Option<Duration>,
    /// Why new versions did not stay, and how often.
    objections: Vec<(String, u64)>,
}

impl Changes {
    fn remarks(&self) -> Vec<String> {
        self.objections.iter().map(|(why, count)| format!("{count} times: {why}")).collect()
    }

    /// Counts one by its last step; says whether the new version stayed.
    fn count(&mut self, last: &TransitionEvent, ready: Option<TransitionEvent>) -> bool {
        match last.step {
            TransitionStep::Committed => {
                self.committed += 1;
                return true;
            }
            TransitionStep::RolledBack => {
                self.rolled_back += 1;
                let took = ready.and_then(|ready| (last.at - ready.at).to_std().ok());
                self.longest_rollback = self.longest_rollback.max(took);
            }
            _ => {}
        }
        let why = last.reason.clone().unwrap_or_default();
        let words = format!("{}: {why}", last.step.as_str());
        // The figures in it differ from time to time.
        let kind =
            |words: &str| words.chars().filter(|it| !it.is_ascii_digit()).collect::<String>();
        match self.objections.iter_mut().find(|(known, _)| kind(known) == kind(&words)) {
            Some((_, count)) => *count += 1,
            None => self.objections.push((words, 1)),
        }
        false
    }
}

/// Reads what was told of a transition to its end; gives when the new version was ready for messages.
async fn ready_at(
    told: &mut Subscription,
    last: &TransitionEvent,
) -> Result<Option<TransitionEvent>, BenchError> {
    let mut ready = None;
    while let Some(received) = told.next().await {
        let event: TransitionEvent = received.message.json()?;
        if event.id != last.id {
            continue;
        }
        if event.step.is_last() {
            return Ok(ready);
        }
        if event.step == TransitionStep::Prepared {
            ready = Some(event);
        }
    }
    Err(BenchError::Library("the host tells nothing of its transitions".to_owned()))
}

fn broke(error: tokio::task::JoinError) -> BenchError {
    BenchError::Library(format!("the measurement broke: {error}"))
}
