//! Both sides of the boundary in one program: what a memory checker can follow.

#![allow(unsafe_code, reason = "declarations that are wrong on purpose")]

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use echo_sdk::abi::{Declaration, Export, PluginTable};
use echo_sdk::testing::{Probe, message, mock, request};
use echo_sdk::{
    BaseMessage, Manifest, Plugin, PluginContext, PluginError, ProcessingStatus, Topic,
};
use serde_json::{Value, json};
use tokio::runtime::{Handle, Runtime};

use super::error::{Fault, LibraryError};
use super::{LibraryPlugin, adopt, file};

struct Sample(PluginContext);

impl Plugin for Sample {
    fn name(&self) -> &str {
        "sample"
    }

    async fn process_message(
        &self,
        topic: &Topic,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        match message.data()?.as_str() {
            Some("yield") => yield_once().await,
            Some("wait") => pending().await,
            Some("panic") => panic!("on {topic}"),
            _ => {}
        }
        self.0.reply(message, &json!([topic, message.data()?, message.attempt()])).await?;
        Ok(ProcessingStatus::Acknowledged)
    }

    async fn metrics(&self) -> Value {
        json!(self.0.config())
    }
}

async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        waker.wake();
        Poll::Pending
    })
    .await;
}

struct Exported;

impl Export for Exported {
    type Plugin = Sample;
    fn create(context: PluginContext) -> Result<Sample, PluginError> {
        Ok(Sample(context))
    }
}

static DECLARATION: Declaration = Declaration::of::<Exported>("sample", "1.0.0", "{}");

fn manifest() -> Manifest {
    Manifest::from_json(r#"{"name":"sample","version":"1.0.0","description":"d"}"#).unwrap()
}

fn link(
    declaration: &'static Declaration,
    runtime: Handle,
) -> Result<(LibraryPlugin, Probe), LibraryError> {
    let (context, probe) = mock("sample");
    adopt(declaration, &manifest(), context, runtime).map(|plugin| (plugin, probe))
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn messages_of_any_shape_are_handled_and_answered() {
    let runtime = Runtime::new().unwrap();
    let (plugin, probe) = link(&DECLARATION, runtime.handle().clone()).unwrap();
    for topic in ["a", "a.topic.longer.than.what.fits.into.a.handle"] {
        let topic = Topic::new(topic).unwrap();
        for data in [json!(null), json!({ "k": "v".repeat(10_000) }), json!("yield")] {
            let asked = request(&data).with_attempt(3);
            let handled = runtime.block_on(plugin.process_message(&topic, &asked));
            assert_eq!(handled.unwrap(), ProcessingStatus::Acknowledged);
            let reply = probe.replies().pop().unwrap().message;
            assert_eq!(reply.json::<Value>().unwrap(), json!([topic, data, 3]));
        }
    }
    assert_eq!(runtime.block_on(plugin.metrics()), json!({}));
    assert!(runtime.block_on(plugin.init()).is_ok());
}

#[test]
fn a_pending_handler_wakes_and_is_dropped_where_it_is() {
    let runtime = Runtime::new().unwrap();
    let (plugin, _) = link(&DECLARATION, runtime.handle().clone()).unwrap();
    let topic = Topic::new("a.b").unwrap();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);

    let yields = message("yield");
    let mut handling = pin!(plugin.process_message(&topic, &yields));
    assert!(handling.as_mut().poll(&mut cx).is_pending());
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert!(handling.poll(&mut cx).is_ready());

    let waits = message("wait");
    {
        let mut handling = Box::pin(plugin.process_message(&topic, &waits));
        assert!(handling.as_mut().poll(&mut cx).is_pending());
    }
    // Never started, so there is nothing to drop.
    drop(plugin.process_message(&topic, &waits));
    drop(waker);
    assert_eq!(Arc::strong_count(&count), 1);
}

#[test]
fn a_panic_stays_on_its_side() {
    let runtime = Runtime::new().unwrap();
    let (plugin, _) = link(&DECLARATION, runtime.handle().clone()).unwrap();
    let topic = Topic::new("a.b").unwrap();
    let order = message("panic");
    for _ in 0..3 {
        let handled = runtime.block_on(plugin.process_message(&topic, &order));
        assert!(matches!(handled, Err(PluginError::Panicked(text)) if text == "on a.b"));
    }
}

#[test]
fn a_plugin_whose_threads_have_ended_says_so() {
    let runtime = Runtime::new().unwrap();
    let (plugin, _) = link(&DECLARATION, runtime.handle().clone()).unwrap();
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = other.block_on(plugin.init()).unwrap_err().to_string();
    assert!(error.contains("threads have ended"), "{error}");
}

/// Refuses a declaration that is right but for what `change` does to it.
fn refused(change: impl FnOnce(&mut Declaration, &mut PluginTable)) -> Fault {
    // SAFETY: the static holds a declaration, which is plain data, and so does the table that it names.
    let (mut declaration, mut table) =
        unsafe { (std::ptr::read(&raw const DECLARATION), *DECLARATION.table) };
    let own = declaration.table;
    change(&mut declaration, &mut table);
    if declaration.table == own {
        declaration.table = Box::leak(Box::new(table));
    }
    let runtime = Runtime::new().unwrap();
    link(Box::leak(Box::new(declaration)), runtime.handle().clone()).unwrap_err().fault
}

#[test]
fn a_declaration_that_breaks_the_rules_is_refused() {
    let says = |fault: Fault, words: &str| {
        let text = fault.to_string();
        assert!(matches!(fault, Fault::Declaration(_)) && text.contains(words), "{text}");
    };
    says(refused(|declaration, _| declaration.size -= 1), "shorter");
    says(refused(|declaration, _| declaration.future_size = 0), "size of futures");
    says(refused(|declaration, _| declaration.future_size = usize::MAX), "size of futures");
    says(refused(|declaration, _| declaration.future_align = 3), "size of futures");
    says(refused(|declaration, _| declaration.table = std::ptr::null()), "no functions");
    says(refused(|_, table| table.size -= 1), "fewer functions");
    // A function that is missing, as C would leave one out.
    let mut words = [0_usize; size_of::<PluginTable>() / size_of::<usize>()];
    words[0] = size_of::<PluginTable>();
    let words: &'static [usize] = Box::leak(Box::new(words));
    says(refused(|declaration, _| declaration.table = words.as_ptr().cast()), "leaves out");
    assert!(matches!(refused(|declaration, _| declaration.magic[0] = b'e'), Fault::Magic { .. }));
    let other = refused(|declaration, _| declaration.major = 2);
    assert!(matches!(other, Fault::Version { found: (2, echo_sdk::abi::MINOR) }));
}

/// The least file that passes for a library: a header, one segment, and in it the note.
fn tiny(json: &str) -> Vec<u8> {
    let machine = if cfg!(target_arch = "x86_64") { 62_u16 } else { 183 };
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0".to_vec();
    file.extend(machine.to_ne_bytes());
    file.extend(1_u32.to_ne_bytes());
    // Entry, program headers, section headers; flags; sizes and counts.
    [0_u64, 64, 0].iter().for_each(|word| file.extend(word.to_ne_bytes()));
    file.extend(0_u32.to_ne_bytes());
    [64_u16, 56, 1, 0, 0, 0].iter().for_each(|half| file.extend(half.to_ne_bytes()));
    let mut note = Vec::new();
    [5, 8 + json.len() as u32, 1].iter().for_each(|word: &u32| note.extend(word.to_ne_bytes()));
    note.extend(b"Echo\0\0\0\0\x01\0\0\0\0\0\0\0");
    note.extend(json.as_bytes());
    note.resize(note.len().next_multiple_of(4), 0);
    // PT_NOTE, readable; offset, addresses, sizes, alignment.
    [4_u32, 4].iter().for_each(|word| file.extend(word.to_ne_bytes()));
    let len = note.len() as u64;
    [120, 0, 0, len, len, 4].iter().for_each(|word: &u64| file.extend(word.to_ne_bytes()));
    file.extend(note);
    file
}

const LEAST: &str = r#"{"name":"tiny","version":"1.0.0","description":"d"}"#;

#[test]
fn the_note_tells_the_manifest() {
    assert_eq!(file::inspect(&tiny(LEAST)).unwrap().0.name, "tiny");
    assert!(matches!(file::inspect(&tiny("{}")), Err(Fault::Manifest(_))));
    let cut = tiny(LEAST).len() - 8;
    assert!(matches!(file::inspect(&tiny(LEAST)[..cut]), Err(Fault::Truncated { .. })));
    let digits = file::hash(b"abc");
    assert!(digits.starts_with("ba7816bf8f01cfea") && digits.len() == 64, "{digits}");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(
        bytes: Vec<u8>,
        changes in proptest::collection::vec((0_usize..240, proptest::prelude::any::<u8>()), 1..4),
    ) {
        let _ = file::inspect(&bytes);
        let mut tiny = tiny(LEAST);
        for (at, value) in changes {
            if let Some(byte) = tiny.get_mut(at) {
                *byte = value;
            }
        }
        let _ = file::inspect(&tiny);
    }
}
