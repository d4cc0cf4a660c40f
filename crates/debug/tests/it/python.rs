//! Python: pydevd put into real interpreters, busy and idle, used over DAP, taken away again, and killed at every step.

#![allow(clippy::disallowed_methods, reason = "targets and the injector to be killed are started here")]

/// A tiny DAP client.
mod client;
/// Small Python programs as processes.
mod target;

mod debuggers {
    use std::time::Duration;

    use pepo_debug::python::{Fault, place};
    use pepo_testkit::{at_once, pythons, skip, wait};

    use super::{
        client::{Client, let_go},
        target::{Program, Target, all_pythons, each_with},
    };

    const LIMIT: Duration = Duration::from_secs(60);

    /// Attaches, stops at a breakpoint with a condition, reads and changes a variable, detaches; the target is as before.
    fn whole_session(target: &mut Target) {
        // On a busy machine a program speaks before all of its threads are there.
        let before = wait::until("its threads are there", LIMIT, || match target.trace_of_ours() {
            trace if trace.iter().any(|one| one.ends_with("are its own")) => Err(format!("{trace:?}")),
            trace => Ok(trace),
        });
        let mut client = Client::attach(target);
        let line = target.line("# stop here");
        client.break_at(target.script(), line, Some("n % 3 == 0"));
        let frame = client.stopped();
        let variables = client.variables(frame);
        let n: u64 = variables["n"].parse().unwrap_or_else(|_| panic!("{variables:?}"));
        assert_eq!(n % 3, 0, "{variables:?}");
        assert_eq!(variables["answer"], "42");
        client.set_variable(frame, "answer", "1234");
        // With several threads the next stop of another one would hold this one too.
        client.clear_breakpoints(target.script());
        client.go_on();
        target.wait_for("answer 1234", LIMIT);
        let left = client.detach();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(target.trace_of_ours(), before);
        target.assert_goes_on();
        assert_eq!(target.errors(), "", "no byte on its standard error");
    }

    #[test]
    fn every_version_busy_stops_shows_changes_and_lets_go() {
        at_once(all_pythons(), |python| {
            let mut target = Target::start(&python, Program::Busy);
            whole_session(&mut target);
            whole_session(&mut target);
            eprintln!("{}: twice", target.name());
        });
    }

    #[test]
    fn every_version_idle_in_the_main_thread_stops_in_a_worker() {
        let programs = [Program::Sleep, Program::Select, Program::Accept, Program::Event, Program::Join];
        at_once(each_with(programs), |(python, program)| {
            let mut target = Target::start(&python, program);
            whole_session(&mut target);
            whole_session(&mut target);
        });
    }

    #[test]
    fn every_version_with_many_threads_stops_and_lets_go() {
        at_once(all_pythons(), |python| {
            let mut target = Target::start(&python, Program::Threads);
            whole_session(&mut target);
            whole_session(&mut target);
        });
    }

    #[test]
    fn a_sleeping_program_is_not_woken() {
        at_once(all_pythons(), |python| {
            let mut target = Target::start(&python, Program::Stdin);
            let client = Client::attach(&target);
            assert_eq!(client.detach(), Vec::<String>::new());
            target.write_line("hello");
            target.wait_for("read hello", LIMIT);
            assert_eq!(target.errors(), "");
        });
    }

    #[test]
    fn nothing_of_pydevd_is_left_in_the_interpreter() {
        at_once(all_pythons(), |python| {
            let mut target = Target::start(&python, Program::Report);
            let first = target.report();
            for _ in 0..2 {
                let mut client = Client::attach(&target);
                let line = target.line("# report here");
                client.break_at(target.script(), line, None);
                target.write_line("report");
                client.stopped();
                client.go_on();
                target.wait_for("report end", LIMIT);
                assert_eq!(client.detach(), Vec::<String>::new());
                assert_eq!(target.report(), first, "{}", target.name());
            }
        });
    }

    #[test]
    fn pipes_do_where_descriptors_cannot_be_taken() {
        let Some(python) = pythons().into_iter().next() else { panic!("no Python here") };
        let mut target = Target::start(&python, Program::Busy);
        for _ in 0..2 {
            let placed = place(target.process(), &Fault::default(), Some(true)).expect("pipes work");
            let mut client = Client::over(placed);
            let line = target.line("# stop here");
            client.break_at(target.script(), line, None);
            client.stopped();
            client.go_on();
            assert_eq!(client.detach(), Vec::<String>::new());
        }
        target.assert_goes_on();
        assert_eq!(target.errors(), "");
    }

    #[test]
    fn another_user_in_its_own_namespaces_with_a_read_only_root() {
        if !rustix::process::geteuid().is_root() {
            return skip("python-isolated", "needs root to make namespaces");
        }
        at_once(all_pythons(), |python| {
            let mut target = Target::isolated(&python, Program::Busy);
            whole_session(&mut target);
            whole_session(&mut target);
        });
    }

    #[test]
    fn a_traced_process_is_refused() {
        let python = pythons().remove(0);
        let target = Target::start(&python, Program::Busy);
        let error =
            target.while_traced(|| place(target.process(), &Fault::default(), None).expect_err("is traced"));
        assert!(error.to_string().contains("traces it"), "{error}");
    }

    #[test]
    fn a_forked_child_never_waits_at_a_breakpoint() {
        at_once(all_pythons(), |python| {
            let mut target = Target::start(&python, Program::Fork);
            let mut client = Client::attach(&target);
            let line = target.line("# child here");
            client.break_at(target.script(), line, None);
            target.write_line("fork");
            target.wait_for("child ended 7", LIMIT);
            assert_eq!(client.detach(), Vec::<String>::new());
            assert_eq!(target.errors(), "", "{}", target.name());
        });
    }

    #[test]
    fn a_stream_that_ends_while_stopped_lets_the_target_go() {
        at_once(all_pythons(), |python| {
            let mut target = Target::start(&python, Program::Busy);
            let mut client = Client::attach(&target);
            let line = target.line("# stop here");
            client.break_at(target.script(), line, None);
            client.stopped();
            assert_eq!(let_go(client), Vec::<String>::new());
            target.assert_goes_on();
            wait::until("nothing is left", LIMIT, || match target.trace_of_ours() {
                left if left.is_empty() => Ok(()),
                left => Err(format!("{left:?}")),
            });
            assert_eq!(target.errors(), "", "{}", target.name());
        });
    }
}

/// Programs that the word `wait` holds at their first instruction.
mod held {
    use std::time::Duration;

    use pepo_debug::python::{Fault, place};
    use pepo_testkit::{Python, at_once, wait};

    use super::{
        client::{Client, let_go},
        target::{Program, Target, all_pythons, each_with},
    };

    const LIMIT: Duration = Duration::from_secs(60);

    fn start(python: &Python, as_module: bool, stop_on_entry: bool) -> (Target, Client) {
        let target = Target::held(python, Program::Busy, as_module);
        let placed = place(target.process(), &Fault::default(), None)
            .unwrap_or_else(|error| panic!("{}: {}", target.name(), pepo_wire::FailureExt::failure(&error)));
        assert_eq!(placed.route, "start");
        let client = Client::begun(placed, stop_on_entry);
        assert_eq!(target.output(), "", "it waits before its first line");
        (target, client)
    }

    fn goes_on_as_if_nothing_was(target: &mut Target) {
        target.assert_goes_on();
        wait::until("nothing is left", LIMIT, || match target.trace_of_ours() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        });
        assert_eq!(target.errors(), "", "{}", target.name());
    }

    #[test]
    fn every_version_stops_in_its_first_line() {
        at_once(each_with([false, true]), |(python, as_module)| {
            let (mut target, mut client) = start(&python, as_module, false);
            client.break_at(target.script(), 1, None);
            client.configured();
            assert_eq!(client.stopped_at(), ("breakpoint".to_owned(), target.script().to_owned(), 1));
            assert_eq!(target.output(), "");
            client.clear_breakpoints(target.script());
            let line = target.line("# stop here");
            client.break_at(target.script(), line, Some("n > 2"));
            client.go_on();
            assert_eq!(client.stopped_at().2, i64::from(line));
            client.clear_breakpoints(target.script());
            client.go_on();
            assert_eq!(client.detach(), Vec::<String>::new());
            goes_on_as_if_nothing_was(&mut target);
        });
    }

    #[test]
    fn every_version_stops_on_entry_when_asked() {
        at_once(each_with([false, true]), |(python, as_module)| {
            let (mut target, mut client) = start(&python, as_module, true);
            client.configured();
            assert_eq!(client.stopped_at(), ("entry".to_owned(), target.script().to_owned(), 1));
            client.go_on();
            assert_eq!(client.detach(), Vec::<String>::new());
            goes_on_as_if_nothing_was(&mut target);
        });
    }

    #[test]
    fn a_stream_that_ends_before_the_first_line_lets_the_program_run() {
        at_once(all_pythons(), |python| {
            let (mut target, client) = start(&python, false, false);
            assert_eq!(let_go(client), Vec::<String>::new());
            goes_on_as_if_nothing_was(&mut target);
        });
    }
}

mod safety {
    use std::{
        process::{Command, Stdio},
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use pepo_debug::python::{Fault, Point, place};
    use pepo_process::{AgentPid, Process};
    use pepo_testkit::{at_once, wait};

    use super::{
        client::Client,
        target::{Program, Target, all_pythons, each_with},
    };

    /// What the helper is told: process, point or place, script, line.
    const ORDER: &str = "PEPO_TEST_PYTHON_ORDER";
    const POINTS: [(&str, Point); 8] = [
        ("stopped", Point::Stopped),
        ("written", Point::Written),
        ("call-begun", Point::CallBegun),
        ("call-returned", Point::CallReturned),
        ("restored", Point::Restored),
        ("armed", Point::Armed),
        ("answered", Point::Answered),
        ("filled", Point::Filled),
    ];

    /// Runs the helper below in a process of its own until it is dead or says that it is where it should be.
    fn helper(target: &Target, place: &str, line: u32) -> std::process::Child {
        let exe = std::env::current_exe().expect("a test knows its path");
        Command::new(exe)
            .args(["--exact", "python::safety::injector", "--ignored", "--nocapture", "--test-threads=1"])
            .env(ORDER, format!("{} {place} {} {line}", target.pid(), target.script()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the test starts again")
    }

    #[test]
    #[ignore = "the process that the tests below kill"]
    fn injector() {
        let order = std::env::var(ORDER).expect("started by the tests below");
        let words: Vec<_> = order.split(' ').collect();
        let process =
            Process::open(words[0].parse().ok().and_then(AgentPid::new).expect("a pid")).expect("it lives");
        let point = POINTS.iter().find(|(name, _)| *name == words[1]).map(|(_, point)| *point);
        let (stops, following) = (AtomicU32::new(0), words[1] == "following");
        let fault = Fault::new(move |reached| {
            // Half-way to the interpreter's start.
            let far = reached == Point::Followed && stops.fetch_add(1, Ordering::Relaxed) > 150;
            if Some(reached) == point || (far && following) {
                die();
            }
        });
        let mut client = Client::over(place(process, &fault, None).expect("it is placed"));
        client.break_at(words[2], words[3].parse().expect("a line"), None);
        if words[1] == "hitting" {
            println!("there");
            for _ in 0..1_000_000 {
                client.stopped();
                client.go_on();
            }
        }
        client.stopped();
        println!("there");
        std::thread::sleep(Duration::from_secs(60));
    }

    fn die() -> ! {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        unreachable!("SIGKILL cannot be survived")
    }

    /// The target goes on, computes right, and within the time that the code inside waits nothing is left.
    ///
    /// What may stay when the injector dies in the millisecond after it had a memfd made is that empty memfd: the next
    /// session closes it.
    fn assert_unharmed(target: &mut Target, what: &str) {
        target.assert_goes_on();
        // What was left to be run runs soon, or only when the next one asks.
        let soon = wait::try_until(Duration::from_secs(5), || {
            let waits = target.trace_of_ours().iter().any(|one| one.contains("memfd:pepo-run-"));
            if waits { Err(()) } else { Ok(()) }
        });
        if soon.is_err() {
            assert_eq!(Client::attach(target).detach(), Vec::<String>::new(), "{what} of {}", target.name());
        }
        let gone = wait::try_until(Duration::from_secs(30), || {
            let left = target.trace_of_ours();
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
        if let Err(left) = gone {
            panic!("{what} of {}: {left:?} is left, with\n{}", target.name(), target.stacks());
        }
        target.assert_goes_on();
        assert_eq!(target.errors(), "", "{what} of {}", target.name());
        assert!(!target.output().contains("wrong"), "{what} of {}: {}", target.name(), target.output());
    }

    fn killed_at_every_point(program: Program) {
        at_once(each_with(POINTS), |(python, (name, _))| {
            let mut target = Target::start(&python, program);
            let mut helper = helper(&target, name, 1);
            let status = helper.wait().expect("it was started");
            // A parked thread is never asked to map, a single call never has a next one: then it is there after all.
            assert!(!status.success(), "{name}: {status}");
            assert_unharmed(&mut target, name);
        });
    }

    #[test]
    fn an_injector_killed_at_any_point_harms_no_busy_program() {
        killed_at_every_point(Program::Numbers);
    }

    #[test]
    fn an_injector_killed_at_any_point_harms_no_idle_program() {
        killed_at_every_point(Program::Sleep);
    }

    /// It is held as before, or runs on by itself: it never ends, and never stops for good.
    #[test]
    fn an_injector_killed_at_any_point_harms_no_held_program() {
        let places: Vec<_> = POINTS.map(|(name, _)| name).into_iter().chain(["following"]).collect();
        // Old and new ones, with and without trace functions: what is done to a thread is the same for all.
        let some = all_pythons().into_iter().step_by(3);
        let each = some.flat_map(|python| places.iter().map(move |place| (python.clone(), *place)));
        at_once(each, |(python, place)| {
            let mut target = Target::held(&python, Program::Sleep, false);
            let status = helper(&target, place, 1).wait().expect("it was started");
            assert!(!status.success(), "{place}: {status}");
            // From its last step on the program is let go, and waits inside for what does not come.
            if !matches!(place, "answered" | "filled") {
                wait::until(&format!("{place}: it is held again"), Duration::from_secs(30), || {
                    if target.is_stopped() { Ok(()) } else { Err("it runs") }
                });
                assert_eq!(target.output(), "", "{place}");
                target.goes_on();
            }
            assert_unharmed(&mut target, place);
        });
    }

    /// The injector is held up at its first calls for longer than it waits for them: they go on without it.
    #[test]
    fn calls_that_come_late_harm_no_program() {
        at_once(each_with([Program::Sleep, Program::Numbers]), |(python, program)| {
            let mut target = Target::start(&python, program);
            for held_up in 1..3 {
                let calls = AtomicU32::new(0);
                let fault = Fault::new(move |reached| {
                    if reached == Point::CallBegun && calls.fetch_add(1, Ordering::Relaxed) < held_up {
                        // Not synchronisation: this is what a loaded machine does.
                        std::thread::sleep(Duration::from_millis(600));
                    }
                });
                // On a loaded machine there may be no better moment afterwards; the program must not care.
                if let Ok(placed) = place(target.process(), &fault, None) {
                    assert_eq!(Client::over(placed).detach(), Vec::<String>::new());
                }
                assert_unharmed(&mut target, "late calls");
            }
        });
    }

    #[test]
    fn a_load_that_was_given_up_leaves_nothing_in_the_interpreter() {
        at_once(all_pythons(), |python| {
            let mut target = Target::start(&python, Program::Report);
            let first = target.report();
            let status = helper(&target, "filled", 1).wait().expect("it was started");
            assert!(!status.success(), "{status}");
            wait::until("nothing is left", Duration::from_secs(30), || match target.trace_of_ours() {
                left if left.is_empty() => Ok(()),
                left => Err(format!("{left:?}")),
            });
            assert_eq!(target.report(), first, "{}", target.name());
        });
    }

    fn killed_later(place: &str) {
        at_once(all_pythons(), |python| {
            let mut target = Target::start(&python, Program::Sigpipe);
            let line = target.line("# stop here");
            let mut helper = helper(&target, place, line);
            let mut first = [0; 1];
            let mut out = helper.stdout.take().expect("it is piped");
            wait::until("the helper is there", Duration::from_secs(60), || {
                let mut text = Vec::new();
                while !text.ends_with(b"there") {
                    match std::io::Read::read(&mut out, &mut first) {
                        Ok(1) => text.push(first[0]),
                        _ => return Err(String::from_utf8_lossy(&text).into_owned()),
                    }
                }
                Ok(())
            });
            if place == "hitting" {
                // Not synchronisation: a moment of hits at full speed before the death.
                std::thread::sleep(Duration::from_millis(150));
            }
            helper.kill().expect("it is ours");
            helper.wait().expect("it was started");
            assert_unharmed(&mut target, place);
            let mut client = Client::attach(&target);
            client.break_at(target.script(), line, None);
            client.stopped();
            client.go_on();
            assert_eq!(client.detach(), Vec::<String>::new());
        });
    }

    #[test]
    fn a_debugger_killed_while_stopped_lets_the_target_go() {
        killed_later("standing");
    }

    #[test]
    fn a_debugger_killed_at_full_speed_lets_the_target_go() {
        killed_later("hitting");
    }
}
