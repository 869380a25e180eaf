//! Messages as lines of JSON: `{"topic":…,"message":{…}}`, for `--events` and `subscribe`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use echo_sdk::{BaseMessage, Received, Topic};
use serde::Serialize;

use crate::output::json_line;

/// A message with its topic, as it stands on a line.
#[derive(Serialize)]
pub struct Line<'a> {
    topic: &'a Topic,
    message: &'a BaseMessage,
}

impl<'a> From<&'a Received> for Line<'a> {
    fn from(received: &'a Received) -> Self {
        Self { topic: &received.topic, message: &received.message }
    }
}

/// The events file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the events cannot be written to {}", path.display())]
pub struct StreamError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A file, or standard output, that takes every message in order.
pub struct EventStream {
    path: PathBuf,
    writer: BufWriter<Box<dyn Write + Send>>,
    fault: Option<io::Error>,
}

impl EventStream {
    /// Makes the file; `-` is standard output.
    ///
    /// # Errors
    /// [`StreamError`] when the file cannot be made.
    pub fn open(path: &Path) -> Result<Self, StreamError> {
        let file: Box<dyn Write + Send> = if path == Path::new("-") {
            Box::new(io::stdout())
        } else {
            let error = |source| StreamError { path: path.to_owned(), source };
            Box::new(File::create(path).map_err(error)?)
        };
        Ok(Self::new(path, file))
    }

    fn new(path: &Path, file: Box<dyn Write + Send>) -> Self {
        Self { path: path.to_owned(), writer: BufWriter::new(file), fault: None }
    }

    /// Takes a message. The first fault ends the writing and is told by [`finish`](Self::finish): the run
    /// itself goes on.
    pub fn push(&mut self, received: &Received) {
        if self.fault.is_none() {
            self.fault = self.write(received).err();
        }
    }

    fn write(&mut self, received: &Received) -> io::Result<()> {
        self.writer.write_all(&json_line(&Line::from(received))?)?;
        self.writer.write_all(b"\n")
    }

    /// Writes out what is still in the buffer.
    ///
    /// # Errors
    /// [`StreamError`] when not every message could be written.
    pub fn finish(mut self) -> Result<(), StreamError> {
        let written = match self.fault {
            Some(fault) => Err(fault),
            None => self.writer.flush(),
        };
        written.map_err(|source| StreamError { path: self.path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes and no more.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn received() -> Received {
        let message = BaseMessage::builder("me").data(&"x".repeat(100)).build().unwrap();
        Received { topic: Topic::new("a.b").unwrap(), message }
    }

    #[test]
    fn a_line_reads_back() {
        #[derive(serde::Deserialize)]
        struct Read {
            topic: Topic,
            message: BaseMessage,
        }
        let received = received();
        let text = serde_json::to_string(&Line::from(&received)).unwrap();
        let read: Read = serde_json::from_str(&text).unwrap();
        assert_eq!((read.topic, read.message), (received.topic, received.message));
    }

    #[test]
    fn a_message_is_one_line_whatever_its_data_looks_like() {
        let message = BaseMessage::builder("me").data_json(b"{\n  \"a\": \"x\\ny\"\r\n}");
        let received = Received { message: message.build().unwrap(), ..received() };
        let line = String::from_utf8(json_line(&Line::from(&received)).unwrap()).unwrap();
        assert!(!line.contains(['\n', '\r']), "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["message"]["data"]["a"], "x\ny");
    }

    #[test]
    fn a_full_disk_is_told_at_the_end() {
        let mut stream = EventStream::new(Path::new("f"), Box::new(Full(1_000_000)));
        stream.push(&received());
        stream.finish().unwrap();
        let mut stream = EventStream::new(Path::new("f"), Box::new(Full(10)));
        for _ in 0..1000 {
            stream.push(&received());
        }
        assert!(stream.finish().unwrap_err().to_string().contains(" f"));
    }
}
