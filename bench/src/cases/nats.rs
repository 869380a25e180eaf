//! Ours beside NATS: in process beside a server on loopback, and over a server beside its bare client.

use tokio::runtime::Runtime;

use super::work_queue as queue;
use crate::BenchError;
use crate::harness::Contender;
use crate::work::Making;

/// The work queue in process, beside the same messages through a server.
pub(super) fn core(runtime: &Runtime) -> Result<Vec<Contender>, BenchError> {
    runtime.block_on(async {
        #[cfg_attr(not(feature = "bench-peers"), expect(unused_mut, reason = "peers join"))]
        let mut sides = vec![queue::ours(Making::Prebuilt).await?];
        #[cfg(feature = "bench-peers")]
        sides.push(crate::peers::nats::core().await?);
        Ok(sides)
    })
}

/// A work queue on JetStream.
#[cfg(feature = "bench-peers")]
pub(super) fn work_queue(runtime: &Runtime) -> Result<Vec<Contender>, BenchError> {
    Ok(vec![runtime.block_on(crate::peers::nats::work_queue())?])
}
