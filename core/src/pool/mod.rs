//! A plugin's workers: started, counted, made more or fewer, and joined.

mod scaling;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use echo_sdk::{HandlerKind, WorkerPoolConfig};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::actor::{Actor, Finish, SlotRuntime, Worker, WorkerStats, Working};
pub(crate) use scaling::{Change, INTERVAL, Seen, shares};
use scaling::{Limits, Scaler};

/// The workers of one plugin.
pub(crate) struct WorkerPool {
    config: WorkerPoolConfig,
    runtime: Handle,
    actor: Arc<dyn Actor>,
    slot: Arc<SlotRuntime>,
    /// The cores that its handlers can keep busy.
    cores: usize,
    state: Mutex<State>,
}

struct State {
    /// Whether there are to be workers at all.
    is_started: bool,
    workers: Vec<Running>,
    /// Told to finish, and not joined yet.
    finishing: Vec<Running>,
    /// What ended workers had counted.
    handled_before: u64,
    computed_before: u64,
    scaler: Scaler,
    last_look: Look,
}

impl Default for State {
    fn default() -> Self {
        Self {
            is_started: false,
            workers: Vec::new(),
            finishing: Vec::new(),
            handled_before: 0,
            computed_before: 0,
            scaler: Scaler::default(),
            last_look: Look { at: Instant::now(), handled: 0, computed_nanos: 0 },
        }
    }
}

struct Running {
    finish: Arc<Finish>,
    stats: Arc<WorkerStats>,
    task: JoinHandle<()>,
    /// Dropped to cut the worker off in the middle of a message.
    cut: oneshot::Sender<()>,
}

#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    handled: u64,
    computed_nanos: u64,
}

/// How a pool's stop went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// Workers that were cut off in the middle of a message.
    pub(crate) cut_off: usize,
    /// Workers that could not even be cut off: their handler blocks its thread.
    pub(crate) stuck: usize,
}

/// How long a worker that is cut off may take to let go.
const CUT_OFF_PATIENCE: Duration = Duration::from_millis(500);

impl WorkerPool {
    /// A pool without workers yet; they run on `runtime`.
    pub(crate) fn new(
        config: WorkerPoolConfig,
        runtime: Handle,
        actor: Arc<dyn Actor>,
        slot: Arc<SlotRuntime>,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cores = match config.handler {
            HandlerKind::Async => cores.min(runtime.metrics().num_workers()),
            HandlerKind::Blocking => cores,
        };
        Self { config, runtime, actor, slot, cores, state: Mutex::default() }
    }

    /// Starts the least number of workers.
    pub(crate) fn start(&self) {
        self.start_with(self.config.min_workers);
    }

    /// Starts so many workers, as far as there may be so many.
    pub(crate) fn start_with(&self, workers: usize) {
        let mut state = self.state.lock();
        if !state.is_started {
            // What was counted before a stop says nothing of the load now.
            *state = State { is_started: true, ..State::default() };
        }
        let most = self.config.max_workers.max(self.config.min_workers);
        self.resize(&mut state, workers.clamp(self.config.min_workers, most));
    }

    /// How many workers there are.
    pub(crate) fn size(&self) -> usize {
        self.state.lock().workers.len()
    }

    /// Has as many workers from now on; those that are too many finish what they have in hand.
    fn resize(&self, state: &mut State, workers: usize) {
        while state.workers.len() < workers {
            let running = self.spawn();
            state.workers.push(running);
        }
        // Idle ones first, so that the pool is smaller at once.
        state.workers.sort_by_key(|running| !running.stats.busy.load(Ordering::Relaxed));
        while state.workers.len() > workers {
            let running = state.workers.pop();
            state.finishing.extend(running.inspect(|running| running.finish.tell()));
        }
        self.slot.metrics.workers.set(workers as f64);
    }

    fn spawn(&self) -> Running {
        let (finish, stats) = (Arc::<Finish>::default(), Arc::<WorkerStats>::default());
        let worker = Worker {
            slot: Arc::clone(&self.slot),
            receiver: self.slot.slot.receiver_of(self.slot.side),
            finish: Arc::clone(&finish),
            stats: Arc::clone(&stats),
        };
        let work = Arc::clone(&self.actor).work(worker);
        // A handler that may block its thread blocks none but its own.
        let is_shared = self.config.handler == HandlerKind::Async;
        let helpers = is_shared.then_some(&self.runtime);
        let mut work = Working::new(work, Arc::clone(&stats), helpers);
        let (cut, cut_off) = oneshot::channel();
        let work = async move {
            tokio::select! {
                biased;
                _ = cut_off => work.cut_off().await,
                () = &mut work => {}
            }
        };
        let task = match self.config.handler {
            HandlerKind::Async => self.runtime.spawn(work),
            HandlerKind::Blocking => {
                let runtime = self.runtime.clone();
                self.runtime.spawn_blocking(move || runtime.block_on(work))
            }
        };
        Running { finish, stats, task, cut }
    }

    /// Looks at the pool, once an interval.
    pub(crate) fn look(&self) -> Seen {
        let waiting = self.slot.slot.has_ready_of(self.slot.side);
        let mut state = self.state.lock();
        state.reap();
        let seen = state.look(waiting);
        match self.config.handler {
            HandlerKind::Async => seen,
            HandlerKind::Blocking => Seen { computed: None, ..seen },
        }
    }

    /// How many workers have a message in hand.
    pub(crate) fn busy(&self) -> usize {
        self.state.lock().busy()
    }

    /// Changes the pool's size where that helps; it may keep so many cores busy.
    pub(crate) fn scale(&self, seen: Seen, cores: f64) -> Option<Change> {
        if !self.config.adaptive_scaling || seen.workers == 0 {
            return None;
        }
        let limits = Limits {
            min: self.config.min_workers,
            max: self.config.max_workers,
            threshold: self.config.scaling_threshold,
            cores: cores.min(self.cores as f64),
        };
        let mut state = self.state.lock();
        if !state.is_started {
            return None;
        }
        let change = state.scaler.decide(limits, seen)?;
        self.resize(&mut state, change.workers);
        Some(change)
    }

    /// The cores that the pool's handlers can keep busy.
    pub(crate) fn cores(&self) -> usize {
        self.cores
    }

    /// Ends all workers: each may finish what it has in hand within `patience`, then it is cut off, and
    /// its message goes back into the queue.
    pub(crate) async fn stop(&self, patience: Duration) -> Stopped {
        let mut finishing = {
            let mut state = self.state.lock();
            state.is_started = false;
            self.resize(&mut state, 0);
            std::mem::take(&mut state.finishing)
        };
        let deadline = tokio::time::Instant::now() + patience;
        let mut stopped = Stopped::default();
        for running in &mut finishing {
            if tokio::time::timeout_at(deadline, &mut running.task).await.is_ok() {
                continue;
            }
            stopped.cut_off += 1;
        }
        for Running { task, cut, .. } in finishing {
            drop(cut);
            if !task.is_finished() && tokio::time::timeout(CUT_OFF_PATIENCE, task).await.is_err() {
                stopped.stuck += 1;
            }
        }
        stopped.cut_off -= stopped.stuck;
        stopped
    }
}

impl State {
    /// Forgets workers that have ended, but for what they counted.
    fn reap(&mut self) {
        let (ended, finishing) =
            std::mem::take(&mut self.finishing).into_iter().partition(|r| r.task.is_finished());
        self.finishing = finishing;
        for Running { stats, .. } in ended as Vec<Running> {
            self.handled_before += stats.handled.load(Ordering::Relaxed);
            self.computed_before += stats.computed_nanos.load(Ordering::Relaxed);
        }
    }

    fn busy(&self) -> usize {
        let is_busy = |running: &&Running| running.stats.busy.load(Ordering::Relaxed);
        self.workers.iter().filter(is_busy).count()
    }

    fn look(&mut self, waiting: bool) -> Seen {
        let (mut handled, mut computed_nanos) = (self.handled_before, self.computed_before);
        for running in self.workers.iter().chain(&self.finishing) {
            handled += running.stats.handled.load(Ordering::Relaxed);
            computed_nanos += running.stats.computed_nanos.load(Ordering::Relaxed);
        }
        let before = self.last_look;
        self.last_look = Look { at: Instant::now(), handled, computed_nanos };
        Seen {
            workers: self.workers.len(),
            taken: self.busy(),
            waiting,
            handled: handled.saturating_sub(before.handled),
            computed: Some(Duration::from_nanos(
                computed_nanos.saturating_sub(before.computed_nanos),
            )),
            elapsed: self.last_look.at - before.at,
        }
    }
}
