//! kameo: an actor pool of its utility crate.

use std::sync::Arc;
use std::time::Instant;

use kameo::actor::{ActorRef, Spawn as _};
use kameo::mailbox;
use kameo::message::{Context, Message};
use kameo_actors::pool::{ActorPool, Dispatch};

use super::payload::{self, Payload};
use crate::BenchError;
use crate::harness::{Contender, Round};
use crate::tally::Tally;
use crate::work::{Making, QUEUE, WORKERS};

const PEER: &str = "kameo";

#[derive(kameo::Actor)]
struct Worker {
    making: Making,
    handled: Arc<Tally>,
}

impl Message<Payload> for Worker {
    type Reply = ();

    async fn handle(&mut self, message: Payload, _: &mut Context<Self, ()>) {
        payload::handle(self.making, message);
        self.handled.add(1);
    }
}

pub(super) fn work_queue(making: Making) -> Result<Contender, BenchError> {
    let handled = Arc::<Tally>::default();
    let counting = Arc::clone(&handled);
    let pool = ActorPool::new(WORKERS, move || {
        let worker = Worker { making, handled: Arc::clone(&counting) };
        Worker::spawn_with_mailbox(worker, mailbox::bounded(QUEUE / WORKERS))
    });
    let pool: ActorRef<ActorPool<Worker>> =
        ActorPool::spawn_with_mailbox(pool, mailbox::bounded(QUEUE));
    let prebuilt = payload::fresh();
    Ok(Contender::new(PEER, move |messages| {
        let (pool, handled, prebuilt) = (pool.clone(), Arc::clone(&handled), Arc::clone(&prebuilt));
        async move {
            let (before, began) = (handled.sum(), Instant::now());
            for _ in 0..messages {
                let told = pool.tell(Dispatch(payload::next(making, &prebuilt))).await;
                told.map_err(|error| BenchError::peer(PEER, error))?;
            }
            handled.reach(before + messages).await;
            Ok(Round::since(began, messages))
        }
    }))
}

/// Answers with a number.
#[derive(kameo::Actor)]
struct Answering;

impl Message<Payload> for Answering {
    type Reply = usize;

    async fn handle(&mut self, message: Payload, _: &mut Context<Self, usize>) -> usize {
        message.data().len()
    }
}

pub(super) fn request() -> Contender {
    let actor = Answering::spawn_with_mailbox(Answering, mailbox::bounded(QUEUE));
    let prebuilt = payload::fresh();
    Contender::new(PEER, move |messages| {
        let (actor, prebuilt) = (actor.clone(), Arc::clone(&prebuilt));
        async move {
            let mut latencies = Vec::with_capacity(messages as usize);
            let began = Instant::now();
            for _ in 0..messages {
                let asked = Instant::now();
                let answer = actor.ask(Arc::clone(&prebuilt)).await;
                std::hint::black_box(answer.map_err(|error| BenchError::peer(PEER, error))?);
                latencies.push(asked.elapsed().as_nanos() as u64);
            }
            Ok(Round { latencies, ..Round::since(began, messages) })
        }
    })
    .in_runtime()
}
