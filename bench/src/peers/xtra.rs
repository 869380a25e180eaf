//! xtra: actors that share one mailbox.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;
use xtra::{Actor, Context, Handler, Mailbox};

use super::payload::{self, Payload};
use crate::BenchError;
use crate::harness::{Contender, Round};
use crate::tally::Tally;
use crate::work::{Making, QUEUE, WORKERS};

const PEER: &str = "xtra";

struct Worker {
    making: Making,
    handled: Arc<Tally>,
}

impl Actor for Worker {
    type Stop = ();

    async fn stopped(self) {}
}

impl Handler<Payload> for Worker {
    type Return = ();

    async fn handle(&mut self, message: Payload, _: &mut Context<Self>) {
        payload::handle(self.making, message);
        self.handled.add(1);
    }
}

pub(super) fn work_queue(making: Making) -> Result<Contender, BenchError> {
    let handled = Arc::<Tally>::default();
    let (address, mailbox) = Mailbox::bounded(QUEUE);
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let worker = Worker { making, handled: Arc::clone(&handled) };
        workers.spawn(xtra::run(mailbox.clone(), worker));
    }
    let prebuilt = payload::fresh();
    Ok(Contender::new(PEER, move |messages| {
        // The workers live as long as the rounds.
        let _workers = &workers;
        let (address, handled) = (address.clone(), Arc::clone(&handled));
        let prebuilt = Arc::clone(&prebuilt);
        async move {
            let (before, began) = (handled.sum(), Instant::now());
            for _ in 0..messages {
                let sent = address.send(payload::next(making, &prebuilt)).detach().await;
                drop(sent.map_err(|error| BenchError::peer(PEER, error))?);
            }
            handled.reach(before + messages).await;
            Ok(Round::since(began, messages))
        }
    }))
}
