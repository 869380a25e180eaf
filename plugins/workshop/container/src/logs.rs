//! What a container writes, followed line by line.

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use echo_sdk::service::{LogSink, Stream};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::engine::Engine;

/// Follows a container's output into a log until the container ends; dropped, it stops.
#[derive(Debug)]
pub struct Follower {
    at_end: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

impl Follower {
    /// Begins with the container's first line, however late it is.
    pub fn start(engine: &Engine, id: &str, log: LogSink) -> Self {
        let options = LogsOptionsBuilder::default().follow(true).stdout(true).stderr(true).build();
        let mut output = engine.docker().logs(id, Some(options));
        let at_end = CancellationToken::new();
        let guard = at_end.clone().drop_guard();
        let task = tokio::spawn(async move {
            let _guard = guard;
            let (mut stdout, mut stderr) = (log.writer(Stream::Stdout), log.writer(Stream::Stderr));
            while let Some(Ok(chunk)) = output.next().await {
                match chunk {
                    LogOutput::StdErr { message } => stderr.write(&message),
                    LogOutput::StdOut { message } | LogOutput::Console { message } => {
                        stdout.write(&message);
                    }
                    LogOutput::StdIn { .. } => {}
                }
            }
        });
        Self { at_end, _task: AbortOnDropHandle::new(task) }
    }

    /// Resolves when the last line has been taken.
    pub async fn at_end(&self) {
        self.at_end.cancelled().await;
    }
}
