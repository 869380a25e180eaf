//! Messages of streams that this host holds: in its queue or in a worker's hand.
//!
//! A slot's queue hands out messages and knows nothing of where they came from. What is needed to settle one at
//! the server lies in a table beside the queue, by the address of the message's content, which is its own as long
//! as it is held. Whoever settles a message takes its entry out; a slot that is gone gives back what is left.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::Subject;
use bytes::Bytes;
use echo_sdk::BaseMessage;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::connection::Connection;
use crate::ending::Ending;
use crate::subject::Delivered;

/// What the server is told of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// It is to be delivered again after this time.
    Again(Duration),
    /// It is never to be delivered again.
    Never,
    /// It is still being worked on.
    Working,
}

impl Answer {
    pub(crate) fn payload(self) -> Bytes {
        match self {
            Self::Done => Bytes::from_static(b"+ACK"),
            Self::Again(Duration::ZERO) => Bytes::from_static(b"-NAK"),
            Self::Again(delay) => {
                // The server reads a signed number of 64 bits.
                let nanos = delay.as_nanos().min(i64::MAX as u128);
                Bytes::from(format!("-NAK {{\"delay\":{nanos}}}"))
            }
            Self::Never => Bytes::from_static(b"+TERM"),
            Self::Working => Bytes::from_static(b"+WPI"),
        }
    }
}

/// Where messages come from, and how many of them are held.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// The stream's name.
    pub(crate) stream: String,
    held: AtomicUsize,
    settled: AtomicUsize,
    /// At how many held ones there is reason to ask for more.
    ask_at: AtomicUsize,
    pub(crate) ask: Notify,
}

impl Source {
    pub(crate) fn of(stream: &str) -> Arc<Self> {
        Arc::new(Self { stream: stream.to_owned(), ..Self::default() })
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// How many were settled so far.
    pub(crate) fn settled(&self) -> usize {
        self.settled.load(Ordering::Relaxed)
    }

    /// Says when whoever asks for more wants to be told. It looks at [`held`](Self::held) afterwards.
    pub(crate) fn ask_at(&self, held: usize) {
        self.ask_at.store(held, Ordering::SeqCst);
    }

    fn add(&self) {
        self.held.fetch_add(1, Ordering::SeqCst);
    }

    fn remove(&self) {
        self.settled.fetch_add(1, Ordering::Relaxed);
        let left = self.held.fetch_sub(1, Ordering::SeqCst) - 1;
        if left == self.ask_at.load(Ordering::SeqCst) {
            self.ask.notify_one();
        }
    }
}

/// A message of a stream that this host holds.
#[derive(Debug)]
pub(crate) struct Held {
    reply: Subject,
    source: Arc<Source>,
    pub(crate) delivered: Delivered,
    settled: AtomicBool,
}

impl Held {
    pub(crate) fn new(reply: Subject, source: &Arc<Source>, delivered: Delivered) -> Arc<Self> {
        source.add();
        let source = Arc::clone(source);
        Arc::new(Self { reply, source, delivered, settled: AtomicBool::new(false) })
    }

    /// Which delivery it is, from 1.
    pub(crate) fn attempt(&self) -> u16 {
        u16::try_from(self.delivered.count).unwrap_or(u16::MAX)
    }

    pub(crate) fn stream(&self) -> &str {
        &self.source.stream
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// Tells the server what becomes of the message, once.
    pub(crate) fn settle(&self, connection: &Connection, answer: Answer) {
        if self.end() {
            connection.post(&self.reply, answer.payload());
        }
    }

    /// Settles it and waits until the server says that it knows, asking again until it does; `false` when it
    /// does not within so many tries.
    pub(crate) async fn settle_surely(&self, connection: &Connection, answer: Answer) -> bool {
        const TRIES: usize = 3;
        if !self.end() {
            return true;
        }
        for _ in 0..TRIES {
            let reply = self.reply.clone();
            if connection.client.request(reply, answer.payload()).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Tells the server that it is still being worked on. While there is none, what it would be told piles up, and
    /// tells it nothing that the next one does not.
    pub(crate) fn show_life(&self, connection: &Connection) {
        if !self.is_settled() && connection.is_up() {
            connection.post(&self.reply, Answer::Working.payload());
        }
    }

    fn end(&self) -> bool {
        let first = !self.settled.swap(true, Ordering::AcqRel);
        if first {
            self.source.remove();
        }
        first
    }
}

/// The held messages of a slot that wait in its queue, by content.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) connection: Arc<Connection>,
    /// The end of the tasks that fill it.
    ending: Arc<Ending>,
    waiting: Mutex<HashMap<usize, Arc<Held>>>,
}

impl Table {
    pub(crate) fn new(connection: Arc<Connection>, ending: Arc<Ending>) -> Self {
        Self { connection, ending, waiting: Mutex::default() }
    }

    pub(crate) fn put(&self, message: &BaseMessage, held: Arc<Held>) {
        self.waiting.lock().insert(address(message), held);
    }

    /// What is known of a message, if it came from a stream. It is the caller's to settle from now on.
    pub(crate) fn take(&self, message: &BaseMessage) -> Option<Arc<Held>> {
        self.waiting.lock().remove(&address(message))
    }

    /// Has messages delivered again, in their order. While the slot is leaving the server they wait until it has
    /// left, or the server would take them for requests that nobody stands behind any more.
    pub(crate) fn give_back(&self, all: Vec<Arc<Held>>, delay: Duration) {
        if !self.ending.is_under_way() {
            all.iter().for_each(|held| held.settle(&self.connection, Answer::Again(delay)));
            return;
        }
        let (connection, ending) = (Arc::clone(&self.connection), Arc::clone(&self.ending));
        self.connection.unsettled.begin();
        self.connection.runtime.spawn(async move {
            ending.is_over().await;
            all.iter().for_each(|held| held.settle(&connection, Answer::Again(delay)));
            connection.unsettled.end();
        });
    }
}

impl Drop for Table {
    /// What nobody came to is given back to the server, oldest first, for other hosts or another time.
    fn drop(&mut self) {
        let mut left: Vec<_> = self.waiting.get_mut().drain().map(|(_, held)| held).collect();
        left.sort_unstable_by_key(|held| held.delivered.sequence);
        self.give_back(left, Duration::ZERO);
    }
}

fn address(message: &BaseMessage) -> usize {
    message.data_bytes().as_ptr() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NatsOptions;
    use crate::lane::server::NatsServer;

    #[test]
    fn a_source_asks_for_more_when_few_enough_are_held() {
        let source = Source::of("S");
        let delivered = Delivered { count: 1, sequence: 1 };
        let held: Vec<_> =
            (0..4).map(|_| Held::new(Subject::from("r"), &source, delivered)).collect();
        source.ask_at(2);
        let mut asked = tokio_test_poll(&source);
        assert!(held[0].end());
        assert!(!held[0].end(), "it is settled once");
        assert!(!asked());
        assert!(held[1].end());
        assert!(asked(), "two are left");
        assert_eq!(source.held(), 2);
    }

    /// Says whether the source has asked since.
    fn tokio_test_poll(source: &Arc<Source>) -> impl FnMut() -> bool {
        use futures_util::FutureExt;
        let source = Arc::clone(source);
        move || source.ask.notified().now_or_never().is_some()
    }

    #[test]
    fn the_server_reads_what_it_is_told() {
        let text = |answer: Answer| String::from_utf8(answer.payload().to_vec()).unwrap();
        assert_eq!(text(Answer::Again(Duration::from_millis(5))), "-NAK {\"delay\":5000000}");
        assert_eq!(text(Answer::Again(Duration::ZERO)), "-NAK");
        assert_eq!(text(Answer::Again(Duration::MAX)), format!("-NAK {{\"delay\":{}}}", i64::MAX));
    }

    #[tokio::test]
    async fn signs_of_life_do_not_pile_up_while_the_server_is_away() {
        let server = NatsServer::start();
        let options = NatsOptions { urls: vec![server.url()], ..NatsOptions::default() };
        let connection = Connection::open(&options).await.unwrap();
        drop(server);
        while connection.is_up() {
            tokio::task::yield_now().await;
        }
        let delivered = Delivered { count: 1, sequence: 1 };
        let held = Held::new(Subject::from("r"), &Source::of("S"), delivered);
        // Many more than the client has room for.
        (0..10_000).for_each(|_| held.show_life(&connection));
        assert_eq!(connection.unsettled.count(), 0);
        held.settle(&connection, Answer::Done);
    }
}
