//! isolate ROOT UID ro|rw PROGRAM [ARGUMENTS]: runs PROGRAM as process 1 of namespaces of its own (pid, mount,
//! network, IPC, UTS) with ROOT as its root folder, as container runtimes do, and waits for it.
use std::ffi::{CString, c_char, c_int, c_long, c_ulong, c_void};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{env, io, process, ptr};

unsafe extern "C" {
    fn unshare(flags: c_int) -> c_int;
    fn mount(from: *const c_char, to: *const c_char, kind: *const c_char, flags: c_ulong, data: *const c_void) -> c_int;
    fn umount2(target: *const c_char, flags: c_int) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn setgroups(count: usize, groups: *const u32) -> c_int;
    fn setgid(id: u32) -> c_int;
    fn setuid(id: u32) -> c_int;
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
}

const NEW_NAMESPACES: c_int = 0x0002_0000 | 0x0400_0000 | 0x0800_0000 | 0x2000_0000 | 0x4000_0000; // NS UTS IPC PID NET
const MS_RDONLY: c_ulong = 1;
const MS_REMOUNT: c_ulong = 32;
const MS_BIND: c_ulong = 4096;
const MS_REC_PRIVATE: c_ulong = 16384 | (1 << 18);
const MNT_DETACH: c_int = 2;
#[cfg(target_arch = "x86_64")]
const SYS_PIVOT_ROOT: c_long = 155;
#[cfg(target_arch = "aarch64")]
const SYS_PIVOT_ROOT: c_long = 41;

fn check(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn mount_at(from: &str, to: &str, kind: &str, flags: c_ulong) -> io::Result<()> {
    let [from, to, kind] = [from, to, kind].map(|text| CString::new(text).unwrap());
    check(unsafe { mount(from.as_ptr(), to.as_ptr(), kind.as_ptr(), flags, ptr::null()) })
}

/// Sets IFF_UP on `lo`, so that the program can talk to itself.
fn loopback_up() -> io::Result<()> {
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16] = 1;
    unsafe { check(ioctl(socket(2, 2, 0), 0x8914, request.as_mut_ptr())) }
}

/// In the child, before its program: its own root, then its own user.
fn enter(root: &str, uid: u32, read_only: bool) -> io::Result<()> {
    mount_at(root, root, "", MS_BIND)?;
    mount_at("proc", &format!("{root}/proc"), "proc", 0)?;
    mount_at("shm", &format!("{root}/dev/shm"), "tmpfs", 0)?;
    if read_only {
        mount_at("", root, "", MS_BIND | MS_REMOUNT | MS_RDONLY)?;
    }
    env::set_current_dir(root)?;
    let here = c".".as_ptr();
    unsafe {
        check(syscall(SYS_PIVOT_ROOT, here, here) as c_int)?;
        check(umount2(here, MNT_DETACH))?;
        env::set_current_dir("/")?;
        check(setgroups(0, ptr::null()))?;
        check(setgid(uid))?;
        check(setuid(uid))
    }
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().collect();
    let [_, root, uid, mode, program, rest @ ..] = arguments.as_slice() else { process::exit(2) };
    let (root, uid, read_only) = (root.clone(), uid.parse().unwrap(), mode == "ro");
    check(unsafe { unshare(NEW_NAMESPACES) })?;
    mount_at("", "/", "", MS_REC_PRIVATE)?;
    loopback_up()?;
    let mut command = Command::new(program);
    command.args(rest);
    unsafe { command.pre_exec(move || enter(&root, uid, read_only)) };
    let status = command.status()?;
    process::exit(status.code().unwrap_or(1))
}
