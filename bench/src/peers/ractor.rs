//! ractor: a factory whose workers share one queue.

use std::sync::Arc;
use std::time::Instant;

use ractor::factory::queues::DefaultQueue;
use ractor::factory::routing::QueuerRouting;
use ractor::factory::{
    Factory, FactoryArguments, FactoryMessage, Job, JobOptions, Worker, WorkerBuilder, WorkerId,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::hold_back;
use super::payload::{self, Payload};
use crate::BenchError;
use crate::harness::{Contender, Round};
use crate::tally::Tally;
use crate::work::{Making, WORKERS};

const PEER: &str = "ractor";

#[derive(Clone)]
struct Working {
    making: Making,
    handled: Arc<Tally>,
}

/// The factory asks for a message that is a type of its own.
struct Work(Payload);

impl Worker for Working {
    type Key = u64;
    type Message = Work;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _: WorkerId,
        _: &ActorRef<FactoryMessage<u64, Work>>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: WorkerId,
        _: &ActorRef<FactoryMessage<u64, Work>>,
        Job { key, msg: Work(message), .. }: Job<u64, Work>,
        (): &mut (),
    ) -> Result<u64, ActorProcessingErr> {
        payload::handle(self.making, message);
        self.handled.add(1);
        Ok(key)
    }
}

impl WorkerBuilder<Working, ()> for Working {
    fn build(&mut self, _: WorkerId) -> (Working, ()) {
        (self.clone(), ())
    }
}

type Queue = DefaultQueue<u64, Work>;
type Routing = QueuerRouting<u64, Work>;

pub(super) async fn work_queue(making: Making) -> Result<Contender, BenchError> {
    let handled = Arc::<Tally>::default();
    let workers = Working { making, handled: Arc::clone(&handled) };
    let arguments = FactoryArguments::builder()
        .num_initial_workers(WORKERS)
        .queue(Queue::default())
        .router(Routing::default())
        .worker_builder(Box::new(workers) as Box<dyn WorkerBuilder<Working, ()>>)
        .build();
    let factory = Factory::<u64, Work, (), Working, Routing, Queue>::default();
    let spawned = Actor::spawn(None, factory, arguments).await;
    let (factory, _) = spawned.map_err(|error| BenchError::peer(PEER, error))?;
    let prebuilt = payload::fresh();
    Ok(Contender::new(PEER, move |messages| {
        let (factory, handled) = (factory.clone(), Arc::clone(&handled));
        let prebuilt = Arc::clone(&prebuilt);
        async move {
            let (before, began) = (handled.sum(), Instant::now());
            for number in 0..messages {
                let job = Job {
                    key: number,
                    msg: Work(payload::next(making, &prebuilt)),
                    options: JobOptions::default(),
                    accepted: None,
                };
                let cast = factory.cast(FactoryMessage::Dispatch(job));
                cast.map_err(|error| BenchError::peer(PEER, error))?;
                hold_back(&handled, before, number + 1).await;
            }
            handled.reach(before + messages).await;
            Ok(Round::since(began, messages))
        }
    }))
}
