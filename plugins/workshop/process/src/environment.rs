//! The environment that programs and commands get.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;

/// Environment variables; on unix a value may be no UTF-8.
pub(crate) type Environment = BTreeMap<OsString, OsString>;

/// The variables of the host that every program gets: where programs and the home folder are, how to
/// write text, and where temporary files go.
const PASSED_ON: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];

/// The environment of the host: all of it, or what every program gets.
pub(crate) fn of_host(all: bool) -> Environment {
    let passed_on = |name: &OsString| all || PASSED_ON.iter().any(|passed_on| name == passed_on);
    env::vars_os().filter(|(name, _)| passed_on(name)).collect()
}

/// Adds variables over those that are there.
pub(crate) fn extend<N: Into<OsString>, V: Into<OsString>>(
    environment: &mut Environment,
    variables: impl IntoIterator<Item = (N, V)>,
) {
    environment.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
}

/// The variable that holds a port: `PORT_ADMIN_UI` for `admin-ui`.
pub(crate) fn port_variable(port: &str) -> String {
    format!("PORT_{}", port.to_ascii_uppercase().replace('-', "_"))
}

/// Why a text cannot name an environment variable, if it cannot.
pub(crate) fn variable_fault(name: &str) -> Option<String> {
    (name.is_empty() || name.contains(['=', '\0'])).then(|| {
        format!("{name:?} cannot name an environment variable; use letters, digits and `_`")
    })
}
