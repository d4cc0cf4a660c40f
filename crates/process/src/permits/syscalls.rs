//! System calls that tell of ourselves and of namespaces; none of them touches a target.
#![allow(unsafe_code, reason = "rustix has neither ptrace nor the requests of ioctl_nsfs(2)")]

use std::{
    fs::File,
    os::fd::{AsRawFd as _, FromRawFd as _},
    sync::OnceLock,
};

/// ioctl_nsfs(2): the namespace this one was made in.
const NS_GET_USERNS_PARENT: libc::Ioctl = 0xb702;
/// ioctl_nsfs(2): the user who made it.
const NS_GET_OWNER_UID: libc::Ioctl = 0xb704;

/// The user namespace that this one was made in, if it lies within ours.
pub(super) fn parent_of_namespace(namespace: &File) -> Option<File> {
    // SAFETY: the request takes no argument and returns a new descriptor or -1.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS_PARENT) };
    // SAFETY: the descriptor is new and nobody else's.
    (fd >= 0).then(|| unsafe { File::from_raw_fd(fd) })
}

/// The user who made a user namespace, as seen from ours.
pub(super) fn owner_of_namespace(namespace: &File) -> Option<u32> {
    let mut uid: libc::uid_t = 0;
    // SAFETY: the request writes one uid_t to the pointer, which is valid for the call.
    let done = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_OWNER_UID, &raw mut uid) };
    (done == 0).then_some(uid)
}

/// Does a seccomp filter of ours forbid the call ptrace? Asked with a process number that no process has, by a child, since
/// a filter may end whoever asks.
pub(super) fn ptrace_is_filtered() -> bool {
    static FILTERED: OnceLock<bool> = OnceLock::new();
    *FILTERED.get_or_init(|| has_filter() && !child_may_ptrace())
}

fn has_filter() -> bool {
    let status = std::fs::read("/proc/self/status").unwrap_or_default();
    crate::status::Status::parse(&status).is_some_and(|status| status.seccomp != 0)
}

fn child_may_ptrace() -> bool {
    // SAFETY: between fork and _exit the child makes only the two system calls and no allocation.
    match unsafe { libc::fork() } {
        0 => unsafe {
            // Process number 0 is nobody's: the kernel answers ESRCH, a filter something else.
            let done = libc::syscall(libc::SYS_ptrace, libc::PTRACE_CONT, 0, 0, 0);
            let reached = done == -1 && *libc::__errno_location() == libc::ESRCH;
            libc::_exit(i32::from(!reached));
        },
        child if child > 0 => {
            let mut status = 0;
            // SAFETY: the pointer is valid for the call; the child is ours alone.
            while unsafe { libc::waitpid(child, &raw mut status, 0) } == -1 {
                if std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
                    return true;
                }
            }
            libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
        }
        // No child could be made; nothing was found out, so nothing is claimed.
        _ => true,
    }
}
