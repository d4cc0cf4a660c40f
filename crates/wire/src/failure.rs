//! Stable error codes, their exit statuses, and failures with hints, as data.
//!
//! One table owns every code. The command alone renders them; gRPC carries them in the details of a status.

use std::fmt;

use prost::Message as _;

pub use crate::agent::{Failure, Hint};

/// Exit statuses of the command. One table for all verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// The answer is a "no" that was asked for (`check`).
    No = 1,
    /// The command line was not understood.
    Usage = 2,
    /// No target, or more than one, answers to the name.
    Target = 3,
    /// A right is missing.
    Permission = 4,
    /// An engine, an agent or a stream could not be reached.
    Unreachable = 5,
    /// The target cannot be treated so (no debug information, unsupported runtime).
    Unsupported = 6,
    /// A tool is missing or too old.
    Tool = 7,
    /// Time or a budget ran out.
    Limit = 8,
    /// A fault of ours.
    Internal = 70,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $exit:ident;)+) => {
        /// Stable error codes. The number never changes its meaning; a page in `docs/errors` explains each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Code { $($(#[doc = $doc])+ $name = $number,)+ }

        impl Code {
            /// All codes, by number.
            pub const ALL: &'static [Code] = &[$(Code::$name,)+];

            /// The exit status of the command that ends with this code.
            #[must_use]
            pub fn exit(self) -> Exit {
                match self { $(Code::$name => Exit::$exit,)+ }
            }

            /// The variant's name: how tests and JSON call it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Code::$name => stringify!($name),)+ }
            }

            /// What it means and what to do about it; the text of its page in `docs/errors`.
            #[must_use]
            pub fn page(self) -> &'static str {
                match self { $(Code::$name => concat!($($doc, "\n"),+),)+ }
            }

            /// The code with this number.
            #[must_use]
            pub fn from_number(number: u32) -> Option<Code> {
                match number { $($number => Some(Code::$name),)+ _ => None }
            }
        }
    };
}

codes! {
    /// A fault inside Pepo.
    ///
    /// The target runs on. Please report it with the whole message.
    Internal = 1, Internal;
    /// The command line is not understood.
    ///
    /// `pepo help VERB` shows the flags and examples.
    Usage = 2, Usage;
    /// Client and agent speak versions of the protocol that have nothing in common.
    ///
    /// Renew the older side; the message says which one it is. Each side accepts the version before its own.
    VersionMismatch = 3, Unreachable;
    /// The agent does not know this call.
    ///
    /// It is older than the command. What it does know still works; renew the agent for the rest.
    NotOffered = 4, Unsupported;
    /// The command was interrupted.
    ///
    /// Whatever it held was let go.
    Interrupted = 5, Limit;

    /// No target answers to the name.
    ///
    /// `pepo ps` lists every name that works. Names that came close are listed in the message.
    TargetNotFound = 101, Target;
    /// More than one target answers to the name.
    ///
    /// The message lists them; write the platform before the name, as in `docker/shop`.
    TargetAmbiguous = 102, Target;
    /// No process in the target fits the selector.
    ///
    /// The message lists the processes there are. `--process` is a regular expression on name and command line.
    ProcessNotFound = 103, Target;
    /// More than one process in the target fits.
    ///
    /// The message lists them; choose with `--process REGEX` or `--pid N` (as seen in the container).
    ProcessAmbiguous = 104, Target;
    /// The process has ended.
    ///
    /// If it restarts all the time, hold its next start.
    ProcessGone = 105, Target;
    /// The container is not running.
    ///
    /// Only a running container has processes to look at.
    NotRunning = 106, Target;
    /// The process id cannot be proven to be the target's.
    ///
    /// The engine is on another machine, or the number was reused: container id, namespaces and start time do not
    /// agree. Pepo never touches a process it cannot prove.
    PidNotProven = 107, Target;
    /// A file is not there in the target.
    ///
    /// Paths are as the target sees them.
    FileNotFound = 108, Target;
    /// The name of a target is not well formed.
    ///
    /// Names are `NAME`, `docker/NAME`, `podman/NAME`, `cri/NAME`, `pid/NUMBER`, `pod/NAME[/CONTAINER]`, `deploy/NAME`, `sts/NAME`, `ds/NAME`,
    /// `rs/NAME`, `job/NAME` or `svc/NAME`.
    BadName = 109, Usage;

    /// The process has no debug information.
    ///
    /// Build with it (`-g`; Go: without `-ldflags=-w`), or give its debug file, or the program before it was stripped, with `--symbols PATH`.
    NoDebugInfo = 112, Unsupported;
    /// No debugger of Pepo's fits this runtime.
    ///
    /// `pepo tools` lists the debuggers and what each is for; `--debugger` overrides the choice.
    NoDebugger = 113, Unsupported;
    /// The runtime's version is outside what the debugger supports.
    ///
    /// The message names both versions.
    RuntimeUnsupported = 114, Unsupported;
    /// Another debugger already holds the process.
    ///
    /// Linux allows one tracer. `pepo sessions` shows which; `pepo release TARGET` lets go.
    AlreadyTraced = 115, Permission;
    /// The state of the process does not allow it now.
    ///
    /// For example a thread inside the allocator, a signal handler or the import lock. Try again in a moment.
    NotNow = 116, Limit;
    /// The debugger does not offer this.
    ///
    /// Debuggers differ in what they can do; the message names what was asked for.
    NotInDebugger = 117, Unsupported;
    /// An expression or command was refused by the debugger.
    ///
    /// The message holds the debugger's own words.
    DebuggerRefused = 118, Unsupported;
    /// The server has no attachment or debug request of this name.
    ///
    /// It never had, it was removed, or you may not look at it. `pepo attachments list` and `pepo requests list` show what there is.
    ObjectNotFound = 119, Target;
    /// What was to be changed is another by now, or exists already.
    ///
    /// Somebody else was first. Look at it again, and decide again.
    Conflict = 120, Unsupported;
    /// The server does not keep changes from so long ago.
    ///
    /// List again, and watch from the version that the list names.
    VersionGone = 121, Unsupported;

    /// A capability is missing.
    ///
    /// The message names it and the smallest change that would grant it.
    NeedsCapability = 201, Permission;
    /// Yama forbids ptrace between these processes.
    ///
    /// `/proc/sys/kernel/yama/ptrace_scope` restricts who may trace whom (Linux: Documentation/admin-guide/LSM/Yama.rst).
    Yama = 202, Permission;
    /// A seccomp filter forbids a system call that is needed.
    ///
    /// The container that runs the agent has a filter; the message names the call.
    Seccomp = 203, Permission;
    /// The process belongs to another user or user namespace.
    ///
    /// Run as that user or as root of a user namespace that owns the process.
    OtherUser = 204, Permission;
    /// A security module (SELinux, AppArmor) refuses.
    ///
    /// The message names the module and the label.
    SecurityModule = 205, Permission;
    /// The process made itself untouchable (not dumpable).
    ///
    /// See prctl(2), PR_SET_DUMPABLE; only CAP_SYS_PTRACE passes.
    NotDumpable = 206, Permission;
    /// The session's grant does not include the right.
    ///
    /// `look`, `stop`, `modify` and `raw` are granted one by one when the session is opened.
    NotGranted = 207, Permission;
    /// A file or folder may not be read or written.
    ///
    /// The message names it and the user that tried.
    FileDenied = 208, Permission;
    /// The engine's socket may not be used by this user.
    ///
    /// Join the engine's group, use its rootless socket, or run as root.
    SocketDenied = 209, Permission;
    /// A right in the cluster is missing (RBAC).
    ///
    /// The message names the verb and the resource, and the command by which an administrator grants it. What each verb needs is in
    /// SECURITY.md.
    ClusterDenied = 210, Permission;
    /// The cluster does not admit a helper into the pod.
    ///
    /// The message holds the words of its admission (PodSecurity, a quota, a policy) for each shape of a helper that was asked for.
    NotAdmitted = 211, Permission;

    /// No container engine was found on this machine.
    ///
    /// The message lists where it was looked for; `DOCKER_HOST`, `--cri-socket` and `--on` say where else.
    NoEngine = 301, Unreachable;
    /// An engine did not answer.
    ///
    /// The message names its address and what came back.
    EngineUnreachable = 302, Unreachable;
    /// The engine answered with an error.
    ///
    /// The message holds the engine's own words.
    EngineRefused = 303, Unreachable;
    /// The agent could not be started beside the target.
    ///
    /// The message says at which step it failed; what was made for it has been removed. An ephemeral container in a pod cannot be removed:
    /// it stays listed there, and does nothing.
    AgentNotStarted = 304, Unreachable;
    /// The stream to the agent broke.
    ///
    /// The agent lets the target go by itself.
    StreamBroken = 305, Unreachable;
    /// This cannot be reached from here.
    ///
    /// The message names what would make it reachable.
    NotReachable = 306, Unreachable;

    /// A debugger is not installed where it is needed.
    ///
    /// `pepo tools` lists where it was looked for, `pepo tools install NAME` installs it.
    ToolMissing = 401, Tool;
    /// A debugger is too old for this target.
    ///
    /// The message names the version needed.
    ToolTooOld = 402, Tool;
    /// A debugger ended while it was needed.
    ///
    /// The message holds its last words. The target was let go.
    ToolDied = 403, Tool;
    /// A debugger's answer could not be understood.
    ///
    /// The message quotes it.
    ToolConfused = 404, Tool;

    /// Something did not answer in time.
    ///
    /// The message names what was waited for and for how long. On a busy machine the same command may well answer the next time; what
    /// was held for it is let go.
    TimedOut = 501, Limit;
    /// The pause budget is spent: the target runs again.
    ///
    /// All breakpoints were cleared. Arm them again, or open the session with a longer `--pause-budget`.
    BudgetSpent = 502, Limit;
    /// The session's lease ended: no sign of life came from the client.
    ///
    /// The target was let go.
    LeaseLost = 503, Limit;
    /// There is not enough memory headroom in the cgroup the debugger would run in.
    ///
    /// A debugger started there could get the target killed. Raise the limit, or debug from outside the container.
    NoHeadroom = 504, Limit;
    /// Something is larger than Pepo accepts.
    ///
    /// The message names the bound.
    TooLarge = 505, Limit;
}

impl fmt::Display for Code {
    /// `P0112`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P{:04}", *self as u32)
    }
}

impl Failure {
    /// A failure without cause or hint; `what` is a clause in lower case without full stop.
    pub fn new(code: Code, what: impl Into<String>) -> Failure {
        Failure { code: code as u32, what: what.into(), why: Vec::new(), hints: Vec::new() }
    }

    /// Adds a cause; call from the outermost to the innermost.
    #[must_use]
    pub fn because(mut self, why: impl fmt::Display) -> Failure {
        self.why.push(why.to_string());
        self
    }

    /// Adds every cause of `error`, itself first.
    #[must_use]
    pub fn because_of(mut self, error: &dyn std::error::Error) -> Failure {
        let mut cause = Some(error);
        while let Some(error) = cause {
            let text = error.to_string();
            if self.why.last() != Some(&text) {
                self.why.push(text);
            }
            cause = error.source();
        }
        self
    }

    /// Adds a hint in words.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Failure {
        self.hints.push(Hint { text: text.into(), command: Vec::new() });
        self
    }

    /// Adds a hint with the exact command to run.
    #[must_use]
    pub fn try_command<I, S>(mut self, text: impl Into<String>, command: I) -> Failure
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.hints.push(Hint { text: text.into(), command: command.into_iter().map(Into::into).collect() });
        self
    }

    /// The code; a number from a newer side that this build does not know counts as internal.
    #[must_use]
    pub fn code(&self) -> Code {
        Code::from_number(self.code).unwrap_or(Code::Internal)
    }

    /// As a gRPC status: the code by [`grpc_code`], the failure itself in the details.
    #[must_use]
    pub fn into_status(self) -> tonic::Status {
        let details = self.encode_to_vec();
        tonic::Status::with_details(grpc_code(self.code()), self.to_string(), details.into())
    }

    /// What a gRPC status says: the failure in its details, else the best reading of its code.
    #[must_use]
    pub fn from_status(status: &tonic::Status) -> Failure {
        if let Ok(failure) = Failure::decode(status.details())
            && failure.code != 0
        {
            return failure;
        }
        let code = match status.code() {
            tonic::Code::Unimplemented => Code::NotOffered,
            tonic::Code::DeadlineExceeded => Code::TimedOut,
            tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown => Code::StreamBroken,
            tonic::Code::ResourceExhausted | tonic::Code::OutOfRange => Code::TooLarge,
            tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => Code::NotGranted,
            _ => Code::Internal,
        };
        Failure::new(code, "the agent did not answer as expected").because(status.message())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for why in &self.why {
            write!(f, ": {why}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Anything that can be told to a person as a [`Failure`]; each room's error enum implements it.
pub trait FailureExt {
    /// The failure with code, causes and hints.
    fn failure(&self) -> Failure;
}

/// Where the codes meet gRPC's (google/rpc/code.proto). The only such table.
#[must_use]
pub fn grpc_code(code: Code) -> tonic::Code {
    match code {
        Code::VersionMismatch | Code::NotRunning => tonic::Code::FailedPrecondition,
        Code::NotOffered => tonic::Code::Unimplemented,
        _ => match code.exit() {
            Exit::Usage => tonic::Code::InvalidArgument,
            Exit::Target => tonic::Code::NotFound,
            Exit::Permission => tonic::Code::PermissionDenied,
            Exit::Unreachable => tonic::Code::Unavailable,
            Exit::Limit => tonic::Code::ResourceExhausted,
            Exit::No | Exit::Unsupported | Exit::Tool => tonic::Code::FailedPrecondition,
            Exit::Internal => tonic::Code::Internal,
        },
    }
}

/// Where the codes meet HTTP's (RFC 9110). The only such table.
#[must_use]
pub fn http_status(code: Code) -> u16 {
    match code {
        Code::Conflict => 409,
        Code::VersionGone => 410,
        Code::TooLarge => 413,
        Code::NotOffered => 501,
        Code::TimedOut => 504,
        _ => match code.exit() {
            Exit::Usage => 400,
            Exit::Target => 404,
            Exit::Permission => 403,
            Exit::Unreachable => 503,
            Exit::Limit => 429,
            Exit::No | Exit::Unsupported | Exit::Tool => 422,
            Exit::Internal => 500,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_way_over_grpc() {
        let failure = Failure::new(Code::NoDebugInfo, "the binary has no debug information")
            .because("no .debug_info section")
            .try_command("give the debug file", ["pepo", "attach", "x", "--symbols", "dir"]);
        let status = failure.clone().into_status();
        assert_eq!(status.code(), tonic::Code::FailedPrecondition);
        assert_eq!(Failure::from_status(&status), failure);
    }

    #[test]
    fn a_status_without_details_still_has_a_code() {
        for (grpc, code) in [
            (tonic::Code::Unimplemented, Code::NotOffered),
            (tonic::Code::Unavailable, Code::StreamBroken),
            (tonic::Code::DeadlineExceeded, Code::TimedOut),
            (tonic::Code::DataLoss, Code::Internal),
        ] {
            assert_eq!(Failure::from_status(&tonic::Status::new(grpc, "x")).code(), code);
        }
    }

    #[test]
    fn every_code_has_a_page_of_a_title_and_advice_and_a_number_of_its_own() {
        let mut numbers = std::collections::HashSet::new();
        for &code in Code::ALL {
            assert!(numbers.insert(code as u32), "{code} twice");
            assert_eq!(Code::from_number(code as u32), Some(code));
            let lines: Vec<_> = code.page().lines().map(str::trim).collect();
            assert!(lines.len() >= 3 && lines[1].is_empty(), "{code}: {lines:?}");
            assert!(lines[0].ends_with('.'), "{code}: {lines:?}");
        }
    }
}
