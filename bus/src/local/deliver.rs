//! How messages get into the queues.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use echo_sdk::{BaseMessage, PublishError, Received, Topic};
use smallvec::SmallVec;

use super::queue::{Queue, Reservation};
use super::reserved::Reserved;
use super::{LocalTransport, inbox};
use crate::routing::Target;
use crate::transport::Transport;

/// Every so many messages of a thread, one has its time in the queue measured.
const MEASURE_EVERY: u32 = 32;

/// How many messages of a batch stand in a queue as one.
const BATCH: usize = 64;

/// How many messages of a batch go into the log at once.
const LASTING_BATCH: usize = 256;

thread_local! {
    static PUBLISHED: Cell<u32> = const { Cell::new(0) };
}

pub(super) fn is_measured() -> bool {
    let count = PUBLISHED.get();
    PUBLISHED.set(count.wrapping_add(1));
    count.is_multiple_of(MEASURE_EVERY)
}
impl LocalTransport {
    /// Delivers to every matching queue without waiting, and says whether there is one; or to none: then gives back
    /// the name of a full one and the message.
    pub(super) fn deliver_now(
        &self,
        topic: &Topic,
        message: BaseMessage,
    ) -> Result<bool, (String, BaseMessage)> {
        let message = if inbox::is_inbox(topic) {
            match self.0.inboxes.deliver(topic, message) {
                Some(message) => message,
                None => return Ok(true),
            }
        } else {
            message
        };
        self.0.router.with_route(topic, |queues| match queues {
            [] => Ok(false),
            [queue] => match queue.reserve() {
                Reservation::Reserved => {
                    queue.push(topic, message, is_measured());
                    Ok(true)
                }
                Reservation::Full => Err((queue.name().to_owned(), message)),
                Reservation::Drop | Reservation::Closed => Ok(true),
            },
            queues => {
                let mut reserved = Vec::with_capacity(queues.len());
                for queue in queues {
                    match queue.reserve() {
                        Reservation::Reserved => reserved.push(queue),
                        Reservation::Drop | Reservation::Closed => {}
                        Reservation::Full => {
                            reserved.iter().for_each(|queue| queue.unreserve(1));
                            return Err((queue.name().to_owned(), message));
                        }
                    }
                }
                push_all(&reserved, topic, message);
                Ok(true)
            }
        })
    }

    /// The queues that messages on a topic go to, if they can be pushed to each of them several at once.
    fn batch_queues(&self, topic: &Topic) -> SmallVec<[Arc<Queue>; 1]> {
        if inbox::is_inbox(topic) || self.lasts(topic).is_some() {
            return SmallVec::new();
        }
        self.0.router.with_route(topic, |queues| {
            let all_do = queues.iter().all(|queue| queue.takes_batches());
            if all_do { queues.iter().cloned().collect() } else { SmallVec::new() }
        })
    }

    /// How many of these, from the first, are admitted.
    fn admitted(&self, topic: &Topic, messages: &[BaseMessage]) -> Result<usize, PublishError> {
        for (place, message) in messages.iter().enumerate() {
            match self.check(topic, message) {
                Err(error) if place == 0 => return Err(error),
                Err(_) => return Ok(place),
                Ok(()) => {}
            }
        }
        Ok(messages.len())
    }

    pub(super) async fn deliver_batch(
        &self,
        topic: &Topic,
        messages: Vec<BaseMessage>,
    ) -> Result<(), PublishError> {
        let mut left = messages.into_iter();
        while self.lasts(topic).is_some() && left.len() > 0 {
            // What goes into the log together is confirmed together.
            let next = left.as_slice().get(..LASTING_BATCH).unwrap_or(left.as_slice());
            let admitted = self.admitted(topic, next)?;
            let received = |message| Received { topic: topic.clone(), message };
            self.publish_kept(left.by_ref().take(admitted).map(received).collect()).await?;
        }
        while left.len() > 0 {
            let next = left.as_slice().get(..BATCH).unwrap_or(left.as_slice());
            let pushed = match self.batch_queues(topic).as_slice() {
                [] => 0,
                [queue] => {
                    let admitted = self.admitted(topic, next)?;
                    let mut room = queue.room.reserve_some(admitted as u64) as usize;
                    if room == 0 {
                        room = queue.reserve_many(admitted).await.redeem().1;
                    }
                    if room > 0 {
                        queue.push_batch(topic, take(&mut left, room));
                    }
                    room
                }
                queues => {
                    // The half of the smallest queue at most: its workers go on while room is waited for.
                    let most = queues.iter().map(|queue| queue.capacity.div_ceil(2)).min();
                    let next = most.and_then(|most| next.get(..most)).unwrap_or(next);
                    let admitted = self.admitted(topic, next)?;
                    let mut reserved = Vec::with_capacity(queues.len());
                    for queue in queues {
                        reserved.push(queue.reserve_many(admitted).await);
                    }
                    push_shared(reserved, topic, take(&mut left, admitted));
                    admitted
                }
            };
            if pushed == 0
                && let Some(message) = left.next()
            {
                self.publish(topic, message).await?;
            }
        }
        Ok(())
    }

    /// Reserves room for a batch in every queue that gets messages of it past the log, waiting where there is
    /// none: by queue, with the places of its messages.
    pub(super) async fn reserve_all(
        &self,
        batch: &[Received],
    ) -> Result<Vec<(Reserved, Vec<usize>)>, PublishError> {
        // By queue, in the order of their ids: in one order for everybody, so that two publishers cannot
        // each hold what the other waits for.
        let mut wanted: BTreeMap<u64, (Arc<Queue>, Vec<usize>)> = BTreeMap::new();
        for (place, received) in batch.iter().enumerate() {
            self.check(&received.topic, &received.message)?;
            let lasts = self.lasts(&received.topic).is_some();
            self.0.router.with_route(&received.topic, |queues| {
                for queue in queues.iter().filter(|queue| !(lasts && queue.kept.get().is_some())) {
                    let (_, places) =
                        wanted.entry(queue.id()).or_insert_with(|| (Arc::clone(queue), Vec::new()));
                    places.push(place);
                }
            });
        }
        let mut reserved = Vec::with_capacity(wanted.len());
        for (queue, places) in wanted.into_values() {
            reserved.push((queue.reserve_many(places.len()).await, places));
        }
        Ok(reserved)
    }

    pub(super) async fn deliver_waiting(&self, batch: Vec<Received>) -> Result<(), PublishError> {
        let reserved = self.reserve_all(&batch).await?;
        self.hand_out(reserved, batch);
        Ok(())
    }

    /// Delivers a batch for which room is reserved. Nothing of it waits.
    pub(super) fn hand_out(&self, reserved: Vec<(Reserved, Vec<usize>)>, batch: Vec<Received>) {
        for (reserved, places) in reserved {
            let (queue, messages) = reserved.redeem();
            for received in places.iter().take(messages).filter_map(|place| batch.get(*place)) {
                queue.push(&received.topic, received.message.clone(), is_measured());
            }
        }
        for Received { topic, message } in batch {
            self.0.inboxes.deliver(&topic, message);
        }
    }
}

/// The next so many; a batch of which all are meant is passed on as it came.
fn take(left: &mut std::vec::IntoIter<BaseMessage>, count: usize) -> Vec<BaseMessage> {
    if count == left.len() {
        std::mem::take(left).collect()
    } else {
        left.by_ref().take(count).collect()
    }
}

/// Pushes a batch to several queues that have room for all of it; those that were closed meanwhile go without.
fn push_shared(reserved: Vec<Reserved>, topic: &Topic, messages: Vec<BaseMessage>) {
    let count = messages.len();
    let open = reserved.into_iter().map(Reserved::redeem).filter(|(_, room)| *room == count);
    let mut batches: Vec<(Arc<Queue>, Vec<BaseMessage>)> =
        open.map(|(queue, _)| (queue, Vec::with_capacity(count))).collect();
    for message in messages {
        let shares = message.shares(batches.len());
        batches.iter_mut().zip(shares).for_each(|((_, batch), share)| batch.push(share));
    }
    batches.into_iter().for_each(|(queue, batch)| queue.push_batch(topic, batch));
}

fn push_all(queues: &[&Arc<Queue>], topic: &Topic, message: BaseMessage) {
    let measured = is_measured();
    for (queue, message) in queues.iter().zip(message.shares(queues.len())) {
        queue.push(topic, message, measured);
    }
}
