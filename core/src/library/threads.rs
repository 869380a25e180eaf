//! The threads that belong to a library.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, available_parallelism};
use std::time::Duration;

use echo_sdk::Manifest;
use tokio::runtime::{Builder, Handle, Runtime};

use super::report::Quarantine;

/// Runs `work` on a thread of its own and waits until that thread is gone, thread-locals and all.
pub(super) fn apart<T: Send>(plugin: &str, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread =
            thread::Builder::new().name(format!("lib:{plugin}")).spawn_scoped(scope, work)?;
        // Joining it, unlike the scope's end, waits for the destructors of thread-locals.
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// The same for so long at most: past that the thread goes on by itself, with all that `work` holds.
pub(super) fn apart_within<T: Send + 'static>(
    plugin: &str,
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (done, doing) = mpsc::sync_channel(1);
    let work = move || {
        // What nobody waits for any more is dropped here.
        let _ = done.send(work());
    };
    let thread = thread::Builder::new().name(format!("lib:{plugin}")).spawn(work)?;
    match doing.recv_timeout(patience) {
        Err(RecvTimeoutError::Timeout) => Ok(None),
        done => {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok(done.ok())
        }
    }
}

/// A library's runtime; when dropped without [`end`](Threads::end), its threads end by themselves some time.
#[derive(Debug)]
pub(super) struct Threads {
    runtime: Option<Runtime>,
    handle: Handle,
    alive: Arc<AtomicUsize>,
}

impl Threads {
    /// Starts as many threads as the plugin's workers can keep busy.
    pub(super) fn start(manifest: &Manifest) -> io::Result<Self> {
        let cores = available_parallelism().map_or(1, usize::from);
        let alive = Arc::new(AtomicUsize::new(0));
        let (started, stopped) = (Arc::clone(&alive), Arc::clone(&alive));
        let runtime = Builder::new_multi_thread()
            .worker_threads(cores.min(manifest.worker_pool.max_workers).max(1))
            .thread_name(format!("lib:{}", manifest.name))
            .on_thread_start(move || {
                started.fetch_add(1, Ordering::SeqCst);
            })
            .on_thread_stop(move || {
                stopped.fetch_sub(1, Ordering::SeqCst);
            })
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Some(runtime), handle, alive })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Drops the tasks and joins the threads, waiting no longer than `timeout`.
    pub(super) fn end(mut self, timeout: Duration) -> Result<(), Quarantine> {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(timeout);
        }
        match self.alive.load(Ordering::SeqCst) {
            0 => Ok(()),
            alive => Err(Quarantine::Threads(alive)),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
