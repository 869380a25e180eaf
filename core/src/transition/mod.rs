//! One version of a plugin takes another's place while messages flow.
//!
//! The slot keeps the messages, the order of each key and the managed state; versions come and go behind it. A
//! strategy decides when which version has workers, and on which buckets of the slot; what is in nobody's hand waits,
//! what is cut off comes back, so nothing is lost or done twice.
//!
//! * **Who owns what.** One task owns a transition from its start to its end, and holds the plugin's
//!   [`changing`](crate::registry::Managed::changing) alone meanwhile. [`Passage`] is the part of it in which messages
//!   pass over; what is before and after, the host does.
//! * **The old version stays initialised** until the verdict, with its workers stopped once the new one has all
//!   messages. Going back is starting them again.
//! * **State.** Managed state is stored in the old version's form until the commit, so nothing has to be undone. What a
//!   version remembers itself is handed over at the cut, taken up and proven, and taken down again on the way back.
//! * **Objections** end a passage wherever it is: a panic, errors, latency, memory, health, somebody who says so, and a
//!   host that ends. Then [`Passage::roll_back`].
//! * **A host that dies** has told nothing of a commit, and starts the old version again.

#[allow(dead_code, reason = "for the verdict")]
mod evidence;
#[allow(dead_code, reason = "for the verdict")]
mod judge;
mod memory;
mod plan;
mod record;
#[allow(dead_code, reason = "for blue-green transitions")]
pub(crate) mod shadow;
mod told;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use echo_sdk::contract::transition::TransitionStep;
use echo_sdk::{Health, StateSnapshot, TransitionStrategy};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::registry::Version;
pub(crate) use plan::Plan;
pub use record::{Record, RecordError, Records};
pub(crate) use told::Told;

/// How often it is looked whether something speaks against the new version.
const LOOK: Duration = Duration::from_millis(20);

/// How often the new version is asked how it is.
const HEALTH: Duration = Duration::from_millis(500);

/// How long it may take to answer that.
const HEALTH_PATIENCE: Duration = Duration::from_secs(1);

/// How long messages in the new version's hand may hold up the way back; past that they come back to the old one.
const BACK_PATIENCE: Duration = Duration::from_millis(500);

/// A transition that goes on or waits for its turn, as others see it.
#[derive(Debug, Clone)]
pub(crate) struct Ongoing {
    pub(crate) id: Uuid,
    ended: watch::Sender<Option<String>>,
}

impl Ongoing {
    pub(crate) fn new() -> Self {
        Self { id: Uuid::now_v7(), ended: watch::Sender::new(None) }
    }

    /// Has it roll back, for this reason, unless it was told before.
    pub(crate) fn end(&self, reason: &str) {
        self.ended.send_if_modified(|ended| {
            let is_first = ended.is_none();
            ended.get_or_insert_with(|| reason.to_owned());
            is_first
        });
    }

    /// Hears when it is to roll back.
    pub(crate) fn ending(&self) -> watch::Receiver<Option<String>> {
        self.ended.subscribe()
    }
}

/// What speaks against the new version: one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Objection(pub(crate) String);

/// Messages pass from one version to another.
pub(crate) struct Passage<'a> {
    pub(crate) old: &'a Arc<Version>,
    pub(crate) new: &'a Arc<Version>,
    pub(crate) plan: &'a Plan,
    pub(crate) told: &'a mut Told,
    ending: watch::Receiver<Option<String>>,
    /// The old version's workers when it was stopped.
    workers: usize,
    /// The form of the state that the old version has handed over, if it has.
    handed_over: Option<u32>,
    /// Whether the new version has come to handle messages, or copies of them.
    pub(crate) has_begun: bool,
}

impl<'a> Passage<'a> {
    pub(crate) fn new(
        (old, new): (&'a Arc<Version>, &'a Arc<Version>),
        plan: &'a Plan,
        told: &'a mut Told,
        ending: watch::Receiver<Option<String>>,
    ) -> Self {
        let workers = old.pool.size();
        Self { old, new, plan, told, ending, workers, handed_over: None, has_begun: false }
    }

    /// Has the new version get all messages, and judges it as long as the plan says.
    ///
    /// # Errors
    /// What speaks against the new version; roll back then.
    pub(crate) async fn pass(&mut self) -> Result<(), Objection> {
        self.new.slot.on_trial.store(true, Ordering::Relaxed);
        self.agree_on_form().await?;
        match self.plan.strategy {
            TransitionStrategy::Immediate => self.cut(Duration::ZERO).await?,
            TransitionStrategy::Graceful => self.cut(self.plan.patience).await?,
            TransitionStrategy::Gradual => self.shift().await?,
            TransitionStrategy::BlueGreen => {
                let strategy = self.plan.strategy.as_str();
                return Err(Objection(format!("the host knows no {strategy} transition yet")));
            }
        }
        self.told.share = 100;
        self.told.tell(TransitionStep::Cut, None);
        self.judge(self.plan.trial).await
    }

    /// Has both versions store managed state in a form that both know. Where the new version is the earlier one, what is
    /// stored already is taken down.
    async fn agree_on_form(&self) -> Result<(), Objection> {
        let (old, new) = (&self.old.slot.forms, &self.new.slot.forms);
        let both = old.own().min(new.own());
        new.store_in(both);
        let Some(states) = self.old.slot.states.as_ref().filter(|_| old.own() > both) else {
            return Ok(());
        };
        old.store_in(both);
        // Who is at a commit just now may store the later form yet.
        let workers = self.old.pool.size();
        self.stop_old(self.plan.patience).await?;
        self.old.pool.start_with(workers);
        let swept = old.sweep(&**states).await;
        swept.map(drop).map_err(refused("the old version cannot take its state down"))
    }

    /// Stops the old version, hands over what it remembers, and starts the new one.
    async fn cut(&mut self, patience: Duration) -> Result<(), Objection> {
        self.workers = self.old.pool.size();
        self.stop_old(patience).await?;
        self.hand_over().await?;
        self.has_begun = true;
        self.new.pool.start_with(self.workers);
        Ok(())
    }

    /// Ends the old version's workers, so that nothing of it is at work any more.
    async fn stop_old(&self, patience: Duration) -> Result<(), Objection> {
        match self.old.pool.stop(patience).await.stuck {
            0 => Ok(()),
            stuck => Err(Objection(format!(
                "{stuck} handlers of the old version block their threads and cannot be cut off; \
                 wait until they are done"
            ))),
        }
    }

    /// Has the new version get more and more of the messages, and judges it at each step.
    async fn shift(&mut self) -> Result<(), Objection> {
        self.workers = self.old.pool.size();
        self.stop_old(self.plan.patience).await?;
        let exported = self.old.export_state().await;
        self.old.pool.start_with(self.workers);
        let exported = exported.map_err(refused("the old version does not hand its state over"))?;
        if exported.is_some() {
            let why = "the plugin remembers something itself, of which two versions at work would each have a part; \
                       choose another strategy, or have the plugin keep it as managed state";
            return Err(Objection(why.to_owned()));
        }
        self.has_begun = true;
        self.new.pool.start();
        for share in self.plan.steps.clone() {
            self.give(share);
            self.told.tell(TransitionStep::Shifted, None);
            self.judge(self.plan.interval).await?;
        }
        self.workers = self.old.pool.size();
        self.new.pool.start_with(self.workers.max(self.new.pool.size()));
        self.give(100);
        self.stop_old(self.plan.patience).await
    }

    /// Has the new version get so many percent of the messages, where it stands on a side of its own.
    fn give(&mut self, share: u8) {
        let (old, new) = (&self.old.slot, &self.new.slot);
        self.told.share = share;
        if old.side != new.side {
            new.slot.divide(plan::second(new.side, share));
        }
    }

    async fn hand_over(&mut self) -> Result<(), Objection> {
        let exported = self.old.export_state().await;
        let Some(state) =
            exported.map_err(refused("the old version does not hand its state over"))?
        else {
            return Ok(());
        };
        let form = state.schema;
        let state = match self.new.schema() {
            earlier if earlier < form => self.old.convert_state(state, earlier).await,
            _ => self.new.take_up(state).await,
        };
        let state = state.map_err(refused("the new version cannot take the state up"))?;
        let taken = self.new.import_state(state).await;
        taken.map_err(refused("the new version does not take the state over"))?;
        self.handed_over = Some(form);
        Ok(())
    }

    /// Judges the new version for so long.
    async fn judge(&mut self, time: Duration) -> Result<(), Objection> {
        let until = Instant::now() + time;
        let mut ending = self.ending.clone();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut unwell = pin!(unwell(self.new));
        let mut grown = pin!(memory::grown(self.plan.memory));
        loop {
            tokio::select! {
                biased;
                reason = ended(&mut ending) => return Err(Objection(reason)),
                objection = &mut unwell => return Err(objection),
                objection = &mut grown => return Err(objection),
                _ = looks.tick() => {}
                () = tokio::time::sleep_until(until) => return Ok(()),
            }
        }
    }

    /// Has the old version go on as if there had been no other. Says what of the new one's time could not be kept.
    pub(crate) async fn roll_back(&mut self) -> Option<String> {
        self.give(0);
        if self.old.slot.side != self.new.slot.side && self.old.pool.size() == 0 {
            self.old.pool.start_with(self.workers);
        }
        self.new.pool.stop(BACK_PATIENCE.min(self.plan.patience)).await;
        let fault = if self.has_begun { self.hand_back().await.err() } else { None };
        self.old.slot.forms.store_own();
        if self.old.pool.size() == 0 {
            self.old.pool.start_with(self.workers);
        }
        fault
    }

    /// Hands what the new version remembers back. The old version goes on with what it had where that fails.
    async fn hand_back(&self) -> Result<(), String> {
        let Some(form) = self.handed_over else { return Ok(()) };
        let went_wrong = |what: &str, error| {
            format!("{what}, so the old version goes on with its state from before: {error}")
        };
        let exported = self.new.export_state().await;
        let Some(state) = exported
            .map_err(|error| went_wrong("the new version does not hand its state back", error))?
        else {
            return Ok(());
        };
        let down = match self.new.schema() {
            earlier if earlier < form => self.old.take_up(state).await,
            _ => self.new.convert_state(state, form).await,
        };
        let down: StateSnapshot =
            down.map_err(|error| went_wrong("the new version cannot take its state down", error))?;
        let taken = self.old.import_state(down).await;
        taken.map_err(|error| went_wrong("the old version does not take its state back", error))
    }
}

/// Resolves once the version says that it is not well, or does not say how it is.
async fn unwell(version: &Version) -> Objection {
    let mut asks = tokio::time::interval(HEALTH);
    asks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        asks.tick().await;
        match tokio::time::timeout(HEALTH_PATIENCE, version.health()).await {
            Ok(Health::Unhealthy(why)) => {
                return Objection(format!("the new version is not well: {why}"));
            }
            Ok(Health::Healthy | Health::Degraded(_) | Health::Unchecked) => {}
            Err(_) => {
                let patience = echo_sdk::duration::format(HEALTH_PATIENCE);
                return Objection(format!(
                    "the new version did not say within {patience} how it is"
                ));
            }
        }
    }
}

/// Resolves with the reason once somebody wants the transition to end.
async fn ended(ending: &mut watch::Receiver<Option<String>>) -> String {
    loop {
        let reason = ending.borrow_and_update().clone();
        if let Some(reason) = reason {
            return reason;
        }
        if ending.changed().await.is_err() {
            // Nobody is left who could want it.
            std::future::pending::<()>().await;
        }
    }
}

fn refused(what: &'static str) -> impl FnOnce(echo_sdk::PluginError) -> Objection {
    move |error| Objection(format!("{what}: {error}"))
}
