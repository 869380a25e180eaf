//! A bus made by hand for this one thing, as a measure of what is possible: the topic is looked up in a map,
//! messages cross between cores in batches of 64, and nothing else is done for them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::BenchError;
use crate::harness::{Contender, Round};
use crate::tally::Tally;
use crate::work::{Making, QUEUE, TOPIC, WORKERS};

use super::payload::{self, Payload};

const BATCH: usize = 64;

/// A queue of batches.
struct Queue {
    room: Semaphore,
    batches: Mutex<VecDeque<Vec<Payload>>>,
    more: Notify,
}

impl Queue {
    fn new() -> Self {
        let room = Semaphore::new(QUEUE / BATCH);
        Self { room, batches: Mutex::default(), more: Notify::new() }
    }

    async fn push(&self, batch: Vec<Payload>) {
        if let Ok(room) = self.room.acquire().await {
            room.forget();
            self.batches.lock().push_back(batch);
            self.more.notify_one();
        }
    }

    async fn pop(&self) -> Vec<Payload> {
        loop {
            let batch = self.batches.lock().pop_front();
            match batch {
                Some(batch) => return batch,
                None => self.more.notified().await,
            }
        }
    }

    /// Handles batch after batch; a batch that is handled makes room for another.
    async fn work(&self, making: Making, handled: &Tally) {
        loop {
            for message in self.pop().await {
                payload::handle(making, message);
                handled.add(1);
            }
            self.room.add_permits(1);
            tokio::task::consume_budget().await;
        }
    }
}

/// The queues by topic; ends its workers when it is dropped.
struct Bus {
    queues: HashMap<&'static str, Arc<Queue>>,
    _workers: JoinSet<()>,
}

pub(super) fn work_queue(making: Making) -> Result<Contender, BenchError> {
    let (queue, handled) = (Arc::new(Queue::new()), Arc::<Tally>::default());
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let (queue, handled) = (Arc::clone(&queue), Arc::clone(&handled));
        workers.spawn(async move { queue.work(making, &handled).await });
    }
    let bus = Arc::new(Bus { queues: HashMap::from([(TOPIC, queue)]), _workers: workers });
    let prebuilt = payload::fresh();
    Ok(Contender::new("hand_made", move |messages| {
        let (bus, handled, prebuilt) =
            (Arc::clone(&bus), Arc::clone(&handled), Arc::clone(&prebuilt));
        async move {
            let (before, began) = (handled.sum(), Instant::now());
            let mut batch = Vec::with_capacity(BATCH);
            for _ in 0..messages {
                let Some(queue) = bus.queues.get(std::hint::black_box(TOPIC)) else { continue };
                batch.push(payload::next(making, &prebuilt));
                if batch.len() == BATCH {
                    queue.push(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).await;
                }
            }
            if let Some(queue) = bus.queues.get(TOPIC) {
                queue.push(batch).await;
            }
            handled.reach(before + messages).await;
            Ok(Round::since(began, messages))
        }
    }))
}
