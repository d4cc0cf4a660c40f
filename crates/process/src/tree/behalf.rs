//! Files that are made by the rights of another user.
//!
//! Where a target is in a user namespace of its own, its file systems have no number for users who are not in it: nothing can be made
//! there by one of them, root included (EOVERFLOW).
#![allow(unsafe_code, reason = "setfsuid(2) has no safe wrapper")]

use rustix::fs::{Gid, Uid};

/// Does something with files by this user's rights, on this thread alone, which is then as it was. Takes effect for root only.
pub(super) fn on_behalf_of<T>(user: Uid, group: Gid, act: impl FnOnce() -> T) -> T {
    let _back = Back::new(user, group);
    act()
}

/// What the thread was before.
struct Back {
    user: u32,
    group: u32,
}

impl Back {
    fn new(user: Uid, group: Gid) -> Back {
        // The group first: the right to change it goes with the user.
        let group = set_group(group.as_raw());
        Back { user: set_user(user.as_raw()), group }
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        set_user(self.user);
        set_group(self.group);
    }
}

/// Sets the user by whose rights files are opened; returns the one before.
fn set_user(user: u32) -> u32 {
    // SAFETY: a system call on numbers alone, which concerns this thread.
    unsafe { libc::setfsuid(user) }.cast_unsigned()
}

/// The same for the group.
fn set_group(group: u32) -> u32 {
    // SAFETY: a system call on numbers alone, which concerns this thread.
    unsafe { libc::setfsgid(group) }.cast_unsigned()
}
