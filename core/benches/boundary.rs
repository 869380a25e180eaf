//! What the boundary of plugin libraries costs a message, beside the same plugin called directly.
//!
//! `cargo bench -p echo-core --bench boundary`. Both sides are linked into one program; every call goes through
//! the functions of the declaration all the same, as it would with a library. Allocations are counted.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot start has nothing to say")]

use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use divan::{AllocProfiler, Bencher};
use echo_core::library::{LibraryPlugin, adopt};
use echo_sdk::abi::{Declaration, Export};
use echo_sdk::testing::message;
use echo_sdk::{
    BaseMessage, BoxFuture, LogLevel, Manifest, MessageTransport, Pattern, Plugin, PluginContext,
    PluginError, ProcessingStatus, PublishError, RequestError, SpanHandle, Subscription, Telemetry,
    Topic, TraceContext,
};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// What the plugin does with a message; its data, a number.
#[derive(Clone, Copy)]
enum Work {
    Nothing = 0,
    Yield = 1,
    Publish = 2,
    Read = 3,
}

struct Worker(PluginContext);

impl Plugin for Worker {
    fn name(&self) -> &str {
        "worker"
    }

    async fn process_message(
        &self,
        topic: &Topic,
        message: &BaseMessage,
    ) -> Result<ProcessingStatus, PluginError> {
        match message.data_bytes() {
            b"1" => yield_once().await,
            b"2" => self.0.publish(topic, message.clone()).await?,
            b"3" => drop(divan::black_box(message.json::<u32>()?)),
            _ => {}
        }
        Ok(ProcessingStatus::Acknowledged)
    }
}

async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|_| match std::mem::replace(&mut yielded, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

struct Exported;

impl Export for Exported {
    type Plugin = Worker;
    fn create(context: PluginContext) -> Result<Worker, PluginError> {
        Ok(Worker(context))
    }
}

static DECLARATION: Declaration = Declaration::of::<Exported>("worker", "1.0.0", "{}");

fn context() -> PluginContext {
    let (bus, telemetry) = (std::sync::Arc::new(Nowhere), std::sync::Arc::new(Nowhere));
    PluginContext::new("worker", "1.0.0", serde_json::Map::new(), bus, telemetry)
}

fn linked() -> LibraryPlugin {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
    let manifest = r#"{"name":"worker","version":"1.0.0","description":"works"}"#;
    let manifest = Manifest::from_json(manifest).unwrap();
    adopt(&DECLARATION, &manifest, context(), RUNTIME.handle().clone()).unwrap()
}

const SHORT: &str = "plugin.worker.do";
const LONG: &str = "plugin.worker.do.something.with.a.longer.name";

fn measure(bencher: Bencher<'_, '_>, plugin: &impl Plugin, work: Work, topic: &str) {
    let (topic, message) = (Topic::new(topic).unwrap(), message(&(work as u8)));
    let mut cx = Context::from_waker(Waker::noop());
    bencher.bench_local(|| {
        let mut handling = pin!(plugin.process_message(&topic, &message));
        loop {
            if let Poll::Ready(status) = handling.as_mut().poll(&mut cx) {
                return status.is_ok();
            }
        }
    });
}

macro_rules! cases {
    ($($name:ident: $work:ident, $topic:ident;)*) => {
        mod direct {
            use super::*;
            $(#[divan::bench]
            fn $name(bencher: Bencher<'_, '_>) {
                measure(bencher, &Worker(context()), Work::$work, $topic);
            })*
        }
        mod through_the_boundary {
            use super::*;
            $(#[divan::bench]
            fn $name(bencher: Bencher<'_, '_>) {
                measure(bencher, &linked(), Work::$work, $topic);
            })*
        }
    };
}

cases! {
    nothing: Nothing, SHORT;
    nothing_on_a_long_topic: Nothing, LONG;
    reading: Read, SHORT;
    yielding_once: Yield, SHORT;
    publishing: Publish, SHORT;
}

/// A bus and a telemetry that do nothing.
struct Nowhere;

impl MessageTransport for Nowhere {
    fn try_publish(&self, _: &Topic, _: BaseMessage) -> Result<(), PublishError> {
        Ok(())
    }

    fn publish<'a>(
        &'a self,
        _: &'a Topic,
        _: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async { Ok(()) })
    }

    fn publish_now<'a>(
        &'a self,
        _: &'a Topic,
        _: BaseMessage,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async { Ok(()) })
    }

    fn request<'a>(
        &'a self,
        _: &'a Topic,
        message: BaseMessage,
        _: std::time::Duration,
    ) -> BoxFuture<'a, Result<BaseMessage, RequestError>> {
        Box::pin(async { Ok(message) })
    }

    fn subscribe<'a>(
        &'a self,
        _: &'a Pattern,
    ) -> BoxFuture<'a, Result<Subscription, PublishError>> {
        Box::pin(async { Err(PublishError::Closed) })
    }
}

impl Telemetry for Nowhere {
    fn counter(&self, _: &str, _: u64, _: &[(&str, &str)]) {}
    fn gauge(&self, _: &str, _: f64, _: &[(&str, &str)]) {}
    fn histogram(&self, _: &str, _: f64, _: &[(&str, &str)]) {}
    fn log(&self, _: LogLevel, _: &str) {}
    fn start_span(
        &self,
        _: &str,
        _: Option<&TraceContext>,
        _: &[(&str, &str)],
    ) -> Box<dyn SpanHandle> {
        Box::new(Self)
    }
    fn current_trace(&self) -> Option<TraceContext> {
        None
    }
}

impl SpanHandle for Nowhere {
    fn set_attribute(&mut self, _: &str, _: &str) {}
    fn set_error(&mut self, _: &str) {}
    fn context(&self) -> Option<TraceContext> {
        None
    }
}
