//! The socket that is asked, from both its sides.
//!
//! It has a name and no file, so that it is there in a read-only root and nothing stays behind. The name says whose it is
//! (the mount namespace is the container's own, while networks and processes may be shared), and there is one of a name: so it is
//! also how a container's first init is known. Only root and our own user may ask, and only from inside our PID namespace: the
//! kernel says who does.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        linux::net::SocketAddrExt,
        unix::{
            ffi::{OsStrExt, OsStringExt},
            net::{SocketAddr, UnixListener, UnixStream},
        },
    },
    thread,
    time::Duration,
};

use rustix::process::Pid;

use crate::{
    exit::{Exit, Fault},
    sys, tell,
};

/// How the names begin.
const NAME: &str = "pepo-entry/";
/// How long a caller may take, for the init has other things to do.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long an init may take, which may have an archive to fetch first.
const ANSWERED: Duration = Duration::from_secs(10);
/// Between two tries for a name whose last owner is being closed.
const CLOSING: Duration = Duration::from_millis(2);
/// So often is tried.
const CLOSING_TRIES: u32 = 50;
/// As long may a question be.
const LONGEST: u64 = 256 * 1024;

/// What may be asked.
#[derive(Debug, PartialEq)]
pub(crate) enum Ask {
    /// What is going on.
    Status,
    /// Let go, with this status.
    Release(Option<u8>),
    /// Run it again, or this.
    Rerun(Vec<OsString>),
}

impl Ask {
    fn to_bytes(&self) -> Vec<u8> {
        let mut words: Vec<Vec<u8>> = Vec::new();
        match self {
            Ask::Status => words.push(b"status".to_vec()),
            Ask::Release(code) => {
                words.push(b"release".to_vec());
                words.extend(code.map(|code| code.to_string().into_bytes()));
            }
            Ask::Rerun(command) => {
                words.push(b"rerun".to_vec());
                words.extend(command.iter().map(|word| word.as_bytes().to_owned()));
            }
        }
        words.join(&0)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Ask> {
        let mut words = bytes.split(|byte| *byte == 0);
        let ask = match words.next()? {
            b"status" => Ask::Status,
            b"release" => {
                let code = words.next().map(|code| std::str::from_utf8(code).ok()?.parse().ok());
                Ask::Release(match code {
                    None => None,
                    Some(code) => Some(code?),
                })
            }
            b"rerun" => Ask::Rerun(words.by_ref().map(|word| OsString::from_vec(word.to_owned())).collect()),
            _ => return None,
        };
        words.next().is_none().then_some(ask)
    }
}

/// Our side.
pub(crate) struct Socket(UnixListener);

/// Somebody who asked and waits for the answer.
pub(crate) struct Caller(UnixStream);

impl Socket {
    /// Opens the socket of this process; none if another init is its container's first.
    ///
    /// A container starts its first process, and whatever is executed in it later, from outside its PID namespace, or has a small
    /// init do so. Elsewhere, as on a machine of one's own, several may be side by side.
    pub(crate) fn open() -> io::Result<Option<Socket>> {
        let place = place()?;
        let is_init = rustix::process::getpid().is_init();
        let may_be_first = is_init || rustix::process::getppid().is_none_or(Pid::is_init);
        if !is_init && (connected(&place).is_ok() || may_be_first && !behind(&place)?.is_empty()) {
            return Ok(None);
        }
        let name = if may_be_first { place } else { format!("{place}/{}", std::process::id()) };
        match bound(&SocketAddr::from_abstract_name(name)?, is_init) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                Ok(Some(Socket(listener)))
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && !is_init => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// For polling.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// What somebody asks who may.
    pub(crate) fn asked(&self) -> Option<(Ask, Caller)> {
        let (stream, _) = self.0.accept().ok()?;
        let caller = Caller(stream);
        caller.0.set_nonblocking(false).and_then(|()| caller.0.set_read_timeout(Some(PATIENCE))).ok()?;
        caller.0.set_write_timeout(Some(PATIENCE)).ok()?;
        // Before anything is read: a stranger could keep the init waiting.
        let who = sys::peer(caller.0.as_fd()).ok()?;
        if who.uid != 0 && who.uid != rustix::process::geteuid().as_raw() {
            caller.refuse("only root and the user of the init may ask: docker exec --user 0 …");
            return None;
        }
        // Root of another container that shares our network.
        if who.pid == 0 {
            caller.refuse("only who is inside the container may ask");
            return None;
        }
        let question = receive(&caller.0).ok()?;
        let ask = Ask::from_bytes(&question);
        if ask.is_none() {
            caller.refuse("this is not understood; is the asking pepo-entry another version?");
        }
        ask.map(|ask| (ask, caller))
    }
}

impl Caller {
    /// What was asked, was done or told.
    pub(crate) fn answer(&self, text: &str) {
        self.say('+', text);
    }

    /// What was asked cannot be.
    pub(crate) fn refuse(&self, why: &str) {
        self.say('-', why);
    }

    fn say(&self, how: char, text: &str) {
        let _ = (&self.0).write_all(format!("{how}{text}").as_bytes());
        let _ = self.0.shutdown(std::net::Shutdown::Write);
    }

    /// Waits until the caller has read the answer and gone: with our end it would be killed.
    pub(crate) fn gone(self) {
        let _ = (&self.0).read(&mut [0]);
    }
}

/// A question, after its length.
fn receive(mut stream: &UnixStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut bytes = Vec::new();
    stream.take(u64::from(u32::from_le_bytes(length)).min(LONGEST)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Asks the init of this container; its answer.
///
/// The connection is left to the end of our process: the init may be waiting for it to close, to end the container and
/// us with it, and by then our own status must be fixed.
pub(crate) fn ask(ask: &Ask) -> Result<(), Fault> {
    let mut stream = connect()?;
    let lost = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock => Fault::new(Exit::Limit, "the init does not answer yet")
            .next("it may be fetching an archive: see the container's log"),
        _ => Fault::new(Exit::Unreachable, format!("the init does not answer: {error}")),
    };
    stream.set_read_timeout(Some(ANSWERED)).map_err(lost)?;
    let question = ask.to_bytes();
    let length = u32::try_from(question.len()).unwrap_or(u32::MAX).to_le_bytes();
    // A stranger is refused unheard: whether it could be asked shows in the answer.
    let asked = stream.write_all(&[&length, question.as_slice()].concat());
    let mut answer = Vec::new();
    let heard = stream.read_to_end(&mut answer);
    std::mem::forget(stream);
    if answer.is_empty() {
        asked.and(heard.map(drop)).map_err(lost)?;
    }
    match String::from_utf8_lossy(&answer).split_at_checked(1) {
        Some(("+", text)) => {
            tell::show(text);
            Ok(())
        }
        Some(("-", why)) => Err(Fault::new(Exit::No, why)),
        _ => Err(Fault::new(Exit::Unreachable, "the init gave no answer")),
    }
}

fn connect() -> Result<UnixStream, Fault> {
    let failed = |error: io::Error| Fault::new(Exit::Internal, format!("cannot look for the init: {error}"));
    let place = place().map_err(failed)?;
    if let Ok(stream) = connected(&place) {
        return Ok(stream);
    }
    let names = behind(&place).map_err(failed)?;
    match names.as_slice() {
        [name] => connected(name)
            .map_err(|error| Fault::new(Exit::Unreachable, format!("cannot ask the init: {error}"))),
        [] => Err(Fault::new(Exit::Unreachable, "no init here can be asked")
            .next("start the container with PEPO_DEBUG=stayalive, and ask inside it")),
        several => Err(Fault::new(Exit::Unreachable, format!("{} inits can be asked here", several.len()))
            .next("ask inside a container")),
    }
}

/// A listener. A number of a namespace that has gone is given again at once, while the kernel may still be closing the sockets
/// of who was in it: so the only one that may have the name tries for a moment.
fn bound(address: &SocketAddr, insists: bool) -> io::Result<UnixListener> {
    let mut tries = if insists { CLOSING_TRIES } else { 0 };
    loop {
        match UnixListener::bind_addr(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => tries -= 1,
            done => return done,
        }
        thread::sleep(CLOSING);
    }
}

/// The names of inits that are not their container's first process.
fn behind(place: &str) -> io::Result<Vec<String>> {
    let sockets = fs::read_to_string("/proc/self/net/unix")?;
    // Abstract names are listed with an @ before them; connections have the name, too.
    let names = sockets.lines().filter_map(|line| line.split_whitespace().nth(7)?.strip_prefix('@'));
    let mut names: Vec<_> =
        names.filter(|name| name.starts_with(&format!("{place}/"))).map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// A connection to an init of our own PID namespace: in a shared network anybody may have taken the name.
fn connected(name: &str) -> io::Result<UnixStream> {
    let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    match sys::peer(stream.as_fd())?.pid {
        0 => Err(io::ErrorKind::ConnectionRefused.into()),
        _ => Ok(stream),
    }
}

/// The name of a container's first init: with the number of our mount namespace.
fn place() -> io::Result<String> {
    let link = fs::read_link("/proc/self/ns/mnt")?;
    let number: String = link.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    Ok(format!("{NAME}{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_survive_their_way() {
        let command = ["a b", "", "c"].map(OsString::from).to_vec();
        for ask in
            [Ask::Status, Ask::Release(None), Ask::Release(Some(7)), Ask::Rerun(vec![]), Ask::Rerun(command)]
        {
            assert_eq!(Ask::from_bytes(&ask.to_bytes()), Some(ask));
        }
        for odd in [b"".as_slice(), b"release\x00x", b"status\x00x", b"stop"] {
            assert_eq!(Ask::from_bytes(odd), None, "{odd:?}");
        }
    }
}
