//! What either side calls: the plugin's declaration with its functions, and the host's functions.

#![allow(unsafe_code, reason = "structs that describe the other side of the library boundary")]

use std::ffi::c_void;

use super::answer::Answer;
use super::bytes::Bytes;
use super::crossing::Poller;
use super::message::MessageView;
use super::telemetry::Trace;
use super::waker::ThinWaker;

/// What a library says of itself; its entry point returns the address of one, which stays for good.
#[repr(C)]
#[derive(Debug)]
pub struct Declaration {
    /// How far this struct reaches, in bytes.
    pub size: u32,
    /// [`MAGIC`](super::MAGIC).
    pub magic: [u8; 8],
    /// [`MAJOR`](super::MAJOR) as the library was built with.
    pub major: u32,
    /// [`MINOR`](super::MINOR) as the library was built with.
    pub minor: u32,
    /// What the library offers beside this version's basics, one bit each; none are given out yet.
    pub features: u64,
    /// The version of the SDK.
    pub sdk_version: Bytes,
    /// The compiler, as it calls itself.
    pub rustc_version: Bytes,
    /// The name of the library's package.
    pub package: Bytes,
    /// The version of the library's package.
    pub version: Bytes,
    /// `manifest.json`.
    pub manifest: Bytes,
    /// The size of the plugin's futures, in bytes.
    pub future_size: usize,
    /// The alignment of the plugin's futures, in bytes.
    pub future_align: usize,
    /// The plugin's functions.
    pub table: *const PluginTable,
}

// SAFETY: the addresses are those of statics.
unsafe impl Send for Declaration {}
// SAFETY: as above.
unsafe impl Sync for Declaration {}

/// The functions of a plugin. None of them panics.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PluginTable {
    /// How far this struct reaches, in bytes.
    pub size: u32,
    /// Makes the plugin. Null comes with the reason in the answer, anything else with the plugin's name.
    pub create: unsafe extern "C" fn(seat: *const Seat, out: *mut Answer) -> *mut c_void,
    /// Starts a future in a buffer of the declared size and alignment, which stays where it is, and polls it
    /// for the first time. What the call lends has to last as long as the future.
    pub start: unsafe extern "C" fn(
        plugin: *const c_void,
        call: *const Call,
        future: *mut c_void,
        waker: *const ThinWaker,
        out: *mut Answer,
    ) -> u32,
    /// Polls a future that is pending.
    pub poll:
        unsafe extern "C" fn(future: *mut c_void, waker: *const ThinWaker, out: *mut Answer) -> u32,
    /// Drops a future that is pending. The answer is done, or a panic.
    pub drop: unsafe extern "C" fn(future: *mut c_void, out: *mut Answer),
    /// Drops the plugin, after all of its futures. The answer is done, or a panic.
    pub destroy: unsafe extern "C" fn(plugin: *mut c_void, out: *mut Answer),
}

/// What a plugin is created with.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Seat {
    /// How far this struct reaches, in bytes.
    pub size: u32,
    /// The lower of both sides' [`MINOR`](super::MINOR).
    pub minor: u32,
    /// The host's functions; they outlive the library.
    pub table: *const HostTable,
    /// What the host's functions take; the plugin gives it back with `release`.
    pub host: *const c_void,
    /// The name in the plugin's context.
    pub name: Bytes,
    /// The version in the plugin's context.
    pub version: Bytes,
    /// The plugin's configuration, a JSON object.
    pub config: Bytes,
    /// Since minor version 2: how long the plugin's end may take, in nanoseconds; 0 where the host does not say.
    pub patience_nanos: u64,
}

impl Seat {
    /// Reads a seat that may know fewer fields, or more.
    ///
    /// # Safety
    /// `seat` points to one of the other side's, which tells its own size and has all fields of version 1.0.
    pub(super) unsafe fn read(seat: *const Self) -> Self {
        let nothing = Self {
            size: 0,
            minor: 0,
            table: std::ptr::null(),
            host: std::ptr::null(),
            name: Bytes::lend(""),
            version: Bytes::lend(""),
            config: Bytes::lend(""),
            patience_nanos: 0,
        };
        // SAFETY: the caller vouches for it.
        unsafe { read_shorter(seat.cast(), nothing) }
    }
}

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub enum $name {
            $($(#[$variant_doc])* $variant = $code,)*
        }

        impl $name {
            /// The one with this number, if there is one.
            pub fn from_code(code: u32) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Its number.
            pub const fn code(self) -> u32 {
                self as u32
            }
        }
    };
}

codes! {
    /// What a plugin is asked.
    Op {
        /// `Plugin::init`
        Init = 0,
        /// `Plugin::process_message`
        Process = 1,
        /// `Plugin::shutdown`
        Shutdown = 2,
        /// `Plugin::health_check`
        Health = 3,
        /// `Plugin::metrics`
        Metrics = 4,
        /// `Plugin::pause`
        Pause = 5,
        /// `Plugin::resume`
        Resume = 6,
        /// `Plugin::reset`
        Reset = 7,
        /// `Plugin::export_state`, since minor version 2
        ExportState = 8,
        /// `Plugin::import_state`, since minor version 2
        ImportState = 9,
        /// `Plugin::convert_state`, since minor version 2
        ConvertState = 10,
    }
}

codes! {
    /// What a host is asked.
    HostOp {
        /// `MessageTransport::publish`
        Publish = 0,
        /// `MessageTransport::publish_now`
        PublishNow = 1,
        /// `MessageTransport::try_publish`, which is never pending
        TryPublish = 2,
        /// `MessageTransport::request`
        Request = 3,
        /// `MessageTransport::subscribe`: pending or not, it leaves a [`Poller`] that is done once the
        /// subscription stands, and from then on gives its messages
        Subscribe = 4,
        /// `StateAccess::get`
        StateGet = 5,
        /// `StateAccess::set` with the call's value
        StateSet = 6,
        /// `StateAccess::set` with none
        StateDelete = 7,
    }
}

codes! {
    /// How a measurement is counted.
    Metric {
        /// `count` is added.
        Counter = 0,
        /// `value` stands from now on.
        Gauge = 1,
        /// `value` is one of many.
        Histogram = 2,
    }
}

/// What a plugin is asked, with what that takes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// How far this struct reaches, in bytes.
    pub size: u32,
    /// An [`Op`].
    pub op: u32,
    /// The message's topic, for [`Op::Process`].
    pub topic: Bytes,
    /// The message, for [`Op::Process`].
    pub message: MessageView,
    /// Since minor version 2: the state, for [`Op::ImportState`] and [`Op::ConvertState`]; null for anything else.
    pub state: *const StateCall,
}

// SAFETY: numbers and addresses; what they lead to is lent for the life of the future that the call starts.
unsafe impl Send for Call {}
// SAFETY: as above.
unsafe impl Sync for Call {}

impl Call {
    /// Nothing is asked.
    pub const NONE: Self = Self {
        size: size_of::<Self>() as u32,
        op: u32::MAX,
        topic: Bytes::lend(""),
        message: MessageView::NONE,
        state: std::ptr::null(),
    };

    /// Reads a call that may know fewer fields, or more.
    ///
    /// # Safety
    /// `call` points to one of the other side's, which tells its own size.
    #[inline]
    pub(super) unsafe fn read(call: *const Self) -> Self {
        // SAFETY: the caller vouches for as many bytes as the size says, and no more are read.
        unsafe {
            if (&raw const (*call).size).read() as usize >= size_of::<Self>() {
                return *call;
            }
            read_shorter(call.cast(), Self::NONE)
        }
    }
}

/// A state that a plugin is to take over or to take to another form.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct StateCall {
    /// How far this struct reaches, in bytes.
    pub size: u32,
    /// The form that the state has.
    pub schema: u32,
    /// The form that it is to be taken to, for [`Op::ConvertState`].
    pub target: u32,
    /// 1 when it is an entry of the managed state, 0 when it is what a plugin exported.
    pub is_entry: u32,
    /// The entry's name.
    pub entry: Bytes,
    /// The state as JSON.
    pub data: Bytes,
}

/// What the other side wrote of a struct that starts with its size, over `read`, which says what the rest is.
///
/// # Safety
/// `from` points to a struct of the other side's, whose first field says how many bytes there are, and which is a
/// shorter or a longer `T`.
unsafe fn read_shorter<T: Copy>(from: *const u8, mut read: T) -> T {
    // SAFETY: the caller vouches for so many bytes there, and no more than a `T` has are copied into it.
    unsafe {
        let size = from.cast::<u32>().read() as usize;
        (&raw mut read).cast::<u8>().copy_from_nonoverlapping(from, size.min(size_of::<T>()));
    }
    read
}

/// What a host is asked, with what that takes. All of it is lent for the first call.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct HostCall {
    /// How far this struct reaches, in bytes.
    pub size: u32,
    /// A [`HostOp`].
    pub op: u32,
    /// The topic, the pattern of a subscription, or the name of an entry of the state.
    pub topic: Bytes,
    /// The message that is published or asked.
    pub message: MessageView,
    /// How long a request waits, in nanoseconds.
    pub timeout_nanos: u64,
    /// Since minor version 1: the JSON of an entry that is set.
    pub value: Bytes,
}

impl HostCall {
    /// Nothing is asked.
    pub const NONE: Self = Self {
        size: size_of::<Self>() as u32,
        op: u32::MAX,
        topic: Bytes::lend(""),
        message: MessageView::NONE,
        timeout_nanos: 0,
        value: Bytes::lend(""),
    };

    /// Reads a call that may know fewer fields, or more.
    ///
    /// # Safety
    /// `call` points to one of the other side's, which tells its own size.
    pub unsafe fn read(call: *const Self) -> Self {
        // SAFETY: the caller's promise is the same.
        unsafe { read_shorter(call.cast(), Self::NONE) }
    }
}

/// The functions of a host. None of them panics; any thread may call them.
#[repr(C)]
#[derive(Debug)]
pub struct HostTable {
    /// How far this struct reaches, in bytes.
    pub size: u32,
    /// Gives back what the [`Seat`] named; no other function may be called with it after that.
    pub release: unsafe extern "C" fn(host: *const c_void),
    /// Starts what a [`HostCall`] asks and polls it for the first time. What is left to be polled is written
    /// to `poller`, which holds none before.
    pub call: unsafe extern "C" fn(
        host: *const c_void,
        call: *const HostCall,
        waker: *const ThinWaker,
        out: *mut Answer,
        poller: *mut Poller,
    ) -> u32,
    /// Counts something.
    pub measure: unsafe extern "C" fn(host: *const c_void, measurement: *const Measurement),
    /// Writes a log line, with the number of a `LogLevel`.
    pub log: unsafe extern "C" fn(host: *const c_void, level: u32, text: Bytes),
    /// Writes where the message in hand stands in its trace; 0 when it stands nowhere.
    pub current_trace: unsafe extern "C" fn(host: *const c_void, out: *mut Trace) -> u32,
    /// Starts a span, which `span_end` ends; null when there is none.
    pub span_start:
        unsafe extern "C" fn(host: *const c_void, start: *const SpanStart) -> *mut c_void,
    /// Adds an attribute to a span.
    pub span_attribute: unsafe extern "C" fn(span: *mut c_void, attribute: *const Attribute),
    /// Marks a span as failed.
    pub span_error: unsafe extern "C" fn(span: *mut c_void, reason: Bytes),
    /// Writes where a span stands in its trace; 0 when it stands nowhere.
    pub span_context: unsafe extern "C" fn(span: *const c_void, out: *mut Trace) -> u32,
    /// Ends a span.
    pub span_end: unsafe extern "C" fn(span: *mut c_void),
}

/// A name and a value.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Attribute {
    /// The name.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

/// Something that is counted.
#[repr(C)]
#[derive(Debug)]
pub struct Measurement {
    /// How far this struct reaches, in bytes.
    pub size: u32,
    /// A [`Metric`].
    pub metric: u32,
    /// What is counted.
    pub name: Bytes,
    /// For a counter.
    pub count: u64,
    /// For anything else.
    pub value: f64,
    /// The first of the attributes.
    pub attributes: *const Attribute,
    /// How many attributes there are.
    pub attribute_count: usize,
}

/// A span that is to be started.
#[repr(C)]
#[derive(Debug)]
pub struct SpanStart {
    /// How far this struct reaches, in bytes.
    pub size: u32,
    /// What the span is called.
    pub name: Bytes,
    /// The span above it; null stands for that of the message in hand.
    pub parent: *const Trace,
    /// The first of the attributes.
    pub attributes: *const Attribute,
    /// How many attributes there are.
    pub attribute_count: usize,
}
