//! The labels and names by which all that belongs to a run is found again.

use std::collections::HashMap;

use echo_sdk::contract::RunId;
use echo_sdk::contract::service::ServiceId;
use echo_sdk::service::Scope;

/// What the keys of our own labels begin with.
pub const PREFIX: &str = "echo-core.";
const RUN: &str = "echo-core.run";
const SUITE: &str = "echo-core.suite";
const SERVICE: &str = "echo-core.service";
const HOST: &str = "echo-core.host";

/// What belongs to a suite as a whole: its network and its volumes.
pub fn of_suite(run_id: &RunId, suite: &str) -> HashMap<String, String> {
    let host = std::process::id().to_string();
    [(RUN, run_id.as_str()), (SUITE, suite), (HOST, &host)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// What belongs to one service: its container.
pub fn of_service(id: &ServiceId) -> HashMap<String, String> {
    let mut labels = of_suite(&id.run_id, &id.suite);
    labels.insert(SERVICE.to_owned(), id.service.clone());
    labels
}

/// The labels of what belongs to a scope.
pub fn of_scope(scope: Scope<'_>) -> HashMap<String, String> {
    let labels = match scope {
        Scope::Run(run_id) => vec![(RUN, run_id.as_str())],
        Scope::Service(ServiceId { run_id, suite, service }) => {
            vec![(RUN, run_id.as_str()), (SUITE, suite), (SERVICE, service)]
        }
    };
    labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// What a suite's network is called, and what the names of all that is the suite's begin with. The parts
/// hold no dot, so that two names differ when a part does.
pub fn suite_name(run_id: &RunId, suite: &str) -> String {
    format!("{PREFIX}{run_id}.{suite}")
}

/// What a service's container is called.
pub fn container_name(id: &ServiceId) -> String {
    format!("{}.{}", suite_name(&id.run_id, &id.suite), id.service)
}
