//! What is wrong with a file, for people and for tools.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use serde::Serialize;

/// One fault of a file: where it is, what it is, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The key, as people write it: `steps[0].command`; empty for the file as a whole.
    pub key: String,
    /// What is wrong: one sentence.
    pub message: String,
    /// The way out, where the message does not say it already.
    pub help: Option<String>,
    /// The words beside the underlined place.
    #[serde(skip)]
    pub(crate) label: Option<String>,
    #[serde(skip)]
    pub(crate) span: Option<Range<usize>>,
}

impl Fault {
    /// Adds the way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Sets the few words beside the underlined place; without them it is only underlined.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }
}

impl Diagnostic for Fault {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.span.as_ref()?;
        let place = (span.start, span.len());
        let label = LabeledSpan::new_primary_with_span(self.label.clone(), place);
        Some(Box::new(std::iter::once(label)))
    }
}

/// Every fault of one file, at least one, in the order of their lines.
///
/// As a [`Diagnostic`] a single fault shows itself; several show one after another under a headline.
/// As data it is `{"file": …, "faults": [{"line", "column", "key", "message", "help"}]}`.
#[derive(Debug, Clone, Serialize)]
pub struct Faults {
    file: String,
    faults: Vec<Fault>,
    #[serde(skip)]
    source: Arc<NamedSource<String>>,
}

impl Faults {
    pub(crate) fn new(name: &str, text: &str, mut faults: Vec<Fault>) -> Self {
        let place = |fault: &Fault| (fault.line, fault.column);
        faults.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.message.cmp(&b.message)));
        faults.dedup();
        let source = NamedSource::new(name, text.to_owned()).with_language("TOML");
        Self { file: name.to_owned(), faults, source: Arc::new(source) }
    }

    /// The one fault of a file that cannot be read at all.
    pub(crate) fn unreadable(name: &str, why: &str) -> Self {
        let fault = Fault {
            line: 1,
            column: 1,
            key: String::new(),
            message: format!("cannot read {name}: {why}"),
            help: None,
            label: None,
            span: None,
        };
        Self::new(name, "", vec![fault])
    }

    /// The file's name, as it was given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The faults, in the order of their lines.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.faults.iter()
    }

    fn single(&self) -> Option<&Fault> {
        match self.faults.as_slice() {
            [fault] => Some(fault),
            _ => None,
        }
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.single() {
            Some(fault) => fault.fmt(f),
            None => write!(f, "{} has {} faults", self.file, self.faults.len()),
        }
    }
}

impl std::error::Error for Faults {}

impl Diagnostic for Faults {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.single().and_then(Diagnostic::help)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&*self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.single().and_then(Diagnostic::labels)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        let faults = self.faults.iter().map(|fault| fault as &dyn Diagnostic);
        self.single().is_none().then(|| Box::new(faults) as Box<dyn Iterator<Item = _>>)
    }
}
