//! The cases: what is asked, and the sides that answer.

mod durable;
mod fan;
#[cfg(feature = "bench-peers")]
mod gateway;
pub(crate) mod idle;
mod library;
pub(crate) mod matching;
mod memory;
mod nats;
mod pool;
mod request;
mod transition;
mod work_queue;

pub use library::cargo;
use std::io::Write;

use tokio::runtime::Runtime;

use crate::check::Verdict;
use crate::harness::Contender;
use crate::{BenchError, Options};

/// One question.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// What is measured, in one line.
    about: &'static str,
    pub(crate) how: How,
}

/// How a case is measured.
pub(crate) enum How {
    /// Its sides take turns. This brings all of them up; what a side needs lives as long as its closure.
    InTurns(fn(&Runtime) -> Result<Vec<Contender>, BenchError>),
    /// It has an order of its own, prints its own lines and knows its own bars.
    ByItself(ByItself),
}

/// Measures the case of this name, prints its lines, and says what became of its bars.
type ByItself =
    fn(&'static str, &Options, &mut dyn Write, &mut dyn Write) -> Result<Vec<Verdict>, BenchError>;

const CASES: &[Case] = &[
    Case {
        name: "work_queue",
        about: "one publisher of batches of 64, one topic, 8 workers; each message acknowledged; the message prebuilt",
        how: How::InTurns(work_queue::prebuilt),
    },
    Case {
        name: "work_queue_fresh",
        about: "the same with each message built, one field read as a type, and dropped",
        how: How::InTurns(work_queue::fresh),
    },
    Case {
        name: "fan_out_1_8",
        about: "one publisher, 8 plugins of one worker, each gets all; deliveries a second",
        how: How::InTurns(fan::out),
    },
    Case {
        name: "fan_in_8_1",
        about: "8 publishers, one plugin of one worker",
        how: How::InTurns(fan::into_one),
    },
    Case {
        name: "request",
        about: "one request after another, each answered by a plugin; the time from asking to the answer",
        how: How::InTurns(request::sides),
    },
    Case {
        name: "idle_to_handled",
        about: "one message to an idle bus; the time from publishing to its handler, the waking of a core included",
        how: How::InTurns(idle::sides),
    },
    Case {
        name: "match_uncached",
        about: "the subscribers of a topic among 10,000 patterns, looked up each time",
        how: How::InTurns(matching::uncached),
    },
    Case {
        name: "match_cached",
        about: "the same, remembered by the publishing thread",
        how: How::InTurns(matching::cached),
    },
    Case {
        name: "publish_1_subscription",
        about: "publishing alone, to one subscription that is the only one",
        how: How::InTurns(matching::publish_1),
    },
    Case {
        name: "publish_100k_subscriptions",
        about: "publishing alone, to one subscription of 100,000",
        how: How::InTurns(matching::publish_100k),
    },
    Case {
        name: "nats_core",
        about: "the work queue in process, beside the same messages through a NATS server on loopback",
        how: How::InTurns(nats::core),
    },
    Case {
        name: "durable",
        about: "publishes that are confirmed once they are on disk, 256 of them outstanding",
        how: How::InTurns(durable::sides),
    },
    #[cfg(feature = "bench-peers")]
    Case {
        name: "nats_publish",
        about: "one host publishes through a NATS server, another subscribes; beside the server's bare client",
        how: How::InTurns(nats::publish),
    },
    #[cfg(feature = "bench-peers")]
    Case {
        name: "nats_work_queue",
        about: "confirmed publishes to JetStream, 8 workers that acknowledge each message",
        how: How::InTurns(nats::work_queue),
    },
    #[cfg(feature = "bench-peers")]
    Case {
        name: "gateway",
        about: "one NATS client publishes through a host's door, another subscribes; beside a NATS server",
        how: How::InTurns(gateway::sides),
    },
    Case {
        name: "memory",
        about: "messages of all kinds on and on; grown_bytes is what the last round left over the first",
        how: How::InTurns(memory::sides),
    },
    Case {
        name: "pool",
        about: "an adaptive pool beside every fixed size, by kind of handler: nothing to do, then too much",
        how: How::ByItself(pool::measure),
    },
    Case {
        name: "boundary",
        about: "a call of a plugin library beside the same handler linked in; loading and registering; by name alone, needs cargo",
        how: How::ByItself(library::boundary),
    },
    Case {
        name: "unload",
        about: "a library with a tokio of its own loaded, used and unloaded, and what is left of it; by name alone, needs cargo",
        how: How::ByItself(library::unload),
    },
    Case {
        name: "transition",
        about: "versions of a plugin with managed state that change under load; by name alone, needs cargo",
        how: How::ByItself(transition::measure),
    },
];

/// Prints the cases' names with what each measures.
pub(crate) fn list(out: &mut dyn Write) -> Result<(), BenchError> {
    for Case { name, about, .. } in CASES {
        writeln!(out, "{name:<28}{about}")?;
    }
    Ok(())
}

/// What cannot be measured everywhere, since it builds plugin libraries from this project's sources.
const BY_NAME_ALONE: [&str; 3] = ["boundary", "unload", "transition"];

/// The cases of these names; without one, all that can be measured everywhere.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<&'static Case>, BenchError> {
    if names.is_empty() {
        let anywhere = |case: &&Case| !BY_NAME_ALONE.contains(&case.name);
        return Ok(CASES.iter().filter(anywhere).collect());
    }
    let find = |name: &String| {
        CASES.iter().find(|case| case.name == name).ok_or_else(|| BenchError::UnknownCase {
            name: name.clone(),
            known: CASES.iter().map(|case| case.name).collect::<Vec<_>>().join(", "),
        })
    };
    names.iter().map(find).collect()
}
