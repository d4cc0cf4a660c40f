//! What an init does. Each test runs on ours, on tini, and where it has the same on dumb-init: what fails there is a
//! wrong test. Where the three differ, the test says what each does.

use std::{fs, io::Write};

use pepo_testkit::{children, command, only_child, wait};
use rustix::process::Signal;

use crate::support::{
    Init, LIMIT, as_pid_1, as_process, field, run, signal, start, status_field, terminal, with_signals,
};

/// Signals that a program can catch and an init passes on (not CHLD, and not those of a fault or of the terminal).
const PASSED: [i32; 20] = [1, 2, 3, 10, 12, 13, 14, 15, 18, 20, 23, 24, 25, 26, 27, 28, 29, 30, 40, 63];

#[test]
fn the_programs_status_is_ours() {
    for init in Init::ALL {
        for (script, expected) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
        {
            let outcome = run(&mut as_pid_1(init, &[], &["sh", "-c", script]));
            assert_eq!(outcome.code(), expected, "{init:?} {script}: {outcome:?}");
            assert_eq!(outcome.stderr, "", "{init:?} {script}");
        }
    }
}

#[test]
fn a_program_that_cannot_be_run_has_the_shells_status() {
    let folder = tempfile::tempdir().unwrap();
    let denied = folder.path().join("denied");
    fs::write(&denied, "#!/bin/sh\n").unwrap();
    for (program, expected, dumbs) in [("no-such-program", 127, 2), (denied.to_str().unwrap(), 126, 2)] {
        for init in Init::ALL {
            let outcome = run(&mut as_pid_1(init, &[], &[program]));
            let expected = if init == Init::Dumb { dumbs } else { expected };
            assert_eq!(outcome.code(), expected, "{init:?} {program}: {outcome:?}");
            assert!(outcome.stderr.contains(program), "{init:?}: {outcome:?}");
        }
    }
}

#[test]
fn a_script_without_a_header_is_the_shells() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    fs::write(&script, "echo \"$1\"\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for init in Init::ALL {
        let outcome = run(&mut as_pid_1(init, &[], &[script.to_str().unwrap(), "hello"]));
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "hello\n"), "{init:?}: {outcome:?}");
    }
}

#[test]
fn statuses_can_be_remapped() {
    for init in Init::TINIS {
        let flags = ["-e", "7", "-e143"];
        for (script, expected) in [("exit 7", 0), ("kill -TERM $$", 0), ("exit 8", 8)] {
            let outcome = run(&mut as_pid_1(init, &flags, &["sh", "-c", script]));
            assert_eq!(outcome.code(), expected, "{init:?} {script}: {outcome:?}");
        }
    }
}

#[test]
fn zombies_are_reaped() {
    for init in Init::ALL {
        let script = "for i in 1 2 3 4 5; do (sleep 0.01 &) ; done; echo ready; exec sleep 60";
        let started = start(&mut as_pid_1(init, &[], &["bash", "-c", script]));
        started.wait_for("ready");
        let pid = started.init();
        wait::until("only the program is left", LIMIT, || match children(pid).len() {
            1 => Ok(()),
            other => Err(format!("{init:?} has {other} children")),
        });
    }
}

#[test]
fn zombies_are_told_with_w() {
    for init in Init::TINIS {
        let outcome = run(&mut as_pid_1(init, &["-w"], &["bash", "-c", "(sleep 0.01 &); sleep 0.5"]));
        assert!(outcome.stderr.to_lowercase().contains("reaped zombie process with pid="), "{outcome:?}");
        assert_eq!(outcome.code(), 0);
    }
}

#[test]
fn signals_are_passed_on() {
    let traps: Vec<_> = PASSED.iter().map(|number| format!("trap 'echo got-{number}.' {number}")).collect();
    let script = format!("{}; echo ready; while :; do read -t 1 -u 9; done 9<> <(:)", traps.join(";"));
    for init in Init::ALL {
        let started = start(&mut as_pid_1(init, &[], &["bash", "-c", &script]));
        started.wait_for("ready");
        // dumb-init suspends itself with a program that is stopped from the terminal.
        for number in PASSED.into_iter().filter(|number| init != Init::Dumb || *number != 20) {
            let kill = run(command("kill").args([format!("-{number}"), started.init().to_string()]));
            assert!(kill.status.success(), "{kill:?}");
            started.wait_for(&format!("got-{number}."));
        }
        assert_eq!(started.stderr(), "", "{init:?}");
    }
}

#[test]
fn signals_reach_the_group_with_g() {
    let script =
        "trap 'wait; exit 3' TERM; (trap 'echo inner; exit' TERM; echo ready; sleep 60 & wait) & wait";
    for init in Init::TINIS {
        let started = start(&mut as_pid_1(init, &["-g"], &["bash", "-c", script]));
        started.wait_for("ready");
        signal(started.init(), Signal::TERM);
        started.wait_for("inner");
        assert_eq!(started.end().code(), 3, "{init:?}");
    }
}

#[test]
fn the_program_gets_signals_as_we_got_them() {
    // Ignored and blocked signals are inherited: what an init adds or takes away changes the program.
    let script = |line: &str| format!("trap '' PIPE USR2; exec {line}");
    for init in Init::TINIS {
        let line = format!("{} -- cat /proc/self/status", init.path());
        let outcome = run(command("bash").args(["-c", &script(&line)]).env_remove("DEBUG"));
        let bare = run(command("bash").args(["-c", &script("cat /proc/self/status")]));
        for name in ["SigBlk", "SigIgn"] {
            assert_eq!(
                field(&outcome.stdout, name),
                field(&bare.stdout, name),
                "{init:?} {name}: {outcome:?}"
            );
        }
    }
}

#[test]
fn orphans_come_to_a_subreaper() {
    for init in Init::TINIS {
        let script = "(sleep 60 & echo orphan $!); echo ready; sleep 60";
        let started = start(&mut as_process(init, &["-s"], &["bash", "-c", script]));
        started.wait_for("ready");
        let said = started.stdout();
        let orphan = said.split_whitespace().nth(1).unwrap().to_owned();
        wait::until("the orphan has come", LIMIT, || match status_field(&orphan, "PPid") {
            parent if parent == started.pid().to_string() => Ok(()),
            other => Err(format!("its parent is {other}, not {}", started.pid())),
        });
        signal(orphan.parse().unwrap(), Signal::KILL);
    }
}

#[test]
fn the_parents_death_is_told() {
    for init in Init::TINIS {
        let line = format!(
            "{} -s -p SIGTERM -- bash -c 'trap \"echo told; exit\" TERM; echo ready $PPID; while :; do sleep 0.1; done' & \
             read; kill -9 $$",
            init.path()
        );
        let mut parent = command("bash");
        let (reader, writer) = std::io::pipe().unwrap();
        let started = start(parent.args(["-c", &line]).env_remove("DEBUG").stdin(reader));
        started.wait_for("ready");
        drop(writer);
        started.wait_for("told");
    }
}

/// Fields of `/proc/PID/stat` after the name: state, parent, group, session, terminal, foreground group.
fn stat(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = text.rsplit_once(") ").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
    rest.split(' ').map(str::to_owned).collect()
}

#[test]
fn the_terminal_is_the_programs() {
    // dumb-init makes a session of its own instead.
    for init in Init::TINIS {
        let (mut master, slave) = terminal();
        let script = "trap 'echo interrupted; exit 5' INT; trap 'echo resized' WINCH; echo ready; \
                      while :; do read -t 1 -u 9; done 9<> <(:)";
        let mut command = with_signals("setsid");
        command.args(["--ctty", "--wait", "unshare", "--pid", "--fork", "--kill-child", init.path(), "--"]);
        command.args(["bash", "-c", script]).env_remove("DEBUG").stdin(slave.try_clone().unwrap());
        let started = start(&mut command);
        started.wait_for("ready");
        let program = below(started.pid(), init);
        let stat = stat(program);
        assert_eq!(stat[2], stat[5], "{init:?}: the program's group is in the foreground: {stat:?}");
        master.write_all(b"\x03").unwrap();
        started.wait_for("interrupted");
        drop(slave);
        assert_eq!(started.end().code(), 5, "{init:?}");
    }
}

/// The program of the init that is somewhere below a process.
fn below(pid: u32, init: Init) -> u32 {
    let is_init = fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with(init.path()));
    let child = only_child(pid);
    if is_init { child } else { below(child, init) }
}

#[test]
fn a_shells_job_stops_with_its_program() {
    // bash as the session's leader with job control; ours is its job. Tini stays running, and the shell with it.
    let (mut master, slave) = terminal();
    let line = format!(
        "set -m; {} -- bash -c 'echo ready; sleep 60'; echo stopped=$?; kill -9 %1; exit 9",
        Init::Ours.path()
    );
    let mut shell = with_signals("setsid");
    // bash gives its jobs the terminal only when it can say so there.
    shell
        .args(["--ctty", "--wait", "bash", "-c", "exec bash -c \"$0\" 2>/dev/tty", &line])
        .env_remove("DEBUG");
    let started = start(shell.stdin(slave.try_clone().unwrap()));
    started.wait_for("ready");
    master.write_all(b"\x1a").unwrap();
    started.wait_for("stopped=147");
    drop(slave);
    assert_eq!(started.end().code(), 9);
}

#[test]
fn without_streams_it_runs_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for init in Init::TINIS {
        let mark = folder.path().join("mark");
        let line = format!("exec {} -- sh -c 'echo done > {}' <&- >&- 2>&-", init.path(), mark.display());
        let outcome = run(command("bash").args(["-c", &line]).env_remove("DEBUG"));
        // tini asks a closed standard input for its terminal, and gives up.
        let expected = if init == Init::Ours { (0, true) } else { (1, false) };
        assert_eq!((outcome.code(), mark.exists()), expected, "{init:?}");
        let _ = fs::remove_file(&mark);
    }
}

#[test]
fn the_command_line_is_tinis() {
    for (flags, expected) in [(&["-x"][..], 1), (&["-e", "256"], 1), (&["-p", "SIGNOT"], 1), (&["-h"], 0)] {
        for init in Init::TINIS {
            let outcome = run(&mut as_process(init, flags, &["true"]));
            assert_eq!(outcome.code(), expected, "{init:?} {flags:?}: {outcome:?}");
        }
    }
    let outcome = run(command(Init::Ours.path()).arg("--version"));
    assert_eq!(outcome.stdout, format!("pepo-entry {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn nothing_of_ours_is_open_in_the_program() {
    let bare = run(command("ls").arg("/proc/self/fd"));
    for init in Init::TINIS {
        let outcome = run(&mut as_process(init, &[], &["ls", "/proc/self/fd"]));
        assert_eq!(outcome.stdout, bare.stdout, "{init:?}");
    }
}

#[test]
fn it_is_quiet_and_its_threads_are_one() {
    let started = start(&mut as_pid_1(Init::Ours, &[], &["sh", "-c", "echo ready; exec sleep 60"]));
    started.wait_for("ready");
    assert_eq!(status_field(started.init().to_string(), "Threads"), "1");
    assert_eq!(started.stderr(), "");
}
