//! What delve starts instead of `lldb-server`: takes its one connection and hands it to the relay.
//!
//! delve's lldb backend starts `lldb-server gdbserver --attach PID 127.0.0.1:PORT` from its PATH and dials the port. This
//! stand-in is the first `lldb-server` there: a script whose interpreter line names this program. It owns no target, so its
//! death is only the end of a stream.

use std::{
    ffi::OsString,
    io::{self, IoSlice, Read as _},
    net::TcpListener,
    os::{
        fd::AsFd as _,
        unix::{fs::OpenOptionsExt as _, net::UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

/// The name it goes by.
pub(super) const NAME: &str = "lldb-server";
/// Names the relay's socket in the adapter's environment.
pub const SOCKET: &str = "PEPO_GUARD_SOCKET";
/// How long delve may take to dial: longer than a stub may take to attach.
const DIALS: Duration = Duration::from_secs(40);

/// Puts the stand-in into a folder that will be first in the adapter's PATH.
///
/// # Errors
/// What writing said; also when the path of `self_exe` does not fit an interpreter line (execve(2): 255 bytes, no space).
pub fn install(folder: &Path, self_exe: &Path) -> io::Result<PathBuf> {
    let interpreter =
        self_exe.to_str().filter(|path| path.len() < 240 && !path.contains(char::is_whitespace));
    let interpreter = interpreter.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} cannot be an interpreter", self_exe.display()),
        )
    })?;
    std::fs::create_dir_all(folder)?;
    let path = folder.join(NAME);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path)?;
    io::Write::write_all(&mut file, format!("#!{interpreter} guard\n").as_bytes())?;
    Ok(path)
}

/// Listens where delve will dial, and hands over.
pub(super) fn run(args: &[OsString]) -> io::Result<()> {
    let address = args.iter().rev().filter_map(|arg| arg.to_str()).find(|arg| arg.contains(':'));
    let port = address.and_then(|address| address.rsplit(':').next()?.parse::<u16>().ok());
    let port = port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no port to listen on"))?;
    let socket = std::env::var_os(SOCKET).ok_or(io::ErrorKind::NotFound)?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    // Before delve has dialled: the relay holds its call until it hears of us, and has the stub attach meanwhile.
    let mut relay = UnixStream::connect(socket)?;
    if !super::stub::readable(&listener, DIALS)? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let (connection, _) = listener.accept()?;
    drop(listener);
    connection.set_nodelay(true)?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [connection.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(&relay, &[IoSlice::new(b"+")], &mut ancillary, SendFlags::NOSIGNAL)?;
    drop(connection);
    // delve watches us: we stay as long as the relay serves it.
    let _ = relay.read(&mut [0]);
    Ok(())
}
