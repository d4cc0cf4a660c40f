//! The same check, run by a process with fewer privileges: this test program again.
#![allow(
    unsafe_code,
    reason = "privileges are taken away between fork and exec; a tracer is needed to be found"
)]

use std::os::unix::process::CommandExt as _;

use pepo_process::permits::{DAC_OVERRIDE, DAC_READ_SEARCH, Judge, Roots, SYS_ADMIN, SYS_PTRACE};

use super::*;

pub(super) const NOBODY: u32 = 65534;

/// What is taken from a process before it starts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct With {
    pub(super) user: Option<u32>,
    pub(super) without_ptrace: bool,
    /// Without what opens other users' files.
    pub(super) without_files: bool,
    pub(super) user_namespace: bool,
    pub(super) no_new_privs: bool,
    /// A seccomp filter that forbids ptrace and perf events.
    pub(super) filter: bool,
}

/// Is this run as root with all that root has?
pub(super) fn is_root() -> bool {
    let own = Judge::new(&Roots::default()).own;
    own.uid[1] == 0 && own.has(SYS_ADMIN) && own.has(SYS_PTRACE)
}

/// What a process with these privileges finds out about another, besides OK.
pub(super) fn troubles_for(with: With, pid: u32) -> Vec<String> {
    let mut command = pepo_testkit::command("/proc/self/exe");
    command.args(["--exact", "check::tests::helper::helper_process", "--nocapture", "--quiet"]);
    command.env("PEPO_CHECK", pid.to_string());
    apply_before(&mut command, with);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("helper: end"), "{with:?}: {text} {}", String::from_utf8_lossy(&output.stderr));
    text.lines()
        .filter_map(|line| line.split_once("helper: "))
        .map(|(_, said)| said.to_owned())
        .filter(|said| said != "end")
        .collect()
}

/// Takes the privileges from the program when it starts.
pub(super) fn apply_before(command: &mut std::process::Command, with: With) {
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(move || with.apply()) };
}

impl With {
    fn apply(self) -> std::io::Result<()> {
        let done =
            |result: libc::c_int| if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) };
        // SAFETY: plain system calls on this very process, between fork and exec; the filter lives through its call.
        unsafe {
            if self.without_ptrace {
                done(libc::prctl(libc::PR_CAPBSET_DROP, SYS_PTRACE))?;
            }
            if self.without_files {
                done(libc::prctl(libc::PR_CAPBSET_DROP, DAC_OVERRIDE))?;
                done(libc::prctl(libc::PR_CAPBSET_DROP, DAC_READ_SEARCH))?;
            }
            if let Some(user) = self.user {
                done(libc::setgroups(0, std::ptr::null()))?;
                done(libc::setresgid(user, user, user))?;
                done(libc::setresuid(user, user, user))?;
            }
            if self.user_namespace {
                done(libc::unshare(libc::CLONE_NEWUSER))?;
            }
            if self.no_new_privs || self.filter {
                done(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            }
            if self.filter {
                let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
                let mut steps = [
                    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
                    step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, libc::SYS_ptrace as u32),
                    step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_perf_event_open as u32),
                    step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
                    step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
                ];
                let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
                done(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program))?;
            }
        }
        Ok(())
    }
}

/// Not a test by itself: what the process with fewer privileges does.
#[test]
fn helper_process() {
    let Ok(pid) = std::env::var("PEPO_CHECK") else { return };
    let env = CheckEnv::new(&Tools::in_folders(Vec::new(), Vec::new()));
    let response = check(&request(pid.parse().unwrap()), &env).unwrap();
    for line in troubles(&response.findings) {
        println!("helper: {line}");
    }
    println!("helper: end");
}

/// Traces a process as long as it lives, without stopping it.
pub(super) struct Tracer(i32);

impl Tracer {
    /// The calling thread becomes the tracer.
    pub(super) fn of(pid: u32) -> Tracer {
        // SAFETY: the request takes no pointers.
        let done = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid.cast_signed(), 0, 0) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        Tracer(pid.cast_signed())
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // SAFETY: the requests take no pointers; the status is valid for the call.
        unsafe {
            libc::ptrace(libc::PTRACE_INTERRUPT, self.0, 0, 0);
            let mut status = 0;
            libc::waitpid(self.0, &raw mut status, libc::__WALL);
            libc::ptrace(libc::PTRACE_DETACH, self.0, 0, 0);
        }
    }
}
