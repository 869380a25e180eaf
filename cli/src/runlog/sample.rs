//! A run to test summary and reports on, told as the bus tells it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use echo_sdk::contract::RunId;
use echo_sdk::contract::run::{
    self, Counts, Outcome, RunEnded, RunStarted, StepEnded, StepStarted, SuiteEnded, SuiteStarted,
    TestEnded, TestStarted,
};
use echo_sdk::contract::service::{
    self, ServiceAddress, ServiceFailed, ServiceId, ServiceReady, ServiceStarted, ServiceStopped,
};
use echo_sdk::{BaseMessage, Received, Topic};
use serde::Serialize;
use serde_json::json;

use super::{Event, RunLog};

/// Messages as they come from the bus.
pub struct Story {
    run_id: RunId,
    /// The messages so far.
    pub messages: Vec<Received>,
}

/// The record of a run of two suites: `shop`, of which one test fails, and `broken`, whose service does not
/// come up.
pub fn shop() -> RunLog {
    Story::shop().log()
}

impl Story {
    fn new() -> Self {
        Self { run_id: RunId::new("run-1").unwrap(), messages: Vec::new() }
    }

    /// The messages of [`shop`].
    pub fn shop() -> Self {
        let mut story = Self::new();
        let run_id = story.run_id.clone();
        let suites = vec!["shop".into(), "broken".into()];
        story
            .tell(run::STARTED, &RunStarted { run_id: run_id.clone(), suites, tests: 3, steps: 3 });
        story.shop_suite();
        story.broken_suite();
        let tests = Counts { passed: 1, failed: 1, skipped: 1, ..Counts::default() };
        let steps = Counts { passed: 1, failed: 1, skipped: 1, ..Counts::default() };
        let ended = RunEnded {
            run_id,
            outcome: Outcome::Failed,
            tests,
            steps,
            duration_ms: 1234.5,
            reason: None,
        };
        story.tell(run::ENDED, &ended);
        story
    }

    /// The record of the messages.
    pub fn log(&self) -> RunLog {
        let mut log = RunLog::new(self.run_id.clone());
        for received in &self.messages {
            if let Some(event) = Event::read(received).unwrap() {
                log.apply(&event, received.message.timestamp());
            }
        }
        log
    }

    /// Adds a message; each is a second after the one before.
    pub fn tell<T: Serialize>(&mut self, topic: &str, data: &T) {
        let seconds = i64::try_from(self.messages.len()).unwrap();
        let at: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        let message = BaseMessage::builder("test").timestamp(at).data(data).build().unwrap();
        self.messages.push(Received { topic: Topic::new(topic).unwrap(), message });
    }

    fn shop_suite(&mut self) {
        let run_id = self.run_id.clone();
        let started = SuiteStarted {
            run_id: run_id.clone(),
            suite: "shop".into(),
            file: Some("shop.toml".into()),
            tests: 3,
            services: vec!["api".into()],
        };
        self.tell(run::SUITE_STARTED, &started);
        let api = self.service("shop", "api");
        self.service_comes_up(&api);
        self.test("browse", "look", Outcome::Passed, Some(0), "all is there\n", "", None);
        let failure = Some("the exit code is 4, expected 0");
        self.test("buy", "pay", Outcome::Failed, Some(4), "", "no <money>\n", failure);
        let reason = Some("the test before it failed");
        self.test("return", "send", Outcome::Skipped, None, "", "", reason);
        let stopped = ServiceStopped { id: api, service_type: "process".into(), duration_ms: 3.0 };
        self.tell(service::STOPPED, &stopped);
        let ended = SuiteEnded {
            run_id,
            suite: "shop".into(),
            outcome: Outcome::Failed,
            tests: Counts { passed: 1, failed: 1, skipped: 1, ..Counts::default() },
            duration_ms: 1000.0,
            reason: None,
            service_logs: BTreeMap::from([("api".into(), vec!["GET /pay 402".into()])]),
        };
        self.tell(run::SUITE_ENDED, &ended);
    }

    fn broken_suite(&mut self) {
        let run_id = self.run_id.clone();
        let db = self.service("broken", "db");
        let spec = json!({ "type": "generic_container", "image": "db:9" });
        let mut start = serde_json::to_value(&db).unwrap();
        start["spec"] = spec;
        self.tell("service.start.generic_container", &start);
        let failed = ServiceFailed {
            id: db,
            service_type: "generic_container".into(),
            reason: "the image `db:9` does not exist".into(),
            log: Vec::new(),
        };
        self.tell(service::FAILED, &failed);
        let ended = SuiteEnded {
            run_id,
            suite: "broken".into(),
            outcome: Outcome::Errored,
            tests: Counts::default(),
            duration_ms: 20.0,
            reason: None,
            service_logs: BTreeMap::new(),
        };
        self.tell(run::SUITE_ENDED, &ended);
    }

    fn service(&self, suite: &str, service: &str) -> ServiceId {
        let (suite, service) = (suite.to_owned(), service.to_owned());
        ServiceId { run_id: self.run_id.clone(), suite, service }
    }

    fn service_comes_up(&mut self, id: &ServiceId) {
        let started = ServiceStarted {
            id: id.clone(),
            service_type: "process".into(),
            address: ServiceAddress::default(),
            duration_ms: 1.0,
        };
        self.tell(service::STARTED, &started);
        let ready = ServiceReady {
            id: id.clone(),
            service_type: "process".into(),
            evidence: vec!["port 8080 accepts connections".into()],
            duration_ms: 35.0,
        };
        self.tell(service::READY, &ready);
    }

    #[expect(clippy::too_many_arguments, reason = "one line for each test of the story")]
    fn test(
        &mut self,
        test: &str,
        step: &str,
        outcome: Outcome,
        exit_code: Option<i32>,
        stdout: &str,
        stderr: &str,
        failure: Option<&str>,
    ) {
        let (run_id, suite) = (self.run_id.clone(), "shop".to_owned());
        let command: Vec<String> = vec!["sh".into(), "-c".into(), step.into()];
        let service = Some("api".to_owned());
        let (test, step) = (test.to_owned(), step.to_owned());
        let started = TestStarted {
            run_id: run_id.clone(),
            suite: suite.clone(),
            test: test.clone(),
            steps: 1,
        };
        self.tell(run::TEST_STARTED, &started);
        if exit_code.is_some() {
            let started = StepStarted {
                run_id: run_id.clone(),
                suite: suite.clone(),
                test: test.clone(),
                step: step.clone(),
                index: 0,
                service: service.clone(),
                command: command.clone(),
            };
            self.tell(run::STEP_STARTED, &started);
        }
        let ended = StepEnded {
            run_id: run_id.clone(),
            suite: suite.clone(),
            test: test.clone(),
            step,
            index: 0,
            service,
            command,
            outcome,
            exit_code,
            stdout: stdout.into(),
            stderr: stderr.into(),
            failures: failure.map(str::to_owned).into_iter().collect(),
            duration_ms: 10.0,
        };
        self.tell(run::STEP_ENDED, &ended);
        let mut steps = Counts::default();
        steps.add(outcome);
        let reason = failure.filter(|_| outcome == Outcome::Skipped).map(str::to_owned);
        let ended = TestEnded { run_id, suite, test, outcome, steps, duration_ms: 12.0, reason };
        self.tell(run::TEST_ENDED, &ended);
    }
}
