//! What happens in runs, as functions of a plugin.
//!
//! Each hook is a function of the trait [`Hooks`] and stands for one topic of [`contract`](crate::contract). A plugin
//! writes those that it wants within [`hooks!`](crate::hooks!), which keeps their list: [`Hooks::TOPICS`] is what the
//! plugin subscribes to, and [`Hooks::hooks`] has each event parsed and handed to its function. So a hook that is written
//! is called, one that is not costs nothing, and a name that is no hook's does not compile.
//!
//! ```
//! use echo_sdk::contract::run::{Outcome, StepEnded};
//! use echo_sdk::hooks::Hooks;
//! use echo_sdk::template::{BasePlugin, Handlers, NoConfig, PluginProcessor};
//! use echo_sdk::{PluginContext, PluginError};
//!
//! struct Watcher(PluginContext);
//!
//! echo_sdk::hooks! {
//!     impl Hooks for Watcher {
//!         async fn on_step_end(&self, step: StepEnded) -> Result<(), PluginError> {
//!             if step.outcome == Outcome::Failed {
//!                 self.0.record_counter("failed_steps", 1, &[("test", &step.test)]);
//!             }
//!             Ok(())
//!         }
//!     }
//! }
//!
//! impl PluginProcessor for Watcher {
//!     type Config = NoConfig;
//!     fn new(context: PluginContext, _: NoConfig) -> Result<Self, PluginError> {
//!         Ok(Self(context))
//!     }
//!     fn handlers() -> Handlers<Self> {
//!         Self::hooks()
//!     }
//! }
//!
//! assert_eq!(Watcher::TOPICS, ["test.step.ended"]);
//!
//! type Plugin = BasePlugin<Watcher>;
//! # /*
//! echo_sdk::export_plugin!(Plugin, "manifest.json", <Watcher as Hooks>::TOPICS);
//! # */
//! ```
//!
//! With its third argument, [`export_plugin!`](crate::export_plugin!) writes the hooks' topics among the manifest's
//! subscriptions while the library is compiled; [`Manifest::with_subscriptions`](crate::Manifest::with_subscriptions)
//! does the same for a plugin that is linked in.
//!
//! A service is a process, a container, or what else a plugin provides: the event's `service_type` says which.

mod subscriptions;

use std::future::Future;

pub use subscriptions::{text, with_subscriptions};

use crate::PluginError;
use crate::contract::{run, service, trace};
use crate::template::Handlers;

macro_rules! define {
    ($($(#[doc = $about:literal])* $name:ident($event:ty) on $topic:expr;)*) => {
        /// What happens in runs. Implement it with [`hooks!`](crate::hooks!), with the functions that are wanted.
        pub trait Hooks: Sized + Send + Sync + 'static {
            /// The topics of the hooks that the plugin has.
            const TOPICS: &'static [&'static str];

            /// The plugin's hooks as handlers of their topics.
            fn hooks() -> Handlers<Self>;

            $($(#[doc = $about])*
            fn $name(&self, event: $event) -> impl Future<Output = Result<(), PluginError>> + Send {
                let _ = event;
                async { Ok(()) }
            })*
        }

        /// The topic of each hook, under the hook's name.
        #[allow(non_upper_case_globals, reason = "they have the names of functions")]
        pub mod topics {
            use super::{run, service, trace};

            $($(#[doc = $about])* pub const $name: &str = $topic;)*

            /// All of them, each with the name of its hook.
            pub const ALL: &[(&str, &str)] = &[$((stringify!($name), $topic)),*];
        }
    };
}

define! {
    /// A run has begun.
    on_run_start(run::RunStarted) on run::STARTED;
    /// A run is over, and its services are gone.
    on_run_end(run::RunEnded) on run::ENDED;
    /// A suite has begun.
    on_suite_start(run::SuiteStarted) on run::SUITE_STARTED;
    /// A suite is over.
    on_suite_end(run::SuiteEnded) on run::SUITE_ENDED;
    /// A test has begun.
    on_test_start(run::TestStarted) on run::TEST_STARTED;
    /// A test is over.
    on_test_end(run::TestEnded) on run::TEST_ENDED;
    /// A step's command is about to run.
    on_step_start(run::StepStarted) on run::STEP_STARTED;
    /// A step's command has ended and was judged.
    on_step_end(run::StepEnded) on run::STEP_ENDED;
    /// A service's process or container runs; it is not ready yet.
    on_service_start(service::ServiceStarted) on service::STARTED;
    /// A service's readiness check has passed.
    on_service_ready(service::ServiceReady) on service::READY;
    /// A service could not be started or did not become ready.
    on_service_failure(service::ServiceFailed) on service::FAILED;
    /// A service ended by itself after it was ready.
    on_service_death(service::ServiceDied) on service::DIED;
    /// A service was stopped and removed.
    on_service_stop(service::ServiceStopped) on service::STOPPED;
    /// A span has begun, where the host tells of spans ([`trace`]).
    on_span_start(trace::SpanStarted) on trace::SPAN_STARTED;
    /// A span has ended, where the host tells of spans ([`trace`]).
    on_span_end(trace::SpanEnded) on trace::SPAN_ENDED;
    /// No span of a trace is open on the host any more, where it tells of spans ([`trace`]).
    on_trace_end(trace::TraceEnded) on trace::ENDED;
}

/// Implements [`Hooks`](hooks::Hooks) with the functions that are given, and keeps the list of their topics.
///
/// ```
/// # use echo_sdk::PluginError;
/// # use echo_sdk::contract::run::{SuiteEnded, SuiteStarted};
/// struct Watcher;
///
/// echo_sdk::hooks! {
///     impl Hooks for Watcher {
///         async fn on_suite_start(&self, _suite: SuiteStarted) -> Result<(), PluginError> {
///             Ok(())
///         }
///         async fn on_suite_end(&self, _suite: SuiteEnded) -> Result<(), PluginError> {
///             Ok(())
///         }
///     }
/// }
/// # fn main() {}
/// ```
///
/// What is no hook does not compile:
///
/// ```compile_fail
/// # use echo_sdk::PluginError;
/// # use echo_sdk::contract::run::SuiteEnded;
/// # struct Watcher;
/// echo_sdk::hooks! {
///     impl Hooks for Watcher {
///         async fn on_suit_end(&self, _suite: SuiteEnded) -> Result<(), PluginError> {
///             Ok(())
///         }
///     }
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! hooks {
    (impl Hooks for $plugin:ty {
        $($(#[$attribute:meta])* async fn $name:ident $arguments:tt -> $answer:ty $body:block)*
    }) => {
        impl $crate::hooks::Hooks for $plugin {
            const TOPICS: &'static [&'static str] = &[$($crate::hooks::topics::$name),*];

            fn hooks() -> $crate::template::Handlers<Self> {
                $crate::template::Handlers::new()
                    $(.on($crate::hooks::topics::$name, <Self as $crate::hooks::Hooks>::$name))*
            }

            $($(#[$attribute])* async fn $name $arguments -> $answer $body)*
        }
    };
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::contract::run::{Outcome, StepEnded, SuiteStarted};
    use crate::template::{BasePlugin, NoConfig, PluginProcessor};
    use crate::testing::{message, mock};
    use crate::{Plugin, PluginContext, ProcessingStatus, Topic};

    struct Watcher(PluginContext);

    hooks! {
        impl Hooks for Watcher {
            async fn on_suite_start(&self, suite: SuiteStarted) -> Result<(), PluginError> {
                self.0.log(crate::LogLevel::Info, &suite.suite);
                Ok(())
            }

            async fn on_step_end(&self, step: StepEnded) -> Result<(), PluginError> {
                match step.outcome {
                    Outcome::Errored => Err(PluginError::ProcessingError(step.step)),
                    _ => Ok(()),
                }
            }
        }
    }

    impl PluginProcessor for Watcher {
        type Config = NoConfig;

        fn new(context: PluginContext, _: NoConfig) -> Result<Self, PluginError> {
            Ok(Self(context))
        }

        fn handlers() -> Handlers<Self> {
            Self::hooks()
        }
    }

    #[tokio::test]
    async fn hooks_that_are_written_are_subscribed_to_and_called() {
        assert_eq!(Watcher::TOPICS, [run::SUITE_STARTED, run::STEP_ENDED]);
        let (context, probe) = mock("watcher");
        let watcher = BasePlugin::<Watcher>::new(context).unwrap();
        let suite =
            json!({ "run_id": "r", "suite": "shop", "tests": 1, "services": [], "new": true });
        let started = Topic::new(run::SUITE_STARTED).unwrap();
        let status = watcher.process_message(&started, &message(&suite)).await.unwrap();
        assert_eq!(status, ProcessingStatus::Acknowledged);
        assert_eq!(probe.logs(), [(crate::LogLevel::Info, "shop".to_owned())]);
        let step = json!({ "run_id": "r", "suite": "shop", "test": "t", "step": "s", "index": 0,
            "command": ["true"], "outcome": "errored", "duration_ms": 1.0 });
        let ended = Topic::new(run::STEP_ENDED).unwrap();
        assert!(watcher.process_message(&ended, &message(&step)).await.is_err());
        let other = Topic::new(run::TEST_ENDED).unwrap();
        let status = watcher.process_message(&other, &message(&step)).await.unwrap();
        assert!(matches!(status, ProcessingStatus::Failed(_)), "{status:?}");
    }

    #[test]
    fn every_hook_is_for_an_event_that_everybody_knows() {
        let known = crate::contract::topics();
        for (hook, topic) in topics::ALL {
            let found = known.iter().find(|it| it.topic == *topic);
            assert!(found.is_some_and(|it| it.kind == crate::contract::TopicKind::Event), "{hook}");
        }
    }
}
