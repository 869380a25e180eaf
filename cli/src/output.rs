//! What a person or another program reads: results on standard output, everything else on standard error.
//!
//! The only module that prints. A reader that went away (`echo-core services | head -1`) ends the printing,
//! not the program: what runs is still cleaned up.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColorChoice {
    fn on(self, stream: &impl IsTerminal) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
                stream.is_terminal() && !unwanted && !dumb
            }
        }
    }
}

/// What a text is, which decides on its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// All is well.
    Good,
    /// Something is wrong.
    Bad,
    /// Something was left out or is missing.
    Warn,
    /// The thing that is talked about.
    Strong,
    /// What matters less.
    Dim,
}

/// Puts texts into colour, or leaves them as they are.
#[derive(Debug, Clone, Copy)]
pub struct Palette {
    on: bool,
}

impl Palette {
    /// Leaves texts as they are.
    #[cfg(test)]
    pub const PLAIN: Self = Self { on: false };

    /// Whether it colours.
    pub fn is_on(self) -> bool {
        self.on
    }

    /// The text in its colour.
    pub fn paint(self, style: Style, text: impl Display) -> String {
        let code = match style {
            Style::Good => "32",
            Style::Bad => "31",
            Style::Warn => "33",
            Style::Strong => "1",
            Style::Dim => "2",
        };
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// How much to tell on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors alone.
    Quiet,
    /// What a person wants to follow.
    Normal,
    /// Each step too.
    Verbose,
}

/// The two streams of the program.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Colours for standard output.
    pub out: Palette,
    /// Colours for standard error.
    pub err: Palette,
    /// How much to tell.
    pub verbosity: Verbosity,
}

impl Output {
    /// The streams as they are, with colours as wished.
    pub fn new(color: ColorChoice, verbosity: Verbosity) -> Self {
        let out = Palette { on: color.on(&io::stdout()) };
        let err = Palette { on: color.on(&io::stderr()) };
        Self { out, err, verbosity }
    }

    /// Prints a result, as it is. Nobody reads it any more: that is no fault.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn result(&self, text: impl Display) -> io::Result<()> {
        match print(&text) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            printed => printed,
        }
    }

    /// Prints a result as JSON that people can read.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn json<T: Serialize + ?Sized>(&self, value: &T) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        self.result(text)
    }

    /// Prints one of many results, as a line of JSON; whether somebody reads them still.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn json_line<T: Serialize + ?Sized>(&self, value: &T) -> io::Result<bool> {
        self.bytes_line(&json_line(value)?)
    }

    /// Prints one of many results, as it is; whether somebody reads them still.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn result_line(&self, text: impl Display) -> io::Result<bool> {
        match print(&text) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            printed => printed.map(|()| true),
        }
    }

    /// Prints one of many results, bytes as they are and the end of the line; whether somebody reads them still.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn bytes_line(&self, bytes: &[u8]) -> io::Result<bool> {
        let mut out = io::stdout().lock();
        let printed = out.write_all(bytes).and_then(|()| out.write_all(b"\n"));
        match printed.and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            printed => printed.map(|()| true),
        }
    }

    /// Standard output, for what writes its results itself.
    pub fn out_lines(&self) -> impl Write {
        io::stdout()
    }

    /// Standard error, for what writes its notes itself.
    pub fn err_lines(&self) -> Box<dyn Write> {
        match self.verbosity {
            Verbosity::Quiet => Box::new(io::sink()),
            _ => Box::new(io::stderr()),
        }
    }

    /// Says a line on standard error, unless it is to be quiet.
    pub fn say(&self, text: impl Display) {
        if self.verbosity > Verbosity::Quiet {
            self.complain(format_args!("{text}\n"));
        }
    }

    /// Says something on standard error in any case. When nobody reads it, there is nobody to tell.
    pub fn complain(&self, text: impl Display) {
        let _ = write!(io::stderr().lock(), "{text}");
    }
}

fn print(text: &impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{text}")?;
    out.flush()
}

/// A value as JSON in one line, without its end: a message's data may have line ends between its tokens.
///
/// # Errors
/// Those of writing JSON.
pub fn json_line<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    // Within texts they are written as `\n`, so these are white space.
    line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    Ok(line)
}
