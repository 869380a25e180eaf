//! Which threads and which keys of thread-local data belong to which library.
//!
//! A library must not leave memory while one of its threads runs, since that thread would run into nothing; and a key
//! that a library made with `pthread_key_create` names a destructor that goes with it, so that the next thread
//! that ends would call into nothing, and after 1,024 keys there are no more. Neither can be asked of the
//! system. So a program that hosts libraries says [`record_threads!`](crate::record_threads): it then exports
//! functions by the names of the system's, libraries are bound to those when they are loaded, and what they make
//! is recorded here, by the address of the code that a thread starts with or that a key is destroyed with.
//!
//! A program that does not say so goes by a list of the process's threads: those that have come since the
//! library was loaded may be its own. See [`Bystanders`].

#![allow(unsafe_code, reason = "stands in for functions of the C library")]

use std::collections::BTreeSet;
use std::ffi::{CStr, c_int, c_uint, c_void};
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Records the threads and the keys of plugin libraries, in a program that hosts some.
///
/// Once in the program's main file. It stands in for the C library's `pthread_create`, `pthread_key_create` and
/// `pthread_key_delete`, which it calls, so a program can do it once and not beside another that does the same.
/// Without it libraries are taken out of memory only while no thread has come since they were loaded.
#[macro_export]
macro_rules! record_threads {
    () => {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        const _: () = {
            use ::core::ffi::{c_int, c_uint, c_void};

            #[unsafe(no_mangle)]
            unsafe extern "C" fn pthread_create(
                thread: *mut c_void,
                attributes: *const c_void,
                start: $crate::library::recorder::Start,
                argument: *mut c_void,
            ) -> c_int {
                // SAFETY: the arguments are those of the C function.
                unsafe {
                    $crate::library::recorder::create_thread(thread, attributes, start, argument)
                }
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn pthread_key_create(
                key: *mut c_uint,
                destructor: ::core::option::Option<$crate::library::recorder::Destructor>,
            ) -> c_int {
                // SAFETY: the arguments are those of the C function.
                unsafe { $crate::library::recorder::create_key(key, destructor) }
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn pthread_key_delete(key: c_uint) -> c_int {
                // SAFETY: the argument is that of the C function.
                unsafe { $crate::library::recorder::delete_key(key) }
            }
        };
    };
}

/// What a thread begins with.
pub type Start = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

/// What a key's data is given to when a thread ends.
pub type Destructor = unsafe extern "C" fn(*mut c_void);

type CreateThread = unsafe extern "C" fn(*mut c_void, *const c_void, Start, *mut c_void) -> c_int;
type CreateKey = unsafe extern "C" fn(*mut c_uint, Option<Destructor>) -> c_int;
type DeleteKey = unsafe extern "C" fn(c_uint) -> c_int;

/// A function of the C library, found when it is first needed.
struct Real {
    name: &'static CStr,
    address: AtomicUsize,
}

static CREATE_THREAD: Real = Real::new(c"pthread_create");
static CREATE_KEY: Real = Real::new(c"pthread_key_create");
static DELETE_KEY: Real = Real::new(c"pthread_key_delete");

impl Real {
    const fn new(name: &'static CStr) -> Self {
        Self { name, address: AtomicUsize::new(0) }
    }

    /// The function; none where the C library has no such function.
    ///
    /// # Safety
    /// `F` is the type of a pointer to it.
    unsafe fn get<F: Copy>(&self) -> Option<F> {
        const { assert!(size_of::<F>() == size_of::<usize>()) };
        let mut address = self.address.load(Ordering::Relaxed);
        if address == 0 {
            // SAFETY: looks a name up; the next one after this program's own is the C library's.
            address = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) }.addr();
            self.address.store(address, Ordering::Relaxed);
        }
        // SAFETY: the caller vouches for the type, and it is not null.
        (address != 0).then(|| unsafe { std::mem::transmute_copy(&address) })
    }
}

/// A thread that was created and may still run.
struct Thread {
    number: u64,
    /// Where the code that it starts with lies.
    start: usize,
    /// The system's number for it, once it runs.
    id: Option<i32>,
}

struct Threads {
    known: Vec<Thread>,
    created: u64,
    /// How many may be known before those that have ended are looked for.
    limit: usize,
}

static THREADS: Mutex<Threads> = Mutex::new(Threads { known: Vec::new(), created: 0, limit: 64 });

/// How many keys a process has, at most.
const MAX_KEYS: usize = 1024;

/// By key, where its destructor lies; 0 where there is none.
static KEYS: [AtomicUsize; MAX_KEYS] = [const { AtomicUsize::new(0) }; MAX_KEYS];

/// What a thread needs to begin.
struct Begin {
    number: u64,
    start: Start,
    argument: *mut c_void,
}

fn threads() -> MutexGuard<'static, Threads> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Threads {
    fn announce(&mut self, start: usize) -> u64 {
        if self.known.len() >= self.limit {
            self.known.retain(Thread::runs);
            self.limit = (2 * self.known.len()).max(64);
        }
        self.created += 1;
        self.known.push(Thread { number: self.created, start, id: None });
        self.created
    }

    fn began(&mut self, number: u64, id: i32) {
        // One that had this id before has ended.
        self.known.retain(|thread| thread.id != Some(id));
        if let Some(thread) = self.known.iter_mut().find(|thread| thread.number == number) {
            thread.id = Some(id);
        }
    }
}

impl Thread {
    /// One that is about to begin runs too.
    fn runs(&self) -> bool {
        self.id.is_none_or(|id| std::fs::exists(format!("/proc/self/task/{id}")).unwrap_or(true))
    }
}

/// Creates a thread and records it.
///
/// # Safety
/// As `pthread_create`.
#[doc(hidden)]
pub unsafe fn create_thread(
    thread: *mut c_void,
    attributes: *const c_void,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: this is the type of the function of this name.
    let Some(create) = (unsafe { CREATE_THREAD.get::<CreateThread>() }) else {
        return libc::ENOSYS;
    };
    let number = threads().announce(start as usize);
    let begin = Box::into_raw(Box::new(Begin { number, start, argument }));
    // SAFETY: the caller vouches for the arguments, and `begin_thread` takes what it is given.
    let result = unsafe { create(thread, attributes, begin_thread, begin.cast()) };
    if result != 0 {
        // SAFETY: there is no thread that would take it.
        drop(unsafe { Box::from_raw(begin) });
        threads().known.retain(|thread| thread.number != number);
    }
    result
}

unsafe extern "C-unwind" fn begin_thread(begin: *mut c_void) -> *mut c_void {
    // SAFETY: `create_thread` gave it away to this thread.
    let Begin { number, start, argument } = *unsafe { Box::from_raw(begin.cast::<Begin>()) };
    // SAFETY: asks for a number.
    threads().began(number, unsafe { libc::gettid() });
    // SAFETY: whoever created the thread vouches for both.
    unsafe { start(argument) }
}

/// Makes a key and records it.
///
/// # Safety
/// As `pthread_key_create`.
#[doc(hidden)]
pub unsafe fn create_key(key: *mut c_uint, destructor: Option<Destructor>) -> c_int {
    // SAFETY: this is the type of the function of this name.
    let Some(create) = (unsafe { CREATE_KEY.get::<CreateKey>() }) else { return libc::ENOSYS };
    // SAFETY: the caller vouches for the arguments.
    let result = unsafe { create(key, destructor) };
    if result == 0 {
        // SAFETY: the key has been written.
        record_key(unsafe { key.read() }, destructor.map_or(0, |destructor| destructor as usize));
    }
    result
}

/// Deletes a key.
///
/// # Safety
/// As `pthread_key_delete`.
#[doc(hidden)]
pub unsafe fn delete_key(key: c_uint) -> c_int {
    // SAFETY: this is the type of the function of this name.
    let Some(delete) = (unsafe { DELETE_KEY.get::<DeleteKey>() }) else { return libc::ENOSYS };
    // Before it is free for others.
    record_key(key, 0);
    // SAFETY: the caller vouches for the key.
    unsafe { delete(key) }
}

fn record_key(key: c_uint, destructor: usize) {
    if let Some(known) = usize::try_from(key).ok().and_then(|key| KEYS.get(key)) {
        known.store(destructor, Ordering::SeqCst);
    }
}

/// Whether libraries are bound to this program's functions.
pub fn is_recording() -> bool {
    static RECORDING: OnceLock<bool> = OnceLock::new();
    *RECORDING.get_or_init(|| {
        let own = object_of((create_thread as *const ()).cast());
        let is_own = |name: &CStr| {
            // SAFETY: looks a name up, as the system's loader does for a library.
            let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
            own.is_some() && object_of(found) == own
        };
        [CREATE_THREAD.name, CREATE_KEY.name, DELETE_KEY.name].into_iter().all(is_own)
    })
}

/// Where the program or library begins that this address is part of.
fn object_of(address: *const c_void) -> Option<usize> {
    let mut info = libc::Dl_info {
        dli_fname: ptr::null(),
        dli_fbase: ptr::null_mut(),
        dli_sname: ptr::null(),
        dli_saddr: ptr::null_mut(),
    };
    // SAFETY: looks an address up, and writes to `info`.
    let found = unsafe { libc::dladdr(address, &raw mut info) };
    (found != 0).then(|| info.dli_fbase.addr())
}

/// Where a library lies in memory.
pub(super) type Place = [Range<usize>];

fn lies_in(place: &Place, address: usize) -> bool {
    place.iter().any(|range| range.contains(&address))
}

/// A signal whose handler is part of what lies there.
pub(super) fn handled_signal(place: &Place) -> Option<i32> {
    (1..=libc::SIGRTMAX()).find(|signal| {
        // SAFETY: all zero is a value of it.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: reads how the signal is handled, into `action`, and changes nothing.
        let asked = unsafe { libc::sigaction(*signal, ptr::null(), &raw mut action) };
        asked == 0 && lies_in(place, action.sa_sigaction)
    })
}

/// Deletes the keys whose destructors lie there; how many there were.
pub(super) fn purge_keys(place: &Place) -> usize {
    let keys = (0..).zip(&KEYS);
    let own = keys.filter(|(_, known)| lies_in(place, known.load(Ordering::SeqCst)));
    // SAFETY: the key is one that `create_key` made and nobody has deleted, and whoever made it runs no more.
    own.filter(|(key, _)| unsafe { delete_key(*key) } == 0).count()
}

/// How long a thread that was joined may take to be gone from the system's list.
const GOING: Duration = Duration::from_secs(1);

/// The threads that there were before a library was loaded.
#[derive(Debug)]
pub(super) struct Bystanders(BTreeSet<i32>);

/// Threads that may run a library's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// So many that the library has started.
    Own(usize),
    /// So many that nobody knows of, since none are recorded.
    Unknown(usize),
}

impl Bystanders {
    /// Those that there are now.
    pub(super) fn now() -> Self {
        Self(all_threads())
    }

    /// Makes sure that none of a library's threads runs any more.
    ///
    /// # Errors
    /// The threads that are left.
    pub(super) fn only(&self, place: &Place) -> Result<(), Left> {
        let until = Instant::now() + GOING;
        loop {
            // Asked first, so that there is a last look however long this thread was kept from running.
            let goes_on = Instant::now() < until;
            let left = if is_recording() { own(place) } else { self.unknown() };
            match left {
                None => return Ok(()),
                // There is nothing that tells of a thread's end in the system's list, so it is looked at again.
                Some(_) if goes_on => thread::yield_now(),
                Some(left) => return Err(left),
            }
        }
    }

    fn unknown(&self) -> Option<Left> {
        // SAFETY: asks for a number.
        let this = unsafe { libc::gettid() };
        let new = all_threads().into_iter().filter(|id| *id != this && !self.0.contains(id));
        let count = new.count();
        (count > 0).then_some(Left::Unknown(count))
    }
}

fn own(place: &Place) -> Option<Left> {
    let known = threads();
    let own = known.known.iter().filter(|thread| lies_in(place, thread.start));
    let count = own.filter(|thread| thread.runs()).count();
    (count > 0).then_some(Left::Own(count))
}

/// The process's threads, by the system's numbers.
fn all_threads() -> BTreeSet<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    crate::record_threads!();

    unsafe extern "C" fn destroy(_: *mut c_void) {}

    /// Where there is this address and nothing else.
    fn only(address: usize) -> Vec<Range<usize>> {
        std::iter::once(address..address + 1).collect()
    }

    unsafe extern "C-unwind" fn wait(receiver: *mut c_void) -> *mut c_void {
        // SAFETY: the test gives it a receiver.
        let receiver = unsafe { Box::from_raw(receiver.cast::<mpsc::Receiver<()>>()) };
        let _ = receiver.recv();
        ptr::null_mut()
    }

    #[test]
    fn keys_go_by_their_destructors() {
        assert!(is_recording());
        let mut keys = [0; 2];
        // SAFETY: there is a place for each key.
        let made = unsafe {
            [create_key(&raw mut keys[0], Some(destroy)), create_key(&raw mut keys[1], None)]
        };
        assert_eq!(made, [0; 2]);
        let place = destroy as *const () as usize;
        assert_eq!(purge_keys(&only(place - 1)), 0);
        assert_eq!(purge_keys(&only(place)), 1);
        assert_eq!(purge_keys(&only(place)), 0);
        // SAFETY: a key that is not there is refused.
        assert_eq!(keys.map(|key| unsafe { delete_key(key) }), [libc::EINVAL, 0]);
    }

    #[test]
    fn a_thread_is_known_by_where_it_starts_until_it_is_gone() {
        let start = wait as *const () as usize;
        let (place, before) = (only(start), Bystanders::now());
        assert_eq!(before.only(&place), Ok(()));
        let (leave, left) = mpsc::channel::<()>();
        let mut thread: libc::pthread_t = 0;
        // SAFETY: the thread takes the receiver that it is given.
        let created = unsafe {
            let left = Box::into_raw(Box::new(left)).cast();
            create_thread((&raw mut thread).cast(), ptr::null(), wait, left)
        };
        assert_eq!(created, 0);
        assert_eq!(before.only(&place), Err(Left::Own(1)));
        drop(leave);
        // SAFETY: nobody else joins it.
        assert_eq!(unsafe { libc::pthread_join(thread, ptr::null_mut()) }, 0);
        assert_eq!(before.only(&place), Ok(()));
    }

    #[test]
    fn a_handler_of_a_signal_is_found_where_it_lies() {
        let handler = destroy as *const () as usize;
        assert_eq!(handled_signal(&only(handler)), None);
        // SAFETY: a handler that does nothing, for a signal that nobody sends.
        unsafe { libc::signal(libc::SIGUSR2, handler) };
        assert_eq!(handled_signal(&only(handler)), Some(libc::SIGUSR2));
    }
}
