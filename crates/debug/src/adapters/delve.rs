//! delve, for Go.
//!
//! Guarded, its lldb backend speaks to `lldb-server` through the relay. That backend starts the stub by itself and dials a
//! port of 127.0.0.1, once at once and then each second: its first call is held until the stand-in in its PATH
//! ([`crate::guard::door`]), which is what it finds, listens. Its own backend owns ptrace: there the text guard watches.

use std::{fs, io, time::Duration};

use async_trait::async_trait;
use pepo_process::runtime::{Language, RuntimeFacts};
use pepo_wire::{Code, Failure};
use serde_json::json;

use super::{
    Dap, Launch, debug_folders, fits_sight, home, launch, listen, program, protection, relay, target_files,
};
use crate::{
    debugger::{AttachRequest, Attached, Debugger, DebuggerFacts, Fit, GuardChoice, GuardKind, Stands},
    guard::{
        control::{Needs, Protect, StubKind},
        door,
        handle::Waiting,
    },
    tools::{Tool, Tools},
};

static FACTS: DebuggerFacts = DebuggerFacts {
    name: "delve",
    summary: "Go, by delve",
    languages: &[Language::Go],
    tool: Some("delve"),
    memory: 160 << 20,
    guard: GuardChoice::On,
    // Its console has a word of its own (`dlv`) beside expressions.
    repl_is_raw: false,
    ends_at_unknown: false,
    raw_words: &["dlv ", "dlv\t"],
    stands: Stands::ByThreadState,
};

/// delve.
#[derive(Debug)]
pub struct Delve;

#[async_trait]
impl Debugger for Delve {
    fn facts(&self) -> &'static DebuggerFacts {
        &FACTS
    }

    fn fits(&self, runtime: &RuntimeFacts, tools: &Tools) -> Fit {
        if runtime.language != Language::Go {
            return Fit::No(Failure::new(Code::RuntimeUnsupported, "delve debugs Go programs only"));
        }
        let checked = program("dlv", tools).and_then(|tool| {
            let too_old = |failure| tools.remedy(failure, "install a newer one", FACTS.name);
            let mut warnings = fits_go(&tool, runtime.version.as_deref()).map_err(too_old)?;
            warnings.extend(fits_sight(runtime)?);
            Ok(warnings)
        });
        match checked {
            Ok(warnings) => Fit::Yes(warnings),
            Err(failure) => Fit::No(failure),
        }
    }

    async fn attach(
        &self,
        request: &AttachRequest<'_>,
        waiting: Option<Waiting>,
    ) -> Result<Attached, Failure> {
        let tool = program("dlv", request.tools)?;
        let (guard, stub, warnings) = protection(request.guard, FACTS.guard, "lldb-server", request.tools)?;
        let dap = request.run_dir.join("dap.sock");
        configure(request, stub.is_some()).map_err(|error| {
            Failure::new(Code::Internal, "delve's configuration could not be written").because_of(&error)
        })?;
        let mut env = Vec::new();
        let mut needs = Needs { sockets: vec![dap.clone()], ..Needs::default() };
        let mut files = vec![dap.clone()];
        let protect = match &stub {
            Some(stub) => {
                let (protect, socket) = relay(request, StubKind::LldbServer, stub);
                let bin = request.run_dir.join("bin");
                let stand_in = door::install(&bin, request.self_exe).map_err(|error| {
                    Failure::new(Code::Internal, "the stand-in for lldb-server could not be written")
                        .because_of(&error)
                })?;
                // The stand-in connects to the relay, delve to the stand-in.
                needs.program = Some(stand_in);
                needs.sockets.push(socket.clone());
                needs.dials_stub = true;
                env.push(("PATH".to_owned(), bin.display().to_string()));
                env.push((door::SOCKET.to_owned(), socket.display().to_string()));
                files.extend([bin, socket]);
                protect
            }
            None => Protect::Text,
        };
        let backend = if guard == GuardKind::Relay { "lldb" } else { "native" };
        let version = tool.version_text();
        let args = vec![
            "dap".to_owned(),
            "--check-go-version=false".to_owned(),
            format!("--client-addr=unix:{}", dap.display()),
        ];
        let dap = Dap::Dials(listen(&dap)?);
        let started = Launch { tool, args, env, dap, ends_on_sigterm: true, needs, protect, files };
        let (io, handle) = launch(request, waiting, started).await?;
        Ok(Attached {
            io,
            attach_arguments: json!({
                "mode": "local",
                "processId": request.process.pid().get(),
                "backend": backend,
                "stopOnEntry": false,
            }),
            initialize_arguments: json!({"adapterID": "go"}),
            guard,
            version,
            stood_still: Duration::ZERO,
            warnings,
            quirks: Vec::new(),
            hold: Box::new(handle),
        })
    }
}

/// Where debug files are can be told to delve by its configuration alone. And Go's telemetry is off: the process that delve would
/// start for it outlives everyone, and in the target's PID namespace it would become the target's child.
fn configure(request: &AttachRequest<'_>, relayed: bool) -> io::Result<()> {
    let write = |file: &str, text: &str| {
        let file = home(request.run_dir).join(file);
        fs::create_dir_all(file.parent().unwrap_or(request.run_dir))?;
        fs::write(file, text)
    };
    let (_, root) = target_files(request, relayed);
    // A YAML list may be written as JSON.
    write("dlv/config.yml", &json!({"debug-info-directories": debug_folders(request, &root)}).to_string())?;
    write("go/telemetry/mode", "off")
}

/// delve 1.N reads what Go up to 1.N writes; of a newer Go it silently shows no variables. Of one more than two versions older
/// it makes no promise.
fn fits_go(tool: &Tool, go: Option<&str>) -> Result<Vec<Failure>, Failure> {
    let go = go.and_then(crate::tools::Version::find);
    let (Some(delve), Some(go)) = (&tool.version, go) else { return Ok(Vec::new()) };
    if go.pair() > delve.pair() {
        return Err(Failure::new(
            Code::ToolTooOld,
            format!("delve {delve} is too old for a program of Go {go}"),
        )
        .because(format!(
            "it would silently show no variables; version {}.{} or newer is needed",
            go.part(0),
            go.part(1)
        )));
    }
    if go.part(1) + 2 < delve.part(1) {
        return Ok(vec![
            Failure::new(
                Code::RuntimeUnsupported,
                format!("Go {go} is older than delve {delve} promises to support"),
            )
            .because("it usually works"),
        ]);
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::Version;

    fn check(delve: &str, go: &str) -> Result<usize, Code> {
        let tool = Tool { path: "dlv".into(), version: Version::find(delve), folder: "/".into() };
        fits_go(&tool, Some(go)).map(|warnings| warnings.len()).map_err(|failure| failure.code())
    }

    #[test]
    fn versions_of_delve_and_go_are_compared_before_attaching() {
        assert_eq!(check("1.27.2", "1.27.0"), Ok(0));
        assert_eq!(check("1.27.2", "go1.25.3"), Ok(0));
        assert_eq!(check("1.27.2", "1.19.8"), Ok(1));
        assert_eq!(check("1.24.0", "1.26.8"), Err(Code::ToolTooOld));
        assert_eq!(check("1.27.2", "devel"), Ok(0));
    }
}
