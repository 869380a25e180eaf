//! `plugin test`: the examples of a manifest, given to the built library.
//!
//! Each example has a host and a bus of its own, with nothing on it but the plugin, so that none sees what another left.
//! A middleware around the handler tells how the first attempt ended; what took effect is what comes by on the bus. The
//! host ends right after the attempt: what is to be tried again would be tried with nobody looking.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use echo_core::config::{Config, PluginSettings};
use echo_core::middleware::{After, Attempt, Ending, Memo, Middleware};
use echo_core::{Host, HostError};
use echo_sdk::testing::Seen;
use echo_sdk::{
    BaseMessage, Example, ExampleStatus, Manifest, Pattern, ProcessingStatus, Received,
    Subscription, Topic,
};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::activate::built;
use super::layout::Layout;
use crate::args::Profile;
use crate::commands::Setup;
use crate::exit::{CommandResult, Exit, Failure};
use crate::libraries;
use crate::output::{Palette, Style};
use crate::summary::plural;

/// How many messages may come by before the plugin waits until they are looked at.
const CAPACITY: usize = 4096;

/// What was asked.
#[derive(Debug)]
pub struct Asked {
    /// The plugin.
    pub name: String,
    /// Which of its libraries.
    pub profile: Profile,
    /// How long it may take for one example.
    pub timeout: Duration,
    /// Whether to print JSON.
    pub json: bool,
}

/// The plugin cannot be tested.
#[derive(Debug, thiserror::Error)]
enum TestError {
    #[error("`{0}` has no examples, so nothing can be said of it; add some to its manifest.json")]
    NoExamples(String),
    #[error("the plugin cannot be loaded: {0}")]
    Refused(String),
    #[error("the topic of an example is none")]
    Topic(#[from] echo_sdk::TopicError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Publish(#[from] echo_sdk::PublishError),
}

/// How an example came out.
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    description: &'a str,
    topic: &'a str,
    passed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<ExampleStatus>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    faults: Vec<String>,
    duration_ms: f64,
}

/// Runs the examples.
pub async fn test(setup: &Setup<'_>, layout: &Layout, asked: &Asked) -> CommandResult {
    super::check_name(&asked.name).map_err(Failure::usage)?;
    let path = built(layout, &asked.name, asked.profile)?;
    let manifest = libraries::manifest(&path).map_err(Failure::usage)?;
    if manifest.examples.is_empty() {
        return Err(Failure::usage(TestError::NoExamples(asked.name.clone())));
    }
    let mut outcomes = Vec::new();
    for example in &manifest.examples {
        let outcome = run(setup, &manifest, &path, example, asked.timeout).await;
        outcomes.push(outcome.map_err(Failure::usage)?);
    }
    let printed = if asked.json {
        setup.output.json(&outcomes)
    } else {
        setup.output.result(shown(&outcomes, setup.output.out))
    };
    printed.map_err(Failure::surroundings)?;
    let all = outcomes.iter().all(|outcome| outcome.passed);
    Ok(if all { Exit::Success } else { Exit::TestFailed })
}

fn shown(outcomes: &[Outcome<'_>], palette: Palette) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let (style, word) =
            if outcome.passed { (Style::Good, "pass") } else { (Style::Bad, "FAIL") };
        text.push_str(&format!("{} {}\n", palette.paint(style, word), outcome.description));
        for fault in &outcome.faults {
            text.push_str(&format!("     {fault}\n"));
        }
    }
    let passed = outcomes.iter().filter(|outcome| outcome.passed).count();
    text.push_str(&format!("{passed} of {} passed\n", plural(outcomes.len(), "example")));
    text
}

async fn run<'a>(
    setup: &Setup<'_>,
    manifest: &Manifest,
    library: &Path,
    example: &'a Example,
    patience: Duration,
) -> Result<Outcome<'a>, TestError> {
    let (message, topic) = (example.message(), Topic::new(&example.topic)?);
    let (ending, ended) = oneshot::channel();
    let watcher = Watcher { id: message.id(), ending: Mutex::new(Some(ending)) };
    let host = Host::builder()
        .telemetry(setup.telemetry.exports())
        .middleware(watcher)
        .config(config_for(manifest, library.to_owned()))
        .start()
        .await?;
    if let Some(refused) = host.refused().first() {
        return Err(TestError::Refused(refused.reason.clone()));
    }
    let everything = Pattern::new(">")?;
    let mut heard = Heard::new(host.watch(&everything, CAPACITY).await?, &topic, message.id());
    let began = Instant::now();
    host.client("example").publish_now(topic, message).await?;
    let status = match timeout(patience, heard.until(ended)).await {
        Ok(Ok((status, reason))) => {
            if status.is_done() {
                // What the plugin published goes out after its answer.
                let _ = timeout(patience, heard.until(host.idle())).await;
            }
            Some((status, reason))
        }
        Ok(Err(_)) | Err(_) => None,
    };
    heard.rest();
    let duration_ms = began.elapsed().as_secs_f64() * 1000.0;
    let faults = match &status {
        Some((status, reason)) => {
            let (status, reason) = (*status, reason.clone());
            example.faults(&Seen { status, reason, published: heard.published })
        }
        None => {
            let patience = echo_sdk::duration::format(patience);
            vec![format!("the plugin was not done with it within {patience}")]
        }
    };
    // What it leaves unfinished belongs to attempts that nobody looks at.
    let _ = host.shutdown().await;
    let status = status.map(|(status, _)| status);
    let Example { description, topic, .. } = example;
    Ok(Outcome { description, topic, passed: faults.is_empty(), status, faults, duration_ms })
}

/// A host's configuration with this library alone.
fn config_for(manifest: &Manifest, library: PathBuf) -> Config {
    let mut config = Config::default();
    config.shutdown.timeout = Duration::ZERO;
    config.plugins.register = vec![PluginSettings {
        id: manifest.name.clone(),
        plugin_type: None,
        library: Some(library),
        enabled: true,
        config: serde_json::Map::new(),
        worker_pool: Default::default(),
        middleware: Vec::new(),
        transition: Default::default(),
    }];
    config
}

/// How an attempt ended, and why where it went wrong.
type Ended = (ExampleStatus, Option<String>);

/// Tells how the first attempt at a message ended.
struct Watcher {
    id: Uuid,
    ending: Mutex<Option<oneshot::Sender<Ended>>>,
}

impl Watcher {
    fn tell(&self, attempt: &Attempt<'_>, status: ExampleStatus, reason: Option<String>) {
        if attempt.message().id() != self.id {
            return;
        }
        let ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ending) = ending {
            // Whoever waited may have lost patience.
            let _ = ending.send((status, reason));
        }
    }
}

impl Middleware for Watcher {
    fn name(&self) -> &str {
        "plugin test"
    }

    fn after(&self, attempt: &Attempt<'_>, _memo: &mut Memo, ending: Ending) -> After {
        let reason = ending.is_bad().then(|| ending.to_string());
        let status = match &ending {
            Ending::Answered(ProcessingStatus::Acknowledged) => ExampleStatus::Acknowledged,
            Ending::Answered(ProcessingStatus::RetryLater(_)) => ExampleStatus::RetryLater,
            Ending::Answered(ProcessingStatus::Failed(_)) => ExampleStatus::Failed,
            Ending::Answered(ProcessingStatus::Forward(..)) => ExampleStatus::Forward,
            Ending::Error(_) | Ending::TimedOut(_) => ExampleStatus::Error,
        };
        self.tell(attempt, status, reason);
        After::Done(ending)
    }

    fn cut_off(&self, attempt: &Attempt<'_>, _memo: &mut Memo) {
        let reason = "it was cut off at its deadline".to_owned();
        self.tell(attempt, ExampleStatus::Error, Some(reason));
    }
}

/// What came by on the bus, the example's own message and what the host says aside.
struct Heard {
    subscription: Subscription,
    own: (Topic, Uuid),
    published: Vec<(Topic, BaseMessage)>,
}

impl Heard {
    fn new(subscription: Subscription, topic: &Topic, id: Uuid) -> Self {
        Self { subscription, own: (topic.clone(), id), published: Vec::new() }
    }

    /// Listens until this is done.
    async fn until<T>(&mut self, done: impl Future<Output = T>) -> T {
        tokio::pin!(done);
        loop {
            tokio::select! {
                biased;
                done = &mut done => return done,
                received = self.subscription.next() => match received {
                    Some(received) => self.take(received),
                    None => return done.await,
                },
            }
        }
    }

    /// Takes what has come by now.
    fn rest(&mut self) {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Some(received)) = self.subscription.poll_next(&mut cx) {
            self.take(received);
        }
    }

    fn take(&mut self, Received { topic, message }: Received) {
        let own = topic == self.own.0 && message.id() == self.own.1;
        let of_host = ["system.", "dead."].iter().any(|it| topic.as_str().starts_with(it));
        if !own && !of_host {
            self.published.push((topic, message));
        }
    }
}
