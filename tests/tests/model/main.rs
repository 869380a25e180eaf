//! Delivery against a reference model.
//!
//! A random plan says which messages are published, with keys or without, how each attempt at handling each of
//! them answers, what it publishes, when workers die with a message in hand, how many workers and how much
//! room the slots have, and when they are paused. A host on the local transport lives through the plan with
//! paused time, and the [`reference`] says what may have happened: it is a page long and knows nothing of
//! queues. A plan that fails is shrunk to a small one and kept in `main.regressions` with its seed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod crashing;
mod life;
mod plan;
mod reference;

use std::panic;
use std::sync::Once;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use tokio::runtime::Builder;

/// As long as a plan may take in the time that is paused: nothing hangs that ends by then.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Keeps the panics that handlers are to have out of the output.
fn quietly() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if info.payload_as_str() != Some(life::PLANNED) {
                tell(info);
            }
        }));
    });
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_message_comes_to_what_the_model_predicts(plan in plan::plans()) {
        quietly();
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
        let seen = runtime.unwrap().block_on(async {
            tokio::time::timeout(LONGEST, life::live(&plan)).await.expect("the host hangs")
        });
        reference::check(&plan, &seen)?;
    }
}
