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

mod evidence;
mod judge;
mod memory;
mod plan;
mod record;
pub(crate) mod shadow;
mod stall;
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

use crate::actor::Figures;
use crate::registry::Version;
use judge::{Judge, Limits};
use memory::Growth;
pub(crate) use plan::Plan;
pub use record::{Record, RecordError, Records};
use shadow::Shadow;
use stall::{Seen, Stall};
pub(crate) use told::Told;

/// How often it is looked whether something speaks against the new version.
const LOOK: Duration = Duration::from_millis(20);

/// From which percentage of the messages on a version is as warm as one that gets all of them.
const WARM_SHARE: u8 = 25;

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
    /// Whether the slot gets what the new version subscribes to.
    has_resubscribed: bool,
    judge: Judge,
    stall: Stall,
    /// What both had done when it began.
    old_before: Figures,
    new_before: Figures,
    memory_before: Option<u64>,
}

impl<'a> Passage<'a> {
    pub(crate) fn new(
        (old, new): (&'a Arc<Version>, &'a Arc<Version>),
        plan: &'a Plan,
        told: &'a mut Told,
        ending: watch::Receiver<Option<String>>,
    ) -> Self {
        let (old_before, new_before) = (old.slot.measured.snapshot(), new.slot.measured.snapshot());
        let limits = Limits { errors: plan.errors, latency: plan.latency };
        Self {
            old,
            new,
            plan,
            told,
            ending,
            workers: old.pool.size(),
            handed_over: None,
            has_begun: false,
            has_resubscribed: false,
            stall: Stall::new(Instant::now()),
            judge: Judge::new(limits, Some(old_before.clone())),
            old_before,
            new_before,
            memory_before: memory::resident(),
        }
    }

    /// Has the new version get all messages, and judges it as long as the plan says.
    ///
    /// # Errors
    /// What speaks against the new version; roll back then.
    pub(crate) async fn pass(&mut self) -> Result<(), Objection> {
        self.new.slot.on_trial.store(true, Ordering::Relaxed);
        self.attend(true);
        let passed = self.pass_over().await;
        self.attend(false);
        passed
    }

    /// Has each message of both versions be measured, or no more.
    fn attend(&self, wanted: bool) {
        self.old.slot.measured.attend(wanted);
        self.new.slot.measured.attend(wanted);
    }

    async fn pass_over(&mut self) -> Result<(), Objection> {
        self.agree_on_form().await?;
        match self.plan.strategy {
            TransitionStrategy::Immediate => self.cut(Duration::ZERO).await?,
            TransitionStrategy::Graceful => self.cut(self.plan.patience).await?,
            TransitionStrategy::Gradual => self.shift().await?,
            TransitionStrategy::BlueGreen => {
                self.compare().await?;
                self.cut(self.plan.patience).await?;
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
        if self.old.slot.states.is_none() || old.own() == both {
            return Ok(());
        }
        old.store_in(both);
        // Who is at a commit just now may store the later form yet.
        let workers = self.old.pool.size();
        self.stop_old(self.plan.patience).await?;
        self.old.pool.start_with(workers);
        let taken = self.old.take_documents_down().await;
        taken.map(drop).map_err(refused("the old version cannot take its state down"))
    }

    /// Stops the old version, hands over what it remembers, and starts the new one.
    async fn cut(&mut self, patience: Duration) -> Result<(), Objection> {
        self.workers = self.old.pool.size();
        self.stop_old(patience).await?;
        self.hand_over().await?;
        self.has_begun = true;
        self.new.pool.start_with(self.workers);
        self.subscribe().await
    }

    /// Has the slot get what the new version subscribes to, where that is something else.
    async fn subscribe(&mut self) -> Result<(), Objection> {
        if !self.new.subscribes_as(self.old) {
            self.has_resubscribed = true;
            let subscribed = self.new.subscribe().await;
            subscribed
                .map_err(|error| Objection(format!("the slot cannot subscribe anew: {error}")))?;
        }
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
        self.stop_old(self.plan.patience).await?;
        self.subscribe().await
    }

    /// Has the new version get so many percent of the messages, where it stands on a side of its own.
    fn give(&mut self, share: u8) {
        let (old, new) = (&self.old.slot, &self.new.slot);
        self.told.share = share;
        self.judge.set_cold(share < WARM_SHARE);
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

    /// Has the new version handle copies of messages, and compares what it does with what the old one did. Where too
    /// few messages come it goes by those that came within the time of the trial.
    async fn compare(&mut self) -> Result<(), Objection> {
        self.has_begun = true;
        let Plan { compare, differences, trial, .. } = *self.plan;
        let mut shadow = Shadow::start(self.old, self.new, compare, differences);
        let (objection, has_ended) = tokio::select! {
            biased;
            objection = objections(self.ending.clone(), self.new, self.growth()) => {
                (Some(objection), false)
            }
            _ = shadow.done() => (None, true),
            () = tokio::time::sleep(trial) => (None, false),
        };
        let comparison = shadow.end().await;
        self.told.comparison = Some(comparison.clone());
        // It ends by itself before it has compared enough where there is no need to go on.
        let is_cut_short = has_ended && comparison.compared < u64::from(compare);
        let found = || shadow::objection(&comparison, differences, is_cut_short);
        if let Some(objection) = objection.or_else(found) {
            return Err(objection);
        }
        self.told.tell(TransitionStep::Compared, None);
        Ok(())
    }

    /// Judges the new version for so long.
    async fn judge(&mut self, time: Duration) -> Result<(), Objection> {
        let until = Instant::now() + time;
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut objections = pin!(objections(self.ending.clone(), self.new, self.growth()));
        loop {
            let is_over = tokio::select! {
                biased;
                objection = &mut objections => return Err(objection),
                _ = looks.tick() => false,
                () = tokio::time::sleep_until(until) => true,
            };
            if let Some(objection) = self.look() {
                return Err(objection);
            }
            if is_over {
                return Ok(());
            }
        }
    }

    /// Looks at what both versions have done.
    fn look(&mut self) -> Option<Objection> {
        let ever = self.old.slot.measured.snapshot();
        let old = ever.since(&self.old_before);
        let new = self.new.slot.measured.snapshot().since(&self.new_before);
        (self.told.old, self.told.new) = ((&old).into(), (&new).into());
        self.judge.look(&old, &new).or_else(|| self.stalls(new.attempts, &ever))
    }

    /// What speaks against a new version that ends no attempts, beside all that the old one has ever done.
    fn stalls(&mut self, attempts: u64, old: &Figures) -> Option<Objection> {
        let (slot, side) = (&self.new.slot.slot, self.new.slot.side);
        let (stats, in_hand) = (slot.stats(), self.new.pool.busy());
        // Where all are the new version's those count that wait for another of their key.
        let is_behind =
            self.told.share == 100 && stats.held.saturating_sub(stats.delayed) > in_hand;
        let messages_wait = in_hand > 0 && (slot.has_ready_of(side) || is_behind);
        // Handlers without a deadline take as long as they take.
        let longest =
            old.times.quantile(1.0).filter(|_| self.new.slot.delivering.deadline.is_some());
        let seen = Seen { attempts, messages_wait };
        self.stall.look(Instant::now(), seen, longest, self.plan.latency)
    }

    /// By how many bytes the host may grow, and from what on.
    fn growth(&self) -> Growth {
        Growth { before: self.memory_before, most: self.plan.memory }
    }

    /// Has the old version go on as if there had been no other. Says what could not be had back, a sentence each.
    pub(crate) async fn roll_back(&mut self) -> Vec<String> {
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
        let unsubscribed = match self.has_resubscribed {
            true => self.old.subscribe().await.err(),
            false => None,
        };
        let unsubscribed =
            unsubscribed.map(|error| format!("the slot cannot subscribe as before: {error}"));
        fault.into_iter().chain(unsubscribed).collect()
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

/// Resolves once something speaks against the new version but what it does to messages.
async fn objections(
    mut ending: watch::Receiver<Option<String>>,
    new: &Version,
    growth: Growth,
) -> Objection {
    tokio::select! {
        biased;
        reason = ended(&mut ending) => Objection(reason),
        objection = unwell(new) => objection,
        objection = memory::grown(growth) => objection,
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
