//! # The orchestrator
//!
//! Handles `test.run.start`: one message is one run, handled from its first suite to the removal of its last
//! service. Whatever a run does, it does by messages: it asks `service.start.<type>`, `service.exec.<type>`,
//! `service.logs.<type>`, `service.stop.<type>` and `service.cleanup.<type>`, and tells what happens on `test.>`.
//! It knows no type of service by name but [`LOCAL`](link::LOCAL), which steps without a service run on.
//!
//! A run is one future that holds all others: when the host drops it, nothing of it goes on. No part of a
//! run is shared with another run but the list of ids in use.
//!
//! Reading order: [`plugin`], [`plan`] (what is to run, checked before anything starts), [`run`], [`suite`],
//! [`services`], [`test`], [`step`], [`judge`].

mod deaths;
mod judge;
mod link;
mod order;
mod plan;
mod plugin;
mod run;
mod scope;
mod services;
mod step;
mod stop;
mod suite;
mod test;

use echo_sdk::Manifest;

pub use plugin::Orchestrator;

/// The plugin's manifest.
#[expect(clippy::expect_used, reason = "it is part of this crate, and a test reads it")]
pub fn manifest() -> Manifest {
    Manifest::from_json(include_str!("../manifest.json")).expect("the embedded manifest is sound")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_asks_for_workers_that_a_long_run_does_not_use_up() {
        let manifest = manifest();
        let pool = manifest.worker_pool;
        assert_eq!((pool.deadline, pool.max_attempts), (None, 1));
        assert!(pool.min_workers >= 2 && pool.adaptive_scaling);
        assert_eq!(manifest.subscriptions, [echo_sdk::Pattern::new("test.run.start").unwrap()]);
        assert_eq!(manifest.version, env!("CARGO_PKG_VERSION"));
    }
}
