//! The tokio of a plugin library, with the feature `runtime`; nothing at all without it.
//!
//! A library has a tokio of its own, statically linked, which knows nothing of the host's. So the library has a
//! runtime with one thread, which drives its timers and sockets and runs the tasks that it spawns. Handlers are
//! polled by the host's threads; around each poll the runtime is the one that tokio's functions find.
//!
//! The thread starts before the plugin is created and is joined after the plugin is dropped; tasks that are left
//! are dropped with the runtime. A task that blocks the thread, or blocking work that does not return, is waited for
//! as long as the host's patience with shutdowns; after that the thread is left behind, which keeps the library
//! in memory.

use std::io;
use std::time::Duration;

#[cfg(feature = "runtime")]
pub(super) use own::Reactor;

#[cfg(not(feature = "runtime"))]
pub(super) use none::Reactor;

#[cfg(feature = "runtime")]
mod own {
    use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
    use std::sync::{Mutex, PoisonError};
    use std::thread::{self, JoinHandle};

    use tokio::runtime::{Builder, EnterGuard, Handle};
    use tokio::sync::oneshot;

    use super::{Duration, io};

    /// A runtime and its thread.
    pub(in crate::abi) struct Reactor {
        handle: Handle,
        patience: Duration,
        /// Ends the thread when it is dropped.
        stop: Option<oneshot::Sender<()>>,
        /// Tells by its end that the thread has nothing left to do.
        ending: Mutex<Receiver<()>>,
        thread: Option<JoinHandle<()>>,
    }

    impl Reactor {
        pub(in crate::abi) fn start(plugin: &str, patience: Duration) -> io::Result<Self> {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let (stop, stopped) = oneshot::channel();
            let (ends, ending) = mpsc::channel();
            let drive = move || {
                let _ends: mpsc::Sender<()> = ends;
                // What ends it is that the other end is dropped.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_timeout(patience);
            };
            let thread = thread::Builder::new().name(format!("tokio:{plugin}")).spawn(drive)?;
            let (stop, ending, thread) = (Some(stop), Mutex::new(ending), Some(thread));
            Ok(Self { handle, patience, stop, ending, thread })
        }

        /// Makes the runtime the one that tokio's functions find on this thread.
        #[inline]
        pub(in crate::abi) fn enter(&self) -> EnterGuard<'_> {
            self.handle.enter()
        }
    }

    impl Drop for Reactor {
        fn drop(&mut self) {
            drop(self.stop.take());
            let ending = self.ending.get_mut().unwrap_or_else(PoisonError::into_inner);
            // Its own end waits for blocking work as long, so twice that is enough for both.
            let ended = ending.recv_timeout(self.patience.saturating_mul(2));
            if ended == Err(RecvTimeoutError::Disconnected)
                && let Some(thread) = self.thread.take()
            {
                // Waits for the destructors of its thread-locals too. It does not panic.
                let _ = thread.join();
            }
        }
    }
}

#[cfg(not(feature = "runtime"))]
mod none {
    use super::{Duration, io};

    /// No runtime.
    pub(in crate::abi) struct Reactor;

    /// Nothing to leave.
    pub(in crate::abi) struct Entered;

    impl Reactor {
        pub(in crate::abi) fn start(_: &str, _: Duration) -> io::Result<Self> {
            Ok(Self)
        }

        #[inline]
        pub(in crate::abi) fn enter(&self) -> Entered {
            Entered
        }
    }
}
