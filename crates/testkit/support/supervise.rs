//! supervise FOLDER CGROUP SETUP DAEMON [ARGUMENTS]: keeps a container engine for a test, and ends all of it.
//!
//! It lives in a mount and a network namespace of its own, runs the shell script SETUP in them, starts DAEMON
//! (output: FOLDER/daemon.log) and says `pid N`. On standard input it takes `restart` (SIGTERM, start again)
//! and `kill` (SIGKILL, start again). At the end of its input, which also comes when the test dies, it ends
//! the daemon and every descendant (it is their subreaper), and removes the control groups CGROUP and FOLDER.
use std::ffi::{CString, c_char, c_int, c_ulong, c_void};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{env, process, ptr, thread};

unsafe extern "C" {
    fn unshare(flags: c_int) -> c_int;
    fn prctl(option: c_int, ...) -> c_int;
    fn setsid() -> c_int;
    fn mount(from: *const c_char, to: *const c_char, kind: *const c_char, flags: c_ulong, data: *const c_void) -> c_int;
    fn umount2(target: *const c_char, flags: c_int) -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
}

const PR_SET_CHILD_SUBREAPER: c_int = 36;
const NEW_NET_AND_MOUNTS: c_int = 0x4000_0000 | 0x0002_0000;
const MS_REC_PRIVATE: c_ulong = 16384 | (1 << 18);
const MNT_DETACH: c_int = 2;
const WNOHANG: c_int = 1;
const SIGKILL: c_int = 9;
const SIGTERM: c_int = 15;

struct Supervisor {
    folder: String,
    daemon: Vec<String>,
    pid: c_int,
}

impl Supervisor {
    fn start(&mut self) -> io::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(format!("{}/daemon.log", self.folder))?;
        let child = Command::new(&self.daemon[0])
            .args(&self.daemon[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        self.pid = child.id() as c_int;
        println!("pid {}", self.pid);
        Ok(())
    }

    /// Signals the daemon until it has ended: SIGKILL if `signal` was not enough for 8 seconds.
    fn stop(&mut self, signal: c_int) {
        if self.pid == 0 {
            // It has ended by itself, and number 0 would mean our own process group.
            return;
        }
        unsafe { kill(self.pid, signal) };
        let hurry = Instant::now() + Duration::from_secs(8);
        while self.pid != 0 {
            if Instant::now() > hurry {
                unsafe { kill(self.pid, SIGKILL) };
            }
            self.reap();
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for whatever has ended; true while children are left. Only this thread reaps, so a child's
    /// number cannot have become another process when it is signalled.
    fn reap(&mut self) -> bool {
        loop {
            match unsafe { waitpid(-1, ptr::null_mut(), WNOHANG) } {
                0 => return true,
                pid if pid < 0 => {
                    self.pid = 0;
                    return false;
                }
                pid if pid == self.pid => self.pid = 0,
                _ => {}
            }
        }
    }

    /// Does what it is told until there is nobody left to tell it, and reaps meanwhile.
    fn obey(&mut self, orders: Receiver<String>) -> io::Result<()> {
        loop {
            match orders.recv_timeout(Duration::from_millis(20)) {
                Ok(order) => {
                    self.stop(if order == "kill" { SIGKILL } else { SIGTERM });
                    self.start()?;
                }
                Err(RecvTimeoutError::Timeout) => _ = self.reap(),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn end_all(&mut self) {
        self.stop(SIGTERM);
        let limit = Instant::now() + Duration::from_secs(20);
        while self.reap() && Instant::now() < limit {
            for pid in children() {
                unsafe { kill(pid, SIGKILL) };
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The lines of standard input; the channel closes with it.
fn orders() -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}

fn children() -> Vec<c_int> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// Removes the empty control groups below and at `folder`.
fn remove_groups(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

/// Takes away our namespace's mounts below `folder`, so that removing it reaches no other file system.
fn unmount_below(folder: &str) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines().rev() {
        let place = line.split(' ').nth(1).unwrap_or_default();
        if place.starts_with(folder) {
            let place = CString::new(place).unwrap();
            unsafe { umount2(place.as_ptr(), MNT_DETACH) };
        }
    }
}

fn own_namespaces(setup: &str) -> io::Result<()> {
    unsafe {
        setsid();
        prctl(PR_SET_CHILD_SUBREAPER, 1_usize, 0_usize, 0_usize, 0_usize);
        if unshare(NEW_NET_AND_MOUNTS) != 0 {
            return Err(io::Error::last_os_error());
        }
        mount(ptr::null(), c"/".as_ptr(), ptr::null(), MS_REC_PRIVATE, ptr::null());
    }
    let status = Command::new("sh").args(["-ec", setup]).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("set-up: {status}"))) }
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().collect();
    let [_, folder, group, setup, daemon @ ..] = arguments.as_slice() else { process::exit(2) };
    own_namespaces(setup)?;
    let mut supervisor = Supervisor { folder: folder.clone(), daemon: daemon.to_vec(), pid: 0 };
    supervisor.start()?;
    supervisor.obey(orders())?;
    supervisor.end_all();
    for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        remove_groups(&hierarchy.path().join(group));
    }
    remove_groups(&Path::new("/sys/fs/cgroup").join(group));
    unmount_below(folder);
    let _ = File::create(format!("{folder}/ending"));
    Command::new("rm").args(["-rf", "--one-file-system", folder]).status()?;
    Ok(())
}
