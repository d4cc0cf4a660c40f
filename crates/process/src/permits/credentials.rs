//! Users, capabilities and labels of a process.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use super::{syscalls, system::text};
use crate::status::Status;

/// Inode of the machine's first user namespace (the kernel's `PROC_USER_INIT_INO`).
const FIRST_USER_NAMESPACE: u64 = 0xEFFF_FFFD;
/// Most parents that are followed.
const MOST_ANCESTORS: usize = 64;

/// May a process's memory be dumped (prctl(2), PR_SET_DUMPABLE)?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dumpable {
    /// As usual.
    #[default]
    Yes,
    /// It has forbidden it, or gained privileges by exec.
    No,
}

/// How another process's user namespace stands to ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Namespace {
    /// The same.
    #[default]
    Same,
    /// Made inside ours: our capabilities hold there too. With the user that made the one just below ours.
    Below {
        /// Effective user, as seen from our namespace; `None` when it could not be found out.
        owner: Option<u32>,
    },
    /// Neither: none of our capabilities hold there.
    Apart,
}

impl Namespace {
    /// Is it ours?
    #[must_use]
    pub fn is_same(&self) -> bool {
        *self == Namespace::Same
    }
}

/// What the kernel's checks look at in a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Its number.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// All its parents, nearest first.
    pub ancestors: Vec<u32>,
    /// Real, effective, saved and file system user.
    pub uid: [u32; 4],
    /// Real, effective, saved and file system group.
    pub gid: [u32; 4],
    /// Capabilities in effect.
    pub effective: u64,
    /// Capabilities permitted.
    pub permitted: u64,
    /// Capability bounding set.
    pub bounding: u64,
    /// Its user namespace, against that of the reader.
    pub user_namespace: Namespace,
    /// Inode of its user namespace, if we may see it.
    pub namespace: Option<u64>,
    /// The map of users that our own user namespace has.
    users: Option<String>,
    /// May its memory be dumped?
    pub dumpable: Dumpable,
    /// Whose its files below `/proc` are.
    pub owner: u32,
    /// Its label, if a security module gives one.
    pub label: Option<String>,
    /// What traces it; 0 for nothing.
    pub tracer: u32,
    /// The tracer's name.
    pub tracer_name: String,
    /// 0 none, 1 strict, 2 filter.
    pub seccomp: u32,
    /// Can never gain privileges by exec.
    pub no_new_privs: bool,
    /// Ended, and not yet collected.
    pub is_zombie: bool,
    /// Has memory of its own; threads of the kernel have none.
    pub has_memory: bool,
}

impl Credentials {
    /// Of the process whose `/proc` folder, or a recording of it, this is, seen from itself; `None` when it is not there.
    #[must_use]
    pub fn read(folder: &Path) -> Option<Credentials> {
        let status = Status::parse(&fs::read(folder.join("status")).ok()?)?;
        let own = Credentials {
            namespace: inode(folder),
            users: text(&folder.join("uid_map")),
            ..Credentials::default()
        };
        Some(Credentials { label: label(folder), ..Credentials::with_status(folder, &status, &own) })
    }

    /// Of the process whose folder and status these are, seen from `own`; without label and ancestors.
    pub(super) fn with_status(folder: &Path, status: &Status, own: &Credentials) -> Credentials {
        let proc = folder.parent().unwrap_or(Path::new("/proc"));
        let tracer_name =
            if status.tracer == 0 { None } else { text(&proc.join(status.tracer.to_string()).join("comm")) };
        let namespace = inode(folder);
        let owner = owner(folder, status);
        Credentials {
            pid: status.process,
            parent: status.parent,
            ancestors: Vec::new(),
            uid: status.uid,
            gid: status.gid,
            effective: status.effective,
            permitted: status.permitted,
            bounding: status.bounding,
            user_namespace: relation(own, namespace, folder),
            users: own.users.clone(),
            namespace,
            dumpable: if owner == status.uid[1] { Dumpable::Yes } else { Dumpable::No },
            owner,
            label: None,
            tracer: status.tracer,
            tracer_name: tracer_name.unwrap_or_default(),
            seccomp: status.seccomp,
            no_new_privs: status.no_new_privs,
            is_zombie: status.state.is_zombie(),
            has_memory: status.has_memory,
        }
    }

    /// Does this process have a capability in effect, in its own user namespace?
    #[must_use]
    pub fn has(&self, capability: u32) -> bool {
        self.effective >> capability & 1 == 1
    }

    /// Does it have the capability in another process's user namespace (user_namespaces(7), "Capabilities")? `permitted`
    /// asks for the permitted set, as ptrace(2) does for the call itself.
    #[must_use]
    pub fn has_in(&self, capability: u32, namespace: &Namespace, permitted: bool) -> bool {
        let set = if permitted { self.permitted } else { self.effective };
        let own = set >> capability & 1 == 1;
        match namespace {
            Namespace::Same => own,
            // Whoever made a user namespace has every capability in it.
            Namespace::Below { owner } => own || *owner == Some(self.uid[1]),
            Namespace::Apart => false,
        }
    }
}

pub(super) fn ancestors(proc: &Path, parent: u32) -> Vec<u32> {
    let mut ancestors = Vec::new();
    let mut pid = parent;
    while pid != 0 && ancestors.len() < MOST_ANCESTORS {
        ancestors.push(pid);
        let status = fs::read(proc.join(pid.to_string()).join("status")).ok();
        pid = status.and_then(|text| Status::parse(&text)).map_or(0, |status| status.parent);
    }
    ancestors
}

/// Files below `/proc/PID` belong to the process's effective user, or to root when it is not dumpable
/// (proc_pid(5)). Of root's own processes it cannot be told; they count as dumpable.
fn owner(folder: &Path, status: &Status) -> u32 {
    let is_recording = !folder.starts_with("/proc");
    match fs::metadata(folder.join("stat")) {
        Ok(metadata) if !is_recording && status.has_memory => metadata.uid(),
        _ => status.uid[1],
    }
}

pub(super) fn label(folder: &Path) -> Option<String> {
    let places = ["attr/apparmor/current", "attr/current"];
    places.iter().find_map(|place| text(&folder.join(place))).filter(|label| !label.is_empty())
}

/// How the process's user namespace stands to ours.
fn relation(own: &Credentials, theirs: Option<u64>, folder: &Path) -> Namespace {
    match (own.namespace, theirs) {
        (Some(own), Some(theirs)) if own == theirs => Namespace::Same,
        (Some(own), Some(_)) => below(own, folder),
        // We may not see it. Its map of users can be read by everyone.
        (_, None) if own.users.is_some() && own.users == text(&folder.join("uid_map")) => Namespace::Same,
        (Some(FIRST_USER_NAMESPACE), None) => Namespace::Below { owner: None },
        _ => Namespace::Apart,
    }
}

/// Is ours among the parents of theirs?
fn below(own: u64, folder: &Path) -> Namespace {
    let mut here = File::open(folder.join("ns/user")).ok();
    let mut owner = None;
    for _ in 0..32 {
        // Namespaces are nested at most 32 deep.
        let Some(namespace) = here else { break };
        if namespace.metadata().is_ok_and(|metadata| metadata.ino() == own) {
            return Namespace::Below { owner };
        }
        owner = syscalls::owner_of_namespace(&namespace);
        here = syscalls::parent_of_namespace(&namespace);
    }
    // The first namespace is above all others.
    if own == FIRST_USER_NAMESPACE { Namespace::Below { owner: None } } else { Namespace::Apart }
}

/// The number in the link `user:[4026531837]`, which a recording can hold too.
fn inode(folder: &Path) -> Option<u64> {
    let link = fs::read_link(folder.join("ns/user")).ok()?;
    link.to_str()?.strip_prefix("user:[")?.strip_suffix(']')?.parse().ok()
}
