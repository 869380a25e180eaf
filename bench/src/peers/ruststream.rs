//! ruststream: a service on its memory broker.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ruststream::memory::prelude::*;
use ruststream::{HeaderMap, OutgoingMessage};
use uuid::Uuid;

use super::hold_back;
use crate::BenchError;
use crate::harness::{Contender, Round};
use crate::tally::Tally;
use crate::work::{DATA, Making, Reading, TOPIC};

const PEER: &str = "ruststream";

/// The bytes of a message, borrowed from the broker's buffer.
#[derive(Deserialized)]
struct Frame<'a>(&'a [u8]);

#[subscriber("bench.work", workers(8))]
async fn take_bytes(
    frame: &Frame<'_>,
    context: &mut Context<'_, (), Arc<Tally>>,
) -> HandlerOutcome {
    std::hint::black_box(frame.0);
    context.state().add(1);
    HandlerOutcome::ack()
}

#[subscriber("bench.work", workers(8))]
async fn take_reading(
    reading: &Reading,
    context: &mut Context<'_, (), Arc<Tally>>,
) -> HandlerOutcome {
    std::hint::black_box(reading.number);
    context.state().add(1);
    HandlerOutcome::ack()
}

pub(super) async fn work_queue(making: Making) -> Result<Contender, BenchError> {
    let handled = Arc::<Tally>::default();
    let (broker, state) = (MemoryBroker::new(), Arc::clone(&handled));
    let app = RustStream::new(AppInfo::new("bench", "1.0.0"))
        .on_startup(async move |()| Ok::<_, Infallible>(state))
        .with_broker(broker.clone(), |scope| match making {
            Making::Prebuilt => {
                scope.include(take_bytes);
            }
            Making::Fresh => {
                scope.include(take_reading);
            }
        });
    let service = app.start().await.map_err(|error| BenchError::peer(PEER, error))?;
    let broker = Arc::new(broker);
    Ok(Contender::new(PEER, move |messages| {
        // The service lives as long as the rounds.
        let _service = &service;
        let (broker, handled) = (Arc::clone(&broker), Arc::clone(&handled));
        async move {
            let publisher = broker.publisher();
            let (before, began) = (handled.sum(), Instant::now());
            for number in 0..messages {
                let mut message = OutgoingMessage::new(TOPIC, DATA.as_slice());
                if making == Making::Fresh {
                    message = message.with_headers(headers());
                }
                let published = publisher.publish(message, None).await;
                published.map_err(|error| BenchError::peer(PEER, error))?;
                hold_back(&handled, before, number + 1).await;
            }
            handled.reach(before + messages).await;
            Ok(Round::since(began, messages))
        }
    }))
}

/// A new id and the time, as bytes: the shortest that carries them.
fn headers() -> HeaderMap {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut headers = HeaderMap::new();
    headers.insert("id", Uuid::now_v7().into_bytes().to_vec());
    headers.insert("timestamp", since.as_nanos().to_le_bytes().to_vec());
    headers
}
