//! A spinner for each service that starts or stops and each test that runs, over a bar of all steps.

use std::collections::HashMap;
use std::time::Duration;

use echo_sdk::contract::service::ServiceId;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::{Palette, Style};
use crate::runlog::{Event, RunLog, title};

/// How often the spinners turn.
const TICK: Duration = Duration::from_millis(100);

const BAR: &str = "  {bar:32} {pos}/{len} steps  {elapsed}  {msg}";
const SPINNER: &str = "  {spinner} {wide_msg} {elapsed}";

/// The bars of a run; they vanish when dropped.
pub struct Bars {
    all: MultiProgress,
    /// All steps; there once it is known how many there are.
    steps: Option<ProgressBar>,
    spinners: HashMap<String, ProgressBar>,
    palette: Palette,
}

impl Bars {
    /// No bars yet.
    pub fn new(all: MultiProgress, palette: Palette) -> Self {
        Self { all, steps: None, spinners: HashMap::new(), palette }
    }

    /// Shows an event.
    pub fn event(&mut self, event: &Event, log: &RunLog) {
        match event {
            Event::ServiceStarting { id, .. } => self.spin(service(id), "starting"),
            Event::ServiceReady(it) => self.stop(&service(&it.id)),
            Event::ServiceFailed(it) => self.stop(&service(&it.id)),
            Event::ServiceStopping(id) => self.spin(service(id), "stopping"),
            Event::ServiceStopped(it) => self.stop(&service(&it.id)),
            Event::TestStarted(it) => self.spin(title(&it.suite, &it.test), "running"),
            Event::StepStarted(it) => {
                self.spin(title(&it.suite, &it.test), &format!("running {} of", it.step));
            }
            Event::TestEnded(it) => self.stop(&title(&it.suite, &it.test)),
            _ => {}
        }
        self.count(log);
    }

    fn spin(&mut self, what: String, doing: &str) {
        let text = format!("{doing} {}", self.palette.paint(Style::Strong, &what));
        let spinner = self.spinners.entry(what).or_insert_with(|| {
            let spinner = ProgressBar::new_spinner().with_style(spinner_style());
            let spinner = match &self.steps {
                Some(steps) => self.all.insert_before(steps, spinner),
                None => self.all.add(spinner),
            };
            spinner.enable_steady_tick(TICK);
            spinner
        });
        spinner.set_message(text);
    }

    fn stop(&mut self, what: &str) {
        if let Some(spinner) = self.spinners.remove(what) {
            spinner.finish_and_clear();
            self.all.remove(&spinner);
        }
    }

    fn count(&mut self, log: &RunLog) {
        let counts = log.counts.steps;
        let red = counts.failed + counts.errored;
        let done = red + counts.passed + counts.skipped + counts.interrupted;
        let length = log.planned_steps.max(done) as u64;
        if length == 0 {
            return;
        }
        let steps = self.steps.get_or_insert_with(|| {
            let steps = self.all.add(ProgressBar::new(length).with_style(bar_style()));
            steps.enable_steady_tick(TICK);
            steps
        });
        steps.set_length(length);
        steps.set_position(done as u64);
        if red > 0 {
            steps.set_message(self.palette.paint(Style::Bad, format_args!("{red} failed")));
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        for bar in self.spinners.values().chain(&self.steps) {
            bar.finish_and_clear();
        }
    }
}

/// A service as it is shown; a test of the same name is another thing.
fn service(id: &ServiceId) -> String {
    format!("service {} > {}", id.suite, id.service)
}

/// A template is a constant: one with a fault would leave indicatif's own style.
fn bar_style() -> ProgressStyle {
    let style = ProgressStyle::with_template(BAR);
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

fn spinner_style() -> ProgressStyle {
    let style = ProgressStyle::with_template(SPINNER);
    style.unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_sound() {
        for template in [BAR, SPINNER] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
