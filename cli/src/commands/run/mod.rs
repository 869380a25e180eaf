//! `run`: suites, from their files to an exit code.

mod plan;
mod session;
mod settings;

use echo_core::Host;
use echo_sdk::contract::RunId;
use echo_sdk::contract::run::{Outcome, RunStart};
use echo_sdk::contract::suite::Suite;

use crate::args::RunArgs;
use crate::builtin;
use crate::commands::Setup;
use crate::exit::{CommandResult, Exit, Failure};
use crate::host;
use crate::interrupts::Interrupts;
use crate::output::Output;
use crate::progress::Progress;
use crate::report::OpenReport;
use crate::runlog::RunLog;
use crate::stream::EventStream;
use crate::suites;
use crate::summary::summary;

use plan::Plan;
use session::{Ending, Session};
use settings::RunSettings;

/// Runs suites.
pub async fn run(setup: &Setup<'_>, args: RunArgs) -> CommandResult {
    let settings = RunSettings::new(&args, &setup.config.run).map_err(Failure::usage)?;
    let suites = suites::load(&args.paths, &builtin::service_types(&setup.config.plugins)?)?;
    let plan = Plan::new(&suites, settings.filter.as_ref());
    if plan.is_empty() {
        return Err(Failure::usage(nothing_to_run(&args)));
    }
    if settings.dry_run {
        return dry_run(setup.output, &settings, &plan);
    }
    follow(setup, settings, suites).await
}

fn nothing_to_run(args: &RunArgs) -> String {
    match &args.filter {
        Some(filter) => {
            format!("no test's `suite/test` is matched by `--filter {filter}`; nothing was run")
        }
        None => "the suites hold no tests; nothing was run".to_owned(),
    }
}

fn dry_run(output: &Output, settings: &RunSettings, plan: &Plan<'_>) -> CommandResult {
    let printed =
        if settings.json { output.json(plan) } else { output.result(plan.show(output.out)) };
    printed.map_err(Failure::surroundings)?;
    Ok(Exit::Success)
}

/// Runs them on a host of this process and tells how it went.
async fn follow(setup: &Setup<'_>, settings: RunSettings, suites: Vec<Suite>) -> CommandResult {
    let mut interrupts = Interrupts::catch().map_err(Failure::surroundings)?;
    let events = settings.events.as_deref().map(EventStream::open).transpose();
    let events = events.map_err(Failure::surroundings)?;
    let reports: Result<Vec<OpenReport>, _> =
        settings.reports.into_iter().map(|it| it.open()).collect();
    let reports = reports.map_err(Failure::surroundings)?;
    let host = tokio::select! {
        host = host::start(setup, setup.config.clone()) => host?,
        _ = interrupts.next() => return Ok(Exit::Interrupted),
    };
    let start = RunStart { run_id: RunId::fresh(), suites, options: settings.options };
    let progress = Progress::new(setup.terminal.clone());
    let session = Session::new(&host, start.run_id.clone(), events, progress, interrupts).await;
    let mut session = match session {
        Ok(session) => session,
        Err(error) => {
            host::shut_down(setup.output, host).await;
            return Err(Failure::surroundings(error));
        }
    };
    let followed = lead_to_end(&mut session, host, &start).await;
    let interrupted = session.signals > 0;
    let (log, events) = session.finish();
    let mut exit = match (&followed, log.verdict()) {
        _ if interrupted => Exit::Interrupted,
        (Ok(()), Some(outcome)) => Exit::from(outcome),
        _ => Exit::Surroundings,
    };
    let written = tell(setup.output, &log, reports, events, settings.summary_on_stdout);
    if let Err(failure) = written {
        setup.output.complain(failure.show(setup.output.err));
        exit = worse(exit, failure.exit);
    }
    followed.map_err(|error| Failure::surroundings(error).with_exit(exit))?;
    if log.verdict() == Some(Outcome::Skipped) {
        return Err(Failure::usage("no test was run: all were skipped"));
    }
    Ok(exit)
}

/// Follows the run and shuts the host down. What a run left that did not end by itself is removed first.
async fn lead_to_end(
    session: &mut Session,
    host: Host,
    start: &RunStart,
) -> Result<(), session::SessionError> {
    let ending = session.run(start).await;
    let by_itself = matches!(ending, Ok(Ending::Ended));
    if !by_itself {
        for failure in session.clean_up().await {
            session.say(&failure);
        }
    }
    session.shut_down(host, !by_itself).await;
    ending.map(|_| ())
}

/// Writes summary, reports and events.
fn tell(
    output: &Output,
    log: &RunLog,
    reports: Vec<OpenReport>,
    events: Option<EventStream>,
    summary_on_stdout: bool,
) -> Result<(), Failure> {
    if summary_on_stdout {
        output.result(summary(log, output.out)).map_err(Failure::surroundings)?;
    } else {
        output.say(summary(log, output.err).trim_end());
    }
    for report in reports {
        report.write(log, output).map_err(Failure::surroundings)?;
    }
    events.map_or(Ok(()), |events| events.finish().map_err(Failure::surroundings))
}

/// A report that could not be written does not hide that a test failed.
fn worse(exit: Exit, other: Exit) -> Exit {
    if exit == Exit::Success { other } else { exit }
}
