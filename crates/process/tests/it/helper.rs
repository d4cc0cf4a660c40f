//! Processes with the users, capabilities and filters a test asks for: this test program again, started with them.
#![allow(
    unsafe_code,
    reason = "privileges are taken away between fork and exec; ptrace is tried as a control"
)]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdout, Stdio},
};

use pepo_process::{
    AgentPid, Process,
    permits::{Judge, Roots, Verdict},
    status::Status,
};

/// The user that tests run others as.
pub(crate) const NOBODY: u32 = 65534;

/// What is taken from a process before it starts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct With {
    /// Another user and group.
    pub(crate) user: Option<u32>,
    /// Without these capabilities, for good.
    pub(crate) dropped: &'static [u32],
    /// In a user namespace of its own (made after the user was changed).
    pub(crate) user_namespace: bool,
    /// A filter that answers EPERM to ptrace.
    pub(crate) no_ptrace: bool,
    /// Can never gain privileges.
    pub(crate) no_new_privs: bool,
}

/// A helper process; ended and collected with the test.
pub(crate) struct Helper {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Helper {
    /// A process that says it is ready and waits.
    pub(crate) fn waiting(with: With) -> Helper {
        let mut helper = Helper::start(with, "wait");
        assert_eq!(helper.line(), "ready");
        helper
    }

    /// As [`Helper::waiting`], but not dumpable.
    pub(crate) fn untouchable(with: With) -> Helper {
        let mut helper = Helper::start(with, "untouchable");
        assert_eq!(helper.line(), "ready");
        helper
    }

    /// What a process with these privileges judges of another, and what the kernel says when it tries:
    /// `look stop really-look really-stop`, each `yes` or the name of a code.
    pub(crate) fn judging(with: With, pid: u32) -> String {
        Helper::start(with, &format!("judge {pid}")).line()
    }

    fn start(with: With, task: &str) -> Helper {
        let mut command = pepo_testkit::command("/proc/self/exe");
        command.args(["--exact", "helper::helper_process", "--nocapture", "--quiet"]);
        command.env("PEPO_HELPER", task).stdin(Stdio::piped()).stdout(Stdio::piped());
        // SAFETY: the closure makes system calls only.
        unsafe { command.pre_exec(move || with.apply()) };
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{with:?}: {error}"));
        let lines = BufReader::new(child.stdout.take().unwrap());
        Helper { child, lines }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn process(&self) -> Process {
        Process::open(AgentPid::new(self.pid()).unwrap()).unwrap()
    }

    /// The next line that is meant for the test.
    fn line(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the helper ended without a word");
            if let Some((_, said)) = line.split_once("helper: ") {
                return said.trim().to_owned();
            }
        }
    }

    /// Ends the process, all its threads, and leaves it uncollected.
    pub(crate) fn end(&mut self) {
        self.child.kill().unwrap();
        let process = self.process();
        wait_until("end of all threads", || {
            let status = process.status().unwrap();
            (status.state.is_zombie() && !process.alive(), format!("{status:?}"))
        });
    }

    /// Ends and collects it.
    pub(crate) fn collect(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.collect();
    }
}

/// Waits for a condition that also tells its last state.
pub(crate) fn wait_until(what: &str, mut met: impl FnMut() -> (bool, String)) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let (done, state) = met();
        if done {
            return;
        }
        assert!(std::time::Instant::now() < end, "no {what}; last state: {state}");
        std::thread::yield_now();
    }
}

/// Is this run as root with all that root has? Most conditions can be made only then.
pub(crate) fn is_root() -> bool {
    let own = Judge::new(&Roots::default()).own;
    own.uid[1] == 0 && own.has(pepo_process::permits::SYS_ADMIN) && own.has(pepo_process::permits::SYS_PTRACE)
}

impl With {
    pub(crate) fn user(user: u32) -> With {
        With { user: Some(user), ..With::default() }
    }

    /// Runs between fork and exec.
    fn apply(self) -> std::io::Result<()> {
        let done =
            |result: libc::c_long| if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) };
        for capability in self.dropped {
            // SAFETY: plain system calls on this very process.
            done(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, *capability) }.into())?;
        }
        if let Some(user) = self.user {
            // SAFETY: as above.
            unsafe {
                done(libc::setgroups(0, std::ptr::null()).into())?;
                done(libc::setresgid(user, user, user).into())?;
                done(libc::setresuid(user, user, user).into())?;
            }
        }
        if self.user_namespace {
            // SAFETY: as above.
            done(unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into())?;
        }
        if self.no_new_privs || self.no_ptrace {
            // SAFETY: as above.
            done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
        }
        if self.no_ptrace { done(forbid_ptrace()) } else { Ok(()) }
    }
}

/// Loads a filter: EPERM for ptrace, everything else as it was.
fn forbid_ptrace() -> libc::c_long {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_ptrace as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its steps live through the call.
    unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program).into() }
}

/// Not a test by itself: what a helper process does.
#[test]
fn helper_process() {
    let Ok(task) = std::env::var("PEPO_HELPER") else { return };
    let say = |text: &str| {
        let mut out = std::io::stdout();
        writeln!(out, "helper: {text}").and_then(|()| out.flush()).unwrap();
    };
    if let Some(pid) = task.strip_prefix("judge ") {
        return say(&judged(pid.parse().unwrap()));
    }
    if task == "untouchable" {
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).unwrap();
    }
    say("ready");
    let _ = std::io::stdin().read(&mut [0]);
}

fn judged(pid: u32) -> String {
    let judge = Judge::new(&Roots::default());
    let folder = std::path::PathBuf::from(format!("/proc/{pid}"));
    let status = Status::parse(&std::fs::read(folder.join("status")).unwrap()).unwrap();
    let theirs = judge.credentials(&folder, &status);
    let word = |verdict: Verdict| match verdict.denial() {
        None => "yes".to_owned(),
        Some(denial) => pepo_wire::FailureExt::failure(denial).code().name().to_owned(),
    };
    format!(
        "{} {} {} {}",
        word(judge.look(&theirs)),
        word(judge.stop(&theirs)),
        really_look(&folder),
        really_stop(pid)
    )
}

fn really_look(folder: &std::path::Path) -> &'static str {
    if std::fs::File::open(folder.join("mem")).is_ok() { "yes" } else { "no" }
}

/// Tries it, and lets go at once. Who stops a process writes to it too.
fn really_stop(pid: u32) -> &'static str {
    let writes = std::fs::File::options().write(true).open(format!("/proc/{pid}/mem")).is_ok();
    let traces = seize(pid);
    if traces {
        release(pid);
    }
    if writes && traces { "yes" } else { "no" }
}

/// Becomes the tracer of a process, without stopping it. Only the calling thread can let it go.
pub(crate) fn seize(pid: u32) -> bool {
    // SAFETY: the request takes no pointers.
    unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid.cast_signed(), 0, 0) == 0 }
}

/// Stops it and lets it go.
pub(crate) fn release(pid: u32) {
    let pid = pid.cast_signed();
    // SAFETY: the requests take no pointers; the status is valid for the call.
    unsafe {
        libc::ptrace(libc::PTRACE_INTERRUPT, pid, 0, 0);
        let mut status = 0;
        libc::waitpid(pid, &raw mut status, libc::__WALL);
        libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0);
    }
}
