//! CPython's own remote execution (PEP 768, from 3.14): a path written into the main thread's state, and the evaluation
//! loop told to look.
//!
//! The offsets are read from the process itself: `_PyRuntime` begins with `_Py_DebugOffsets`
//! (Include/internal/pycore_debug_offsets.h), whose last part is `debugger_support`.

use pepo_process::Memory;

use super::image::Symbol;

/// Where things lie in the running interpreter, as absolute addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RemoteExec {
    eval_breaker: u64,
    pending_call: u64,
    script_path: u64,
    script_path_size: u64,
}

/// Words of `_Py_DebugOffsets` that are read.
const WORDS: usize = 96;
/// Index of `runtime_state.interpreters_head` and of `interpreter_state.threads_main`.
const INTERPRETERS_HEAD: usize = 5;
const THREADS_MAIN: usize = 10;
/// The offsets of `thread_state`, `native_thread_id` among them, lie here; parts before them grew by patch releases.
const THREAD_STATE: std::ops::Range<usize> = 20..40;
/// `debugger_support` is looked for from here on: parts before it grew by patch releases.
const SUPPORT_FROM: usize = 80;
/// MAX_SCRIPT_PATH_SIZE (Include/cpython/pystate.h).
const PATH_SIZE: u64 = 512;
/// _PY_EVAL_PLEASE_STOP_BIT (Include/internal/pycore_ceval.h).
const PLEASE_STOP: u8 = 1 << 5;

impl RemoteExec {
    /// Finds it; `None` when this interpreter does not have it, it is turned off, or `main` (the main thread's number in its
    /// own namespace) is not its main thread.
    pub(super) fn find(memory: &Memory, runtime: Symbol, main: u32) -> Option<RemoteExec> {
        let mut bytes = [0; WORDS * 8];
        memory.read_at(runtime.address, &mut bytes).ok()?;
        if &bytes[..8] != b"xdebugpy" {
            return None;
        }
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)))
            .collect();
        // eval_breaker, remote_debugger_support, remote_debugging_enabled, debugger_pending_call, debugger_script_path,
        // debugger_script_path_size.
        let support = words[SUPPORT_FROM..]
            .windows(6)
            .find(|words| words[3] == 0 && words[4] == 4 && words[5] == PATH_SIZE && words[0] < 1 << 16)?;
        let interpreter = memory.read_u64(runtime.address + words[INTERPRETERS_HEAD]).ok()?;
        let enabled = memory.read_u32(interpreter + support[2]).ok()?;
        let thread = memory.read_u64(interpreter + words[THREADS_MAIN]).ok()?;
        let is_main = words[THREAD_STATE].iter().any(|&offset| {
            memory.read_u64(thread.wrapping_add(offset)).is_ok_and(|id| id == u64::from(main))
        });
        (enabled == 1 && thread != 0 && is_main).then_some(RemoteExec {
            eval_breaker: thread + support[0],
            pending_call: thread + support[1] + support[3],
            script_path: thread + support[1] + support[4],
            script_path_size: support[5],
        })
    }

    /// Asks for the script, as `sys.remote_exec` does; the main thread should stand still meanwhile, so that its own changes
    /// of the flags are not lost.
    pub(super) fn ask(&self, memory: &Memory, path: &str) -> Option<()> {
        let mut text = path.as_bytes().to_vec();
        text.push(0);
        (text.len() as u64 <= self.script_path_size).then_some(())?;
        memory.write_at(self.script_path, &text).ok()?;
        memory.write_at(self.pending_call, &1u32.to_ne_bytes()).ok()?;
        // One byte, so that flags in the others cannot be lost.
        let mut breaker = [0];
        memory.read_at(self.eval_breaker, &mut breaker).ok()?;
        memory.write_at(self.eval_breaker, &[breaker[0] | PLEASE_STOP]).ok()
    }

    /// Takes the request back, if it was not answered yet.
    pub(super) fn take_back(&self, memory: &Memory) {
        // A process that ended needs nothing taken back.
        let _ = memory.write_at(self.pending_call, &0u32.to_ne_bytes());
    }
}
