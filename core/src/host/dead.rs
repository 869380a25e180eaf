//! The dead letters that a host remembers, so that none is lost because nobody subscribed.
//!
//! Where dead letters are not durable, each letter is kept in memory as it is published, and the oldest goes when
//! there is no more room; that is counted. Where they are, the host opens the slot [`SLOT`] on `dead.>` and takes the
//! letters from there, each in the hand of a receiver of its own: a letter is settled when it was replayed or
//! discarded, so what a host had not dealt with comes back after a restart, or to another host. It takes
//! [`HELD`] in hand at most; the others wait in the slot, and none is forgotten.
//!
//! All state is behind one lock, which is never held across an await. A letter that is being replayed is taken
//! out of the store: it cannot be replayed twice at once, and when the replay is cut off, its receiver gives it
//! back.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::Bound;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use echo_bus::{Receiver, Settlement, Slot, Transport};
use echo_sdk::Pattern;
use echo_sdk::contract::dead::{DeadEntry, DeadFound, DeadLetter, DeadPage, DeadSelection, PAGE};
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::config::{BusConfig, BusUrl};

/// The slot that durable letters are taken from.
pub(super) const SLOT: &str = "dead-letters";

/// What it subscribes to.
pub(super) const PATTERN: &str = "dead.>";

/// How many letters are remembered, and how much memory they may take: past either, the oldest goes when
/// another comes.
const REMEMBERED: usize = 10_000;
const REMEMBERED_BYTES: usize = 64 << 20;

/// How many durable letters are in hand at once.
const HELD: usize = 1_000;

/// How many durable letters their slot holds, those in hand included, before whoever publishes another waits; hosts
/// do not wait for room with theirs.
pub(super) const CAPACITY: usize = 65_536;

/// How much of a reason a list shows, in bytes.
const REASON_SHOWN: usize = 500;

/// Whether dead letters outlive the host: where the configuration says so, and on a server that keeps them.
pub(super) fn are_durable(config: &BusConfig, transport: &dyn Transport) -> bool {
    let is_durable = transport.features().durable;
    let is_asked_for = || Pattern::new(PATTERN).is_ok_and(|dead| config.durable.covers(&dead));
    is_durable && (config.url != BusUrl::Local || is_asked_for())
}

#[derive(Default)]
pub(crate) struct DeadLetters {
    durable: bool,
    letters: Mutex<Letters>,
    /// Woken when a letter in hand was settled.
    room: Notify,
}

#[derive(Default)]
struct Letters {
    /// By the letters' ids, which grow with time.
    kept: BTreeMap<Uuid, Kept>,
    bytes: usize,
    held: usize,
    forgotten: u64,
}

/// A letter, and the hand that has it where it is durable and not dealt with.
pub(super) struct Kept {
    pub(super) id: Uuid,
    pub(super) letter: Arc<DeadLetter>,
    died_at: DateTime<Utc>,
    replayed_at: Option<DateTime<Utc>>,
    pub(super) hold: Option<Box<dyn Receiver>>,
}

impl Kept {
    fn size(&self) -> usize {
        self.letter.message.size() + self.letter.reason.len()
    }

    fn entry(&self) -> DeadEntry {
        let DeadLetter { slot, topic, reason, attempts, message } = &*self.letter;
        DeadEntry {
            id: self.id,
            died_at: self.died_at,
            slot: slot.clone(),
            topic: topic.clone(),
            reason: shortened(reason),
            attempts: *attempts,
            message_id: message.id(),
            replayed_at: self.replayed_at,
        }
    }

    fn is_selected(&self, select: &DeadSelection) -> bool {
        let DeadSelection { ids, slot, topic, died_before } = select;
        (ids.is_empty() || ids.contains(&self.id))
            && slot.as_ref().is_none_or(|slot| self.letter.slot == *slot)
            && topic.as_ref().is_none_or(|pattern| pattern.matches(&self.letter.topic))
            && died_before.is_none_or(|time| self.died_at < time)
    }

    /// Ends the message that the letter came with.
    fn settle(&mut self) {
        if let Some(mut receiver) = self.hold.take() {
            receiver.settle(Settlement::Done);
            receiver.flush();
        }
    }
}

impl Letters {
    fn insert(&mut self, kept: Kept) {
        self.bytes += kept.size();
        self.held += usize::from(kept.hold.is_some());
        if let Some(before) = self.kept.insert(kept.id, kept) {
            self.uncount(&before);
        }
        // What is in hand is bounded by itself, and never forgotten.
        while self.kept.len() > self.held.max(1)
            && (self.kept.len() > REMEMBERED || self.bytes > REMEMBERED_BYTES)
        {
            let oldest = self.kept.iter().find(|(_, kept)| kept.hold.is_none());
            let Some(id) = oldest.map(|(id, _)| *id) else { return };
            let forgotten = self.remove(id);
            self.forgotten += u64::from(forgotten.is_some_and(|kept| kept.replayed_at.is_none()));
        }
    }

    fn remove(&mut self, id: Uuid) -> Option<Kept> {
        let kept = self.kept.remove(&id)?;
        self.uncount(&kept);
        Some(kept)
    }

    fn uncount(&mut self, kept: &Kept) {
        self.bytes -= kept.size();
        self.held -= usize::from(kept.hold.is_some());
    }

    /// The ids of the first page of letters that are selected, and whether there are more.
    fn select(&self, select: &DeadSelection, after: Option<Uuid>) -> (Vec<Uuid>, bool) {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.kept.range((begin, Bound::Unbounded));
        let mut ids = later.filter(|(_, kept)| kept.is_selected(select)).map(|(id, _)| *id);
        let page = ids.by_ref().take(PAGE).collect();
        (page, ids.next().is_some())
    }
}

impl DeadLetters {
    pub(crate) fn new(durable: bool) -> Self {
        Self { durable, ..Self::default() }
    }

    /// Whether the letters outlive the host.
    pub(super) fn is_durable(&self) -> bool {
        self.durable
    }

    /// Takes in a letter that was published under this id; a durable one comes back from the slot.
    pub(crate) fn published(&self, id: Uuid, letter: DeadLetter) {
        if !self.durable {
            self.keep(id, letter);
        }
    }

    /// Takes in a letter that nobody else has.
    pub(crate) fn keep(&self, id: Uuid, letter: DeadLetter) {
        let (letter, died_at) = (Arc::new(letter), Utc::now());
        self.put(Kept { id, letter, died_at, replayed_at: None, hold: None });
    }

    /// Takes in, or back, a letter.
    pub(super) fn put(&self, kept: Kept) {
        self.letters.lock().insert(kept);
    }

    /// The letters, oldest first, and how many were forgotten before them.
    pub(crate) fn list(&self) -> (Vec<DeadLetter>, u64) {
        let letters = self.letters.lock();
        let kept = letters.kept.values().map(|kept| DeadLetter::clone(&kept.letter)).collect();
        (kept, letters.forgotten)
    }

    /// A page of the letters that are selected.
    pub(super) fn page(&self, select: &DeadSelection, after: Option<Uuid>) -> DeadPage {
        let letters = self.letters.lock();
        let (ids, more) = letters.select(select, after);
        let entries = ids.iter().filter_map(|id| letters.kept.get(id)).map(Kept::entry).collect();
        DeadPage { letters: entries, more, forgotten: letters.forgotten, waiting: 0 }
    }

    pub(super) fn get(&self, id: Uuid) -> DeadFound {
        let letters = self.letters.lock();
        let kept = letters.kept.get(&id);
        DeadFound {
            letter: kept.map(|kept| DeadLetter::clone(&kept.letter)),
            replayed_at: kept.and_then(|kept| kept.replayed_at),
        }
    }

    /// The ids of a page of letters to replay, and the page's last where there are more. Those that were
    /// replayed already are left out unless they are named.
    pub(super) fn to_replay(
        &self,
        select: &DeadSelection,
        after: Option<Uuid>,
    ) -> (Vec<Uuid>, Option<Uuid>) {
        let letters = self.letters.lock();
        let (mut ids, more) = letters.select(select, after);
        let more_after = ids.last().copied().filter(|_| more);
        if select.ids.is_empty() {
            let is_new =
                |id: &Uuid| letters.kept.get(id).is_some_and(|it| it.replayed_at.is_none());
            ids.retain(is_new);
        }
        (ids, more_after)
    }

    /// How many durable letters are in hand.
    pub(super) fn held(&self) -> usize {
        self.letters.lock().held
    }

    /// Takes a letter out; whoever does so puts it back or is done with it.
    pub(super) fn take(&self, id: Uuid) -> Option<Kept> {
        self.letters.lock().remove(id)
    }

    /// Puts a letter back whose message was published again.
    pub(super) fn put_replayed(&self, mut kept: Kept) {
        kept.settle();
        kept.replayed_at = Some(Utc::now());
        self.put(kept);
        self.room.notify_one();
    }

    /// Forgets a page of the letters that are selected; how many, and whether there are more.
    pub(super) fn discard(&self, select: &DeadSelection) -> (usize, bool) {
        let mut letters = self.letters.lock();
        let (ids, more) = letters.select(select, None);
        let discarded: Vec<Kept> = ids.iter().filter_map(|id| letters.remove(*id)).collect();
        drop(letters);
        let count = discarded.len();
        discarded.into_iter().for_each(|mut kept| kept.settle());
        self.room.notify_one();
        (count, more)
    }

    /// Gives back what is in hand, for the next host that looks.
    pub(super) fn let_go(&self) {
        let mut letters = self.letters.lock();
        letters.held = 0;
        let holds: Vec<_> = letters.kept.values_mut().filter_map(|kept| kept.hold.take()).collect();
        drop(letters);
        drop(holds);
    }

    /// Takes the durable letters in hand, as far as there is room, until the slot is closed.
    pub(super) async fn collect(self: Arc<Self>, slot: Arc<dyn Slot>) {
        loop {
            while self.held() >= HELD {
                self.room.notified().await;
            }
            let mut receiver = slot.receiver();
            receiver.set_batch(1);
            if !poll_fn(|cx| receiver.poll_recv(cx)).await {
                return;
            }
            self.hold(receiver);
        }
    }

    fn hold(&self, mut receiver: Box<dyn Receiver>) {
        let Some(delivery) = receiver.current() else { return };
        let (id, died_at) = (delivery.message.id(), delivery.message.timestamp());
        let is_keyed = delivery.message.key().is_some();
        match delivery.message.json::<DeadLetter>() {
            Ok(letter) => {
                let letter = Arc::new(letter);
                let mut kept =
                    Kept { id, letter, died_at, replayed_at: None, hold: Some(receiver) };
                // Hosts give their letters no key. One with a key, a tool's, would hold up those after it.
                if is_keyed {
                    kept.settle();
                }
                self.put(kept);
            }
            Err(error) => {
                let topic = &delivery.topic;
                tracing::warn!(%topic, %id, %error, "what came as a dead letter is none");
                receiver.settle(Settlement::Done);
                receiver.flush();
            }
        }
    }
}

/// The beginning of a long text.
fn shortened(text: &str) -> String {
    let end = text.floor_char_boundary(REASON_SHOWN);
    let (shown, rest) = text.split_at(end);
    if rest.is_empty() { shown.to_owned() } else { format!("{shown}…") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use echo_bus::{LocalOptions, LocalTransport, SlotOptions};
    use echo_sdk::{BaseMessage, Overflow, Topic};

    fn letter(slot: &str, topic: &str, reason: &str) -> DeadLetter {
        DeadLetter {
            slot: slot.to_owned(),
            topic: Topic::new(topic).unwrap(),
            reason: reason.to_owned(),
            attempts: 5,
            message: BaseMessage::builder("test").data(&1).build().unwrap(),
        }
    }

    fn slots(page: &DeadPage) -> Vec<&str> {
        page.letters.iter().map(|entry| entry.slot.as_str()).collect()
    }

    #[test]
    fn letters_are_selected_by_all_that_is_given() {
        let letters = DeadLetters::default();
        for (slot, topic) in [("a", "x.y"), ("b", "x.z"), ("a", "q")] {
            letters.keep(Uuid::now_v7(), letter(slot, topic, "why"));
        }
        let select = |slot: Option<&str>, topic: Option<&str>| DeadSelection {
            slot: slot.map(str::to_owned),
            topic: topic.map(|text| Pattern::new(text).unwrap()),
            ..DeadSelection::default()
        };
        assert_eq!(slots(&letters.page(&select(None, None), None)), ["a", "b", "a"]);
        assert_eq!(slots(&letters.page(&select(None, Some("x.>")), None)), ["a", "b"]);
        assert_eq!(slots(&letters.page(&select(Some("a"), Some("x.>")), None)), ["a"]);
        let all = letters.page(&DeadSelection::default(), None);
        let ids = vec![all.letters[1].id];
        assert_eq!(slots(&letters.page(&DeadSelection { ids, ..select(None, None) }, None)), ["b"]);
        let died_before = Some(all.letters[2].died_at);
        let before = letters.page(&DeadSelection { died_before, ..select(None, None) }, None);
        assert!(before.letters.len() < 3, "{before:?}");
        assert_eq!(letters.discard(&select(Some("a"), None)), (2, false));
        assert_eq!(slots(&letters.page(&select(None, None), None)), ["b"]);
    }

    #[test]
    fn pages_follow_one_another() {
        let letters = DeadLetters::default();
        for _ in 0..=PAGE {
            letters.keep(Uuid::now_v7(), letter("a", "t", &"ä".repeat(REASON_SHOWN)));
        }
        let first = letters.page(&DeadSelection::default(), None);
        assert_eq!((first.letters.len(), first.more), (PAGE, true));
        assert!(first.letters[0].reason.len() <= REASON_SHOWN + '…'.len_utf8());
        let second = letters.page(&DeadSelection::default(), first.letters.last().map(|it| it.id));
        assert_eq!((second.letters.len(), second.more), (1, false));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let letters = DeadLetters::default();
        for _ in 0..REMEMBERED + 3 {
            letters.keep(Uuid::now_v7(), letter("a", "t", "why"));
        }
        assert_eq!((letters.list().0.len(), letters.list().1), (REMEMBERED, 3));
        let letters = DeadLetters::default();
        let long = "x".repeat(REMEMBERED_BYTES / 4);
        for _ in 0..6 {
            letters.keep(Uuid::now_v7(), letter("a", "t", &long));
        }
        assert_eq!((letters.list().0.len(), letters.list().1), (3, 3));
        letters.discard(&DeadSelection::default());
        assert_eq!(letters.letters.lock().bytes, 0);
    }

    #[test]
    fn a_replayed_letter_is_replayed_again_by_its_id_alone() {
        let letters = DeadLetters::default();
        letters.keep(Uuid::now_v7(), letter("a", "t", "why"));
        let (ids, _) = letters.to_replay(&DeadSelection::default(), None);
        let kept = letters.take(ids[0]).unwrap();
        assert!(letters.take(ids[0]).is_none(), "taken by one replay at a time");
        letters.put_replayed(kept);
        assert!(letters.get(ids[0]).replayed_at.is_some());
        assert!(letters.to_replay(&DeadSelection::default(), None).0.is_empty());
        let by_id = DeadSelection { ids: ids.clone(), ..DeadSelection::default() };
        assert_eq!(letters.to_replay(&by_id, None).0, ids);
    }

    #[tokio::test]
    async fn a_durable_letter_is_in_hand_until_it_is_dealt_with() {
        let bus = LocalTransport::new(LocalOptions::default()).unwrap();
        let options = SlotOptions {
            name: SLOT.to_owned(),
            patterns: vec![Pattern::new(PATTERN).unwrap()],
            capacity: 10,
            overflow: Overflow::Block,
        };
        let slot = bus.open_slot(options).await.unwrap();
        let letters = Arc::new(DeadLetters::new(true));
        letters.published(Uuid::now_v7(), letter("a", "t", "comes back from the slot"));
        assert_eq!(letters.list().0, []);
        let topic = Topic::new("dead.a.t").unwrap();
        let mut ids = Vec::new();
        for data in
            [serde_json::json!("no letter"), serde_json::to_value(letter("a", "t", "why")).unwrap()]
        {
            let message = BaseMessage::builder("a").data(&data).build().unwrap();
            ids.push(message.id());
            bus.publish(&topic, message).await.unwrap();
        }
        let collecting = tokio::spawn(Arc::clone(&letters).collect(Arc::clone(&slot)));
        while letters.get(ids[1]).letter.is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(letters.list().0.len(), 1, "what is no letter is none");
        assert_eq!(slot.stats().held, 1);
        letters.put_replayed(letters.take(ids[1]).unwrap());
        assert_eq!(slot.stats().held, 0);
        collecting.abort();
        letters.let_go();
    }
}
