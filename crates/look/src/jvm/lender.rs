//! A process that lends files to a JVM: it holds them open, and the JVM opens them as `/proc/N/fd/M`. So a library is loaded and an answer
//! written without a file in the target's own file system, also where that is read-only or lets nothing be executed.
//!
//! The kernel lets the JVM do so when the lender is as the JVM is: in its PID and user namespace, its user, with no capability more. So it
//! becomes that, and then a program of its own of a few instructions, for nothing of this process's memory may be where the target may
//! read. Between it and us stands a keeper, a fork of this process which is what it was: when we end, however we end, the keeper ends the
//! lender and takes its status, so that no zombie is left to the target's first process.
#![allow(unsafe_code)] // execveat(2) has no safe form.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::fs::{FileExt as _, MetadataExt as _},
    },
};

use pepo_process::{Process, status::Status};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    io::{FdFlags, dup2, fcntl_dupfd_cloexec, fcntl_setfd},
    process::{Gid, Uid},
    stdio::dup2_stdin,
    thread::{CapabilitySet, CapabilitySets, LinkNameSpaceType, move_into_link_name_space},
};

use crate::forked::{Forked, apart};

/// Numbers of the files that are lent.
const LIBRARY: i32 = 3;
const ANSWER: i32 = 4;
const LOG: i32 = 5;
/// All else that the lender has is above.
const ABOVE: i32 = 10;
/// Most bytes that are read of what was written.
const MOST: u64 = 64 << 20;

/// The lender, as its borrower's friend sees it. Dropped, it ends.
pub(super) struct Lender {
    /// Its number where the JVM is.
    number: u32,
    answer: File,
    log: File,
    keeper: Forked,
}

impl Lender {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot become what the JVM may look at.
    pub(super) fn start(process: &Process, name: &str, library: &'static [u8]) -> io::Result<Lender> {
        let role = Role::of(process, name, library)?;
        let (mut report, reporter) = io::pipe()?;
        let keeper = Forked::start(|life| keep(life, reporter, &role))?;
        let mut lender = Lender { number: 0, answer: role.answer, log: role.log, keeper };
        let mut words = [0; 8];
        report.read_exact(&mut words)?;
        let word = |at: usize| i32::from_ne_bytes([words[at], words[at + 1], words[at + 2], words[at + 3]]);
        match (word(0), u32::try_from(word(4))) {
            (0, Ok(number)) => {
                lender.number = number;
                Ok(lender)
            }
            (error, _) => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// The library, as the JVM opens it.
    pub(super) fn library(&self) -> String {
        library_of(self.number)
    }

    /// Where the JVM writes what it is asked for.
    pub(super) fn answer(&self) -> String {
        format!("/proc/{}/fd/{ANSWER}", self.number)
    }

    /// Where it writes what goes wrong.
    pub(super) fn log(&self) -> String {
        format!("/proc/{}/fd/{LOG}", self.number)
    }

    /// What was written; from then on nothing is.
    ///
    /// # Errors
    /// There is too much of it.
    pub(super) fn take_answer(&self) -> io::Result<Vec<u8>> {
        take(&self.answer)
    }

    /// As [`Lender::take_answer`], of what went wrong.
    pub(super) fn take_log(&self) -> String {
        String::from_utf8_lossy(&take(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        // Its end alone might not be seen: another fork may hold this pipe, too.
        self.keeper.tell();
    }
}

/// The library as a process with this number lends it.
pub(super) fn library_of(number: u32) -> String {
    format!("/proc/{number}/fd/{LIBRARY}")
}

fn take(file: &File) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    if length > MOST {
        let _ = file.set_len(0);
        return Err(io::Error::other(format!("it writes more than {} MiB", MOST >> 20)));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0)?;
    file.set_len(0)?;
    Ok(bytes)
}

/// What the lender becomes, and what it lends.
struct Role {
    /// Namespaces that are not ours.
    user: Option<File>,
    pid: Option<File>,
    /// The JVM's user, as its user namespace counts.
    uid: u32,
    gid: u32,
    is_other: bool,
    /// The JVM's `/proc`.
    proc_there: String,
    name: String,
    library: &'static [u8],
    answer: File,
    log: File,
}

impl Role {
    fn of(process: &Process, name: &str, library: &'static [u8]) -> io::Result<Role> {
        let status = process.status().map_err(io::Error::other)?;
        let user = namespace(process, "user")?;
        let (uid, gid) = match &user {
            None => (status.uid[1], status.gid[1]),
            Some(_) => (
                inside(process, "uid_map", status.uid[1]).ok_or(io::ErrorKind::PermissionDenied)?,
                inside(process, "gid_map", status.gid[1]).ok_or(io::ErrorKind::PermissionDenied)?,
            ),
        };
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let memory = |name| Ok::<_, io::Error>(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?));
        Ok(Role {
            user,
            pid: namespace(process, "pid")?,
            uid,
            gid,
            is_other: own != (uid, gid),
            proc_there: format!("/proc/{}/root/proc", process.pid()),
            name: name.to_owned(),
            library,
            answer: memory("pepo-answer")?,
            log: memory("pepo-log")?,
        })
    }

    /// Enters the namespaces; the next process of ours is then in them.
    fn enter(&self) -> io::Result<()> {
        let kinds = [(&self.user, LinkNameSpaceType::User), (&self.pid, LinkNameSpaceType::ProcessID)];
        for (file, kind) in kinds {
            if let Some(file) = file {
                move_into_link_name_space(file.as_fd(), Some(kind))?;
            }
        }
        Ok(())
    }

    /// Becomes the program that lends, and returns only when that fails.
    fn become_it(&self, life: &PipeReader, mut said: &PipeWriter) -> io::Result<()> {
        // Numbers of files that the program has must not be those of files on their way.
        let away = |file: BorrowedFd<'_>| Ok::<OwnedFd, io::Error>(fcntl_dupfd_cloexec(file, ABOVE)?);
        let (life, answer, log) = (away(life.as_fd())?, away(self.answer.as_fd())?, away(self.log.as_fd())?);
        let number = self.number()?;
        said.write_all(&number.to_ne_bytes())?;
        let library = File::from(memfd_create(format!("{}-{number}", self.name), MemfdFlags::CLOEXEC)?);
        library.write_all_at(self.library, 0)?;
        let program = File::from(memfd_create("pepo-lender", MemfdFlags::CLOEXEC)?);
        program.write_all_at(&lending_program(), 0)?;
        let (library, program) = (away(library.as_fd())?, away(program.as_fd())?);
        self.become_its_user()?;
        lend(&answer, ANSWER)?;
        lend(&log, LOG)?;
        lend(&library, LIBRARY)?;
        dup2_stdin(&life)?;
        let name = CString::new("pepo-lender")?;
        let (empty, arguments, environment) =
            (CString::default(), [name.as_ptr(), std::ptr::null()], [std::ptr::null::<libc::c_char>()]);
        // SAFETY: all of it lives until the call, and both lists end with a null pointer.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                program.as_raw_fd(),
                empty.as_ptr(),
                arguments.as_ptr(),
                environment.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
        }
        Err(io::Error::last_os_error())
    }

    /// What this process is called in the `/proc` that the JVM sees, which need not be that of its own PID namespace.
    fn number(&self) -> io::Result<u32> {
        let status = Status::parse(&fs::read("/proc/self/status")?).ok_or(io::ErrorKind::InvalidData)?;
        let wanted = self.answer.metadata()?;
        let is_it = |number: &u32| {
            let path = format!("{}/{number}/fd/{}", self.proc_there, self.answer.as_raw_fd());
            fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino()))
        };
        status.ns_pid.into_iter().rev().find(is_it).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
    }

    fn become_its_user(&self) -> io::Result<()> {
        if self.is_other || self.user.is_some() {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            // Not everybody may; the kernel asks for no more than the user and group.
            let _ = rustix::thread::set_thread_groups(&[]);
            rustix::thread::set_thread_res_gid(Some(gid), Some(gid), Some(gid))?;
            rustix::thread::set_thread_res_uid(Some(uid), Some(uid), Some(uid))?;
        }
        // A program that root starts would get all capabilities back.
        rustix::thread::set_no_new_privs(true)?;
        let none = CapabilitySet::empty();
        rustix::thread::set_capabilities(
            None,
            CapabilitySets { effective: none, permitted: none, inheritable: none },
        )?;
        Ok(())
    }
}

/// Gives a file a number that the program keeps.
fn lend(file: &OwnedFd, number: i32) -> io::Result<()> {
    // SAFETY: below `ABOVE` nothing is used any more in this process, which this thread is alone in.
    let mut place = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
    dup2(file, &mut place)?;
    fcntl_setfd(&*place, FdFlags::empty())?;
    Ok(())
}

/// A namespace of a process, if it is not ours.
fn namespace(process: &Process, kind: &str) -> io::Result<Option<File>> {
    let theirs = File::open(format!("/proc/{}/ns/{kind}", process.pid()))?;
    let ours = fs::metadata(format!("/proc/self/ns/{kind}"))?;
    Ok((theirs.metadata()?.ino() != ours.ino()).then_some(theirs))
}

/// What a user or group that we know by this number is called in the process's own user namespace.
fn inside(process: &Process, map: &str, id: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{}/{map}", process.pid())).ok()?;
    text.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let offset = id.checked_sub(outside).filter(|offset| *offset < count)?;
        inside.checked_add(offset)
    })
}

/// The keeper.
fn keep(mut life: PipeReader, mut report: PipeWriter, role: &Role) {
    apart();
    let mut say = |error: i32, number: u32| {
        let words = [error.to_ne_bytes(), number.to_ne_bytes()].concat();
        let _ = report.write_all(&words);
    };
    match start_lender(role) {
        Ok((lender, number)) => {
            say(0, number);
            let _ = life.read(&mut [0]);
            drop(lender);
        }
        Err(error) => say(error.raw_os_error().unwrap_or(libc::EIO), 0),
    }
}

/// The lender, and its number where the JVM is.
fn start_lender(role: &Role) -> io::Result<(Forked, u32)> {
    role.enter()?;
    let (mut failure, mut failed) = io::pipe()?;
    let lender = Forked::start(move |life| {
        let error = role.become_it(&life, &failed).err().and_then(|error| error.raw_os_error());
        let _ = failed.write_all(&[0; 4]);
        let _ = failed.write_all(&error.unwrap_or(libc::EIO).to_ne_bytes());
    })?;
    // The number, and after it, or instead, what went wrong: nothing when the program runs.
    let mut said = Vec::new();
    failure.read_to_end(&mut said)?;
    let words: Vec<i32> =
        said.chunks_exact(4).map(|word| i32::from_ne_bytes([word[0], word[1], word[2], word[3]])).collect();
    let [number] = words[..] else {
        return Err(io::Error::from_raw_os_error(words.last().copied().unwrap_or(libc::EIO)));
    };
    let number = u32::try_from(number).unwrap_or(0);
    Ok((lender, number))
}

/// An ELF program that reads a byte and ends.
fn lending_program() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let length = HEADERS + CODE.len() as u64;
    let mut program = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [2, MACHINE] {
        program.extend_from_slice(&half.to_le_bytes());
    }
    program.extend_from_slice(&1_u32.to_le_bytes());
    for word in [BASE + HEADERS, 64, 0] {
        program.extend_from_slice(&word.to_le_bytes());
    }
    program.extend_from_slice(&0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 64, 0, 0] {
        program.extend_from_slice(&half.to_le_bytes());
    }
    // To be loaded, readable and executable.
    for half in [1_u32, 5] {
        program.extend_from_slice(&half.to_le_bytes());
    }
    for word in [0, BASE, BASE, length, length, 0x1000] {
        program.extend_from_slice(&word.to_le_bytes());
    }
    program.extend_from_slice(CODE);
    program
}

/// `read(0, below the stack, 1); exit(0)`, and the machine's number in ELF.
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = &[
    0x31, 0xc0, 0x31, 0xff, 0x48, 0x8d, 0x74, 0x24, 0xf8, 0xba, 1, 0, 0, 0, 0x0f, 0x05, 0xb8, 60, 0, 0, 0,
    0x31, 0xff, 0x0f, 0x05,
];
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;
#[cfg(target_arch = "aarch64")]
const CODE: &[u8] = &[
    0xe8, 0x07, 0x80, 0xd2, 0x00, 0x00, 0x80, 0xd2, 0xe1, 0x43, 0x00, 0xd1, 0x22, 0x00, 0x80, 0xd2, 0x01,
    0x00, 0x00, 0xd4, 0xa8, 0x0b, 0x80, 0xd2, 0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4,
];
