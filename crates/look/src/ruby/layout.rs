//! Where versions of CRuby keep what, in bytes, on 64-bit Linux.
//!
//! From `vm_core.h`, `iseq.h` and `thread_pthread.h` of each version (the bindings that rbspy makes of them say the same). Releases
//! of one minor version do not differ in what is read here.

use crate::python::Memory;

/// Of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// `rb_thread_t`: its virtual machine, its execution context, its name. It begins with its place in the list of threads.
    pub(super) machine: u64,
    pub(super) context: u64,
    pub(super) name: u64,
    /// `pthread_self()`, in the thread or in what stands for the native one.
    ident: Ident,
    /// `rb_execution_context_t.thread_ptr`.
    pub(super) thread: u64,
    /// Size of `rb_control_frame_t`.
    pub(super) frame: u64,
    /// `rb_iseq_constant_body.insns_info`.
    pub(super) lines: u64,
    /// Size of an entry of its table.
    pub(super) line: u64,
    /// Does a text that is kept within its object have its length beside it, not in its flags?
    pub(super) has_long_texts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ident {
    Own(u64),
    /// In `rb_native_thread`.
    Native {
        pointer: u64,
        place: u64,
    },
}

/// What is the same in all of them.
pub(super) mod fixed {
    /// `rb_execution_context_t`: the stack, its size in words, the current frame.
    pub(crate) const HEAD: u64 = 24;
    /// `rb_control_frame_t`.
    pub(crate) const CODE: usize = 16;
    pub(crate) const ENVIRONMENT: usize = 32;
    /// `rb_iseq_t.body`.
    pub(crate) const BODY: u64 = 16;
    /// `rb_iseq_constant_body`: number of instructions (four bytes), where they are, path and name.
    pub(crate) const SIZE: usize = 4;
    pub(crate) const ENCODED: usize = 8;
    pub(crate) const PATH: usize = 64;
    pub(crate) const LABEL: usize = 80;
    /// `rb_method_entry_t.called_id`.
    pub(crate) const CALLED: u64 = 24;
}

impl Layout {
    /// Of a version as "3.1.2"; nothing for what is not known.
    pub(super) fn of(version: &str) -> Option<Layout> {
        let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
        let (major, minor) = (parts.next()?, parts.next()?);
        let native = |place| Ident::Native { pointer: 40, place };
        let usual = Layout {
            machine: 32,
            context: 48,
            name: 448,
            ident: native(16),
            thread: 48,
            frame: 56,
            lines: 112,
            line: 12,
            has_long_texts: true,
        };
        let before =
            Layout { context: 40, ident: Ident::Own(80), lines: 120, has_long_texts: false, ..usual };
        Some(match (major, minor) {
            (2, 7) => {
                let ident = Ident::Own(72);
                Layout { machine: 24, context: 32, name: 360, ident, thread: 56, line: 8, ..before }
            }
            (3, 0) => Layout { name: 384, thread: 56, line: 8, ..before },
            (3, 1) => Layout { name: 352, frame: 64, ..before },
            (3, 2) => Layout { name: 304, ident: native(8), frame: 64, ..usual },
            (3, 3) => Layout { name: 432, ..usual },
            (3, 4) => usual,
            _ => return None,
        })
    }

    /// `pthread_self()` of a thread; nothing for one that no native thread runs.
    pub(super) fn ident(&self, memory: &impl Memory, thread: u64) -> Option<u64> {
        match self.ident {
            Ident::Own(place) => memory.word(thread.checked_add(place)?),
            Ident::Native { pointer, place } => {
                let native = memory.word(thread.checked_add(pointer)?)?;
                memory.word(native.checked_add(place)?)
            }
        }
    }
}
