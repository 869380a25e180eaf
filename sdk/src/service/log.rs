//! What a service writes: the last lines, and the line that a readiness check waits for.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use regex::Regex;
use tokio::sync::Notify;

/// How many lines of a service are kept.
pub const LOG_LINES: usize = 1000;

/// How many bytes of a line are kept; the rest is cut, and the line says so.
pub const MAX_LINE: usize = 4096;

/// Where a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line that a service wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Where it was written to.
    pub stream: Stream,
    /// The line, without its end.
    pub text: String,
}

/// Takes the lines that a service writes. Cheap to clone; it never waits and never grows without bound.
#[derive(Clone)]
pub struct LogSink(Arc<Shared>);

struct Shared {
    lines: Mutex<VecDeque<LogLine>>,
    awaited: Option<Regex>,
    seen: Mutex<Option<String>>,
    noticed: Notify,
}

impl LogSink {
    /// A sink that keeps the last [`LOG_LINES`] lines; the kit makes one for each service.
    pub fn new() -> Self {
        Self::awaiting(None)
    }

    /// A sink that also looks for a line, and so misses none however fast they come.
    pub(super) fn awaiting(awaited: Option<Regex>) -> Self {
        Self(Arc::new(Shared {
            lines: Mutex::default(),
            awaited,
            seen: Mutex::default(),
            noticed: Notify::new(),
        }))
    }

    /// Takes one line, without its end. Of one longer than [`MAX_LINE`] bytes only the beginning is kept.
    pub fn line(&self, stream: Stream, text: &str) {
        let text = clipped(text);
        if let Some(awaited) = &self.0.awaited
            && awaited.is_match(&text)
        {
            lock(&self.0.seen).get_or_insert_with(|| text.clone());
            self.0.noticed.notify_one();
        }
        let mut lines = lock(&self.0.lines);
        if lines.len() == LOG_LINES {
            lines.pop_front();
        }
        lines.push_back(LogLine { stream, text });
    }

    /// A writer that makes lines of the bytes of one stream, as they come.
    pub fn writer(&self, stream: Stream) -> LineWriter {
        LineWriter { sink: self.clone(), stream, partial: Vec::new() }
    }

    /// The last lines, oldest first.
    pub fn last(&self, count: usize) -> Vec<LogLine> {
        let lines = lock(&self.0.lines);
        lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect()
    }

    /// The text of the last lines, oldest first.
    pub fn tail(&self, count: usize) -> Vec<String> {
        self.last(count).into_iter().map(|line| line.text).collect()
    }

    /// The first line that matched what is awaited, once there is one. One task may wait.
    pub(super) async fn awaited_line(&self) -> String {
        loop {
            if let Some(line) = lock(&self.0.seen).clone() {
                return line;
            }
            self.0.noticed.notified().await;
        }
    }
}

impl Default for LogSink {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSink").field("lines", &lock(&self.0.lines).len()).finish_non_exhaustive()
    }
}

/// Makes lines of bytes that come in pieces; the last line need not be ended, it is taken on drop.
#[derive(Debug)]
pub struct LineWriter {
    sink: LogSink,
    stream: Stream,
    partial: Vec<u8>,
}

impl LineWriter {
    /// Takes the next bytes.
    pub fn write(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.keep(line);
            self.flush();
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.keep(bytes);
    }

    /// Keeps one byte more than a line may have, so that the sink sees that there was more.
    fn keep(&mut self, bytes: &[u8]) {
        let room = (MAX_LINE + 1).saturating_sub(self.partial.len());
        self.partial.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn flush(&mut self) {
        let line = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        self.sink.line(self.stream, &String::from_utf8_lossy(line));
        self.partial.clear();
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        if !self.partial.is_empty() {
            self.flush();
        }
    }
}

fn clipped(text: &str) -> String {
    if text.len() <= MAX_LINE {
        return text.to_owned();
    }
    format!("{} … (cut)", &text[..text.floor_char_boundary(MAX_LINE)])
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it was held leaves whole lines behind, so what is there can be read.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_last_lines() {
        let sink = LogSink::new();
        for number in 0..LOG_LINES + 5 {
            sink.line(Stream::Stdout, &number.to_string());
        }
        let last = sink.tail(usize::MAX);
        assert_eq!((last.len(), last[0].as_str()), (LOG_LINES, "5"));
        assert_eq!(sink.tail(2), [(LOG_LINES + 3).to_string(), (LOG_LINES + 4).to_string()]);
    }

    #[test]
    fn bytes_become_lines_wherever_they_are_split() {
        let sink = LogSink::new();
        let mut out = sink.writer(Stream::Stdout);
        let mut err = sink.writer(Stream::Stderr);
        out.write(b"on");
        err.write(b"oops\n");
        out.write("e\r\n\ntw\u{f6}".as_bytes());
        drop((out, err));
        assert_eq!(sink.tail(9), ["oops", "one", "", "tw\u{f6}"]);
        assert_eq!(sink.last(9)[0].stream, Stream::Stderr);
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let sink = LogSink::new();
        let mut out = sink.writer(Stream::Stdout);
        for _ in 0..MAX_LINE {
            out.write("\u{e4}\u{e4}".as_bytes());
        }
        assert!(out.partial.len() <= MAX_LINE + 1);
        out.write(b"\nnext\n");
        let lines = sink.tail(9);
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].len() < MAX_LINE + 20 && lines[0].ends_with("(cut)"),
            "{}",
            lines[0].len()
        );
        assert_eq!(lines[1], "next");
    }

    #[tokio::test]
    async fn the_awaited_line_is_found_even_after_it_left_the_ring() {
        let sink = LogSink::awaiting(Some(Regex::new("^ready on [0-9]+$").unwrap()));
        sink.line(Stream::Stdout, "not ready on 1");
        sink.line(Stream::Stderr, "ready on 80");
        for _ in 0..LOG_LINES {
            sink.line(Stream::Stdout, "noise");
        }
        assert_eq!(sink.awaited_line().await, "ready on 80");
    }
}
