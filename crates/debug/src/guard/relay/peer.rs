//! The adapter's connection to the relay, and the socket where it arrives.

use std::{
    collections::VecDeque,
    fs,
    io::{self, IoSliceMut},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    event::PollFlags,
    io::Errno,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags},
};

use super::super::packet::{Decoder, Item, PacketError, encode, encode_notification};

/// Most bytes that wait for an adapter which does not read.
const MAX_WAITING: usize = 8 << 20;

/// Where the adapter connects: one connection of our own user, then no more.
pub(in crate::guard) struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    pub(in crate::guard) fn open(path: &Path) -> io::Result<Door> {
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Door { listener, path: path.to_owned() })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The connection that waits; `None` when it is another user's.
    pub(super) fn accept(&self) -> io::Result<Option<Peer>> {
        let (socket, _) = match self.listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let who = rustix::net::sockopt::socket_peercred(&socket)?;
        if who.uid != rustix::process::geteuid() {
            return Ok(None);
        }
        self.close();
        Peer::new(socket).map(Some)
    }

    pub(super) fn close(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The adapter, as the relay hears it.
pub(in crate::guard) struct Peer {
    socket: OwnedFd,
    /// The stand-in that handed its connection over; it ends when this closes.
    handed_by: Option<OwnedFd>,
    decoder: Decoder,
    items: VecDeque<Item>,
    acks: bool,
    last: Vec<u8>,
    waiting: Vec<u8>,
    fresh: bool,
}

impl Peer {
    fn new(socket: UnixStream) -> io::Result<Peer> {
        socket.set_nonblocking(true)?;
        Ok(Peer {
            socket: socket.into(),
            handed_by: None,
            decoder: Decoder::default(),
            items: VecDeque::new(),
            acks: true,
            last: Vec::new(),
            waiting: Vec::new(),
            fresh: true,
        })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn interest(&self) -> PollFlags {
        if self.waiting.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT }
    }

    /// Takes what has come; `false` at the end of the stream.
    pub(super) fn take(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        let count = if self.fresh {
            self.take_first(&mut buffer)
        } else {
            rustix::io::read(&self.socket, &mut buffer)
        };
        match count {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.decoder.feed(&buffer[..count]);
                self.sort()?;
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            Err(Errno::CONNRESET) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The first bytes may bring a connection with them, which then takes this one's place.
    fn take_first(&mut self, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(buffer)];
        let received =
            rustix::net::recvmsg(&self.socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        self.fresh = false;
        let handed = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        if let Some(socket) = handed {
            rustix::io::ioctl_fionbio(&socket, true)?;
            self.handed_by = Some(std::mem::replace(&mut self.socket, socket));
            return Err(Errno::AGAIN);
        }
        Ok(received.bytes)
    }

    /// Acknowledges packets in the order they came.
    fn sort(&mut self) -> io::Result<()> {
        let refuse = |error: PacketError| io::Error::new(io::ErrorKind::InvalidData, error);
        while let Some(item) = self.decoder.next_item().map_err(refuse)? {
            match item {
                Item::Packet(_) if self.acks => {
                    self.waiting.push(b'+');
                    self.items.push_back(item);
                }
                Item::Nak if self.acks => {
                    let again = self.last.clone();
                    self.waiting.extend(again);
                }
                Item::Ack | Item::Nak => {}
                other => self.items.push_back(other),
            }
        }
        self.flush()
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Item>> {
        if self.waiting.len() > MAX_WAITING {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the adapter does not read"));
        }
        Ok(self.items.pop_front())
    }

    /// Lets the stand-in end. delve waits for that after a detach, and may not end it by a signal.
    pub(super) fn dismiss(&mut self) {
        self.handed_by = None;
    }

    pub(super) fn no_more_acks(&mut self) {
        self.acks = false;
    }

    /// What cannot be sent now waits; an adapter that has gone is noticed when it is read from.
    pub(super) fn send(&mut self, packet: &[u8]) {
        let bytes = encode(packet);
        self.waiting.extend_from_slice(&bytes);
        if self.acks {
            self.last = bytes;
        }
        let _ = self.flush();
    }

    pub(super) fn send_notification(&mut self, notification: &[u8]) {
        self.waiting.extend(encode_notification(notification));
        let _ = self.flush();
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            match rustix::net::send(&self.socket, &self.waiting, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.waiting.clear();
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
