//! The machine code that the Python payload maps into CPython 3.8 to 3.11: the trace function of the threads, and what gives it to
//! threads that already run.
//!
//! CPython's own trampoline (`sys.settrace`) copies a frame's variables out and back around each event, by which changes that
//! other threads make to variables in closures meanwhile are lost (bpo-30744); this one does not. And only code that never lets
//! go of the interpreter's lock can walk the list of threads, any of which may end as soon as another one runs.
//!
//! Built by the build script into a flat image without relocations: no library is loaded into the process. `tracer.py` fills
//! [`API`], which lies at its beginning; [`entry`] follows at 256.
//!
//! All of it is `unsafe`, for the same reason: the functions and the places that [`API`] names are those of the interpreter that this
//! code runs in, and it runs only while the calling thread holds that interpreter's lock.
#![no_std]
#![no_main]
#![allow(unsafe_op_in_unsafe_fn)]

use core::{cell::UnsafeCell, ffi::c_int, mem::MaybeUninit, ptr::null_mut};

type Object = *mut u8;
type State = *mut usize;
type TraceFunction = unsafe extern "C" fn(Object, Object, c_int, Object) -> c_int;

/// What the code needs of its interpreter, in the order in which `tracer.py` writes it.
#[repr(C)]
struct Api {
    none: Object,
    /// `call`, `exception`, `line`, `return`, `c_call`, `c_exception`, `c_return`, `opcode`: PyTrace_CALL and so on.
    events: [Object; 8],
    f_trace: Object,
    call: unsafe extern "C" fn(Object, ...) -> Object,
    get_attribute: unsafe extern "C" fn(Object, Object) -> Object,
    set_attribute: unsafe extern "C" fn(Object, Object, Object) -> c_int,
    add_reference: unsafe extern "C" fn(Object),
    drop_reference: unsafe extern "C" fn(Object),
    traceback_here: unsafe extern "C" fn(Object) -> c_int,
    set_trace: unsafe extern "C" fn(Option<TraceFunction>, Object),
    this_state: unsafe extern "C" fn() -> State,
    first_state: unsafe extern "C" fn(usize) -> State,
    next_state: unsafe extern "C" fn(State) -> State,
    interpreter: usize,
    /// Index of `thread_id` in a thread's state.
    ident: usize,
    /// Index of `c_traceobj`; before it lie `c_profileobj`, `c_tracefunc`, `c_profilefunc` (Include/cpython/pystate.h).
    object: usize,
    /// The minor version.
    version: usize,
    /// How many calls of [`trace`] have not returned. Counted with the interpreter's lock held.
    busy: *mut usize,
}

#[unsafe(link_section = ".api")]
static API: Place = Place(UnsafeCell::new(MaybeUninit::zeroed()));

/// Written from outside, so that the compiler must not know what it holds.
struct Place(UnsafeCell<MaybeUninit<Api>>);

// SAFETY: it is never written while this code runs.
unsafe impl Sync for Place {}

#[inline(always)]
fn api() -> &'static Api {
    // SAFETY: filled before this code is mapped, and mapped for reading only.
    unsafe { &*core::hint::black_box(API.0.get()).cast::<Api>() }
}

/// Gives the thread `ident` the trace function `function`; with the `ident` 0, takes ours away from all threads. How many were
/// changed; negative when it was refused.
///
/// The interpreter's own function keeps count of the threads that are traced (until 3.9 its evaluation loop looks at that), but
/// knows the calling thread alone: so it is told there, and what the calling thread then has is exchanged for what the other has.
///
/// # Safety
/// Called with the interpreter's lock held, by a thread that is not traced or is `ident` itself.
#[unsafe(link_section = ".entry")]
#[unsafe(no_mangle)]
unsafe extern "C" fn entry(ident: usize, function: Object) -> isize {
    let api = api();
    let mut changed = 0;
    let this = (api.this_state)();
    let own = this.add(api.object);
    if ident == 0 {
        // What is dropped may run code, and any thread may end meanwhile: so it is begun again after each.
        while let Some(state) = find(|state| *state.add(api.object - 2) == trace as *const () as usize) {
            exchange(this, state);
            (api.set_trace)(None, null_mut());
            if *own != 0 {
                return -1;
            }
            changed += 1;
        }
        return changed;
    }
    if *this.add(api.ident) == ident {
        (api.set_trace)(Some(trace), function);
        // An audit hook may have refused.
        return if *own == function as usize { 1 } else { -1 };
    }
    while *own == 0 {
        (api.set_trace)(Some(trace), function);
        if *own != function as usize {
            return -1;
        }
        // A thread that is being started has its parent's number for a moment: it is given the function too.
        let found =
            find(|state| *state.add(api.ident) == ident && *state.add(api.object) != function as usize);
        if let Some(state) = found {
            exchange(this, state);
            changed += 1;
        }
        // What the other had; or what was meant for it, if there is none any more.
        (api.set_trace)(None, null_mut());
        if found.is_none() {
            return changed;
        }
    }
    -1
}

/// The first thread's state that is wanted.
#[inline(always)]
unsafe fn find(wanted: impl Fn(State) -> bool) -> Option<State> {
    let api = api();
    let mut state = (api.first_state)(api.interpreter);
    while !state.is_null() {
        if wanted(state) {
            return Some(state);
        }
        state = (api.next_state)(state);
    }
    None
}

unsafe fn exchange(this: State, state: State) {
    let object = api().object;
    if this == state {
        return;
    }
    for index in [object - 2, object] {
        core::ptr::swap(this.add(index), state.add(index));
    }
    flag(this);
    flag(state);
}

/// Tells the evaluation loop whether the thread is traced or profiled: until 3.9 `use_tracing` lies in its state, then in the
/// `cframe` that the state points to, from 3.11 as a byte.
unsafe fn flag(state: State) {
    let api = api();
    let profile = state.add(api.object - 3);
    let on = *profile != 0 || *state.add(api.object - 2) != 0;
    match api.version {
        ..=9 => *profile.cast::<i32>().sub(1) = on as i32,
        10 => *(*profile.sub(1) as *mut i32) = on as i32,
        _ => *(*profile.sub(1) as *mut u8) = if on { 255 } else { 0 },
    }
}

/// As `trace_trampoline` in Python/sysmodule.c, but for the copies.
unsafe extern "C" fn trace(this: Object, frame: Object, what: c_int, argument: Object) -> c_int {
    let busy = api().busy;
    *busy += 1;
    let failed = call(this, frame, what, argument);
    *busy -= 1;
    failed
}

#[inline(always)]
unsafe fn call(this: Object, frame: Object, what: c_int, argument: Object) -> c_int {
    let api = api();
    let callback = if what == 0 {
        (api.add_reference)(this);
        this
    } else {
        (api.get_attribute)(frame, api.f_trace)
    };
    if callback.is_null() {
        return -1;
    }
    let mut result = api.none;
    let mut failed = 0;
    if callback == api.none {
        (api.add_reference)(result);
    } else {
        let event = *api.events.as_ptr().add(what as usize);
        let argument = if argument.is_null() { api.none } else { argument };
        result = (api.call)(callback, frame, event, argument, null_mut::<u8>());
        if result.is_null() {
            (api.traceback_here)(frame);
            (api.set_trace)(None, null_mut());
            failed = -1;
        } else if result != api.none {
            failed = (api.set_attribute)(frame, api.f_trace, result);
        }
    }
    (api.drop_reference)(result);
    (api.drop_reference)(callback);
    failed
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
