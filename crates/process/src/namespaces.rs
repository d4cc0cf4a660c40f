//! Namespaces of a process, by the inode each is known by (namespaces(7)).

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};

/// Inodes of the namespaces of a process; `None` where we may not look (it takes the right to read the process by
/// ptrace's rules) or the kernel does not know the kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Control groups.
    pub cgroup: Option<u64>,
    /// System V IPC.
    pub ipc: Option<u64>,
    /// Mounts.
    pub mount: Option<u64>,
    /// Network.
    pub network: Option<u64>,
    /// Process numbers.
    pub pid: Option<u64>,
    /// Clocks.
    pub time: Option<u64>,
    /// Users and capabilities.
    pub user: Option<u64>,
    /// Host name.
    pub uts: Option<u64>,
}

impl Namespaces {
    /// Reads them below an open `/proc/PID`.
    pub(crate) fn read(dir: &OwnedFd) -> Namespaces {
        let Ok(ns) =
            rustix::fs::openat(dir, "ns", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        else {
            return Namespaces::default();
        };
        let inode = |name: &str| inode(ns.as_fd(), name);
        Namespaces {
            cgroup: inode("cgroup"),
            ipc: inode("ipc"),
            mount: inode("mnt"),
            network: inode("net"),
            pid: inode("pid"),
            time: inode("time"),
            user: inode("user"),
            uts: inode("uts"),
        }
    }

    /// The PID namespace alone; cheaper when many processes are read.
    pub(crate) fn read_pid(dir: &OwnedFd) -> Option<u64> {
        inode(dir.as_fd(), "ns/pid")
    }

    /// The mount namespace alone.
    pub(crate) fn read_mount(dir: &OwnedFd) -> Option<u64> {
        inode(dir.as_fd(), "ns/mnt")
    }
}

fn inode(dir: rustix::fd::BorrowedFd<'_>, name: &str) -> Option<u64> {
    rustix::fs::statat(dir, name, AtFlags::empty()).ok().map(|stat| stat.st_ino)
}
