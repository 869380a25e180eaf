//! Standard error, shared by lines, bars and the host's log, which must not run into each other.

use std::io::{self, IsTerminal, Write};

use indicatif::MultiProgress;

use crate::output::{Output, Style, Verbosity};

/// Standard error. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Terminal {
    output: Output,
    bars: Option<MultiProgress>,
}

impl Terminal {
    /// Has bars where standard error is a terminal and it is not to be quiet.
    pub fn new(output: Output) -> Self {
        let wants_bars = output.verbosity > Verbosity::Quiet && io::stderr().is_terminal();
        Self { output, bars: wants_bars.then(MultiProgress::new) }
    }

    /// Colours, and how much to tell.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Where bars are drawn.
    pub fn bars(&self) -> Option<&MultiProgress> {
        self.bars.as_ref()
    }

    /// Says a line, above the bars if there are some.
    pub fn say(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| self.output.say(text)),
            None => self.output.say(text),
        }
    }

    /// Says what someone should look at, in any case.
    pub fn warn(&self, text: &str) {
        let label = self.output.err.paint(Style::Warn, "warning:");
        let warn = || self.output.complain(format_args!("{label} {text}\n"));
        match &self.bars {
            Some(bars) => bars.suspend(warn),
            None => warn(),
        }
    }

    /// What makes writers for log lines.
    pub fn log_writer(&self) -> impl Fn() -> LogWriter + Send + Sync + 'static {
        let bars = self.bars.clone();
        move || LogWriter { bars: bars.clone() }
    }
}

/// Writes log lines above the bars.
pub struct LogWriter {
    bars: Option<MultiProgress>,
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.bars {
            Some(bars) => bars.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
