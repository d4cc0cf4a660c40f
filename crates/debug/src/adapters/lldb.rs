//! LLDB's lldb-dap, for C, C++ and Rust.
//!
//! Guarded, it connects through the relay to `lldb-server`, and executable and root of the target are handed to it
//! ([`crate::guard::files`]); unguarded LLDB starts that stub itself, whose death is the target's, and finds them below
//! `/proc/PID`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use pepo_process::runtime::{Language, RuntimeFacts};
use pepo_wire::Failure;
use serde_json::json;

use super::{Dap, Launch, debug_folders, fits_native, launch, program, protection, relay, target_files};
use crate::{
    debugger::{AttachRequest, Attached, Debugger, DebuggerFacts, Fit, GuardChoice, Stands},
    guard::{
        control::{Needs, Protect, StubKind},
        handle::Waiting,
        request::SETTLED,
    },
    tools::{Tool, Tools},
};

/// How often at most LLDB waits a moment for its own thread; see [`SETTLED`].
const SETTLES: usize = 30;

/// Names LLDB's own stub in its environment.
const OWN_STUB: &str = "LLDB_DEBUGSERVER_PATH";

static FACTS: DebuggerFacts = DebuggerFacts {
    name: "lldb",
    summary: "C, C++ and Rust, by LLDB",
    languages: &[Language::Native],
    tool: Some("lldb"),
    memory: 320 << 20,
    guard: GuardChoice::On,
    repl_is_raw: true,
    ends_at_unknown: true,
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

    async fn attach(
        &self,
        request: &AttachRequest<'_>,
        waiting: Option<Waiting>,
    ) -> Result<Attached, Failure> {
        let tool = program("lldb-dap", request.tools)?;
        let (guard, stub, warnings) = protection(request.guard, FACTS.guard, "lldb-server", request.tools)?;
        let (exe, root) = target_files(request, stub.is_some());
        let mut attach = json!({
            "program": exe,
            "initCommands": settings(&root, request),
            "stopOnEntry": false,
            // The interrupt that lets a breakpoint be set in a running target is a SIGSTOP; it is nobody's business.
            "postRunCommands": ["?process handle SIGSTOP -s false -p false -n false"],
        });
        let mut needs = Needs::default();
        let mut env = Vec::new();
        let mut files = Vec::new();
        let protect = match &stub {
            Some(stub) => {
                let (protect, socket) = relay(request, StubKind::LldbServer, stub);
                attach["attachCommands"] = json!(connects_to(&socket));
                needs.sockets.push(socket.clone());
                files.push(socket);
                protect
            }
            None => {
                attach["pid"] = json!(request.process.pid().get());
                if let Some(own) = own_stub(&tool, request.tools) {
                    env.push((OWN_STUB.to_owned(), own.display().to_string()));
                    needs.program = Some(own);
                }
                Protect::Text
            }
        };
        let version = tool.version_text();
        let started = Launch {
            tool,
            args: Vec::new(),
            env,
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

/// Commands that attach through the relay.
fn connects_to(socket: &Path) -> Vec<String> {
    let connect = format!("process connect --plugin gdb-remote unix-connect://{}", socket.display());
    // `?` keeps a command out of the console.
    let settled = format!("?process plugin packet send {SETTLED}");
    [connect].into_iter().chain(vec![settled; SETTLES]).collect()
}

/// The stub that LLDB starts by itself: the one we know, else the one beside it.
fn own_stub(adapter: &Tool, tools: &Tools) -> Option<PathBuf> {
    let beside = || Some(std::fs::canonicalize(&adapter.path).ok()?.with_file_name("lldb-server"));
    tools.find("lldb-server").map(|tool| tool.path).or_else(beside)
}

/// Settings before the target is made: nobody's start files, nothing from the network, libraries of the target's own root.
fn settings(root: &str, request: &AttachRequest<'_>) -> Vec<String> {
    // LLDB would know each library of our own root by two paths, and read it twice with its debug file.
    let root = if request.process.shares_our_root() { "" } else { root };
    vec![
        "settings set symbols.enable-external-lookup false".to_owned(),
        "settings set target.load-cwd-lldbinit false".to_owned(),
        format!("settings set target.exec-search-paths {}", library_folders(root).join(" ")),
        format!("settings set target.debug-file-search-paths {}", debug_folders(request, root).join(" ")),
    ]
}

/// Where a target's libraries usually are, as this side sees them.
fn library_folders(root: &str) -> Vec<String> {
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
    .map(|folder| format!("{root}/{folder}"))
    .collect()
}
