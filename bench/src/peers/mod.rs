//! The peers, each driven as its own documentation does where speed is meant: `docs/benchmarks.md` says how.

mod channels;
mod hand_made;
mod kameo;
mod matching;
pub(crate) mod nats;
pub(crate) mod nats_server;
mod payload;
mod ractor;
mod ruststream;
mod stores;
mod xtra;

use crate::BenchError;
use crate::harness::Contender;
use crate::tally::Tally;
use crate::work::{Making, QUEUE};

/// The peers of the work queue.
pub(crate) async fn work_queue(making: Making) -> Result<Vec<Contender>, BenchError> {
    let mut peers = vec![
        hand_made::work_queue(making)?,
        kameo::work_queue(making)?,
        ractor::work_queue(making).await?,
        xtra::work_queue(making)?,
        ruststream::work_queue(making).await?,
    ];
    peers.extend(channels::work_queue(making)?);
    Ok(peers)
}

/// The peers of one publisher with many readers.
pub(crate) fn fan_out() -> Contender {
    channels::fan_out()
}

/// The peers of many publishers with one reader.
pub(crate) fn fan_in() -> Vec<Contender> {
    channels::fan_in()
}

/// The peers of asking and answering.
pub(crate) fn request() -> Vec<Contender> {
    vec![kameo::request()]
}

/// The peers of a message to an idle bus.
pub(crate) fn idle() -> Contender {
    channels::idle()
}

/// The peers of finding who subscribes to a topic.
pub(crate) fn matching(patterns: usize) -> Result<Vec<Contender>, BenchError> {
    Ok(vec![matching::uncached(patterns)?])
}

/// The peers of messages that are on disk once they are confirmed.
pub(crate) async fn durable() -> Result<Vec<Contender>, BenchError> {
    let mut peers = vec![nats::durable().await?];
    peers.extend(stores::durable()?);
    Ok(peers)
}

/// How often a publisher to a queue without bounds looks how far its readers are.
const LOOK_EVERY: u64 = 256;

/// Keeps a publisher to a queue without bounds from running away: it goes on when less than a bounded queue
/// would hold is outstanding.
async fn hold_back(handled: &Tally, before: u64, published: u64) {
    if published.is_multiple_of(LOOK_EVERY) {
        while (before + published).saturating_sub(handled.sum()) >= QUEUE as u64 {
            tokio::task::yield_now().await;
        }
    }
}
