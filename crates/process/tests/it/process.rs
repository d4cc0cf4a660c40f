//! A handle on one process.

use std::{
    io::{Read as _, Write as _},
    process::Stdio,
};

use pepo_process::{AgentPid, Process, ProcessError};
use rustix::process::Signal;

use crate::helper::{self, Helper, With};

#[test]
fn a_dead_process_is_gone_in_every_way() {
    let mut helper = Helper::waiting(With::default());
    let process = helper.process();
    assert!(process.alive());
    helper.end();
    assert!(!process.alive());
    assert!(process.status().unwrap().state.is_zombie());
    assert_eq!(process.command_line().unwrap(), Vec::<String>::new());
    // A zombie can still be taken hold of.
    assert!(!helper.process().alive());
    helper.collect();
    assert!(!process.alive());
    for error in [process.stat().unwrap_err(), process.maps().unwrap_err(), process.threads().unwrap_err()] {
        assert!(error.is_gone(), "{error:?}");
    }
    assert!(process.resume().unwrap_err().is_gone());
    let error = Process::open(process.pid()).unwrap_err();
    assert!(error.is_gone(), "{error:?}");
}

#[test]
fn another_start_time_is_another_process() {
    let own = Process::own().unwrap();
    assert!(Process::open_started(own.pid(), own.start_time()).is_ok());
    assert!(Process::open_started(own.pid(), 0).is_ok());
    let error = Process::open_started(own.pid(), own.start_time() + 1).unwrap_err();
    assert!(matches!(error, ProcessError::Reused { .. }), "{error:?}");
}

#[test]
fn a_threads_number_is_not_a_process() {
    let (send, receive) = std::sync::mpsc::channel();
    let (finish, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        send.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
        let _ = wait.recv();
    });
    let tid = AgentPid::new(receive.recv().unwrap().cast_unsigned()).unwrap();
    assert!(matches!(Process::open(tid), Err(ProcessError::NotAProcess { .. })));
    drop(finish);
    thread.join().unwrap();
}

#[test]
fn only_signals_with_a_handler_are_sent() {
    let helper = Helper::waiting(With::default());
    let process = helper.process();
    let error = process.signal(Signal::USR1).unwrap_err();
    assert!(matches!(error, ProcessError::NotCaught { signal, .. } if signal == libc::SIGUSR1), "{error:?}");
    assert!(process.alive());
    // The standard library of Rust has one for overflowing stacks.
    assert!(process.status().unwrap().catches(libc::SIGSEGV));
}

#[test]
fn memory_is_read_and_written_where_it_is() {
    let own = Process::own().unwrap();
    let memory = own.memory().unwrap();
    let place = Box::new(0x1122_3344_5566_7788_u64);
    let address = std::ptr::from_ref(&*place) as u64;
    assert_eq!(memory.read_u64(address).unwrap(), *place);
    assert_eq!(memory.read_u32(address).unwrap(), 0x5566_7788);
    assert_eq!(memory.read_c_string(c"some text".as_ptr() as u64, 64).unwrap(), b"some text");
    assert!(matches!(memory.read_u64(8), Err(ProcessError::Memory { act: "read", address: 8, .. })));
    let helper = Helper::waiting(With::default());
    let memory = helper.process().memory().unwrap();
    let stack = helper
        .process()
        .maps()
        .unwrap()
        .into_iter()
        .find(|map| map.path.as_deref().is_some_and(|path| path.ends_with("[stack]")));
    let top = stack.unwrap().end - 4096;
    let before = memory.read_up_to(top, 16).unwrap();
    memory.write_at(top, &[0xa5; 16]).unwrap();
    assert_eq!(memory.read_up_to(top, 16).unwrap(), [0xa5; 16]);
    memory.write_at(top, &before).unwrap();
}

#[test]
fn environment_and_namespaces_are_those_of_the_process() {
    let helper = Helper::waiting(With::default());
    let process = helper.process();
    assert!(process.environ().unwrap().contains(&("PEPO_HELPER".into(), "wait".into())));
    assert_eq!(process.namespaces(), Process::own().unwrap().namespaces());
    assert!(process.namespaces().pid.is_some() && process.pid_namespace() == process.namespaces().pid);
    if helper::is_root() {
        let apart =
            Helper::waiting(With { user: Some(helper::NOBODY), user_namespace: true, ..With::default() });
        assert_ne!(apart.process().namespaces().user, process.namespaces().user);
    }
}

#[test]
fn a_root_is_ours_in_our_mount_namespace_alone() {
    assert!(Process::own().unwrap().shares_our_root());
    if !helper::is_root() {
        return;
    }
    // Debian's `/usr` is a root that `cat` runs in.
    for apart in [["unshare", "--mount", "/bin/cat"], ["chroot", "/usr", "/bin/cat"]] {
        let mut command = pepo_testkit::command(apart[0]);
        let mut child =
            command.args(&apart[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let process = Process::open(AgentPid::new(child.id()).unwrap()).unwrap();
        assert!(!process.shares_our_root(), "{apart:?}");
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
