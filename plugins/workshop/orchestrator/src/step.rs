//! One step: its command is asked for, and judged by its ending.

use std::collections::BTreeMap;
use std::time::Duration;

use echo_sdk::Span;
use echo_sdk::contract::reference::{ReferenceError, resolve};
use echo_sdk::contract::run::{self, Outcome, StepEnded, StepStarted};
use echo_sdk::contract::service::{ServiceAddress, ServiceDied, ServiceExec};
use tokio::time::Instant;

use crate::deaths::Deaths;
use crate::judge::{Verdict, judge};
use crate::link::{LOCAL, MARGIN, Verb};
use crate::plan::PlannedStep;
use crate::services::Services;
use crate::stop::Cause;
use crate::suite::{Scene, millis};

/// How long past a suite's or run's timeout a command may go on before the service plugin kills it.
/// By then nobody waits for it any more.
const GRACE: Duration = Duration::from_millis(250);

/// A step on its way.
pub(crate) struct StepRun<'a> {
    pub(crate) scene: &'a Scene<'a>,
    pub(crate) services: &'a Services<'a>,
    pub(crate) test: &'a str,
    /// The test's span.
    pub(crate) span: &'a Span,
    pub(crate) index: usize,
    pub(crate) planned: &'a PlannedStep<'a>,
}

impl StepRun<'_> {
    /// Tells that the step is not run, and why.
    pub(crate) async fn skip(&self, reason: &str) {
        let verdict = Verdict::without_ending(Outcome::Skipped, reason);
        let command = self.planned.step.command.clone();
        self.tell_end(self.span, command, verdict, Duration::ZERO).await;
    }

    /// Runs the step's command and judges its ending; gives the cause, too, where it was ended early.
    pub(crate) async fn run(&self, deaths: &mut Deaths<'_>) -> (Outcome, Option<Cause>) {
        let started = Instant::now();
        let step = self.planned.step;
        let attributes = [("step", step.name.as_str()), ("test", self.test)];
        let mut span = self.scene.link.span(self.span, "test.step", &attributes);
        let exec = self.exec();
        let command = exec.as_ref().map_or(&step.command, |exec| &exec.command).clone();
        self.tell_start(&span, &command).await;
        let ended = match exec {
            Ok(exec) => self.scene.stop.or(self.verdict(&exec, deaths, &span)).await,
            Err(fault) => Ok(Verdict::without_ending(Outcome::Errored, fault.to_string())),
        };
        let (verdict, cut) = match ended {
            Ok(verdict) => (verdict, None),
            Err(cause) => {
                let reason = format!("the step was ended early: {cause}");
                (Verdict::without_ending(cause.outcome(), reason), Some(cause))
            }
        };
        let outcome = verdict.outcome;
        if verdict.outcome != Outcome::Passed {
            span.set_error(&verdict.failures.join("; "));
        }
        self.tell_end(&span, command, verdict, started.elapsed()).await;
        (outcome, cut)
    }

    async fn verdict(&self, exec: &ServiceExec, deaths: &mut Deaths<'_>, span: &Span) -> Verdict {
        let service = exec.service.as_deref();
        let service_type = match service {
            Some(service) => self.services.type_of(service).unwrap_or_default(),
            None => LOCAL,
        };
        let timeout = exec.timeout.saturating_add(MARGIN);
        let link = self.scene.link;
        let answer = link.ask(Verb::Exec, service_type, exec, span.context(), timeout);
        match deaths.during(service, answer).await {
            Ok(Ok(reply)) => judge(self.planned, reply),
            Ok(Err(error)) => Verdict::without_ending(Outcome::Errored, error.to_string()),
            Err(died) => Verdict::without_ending(Outcome::Errored, dead(&died)),
        }
    }

    /// The command as it is asked for, references filled in.
    fn exec(&self) -> Result<ServiceExec, ReferenceError> {
        let step = self.planned.step;
        let service = step.service.as_deref();
        let scope = self.services.scope(service);
        let command = step.command.iter().map(|part| resolve(part, &scope));
        let command = command.collect::<Result<_, _>>()?;
        let mut env = self.own_env();
        for (name, value) in self.scene.suite.env.iter().chain(&step.env) {
            env.insert(name.clone(), resolve(value, &scope)?);
        }
        let workdir = step.workdir.as_deref().map(|dir| resolve(dir, &scope)).transpose()?;
        Ok(ServiceExec {
            run_id: self.scene.link.run_id().clone(),
            suite: self.scene.suite.name.clone(),
            service: step.service.clone(),
            command,
            env,
            workdir,
            dir: self.scene.suite.dir.clone(),
            timeout: self.timeout(),
        })
    }

    /// What every step is told of itself; and a step on this machine, of the services.
    fn own_env(&self) -> BTreeMap<String, String> {
        let step = self.planned.step;
        let mut env: BTreeMap<String, String> = [
            ("ECHO_RUN_ID", self.scene.link.run_id().as_str()),
            ("ECHO_SUITE", &self.scene.suite.name),
            ("ECHO_TEST", self.test),
            ("ECHO_STEP", &step.name),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        if step.service.is_none() {
            let ready = self.services.ready().iter();
            env.extend(ready.flat_map(|(name, address)| service_env(name, address)));
        }
        env
    }

    /// The step's own timeout. It is cut where suite or run end earlier, so that a command ends with them
    /// although nobody waits for its answer then.
    fn timeout(&self) -> Duration {
        let own = self.planned.step.timeout;
        let rest = self.scene.stop.remaining();
        rest.map_or(own, |rest| own.min(rest.saturating_add(GRACE)))
    }

    async fn tell_start(&self, span: &Span, command: &[String]) {
        let event = StepStarted {
            run_id: self.scene.link.run_id().clone(),
            suite: self.scene.suite.name.clone(),
            test: self.test.to_owned(),
            step: self.planned.step.name.clone(),
            index: self.index,
            service: self.planned.step.service.clone(),
            command: command.to_vec(),
        };
        self.scene.link.tell(run::STEP_STARTED, span, &event).await;
    }

    async fn tell_end(&self, span: &Span, command: Vec<String>, verdict: Verdict, took: Duration) {
        let event = StepEnded {
            run_id: self.scene.link.run_id().clone(),
            suite: self.scene.suite.name.clone(),
            test: self.test.to_owned(),
            step: self.planned.step.name.clone(),
            index: self.index,
            service: self.planned.step.service.clone(),
            command,
            outcome: verdict.outcome,
            exit_code: verdict.exit_code,
            stdout: verdict.stdout,
            stderr: verdict.stderr,
            failures: verdict.failures,
            duration_ms: millis(took),
        };
        self.scene.link.tell(run::STEP_ENDED, span, &event).await;
    }
}

/// The sentence on a service that has died.
pub(crate) fn dead(died: &ServiceDied) -> String {
    format!("service `{}` died after it was ready: {}", died.id.service, died.ending)
}

/// `ECHO_SERVICE_<NAME>_HOST` and one `ECHO_SERVICE_<NAME>_PORT_<PORT>` for each port.
fn service_env(name: &str, address: &ServiceAddress) -> Vec<(String, String)> {
    let in_capitals =
        |text: &str| text.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let prefix = format!("ECHO_SERVICE_{}", in_capitals(name));
    let ports = address.ports.iter();
    let mut env: Vec<_> = ports
        .map(|(port, number)| (format!("{prefix}_PORT_{}", in_capitals(port)), number.to_string()))
        .collect();
    env.push((format!("{prefix}_HOST"), address.host.clone()));
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_told_of_in_variables_that_a_shell_can_name() {
        let address = ServiceAddress {
            host: "127.0.0.1".into(),
            ports: [("http-api".into(), 4711), ("80".into(), 4712)].into(),
            instance: "7".into(),
            peers: None,
        };
        let env: BTreeMap<_, _> = service_env("my-db", &address).into_iter().collect();
        assert_eq!(env["ECHO_SERVICE_MY_DB_HOST"], "127.0.0.1");
        assert_eq!(env["ECHO_SERVICE_MY_DB_PORT_HTTP_API"], "4711");
        assert_eq!(env["ECHO_SERVICE_MY_DB_PORT_80"], "4712");
    }
}
