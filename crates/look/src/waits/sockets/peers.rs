//! The other ends of Unix sockets, which no file tells: the kernel is asked for them (sock_diag(7), unix_diag.h).

use pepo_process::Process;
use rustix::{
    fs::{Mode, OFlags},
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const UDIAG_SHOW_PEER: u32 = 4;
const UNIX_DIAG_PEER: u16 = 2;
/// Bytes of a `nlmsghdr`, and of the `unix_diag_msg` behind it.
const HEADER: usize = 16;
const MESSAGE: usize = 16;

/// The inode of the socket that this one is connected to. It is asked for in the process's own network namespace, by a thread that
/// goes there and ends; without the right to go there nothing is known.
pub(super) fn of_unix(process: &Process, inode: u64) -> Option<u64> {
    let theirs = process.namespaces().network?;
    let is_ours = Process::own().is_ok_and(|own| own.namespaces().network == Some(theirs));
    let inode = u32::try_from(inode).ok()?;
    let ask = || {
        if !is_ours {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let namespace = rustix::fs::openat(process.proc_dir(), "ns/net", flags, Mode::empty()).ok()?;
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network))
                .ok()?;
        }
        peer(inode)
    };
    std::thread::scope(|scope| scope.spawn(ask).join().ok().flatten())
}

fn peer(inode: u32) -> Option<u64> {
    let flags = SocketFlags::CLOEXEC;
    let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
    let kernel = rustix::net::socket_with(family, kind, flags, Some(netlink::SOCK_DIAG)).ok()?;
    rustix::net::send(&kernel, &request(inode), SendFlags::empty()).ok()?;
    // The kernel has answered by now.
    let mut answer = [0; 1024];
    let (length, _) = rustix::net::recv(&kernel, &mut answer, RecvFlags::DONTWAIT).ok()?;
    read(answer.get(..length)?)
}

/// A `nlmsghdr` and a `unix_diag_req`.
fn request(inode: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + 24);
    bytes.extend((HEADER as u32 + 24).to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([libc::AF_UNIX as u8, 0, 0, 0]);
    // Of any state; with any cookie.
    for word in [u32::MAX, inode, UDIAG_SHOW_PEER, u32::MAX, u32::MAX] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

/// The peer among the attributes of the answer.
fn read(answer: &[u8]) -> Option<u64> {
    let half = |at: usize| answer.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes);
    if half(4)? != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let mut at = HEADER + MESSAGE;
    loop {
        let (length, kind) = (usize::from(half(at)?), half(at + 2)?);
        if kind == UNIX_DIAG_PEER {
            let peer = answer.get(at + 4..at + 8)?.try_into().ok().map(u32::from_ne_bytes)?;
            return (peer != 0).then_some(u64::from(peer));
        }
        // Attributes begin at multiples of four.
        at += length.max(4).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsRawFd as _, unix::net::UnixStream};

    use super::*;

    #[test]
    fn two_ends_know_each_other() {
        let (one, other) = UnixStream::pair().unwrap();
        let own = Process::own().unwrap();
        let [one, other] = [&one, &other].map(|end| {
            let link = std::fs::read_link(format!("/proc/self/fd/{}", end.as_raw_fd())).unwrap();
            let link = link.to_string_lossy().into_owned();
            link.trim_start_matches("socket:[").trim_end_matches(']').parse::<u64>().unwrap()
        });
        assert_eq!((of_unix(&own, one), of_unix(&own, other)), (Some(other), Some(one)));
        assert_eq!(of_unix(&own, 1), None);
    }

    #[test]
    fn answers_that_are_cut_off_or_lie_know_none() {
        let mut lies = vec![0xff_u8; 64];
        lies[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        for length in 0..64 {
            assert_eq!(read(&lies[..length]), None);
        }
        lies[HEADER + MESSAGE..].fill(0);
        assert_eq!(read(&lies), None);
    }
}
