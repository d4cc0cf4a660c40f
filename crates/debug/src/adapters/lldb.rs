//! LLDB's lldb-dap, for C, C++ and Rust.
//!
//! Guarded, it connects through the relay to `lldb-server`; unguarded LLDB starts that stub itself, and its death is the
//! target's. The executable is named by `/proc/PID/exe`, libraries are found below `/proc/PID/root`.

use std::time::Duration;

use async_trait::async_trait;
use pepo_process::runtime::{Language, RuntimeFacts};
use pepo_wire::Failure;
use serde_json::json;

use super::{Dap, Launch, fits_native, launch, program, protection, relay};
use crate::{
    debugger::{AttachRequest, Attached, Debugger, DebuggerFacts, Fit, GuardChoice, GuardKind, Stands},
    guard::{
        control::{Protect, StubKind},
        request::SETTLED,
    },
    tools::Tools,
};

/// How often at most LLDB waits a moment for its own thread; see [`SETTLED`].
const SETTLES: usize = 30;

static FACTS: DebuggerFacts = DebuggerFacts {
    name: "lldb",
    summary: "C, C++ and Rust, by LLDB",
    languages: &[Language::Native],
    tool: Some("lldb"),
    memory: 320 << 20,
    guard: GuardChoice::On,
    repl_is_raw: true,
    // A line that begins so is a command of LLDB's own wherever an expression is expected.
    raw_words: &["`"],
    stands: Stands::ByThreadState,
};

/// lldb-dap.
#[derive(Debug)]
pub struct Lldb;

#[async_trait]
impl Debugger for Lldb {
    fn facts(&self) -> &'static DebuggerFacts {
        &FACTS
    }

    fn fits(&self, runtime: &RuntimeFacts, tools: &Tools) -> Fit {
        fits_native("lldb-dap", runtime, tools)
    }

    async fn attach(&self, request: &AttachRequest<'_>) -> Result<Attached, Failure> {
        let tool = program("lldb-dap", request.tools)?;
        let (guard, stub, warnings) = protection(request.guard, FACTS.guard, "lldb-server", request.tools)?;
        let pid = request.process.pid().get();
        let mut attach = json!({
            "program": format!("/proc/{pid}/exe"),
            "initCommands": settings(pid, request),
            "stopOnEntry": false,
            // The interrupt that lets a breakpoint be set in a running target is a SIGSTOP; it is nobody's business.
            "postRunCommands": ["?process handle SIGSTOP -s false -p false -n false"],
        });
        let mut files = Vec::new();
        let protect = match &stub {
            Some(stub) => {
                let (protect, socket) = relay(request, StubKind::LldbServer, stub);
                let connect =
                    format!("process connect --plugin gdb-remote unix-connect://{}", socket.display());
                // `?` keeps a command out of the console.
                let settled = format!("?process plugin packet send {SETTLED}");
                let commands: Vec<_> = [connect].into_iter().chain(vec![settled; SETTLES]).collect();
                attach["attachCommands"] = json!(commands);
                files.push(socket);
                protect
            }
            None => {
                attach["pid"] = json!(pid);
                if guard == GuardKind::Text { Protect::Text } else { Protect::Off }
            }
        };
        let version = tool.version_text();
        let started = Launch {
            tool,
            args: Vec::new(),
            env: Vec::new(),
            dap: Dap::Stdio,
            ends_on_sigterm: false,
            protect,
            files,
        };
        let (io, handle) = launch(request, started).await?;
        Ok(Attached {
            io,
            attach_arguments: attach,
            initialize_arguments: json!({"adapterID": "lldb-dap"}),
            guard,
            version,
            stood_still: Duration::ZERO,
            warnings,
            quirks: vec!["paths-by-suffix"],
            hold: Box::new(handle),
        })
    }
}

/// Settings before the target is made: nobody's start files, nothing from the network, libraries of the target's own root.
fn settings(pid: u32, request: &AttachRequest<'_>) -> Vec<String> {
    let mut settings = vec![
        "settings set symbols.enable-external-lookup false".to_owned(),
        "settings set target.load-cwd-lldbinit false".to_owned(),
        format!("settings set target.exec-search-paths {}", library_folders(pid).join(" ")),
    ];
    if !request.symbol_folders.is_empty() {
        let folders: Vec<_> =
            request.symbol_folders.iter().map(|folder| folder.display().to_string()).collect();
        settings.push(format!("settings set target.debug-file-search-paths {}", folders.join(" ")));
    }
    settings
}

/// Where a target's libraries usually are, as this side sees them.
fn library_folders(pid: u32) -> Vec<String> {
    [
        "lib",
        "lib64",
        "usr/lib",
        "usr/lib64",
        "usr/local/lib",
        "lib/x86_64-linux-gnu",
        "usr/lib/x86_64-linux-gnu",
    ]
    .iter()
    .map(|folder| format!("/proc/{pid}/root/{folder}"))
    .collect()
}
