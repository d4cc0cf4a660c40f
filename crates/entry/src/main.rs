//! The program: hands its arguments to the library.
//!
//! It has no `main` of Rust's because what that does before (it ignores SIGPIPE, and opens closed streams) would
//! reach the program that is started here.
#![no_main]
#![allow(unsafe_code, reason = "the C entry point, and the arguments it is given")]

use std::{
    ffi::{CStr, OsString, c_char, c_int},
    os::unix::ffi::OsStringExt,
};

/// Where the C library begins.
#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, words: *const *const c_char) -> c_int {
    let count = usize::try_from(count).unwrap_or_default();
    let word = |at: usize| {
        // SAFETY: the C library gives `count` pointers to strings that end with a zero and live as long as we do.
        let word = unsafe { CStr::from_ptr(*words.add(at)) };
        OsString::from_vec(word.to_bytes().to_owned())
    };
    c_int::from(pepo_entry::run((1..count).map(word).collect()))
}
