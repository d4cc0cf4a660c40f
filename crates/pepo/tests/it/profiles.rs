//! Profiles of processes of this machine: `record`, `top`, `diff`, on programs that spend 60, 30 and 10 parts of a hundred of their
//! time in three functions.

use std::{
    collections::HashMap,
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use pepo_testkit::{
    Fixture, Language, Life as _, Running, Symbols, Variant, at_once, clean::Snapshot, fixtures, node,
    rubies, spawn, wait,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Run, Surroundings};

/// How long a command may take until it has done what a test waits for, on a machine that is busy with others.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The program of known shares; at work when this returns.
pub(crate) fn hot(language: Language, symbols: Symbols, mode: &str) -> (Fixture, Running) {
    let fixture = fixtures::build(language, "hot", Variant::release().symbols(symbols));
    let target = spawn(&fixture, &[mode]);
    (fixture, target)
}

pub(crate) fn steady() -> Running {
    let (_, target) = hot(Language::C, Symbols::Inside, "steady");
    target.wait_started();
    target
}

pub(crate) fn name(target: &Running) -> String {
    format!("pid/{}", target.pid())
}

/// How often each function was passed, of how many samples, in stacks with a weight.
pub(crate) fn assert_known_shares(stacks: &[(Vec<String>, f64)], samples: f64) {
    let whole: f64 = stacks.iter().map(|(_, weight)| weight).sum();
    for (function, known) in [("hot", 0.6), ("warm", 0.3), ("cool", 0.1)] {
        let ends = |one: &String| one.rsplit(['.', ':']).next() == Some(function);
        let passing = stacks.iter().filter(|(stack, _)| stack.iter().any(ends));
        let share = passing.map(|(_, weight)| weight).sum::<f64>() / whole;
        // Four standard deviations, and what the beats take.
        let tolerance = 4.0 * (known * (1.0 - known) / samples).sqrt() + 0.02;
        assert!((share - known).abs() < tolerance, "{function}: {share} of {samples} samples, in {stacks:?}");
    }
}

/// The stacks of collapsed stacks, and how many samples they are.
pub(crate) fn folded(text: &str) -> (Vec<(Vec<String>, f64)>, f64) {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let stacks: Vec<_> = lines
        .map(|line| {
            let (stack, count) = line.rsplit_once(' ').unwrap();
            (stack.split(';').map(str::to_owned).collect(), count.parse().unwrap())
        })
        .collect();
    let samples = stacks.iter().map(|(_, count): &(_, f64)| count).sum();
    (stacks, samples)
}

/// As speedscope's schema has it: frames are shared, each profile has samples with weights.
fn speedscope(text: &str) -> (Vec<(Vec<String>, f64)>, f64) {
    let data: Value = serde_json::from_str(text).unwrap();
    assert_eq!(data["$schema"], "https://www.speedscope.app/file-format-schema.json");
    let frames: Vec<&str> = data["shared"]["frames"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    let mut stacks = Vec::new();
    for profile in data["profiles"].as_array().unwrap() {
        assert_eq!((&profile["type"], &profile["unit"]), (&"sampled".into(), &"nanoseconds".into()));
        let (samples, weights) =
            (profile["samples"].as_array().unwrap(), profile["weights"].as_array().unwrap());
        assert_eq!(samples.len(), weights.len());
        for (sample, weight) in samples.iter().zip(weights) {
            let stack = sample.as_array().unwrap().iter();
            let stack = stack.map(|index| frames[index.as_u64().unwrap() as usize].to_owned());
            stacks.push((stack.collect(), weight.as_f64().unwrap()));
        }
    }
    let samples = stacks.len() as f64;
    (stacks, samples)
}

/// As `go tool pprof` tells it: one line a function, `FLAT FLAT% SUM% CUM CUM% NAME`.
fn pprof(path: &std::path::Path) -> HashMap<String, f64> {
    let mut go = Command::new("go");
    let output = go.args(["tool", "pprof", "-top", "-nodefraction=0"]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter_map(|row| match row[..] {
        [_, _, _, _, cumulated, function, ..] => {
            Some((function.to_owned(), cumulated.strip_suffix('%')?.parse::<f64>().ok()? / 100.0))
        }
        _ => None,
    })
    .collect()
}

#[test]
fn every_format_tells_the_known_shares_and_the_target_goes_on() {
    let target = steady();
    let before = Snapshot::take(target.pid());
    let surroundings = Surroundings::new();
    let files = ["a.json", "a.folded", "a.pb.gz", "a.speedscope.json", "a.firefox.json", "a.svg", "a.html"];
    at_once(files, |file| {
        let run = surroundings.run(&["record", &name(&target), "-d", "3", "-r", "499", "-o", file]).ok();
        assert_eq!(run.stdout, "");
        assert!(run.stderr.contains(file) && run.stderr.contains(" lost"), "{}", run.stderr);
    });
    let read = |file: &str| fs::read_to_string(surroundings.path(file)).unwrap();
    let (stacks, samples) = folded(&read("a.folded"));
    assert_known_shares(&stacks, samples);
    let (stacks, samples) = speedscope(&read("a.speedscope.json"));
    assert_known_shares(&stacks, samples);
    let told = pprof(&surroundings.path("a.pb.gz"));
    assert!((told["hot"] - 0.6).abs() < 0.15 && (told["cool"] - 0.1).abs() < 0.1, "{told:?}");
    let json: Value = serde_json::from_str(&read("a.json")).unwrap();
    assert!(json["meta"]["rate"] == 499 && json["meta"]["lost"].is_u64(), "{}", json["meta"]);
    for file in ["a.svg", "a.html", "a.firefox.json"] {
        assert!(["hot", "warm", "cool", "work"].iter().all(|one| read(file).contains(one)), "{file}");
    }
    // Each file was another look, so they differ by chance.
    at_once(files.iter().zip(files.iter().skip(1)), |(one, other)| {
        let run = surroundings.run(&["diff", one, other, "--fail-above", "40"]).ok();
        assert!(run.stdout.contains("warm"), "{one} and {other}: {}", run.stdout);
    });
    target.assert_goes_on();
    before.assert_same();
    // Nothing but the seven: each was written beside its place first.
    let left = fs::read_dir(surroundings.folder())
        .unwrap()
        .filter_map(|one| one.unwrap().file_name().into_string().ok());
    assert_eq!(left.filter(|one| one.contains("part")).count(), 0);
}

#[test]
fn top_tells_functions_lines_threads_and_processes_as_data() {
    let target = steady();
    let surroundings = Surroundings::new();
    for (by, wanted) in [("function", "hot"), ("line", "burn"), ("thread", "hot ("), ("process", "hot (")] {
        let arguments = ["top", &name(&target), "--once", "--by", by, "--output", "json"];
        // One second of a busy machine may be all in another function.
        wait::until(&format!("{wanted}'s part"), LIMIT, || {
            let data = surroundings.run(&arguments).ok().json();
            let mut rows = data["rows"].as_array().unwrap().iter();
            let row = rows.find(|row| row["name"].as_str().unwrap().starts_with(wanted));
            let is_it = |row: &Value| {
                row["total"].as_f64().unwrap() > 0.3
                    && (by != "line" || row["place"].as_str().unwrap().contains("hot.c:"))
            };
            row.is_some_and(is_it).then_some(()).ok_or(data)
        });
    }
    let table = surroundings.run(&["top", &name(&target), "--once"]).ok().stdout;
    assert!(table.contains("SELF") && table.contains("warm"), "{table}");
}

#[test]
fn a_python_program_shows_its_own_functions_lines_and_threads() {
    let (_, target) = hot(Language::Python, Symbols::Inside, "steady");
    target.wait_started();
    let before = Snapshot::take(target.pid());
    let surroundings = Surroundings::new();
    let target_name = name(&target);
    let record = ["record", &target_name, "-d", "4", "-r", "499", "--threads", "--format", "folded"];
    let run = surroundings.run(&record).ok();
    let (stacks, samples) = folded(&run.stdout);
    let share = |function: &str| {
        let passing = stacks.iter().filter(|(stack, _)| stack.iter().any(|one| one == function));
        passing.map(|(_, count)| count).sum::<f64>() / samples
    };
    // On a busy machine several samples show one place: looser than for samples of CPU time.
    assert!((share("hot") - 0.6).abs() < 0.15 && (share("cool") - 0.1).abs() < 0.08, "{stacks:?}");
    assert!(stacks.iter().any(|(stack, _)| stack[0].starts_with("MainThread (")), "{stacks:?}");
    let top = ["top", &target_name, "--once", "--by", "line", "--output", "json"];
    let data = surroundings.run(&top).ok().json();
    assert!(data["achieved_rate"].as_f64().unwrap() > 0.0, "{data}");
    let rows = data["rows"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["place"].as_str().unwrap().contains("hot.py:")), "{data}");
    let check = surroundings.run(&["check", &target_name, "--for", "record"]).stdout;
    assert!(check.contains("are read from memory: nothing is held"), "{check}");
    target.assert_goes_on();
    before.assert_same();
}

#[test]
fn a_ruby_program_shows_its_own_methods_lines_and_threads() {
    let target = rubies().remove(0).hot("threads");
    let before = Snapshot::take(target.pid());
    let surroundings = Surroundings::new();
    let target_name = name(&target);
    let stack = surroundings.run(&["stack", &target_name]).ok().stdout;
    assert!(stack.contains("\"idle-0\"") && stack.contains("target not stopped"), "{stack}");
    assert!(stack.contains("idle_for_ever") && stack.contains("hot.rb:"), "{stack}");
    let record = ["record", &target_name, "-d", "4", "-r", "499", "--threads", "--format", "folded"];
    let (stacks, samples) = folded(&surroundings.run(&record).ok().stdout);
    let share = |function: &str| {
        let passing = stacks.iter().filter(|(stack, _)| stack.iter().any(|one| one == function));
        passing.map(|(_, count)| count).sum::<f64>() / samples
    };
    assert!((share("hot") - 0.6).abs() < 0.15 && (share("cool") - 0.1).abs() < 0.08, "{stacks:?}");
    let check = surroundings.run(&["check", &target_name, "--for", "record"]).stdout;
    assert!(check.contains("the frames of Ruby ") && check.contains("nothing is held"), "{check}");
    target.assert_goes_on();
    before.assert_same();
}

#[test]
fn a_stripped_program_is_named_by_the_users_debug_files_and_else_by_its_module() {
    let (fixture, target) = hot(Language::C, Symbols::Split, "steady");
    target.wait_started();
    let surroundings = Surroundings::new();
    let folder = fixture.debug_file.as_ref().unwrap().parent().unwrap().display().to_string();
    let target = name(&target);
    let record = ["record", &target, "-d", "2", "-r", "299", "--format", "folded"];
    let bare = surroundings.run(&record).ok().stdout;
    assert!(bare.contains("[hot]") && !bare.contains("work"), "{bare}");
    let named = surroundings.run(&[&record[..], &["--symbols", &folder]].concat()).ok().stdout;
    let (stacks, samples) = folded(&named);
    assert_known_shares(&stacks, samples);
}

/// A recording that is under way: its samples come.
pub(crate) struct Recording(Child);

impl Recording {
    pub(crate) fn begin(surroundings: &Surroundings, arguments: &[&str]) -> Recording {
        Recording::of(surroundings, &[&["record"], arguments].concat())
    }

    /// Any verb.
    fn of(surroundings: &Surroundings, arguments: &[&str]) -> Recording {
        Recording(
            surroundings.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap(),
        )
    }

    /// Waits until the kernel takes samples for it.
    pub(crate) fn wait_for_samples(&self) {
        wait::until("perf events of the recording", LIMIT, || {
            if self.perf_events() > 0 { Ok(()) } else { Err("none yet") }
        });
    }

    /// How many of the kernel's timers it has.
    pub(crate) fn perf_events(&self) -> usize {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{}/fd", self.0.id())) else { return 0 };
        let links = descriptors.filter_map(|one| fs::read_link(one.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().contains("[perf_event]")).count()
    }

    /// Has it a process, in a session of its own, that puts right what its death would leave?
    fn has_keeper(&self) -> bool {
        let pid = self.0.id();
        // A child that is just ending has session 0, at which `rustix::process::getsid` panics.
        let session_of = |pid: &str| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit_once(") ")?.1.split(' ').nth(3)?.parse::<u32>().ok().filter(|session| *session != 0)
        };
        let own = session_of(&pid.to_string());
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let children = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
        let apart = |child: &str| session_of(child).is_some_and(|of| Some(of) != own);
        children.into_iter().any(|list| list.split_whitespace().any(apart))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    pub(crate) fn end(self) -> Run {
        Run::to_end(self.0)
    }
}

#[test]
fn ctrl_c_ends_a_recording_with_what_it_has() {
    let target = steady();
    let surroundings = Surroundings::new();
    let recording = Recording::begin(&surroundings, &[&name(&target), "-r", "499", "-o", "a.folded"]);
    recording.wait_for_samples();
    target.assert_goes_on();
    recording.signal(Signal::INT);
    let run = recording.end().ok();
    assert!(run.stderr.contains("a.folded: pid/"), "{}", run.stderr);
    let (stacks, samples) = folded(&fs::read_to_string(surroundings.path("a.folded")).unwrap());
    assert_known_shares(&stacks, samples);
    target.assert_goes_on();
}

#[test]
fn a_process_that_ends_in_the_middle_leaves_its_profile() {
    let (_, target) = hot(Language::C, Symbols::Inside, "short");
    let surroundings = Surroundings::new();
    let run = surroundings.run(&["record", &name(&target), "-r", "499", "--format", "folded"]).ok();
    let (stacks, samples) = folded(&run.stdout);
    assert_known_shares(&stacks, samples);
    assert!(!target.is_alive());
}

#[test]
fn what_cannot_be_done_is_one_clear_error_before_anything_is_done() {
    let target = steady();
    let target_name = name(&target);
    let surroundings = Surroundings::new();
    for (arguments, status, says) in [
        (&["-r", "100000"][..], 2, "100000 is not in 1..=10000"),
        (&["-o", "a.txt"], 2, "--format"),
        (&["-o", "no/where.svg"], 4, "choose another place with `-o`"),
        (&["-d", "a while"], 2, "a while"),
        (&["--sampler", "crystal-ball"], 2, "perf, hold, python"),
    ] {
        let run = surroundings.run(&[&["record", &target_name], arguments].concat());
        assert_eq!(run.status, Some(status), "{}", run.snapshot());
        assert!(run.stderr.contains(says) && run.stdout.is_empty(), "{}", run.snapshot());
    }
    let run = surroundings.run(&["record", &target_name, "-d", "1", "--format", "svg", "-o", "/dev/full"]);
    assert!(
        run.status == Some(4) && run.stderr.contains("/dev/full cannot be written"),
        "{}",
        run.snapshot()
    );
    let run = surroundings.run(&["diff", "nothing.json", "nothing.json"]);
    assert!(
        run.status == Some(3) && run.stderr.contains("nothing.json cannot be read"),
        "{}",
        run.snapshot()
    );
    target.assert_goes_on();
}

#[test]
fn a_difference_fails_a_build_only_when_a_function_has_grown_too_much() {
    let surroundings = Surroundings::new();
    fs::write(surroundings.path("before.folded"), "main;work;hot 60\nmain;work;warm 40\n").unwrap();
    fs::write(surroundings.path("after.folded"), "main;work;hot 160\nmain;work;warm 40\n").unwrap();
    let diff = ["diff", "before.folded", "after.folded"];
    let run = surroundings.run(&[&diff[..], &["--fail-above", "25"]].concat()).ok();
    assert!(run.stdout.contains("+20.0"), "{}", run.stdout);
    let run = surroundings.run(&[&diff[..], &["--fail-above", "15"]].concat()).fails(1);
    assert!(run.stderr.contains("hot has grown by 20.0 points"), "{}", run.stderr);
    let data = surroundings.run(&[&diff[..], &["-o", "json"]].concat()).ok().json();
    assert_eq!(data["changes"].as_array().unwrap().len(), 4, "{data}");
    surroundings.run(&[&diff[..], &["-o", "a.svg"]].concat()).ok();
    assert!(
        fs::read_to_string(surroundings.path("a.svg")).unwrap().contains("60.00 % before, 80.00 % after")
    );
    surroundings.run(&[&diff[..], &["-o", "a.html"]].concat()).fails(2);
    for (arguments, says) in [
        (&["before.folded", "after.folded", "--by", "line"][..], "before.folded tells no lines"),
        (&["before.folded", "a.svg"], "this picture holds no capture"),
    ] {
        let run = surroundings.run(&[&["diff"], arguments].concat()).fails(2);
        assert!(run.stderr.contains(says), "{}", run.stderr);
    }
}

/// The thread of a process that is held by another process now.
fn held_thread(pid: u32) -> Option<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let tids = tasks.filter_map(|one| one.ok()?.file_name().to_str()?.parse::<u32>().ok());
    tids.into_iter().find(|tid| {
        let status = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    })
}

#[test]
fn a_sampler_that_is_killed_while_it_holds_a_thread_leaves_none_stopped() {
    let (_, target) = hot(Language::C, Symbols::Inside, "busy");
    target.wait_started();
    let before = Snapshot::take(target.pid());
    let surroundings = Surroundings::new();
    for _ in 0..10 {
        let recording =
            Recording::begin(&surroundings, &[&name(&target), "--sampler", "hold", "-o", "a.json"]);
        wait::until("a thread that is held", LIMIT, || held_thread(target.pid()).ok_or("none"));
        recording.signal(Signal::KILL);
        assert_eq!(recording.end().status, None);
        before.assert_same();
    }
    target.assert_goes_on();
}

#[test]
fn javascript_that_was_made_small_is_named_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let target = node::hot_node_minified(folder.path());
    let surroundings = Surroundings::new();
    surroundings.run(&["record", &name(&target), "-d", "3", "-r", "499", "-o", "a.json"]).ok();
    let capture: Value = serde_json::from_slice(&fs::read(surroundings.path("a.json")).unwrap()).unwrap();
    let source = fs::read_to_string(node::program()).unwrap();
    for function in ["hot", "warm", "cool", "work"] {
        let begins =
            source.lines().position(|line| line.starts_with(&format!("function {function}("))).unwrap() + 1;
        let frames = capture["frames"].as_array().unwrap();
        let frame = frames.iter().find(|frame| frame["function"] == function).unwrap();
        assert_eq!(
            (&frame["file"], &frame["line"]),
            (&node::program().to_str().into(), &begins.into()),
            "{frame}"
        );
    }
    // Without its map it is what it is; one at the user's side will do.
    fs::rename(folder.path().join("hot.min.js.map"), surroundings.path("hot.min.js.map")).unwrap();
    let line = ["record", &name(&target), "-d", "1", "-o"];
    let run = surroundings.run(&[&line[..], &["b.folded"]].concat()).ok();
    assert!(run.stderr.contains("no source map for "), "{run:?}");
    surroundings.run(&[&line[..], &["c.folded", "--symbols", "."]].concat()).ok();
    let has_hot = |file: &str| fs::read_to_string(surroundings.path(file)).unwrap().contains("hot");
    assert_eq!((has_hot("b.folded"), has_hot("c.folded")), (false, true));
    target.assert_goes_on();
}

/// Port 9229 of its own loopback, in state LISTEN.
fn inspector_is_open(pid: u32) -> bool {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    table.lines().any(|line| line.contains(" 0100007F:240D 00000000:0000 0A "))
}

/// It opens only long after whoever asked for it is gone.
#[test]
fn a_recorder_that_is_killed_before_the_inspector_opens_leaves_none_open() {
    let (target, folder) = node::node_that_waits_for_a_child();
    let waits = || fs::read_to_string(format!("/proc/{0}/task/{0}/children", target.pid())).unwrap();
    wait::until("its child", LIMIT, || (!waits().is_empty()).then_some(()).ok_or("none"));
    let surroundings = Surroundings::new();
    let recording = Recording::begin(&surroundings, &[&name(&target), "-o", "a.json"]);
    wait::until("who closes it", LIMIT, || recording.has_keeper().then_some(()).ok_or("nobody"));
    // The signal follows at once.
    thread::sleep(Duration::from_secs(1));
    recording.signal(Signal::KILL);
    assert_eq!(recording.end().status, None);
    thread::sleep(Duration::from_secs(12));
    fs::write(folder.path().join("fifo"), "").unwrap();
    wait::until("it opened", LIMIT, || {
        let said = target.output();
        said.contains("Debugger listening").then_some(()).ok_or(said)
    });
    wait::until("a closed inspector", LIMIT, || {
        (!inspector_is_open(target.pid())).then_some(()).ok_or("it is open")
    });
    target.assert_goes_on();
}

#[test]
fn a_recorder_that_is_killed_leaves_no_inspector_open() {
    let (outer, inner) = node::hot_node_isolated();
    let listens = || inspector_is_open(inner);
    let surroundings = Surroundings::new();
    let recording = Recording::begin(&surroundings, &[&format!("pid/{inner}"), "-o", "a.json"]);
    wait::until("an open inspector", LIMIT, || listens().then_some(()).ok_or("none"));
    recording.signal(Signal::KILL);
    assert_eq!(recording.end().status, None);
    wait::until("a closed inspector", LIMIT, || (!listens()).then_some(()).ok_or("it is open"));
    outer.assert_goes_on();
    let again = surroundings.run(&["record", &format!("pid/{inner}"), "-d", "2", "-o", "b.folded"]).ok();
    assert!(again.stderr.contains("port 9229"), "{again:?}");
    let (stacks, _) = folded(&fs::read_to_string(surroundings.path("b.folded")).unwrap());
    assert!(stacks.iter().any(|(stack, _)| stack.iter().any(|one| one.contains("hot"))), "{stacks:?}");
    assert!(!listens());
}

/// How many threads of a process are V8's profilers.
fn profilers(pid: u32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let names = tasks.filter_map(|one| fs::read_to_string(one.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("v8:ProfEvntProc")).count()
}

/// Also in a worker that never comes back to its events.
#[test]
fn a_recorder_that_is_killed_leaves_no_profiler_in_worker_threads() {
    let target = node::node_with_workers();
    let before = Snapshot::take(target.pid());
    let surroundings = Surroundings::new();
    let recording = Recording::begin(&surroundings, &[&name(&target), "-o", "a.json"]);
    wait::until("profilers of the main thread and three workers", LIMIT, || {
        let profilers = profilers(target.pid());
        if profilers == 4 { Ok(()) } else { Err(profilers) }
    });
    recording.signal(Signal::KILL);
    assert_eq!(recording.end().status, None);
    wait::until("no profiler", LIMIT, || {
        let profilers = profilers(target.pid());
        if profilers == 0 { Ok(()) } else { Err(profilers) }
    });
    wait::until("a program as it was", LIMIT, || {
        let differences = before.differences();
        if differences.is_empty() { Ok(()) } else { Err(differences.join(", ")) }
    });
    target.assert_goes_on();
}

/// At whatever moment: of opening, of asking each thread, of closing.
#[test]
fn a_look_at_the_stack_that_is_killed_leaves_no_inspector_open() {
    let target = node::node_with_workers();
    let before = Snapshot::take(target.pid());
    let surroundings = Surroundings::new();
    let mut seen = 0;
    for round in 0..12 {
        let mut looking = Recording::of(&surroundings, &["stack", &name(&target)]);
        if round > 0 {
            wait::until("an open inspector, or the end", LIMIT, || {
                (inspector_is_open(target.pid()) || looking.has_ended()).then_some(()).ok_or("neither")
            });
            std::thread::sleep(Duration::from_millis(round * 2));
        }
        looking.signal(Signal::KILL);
        seen += usize::from(looking.end().status.is_none());
        wait::until("a closed inspector", LIMIT, || {
            (!inspector_is_open(target.pid())).then_some(()).ok_or("it is open")
        });
    }
    assert!(seen > 3, "{seen} were killed before they had ended");
    let stack = surroundings.run(&["stack", &name(&target)]).ok();
    assert!(stack.stdout.contains("crunch") && stack.stdout.contains("standing"), "{stack:?}");
    wait::until("a program as it was", LIMIT, || {
        let differences = before.differences();
        if differences.is_empty() { Ok(()) } else { Err(differences.join(", ")) }
    });
    target.assert_goes_on();
}
