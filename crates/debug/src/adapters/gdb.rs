//! gdb 14 and newer, which speaks DAP itself.
//!
//! Guarded, it attaches through the relay to `gdbserver`; unguarded it owns ptrace. Executable and root of the target are handed
//! to it ([`crate::guard::files`]) or named below `/proc/PID`: through the stub (`target:`) gdb 16 finds no symbols of a process in another
//! mount namespace.

use std::time::Duration;

use async_trait::async_trait;
use pepo_process::runtime::{Language, RuntimeFacts};
use pepo_wire::Failure;
use serde_json::{Value, json};

use super::{Dap, Launch, debug_folders, fits_native, launch, program, protection, relay, target_files};
use crate::{
    debugger::{AttachRequest, Attached, Debugger, DebuggerFacts, Fit, GuardChoice, Stands},
    guard::{
        control::{Needs, Protect, StubKind},
        handle::Waiting,
    },
    tools::Tools,
};

static FACTS: DebuggerFacts = DebuggerFacts {
    name: "gdb",
    summary: "C, C++ and Rust, by gdb",
    languages: &[Language::Native],
    tool: Some("gdb"),
    memory: 256 << 20,
    guard: GuardChoice::On,
    repl_is_raw: true,
    ends_at_unknown: false,
    raw_words: &["$_shell", "$_gdb_setting", "$_as_string", "$_caller"],
    stands: Stands::ByThreadState,
};

/// gdb.
#[derive(Debug)]
pub struct Gdb;

#[async_trait]
impl Debugger for Gdb {
    fn facts(&self) -> &'static DebuggerFacts {
        &FACTS
    }

    fn fits(&self, runtime: &RuntimeFacts, tools: &Tools) -> Fit {
        fits_native("gdb", runtime, tools)
    }

    async fn attach(
        &self,
        request: &AttachRequest<'_>,
        waiting: Option<Waiting>,
    ) -> Result<Attached, Failure> {
        let tool = program("gdb", request.tools)?;
        let (guard, stub, warnings) = protection(request.guard, FACTS.guard, "gdbserver", request.tools)?;
        let pid = request.process.pid().get();
        let (exe, root) = target_files(request, stub.is_some());
        let mut needs = Needs::default();
        let mut files = Vec::new();
        let (protect, attach): (Protect, Value) = match &stub {
            Some(stub) => {
                let (protect, socket) = relay(request, StubKind::Gdbserver, stub);
                let target = json!({"target": socket, "program": exe});
                needs.sockets.push(socket.clone());
                files.push(socket);
                (protect, target)
            }
            None => (Protect::Text, json!({"pid": pid, "program": exe})),
        };
        let version = tool.version_text();
        let started = Launch {
            tool,
            args: arguments(&root, request),
            env: Vec::new(),
            dap: Dap::Stdio,
            ends_on_sigterm: false,
            needs,
            protect,
            files,
        };
        let (io, handle) = launch(request, waiting, started).await?;
        Ok(Attached {
            io,
            attach_arguments: attach,
            initialize_arguments: json!({"adapterID": "gdb"}),
            guard,
            version,
            stood_still: Duration::ZERO,
            warnings,
            quirks: vec!["continue-after-attach", "breakpoints-verify-late", "paths-by-suffix"],
            hold: Box::new(handle),
        })
    }
}

/// Settings before anything is loaded: nobody's start files, nothing from the network, no questions.
///
/// Through a stub gdb could set no breakpoint while the target runs, but for the protocol's non-stop mode. It must not step
/// copies of instructions at another place: a thread that is let go there would run into what is not its own text.
fn arguments(root: &str, request: &AttachRequest<'_>) -> Vec<String> {
    let settings = vec![
        "set debuginfod enabled off".to_owned(),
        "set auto-load off".to_owned(),
        "set confirm off".to_owned(),
        "set startup-with-shell off".to_owned(),
        "maint set target-non-stop on".to_owned(),
        "set displaced-stepping off".to_owned(),
        // A program that was held at its start goes on by it.
        "python gdb.execute('handle SIGCONT nostop noprint pass', to_string=True)".to_owned(),
        format!("set sysroot {root}"),
        format!("set debug-file-directory {}", debug_folders(request, root).join(":")),
    ];
    let settings = settings.into_iter().flat_map(|setting| ["-iex".to_owned(), setting]);
    ["-nx", "-q", "-i=dap"].map(str::to_owned).into_iter().chain(settings).collect()
}
