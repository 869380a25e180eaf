//! What the log has, in its order, and who hands it round.
//!
//! One task of the bus waits for the log, hands round what lasts, and then tells those who published it. So the log
//! wakes one task for all that shared a sync, publishers come back together once all of it is handed round, and
//! nobody waits for another's turn with a thread.
//!
//! * **Order.** Records are in line as they are in the log: whoever hands one over holds the line meanwhile.
//! * **Cancel.** A publisher that is dropped is not told; what it published is handed round all the same.
//! * **End.** The task ends with the bus or its runtime. Publishers in line are told then that the bus is closed, and
//!   nothing more is taken in; what the log has comes back when it is opened again.

use std::collections::VecDeque;
use std::sync::Arc;

use echo_log::{LogError, Placed};
use echo_sdk::Received;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::durable::{Follows, Tell, told};
use super::feed::LogSlot;
use super::inbox::Inboxes;
use super::queue::{Entry, Queue};
use super::reserved::Reserved;
use crate::give_way;

/// The slots of the log that a topic goes to.
pub(super) type Route = SmallVec<[Arc<LogSlot>; 4]>;

/// How many records are handed round before others have their turn. A thread of the runtime has room for 256 tasks that
/// are ready; what is woken beyond that comes long after the rest, and a worker among it would let its queue fill.
const TURN: usize = 32;

#[derive(Debug)]
pub(super) struct Line {
    state: Mutex<State>,
    more: Notify,
    inboxes: Arc<Inboxes>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Nobody hands round any more.
    is_over: bool,
}

/// The line, held while something is handed to the log.
pub(super) struct InLine<'a> {
    state: MutexGuard<'a, State>,
    more: &'a Notify,
}

/// A record that the log has.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) durable: echo_log::Durable,
    pub(super) messages: SmallVec<[Handed; 1]>,
    /// Room that was reserved past the log: by queue, with the places of its messages.
    pub(super) rooms: Vec<(Reserved, Vec<usize>)>,
    pub(super) follows: Option<Follows>,
    pub(super) told: Option<Tell>,
}

#[derive(Debug)]
pub(super) struct Handed {
    pub(super) received: Received,
    /// `None` for a topic that does not last.
    pub(super) placed: Option<Placed>,
    pub(super) route: Route,
}

/// Ends the line with the task that hands round.
struct End(Arc<Line>);

impl Drop for End {
    fn drop(&mut self) {
        let left = {
            let mut state = self.0.state.lock();
            state.is_over = true;
            std::mem::take(&mut state.waiting)
        };
        // Whoever waits hears of it by this.
        drop(left);
    }
}

impl Line {
    pub(super) fn new(inboxes: Arc<Inboxes>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), more: Notify::new(), inboxes })
    }

    /// Holds the line.
    ///
    /// # Errors
    /// [`LogError::Closed`] when it has ended.
    pub(super) fn lock(&self) -> Result<InLine<'_>, LogError> {
        let state = self.state.lock();
        if state.is_over {
            return Err(LogError::Closed);
        }
        Ok(InLine { state, more: &self.more })
    }

    /// Hands round. Runs until it is dropped.
    pub(super) async fn run(self: Arc<Self>) {
        let end = End(self);
        let line = &*end.0;
        let mut ended = VecDeque::new();
        loop {
            let first = line.state.lock().waiting.front().map(|first| first.durable.clone());
            match first {
                // How it ended is told to those in line.
                Some(durable) => drop(durable.await),
                None => line.more.notified().await,
            }
            line.take_ended(&mut ended);
            while !ended.is_empty() {
                let turn = ended.iter().take(TURN);
                let kept = turn.take_while(|(_, result)| result.is_ok()).count();
                for (waiting, _) in ended.drain(..kept) {
                    waiting.hand_round(&line.inboxes);
                }
                if kept == 0 {
                    let lost = ended.iter().take_while(|(_, result)| result.is_err()).count();
                    take_back(ended.drain(..lost));
                }
                give_way().await;
            }
        }
    }

    /// Takes those at the front of which it is known how they ended.
    fn take_ended(&self, ended: &mut VecDeque<(Waiting, Result<(), LogError>)>) {
        let mut state = self.state.lock();
        while let Some(result) = state.waiting.front().and_then(|first| first.durable.now()) {
            ended.extend(state.waiting.pop_front().map(|waiting| (waiting, result)));
        }
    }
}

impl InLine<'_> {
    /// Puts a record behind those that are there.
    pub(super) fn push(mut self, waiting: Waiting) {
        let was_empty = self.state.waiting.is_empty();
        self.state.waiting.push_back(waiting);
        drop(self.state);
        if was_empty {
            self.more.notify_one();
        }
    }
}

impl Waiting {
    /// Hands the messages round; then tells the publisher.
    fn hand_round(self, inboxes: &Inboxes) {
        for (reserved, places) in self.rooms {
            let (queue, count) = reserved.redeem();
            for place in places.into_iter().take(count) {
                match self.messages.get(place).filter(|handed| !handed.came_before()) {
                    Some(Handed { received, .. }) => {
                        let measured = super::deliver::is_measured();
                        queue.push(&received.topic, received.message.clone(), measured);
                    }
                    None => queue.unreserve(1),
                }
            }
        }
        for Handed { received, placed, route } in self.messages {
            match placed {
                Some(Placed::New(sequence)) => {
                    route.iter().for_each(|slot| slot.deliver(sequence, &received));
                }
                Some(Placed::Duplicate(_) | Placed::Unwanted) => {}
                None => drop(inboxes.deliver(&received.topic, received.message)),
            }
        }
        // What follows from a message is in the next queues before it leaves its own.
        if let Some(Follows { queue, .. }) = self.follows {
            queue.release(1);
        }
        // One that is dropped does not want to know.
        let _ = self.told.map(|tell| tell.send(Ok(())));
    }
}

/// Takes back what the records that were not kept follow from, all of it at once, so that each key keeps its order;
/// then tells the publishers.
fn take_back(lost: impl Iterator<Item = (Waiting, Result<(), LogError>)>) {
    let mut queues: Vec<(Arc<Queue>, Vec<Entry>)> = Vec::new();
    let mut tells = Vec::new();
    for (Waiting { follows, told: tell, .. }, result) in lost {
        if let (Some(Follows { queue, entry, .. }), Err(error)) = (follows, &result) {
            let (slot, error) = (queue.name(), told(error));
            tracing::warn!(slot, error, "what a handler published was not kept; it runs again");
            match queues.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &queue)) {
                Some((_, entries)) => entries.push(entry),
                None => queues.push((queue, vec![entry])),
            }
        }
        tells.extend(tell.map(|tell| (tell, result)));
    }
    queues.into_iter().for_each(|(queue, entries)| queue.take_back(entries));
    for (tell, result) in tells {
        let _ = tell.send(result);
    }
}

impl Handed {
    fn came_before(&self) -> bool {
        matches!(self.placed, Some(Placed::Duplicate(_)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use std::sync::Weak;

    use echo_sdk::{BaseMessage, Overflow, Topic};

    use super::*;
    use crate::local::reader::Reader;
    use crate::local::receiver::LocalReceiver;
    use crate::local::undecided::undecided;
    use crate::transport::{Receiver, Settlement, Side};

    #[tokio::test]
    async fn what_is_taken_back_keeps_its_order() {
        let dir = tempfile::tempdir().unwrap();
        let (log, durable) = undecided(dir.path()).await;
        let line = Line::new(Inboxes::new());
        let running = tokio::spawn(Arc::clone(&line).run());
        let (delays, bus) = (Arc::default(), Weak::new());
        let queue = Queue::new("s", 1000, Overflow::Block, Reader::Workers, delays, bus);
        // More than one turn of those that are kept.
        let count = 3 * TURN as u64;
        let mut tells = Vec::new();
        for number in 0..count {
            assert!(queue.wait_for_room().await);
            let message = BaseMessage::builder("test").key("k").data(&number).build().unwrap();
            let entry = Entry::new(Topic::new("t").unwrap(), message, 0);
            let (tell, told) = tokio::sync::oneshot::channel();
            tells.push(told);
            line.lock().unwrap().push(Waiting {
                durable: durable.clone(),
                messages: SmallVec::new(),
                rooms: Vec::new(),
                follows: Some(Follows { queue: Arc::clone(&queue), entry, kept: None }),
                told: Some(tell),
            });
        }
        drop(log);
        for told in tells {
            assert!(told.await.unwrap().is_err());
        }
        let mut receiver = LocalReceiver::new(queue, Side::First);
        for number in 0..count {
            assert!(std::future::poll_fn(|cx| receiver.poll_recv(cx)).await);
            let message = &receiver.current().unwrap().message;
            assert_eq!(message.json::<u64>().unwrap(), number);
            receiver.settle(Settlement::Done);
        }
        running.abort();
    }
}
