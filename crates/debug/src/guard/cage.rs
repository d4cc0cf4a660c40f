//! As little privilege as an adapter can do with: few capabilities, and a filter for what reaches out of it.
//!
//! Whoever may evaluate an expression may have a debugger do more than debug (`shell id`, `script import os`). The words that
//! lead there are refused before they reach it; this is for the words nobody knew. An adapter behind the relay
//! - starts no program, but for the one its attach needs;
//! - makes no connection but to the relay and to us, and no socket that could leave this machine;
//! - opens no file to write into it, and changes no file's name, owner or mode;
//! - sends no signal to another process, traces and reads none;
//! - has one capability: to read files, whoever owns them.
//!
//! One that owns the target itself must be able to stop and change another process, so of these only the first two hold. With
//! the right `raw` its user asks for the debugger's own commands: then capabilities and network are all that is missing.
//!
//! The adapter's own start is the one that passes the filter: it carries a number in an argument of execve(2) that the kernel
//! does not look at, and that nobody else ever knows. What can't be decided beforehand is decided by the [`Warden`].

#![allow(unsafe_code)] // seccomp(2) and execve(2) have no safe form that can be called after a fork.

use std::{
    collections::BTreeMap,
    ffi::{CString, OsStr, OsString},
    io::{self, IoSlice, IoSliceMut},
    os::{
        fd::{AsFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::{ffi::OsStrExt as _, net::UnixStream},
    },
    process::Command,
};

use rustix::{
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags,
    },
    thread::{CapabilitySet, CapabilitySets},
};

use super::control::Needs;

/// Which system calls may be made.
mod filter;
/// Decides the calls that are asked about.
mod warden;

use filter::{Filter, Rules, Verdict};
pub(super) use warden::Warden;

/// What reading another user's files takes.
const READ: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;
/// What stopping and changing another user's process takes, through `/proc/PID/mem` too.
const OWN: CapabilitySet =
    READ.union(CapabilitySet::SYS_PTRACE).union(CapabilitySet::DAC_OVERRIDE).union(CapabilitySet::KILL);

/// Whom a cage is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Inmate<'a> {
    /// It owns the target and hears only what the relay lets through.
    Stub,
    /// It hears whatever a client sends; some own the target.
    Adapter { needs: &'a Needs, owns_target: bool },
}

/// All that is prepared before the fork, so that nothing after it takes memory.
pub(super) struct Cage {
    keeps: CapabilitySet,
    image: Image,
    token: u64,
    filter: Option<Filter>,
    /// Without questions, for where nobody can be asked; only if there are any.
    simpler: Option<Filter>,
    /// To hand the listener over: the child's end.
    listener: UnixStream,
}

impl Cage {
    /// Builds a cage; the other end of the stream is where its listener arrives.
    pub(super) fn build(inmate: Inmate<'_>, command: &Command) -> io::Result<(Cage, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut token = [0; 8];
        rustix::rand::getrandom(&mut token, rustix::rand::GetRandomFlags::empty())?;
        let token = u64::from_ne_bytes(token);
        let (keeps, rules) = match inmate {
            Inmate::Stub => (OWN, rules_of_stub(is_wrapped(command))),
            Inmate::Adapter { needs, owns_target } => {
                (if owns_target { OWN } else { READ }, rules(needs, owns_target, is_wrapped(command)))
            }
        };
        let asks = |rules: &Rules| [rules.start, rules.connect, rules.write].contains(&Verdict::Ask);
        let cage = Cage {
            keeps,
            image: Image::of(command)?,
            token,
            filter: Filter::new(rules, token),
            simpler: asks(&rules).then(|| Filter::new(without_questions(rules), token)).flatten(),
            listener: theirs,
        };
        Ok((cage, ours))
    }

    /// Locks this process in and becomes the program; returns only when that fails. To be called after a fork: takes no memory.
    pub(super) fn enter(&mut self) -> io::Error {
        give_up(self.keeps);
        let _ = rustix::thread::set_no_new_privs(true);
        let pid = std::process::id();
        let asks = self.simpler.is_some();
        let installed = self.filter.as_mut().map(|filter| install(filter.of_process(pid), asks));
        match (installed, &mut self.simpler) {
            (Some(Ok(Some(listener))), _) => hand_over(&self.listener, &listener),
            (Some(Err(_)), Some(simpler)) => drop(install(simpler.of_process(pid), false)),
            _ => {}
        }
        self.image.start(self.token)
    }
}

/// The arguments of execve(2), in its own form.
struct Image {
    path: CString,
    arguments: Pointers,
    environment: Pointers,
}

impl Image {
    fn of(command: &Command) -> io::Result<Image> {
        let mut environment: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => drop(environment.insert(name.to_owned(), value.to_owned())),
                None => drop(environment.remove(name)),
            }
        }
        let pairs = environment.into_iter().map(|(name, value)| {
            let mut pair = name;
            pair.push("=");
            pair.push(value);
            pair
        });
        let words = std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_owned);
        Ok(Image {
            path: CString::new(command.get_program().as_bytes())?,
            arguments: Pointers::to(words)?,
            environment: Pointers::to(pairs)?,
        })
    }

    fn start(&self, token: u64) -> io::Error {
        let (path, words, pairs) = (self.path.as_ptr(), self.arguments.first(), self.environment.first());
        // SAFETY: texts and lists end as execve(2) wants, and live as long as this.
        unsafe { libc::syscall(libc::SYS_execve, path, words, pairs, 0_u64, 0_u64, token) };
        io::Error::last_os_error()
    }
}

/// Texts, and the list of where they are that ends with none.
struct Pointers {
    list: Vec<*const libc::c_char>,
    _texts: Vec<CString>,
}

// SAFETY: the pointers lead to texts of the same structure, which nobody changes.
unsafe impl Send for Pointers {}
// SAFETY: as above.
unsafe impl Sync for Pointers {}

impl Pointers {
    fn to(texts: impl Iterator<Item = OsString>) -> io::Result<Pointers> {
        let texts: Vec<CString> =
            texts.map(|text| CString::new(text.as_bytes())).collect::<Result<_, _>>()?;
        let list = texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Ok(Pointers { list, _texts: texts })
    }

    fn first(&self) -> *const *const libc::c_char {
        self.list.as_ptr()
    }
}

/// `lldb-server` starts a dozen programs to learn the distribution's name: its attach is quicker without.
fn rules_of_stub(wrapped: bool) -> Rules {
    Rules {
        start: if wrapped { Verdict::Allow } else { Verdict::Fail(libc::EPERM) },
        connect: Verdict::Fail(libc::EACCES),
        write: Verdict::Allow,
        tcp: false,
        owns_target: true,
        raw: false,
    }
}

fn rules(needs: &Needs, owns_target: bool, wrapped: bool) -> Rules {
    let ask_if = |asked: bool, otherwise: Verdict| if asked { Verdict::Ask } else { otherwise };
    let asks_to_start = wrapped || needs.program.is_some();
    Rules {
        start: if needs.raw { Verdict::Allow } else { ask_if(asks_to_start, Verdict::Fail(libc::EPERM)) },
        connect: ask_if(
            wrapped || !needs.sockets.is_empty() || needs.dials_stub,
            Verdict::Fail(libc::EACCES),
        ),
        write: ask_if(wrapped, Verdict::Fail(libc::EROFS)),
        tcp: needs.dials_stub,
        owns_target,
        raw: needs.raw,
    }
}

/// Where there is nobody to ask, what might be right is allowed.
fn without_questions(rules: Rules) -> Rules {
    let answered = |verdict| if verdict == Verdict::Ask { Verdict::Allow } else { verdict };
    Rules {
        start: answered(rules.start),
        connect: answered(rules.connect),
        write: answered(rules.write),
        ..rules
    }
}

/// The listener that a child has handed over, once it runs; `None` where it could not have one or needs none.
pub(super) fn warden(from: &UnixStream, needs: &Needs) -> Option<Warden> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    rustix::net::recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags).ok()?;
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next().map(|fd| Warden::new(fd, needs)),
        _ => None,
    })
}

/// Is the program a script, which starts others before it becomes what it is written for?
pub(super) fn is_wrapped(command: &Command) -> bool {
    warden::begins_as_script(command.get_program().as_ref())
}

/// Gives up every capability but these, for this process and whatever it becomes. What is refused was not there to give up.
fn give_up(keeps: CapabilitySet) {
    let _ = rustix::thread::capabilities(None).map(|have| {
        for bit in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << bit);
            if !keeps.contains(one) {
                let _ = rustix::thread::remove_capability_from_bounding_set(one);
                let _ = rustix::thread::configure_capability_in_ambient_set(one, false);
            }
        }
        let kept = CapabilitySets {
            effective: have.effective & keeps,
            permitted: have.permitted & keeps,
            inheritable: have.inheritable & keeps,
        };
        rustix::thread::set_capabilities(None, kept)
    });
}

/// Puts a filter on this process for ever, and makes its listener if it asks.
fn install(program: &[libc::sock_filter], asks: bool) -> io::Result<Option<OwnedFd>> {
    let program =
        libc::sock_fprog { len: program.len() as libc::c_ushort, filter: program.as_ptr().cast_mut() };
    let flags = if asks { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { 0 };
    // SAFETY: the kernel copies the program, which lives as long as the call.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &program) };
    match done {
        0 if !asks => Ok(None),
        // SAFETY: a descriptor that the kernel made for this call.
        fd if fd > 0 && asks => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })),
        _ => Err(io::Error::last_os_error()),
    }
}

fn hand_over(to: &UnixStream, listener: &OwnedFd) {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [listener.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    let _ = rustix::net::sendmsg(to, &[IoSlice::new(b"+")], &mut ancillary, SendFlags::NOSIGNAL);
}
