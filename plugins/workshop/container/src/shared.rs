//! What the services of a suite share: one network, and the volumes that have a name.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use echo_sdk::contract::RunId;
use echo_sdk::contract::service::ServiceId;
use echo_sdk::service::Scope;
use tokio::sync::{Mutex as AsyncMutex, watch};

use crate::engine::{Engine, EngineError};
use crate::labels;

/// What a service needs of what its suite shares.
#[derive(Debug, Default)]
pub struct Needs {
    /// Whether it is on the suite's network.
    pub network: bool,
    /// The suite's volumes that it mounts, by the engine's name.
    pub volumes: Vec<String>,
}

/// The network and volumes of one suite in one run: made for the first service that needs them, removed
/// with the last.
#[derive(Debug)]
pub struct Suite {
    run_id: RunId,
    name: String,
    made: AsyncMutex<Made>,
}

#[derive(Debug, Default)]
struct Made {
    users: usize,
    network: Option<String>,
    volumes: BTreeSet<String>,
}

impl Suite {
    /// Counts a service in, and makes what it needs and no other has made. To be [left](Self::leave) even
    /// if it fails. Services that enter at once wait for one another here, so that each thing is made once.
    pub async fn enter(&self, engine: &Engine, needs: &Needs) -> Result<(), EngineError> {
        let mut made = self.made.lock().await;
        made.users += 1;
        if needs.network && made.network.is_none() {
            let name = labels::suite_name(&self.run_id, &self.name);
            engine.create_network(&name, labels::of_suite(&self.run_id, &self.name)).await?;
            made.network = Some(name);
        }
        for name in &needs.volumes {
            if !made.volumes.contains(name) {
                engine.create_volume(name, labels::of_suite(&self.run_id, &self.name)).await?;
                made.volumes.insert(name.clone());
            }
        }
        Ok(())
    }

    /// Counts a service out; the last one removes what was made. What cannot be removed now is left to the
    /// run's cleanup, and told.
    pub async fn leave(&self, engine: &Engine) -> Result<(), EngineError> {
        let mut made = self.made.lock().await;
        made.users = made.users.saturating_sub(1);
        if made.users > 0 {
            return Ok(());
        }
        let Made { network, volumes, .. } = std::mem::take(&mut *made);
        let mut outcome = Ok(());
        if let Some(name) = network {
            outcome = engine.remove_network(&name).await;
        }
        for name in volumes {
            outcome = outcome.and(engine.remove_volume(&name).await);
        }
        outcome
    }
}

/// The suites whose services run, and the starts that are under way.
#[derive(Debug, Clone, Default)]
pub struct Registry(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    suites: HashMap<(RunId, String), Arc<Suite>>,
    starts: HashMap<ServiceId, watch::Receiver<()>>,
}

impl Registry {
    /// The suite of a service.
    pub fn suite(&self, id: &ServiceId) -> Arc<Suite> {
        let key = (id.run_id.clone(), id.suite.clone());
        let fresh = || {
            let (run_id, name) = key.clone();
            Arc::new(Suite { run_id, name, made: AsyncMutex::default() })
        };
        self.lock().suites.entry(key.clone()).or_insert_with(fresh).clone()
    }

    /// Notes that a service is being started, until what is returned is dropped.
    pub fn begin(&self, id: &ServiceId) -> Start {
        let (running, ended) = watch::channel(());
        self.lock().starts.insert(id.clone(), ended);
        Start { registry: self.clone(), id: id.clone(), _running: running }
    }

    /// Waits for the starts of a scope that are under way, also such as nobody waits for any more.
    pub async fn settled(&self, scope: Scope<'_>) {
        let starts: Vec<_> = {
            let inner = self.lock();
            let of_scope = inner.starts.iter().filter(|(id, _)| is_of(id, scope));
            of_scope.map(|(_, ended)| ended.clone()).collect()
        };
        for mut ended in starts {
            // It resolves with an error once the start has ended and its side is dropped.
            while ended.changed().await.is_ok() {}
        }
    }

    /// Forgets the suites of a run that is over.
    pub fn forget(&self, run_id: &RunId) {
        self.lock().suites.retain(|(of, _), _| of != run_id);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is one insertion or removal, so a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_of(id: &ServiceId, scope: Scope<'_>) -> bool {
    match scope {
        Scope::Run(run_id) => id.run_id == *run_id,
        Scope::Service(service) => id == service,
    }
}

/// A start that is under way.
#[derive(Debug)]
pub struct Start {
    registry: Registry,
    id: ServiceId,
    _running: watch::Sender<()>,
}

impl Drop for Start {
    fn drop(&mut self) {
        self.registry.lock().starts.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn id(run: &str, service: &str) -> ServiceId {
        ServiceId {
            run_id: RunId::new(run).unwrap(),
            suite: "s".to_owned(),
            service: service.to_owned(),
        }
    }

    #[test]
    fn a_scope_is_settled_when_its_starts_have_ended() {
        let registry = Registry::default();
        let (web, other) = (id("r", "web"), id("other", "web"));
        let start = registry.begin(&web);
        let _start_of_other = registry.begin(&other);
        let mut of_run = Box::pin(registry.settled(Scope::Run(&web.run_id)));
        assert!((&mut of_run).now_or_never().is_none());
        assert!(registry.settled(Scope::Service(&id("r", "db"))).now_or_never().is_some());
        drop(start);
        assert!(of_run.now_or_never().is_some());
        assert!(registry.settled(Scope::Service(&other)).now_or_never().is_none());
    }

    #[test]
    fn services_of_one_suite_share_until_the_run_is_over() {
        let registry = Registry::default();
        let suite = registry.suite(&id("r", "web"));
        assert!(Arc::ptr_eq(&suite, &registry.suite(&id("r", "db"))));
        assert!(!Arc::ptr_eq(&suite, &registry.suite(&id("other", "db"))));
        registry.forget(&suite.run_id);
        assert!(!Arc::ptr_eq(&suite, &registry.suite(&id("r", "web"))));
    }
}
