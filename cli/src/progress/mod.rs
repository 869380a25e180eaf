//! What a person sees on standard error while a run goes: bars on a terminal, plain lines elsewhere.

mod bars;
mod lines;
mod terminal;

use crate::runlog::{Event, RunLog};

use bars::Bars;
use lines::line;

pub use terminal::Terminal;

/// Shows how a run goes.
pub struct Progress {
    terminal: Terminal,
    bars: Option<Bars>,
}

impl Progress {
    /// Bars where there is a terminal to draw them on.
    pub fn new(terminal: Terminal) -> Self {
        let palette = terminal.output().err;
        let bars = terminal.bars().map(|all| Bars::new(all.clone(), palette));
        Self { terminal, bars }
    }

    /// Shows an event that `log` has just taken in.
    pub fn event(&mut self, event: &Event, log: &RunLog) {
        if let Some(bars) = &mut self.bars {
            bars.event(event, log);
        }
        if let Some(line) = line(event, log, self.terminal.output()) {
            self.terminal.say(&line);
        }
    }

    /// Says something beside the run's events.
    pub fn say(&self, text: &str) {
        self.terminal.say(text);
    }

    /// Takes the bars away; what was said stays.
    pub fn finish(&mut self) {
        self.bars = None;
    }
}
