//! A new version of a plugin handles copies of the messages that the old one handles, and is compared with it.
//!
//! * **Who owns what.** One task on the new version's threads takes what the old one's workers [show](crate::actor::Window)
//!   and has it [rehearsed](Rehearsal), one message after another. Whoever began it holds [`Shadow`], and is told how it
//!   went by [`Shadow::done`].
//! * **The old version** is not waited for and does not wait: its workers copy what they did, and what finds no room is
//!   not compared.
//! * **Ends** by itself once enough was compared, at a panic that the old version did not have, and at more differences
//!   than are allowed. Dropped, or told to end, it lets go of a message in the middle; nothing is left to be done for it.
//! * **What is equal.** How handling ended, but for the text of an error; what was published, by topic, key and data;
//!   the managed state afterwards, in the earlier of both forms. Ids and times of messages are always others.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use echo_bus::state::Entries;
use echo_sdk::contract::transition::Comparison;
use echo_sdk::{BaseMessage, Received};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Objection;
use crate::actor::{Ended, Muted, Rehearsal, Rehearsed, Shown, SlotRuntime};
use crate::registry::Version;
use crate::state::of_plugin;

/// How many messages may wait for the new version.
const WAITING: usize = 64;

/// How long a handler that is cut off may take to let go.
const CUT_OFF_PATIENCE: Duration = Duration::from_millis(500);

/// The most characters of a value that a difference shows.
const MAX_SHOWN: usize = 120;

/// A comparison that goes on.
pub(crate) struct Shadow {
    old: Arc<SlotRuntime>,
    found: Arc<Mutex<Comparison>>,
    /// Dropped to end it.
    going: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Shadow {
    /// Has the new version do what the old one does from now on, until so many messages were compared, and as long as
    /// no larger share of them than `differences` is handled in another way. The new version is initialised and has no
    /// workers.
    pub(crate) fn start(old: &Version, new: &Version, compare: u32, differences: f64) -> Self {
        let found = Arc::<Mutex<Comparison>>::default();
        let (show, shown) = mpsc::channel(WAITING);
        let (going, mut ended) = oneshot::channel();
        let compare = u64::from(compare);
        let allowed = (compare as f64 * differences) as u64;
        let counts = Arc::clone(&found);
        let look = move |shown: &Shown, rehearsed: &Rehearsed| {
            let mut found = counts.lock();
            count(&mut found, (shown, rehearsed), allowed, compare)
        };
        let rehearsal = Rehearsal {
            shown,
            deadline: new.slot.delivering.deadline,
            forms: [&old.slot.forms, &new.slot.forms].map(Arc::clone),
            look: Box::new(look),
            _muted: Muted::new(&new.slot.measured),
        };
        let task = new.rehearse(rehearsal, async move {
            // Nobody sends: it ends when the sender is dropped.
            let _ = (&mut ended).await;
        });
        old.slot.window.open(Some(show));
        old.slot.measured.show(true);
        let old = Arc::clone(&old.slot);
        Self { old, found, going: Some(going), task }
    }

    /// Waits until it has ended, and says what came of it.
    pub(crate) async fn done(&mut self) -> Comparison {
        if !self.task.is_finished() {
            // A panic of the plugin's was contained; it was cut off, or its threads are gone.
            let _ = (&mut self.task).await;
        }
        self.stop();
        self.found.lock().clone()
    }

    /// Ends it where it is, and says what came of it so far.
    pub(crate) async fn end(&mut self) -> Comparison {
        self.stop();
        // A handler that blocks its thread cannot be cut off.
        let _ = tokio::time::timeout(CUT_OFF_PATIENCE, self.done()).await;
        self.found.lock().clone()
    }

    /// Has the old version show nothing any more, and the task end.
    fn stop(&mut self) {
        if self.going.take().is_some() {
            self.old.measured.show(false);
            self.old.window.open(None);
        }
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Counts one message; says whether to go on.
fn count(
    found: &mut Comparison,
    (shown, rehearsed): (&Shown, &Rehearsed),
    allowed: u64,
    compare: u64,
) -> ControlFlow<()> {
    if rehearsed.asked {
        found.incomparable += 1;
    } else {
        found.compared += 1;
        if let Some(difference) = difference(shown, rehearsed) {
            found.different += 1;
            let (topic, id) = (&shown.topic, shown.message.id());
            found.first.get_or_insert_with(|| format!("for {id} on `{topic}` {difference}"));
        }
    }
    let panicked = matches!(rehearsed.deed.ended, Ended::Panicked(_))
        && !matches!(shown.deed.ended, Ended::Panicked(_));
    let enough = found.compared.max(found.incomparable) >= compare;
    match panicked || enough || found.different > allowed {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// What a comparison says against the new version, of which no larger share than `differences` may be other; one that
/// ended by itself before enough was compared does so always.
pub(super) fn objection(
    comparison: &Comparison,
    differences: f64,
    is_cut_short: bool,
) -> Option<Objection> {
    let Comparison { compared, different, incomparable, first } = comparison;
    if !is_cut_short && *different as f64 <= *compared as f64 * differences {
        return None;
    }
    if *different == 0 && incomparable > compared {
        return Some(Objection(format!(
            "{incomparable} messages could not be compared, since handling them needs an answer of somebody else, \
             and only {compared} could; choose another strategy"
        )));
    }
    let first = first.as_deref().unwrap_or("its threads are gone");
    Some(Objection(format!(
        "the new version did something else for {different} of {compared} messages: {first}"
    )))
}

/// What the new version did in another way, as the end of a sentence.
fn difference(shown: &Shown, rehearsed: &Rehearsed) -> Option<String> {
    let (old, new) = (&shown.deed, &rehearsed.deed);
    let endings = of_endings(&old.ended, &new.ended);
    let at_once = || of_published("published at once", &old.at_once, &new.at_once);
    let effects = || of_published("published", &old.effects, &new.effects);
    let state = || rehearsed.states.as_ref().and_then(of_states);
    endings.or_else(at_once).or_else(|| {
        // What else a handler did is dropped along with its message.
        if old.ended.is_done() { effects().or_else(state) } else { None }
    })
}

fn of_endings(old: &Ended, new: &Ended) -> Option<String> {
    use Ended::{Acknowledged, Error, Failed, Forwarded, Panicked, RetryLater, TimedOut};
    let is_equal = match (old, new) {
        (Acknowledged, Acknowledged)
        | (Failed(_), Failed(_))
        | (Error(_), Error(_))
        | (Panicked(_), Panicked(_))
        | (TimedOut(_), TimedOut(_)) => true,
        (RetryLater(old), RetryLater(new)) => old == new,
        (Forwarded(old, message), Forwarded(new, other)) => {
            return (old != new)
                .then(|| format!("the old version forwarded to `{old}`, the new one to `{new}`"))
                .or_else(|| of_messages(&format!("forwarded to `{old}`"), message, other));
        }
        _ => false,
    };
    (!is_equal).then(|| format!("the old version {}, the new one {}", said(old), said(new)))
}

fn said(ended: &Ended) -> String {
    let for_people = echo_sdk::duration::format;
    match ended {
        Ended::Acknowledged => "acknowledged it".to_owned(),
        Ended::RetryLater(delay) => format!("asked to be retried after {}", for_people(*delay)),
        Ended::Failed(reason) => format!("gave it up ({})", short(reason)),
        Ended::Forwarded(topic, _) => format!("forwarded it to `{topic}`"),
        Ended::Error(error) => format!("failed ({})", short(error)),
        Ended::Panicked(text) => format!("panicked ({})", short(text)),
        Ended::TimedOut(limit) => format!("took longer than {}", for_people(*limit)),
    }
}

fn of_published(did: &str, old: &[Received], new: &[Received]) -> Option<String> {
    for (place, (old, new)) in old.iter().zip(new).enumerate() {
        let (at, other) = (&old.topic, &new.topic);
        let place = place + 1;
        if at != other {
            return Some(format!(
                "the old version {did} to `{at}`, the new one to `{other}` (message {place})"
            ));
        }
        let what = format!("{did} to `{at}`");
        if let Some(difference) = of_messages(&what, &old.message, &new.message) {
            return Some(difference);
        }
    }
    let (old, new) = (old.len(), new.len());
    (old != new).then(|| format!("the old version {did} {old} messages, the new one {new}"))
}

fn of_messages(did: &str, old: &BaseMessage, new: &BaseMessage) -> Option<String> {
    if old.key() != new.key() {
        let key = |message: &BaseMessage| match message.key() {
            Some(key) => format!("the key `{}`", short(key)),
            None => "no key".to_owned(),
        };
        let (old, new) = (key(old), key(new));
        return Some(format!("the old version {did} with {old}, the new one with {new}"));
    }
    let (old, new) = (old.data_bytes(), new.data_bytes());
    (!is_same_json(old, new)).then(|| {
        let (old, new) = (text(old), text(new));
        format!("the old version {did} with {old}, the new one with {new}")
    })
}

fn of_states([old, new]: &[Entries; 2]) -> Option<String> {
    let by_name = |entries| of_plugin(entries).collect::<BTreeMap<&str, &Arc<[u8]>>>();
    let (old, new) = (by_name(old), by_name(new));
    let mut names: Vec<&str> = old.keys().chain(new.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().find_map(|name| {
        let (old, new) = (old.get(name), new.get(name));
        let is_same = match (old, new) {
            (Some(old), Some(new)) => is_same_json(old, new),
            _ => false,
        };
        (!is_same).then(|| {
            let left =
                |json: Option<&&Arc<[u8]>>| json.map_or("nothing".to_owned(), |json| text(json));
            let (name, old, new) = (short(name), left(old), left(new));
            format!("the old version left {old} in the state's `{name}`, the new one {new}")
        })
    })
}

fn is_same_json(one: &[u8], other: &[u8]) -> bool {
    let parsed = |json| serde_json::from_slice::<Value>(json).ok();
    one == other || parsed(one).is_some_and(|one| parsed(other) == Some(one))
}

/// JSON as a sentence shows it.
fn text(json: &[u8]) -> String {
    short(&String::from_utf8_lossy(json))
}

/// The beginning of a text that may be long.
fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
