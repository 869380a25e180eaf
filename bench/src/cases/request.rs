//! Requests and their answers, one after another, on a bus that is warm.

use std::time::Instant;

use echo_sdk::{BaseMessage, Plugin, PluginContext, PluginError, ProcessingStatus, Topic};
use tokio::runtime::Runtime;

use crate::BenchError;
use crate::harness::{Contender, OURS, Round};
use crate::ours::{Place, host};
use crate::work::{PATIENCE, TOPIC, message};

/// Answers with a number.
struct Answering(PluginContext);

impl Plugin for Answering {
    fn name(&self) -> &str {
        "bench"
    }

    async fn process_message(
        &self,
        _: &Topic,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        self.0.reply(message, &message.data_bytes().len()).await?;
        Ok(ProcessingStatus::Acknowledged)
    }
}

pub(super) fn sides(runtime: &Runtime) -> Result<Vec<Contender>, BenchError> {
    runtime.block_on(async {
        #[cfg_attr(not(feature = "bench-peers"), expect(unused_mut, reason = "peers join"))]
        let mut sides = vec![ours().await?];
        #[cfg(feature = "bench-peers")]
        sides.extend(crate::peers::request());
        Ok(sides)
    })
}

async fn ours() -> Result<Contender, BenchError> {
    let place = Place { workers: 1, ..Place::default() };
    let host = host(place, |context| Ok(Answering(context))).await?;
    let client = host.client("bench-client");
    let (topic, prebuilt) = (Topic::new(TOPIC)?, message()?);
    Ok(Contender::new(OURS, move |messages| {
        // The host lives as long as the rounds.
        let _host = &host;
        let (client, topic, prebuilt) = (client.clone(), topic.clone(), prebuilt.clone());
        async move {
            let mut latencies = Vec::with_capacity(messages as usize);
            let began = Instant::now();
            for _ in 0..messages {
                let asked = Instant::now();
                let answer = client.request(&topic, prebuilt.clone(), PATIENCE).await?;
                std::hint::black_box(answer.json::<usize>()?);
                latencies.push(asked.elapsed().as_nanos() as u64);
            }
            Ok(Round { latencies, ..Round::since(began, messages) })
        }
    })
    .in_runtime())
}
