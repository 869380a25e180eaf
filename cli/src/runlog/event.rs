//! The messages on the bus that tell how a run goes.

use echo_sdk::contract::RunId;
use echo_sdk::contract::run::{
    self, RunEnded, RunStarted, StepEnded, StepStarted, SuiteEnded, SuiteStarted, TestEnded,
    TestStarted,
};
use echo_sdk::contract::service::{
    self, ServiceDied, ServiceFailed, ServiceId, ServiceReady, ServiceStart, ServiceStarted,
    ServiceStop, ServiceStopped,
};
use echo_sdk::{MessageError, Received};

/// One of the messages that tell how a run goes.
#[derive(Debug, Clone)]
pub enum Event {
    /// The run has begun.
    RunStarted(RunStarted),
    /// The run is over.
    RunEnded(RunEnded),
    /// A suite has begun.
    SuiteStarted(SuiteStarted),
    /// A suite is over.
    SuiteEnded(SuiteEnded),
    /// A test has begun.
    TestStarted(TestStarted),
    /// A test is over.
    TestEnded(TestEnded),
    /// A step has begun.
    StepStarted(StepStarted),
    /// A step is over.
    StepEnded(StepEnded),
    /// A service was asked to start.
    ServiceStarting {
        /// The service.
        id: ServiceId,
        /// Its type.
        service_type: String,
    },
    /// A service's process or container runs.
    ServiceStarted(ServiceStarted),
    /// A service is ready.
    ServiceReady(ServiceReady),
    /// A service did not come up.
    ServiceFailed(ServiceFailed),
    /// A service died after it was ready.
    ServiceDied(ServiceDied),
    /// A service was asked to stop.
    ServiceStopping(ServiceId),
    /// A service was stopped.
    ServiceStopped(ServiceStopped),
}

impl Event {
    /// Reads a message; `None` when it does not tell how a run goes.
    ///
    /// # Errors
    /// [`MessageError`] when a message on one of the runs' topics has another form.
    pub fn read(received: &Received) -> Result<Option<Self>, MessageError> {
        let Received { topic, message } = received;
        Ok(Some(match topic.as_str() {
            run::STARTED => Self::RunStarted(message.json()?),
            run::ENDED => Self::RunEnded(message.json()?),
            run::SUITE_STARTED => Self::SuiteStarted(message.json()?),
            run::SUITE_ENDED => Self::SuiteEnded(message.json()?),
            run::TEST_STARTED => Self::TestStarted(message.json()?),
            run::TEST_ENDED => Self::TestEnded(message.json()?),
            run::STEP_STARTED => Self::StepStarted(message.json()?),
            run::STEP_ENDED => Self::StepEnded(message.json()?),
            service::STARTED => Self::ServiceStarted(message.json()?),
            service::READY => Self::ServiceReady(message.json()?),
            service::FAILED => Self::ServiceFailed(message.json()?),
            service::DIED => Self::ServiceDied(message.json()?),
            service::STOPPED => Self::ServiceStopped(message.json()?),
            topic if topic.starts_with("service.start.") => {
                let ServiceStart { id, spec, .. } = message.json()?;
                Self::ServiceStarting { id, service_type: spec.service_type }
            }
            topic if topic.starts_with("service.stop.") => {
                let ServiceStop { id } = message.json()?;
                Self::ServiceStopping(id)
            }
            _ => return Ok(None),
        }))
    }

    /// The run that it tells of.
    pub fn run_id(&self) -> &RunId {
        match self {
            Self::RunStarted(it) => &it.run_id,
            Self::RunEnded(it) => &it.run_id,
            Self::SuiteStarted(it) => &it.run_id,
            Self::SuiteEnded(it) => &it.run_id,
            Self::TestStarted(it) => &it.run_id,
            Self::TestEnded(it) => &it.run_id,
            Self::StepStarted(it) => &it.run_id,
            Self::StepEnded(it) => &it.run_id,
            Self::ServiceStarting { id, .. } | Self::ServiceStopping(id) => &id.run_id,
            Self::ServiceStarted(it) => &it.id.run_id,
            Self::ServiceReady(it) => &it.id.run_id,
            Self::ServiceFailed(it) => &it.id.run_id,
            Self::ServiceDied(it) => &it.id.run_id,
            Self::ServiceStopped(it) => &it.id.run_id,
        }
    }
}
