//! Spares a handler that keeps failing.

use std::time::Duration;

use echo_sdk::{PluginError, ProcessingStatus, duration};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{After, Attempt, Before, Ending, Memo, Middleware};

/// When a circuit opens and closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitBreakerOptions {
    /// After so many faults in a row the circuit opens.
    #[schemars(range(min = 1))]
    pub failures: u32,
    /// How long it stays open before messages are let through to try the handler.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub open_for: Duration,
    /// How many are let through then; when all of them go well, the circuit closes.
    #[schemars(range(min = 1))]
    pub probes: u32,
}

impl Default for CircuitBreakerOptions {
    /// Open after five faults, for 30 seconds, then one probe.
    fn default() -> Self {
        Self { failures: 5, open_for: Duration::from_secs(30), probes: 1 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// All pass; so many faults in a row.
    Closed { faults: u32 },
    /// None passes until then.
    Open { until: Instant },
    /// So many probes were let through, and so many went well.
    HalfOpen { sent: u32, well: u32 },
}

/// Opens after so many faults in a row (errors, panics, cut-offs): messages are then answered `RetryLater` and
/// the handler is not called, until some time has passed and a probe goes well. An answer of the handler's own,
/// `Failed` included, is about the message and no fault.
///
/// Each message that is answered so has used up an attempt, so give slots with a circuit breaker a higher
/// `max_attempts`; on its last one a message is dead with the reason.
#[derive(Debug)]
pub struct CircuitBreaker {
    options: CircuitBreakerOptions,
    circuit: Mutex<Circuit>,
}

#[derive(Debug)]
struct Circuit {
    state: State,
    /// Whatever went in before this tells nothing about the state.
    since: Instant,
}

impl CircuitBreaker {
    /// A closed circuit.
    pub fn new(options: CircuitBreakerOptions) -> Self {
        let circuit = Circuit { state: State::Closed { faults: 0 }, since: Instant::now() };
        Self { options, circuit: Mutex::new(circuit) }
    }

    /// How long to wait before a message may pass; takes a probe's place where it is one.
    fn enter(&self) -> Result<(), Duration> {
        let now = Instant::now();
        let mut circuit = self.circuit.lock();
        if let State::Open { until } = circuit.state {
            if now < until {
                return Err(until - now);
            }
            *circuit = Circuit { state: State::HalfOpen { sent: 0, well: 0 }, since: now };
        }
        match &mut circuit.state {
            State::HalfOpen { sent, .. } if *sent >= self.options.probes => {
                Err(self.options.open_for / 10)
            }
            State::HalfOpen { sent, .. } => {
                *sent += 1;
                Ok(())
            }
            State::Closed { .. } | State::Open { .. } => Ok(()),
        }
    }

    /// Takes note of how it went with a message that came at `since`.
    fn note(&self, slot: &str, since: Instant, is_fault: bool) {
        let now = Instant::now();
        let mut circuit = self.circuit.lock();
        if since < circuit.since {
            return;
        }
        let next = match (circuit.state, is_fault) {
            (State::Closed { .. }, false) => State::Closed { faults: 0 },
            (State::Closed { faults }, true) if faults + 1 < self.options.failures => {
                State::Closed { faults: faults + 1 }
            }
            (State::Closed { .. } | State::HalfOpen { .. }, true) => {
                State::Open { until: now + self.options.open_for }
            }
            (State::HalfOpen { sent, well }, false) if well + 1 < self.options.probes => {
                State::HalfOpen { sent, well: well + 1 }
            }
            (State::HalfOpen { .. }, false) => State::Closed { faults: 0 },
            (open @ State::Open { .. }, _) => open,
        };
        let opened = matches!(next, State::Open { .. });
        let changed = std::mem::discriminant(&next) != std::mem::discriminant(&circuit.state);
        circuit.state = next;
        if changed {
            circuit.since = now;
            drop(circuit);
            tracing::warn!(slot, opened, "a circuit breaker has changed");
        }
    }
}

impl Middleware for CircuitBreaker {
    fn name(&self) -> &str {
        "circuit_breaker"
    }

    fn before(&self, attempt: &mut Attempt<'_>, memo: &mut Memo) -> Before {
        match self.enter() {
            Ok(()) => {
                memo.since = Instant::now();
                Before::Go
            }
            Err(_) if attempt.is_last() => {
                let text =
                    format!("the circuit of `{}` is open, its handler kept failing", attempt.slot);
                Before::Answer(Ending::Error(PluginError::ProcessingError(text)))
            }
            Err(wait) => Before::Answer(Ending::Answered(ProcessingStatus::RetryLater(wait))),
        }
    }

    fn after(&self, attempt: &Attempt<'_>, memo: &mut Memo, ending: Ending) -> After {
        self.note(attempt.slot, memo.since, ending.is_fault());
        After::Done(ending)
    }

    /// Most often because it took too long, for the pool or for a timeout further out.
    fn cut_off(&self, attempt: &Attempt<'_>, memo: &mut Memo) {
        self.note(attempt.slot, memo.since, true);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attempt, attempt_of};
    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(10);

    fn breaker(failures: u32, probes: u32) -> CircuitBreaker {
        CircuitBreaker::new(CircuitBreakerOptions { failures, open_for: OPEN_FOR, probes })
    }

    /// Lets a message through; `None` where the breaker does not.
    fn enter(breaker: &CircuitBreaker) -> Option<Memo> {
        let mut memo = Memo::new();
        matches!(breaker.before(&mut attempt(), &mut memo), Before::Go).then_some(memo)
    }

    fn leave(breaker: &CircuitBreaker, memo: Option<Memo>, well: bool) {
        let ending = if well {
            Ending::Answered(ProcessingStatus::Acknowledged)
        } else {
            Ending::TimedOut(Duration::from_secs(1))
        };
        breaker.after(&attempt(), &mut memo.expect("it was let through"), ending);
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_faults_in_a_row_and_closes_after_probes() {
        let breaker = breaker(3, 2);
        for well in [false, false, true, false, false] {
            leave(&breaker, enter(&breaker), well);
        }
        let stale = enter(&breaker);
        leave(&breaker, enter(&breaker), false);
        let Before::Answer(Ending::Answered(ProcessingStatus::RetryLater(wait))) =
            breaker.before(&mut attempt(), &mut Memo::new())
        else {
            panic!("three faults in a row have opened it");
        };
        assert_eq!(wait, OPEN_FOR);
        tokio::time::advance(OPEN_FOR).await;
        let probes = (enter(&breaker), enter(&breaker));
        assert!(probes.0.is_some() && probes.1.is_some());
        assert!(enter(&breaker).is_none(), "two probes and no more");
        leave(&breaker, stale, false);
        leave(&breaker, probes.0, true);
        assert!(enter(&breaker).is_none(), "one of two is not enough");
        leave(&breaker, probes.1, true);
        assert!(
            (0..10).all(|_| enter(&breaker).is_some()),
            "what began before it opened is nothing"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_fails_or_is_cut_off_opens_it_again() {
        let breaker = breaker(1, 1);
        leave(&breaker, enter(&breaker), false);
        for cut_off in [false, true] {
            tokio::time::advance(OPEN_FOR - Duration::from_millis(1)).await;
            assert!(enter(&breaker).is_none());
            tokio::time::advance(Duration::from_millis(1)).await;
            let probe = enter(&breaker);
            if cut_off {
                breaker.cut_off(&attempt(), &mut probe.expect("a probe"));
            } else {
                leave(&breaker, probe, false);
            }
            assert!(enter(&breaker).is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn on_its_last_attempt_a_message_learns_why() {
        let breaker = breaker(1, 1);
        leave(&breaker, enter(&breaker), false);
        let Before::Answer(Ending::Error(error)) =
            breaker.before(&mut attempt_of(5, 5), &mut Memo::new())
        else {
            panic!("it is open");
        };
        assert!(error.to_string().contains("circuit of `slot`"), "{error}");
    }
}
