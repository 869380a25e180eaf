//! Bare channels, which carry and do nothing else: crossbeam's between threads, tokio's between tasks.

use std::sync::Arc;
use std::time::Instant;

use crossbeam::channel;
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::task::JoinSet;

use super::payload::{self, Payload};
use crate::BenchError;
use crate::cases::idle::StopWatch;
use crate::harness::{Contender, Round};
use crate::tally::Tally;
use crate::work::{FAN, Making, QUEUE, WORKERS};

pub(super) fn work_queue(making: Making) -> Result<Vec<Contender>, BenchError> {
    Ok(vec![crossbeam_work_queue(making), tokio_work_queue(making)])
}

/// One bounded channel of many receivers, each a thread; the publisher is one too.
fn crossbeam_work_queue(making: Making) -> Contender {
    let prebuilt = payload::fresh();
    Contender::new("crossbeam", move |messages| {
        let prebuilt = Arc::clone(&prebuilt);
        async move {
            let round = move || {
                let (sender, receiver) = channel::bounded::<Payload>(QUEUE);
                std::thread::scope(|scope| {
                    for _ in 0..WORKERS {
                        let receiver = receiver.clone();
                        scope.spawn(move || {
                            receiver.iter().for_each(|message| payload::handle(making, message));
                        });
                    }
                    let began = Instant::now();
                    for _ in 0..messages {
                        // Receivers end only when the sender does.
                        let _ = sender.send(payload::next(making, &prebuilt));
                    }
                    drop(sender);
                    began
                })
            };
            // The scope has ended, so all was handled.
            let began = tokio::task::spawn_blocking(round).await;
            let began = began.map_err(|error| BenchError::peer("crossbeam", error))?;
            Ok(Round::since(began, messages))
        }
    })
}

/// A channel has one receiver: a worker each has its own, in turn.
fn tokio_work_queue(making: Making) -> Contender {
    let prebuilt = payload::fresh();
    let handled = Arc::<Tally>::default();
    let mut workers = JoinSet::new();
    let senders: Arc<[_]> = (0..WORKERS)
        .map(|_| {
            let (sender, mut receiver) = mpsc::channel::<Payload>(QUEUE / WORKERS);
            let handled = Arc::clone(&handled);
            workers.spawn(async move {
                while let Some(message) = receiver.recv().await {
                    payload::handle(making, message);
                    handled.add(1);
                }
            });
            sender
        })
        .collect();
    Contender::new("tokio", move |messages| {
        // The workers live as long as the rounds.
        let _workers = &workers;
        let (senders, handled) = (Arc::clone(&senders), Arc::clone(&handled));
        let prebuilt = Arc::clone(&prebuilt);
        async move {
            let (before, began) = (handled.sum(), Instant::now());
            for sender in senders.iter().cycle().take(messages as usize) {
                let sent = sender.send(payload::next(making, &prebuilt)).await;
                sent.map_err(|error| BenchError::peer("tokio", error))?;
            }
            handled.reach(before + messages).await;
            Ok(Round::since(began, messages))
        }
    })
}

/// How often a broadcaster looks how far the slowest reader is: it would overwrite what was not read.
const LOOK_EVERY: u64 = QUEUE as u64 / 4;

/// tokio's broadcast channel, whose readers are tasks.
pub(super) fn fan_out() -> Contender {
    let handled = Arc::<Tally>::default();
    let sender = broadcast::Sender::<Payload>::new(QUEUE);
    let mut readers = JoinSet::new();
    for _ in 0..FAN {
        let (mut receiver, handled) = (sender.subscribe(), Arc::clone(&handled));
        readers.spawn(async move {
            // One that lags would miss messages and the round not end.
            while let Ok(message) = receiver.recv().await {
                payload::handle(Making::Prebuilt, message);
                handled.add(1);
            }
        });
    }
    let prebuilt = payload::fresh();
    Contender::new("tokio", move |messages| {
        // The readers live as long as the rounds.
        let _readers = &readers;
        let (sender, handled) = (sender.clone(), Arc::clone(&handled));
        let prebuilt = Arc::clone(&prebuilt);
        async move {
            let deliveries = messages * FAN as u64;
            let (before, began) = (handled.sum(), Instant::now());
            for number in 0..messages {
                let sent = sender.send(Arc::clone(&prebuilt));
                sent.map_err(|error| BenchError::peer("tokio", error))?;
                while number.is_multiple_of(LOOK_EVERY) && sender.len() > QUEUE / 2 {
                    tokio::task::yield_now().await;
                }
            }
            handled.reach(before + deliveries).await;
            Ok(Round::since(began, deliveries))
        }
    })
}

/// Many publishers to one reader: crossbeam's on threads, tokio's as tasks.
pub(super) fn fan_in() -> Vec<Contender> {
    vec![crossbeam_fan_in(), tokio_fan_in()]
}

fn crossbeam_fan_in() -> Contender {
    let prebuilt = payload::fresh();
    Contender::new("crossbeam", move |messages| {
        let prebuilt = Arc::clone(&prebuilt);
        async move {
            let each = messages.div_ceil(FAN as u64);
            let round = move || {
                let (sender, receiver) = channel::bounded::<Payload>(QUEUE);
                let began = Instant::now();
                std::thread::scope(|scope| {
                    for _ in 0..FAN {
                        let (sender, prebuilt) = (sender.clone(), Arc::clone(&prebuilt));
                        scope.spawn(move || {
                            for _ in 0..each {
                                // The receiver stays until the last sender is gone.
                                let _ = sender.send(Arc::clone(&prebuilt));
                            }
                        });
                    }
                    drop(sender);
                    receiver.iter().for_each(|message| payload::handle(Making::Prebuilt, message));
                });
                Round::since(began, each * FAN as u64)
            };
            let round = tokio::task::spawn_blocking(round).await;
            round.map_err(|error| BenchError::peer("crossbeam", error))
        }
    })
}

fn tokio_fan_in() -> Contender {
    let prebuilt = payload::fresh();
    Contender::new("tokio", move |messages| {
        let prebuilt = Arc::clone(&prebuilt);
        async move {
            let each = messages.div_ceil(FAN as u64);
            let (sender, mut receiver) = mpsc::channel::<Payload>(QUEUE);
            let began = Instant::now();
            let mut publishers = JoinSet::new();
            for _ in 0..FAN {
                let (sender, prebuilt) = (sender.clone(), Arc::clone(&prebuilt));
                publishers.spawn(async move {
                    for _ in 0..each {
                        // The receiver stays until the last sender is gone.
                        let _ = sender.send(Arc::clone(&prebuilt)).await;
                    }
                });
            }
            drop(sender);
            while let Some(message) = receiver.recv().await {
                payload::handle(Making::Prebuilt, message);
            }
            Ok(Round::since(began, each * FAN as u64))
        }
    })
}

/// A task that waits to be notified: the shortest way into a sleeping runtime.
pub(super) fn idle() -> Contender {
    let (watch, notify) = (StopWatch::new(), Arc::new(Notify::new()));
    let mut waiting = JoinSet::new();
    let (stopping, notified) = (Arc::clone(&watch), Arc::clone(&notify));
    waiting.spawn(async move {
        loop {
            notified.notified().await;
            stopping.stop();
        }
    });
    Contender::new("tokio", move |messages| {
        // The task lives as long as the rounds.
        let _waiting = &waiting;
        let notify = Arc::clone(&notify);
        let send = move || {
            notify.notify_one();
            Ok(())
        };
        Arc::clone(&watch).times(messages, send)
    })
}
