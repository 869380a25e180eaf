//! How each event changes what is known of the run.

use chrono::{DateTime, Utc};
use echo_sdk::contract::run::{StepEnded, SuiteEnded, TestEnded};
use echo_sdk::contract::service::ServiceId;

use super::{Event, RunLog, ServiceLog, ServiceState, StepLog, SuiteLog, TestLog};

impl RunLog {
    /// Takes in an event that was published at `at`. Those of other runs change nothing.
    pub fn apply(&mut self, event: &Event, at: DateTime<Utc>) {
        if *event.run_id() != self.run_id {
            return;
        }
        match event {
            Event::RunStarted(started) => {
                self.started_at = Some(at);
                self.planned_steps = started.steps;
            }
            Event::RunEnded(ended) => {
                self.outcome = Some(ended.outcome);
                self.reason.clone_from(&ended.reason);
                self.duration_ms = Some(ended.duration_ms);
                self.counts = super::Tally { tests: ended.tests, steps: ended.steps };
            }
            Event::SuiteStarted(started) => {
                let suite = self.suite_mut(&started.suite);
                suite.started_at = Some(at);
                suite.file.clone_from(&started.file);
            }
            Event::SuiteEnded(ended) => self.suite_mut(&ended.suite).end(ended),
            Event::TestStarted(started) => {
                self.suite_mut(&started.suite).test(&started.test).started_at = Some(at);
            }
            Event::TestEnded(ended) => {
                self.counts.tests.add(ended.outcome);
                self.suite_mut(&ended.suite).test(&ended.test).end(ended);
            }
            Event::StepStarted(started) => {
                let test = self.suite_mut(&started.suite).test(&started.test);
                let step = test.step(started.index, &started.step);
                step.service.clone_from(&started.service);
                step.command.clone_from(&started.command);
            }
            Event::StepEnded(ended) => {
                self.counts.steps.add(ended.outcome);
                let test = self.suite_mut(&ended.suite).test(&ended.test);
                test.step(ended.index, &ended.step).end(ended);
            }
            service => self.apply_service(service),
        }
    }

    fn apply_service(&mut self, event: &Event) {
        match event {
            Event::ServiceStarting { id, service_type } => {
                self.service(id, service_type);
            }
            Event::ServiceStarted(started) => {
                self.service(&started.id, &started.service_type).state = ServiceState::Started;
            }
            Event::ServiceReady(ready) => {
                let service = self.service(&ready.id, &ready.service_type);
                service.state = ServiceState::Ready;
                service.ready_ms = Some(ready.duration_ms);
                service.evidence.clone_from(&ready.evidence);
            }
            Event::ServiceFailed(failed) => {
                let service = self.service(&failed.id, &failed.service_type);
                service.state = ServiceState::Failed;
                service.gone = true;
                service.reason = Some(failed.reason.clone());
                service.log.clone_from(&failed.log);
            }
            Event::ServiceDied(died) => {
                let service = self.service(&died.id, &died.service_type);
                service.state = ServiceState::Died;
                service.reason = Some(format!("it died: {}", died.ending));
                service.log.clone_from(&died.log);
            }
            Event::ServiceStopped(stopped) => {
                self.service(&stopped.id, &stopped.service_type).gone = true;
            }
            _ => {}
        }
    }

    fn suite_mut(&mut self, name: &str) -> &mut SuiteLog {
        find_or_add(&mut self.suites, |suite| suite.name == name, || SuiteLog::new(name))
    }

    fn service(&mut self, id: &ServiceId, service_type: &str) -> &mut ServiceLog {
        let services = &mut self.suite_mut(&id.suite).services;
        let add = || ServiceLog::new(&id.service, service_type);
        find_or_add(services, |service| service.name == id.service, add)
    }
}

impl SuiteLog {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            file: None,
            outcome: None,
            reason: None,
            started_at: None,
            duration_ms: None,
            services: Vec::new(),
            tests: Vec::new(),
        }
    }

    fn test(&mut self, name: &str) -> &mut TestLog {
        find_or_add(&mut self.tests, |test| test.name == name, || TestLog::new(name))
    }

    fn end(&mut self, ended: &SuiteEnded) {
        self.outcome = Some(ended.outcome);
        self.reason.clone_from(&ended.reason);
        self.duration_ms = Some(ended.duration_ms);
        for service in &mut self.services {
            if let Some(log) = ended.service_logs.get(&service.name) {
                service.log.clone_from(log);
            }
        }
    }
}

impl ServiceLog {
    fn new(name: &str, service_type: &str) -> Self {
        Self {
            name: name.to_owned(),
            service_type: service_type.to_owned(),
            state: ServiceState::Starting,
            gone: false,
            ready_ms: None,
            evidence: Vec::new(),
            reason: None,
            log: Vec::new(),
        }
    }
}

impl TestLog {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            outcome: None,
            reason: None,
            started_at: None,
            duration_ms: None,
            steps: Vec::new(),
        }
    }

    /// Steps are kept by their place, so that those of one test stay in order however they end.
    fn step(&mut self, index: usize, name: &str) -> &mut StepLog {
        let at = self.steps.partition_point(|step| step.index < index);
        if self.steps.get(at).is_none_or(|step| step.index != index) {
            self.steps.insert(at, StepLog::new(index, name));
        }
        &mut self.steps[at]
    }

    fn end(&mut self, ended: &TestEnded) {
        self.outcome = Some(ended.outcome);
        self.reason.clone_from(&ended.reason);
        self.duration_ms = Some(ended.duration_ms);
    }
}

impl StepLog {
    fn new(index: usize, name: &str) -> Self {
        Self {
            index,
            name: name.to_owned(),
            service: None,
            command: Vec::new(),
            outcome: None,
            exit_code: None,
            stdout: String::new(),
            stderr: String::new(),
            failures: Vec::new(),
            duration_ms: None,
        }
    }

    fn end(&mut self, ended: &StepEnded) {
        self.service.clone_from(&ended.service);
        self.command.clone_from(&ended.command);
        self.outcome = Some(ended.outcome);
        self.exit_code = ended.exit_code;
        self.stdout.clone_from(&ended.stdout);
        self.stderr.clone_from(&ended.stderr);
        self.failures.clone_from(&ended.failures);
        self.duration_ms = Some(ended.duration_ms);
    }
}

fn find_or_add<T>(
    items: &mut Vec<T>,
    is_it: impl Fn(&T) -> bool,
    make: impl FnOnce() -> T,
) -> &mut T {
    let at = items.iter().position(is_it).unwrap_or_else(|| {
        items.push(make());
        items.len() - 1
    });
    &mut items[at]
}
