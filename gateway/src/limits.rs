//! What one client may take of the host, and what it is told when it wants more.

use echo_core::config::GatewayLimits;
use tokio::time::Instant;

/// The longest line that a NATS client may send, `CONNECT` aside, in bytes: as nats-server has it.
pub const MAX_CONTROL_LINE: usize = 4_096;

/// How many questions whether it is still there a NATS client may leave unanswered.
pub const MAX_UNANSWERED_PINGS: u32 = 2;

/// A limit that a client has reached. The texts are those of nats-server, since NATS clients know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// So many clients are connected already: `gateway.limits.max_connections`.
    #[error("maximum connections exceeded")]
    Connections,
    /// The connection has so many subscriptions already: `gateway.limits.max_subscriptions`.
    #[error("maximum subscriptions exceeded")]
    Subscriptions,
    /// The payload is too large: `gateway.limits.max_payload`.
    #[error("Maximum Payload Violation")]
    Payload,
    /// A line is longer than [`MAX_CONTROL_LINE`].
    #[error("Maximum Control Line Exceeded")]
    ControlLine,
    /// So much waits for the client that it cannot be keeping up: `gateway.limits.max_pending`.
    #[error("Slow Consumer")]
    Pending,
    /// The connection publishes faster than it may: `gateway.limits.max_rate`.
    #[error("Maximum Publish Rate Exceeded")]
    Rate,
}

/// How fast one connection may publish: a second's worth at once, and no more than that each second.
#[derive(Debug)]
pub struct Rate {
    per_second: f64,
    tokens: f64,
    counted: Instant,
}

impl Rate {
    /// The rate of the limits, where there is one.
    pub fn of(limits: &GatewayLimits) -> Option<Self> {
        let per_second = f64::from(limits.max_rate?);
        Some(Self { per_second, tokens: per_second, counted: Instant::now() })
    }

    /// Counts a message.
    ///
    /// # Errors
    /// [`LimitError::Rate`] when it is one too many, which then does not count.
    pub fn take(&mut self) -> Result<(), LimitError> {
        if self.tokens < 1.0 {
            let now = Instant::now();
            let fresh = now.duration_since(self.counted).as_secs_f64() * self.per_second;
            self.tokens = (self.tokens + fresh).min(self.per_second);
            self.counted = now;
        }
        if self.tokens < 1.0 {
            return Err(LimitError::Rate);
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_gives_a_seconds_worth() {
        assert!(Rate::of(&GatewayLimits::default()).is_none());
        let limits = GatewayLimits { max_rate: Some(10), ..GatewayLimits::default() };
        let mut rate = Rate::of(&limits).unwrap();
        let mut taken = || (0..100).filter(|_| rate.take().is_ok()).count();
        assert_eq!(taken(), 10);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(taken(), 5);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(taken(), 10);
    }
}
