//! Networks of other processes.

use std::{fs::File, os::fd::AsFd as _, thread};

use anyhow::{Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Does something in the network namespace of a process, as a program beside it would: in a thread of its own, for namespaces belong to
/// threads.
///
/// # Errors
/// If the namespace cannot be entered, or `act` panics.
pub fn in_network_of<T: Send>(pid: u32, act: impl FnOnce() -> T + Send) -> Result<T> {
    let network = File::open(format!("/proc/{pid}/ns/net"))?;
    let enter = || -> Result<T> {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(act())
    };
    thread::scope(|scope| scope.spawn(enter).join().map_err(|_| anyhow!("it panicked"))?)
}
