//! What is kept: the program at its first instruction, the container after its fault.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixStream},
    },
};

use pepo_testkit::{command, only_child, wait};
use rustix::process::{Pid, Signal};

use crate::support::{
    Init, LIMIT, Outcome, Started, as_pid_1, on_terminal, run, signal, start, status_field, terminal,
};

/// A container of its own (as far as a PID namespace is one), with these words.
fn container(words: &str, program: &[&str]) -> Started {
    start(as_pid_1(Init::Ours, &[], program).env("PEPO_DEBUG", words))
}

/// Something asked inside it.
fn ask(started: &Started, words: &[&str]) -> Outcome {
    ask_as(started, &[], words)
}

fn ask_as(started: &Started, before: &[&str], words: &[&str]) -> Outcome {
    let mut command = command("nsenter");
    command.args(["--target", &started.init().to_string(), "--pid", "--mount", "--"]);
    run(command.args(before).arg(Init::Ours.path()).args(words))
}

const KEPT: &str = "stayalive: the container is kept";

#[test]
fn a_fault_keeps_the_container_and_its_end_has_the_programs_status() {
    for (script, said, status) in
        [("exit 3", "sh failed with status 3", 3), ("kill -SEGV $$", "sh was ended by SIGSEGV", 139)]
    {
        let started = container("stayalive", &["sh", "-c", script]);
        started.wait_for(KEPT);
        let stderr = started.stderr();
        for line in [said, "exec -it", "status tells", "rerun starts it again"] {
            assert!(stderr.contains(line), "no {line:?} in {stderr}");
        }
        signal(started.init(), Signal::TERM);
        let outcome = started.end();
        assert_eq!(outcome.code(), status, "{outcome:?}");
        assert_eq!(outcome.stderr.matches(KEPT).count(), 1, "the end is no new fault: {outcome:?}");
    }
}

#[test]
fn a_program_that_cannot_be_run_is_a_fault_too() {
    let started = container("stayalive", &["no-such-program"]);
    started.wait_for(KEPT);
    let outcome = ask(&started, &["release"]);
    assert_eq!(
        (outcome.code(), outcome.stdout.as_str()),
        (0, "the container ends with status 127\n"),
        "{outcome:?}"
    );
    assert_eq!(started.end().code(), 127);
}

#[test]
fn what_ends_well_or_is_stopped_is_not_kept() {
    let outcome = container("stayalive", &["true"]).end();
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, ""));
    for (script, status) in
        [("trap 'exit 7' TERM; echo ready; sleep 60 & wait", 7), ("echo ready; exec sleep 60", 143)]
    {
        let started = container("stayalive", &["bash", "-c", script]);
        started.wait_for("ready");
        signal(started.init(), Signal::TERM);
        let outcome = started.end();
        // PID 1's child with the default action dies of it; a status is the program's own.
        assert_eq!((outcome.code(), outcome.stderr.as_str()), (status, ""), "{script}: {outcome:?}");
    }
}

#[test]
fn a_hold_may_have_a_limit_or_none_at_all() {
    let outcome = container("stayalive=300ms", &["sh", "-c", "exit 4"]).end();
    assert!(outcome.code() == 4 && outcome.stderr.contains("the time is over"), "{outcome:?}");
    let started = container("stayalive=always", &["true"]);
    started.wait_for("true ended well");
    started.wait_for(KEPT);
    signal(started.init(), Signal::INT);
    assert_eq!(started.end().code(), 0);
}

#[test]
fn a_held_container_answers() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark").display().to_string();
    let script = format!("test -e {mark} && echo again && exec sleep 60; exit 5");
    let started = container("stayalive", &["sh", "-c", &script]);
    started.wait_for(KEPT);
    let outcome = ask(&started, &["status"]);
    assert_eq!(outcome.stdout, "sh failed with status 5; the container is kept\n", "{outcome:?}");
    // Another command in its place: its output goes to the container's log, and it changes nothing, however it ends.
    for (status, told) in [(0, "sh ended well; the container is kept on"), (6, "sh failed with status 6; ")] {
        let script = format!("echo other $FROM; exit {status}");
        let outcome = ask(&started, &["rerun", "--", "sh", "-c", &script]);
        assert!(outcome.stdout.starts_with("runs as PID "), "{outcome:?}");
        started.wait_for("other");
        started.wait_for(told);
        let outcome = ask(&started, &["status"]);
        assert_eq!(outcome.stdout, "sh failed with status 5; the container is kept\n", "{outcome:?}");
    }
    for (program, why) in [
        ("no-such-program", &["cannot run no-such-program: No such file", "looked for /"][..]),
        ("/etc/passwd", &["cannot run /etc/passwd: Permission denied", "chmod +x"]),
    ] {
        let outcome = ask(&started, &["rerun", "--", program]);
        assert!(outcome.code() == 1 && why.iter().all(|why| outcome.stderr.contains(why)), "{outcome:?}");
    }
    assert_eq!(ask(&started, &["rerun", "--", "sleep", "60"]).code(), 0);
    assert!(ask(&started, &["status"]).stdout.ends_with(" in place of sh\n"));
    signal(only_child(started.init()), Signal::KILL);
    started.wait_for("sleep was ended by SIGKILL; the container is kept on");
    // The program again, now that its fault is mended.
    fs::write(&mark, "").unwrap();
    ask(&started, &["rerun"]);
    started.wait_for("again");
    let outcome = ask(&started, &["rerun"]);
    assert!(outcome.code() == 1 && outcome.stderr.contains("still runs"), "{outcome:?}");
    let outcome = ask(&started, &["release"]);
    assert!(outcome.code() == 1 && outcome.stderr.contains("is not held"), "{outcome:?}");
    signal(started.init(), Signal::TERM);
    assert_eq!(started.end().code(), 143);
}

#[test]
fn a_program_that_ends_well_again_ends_the_container_with_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark").display().to_string();
    let started = container("stayalive", &["test", "-e", &mark]);
    started.wait_for(KEPT);
    fs::write(&mark, "").unwrap();
    ask(&started, &["rerun"]);
    let outcome = started.end();
    assert!(
        outcome.code() == 0 && outcome.stderr.contains("test ended well: the container ends"),
        "{outcome:?}"
    );
}

/// What is executed in a container has its environment.
#[test]
fn the_words_are_for_the_containers_first_process_alone() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log").display().to_string();
    let words = format!("stayalive,wait,verbose={log}");
    // Also behind an init that is another's.
    let behind = format!("{} -- sh -c 'exit 5'; exit $?", Init::Ours.path());
    let mut small = as_pid_1(Init::Tini, &["--", "sh", "-c", &behind], &[]);
    for started in [container(&words, &["sh", "-c", "exit 5"]), start(small.env("PEPO_DEBUG", &words))] {
        started.wait_for("is held at its first instruction");
        let inside = |line: &[&str]| {
            let mut command = command("nsenter");
            command.args(["--target", &started.init().to_string(), "--pid", "--mount", "--"]);
            run(command.arg(Init::Ours.path()).args(line).env("PEPO_DEBUG", &words))
        };
        let outcome = inside(&["stauts"]);
        assert!(outcome.code() == 127 && outcome.stderr.contains("of which status, rerun,"), "{outcome:?}");
        let outcome = inside(&["--", "sh", "-c", "echo ${PEPO_DEBUG-unset}; exit 6"]);
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (6, "unset\n"), "{outcome:?}");
        assert_eq!(inside(&["release"]).stdout, "the program goes on\n");
        started.wait_for(KEPT);
        assert_eq!(inside(&["release"]).code(), 0);
        assert_eq!(started.end().code(), 5);
    }
}

#[test]
fn what_is_asked_wrongly_is_refused_with_how_it_is_asked() {
    for (line, said) in [
        (&["rerun", "ls"][..], "rerun takes a command after --"),
        (&["status", "now"], "status does not take so many words"),
        (&["release", "soon"], "release takes a status from 0 to 255"),
        (&["--statsu"], "there is no flag --statsu"),
        (&["--copy-to"], "--copy-to takes one file"),
    ] {
        let outcome = run(command(Init::Ours.path()).args(line));
        assert!(outcome.code() == 1 && outcome.stderr.contains(said), "{line:?}: {outcome:?}");
        assert!(outcome.stderr.contains("→ pepo-entry --help"), "{outcome:?}");
    }
}

#[test]
fn ctrl_c_at_its_terminal_is_no_fault_of_the_program() {
    let (mut master, slave) = terminal();
    let mut command = as_pid_1(Init::Ours, &[], &["sh", "-c", "echo ready; exec sleep 60"]);
    let started = start(&mut on_terminal(&slave, command.env("PEPO_DEBUG", "stayalive")));
    started.wait_for("ready");
    master.write_all(b"\x03").unwrap();
    let outcome = started.end();
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (130, ""), "{outcome:?}");
}

#[test]
fn ctrl_c_ends_what_is_held() {
    let (mut master, slave) = terminal();
    let mut command = as_pid_1(Init::Ours, &[], &SCRIPT);
    let started = start(&mut on_terminal(&slave, command.env("PEPO_DEBUG", "wait,stayalive")));
    started.wait_for("is held at its first instruction");
    master.write_all(b"\x03").unwrap();
    let outcome = started.end();
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (130, ""), "{outcome:?}");
    assert!(outcome.stderr.contains("SIGINT ends the hold"), "{outcome:?}");
}

#[test]
fn a_release_may_say_the_status() {
    let started = container("stayalive", &["sh", "-c", "exit 5"]);
    started.wait_for(KEPT);
    assert_eq!(ask(&started, &["release", "9"]).stdout, "the container ends with status 9\n");
    assert_eq!(started.end().code(), 9);
}

#[test]
fn only_root_and_the_same_user_may_ask() {
    let started = container("stayalive", &["sh", "-c", "exit 5"]);
    started.wait_for(KEPT);
    let other = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups"];
    let outcome = ask_as(&started, &other, &["release"]);
    assert!(outcome.code() == 1 && outcome.stderr.contains("only root and the user"), "{outcome:?}");
    assert_eq!(ask(&started, &["status"]).code(), 0, "it is still there");
    let outcome = run(command(Init::Ours.path()).arg("status"));
    assert!(outcome.code() == 5 && outcome.stderr.contains("no init here can be asked"), "{outcome:?}");
}

/// As root of a container that shares the network with it.
#[test]
fn nobody_outside_the_pid_namespace_may_ask() {
    let started = container("stayalive", &["sh", "-c", "exit 5"]);
    started.wait_for(KEPT);
    let namespace = fs::read_link(format!("/proc/{}/ns/mnt", started.init())).unwrap();
    let number: String = namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    let name = SocketAddr::from_abstract_name(format!("pepo-entry/{number}")).unwrap();
    let mut answer = String::new();
    UnixStream::connect_addr(&name).unwrap().read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "-only who is inside the container may ask");
    assert_eq!(ask(&started, &["status"]).code(), 0, "it is still there");
}

#[test]
fn a_container_whose_files_could_not_be_put_is_kept_too() {
    let started = container("stayalive,fstree=file:///none", &["sh", "-c", "echo ran; exit 6"]);
    started.wait_for(KEPT);
    let stderr = started.stderr();
    for said in ["cannot open /none", "sh was not started: fstree failed with status 5"] {
        assert!(stderr.contains(said), "no {said:?} in {stderr}");
    }
    // As the image has it, when somebody says so.
    assert_eq!(ask(&started, &["rerun"]).code(), 0);
    started.wait_for("sh failed with status 6");
    assert_eq!(ask(&started, &["release", "5"]).code(), 0);
    let outcome = started.end();
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (5, "ran\n"), "{outcome:?}");
}

#[test]
fn whoever_connects_and_is_silent_does_not_hold_the_init_up() {
    let started = container("stayalive", &["sh", "-c", "exit 5"]);
    started.wait_for(KEPT);
    let script = "import socket,time,sys\nname = [l.split()[-1] for l in open('/proc/net/unix') if '@pepo-entry/' in l][-1]\n\
                  s = socket.socket(socket.AF_UNIX); s.connect('\\0' + name[1:]); print('connected', flush=True); time.sleep(60)";
    let mut silent = command("nsenter");
    silent.args(["--target", &started.init().to_string(), "--pid", "--mount", "--", "python3", "-c", script]);
    let silent = start(&mut silent);
    silent.wait_for("connected");
    assert_eq!(ask(&started, &["status"]).code(), 0);
    signal(started.init(), Signal::TERM);
    assert_eq!(started.end().code(), 5);
}

/// The program of a held container, stopped, traced by nobody, before its libraries are there.
fn held(started: &Started) -> u32 {
    started.wait_for("is held at its first instruction");
    let program = only_child(started.init());
    let of = |name: &str| status_field(program.to_string(), name);
    assert_eq!((of("State"), of("TracerPid")), ("T (stopped)".to_owned(), "0".to_owned()));
    assert_eq!((of("Name"), of("SigBlk")), ("bash".to_owned(), "0".repeat(16)));
    let maps = fs::read_to_string(format!("/proc/{program}/maps")).unwrap();
    assert!(maps.contains("bash") && !maps.contains("libc"), "it has run: {maps}");
    program
}

const SCRIPT: [&str; 3] = ["bash", "-c", "echo ran; exit 3"];

#[test]
fn a_program_is_held_at_its_first_instruction_untraced() {
    let started = container("wait", &SCRIPT);
    held(&started);
    assert!(ask(&started, &["status"]).stdout.contains("is held at its first instruction as PID "));
    assert_eq!(started.stdout(), "");
    assert_eq!(ask(&started, &["release"]).stdout, "the program goes on\n");
    let outcome = started.end();
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (3, "ran\n"), "{outcome:?}");
}

#[test]
fn a_held_program_goes_on_by_sigcont_by_the_clock_or_ends() {
    let started = container("wait", &SCRIPT);
    signal(held(&started), Signal::CONT);
    assert_eq!(started.end().stdout, "ran\n");
    let started = container("wait", &SCRIPT);
    held(&started);
    signal(started.init(), Signal::CONT);
    assert_eq!(started.end().stdout, "ran\n");
    let outcome = container("wait=300ms", &SCRIPT).end();
    assert!(outcome.stdout == "ran\n" && outcome.stderr.contains("the program goes on"), "{outcome:?}");
    let started = container("wait", &SCRIPT);
    held(&started);
    signal(started.init(), Signal::TERM);
    let outcome = started.end();
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (143, ""), "{outcome:?}");
}

#[test]
fn a_debugger_can_enter_what_is_held() {
    let started = container("wait", &SCRIPT);
    let program = held(&started).to_string();
    // The first instruction is the loader's, and a tracer is let in.
    let traced = start(command("strace").args(["-p", &program]));
    traced.wait_for("attached");
    ask(&started, &["release"]);
    traced.wait_for("exited with 3");
    assert_eq!(started.end().code(), 3);
}

#[test]
fn what_stands_for_a_debugger_is_not_said_to_run() {
    let started = container("wait", &SCRIPT);
    let program = Pid::from_raw(held(&started).cast_signed()).unwrap();
    let outcome = ask(&started, &["release", "5"]);
    assert!(outcome.code() == 1 && outcome.stderr.contains("has no status yet"), "{outcome:?}");
    let debugger = start(command("lldb-19").args(["-b", "-p", &program.to_string(), "-o", "script input()"]));
    wait::until("it stands there", LIMIT, || match status_field(program.to_string(), "State") {
        state if state.starts_with('t') => Ok(()),
        state => Err(state + &debugger.stdout()),
    });
    assert!(ask(&started, &["status"]).stdout.contains(", where a debugger stands"));
    let told = ask(&started, &["release"]).stdout;
    assert!(told.contains("as soon as the debugger that stands there lets it"), "{told}");
    assert!(ask(&started, &["status"]).stdout.contains(", where a debugger stands"));
    drop(debugger);
}

#[test]
fn words_are_chained() {
    let started = container("wait,stayalive,verbose", &SCRIPT);
    held(&started);
    ask(&started, &["release"]);
    started.wait_for(KEPT);
    assert!(started.stderr().contains("echo ran"), "traced: {}", started.stderr());
    // What runs again is not held again.
    ask(&started, &["rerun"]);
    wait::until("it is kept again", LIMIT, || match started.stderr() {
        said if said.matches(KEPT).count() == 2 => Ok(()),
        said => Err(said),
    });
    assert_eq!(started.stdout(), "ran\nran\n");
    signal(started.init(), Signal::TERM);
    assert_eq!(started.end().code(), 3);
}

#[test]
fn runtimes_are_made_to_wait_at_their_port() {
    let folder = tempfile::tempdir().unwrap();
    for (name, variable, expected) in [
        ("node", "NODE_OPTIONS", "--a --inspect-brk=127.0.0.1:9229"),
        (
            "java",
            "JAVA_TOOL_OPTIONS",
            "--a -agentlib:jdwp=transport=dt_socket,server=y,suspend=y,address=127.0.0.1:5005",
        ),
    ] {
        let program = folder.path().join(name);
        fs::write(&program, format!("#!/bin/sh\necho \"${variable}\"\n")).unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut command = as_pid_1(Init::Ours, &[], &[program.to_str().unwrap()]);
        let outcome = run(command.env("PEPO_DEBUG", "wait=10ms").env(variable, "--a"));
        assert_eq!(outcome.stdout, format!("{expected}\n"), "{outcome:?}");
    }
}

#[test]
fn ctrl_c_ends_what_the_tools_run_and_not_the_tools() {
    let (mut master, slave) = terminal();
    let mut command = command(Init::Ours.path());
    let started = start(&mut on_terminal(&slave, command.arg("sh")));
    started.wait_for("$ ");
    master.write_all(b"nonsense\x03run sh -c 'echo runs; exec sleep 60'\n").unwrap();
    started.wait_for("runs");
    master.write_all(b"\x03exit\n").unwrap();
    let outcome = started.end();
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (130, ""), "{outcome:?}");
}

/// It comes when the process has been made, and is not yet the program.
#[test]
fn ctrl_c_is_heard_by_what_is_about_to_become_a_program() {
    let (mut master, slave) = terminal();
    let mut command = command("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=setpgid", "-e", "signal=none"]);
    command.args(["-e", "inject=setpgid:signal=SIGINT", Init::Ours.path(), "sh"]);
    let started = start(&mut on_terminal(&slave, &command));
    started.wait_for("$ ");
    master.write_all(b"run sh -c 'echo runs; exec sleep 60'\nexit\n").unwrap();
    let outcome = started.end();
    assert_eq!(outcome.code(), 130, "{outcome:?}");
    assert!(!outcome.stdout.contains("runs"), "{outcome:?}");
}

/// What is executed in a container leads its session: nobody could go on with it, so it does not stop.
#[test]
fn what_the_tools_run_goes_on_when_its_terminal_stops_it() {
    let (mut master, slave) = terminal();
    let mut command = command(Init::Ours.path());
    let started = start(&mut on_terminal(&slave, command.arg("sh")));
    started.wait_for("$ ");
    master
        .write_all(b"run bash -c 'trap \"echo went on\" CONT; echo runs; while :; do sleep 0.1; done'\n")
        .unwrap();
    started.wait_for("runs");
    master.write_all(b"\x1a").unwrap();
    started.wait_for("went on");
    master.write_all(b"\x03exit\n").unwrap();
    assert_eq!(started.end().code(), 130);
}

#[test]
fn ctrl_c_ends_what_the_tools_show_and_a_signal_the_tools() {
    let (mut master, slave) = terminal();
    let mut command = command(Init::Ours.path());
    let started = start(&mut on_terminal(&slave, command.arg("sh")));
    started.wait_for("$ ");
    master.write_all(b"cat /etc/hostname /dev/zero\n").unwrap();
    started.wait_for("\0");
    master.write_all(b"\x03run cat\nto the program\n\x04").unwrap();
    started.wait_for("to the program");
    master.write_all(b"env\n").unwrap();
    started.wait_for("PATH=");
    signal(started.pid(), Signal::TERM);
    let outcome = started.end();
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (143, "pepo-entry: cat: /dev/zero: interrupted\n"));
}

/// As a user who may not take another root.
#[test]
fn the_tools_show_a_root_that_they_may_not_enter() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("etc/conf")).unwrap();
    fs::write(root.path().join("etc/conf/shop"), "port=80\n").unwrap();
    fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let input = root.path().join("input");
    fs::write(&input, "ls /etc\ncat /etc/conf/shop\ncd /etc\nls conf\npwd\n").unwrap();
    let mut command = command("setpriv");
    command.args(["--reuid", "1000", "--regid", "1000", "--clear-groups", Init::Ours.path(), "sh"]);
    let outcome = run(command.arg(root.path()).stdin(fs::File::open(&input).unwrap()));
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    let names: Vec<_> = outcome.stdout.lines().filter_map(|line| line.split(' ').next_back()).collect();
    assert_eq!(names, ["conf", "port=80", "shop", "/etc"]);
}

#[test]
fn an_image_without_tools_can_be_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input");
    let text = "ls -l /proc/self/exe\ncat /proc/sys/kernel/ostype\ncd /tmp\npwd\nps\nenv\nrun sh -c 'exit 7'\nnonsense\nrun sh -c 'exit 8'\n";
    fs::write(&input, text).unwrap();
    let mut command = command(Init::Ours.path());
    let outcome = run(command.arg("sh").env("HERE", "yes").stdin(fs::File::open(&input).unwrap()));
    assert_eq!(outcome.code(), 8, "{outcome:?}");
    for line in ["-> ", "Linux\n", "/tmp\n", "pepo-entry sh", "HERE=yes"] {
        assert!(outcome.stdout.contains(line), "no {line:?} in {}", outcome.stdout);
    }
    assert!(outcome.stderr.contains("nonsense: not one of ours"), "{}", outcome.stderr);
}
