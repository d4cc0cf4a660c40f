//! What is brought into the process: a few lines that start a thread, the thread's code, pydevd, and its helper library.

use std::fmt::Write as _;

use super::inject::Extra;

/// pydevd's modules as a zip, made by the build script from the pinned wheel.
pub(super) const PYDEVD: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pydevd.zip"));
/// Sets trace functions in threads that already run, for 3.8 to 3.11 on x86-64 glibc.
pub(super) const HELPER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/attach.so"));
/// The version of debugpy that pydevd comes from.
pub(super) const VERSION: &str = env!("PEPO_DEBUGPY_VERSION");
/// The code of the thread.
const BOOTSTRAP: &str = include_str!("../../payload/bootstrap.py");

/// Runs in the interrupted thread, so it is as short as can be: it starts a thread and no more. A Ctrl-C that comes meanwhile is
/// handed on, nothing else can be raised, and no name of `__main__` changes.
const STARTER: &str = "\
try:
 import _thread, time
 began = time.perf_counter()
 if CONFIG['main']: import threading
 _thread.start_new_thread(exec, (CODE, {'__name__': 'pepo', 'CONFIG': dict(CONFIG, took=time.perf_counter() - began)}))
except KeyboardInterrupt: _thread.interrupt_main()
except BaseException: pass
";

/// Runs while the interpreter starts: it adds an audit hook, which takes itself away when it is called for the program's first
/// line, or for anything after a while. Then it starts the thread, and the main thread waits until that says "go".
const AT_ENTRY: &str = "\
def hook(event, args):
 runs = event.startswith('cpython.run_')
 if not runs and clock() < until: return
 try:
  import _thread, gc, threading
  [one.remove(hook) for one in gc.get_referrers(hook) if type(one) is list]
  if not runs or clock() > until: return
  gate = _thread.allocate_lock()
  gate.acquire()
  config = dict(CONFIG, took=0, gate=gate.release)
  _thread.start_new_thread(exec, (CODE, {'__name__': 'pepo', 'CONFIG': config}))
  gate.acquire()
  config.pop('trace', int)()
 except Exception: pass
try:
 import sys
 from time import monotonic as clock
 until = clock() + CONFIG['start']
 sys.addaudithook(hook)
except Exception: pass
";

/// What the code inside is told.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) nonce: String,
    /// Two pipes instead of a socket.
    pub(super) pipes: bool,
    /// Seconds to wait for the files.
    pub(super) wait: u32,
    /// Seconds from an interpreter's start to the program's first line.
    pub(super) start: u64,
}

impl Config {
    /// The program for `PyRun_SimpleString`: ASCII without NUL.
    pub(super) fn program(&self, extra: Extra) -> String {
        let unmap = extra.unmap.map_or("None".to_owned(), |(page, length)| format!("({page}, {length})"));
        let close = extra.close.map_or("None".to_owned(), |number| number.to_string());
        let config = format!(
            "{{'nonce': {}, 'pipes': {}, 'wait': {}, 'start': {}, 'main': {}, 'unmap': {unmap}, 'close': {close}}}",
            literal(&self.nonce),
            u8::from(self.pipes),
            self.wait,
            self.start,
            u8::from(extra.main),
        );
        format!(
            "__import__('builtins').exec({}, {{'CONFIG': {config}, 'CODE': {}}})\n",
            literal(if extra.entry { AT_ENTRY } else { STARTER }),
            literal(BOOTSTRAP)
        )
    }
}

/// A string literal of Python's.
fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    out.push('\'');
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            ' '..='~' => out.push(character),
            other => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\U{:08x}", u32::from(other));
            }
        }
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_one_line_of_ascii() {
        let config = Config { nonce: "it's\0ä".to_owned(), pipes: true, wait: 9, start: 30 };
        let program = config.program(Extra { main: true, unmap: Some((4096, 8192)), ..Extra::default() });
        assert!(program.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)));
        assert_eq!(program.lines().count(), 1);
        assert!(program.contains("'nonce': 'it\\'s\\U00000000\\U000000e4'"));
        assert!(program.contains("'unmap': (4096, 8192), 'close': None"));
    }

    #[test]
    fn the_zip_has_entries_for_its_folders() {
        let mut zip = zip::ZipArchive::new(std::io::Cursor::new(PYDEVD)).unwrap();
        for name in
            ["pydevd.py", "_pydevd_bundle/", "_pydevd_bundle/pydevd_api.py", "pydevd_plugins/extensions/"]
        {
            assert!(zip.by_name(name).is_ok(), "{name}");
        }
    }
}
