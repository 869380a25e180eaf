//! Services that end by themselves after they were ready.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use echo_sdk::contract::service::{self, ServiceDied};
use echo_sdk::{PublishError, Subscription};

use crate::link::Link;

/// The services of one suite that have died, as `service.died` tells.
#[derive(Debug)]
pub(crate) struct Deaths<'a> {
    link: &'a Link,
    suite: &'a str,
    told: Subscription,
    dead: BTreeMap<String, ServiceDied>,
}

impl<'a> Deaths<'a> {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the bus takes no subscription.
    pub(crate) async fn watch(link: &'a Link, suite: &'a str) -> Result<Self, PublishError> {
        let told = link.context().subscribe(service::DIED).await?;
        Ok(Self { link, suite, told, dead: BTreeMap::new() })
    }

    /// Does `work`, and takes in what is told in the meantime, so that nobody has to wait for this listener.
    pub(crate) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            self.take_in(cx);
            work.as_mut().poll(cx)
        })
        .await
    }

    /// Does `work`, which needs `service`; drops it as soon as the service is known to be dead.
    ///
    /// # Errors
    /// How the service ended.
    pub(crate) async fn during<T>(
        &mut self,
        service: Option<&str>,
        work: impl Future<Output = T>,
    ) -> Result<T, ServiceDied> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            self.take_in(cx);
            match service.and_then(|service| self.dead.get(service)) {
                Some(died) => Poll::Ready(Err(died.clone())),
                None => work.as_mut().poll(cx).map(Ok),
            }
        })
        .await
    }

    /// The services that are known to be dead by now, by name.
    pub(crate) async fn by_now(&mut self) -> &BTreeMap<String, ServiceDied> {
        poll_fn(|cx| {
            self.take_in(cx);
            Poll::Ready(())
        })
        .await;
        &self.dead
    }

    /// Takes in all that was told, and asks to be woken for more.
    fn take_in(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(received)) = self.told.poll_next(cx) {
            let Ok(died) = received.message.json::<ServiceDied>() else {
                continue;
            };
            if died.id.run_id == *self.link.run_id() && died.id.suite == self.suite {
                self.dead.entry(died.id.service.clone()).or_insert(died);
            }
        }
    }
}
