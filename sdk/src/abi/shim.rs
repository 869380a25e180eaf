//! The plugin's side of each function, for any plugin.

#![allow(unsafe_code, reason = "called by the host through the library boundary")]

use std::alloc::Layout;
use std::ffi::c_void;
use std::future::Future;
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::answer::Answer;
use super::bytes::{Bytes, Fault};
use super::crossing::respond;
use super::export::Export;
use super::guard::guarded;
use super::reactor::Reactor;
use super::remote::RemoteHost;
use super::table::{Call, Declaration, Op, PluginTable, Seat};
use super::waker::ThinWaker;
use crate::{Plugin, PluginContext, PluginError, Topic};

impl Declaration {
    /// What a library says of itself; `export_plugin!` makes one.
    pub const fn of<X: Export>(
        package: &'static str,
        version: &'static str,
        json: &'static str,
    ) -> Self {
        let layout = layout_of::<X::Plugin, _>(run::<X::Plugin>);
        Self {
            size: size_of::<Self>() as u32,
            magic: super::MAGIC,
            major: super::MAJOR,
            minor: super::MINOR,
            features: 0,
            sdk_version: Bytes::lend(env!("CARGO_PKG_VERSION")),
            rustc_version: Bytes::lend(env!("ECHO_RUSTC_VERSION")),
            package: Bytes::lend(package),
            version: Bytes::lend(version),
            manifest: Bytes::lend(json),
            future_size: layout.size(),
            future_align: layout.align(),
            table: &const {
                PluginTable {
                    size: size_of::<PluginTable>() as u32,
                    create: create::<X>,
                    start: start::<X::Plugin>,
                    poll: poll::<X::Plugin>,
                    drop: drop_future::<X::Plugin>,
                    destroy: destroy::<X::Plugin>,
                }
            },
        }
    }
}

/// How long the end of a plugin's own runtime is waited for where the host does not say.
const PATIENCE: Duration = Duration::from_secs(5);

/// A plugin in its library: what the host's pointer leads to.
struct Home<P> {
    plugin: P,
    reactor: Reactor,
}

/// A future in the host's buffer.
struct Started<P: 'static, F> {
    home: &'static Home<P>,
    future: F,
}

/// The one future that crosses: all of a plugin's futures are states of it, so its size is that of the
/// largest, and no call needs memory.
///
/// What the call lends has to outlive the future, as the host promises to `start`.
async fn run<P: Plugin>(plugin: &'static P, call: Call) -> Answer {
    match Op::from_code(call.op) {
        Some(Op::Process) => {
            if !call.message.is_there() {
                return Answer::fault(&Fault::Message("place is none"));
            }
            // SAFETY: the host lends both for the life of this future, and is trusted: the text is that of a
            // `Topic`.
            let topic = Topic::trusted(unsafe { call.topic.trusted() });
            // SAFETY: as above, and there is a message.
            let message = unsafe { call.message.borrow() };
            plugin.process_message(&topic, &message).await.into()
        }
        Some(Op::Init) => plugin.init().await.into(),
        Some(Op::Shutdown) => plugin.shutdown().await.into(),
        Some(Op::Health) => plugin.health_check().await.into(),
        Some(Op::Metrics) => Answer::value(&plugin.metrics().await),
        Some(Op::Pause) => plugin.pause().await.into(),
        Some(Op::Resume) => plugin.resume().await.into(),
        Some(Op::Reset) => plugin.reset().await.into(),
        Some(op @ (Op::ExportState | Op::ImportState | Op::ConvertState)) => {
            // Boxed, so that what is asked once in a plugin's life takes no room in every message's future.
            Box::pin(hand_over(plugin, op, call)).await
        }
        None => Answer::unknown("operation", call.op),
    }
}

/// Gives the plugin's state out, has it take one over, or takes one to another form.
async fn hand_over<P: Plugin>(plugin: &P, op: Op, call: Call) -> Answer {
    if op == Op::ExportState {
        return plugin.export_state().await.into();
    }
    // SAFETY: the host lends the state for the life of this future.
    let (state, target) = match unsafe { call.snapshot() } {
        Ok(state) => state,
        Err(fault) => return Answer::fault(&fault),
    };
    match op {
        Op::ImportState => plugin.import_state(state).await.into(),
        _ => plugin.convert_state(state, target).await.map(Some).into(),
    }
}

/// A function that makes a plugin's future; names its type where it cannot be written down.
type Run<P, F> = fn(&'static P, Call) -> F;

const fn layout_of<P: 'static, F: Future>(_: Run<P, F>) -> Layout {
    Layout::new::<Started<P, F>>()
}

unsafe extern "C" fn create<X: Export>(seat: *const Seat, out: *mut Answer) -> *mut c_void {
    // SAFETY: the host passes a seat that lasts for the call.
    let created = guarded(|| create_plugin::<X>(&unsafe { Seat::read(seat) }))
        .unwrap_or_else(|text| Err(PluginError::Panicked(text)));
    let (plugin, answer) = match created {
        Ok((home, answer)) => (Box::into_raw(home).cast(), answer),
        Err(error) => (ptr::null_mut(), error.into()),
    };
    // SAFETY: the host passes a place for the answer.
    unsafe { answer.put(out) };
    plugin
}

/// A plugin that was created, and what is said of it.
type Created<P> = Result<(Box<Home<P>>, Answer), PluginError>;

fn create_plugin<X: Export>(seat: &Seat) -> Created<X::Plugin> {
    // SAFETY: the seat names the host's own functions and one count of what they take.
    let host = Arc::new(unsafe { RemoteHost::new(seat.table, seat.host, seat.minor) });
    // SAFETY: the seat's texts last for the call.
    let (name, version, config) =
        unsafe { (seat.name.text()?, seat.version.text()?, seat.config.slice()?) };
    let config: Map<String, Value> =
        serde_json::from_slice(config).map_err(|error| Fault::Json(error.to_string()))?;
    let context = PluginContext::new(name, version, config, host.clone(), host.clone());
    let patience = match seat.patience_nanos {
        0 => PATIENCE,
        nanos => Duration::from_nanos(nanos),
    };
    // Whatever fails or panics from here on, the runtime ends before this returns.
    let reactor = Reactor::start(name, patience).map_err(PluginError::processing)?;
    let plugin = {
        let _entered = reactor.enter();
        X::create(context.with_state(host))?
    };
    let created = Answer::created(plugin.name().to_owned(), plugin.state_schema());
    Ok((Box::new(Home { plugin, reactor }), created))
}

unsafe extern "C" fn start<P: Plugin>(
    plugin: *const c_void,
    call: *const Call,
    future: *mut c_void,
    waker: *const ThinWaker,
    out: *mut Answer,
) -> u32 {
    // SAFETY: the plugin is one that `create` made, and the host destroys it after its futures. What the
    // call lends lives as long as the future. The buffer is of the declared layout.
    unsafe {
        let home = &*plugin.cast::<Home<P>>();
        put_future(run::<P>, future, home, Call::read(call));
        poll::<P>(future, waker, out)
    }
}

unsafe fn put_future<P: 'static, F: Future<Output = Answer> + Send>(
    run: Run<P, F>,
    future: *mut c_void,
    home: &'static Home<P>,
    call: Call,
) {
    let started = Started { home, future: run(&home.plugin, call) };
    // SAFETY: the buffer has this future's layout, by `Declaration::of`.
    unsafe { future.cast::<Started<P, F>>().write(started) };
}

unsafe extern "C" fn poll<P: Plugin>(
    future: *mut c_void,
    waker: *const ThinWaker,
    out: *mut Answer,
) -> u32 {
    // SAFETY: the future is one that `start` put there, pending, and nobody else uses it now.
    unsafe { poll_future(run::<P>, future, waker, out) }
}

unsafe fn poll_future<P: 'static, F: Future<Output = Answer>>(
    _: Run<P, F>,
    future: *mut c_void,
    waker: *const ThinWaker,
    out: *mut Answer,
) -> u32 {
    let started = future.cast::<Started<P, F>>();
    // SAFETY: the caller vouches for the future, which stays where it is until it is dropped; for the waker
    // and the place for the answer, the host does.
    let state = unsafe {
        respond(waker, out, |cx| {
            let Started { home, future } = &mut *started;
            let _entered = home.reactor.enter();
            Pin::new_unchecked(future).poll(cx)
        })
    };
    if state != super::PENDING {
        // SAFETY: it is not pending any more, so neither side uses it again. It has dropped what it held
        // already, by ending or by unwinding.
        let _ = guarded(|| unsafe { ptr::drop_in_place(started) });
    }
    state
}

unsafe extern "C" fn drop_future<P: Plugin>(future: *mut c_void, out: *mut Answer) {
    // SAFETY: the future is one that `start` put there, pending, and nobody uses it again.
    unsafe { drop_as(run::<P>, future, out) };
}

/// Drops a future where it lies, with the plugin's runtime at hand.
///
/// # Safety
/// The future is there, and is not used again.
unsafe fn drop_started<P: 'static, F>(started: *mut Started<P, F>) {
    // SAFETY: the caller vouches for the future; its plugin outlives it.
    unsafe {
        let _entered = (*started).home.reactor.enter();
        ptr::drop_in_place(started);
    }
}

unsafe fn drop_as<P: 'static, F: Future>(_: Run<P, F>, future: *mut c_void, out: *mut Answer) {
    // SAFETY: the caller vouches for the future.
    let dropped = guarded(|| unsafe { drop_started(future.cast::<Started<P, F>>()) });
    // SAFETY: the host passes a place for the answer.
    unsafe { Answer::from(dropped.map_err(PluginError::Panicked)).put(out) };
}

unsafe extern "C" fn destroy<P: Plugin>(plugin: *mut c_void, out: *mut Answer) {
    // SAFETY: the plugin is one that `create` made, without futures, and nobody uses it again.
    let home = unsafe { Box::from_raw(plugin.cast::<Home<P>>()) };
    let dropped = guarded(|| {
        // The runtime ends last, whether or not the plugin panics.
        let Home { plugin, reactor } = *home;
        let _entered = reactor.enter();
        drop(plugin);
    });
    // SAFETY: the host passes a place for the answer.
    unsafe { Answer::from(dropped.map_err(PluginError::Panicked)).put(out) };
}
