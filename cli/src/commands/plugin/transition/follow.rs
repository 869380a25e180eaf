//! Following transitions to their last steps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::{Message, Subscriber};
use echo_sdk::contract::transition::{TransitionEvent, TransitionStep};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use uuid::Uuid;

use super::steps;
use crate::commands::Talk;
use crate::exit::{CommandResult, Exit, Failure, chain};
use crate::interrupts::Interrupts;
use crate::remote::{Remote, RemoteError, received};

/// How often it is asked whether the hosts are still there: one that was killed says nothing of it.
const LOOK: Duration = Duration::from_secs(10);

/// What is to come of a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The new version stays.
    NewVersion,
    /// The version before handles the messages again.
    VersionBefore,
}

/// The transitions that an order has led to, one on each host that took it.
pub struct Following<'a> {
    plugin: &'a str,
    wanted: Wanted,
    /// Those that have not ended yet.
    open: BTreeMap<Uuid, Open>,
    /// A host that went away before its transition had ended.
    gone: Option<String>,
    /// Whether there is more than one, so that each line says which it is of.
    many: bool,
    json: bool,
    /// Whether all that have ended ended as wanted.
    is_well: bool,
}

/// A transition that has not ended yet.
struct Open {
    /// The host whose it is.
    host: String,
    /// Whether it was seen to begin.
    began: bool,
}

impl<'a> Following<'a> {
    /// The transitions, by the hosts whose they are.
    pub fn new(
        plugin: &'a str,
        wanted: Wanted,
        taken: impl IntoIterator<Item = (String, Uuid)>,
        json: bool,
    ) -> Self {
        let open = taken.into_iter().map(|(host, id)| (id, Open { host, began: false }));
        let open: BTreeMap<Uuid, Open> = open.collect();
        let many = open.len() > 1;
        Self { plugin, wanted, open, gone: None, many, json, is_well: true }
    }

    /// Prints each step until none is to come.
    ///
    /// # Errors
    /// [`Failure`] when the connection or a host is lost, or the output cannot be written.
    pub async fn follow(
        mut self,
        talk: &Talk<'_>,
        mut remote: Remote,
        mut messages: Subscriber,
    ) -> CommandResult {
        let mut interrupts = Interrupts::catch().map_err(Failure::surroundings)?;
        let mut looks = interval_at(Instant::now() + LOOK, LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.open.is_empty() {
            tokio::select! {
                message = messages.next() => {
                    let lost = || RemoteError::Lost { at: remote.at().to_owned() };
                    self.read(talk, &message.ok_or_else(lost)?)?;
                }
                event = remote.event() => {
                    let judged = match event {
                        Some(event) => remote.judge(event),
                        None => Err(RemoteError::Lost { at: remote.at().to_owned() }),
                    };
                    judged.map_err(|error| self.lost(talk, error))?;
                }
                _ = looks.tick() => tokio::select! {
                    // One that does not answer is waited for.
                    looked = self.look_for_hosts(talk, &mut remote, &mut messages) => looked?,
                    _ = interrupts.next() => return Ok(self.interrupted(talk)),
                },
                _ = interrupts.next() => return Ok(self.interrupted(talk)),
            }
        }
        match self.gone.take() {
            Some(host) => Err(self.lost(talk, RemoteError::HostGone { host })),
            None => Ok(if self.is_well { Exit::Success } else { Exit::TestFailed }),
        }
    }

    /// Says what becomes of the transition that nobody follows any more.
    fn interrupted(&self, talk: &Talk<'_>) -> Exit {
        let ends = format!("`echo-core plugin rollback {}` ends it", self.plugin);
        let follows = "`echo-core subscribe 'system.plugin.transition.>'` follows it";
        talk.output.say(format_args!("the transition goes on; {ends}, {follows}"));
        Exit::Interrupted
    }

    /// Gives the transitions up of hosts that are not there any more.
    async fn look_for_hosts(
        &mut self,
        talk: &Talk<'_>,
        remote: &mut Remote,
        messages: &mut Subscriber,
    ) -> Result<(), Failure> {
        let hosts: BTreeSet<String> = self.open.values().map(|open| open.host.clone()).collect();
        for host in hosts {
            if remote.has_host(&host).await.map_err(|error| self.lost(talk, error))? {
                continue;
            }
            // What it said last came before.
            while let Some(Some(message)) = messages.next().now_or_never() {
                self.read(talk, &message)?;
            }
            let open = self.open.len();
            self.open.retain(|_, open| open.host != host);
            if self.open.len() < open {
                self.gone = Some(host);
            }
        }
        Ok(())
    }

    /// Says where to look, now that the steps cannot be followed.
    fn lost(&self, talk: &Talk<'_>, error: RemoteError) -> Failure {
        let way_out = format!("`echo-core plugin show {}` tells the version", self.plugin);
        talk.output.complain(format_args!("nobody follows the transition any more; {way_out}\n"));
        error.into()
    }

    /// Reads what came on the topic of steps.
    fn read(&mut self, talk: &Talk<'_>, message: &Message) -> Result<(), Failure> {
        match received(message).and_then(|it| Ok(it.message.json::<TransitionEvent>()?)) {
            Ok(event) => self.take(talk, &event),
            Err(error) => {
                let (topic, error) = (&message.subject, chain(&error));
                talk.output.complain(format_args!("what came on `{topic}` is no step: {error}\n"));
                Ok(())
            }
        }
    }

    /// Takes a step, of one of these transitions or of another.
    fn take(&mut self, talk: &Talk<'_>, event: &TransitionEvent) -> Result<(), Failure> {
        if self.end_with(event) {
            // Nobody may read it any more; how it ends is waited for all the same.
            let printed = match self.json {
                true => talk.output.json_line(event),
                false => {
                    talk.output.result_line(steps::line(event, self.many, talk.output.out) + "\n")
                }
            };
            printed.map_err(Failure::surroundings)?;
        }
        Ok(())
    }

    /// Remembers what a step means; whether it is one of these transitions.
    fn end_with(&mut self, event: &TransitionEvent) -> bool {
        let Some(Open { began, .. }) = self.open.get_mut(&event.id) else { return false };
        *began |= event.step == TransitionStep::Started;
        // One that was going on already when the version before was wanted is not to come to another.
        let to_stay = self.wanted == Wanted::NewVersion || *began;
        if event.step.is_last() {
            self.open.remove(&event.id);
            self.is_well &= (event.step == TransitionStep::Committed) == to_stay;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::steps::tests::event;
    use super::*;
    use TransitionStep::{Committed, Cut, Refused, RolledBack, RollingBack, Started};

    /// How following one transition ends after these steps.
    fn ends(wanted: Wanted, steps: &[TransitionStep]) -> bool {
        let id = event(Started).id;
        let mut following = Following::new("x", wanted, [("h".to_owned(), id)], false);
        for step in steps {
            assert!(!following.open.is_empty(), "{step:?} comes after the last");
            assert!(following.end_with(&event(*step)));
        }
        assert!(following.open.is_empty(), "it has not ended");
        assert!(!following.end_with(&event(Cut)), "it is over");
        following.is_well
    }

    #[test]
    fn a_new_version_that_stays_is_what_was_wanted() {
        assert!(ends(Wanted::NewVersion, &[Started, Cut, Committed]));
        assert!(!ends(Wanted::NewVersion, &[Started, Cut, RollingBack, RolledBack]));
        assert!(!ends(Wanted::NewVersion, &[Started, Refused]));
    }

    #[test]
    fn a_rollback_ends_a_transition_or_is_one() {
        assert!(ends(Wanted::VersionBefore, &[RollingBack, RolledBack]));
        assert!(ends(Wanted::VersionBefore, &[Refused]));
        // The order came too late.
        assert!(!ends(Wanted::VersionBefore, &[Committed]));
        assert!(ends(Wanted::VersionBefore, &[Started, Cut, Committed]));
        assert!(!ends(Wanted::VersionBefore, &[Started, Cut, RollingBack, RolledBack]));
        assert!(!ends(Wanted::VersionBefore, &[Started, Refused]));
    }

    #[test]
    fn steps_of_others_are_nobodys_business() {
        let mut following =
            Following::new("x", Wanted::NewVersion, [("h".to_owned(), Uuid::now_v7())], false);
        assert!(!following.end_with(&event(Committed)));
        assert_eq!(following.open.len(), 1);
    }

    #[test]
    fn one_host_that_does_not_take_it_is_told_by_the_end() {
        let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
        let taken = [("h", first), ("i", second)].map(|(host, id)| (host.to_owned(), id));
        let mut following = Following::new("x", Wanted::NewVersion, taken, false);
        assert!(following.end_with(&TransitionEvent { id: second, ..event(Refused) }));
        assert!(following.end_with(&TransitionEvent { id: first, ..event(Committed) }));
        assert!(following.open.is_empty() && !following.is_well);
    }
}
