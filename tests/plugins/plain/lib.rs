//! A plugin library without the SDK, as version 1.0 of the boundary has it: what an older library looks like to a
//! host, and what one looks like that another compiler made.
//!
//! All of it is declared here, after `docs/contracts/plugin-abi.md`; it depends on nothing, so that any compiler from
//! Rust 1.63 on builds it by itself: `rustc --edition 2021 --crate-type cdylib lib.rs`. Each message that it handles
//! it publishes once more to `plain.heard`.

#![allow(dead_code)]

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

const MANIFEST: &str = include_str!("manifest.json");

#[repr(C)]
pub struct Note {
    name_len: u32,
    desc_len: u32,
    kind: u32,
    name: [u8; 8],
    major: u32,
    minor: u32,
    manifest: [u8; MANIFEST.len()],
}

#[used]
#[link_section = ".note.echo"]
static NOTE: Note = Note {
    name_len: 5,
    desc_len: 8 + MANIFEST.len() as u32,
    kind: 1,
    name: *b"Echo\0\0\0\0",
    major: 1,
    minor: 0,
    manifest: bytes(MANIFEST),
};

const fn bytes(text: &str) -> [u8; MANIFEST.len()] {
    let mut copy = [0; MANIFEST.len()];
    let mut at = 0;
    while at < MANIFEST.len() {
        copy[at] = text.as_bytes()[at];
        at += 1;
    }
    copy
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Bytes {
    ptr: *const u8,
    len: usize,
}

impl Bytes {
    const fn lend(text: &str) -> Self {
        Self { ptr: text.as_ptr(), len: text.len() }
    }
}

#[repr(C)]
struct OwnedBytes {
    ptr: *mut u8,
    len: usize,
    free: Option<unsafe extern "C" fn(*mut u8, usize)>,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct MessageView {
    block: *const c_void,
    attempt: u16,
    hops: u16,
}

const NO_MESSAGE: MessageView = MessageView { block: ptr::null(), attempt: 0, hops: 0 };

#[repr(C)]
struct Answer {
    size: u32,
    tag: u32,
    numbers: [u64; 2],
    text: OwnedBytes,
    message: MessageView,
}

impl Answer {
    fn new(tag: u32, text: String) -> Self {
        let text = text.into_bytes().into_boxed_slice();
        let len = text.len();
        let ptr = Box::into_raw(text).cast::<u8>();
        let text = OwnedBytes { ptr, len, free: Some(free_text) };
        Self {
            size: std::mem::size_of::<Self>() as u32,
            tag,
            numbers: [0; 2],
            text,
            message: NO_MESSAGE,
        }
    }
}

unsafe extern "C" fn free_text(ptr: *mut u8, len: usize) {
    drop(Box::from_raw(ptr::slice_from_raw_parts_mut(ptr, len)));
}

#[repr(C)]
struct Poller {
    data: *mut c_void,
    poll: unsafe extern "C" fn(*mut c_void, *const c_void, *mut Answer) -> u32,
    drop: unsafe extern "C" fn(*mut c_void),
}

unsafe extern "C" fn poll_none(_: *mut c_void, _: *const c_void, _: *mut Answer) -> u32 {
    1
}

unsafe extern "C" fn drop_none(_: *mut c_void) {}

/// Without what came with later versions.
#[repr(C)]
struct Call {
    size: u32,
    op: u32,
    topic: Bytes,
    message: MessageView,
}

/// Without what came with later versions.
#[repr(C)]
struct HostCall {
    size: u32,
    op: u32,
    topic: Bytes,
    message: MessageView,
    timeout_nanos: u64,
}

/// As far as it is used here.
#[repr(C)]
struct HostTable {
    size: u32,
    release: unsafe extern "C" fn(*const c_void),
    call: unsafe extern "C" fn(
        *const c_void,
        *const HostCall,
        *const c_void,
        *mut Answer,
        *mut Poller,
    ) -> u32,
}

/// Without what came with later versions.
#[repr(C)]
struct Seat {
    size: u32,
    minor: u32,
    table: *const HostTable,
    host: *const c_void,
    name: Bytes,
    version: Bytes,
    config: Bytes,
}

#[repr(C)]
struct PluginTable {
    size: u32,
    create: unsafe extern "C" fn(*const Seat, *mut Answer) -> *mut c_void,
    start: unsafe extern "C" fn(
        *const c_void,
        *const Call,
        *mut c_void,
        *const c_void,
        *mut Answer,
    ) -> u32,
    poll: unsafe extern "C" fn(*mut c_void, *const c_void, *mut Answer) -> u32,
    drop: unsafe extern "C" fn(*mut c_void, *mut Answer),
    destroy: unsafe extern "C" fn(*mut c_void, *mut Answer),
}

#[repr(C)]
pub struct Declaration {
    size: u32,
    magic: [u8; 8],
    major: u32,
    minor: u32,
    features: u64,
    sdk_version: Bytes,
    rustc_version: Bytes,
    package: Bytes,
    version: Bytes,
    manifest: Bytes,
    future_size: usize,
    future_align: usize,
    table: *const PluginTable,
}

unsafe impl Sync for Declaration {}

static TABLE: PluginTable = PluginTable {
    size: std::mem::size_of::<PluginTable>() as u32,
    create,
    start,
    poll: poll_none,
    drop: drop_future,
    destroy,
};

static DECLARATION: Declaration = Declaration {
    size: std::mem::size_of::<Declaration>() as u32,
    magic: *b"EchoCore",
    major: 1,
    minor: 0,
    features: 0,
    sdk_version: Bytes::lend("none"),
    rustc_version: Bytes::lend("any"),
    package: Bytes::lend("plain"),
    version: Bytes::lend("0.1.0"),
    manifest: Bytes::lend(MANIFEST),
    future_size: 1,
    future_align: 1,
    table: &TABLE,
};

#[no_mangle]
pub extern "C" fn echo_entry_plain() -> *const Declaration {
    &DECLARATION
}

/// The plugin.
struct Plain {
    table: *const HostTable,
    host: *const c_void,
    minor: u32,
    heard: AtomicU64,
}

extern "C" {
    fn free(place: *mut c_void);
}

unsafe extern "C" fn create(seat: *const Seat, out: *mut Answer) -> *mut c_void {
    let seat = &*seat;
    let config = std::slice::from_raw_parts(seat.config.ptr, seat.config.len);
    if String::from_utf8_lossy(config).contains("wrong free") {
        // No allocator has given this place out.
        free(0x1000_0008 as *mut c_void);
    }
    let heard = AtomicU64::new(0);
    let plain = Plain { table: seat.table, host: seat.host, minor: seat.minor, heard };
    out.write(Answer::new(0, "plain".to_owned()));
    Box::into_raw(Box::new(plain)).cast()
}

/// Answers at once, so there is never a future.
unsafe extern "C" fn start(
    plugin: *const c_void,
    call: *const Call,
    _: *mut c_void,
    waker: *const c_void,
    out: *mut Answer,
) -> u32 {
    let plain = &*plugin.cast::<Plain>();
    match (*call).op {
        // `process_message`: publishes it once more, and answers what the host answered, if that is an error.
        1 => {
            plain.heard.fetch_add(1, Ordering::Relaxed);
            let told = HostCall {
                size: std::mem::size_of::<HostCall>() as u32,
                op: 2,
                topic: Bytes::lend("plain.heard"),
                message: (*call).message,
                timeout_nanos: 0,
            };
            let mut poller = Poller { data: ptr::null_mut(), poll: poll_none, drop: drop_none };
            ((*plain.table).call)(plain.host, &told, waker, out, &mut poller);
            if (*out).tag == 0 {
                (*out).tag = 1;
            }
        }
        // `health_check`: nobody looked.
        3 => (*out).tag = 9,
        // `metrics`
        4 => {
            let heard = plain.heard.load(Ordering::Relaxed);
            let text = format!("{{\"heard\":{},\"minor\":{}}}", heard, plain.minor);
            out.write(Answer::new(5, text));
        }
        // What comes after `reset` is not known here.
        op if op > 7 => out.write(Answer::new(71, format!("no operation {}", op))),
        _ => (*out).tag = 0,
    }
    1
}

unsafe extern "C" fn drop_future(_: *mut c_void, _: *mut Answer) {}

unsafe extern "C" fn destroy(plugin: *mut c_void, _: *mut Answer) {
    let plain = Box::from_raw(plugin.cast::<Plain>());
    ((*plain.table).release)(plain.host);
}
