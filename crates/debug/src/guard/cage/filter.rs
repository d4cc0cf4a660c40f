//! Which system calls an adapter may make: a filter for seccomp(2), built of rules that each say why. No system call here.
//!
//! A list of what is refused and not of what is allowed: debuggers are large programs of several languages, and what reaches
//! out of a process is a short list. What needs a capability is not in it: adapters have none to speak of ([`super::give_up`]).

use libc::{c_long, sock_filter};

/// The calls of this architecture as the kernel names it (AUDIT_ARCH_*); `None` where no filter is known.
const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xC000_003E)
} else if cfg!(target_arch = "aarch64") {
    Some(0xC000_00B7)
} else {
    None
};

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    /// Fails with this error.
    Fail(i32),
    /// [`super::warden::Warden`] decides.
    Ask,
}

impl Verdict {
    fn value(self) -> u32 {
        match self {
            Verdict::Allow => libc::SECCOMP_RET_ALLOW,
            Verdict::Fail(error) => libc::SECCOMP_RET_ERRNO | error.unsigned_abs() & libc::SECCOMP_RET_DATA,
            Verdict::Ask => libc::SECCOMP_RET_USER_NOTIF,
        }
    }
}

/// What differs between adapters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Starting a program without the token.
    pub(super) start: Verdict,
    /// Connecting a socket.
    pub(super) connect: Verdict,
    /// Opening a file to write into it.
    pub(super) write: Verdict,
    /// Sockets of TCP, beside those of this machine.
    pub(super) tcp: bool,
    /// It owns the target: it stops, changes and signals another process, through files of /proc too.
    pub(super) owns_target: bool,
    /// Whoever speaks to it may have it do whatever this user may.
    pub(super) raw: bool,
}

/// A filter. The number of the process it is for is put in after the fork.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    program: Vec<sock_filter>,
    /// Where the process's own number belongs.
    own: Vec<usize>,
}

impl Filter {
    /// Builds the filter; `token` as sixth argument lets one start of a program through, and none where it is unknown.
    pub(super) fn new(rules: Rules, token: u64) -> Option<Filter> {
        let mut filter = Filter { program: Vec::new(), own: Vec::new() };
        filter.begin(ARCHITECTURE?);
        filter.against_the_kernel();
        filter.starts(rules.start, token);
        if !rules.raw {
            filter.network(rules);
            if !rules.owns_target {
                filter.other_processes();
                filter.files(rules.write);
            }
        }
        filter.push(RETURN, Verdict::Allow.value());
        Some(filter)
    }

    /// Puts the process's own number in: takes no memory, so that it can be called after a fork.
    pub(super) fn of_process(&mut self, pid: u32) -> &[sock_filter] {
        for &at in &self.own {
            if let Some(statement) = self.program.get_mut(at) {
                statement.k = pid;
            }
        }
        &self.program
    }

    /// Calls of another architecture have other numbers: none of them passes.
    fn begin(&mut self, architecture: u32) {
        self.push(LOAD, ARCHITECTURE_AT);
        self.jump(EQUAL, architecture, 1, 0);
        self.verdict(Verdict::Fail(libc::EPERM));
        self.push(LOAD, NUMBER_AT);
        if cfg!(target_arch = "x86_64") {
            // The x32 ABI: the same architecture, numbers with this bit.
            self.jump(AT_LEAST, 0x4000_0000, 0, 1);
            self.verdict(Verdict::Fail(libc::EPERM));
        }
    }

    /// Ways around this filter, into other namespaces, and parts of the kernel no debugger needs.
    fn against_the_kernel(&mut self) {
        // Does by its ring what is refused as a call.
        self.always(libc::SYS_io_uring_setup, libc::ENOSYS);
        // Root of a new user namespace has every capability there.
        self.always(libc::SYS_unshare, libc::EPERM);
        self.call(libc::SYS_clone, |filter| filter.without_bits(0, NEW_USER, Verdict::Fail(libc::EPERM)));
        // Its flags are in memory, where a filter can't look; everybody falls back to clone.
        self.always(libc::SYS_clone3, libc::ENOSYS);
        // Opens files of any folder by number, with the one capability that is left.
        self.always(libc::SYS_open_by_handle_at, libc::EPERM);
        // Takes descriptors out of other processes of this user.
        self.always(libc::SYS_pidfd_getfd, libc::EPERM);
        for call in [
            // Large and privileged by design.
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            // The user's keys.
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
        ] {
            self.always(call, libc::EPERM);
        }
    }

    /// Programs: only with the token, which nobody knows after the adapter's own start.
    fn starts(&mut self, otherwise: Verdict, token: u64) {
        self.call(libc::SYS_execve, |filter| {
            filter.push(LOAD, low(5));
            filter.jump(EQUAL, token as u32, 0, 3);
            filter.push(LOAD, low(5) + 4);
            filter.jump(EQUAL, (token >> 32) as u32, 0, 1);
            filter.verdict(Verdict::Allow);
            filter.verdict(otherwise);
        });
        if otherwise != Verdict::Allow {
            self.always(libc::SYS_execveat, libc::EPERM);
        }
    }

    /// Sockets: streams of this machine, and TCP to a stub; datagrams could be sent without a connection.
    fn network(&mut self, rules: Rules) {
        self.call(libc::SYS_socket, |filter| {
            filter.push(LOAD, low(0));
            filter.jump(EQUAL, libc::AF_UNIX as u32, if rules.tcp { 3 } else { 1 }, 0);
            if rules.tcp {
                filter.jump(EQUAL, libc::AF_INET as u32, 2, 0);
                filter.jump(EQUAL, libc::AF_INET6 as u32, 1, 0);
            }
            filter.verdict(Verdict::Fail(libc::EAFNOSUPPORT));
            filter.push(LOAD, low(1));
            filter.push(AND, 0xf);
            filter.jump(EQUAL, libc::SOCK_STREAM as u32, 1, 0);
            filter.verdict(Verdict::Fail(libc::EACCES));
            filter.verdict(Verdict::Allow);
        });
        self.call(libc::SYS_connect, |filter| filter.verdict(rules.connect));
        // These connect with the first bytes.
        for (call, flags) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
            self.call(call, |filter| {
                filter.without_bits(flags, libc::MSG_FASTOPEN as u32, Verdict::Fail(libc::EACCES));
            });
        }
    }

    /// Behind the relay an adapter has nothing to do in other processes.
    fn other_processes(&mut self) {
        for call in [
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_setns,
            libc::SYS_tkill,
            libc::SYS_pidfd_send_signal,
        ] {
            self.always(call, libc::EPERM);
        }
        // Signals to itself: Go stops its own threads by them, gdb itself.
        for call in [libc::SYS_kill, libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo]
        {
            self.call(call, |filter| {
                filter.push(LOAD, low(0));
                filter.own.push(filter.program.len());
                filter.jump(EQUAL, 0, 0, 1);
                filter.verdict(Verdict::Allow);
                filter.verdict(Verdict::Fail(libc::EPERM));
            });
        }
    }

    /// Files are read and not written, whoever owns them. Descriptors that were handed over stay as they are.
    fn files(&mut self, write: Verdict) {
        self.call(libc::SYS_openat, |filter| filter.without_bits(2, WRITES, write));
        #[cfg(target_arch = "x86_64")]
        self.call(libc::SYS_open, |filter| filter.without_bits(1, WRITES, write));
        // As clone3.
        self.always(libc::SYS_openat2, libc::ENOSYS);
        for call in CHANGES_FILES {
            self.always(*call, libc::EROFS);
        }
    }

    /// The rule of one call; what it appends ends with a verdict, whichever way is taken.
    fn call(&mut self, call: c_long, rule: impl FnOnce(&mut Filter)) {
        let at = self.program.len();
        self.jump(EQUAL, call as u32, 0, 0);
        rule(self);
        let length = u8::try_from(self.program.len() - at - 1).expect("a rule is short");
        self.program[at].jf = length;
    }

    fn always(&mut self, call: c_long, error: i32) {
        self.call(call, |filter| filter.verdict(Verdict::Fail(error)));
    }

    /// A verdict for calls with one of these bits in an argument; others are allowed.
    fn without_bits(&mut self, argument: u32, bits: u32, with: Verdict) {
        self.push(LOAD, low(argument));
        self.jump(ANY_BIT, bits, 0, 1);
        self.verdict(with);
        self.verdict(Verdict::Allow);
    }

    fn verdict(&mut self, verdict: Verdict) {
        self.push(RETURN, verdict.value());
    }

    fn push(&mut self, code: u16, k: u32) {
        self.program.push(sock_filter { code, jt: 0, jf: 0, k });
    }

    fn jump(&mut self, code: u16, k: u32, jt: u8, jf: u8) {
        self.program.push(sock_filter { code, jt, jf, k });
    }
}

/// CLONE_NEWUSER.
const NEW_USER: u32 = libc::CLONE_NEWUSER as u32;
/// Flags of open(2) that change something.
const WRITES: u32 = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) as u32;

/// Names, owners and modes of files.
const CHANGES_FILES: &[c_long] = &[
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_fchmodat,
    // fchmodat2, which has this number everywhere.
    452,
    libc::SYS_fchmod,
    libc::SYS_fchownat,
    libc::SYS_fchown,
    libc::SYS_truncate,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
];

// Codes of the classic packet filter (linux/bpf_common.h), as far as they are used.
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

// Where things are in `struct seccomp_data` (linux/seccomp.h).
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;

/// The lower half of an argument: both architectures are little-endian.
const fn low(argument: u32) -> u32 {
    16 + 8 * argument
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        start: Verdict::Ask,
        connect: Verdict::Ask,
        write: Verdict::Fail(libc::EROFS),
        tcp: true,
        owns_target: false,
        raw: false,
    };
    const TOKEN: u64 = 0x0123_4567_89ab_cdef;
    const PID: u32 = 4711;

    /// What the filter says of a call: runs it as the kernel does.
    fn run(rules: Rules, call: c_long, arguments: [u64; 6]) -> u32 {
        let mut filter = Filter::new(rules, TOKEN).unwrap();
        let program = filter.of_process(PID);
        let mut data = [0_u32; 16];
        data[0] = call as u32;
        data[1] = ARCHITECTURE.unwrap();
        for (index, argument) in arguments.into_iter().enumerate() {
            data[4 + 2 * index] = argument as u32;
            data[5 + 2 * index] = (argument >> 32) as u32;
        }
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let one = program[at];
            let jump = |yes: bool| usize::from(if yes { one.jt } else { one.jf });
            at += 1;
            match one.code {
                LOAD => accumulator = data[one.k as usize / 4],
                AND => accumulator &= one.k,
                EQUAL => at += jump(accumulator == one.k),
                AT_LEAST => at += jump(accumulator >= one.k),
                ANY_BIT => at += jump(accumulator & one.k != 0),
                RETURN => return one.k,
                other => panic!("code {other:#x}"),
            }
        }
    }

    fn check(rules: Rules, call: c_long, arguments: [u64; 6], expected: Verdict) {
        assert_eq!(run(rules, call, arguments), expected.value(), "call {call} {arguments:x?}: {expected:?}");
    }

    #[test]
    fn a_program_starts_only_with_the_token() {
        let call = libc::SYS_execve;
        check(RULES, call, [1, 2, 3, 0, 0, TOKEN], Verdict::Allow);
        check(RULES, call, [1, 2, 3, 0, 0, TOKEN ^ 1], Verdict::Ask);
        check(RULES, call, [1, 2, 3, 0, 0, TOKEN ^ 1 << 40], Verdict::Ask);
        check(RULES, call, [TOKEN; 6].map(|one| one ^ 2), Verdict::Ask);
        check(RULES, libc::SYS_execveat, [1, 2, 3, 0, 0, TOKEN], Verdict::Fail(libc::EPERM));
    }

    #[test]
    fn files_are_read_and_not_written() {
        let openat = |flags: i32| [0, 1, flags as u64, 0, 0, 0];
        check(RULES, libc::SYS_openat, openat(libc::O_RDONLY | libc::O_CLOEXEC), Verdict::Allow);
        for flags in
            [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC, libc::O_TMPFILE | libc::O_RDWR]
        {
            check(RULES, libc::SYS_openat, openat(flags), RULES.write);
        }
        for call in CHANGES_FILES {
            check(RULES, *call, [0; 6], Verdict::Fail(libc::EROFS));
        }
        let owner = Rules { owns_target: true, ..RULES };
        check(owner, libc::SYS_openat, openat(libc::O_RDWR), Verdict::Allow);
        check(owner, libc::SYS_ptrace, [0; 6], Verdict::Allow);
    }

    #[test]
    fn signals_reach_the_adapter_itself_alone() {
        for call in [libc::SYS_kill, libc::SYS_tgkill] {
            check(RULES, call, [u64::from(PID), 9, 9, 0, 0, 0], Verdict::Allow);
            for other in [0, 1, u64::MAX, u64::from(PID) + 1] {
                check(RULES, call, [other, 9, 9, 0, 0, 0], Verdict::Fail(libc::EPERM));
            }
        }
    }

    #[test]
    fn sockets_are_streams_of_this_machine() {
        let socket = |family: i32, kind: i32| [family as u64, kind as u64, 0, 0, 0, 0];
        let stream = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let refused = Verdict::Fail(libc::EAFNOSUPPORT);
        let local = Rules { tcp: false, ..RULES };
        for rules in [RULES, local] {
            check(rules, libc::SYS_socket, socket(libc::AF_UNIX, stream), Verdict::Allow);
            check(
                rules,
                libc::SYS_socket,
                socket(libc::AF_UNIX, libc::SOCK_DGRAM),
                Verdict::Fail(libc::EACCES),
            );
            check(rules, libc::SYS_socket, socket(libc::AF_NETLINK, libc::SOCK_RAW), refused);
            check(rules, libc::SYS_connect, [0; 6], Verdict::Ask);
        }
        for family in [libc::AF_INET, libc::AF_INET6] {
            check(RULES, libc::SYS_socket, socket(family, stream), Verdict::Allow);
            check(RULES, libc::SYS_socket, socket(family, libc::SOCK_DGRAM), Verdict::Fail(libc::EACCES));
            check(local, libc::SYS_socket, socket(family, stream), refused);
        }
    }

    #[test]
    fn other_architectures_and_the_kernels_own_ways_are_closed() {
        let raw = Rules { raw: true, start: Verdict::Allow, ..RULES };
        for rules in [RULES, raw] {
            check(rules, libc::SYS_io_uring_setup, [0; 6], Verdict::Fail(libc::ENOSYS));
            check(rules, libc::SYS_clone, [u64::from(NEW_USER), 0, 0, 0, 0, 0], Verdict::Fail(libc::EPERM));
            check(rules, libc::SYS_clone, [0x11, 0, 0, 0, 0, 0], Verdict::Allow);
            check(rules, libc::SYS_read, [0; 6], Verdict::Allow);
        }
        check(raw, libc::SYS_connect, [0; 6], Verdict::Allow);
        check(raw, libc::SYS_execve, [0; 6], Verdict::Allow);
        #[cfg(target_arch = "x86_64")]
        check(RULES, 0x4000_0000 + libc::SYS_read, [0; 6], Verdict::Fail(libc::EPERM));
    }
}
