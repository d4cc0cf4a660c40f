//! Conditions that are made: each with a real process that is under it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use pepo_testkit::{Fixture, Isolation, Life as _, Symbols, Variant, fixtures};
use tempfile::TempDir;

use super::{
    helper::{NOBODY, Tracer, With, apply_before, is_root, troubles_for},
    *,
};

/// A toolkit with programs that only say their versions.
pub(super) struct Toolkit {
    folder: TempDir,
}

impl Toolkit {
    fn with(programs: &[(&str, &str)]) -> Toolkit {
        let folder = tempfile::tempdir().unwrap();
        for (program, says) in programs {
            let path = folder.path().join(program);
            fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Toolkit { folder }
    }

    pub(super) fn usual() -> Toolkit {
        let lldb = "LLVM version 19.1.7";
        let gdb = "GNU gdb (GDB) 16.3";
        Toolkit::with(&[
            ("lldb-dap", lldb),
            ("lldb-server", lldb),
            ("gdb", gdb),
            ("gdbserver", gdb),
            ("dlv", "Delve Debugger\nVersion: 1.99.0"),
        ])
    }

    pub(super) fn env(&self) -> CheckEnv {
        CheckEnv::new(&Tools::in_folders(Vec::new(), vec![self.folder.path().to_owned()]))
    }
}

fn findings(pid: u32, env: &CheckEnv) -> Vec<Finding> {
    check(&request(pid), env).unwrap().findings
}

/// What stands against a running fixture, with the usual tools.
fn troubles_of(fixture: &Fixture) -> Vec<String> {
    let running = pepo_testkit::spawn(fixture, &["1000"]);
    troubles(&findings(running.pid(), &Toolkit::usual().env()))
}

const NOTHING: [&str; 0] = [];

/// A waiting child that is ended and collected.
struct Waiting(Child);

impl Waiting {
    fn start(with: With) -> Waiting {
        let mut command = pepo_testkit::command("/bin/sleep");
        command.arg("600").stdout(Stdio::null());
        apply_before(&mut command, with);
        Waiting(command.spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits for its state.
    fn until(&self, letter: char) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let text = fs::read(format!("/proc/{}/stat", self.pid())).unwrap();
            let state = pepo_process::stat::Stat::parse(&text).unwrap().state;
            if state.letter() == letter {
                return;
            }
            assert!(std::time::Instant::now() < end, "last state: {state}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

macro_rules! needs_root {
    () => {
        if !is_root() {
            pepo_testkit::skip("check-root", "not root: the condition cannot be made");
            return;
        }
    };
}

#[test]
fn a_program_with_all_it_needs_has_no_troubles() {
    let running = pepo_testkit::spawn(&fixtures::c(Variant::debug()), &["1000"]);
    let response = check(&request(running.pid()), &Toolkit::usual().env()).unwrap();
    assert_eq!(troubles(&response.findings), NOTHING);
    assert_eq!(response.process.unwrap().runtime.unwrap().debugger, "lldb");
}

#[test]
fn debug_information_is_judged_before_attaching() {
    let c = |variant: Variant| troubles_of(&fixtures::c(variant));
    assert_eq!(c(Variant::release()), ["Lost optimised [attach dap] NoDebugInfo"]);
    assert_eq!(c(Variant::debug().symbols(Symbols::Stripped)), ["No debug-info [attach dap] NoDebugInfo"]);
    assert_eq!(c(Variant::debug().symbols(Symbols::NamesOnly)), ["No debug-info [attach dap] NoDebugInfo"]);
    let split = c(Variant::debug().symbols(Symbols::Split));
    assert!(split.is_empty() || split == ["Lost debug-info [attach dap] NoDebugInfo"], "{split:?}");
}

#[test]
fn debuggers_are_compared_with_what_runs() {
    let running = pepo_testkit::spawn(&fixtures::c(Variant::debug()), &["1000"]);
    let with = |programs: &[(&str, &str)]| troubles(&findings(running.pid(), &Toolkit::with(programs).env()));
    assert_eq!(with(&[]), ["No adapter [attach dap] ToolMissing"]);
    // gdb before 14 has no DAP.
    let old = ("gdb", "GNU gdb (Debian 13.1-3) 13.1");
    let request = CheckRequest { debugger: "gdb".into(), ..request(running.pid()) };
    let response = check(&request, &Toolkit::with(&[old]).env()).unwrap();
    assert_eq!(troubles(&response.findings), ["No adapter [attach dap] ToolTooOld"]);
    let unknown = CheckRequest { debugger: "no-such".into(), ..request };
    let response = check(&unknown, &Toolkit::usual().env()).unwrap();
    assert_eq!(troubles(&response.findings), ["No runtime [attach dap] NoDebugger"]);
}

#[test]
fn a_delve_too_old_for_the_program_is_recognised() {
    let running = pepo_testkit::spawn(&fixtures::go(Variant::debug()), &["1000"]);
    let env = Toolkit::with(&[("dlv", "Delve Debugger\nVersion: 1.20.2")]);
    let found = troubles(&findings(running.pid(), &env.env()));
    assert!(found.contains(&"No adapter [attach dap] ToolTooOld".to_owned()), "{found:?}");
}

#[test]
fn a_runtime_without_debugger_is_told() {
    let shell =
        pepo_testkit::command("/bin/sh").args(["-c", "read x"]).stdin(Stdio::piped()).spawn().unwrap();
    let shell = Waiting(shell);
    shell.until('S');
    assert_eq!(
        troubles(&findings(shell.pid(), &Toolkit::usual().env())),
        ["No runtime [attach dap] NoDebugger", "Lost frames [stack top record] RuntimeUnsupported"]
    );
}

#[test]
fn a_stopped_and_an_ended_process_are_told() {
    let mut child = Waiting::start(With::default());
    // Before its own code runs it would count as held at its start.
    child.until('S');
    let process = pepo_process::Process::open(pepo_process::AgentPid::new(child.pid()).unwrap()).unwrap();
    rustix::process::pidfd_send_signal(process.pidfd().unwrap(), rustix::process::Signal::STOP).unwrap();
    child.until('T');
    let found = troubles(&findings(child.pid(), &Toolkit::usual().env()));
    assert!(found.contains(&"Risk state [attach dap] NotNow".to_owned()), "{found:?}");
    child.0.kill().unwrap();
    child.until('Z');
    assert_eq!(
        troubles(&findings(child.pid(), &Toolkit::usual().env())),
        ["No state [stack top record attach dap] ProcessGone"]
    );
}

#[test]
fn a_debugger_that_holds_the_process_is_named() {
    let running = pepo_testkit::spawn(&fixtures::c(Variant::debug()), &["1000"]);
    let tracer = Tracer::of(running.pid());
    let found = findings(running.pid(), &Toolkit::usual().env());
    assert_eq!(troubles(&found), ["No traced [attach dap] AlreadyTraced"]);
    let traced = found.iter().find(|finding| finding.rule == "traced").unwrap();
    assert!(traced.what.contains("held by the debugger") && traced.what.contains("pid "), "{traced:?}");
    assert!(
        traced
            .failure
            .as_ref()
            .unwrap()
            .hints
            .iter()
            .any(|hint| hint.command.get(1).is_some_and(|verb| verb == "release"))
    );
    drop(tracer);
    assert_eq!(troubles(&findings(running.pid(), &Toolkit::usual().env())), NOTHING);
}

#[test]
fn rights_that_are_missing_are_told_by_the_process_that_lacks_them() {
    needs_root!();
    let user = |user| With { user: Some(user), ..With::default() };
    let less = With { without_ptrace: true, ..With::default() };
    let apart = With { user_namespace: true, ..user(NOBODY) };
    let roots = Waiting::start(With::default());
    let nobodys = Waiting::start(user(NOBODY));
    assert_eq!(troubles_for(user(NOBODY), roots.pid()), ["No user [stack top record attach dap] OtherUser"]);
    assert_eq!(
        troubles_for(less, roots.pid()),
        ["No capabilities [stack top record attach dap] NeedsCapability"]
    );
    assert_eq!(
        troubles_for(apart, nobodys.pid()),
        ["No capabilities [stack top record attach dap] NeedsCapability"]
    );
    let sandboxed = With { no_new_privs: true, ..user(NOBODY) };
    assert_eq!(
        troubles_for(sandboxed, roots.pid()),
        ["No user [stack top record attach dap] OtherUser", "Lost no-new-privs [attach dap] NeedsCapability"]
    );
    let filtered = troubles_for(With { filter: true, ..With::default() }, roots.pid());
    assert!(filtered.contains(&"No seccomp [attach dap] Seccomp".to_owned()), "{filtered:?}");
    let lost = "Lost timer [top record] NeedsCapability".to_owned();
    assert!(filtered.contains(&lost), "{filtered:?}");
    let level = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap();
    let same = troubles_for(user(NOBODY), nobodys.pid());
    assert_eq!(same.contains(&lost), level.trim().parse::<i32>().unwrap() > 1, "{same:?}");
}

#[test]
fn a_user_namespace_and_a_process_that_is_not_dumpable_are_told() {
    needs_root!();
    let apart = Waiting::start(With { user: Some(NOBODY), user_namespace: true, ..With::default() });
    let found = lines(&findings(apart.pid(), &Toolkit::usual().env()));
    assert!(found.contains(&"Ok user-namespace [stack top record attach dap]".to_owned()), "{found:?}");
    // A program that only its owner may read makes its process untouchable (prctl(2), PR_SET_DUMPABLE).
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("sleep");
    fs::copy(fs::canonicalize("/bin/sleep").unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o711)).unwrap();
    let mut command = pepo_testkit::command(&program);
    command.arg("600");
    apply_before(&mut command, With { user: Some(NOBODY), ..With::default() });
    let hidden = Waiting(command.spawn().unwrap());
    let found = troubles_for(With { user: Some(NOBODY), ..With::default() }, hidden.pid());
    assert_eq!(found, ["No dumpable [stack top record attach dap] NotDumpable"]);
}

#[test]
fn an_executable_that_may_not_be_read_is_told_with_what_would_open_it() {
    needs_root!();
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("sleep");
    fs::copy(fs::canonicalize("/bin/sleep").unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o711)).unwrap();
    std::os::unix::fs::chown(&program, Some(NOBODY), Some(NOBODY)).unwrap();
    let hidden = Waiting(pepo_testkit::command(&program).arg("600").spawn().unwrap());
    hidden.until('S');
    let found = troubles_for(With { without_files: true, ..With::default() }, hidden.pid());
    let expected = ["No executable [attach dap] FileDenied", "Lost executable [stack top record] FileDenied"];
    assert_eq!(found.iter().filter(|line| !line.contains("timer")).collect::<Vec<_>>(), expected);
    // Whoever may read it is told what debugger fits.
    assert!(
        !troubles(&findings(hidden.pid(), &Toolkit::usual().env()))
            .iter()
            .any(|line| line.contains("executable"))
    );
}

#[test]
fn a_container_with_a_read_only_root_and_its_first_process_are_told() {
    needs_root!();
    let fixture = fixtures::c(Variant::debug().linked_statically());
    let running =
        pepo_testkit::spawn_isolated(&fixture, &["1000"], Isolation { uid: NOBODY, read_only_root: true });
    let found = findings(running.pid(), &Toolkit::usual().env());
    assert_eq!(troubles(&found), NOTHING);
    let lines = lines(&found);
    assert!(lines.contains(&"Ok read-only-root [attach dap]".to_owned()), "{lines:?}");
    assert!(lines.contains(&"Ok init [attach dap]".to_owned()), "{lines:?}");
}

/// A control group with a memory limit, removed with the test.
struct Limited(PathBuf);

impl Limited {
    fn make(bytes: u64) -> Option<Limited> {
        let name = format!("pepo-check-{}", std::process::id());
        let tops = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        tops.into_iter().find_map(|(top, limit)| {
            let folder = Path::new(top).join(&name);
            fs::create_dir(&folder).ok()?;
            let limited = Limited(folder);
            fs::write(limited.0.join(limit), bytes.to_string()).ok()?;
            Some(limited)
        })
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while fs::remove_dir(&self.0).is_err() && std::time::Instant::now() < end {
            std::thread::yield_now();
        }
    }
}

#[test]
fn memory_that_is_short_where_the_debugger_would_run_is_told() {
    let Some(limited) = Limited::make(64 << 20) else {
        pepo_testkit::skip("check-memory-cgroup", "no control group with a memory limit can be made");
        return;
    };
    let running = pepo_testkit::spawn(&fixtures::python(Variant::debug()), &["1000"]);
    fs::write(limited.0.join("cgroup.procs"), running.pid().to_string()).unwrap();
    let limit = limited.0.join(if limited.0.join("memory.max").exists() {
        "memory.max"
    } else {
        "memory.limit_in_bytes"
    });
    let found = |bytes: u64| {
        fs::write(&limit, bytes.to_string()).unwrap();
        let found = findings(running.pid(), &Toolkit::usual().env());
        found.iter().filter(|finding| finding.rule == "headroom").map(line).collect::<Vec<_>>()
    };
    // Memory it had before it came stays counted elsewhere, so nearly all of the limit is free.
    assert_eq!(found(256 << 20), ["Ok headroom [attach dap]"]);
    assert_eq!(found(40 << 20), ["Risk headroom [attach dap] NoHeadroom"]);
    assert_eq!(found(16 << 20), ["No headroom [attach dap] NoHeadroom"]);
    drop(running);
}

#[test]
fn a_jvm_is_said_to_tell_its_frames_or_why_it_will_not() {
    let java = pepo_testkit::javas().pop().unwrap();
    let found = |options: &[&str]| {
        let running = pepo_testkit::spawn_command(&mut java.hot(options, &["steady"]));
        running.wait_started();
        let found = findings(running.pid(), &Toolkit::usual().env());
        found.iter().filter(|finding| finding.rule == "frames").map(line).collect::<Vec<_>>()
    };
    assert_eq!(found(&[]), ["Ok frames [stack]", "Ok frames [top record]"]);
    assert_eq!(found(&["-XX:-EnableDynamicAgentLoading"]), ["Ok frames [stack]", "Ok frames [top record]"]);
    let refused = found(&["-XX:+DisableAttachMechanism"]);
    assert_eq!(refused, ["Lost frames [stack top record] RuntimeUnsupported"]);
}
