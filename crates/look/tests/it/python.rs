//! Stacks and recordings of Python programs, with every interpreter of this machine. Who may call whom in the program is read from
//! its source: the line at which a caller stands names what it calls.

use std::fs;

use pepo_process::{AgentPid, Process};
use pepo_testkit::{
    Fixture, Language, Life as _, Python, Running, Variant, clean::Snapshot, fixtures, pythons, spawn,
};
use pepo_wire::agent::{Frame, StackRequest, StackResponse, Thread};

pub(crate) fn fixture(python: &Python) -> Fixture {
    fixtures::build(Language::Python, "hot", Variant::debug()).with_python(python)
}

/// The program, run by this interpreter; at work when this returns.
pub(crate) fn hot(python: &Python, mode: &str) -> (Fixture, Running) {
    let fixture = fixture(python);
    let target = spawn(&fixture, &[mode]);
    target.wait_started();
    (fixture, target)
}

pub(crate) fn open(target: &Running) -> Process {
    Process::open(AgentPid::new(target.pid()).unwrap()).unwrap()
}

/// A frame of Python, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Told {
    pub(crate) function: String,
    pub(crate) file: String,
    pub(crate) line: u32,
}

/// What the source allows.
pub(crate) struct Source {
    /// Each line, with the function it stands in.
    lines: Vec<(String, String)>,
}

impl Source {
    pub(crate) fn of(fixture: &Fixture) -> Source {
        let text = fs::read_to_string(&fixture.source).unwrap();
        let mut within = vec![(0, "<module>".to_owned())];
        let mut lines = Vec::new();
        for line in text.lines() {
            let indent = line.len() - line.trim_start().len();
            if !line.trim().is_empty() {
                within.retain(|(outer, _)| *outer == 0 || *outer <= indent);
            }
            let function = within.last().unwrap().1.clone();
            if let Some(name) = line.trim().strip_prefix("def ") {
                within.push((indent + 4, name.split('(').next().unwrap().to_owned()));
            }
            lines.push((line.to_owned(), function));
        }
        Source { lines }
    }

    fn line(&self, at: &Told) -> Option<&(String, String)> {
        self.lines.get((at.line as usize).checked_sub(1)?)
    }

    /// Can the program have these frames, innermost first? Else why not.
    pub(crate) fn check(&self, chain: &[Told]) -> Result<(), String> {
        let ours = |one: &Told| one.file.ends_with("/hot.py");
        let plain = |one: &Told| one.function.rsplit('.').next().unwrap_or_default().to_owned();
        if !chain.iter().any(ours) {
            return Err("nothing of the program".to_owned());
        }
        for (index, frame) in chain.iter().enumerate().filter(|(_, frame)| ours(frame)) {
            let name = plain(frame);
            let (text, within) = match self.line(frame) {
                Some(line) => line,
                // What has just been entered may not have a line yet.
                None if index == 0 => continue,
                None => return Err(format!("no line of {frame:?}")),
            };
            // The line at which a function begins is its own, too.
            let is_first = text.trim().starts_with(&format!("def {name}("));
            if !name.starts_with('<') && *within != name && !is_first {
                return Err(format!("line {} is not of {name}", frame.line));
            }
            let Some(callee) =
                index.checked_sub(1).and_then(|inner| chain.get(inner)).filter(|one| ours(one))
            else {
                continue;
            };
            let called = plain(callee);
            let allowed = if called.starts_with('<') {
                callee.line == 0 || callee.line == frame.line
            } else {
                text.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
                    .any(|word| word == called)
            };
            if !allowed {
                return Err(format!("{name}, line {}, does not call {called}", frame.line));
            }
        }
        let outermost = chain.iter().rfind(|one| ours(one)).map(plain).unwrap_or_default();
        let begins = ["<module>", "beat_for_ever", "idle_for_ever", "work_for_ever"];
        if !begins.contains(&outermost.as_str()) {
            return Err(format!("nothing begins with {outermost}"));
        }
        Ok(())
    }
}

fn stack(target: &Running, request: &StackRequest) -> StackResponse {
    pepo_look::stack(&open(target), request).unwrap()
}

fn told(frames: &[Frame]) -> Vec<Told> {
    let python = frames.iter().filter(|frame| frame.language == "python");
    python
        .map(|frame| Told { function: frame.function.clone(), file: frame.file.clone(), line: frame.line })
        .collect()
}

fn functions(thread: &Thread) -> Vec<&str> {
    thread.frames.iter().map(|frame| frame.function.rsplit('.').next().unwrap()).collect()
}

fn main_thread<'a>(stack: &'a StackResponse, target: &Running) -> &'a Thread {
    stack.threads.iter().find(|thread| thread.agent_tid == target.pid()).unwrap()
}

#[test]
fn every_version_shows_its_threads_by_name_where_each_is_and_who_holds_the_lock() {
    let all = pythons();
    assert!(all.len() >= 2, "{all:?}");
    for python in all {
        let (fixture, target) = hot(&python, "threads");
        let source = Source::of(&fixture);
        let before = Snapshot::take(target.pid());
        let mut holders = 0;
        for _ in 0..20 {
            let stack = stack(&target, &StackRequest::default());
            assert_eq!((stack.longest_pause_micros, &stack.notes[..]), (0, &[][..]), "{python:?}");
            assert_eq!(stack.threads.len(), 23, "{python:?}");
            for thread in &stack.threads {
                let chain = told(&thread.frames);
                source.check(&chain).unwrap_or_else(|why| panic!("{python:?}: {why}: {chain:#?}"));
                let name = thread.given_name.as_str();
                match name.split('-').next().unwrap() {
                    "MainThread" | "worker" => {
                        assert!(functions(thread).contains(&"work_for_ever"), "{chain:?}")
                    }
                    "beat" => assert!(functions(thread).contains(&"beat_for_ever"), "{chain:?}"),
                    "idle" => {
                        assert!(functions(thread).contains(&"idle_for_ever"), "{chain:?}");
                        assert!(!thread.holds_lock && thread.state != "R", "{thread:?}");
                    }
                    other => panic!("{python:?}: {other:?} in {thread:?}"),
                }
            }
            let holding = stack.threads.iter().filter(|thread| thread.holds_lock).count();
            assert!(holding <= 1, "{python:?}");
            holders += holding;
        }
        // Two threads want it all the time.
        assert!(holders > 0, "{python:?}");
        target.assert_goes_on();
        before.assert_same();
    }
}

/// What the documentation promises of the shortest calls: of many stacks hardly one is of two moments.
#[test]
fn a_thread_that_calls_as_fast_as_it_can_hardly_ever_shows_an_impossible_stack() {
    for python in pythons() {
        let (fixture, target) = hot(&python, "calls");
        let source = Source::of(&fixture);
        let mut wrong = Vec::new();
        for _ in 0..50 {
            let stack = stack(&target, &StackRequest { thread: target.pid(), ..StackRequest::default() });
            let chain = told(&main_thread(&stack, &target).frames);
            if !chain.is_empty() {
                wrong.extend(source.check(&chain).err().map(|why| (why, chain)));
            }
        }
        assert!(wrong.len() <= 1, "{python:?}: {wrong:#?}");
        target.assert_goes_on();
    }
}

#[test]
fn a_recursion_of_nine_hundred_calls_is_cut_off_and_says_so() {
    for python in pythons() {
        let (_, target) = hot(&python, "deep");
        // On the way there and back it is not that deep.
        let deep = (0..100).find_map(|_| {
            let stack = stack(&target, &StackRequest::default());
            let names: Vec<String> =
                functions(main_thread(&stack, &target)).into_iter().map(str::to_owned).collect();
            (names.last()? == "[cut off]").then_some(names)
        });
        let deep = deep.unwrap_or_else(|| panic!("{python:?}: never deep"));
        assert_eq!(deep.len(), 513);
        assert!(deep.iter().filter(|name| *name == "descend").count() > 500, "{python:?}: {deep:?}");
        target.assert_goes_on();
    }
}

#[test]
fn variables_are_shown_by_what_they_are_and_secrets_are_not() {
    for python in pythons() {
        let (_, target) = hot(&python, "secrets");
        let stack = stack(&target, &StackRequest { locals: true, ..StackRequest::default() });
        let thread = main_thread(&stack, &target);
        let frame = thread.frames.iter().find(|frame| frame.function.ends_with("hold_secrets")).unwrap();
        let value = |name: &str| {
            let found = frame.variables.iter().find(|one| one.name == name);
            found.unwrap_or_else(|| panic!("{python:?}: no {name} in {frame:#?}")).value.as_str()
        };
        for (name, shown) in [
            ("password", "[hidden]"),
            ("user", "'anna'"),
            ("limits", "{'count': 3}"),
            ("names", "['anna', 'ben']"),
            ("url", "'postgres://shop:[hidden]@db/shop'"),
            ("answer", "42"),
            ("nothing", "None"),
            ("ratio", "0.5"),
            ("settings", "{'api_key': [hidden], 'colour': 'blue'}"),
            ("inner", "<function>"),
        ] {
            assert_eq!(value(name), shown, "{python:?}: {name}");
        }
        assert!(value("big").contains("bits") && value("text").ends_with("… (100 characters)"), "{frame:#?}");
        assert!(value("deep").contains("1 items"), "{frame:#?}");
        let all = format!("{stack:?}");
        assert!(!["hunter2", "k-123456", "abcdef0123"].iter().any(|secret| all.contains(secret)), "{all}");
        target.assert_goes_on();
    }
}

#[test]
fn native_frames_and_those_of_python_are_joined_in_one_stack() {
    for python in pythons() {
        let (fixture, target) = hot(&python, "native");
        let source = Source::of(&fixture);
        let mut joined = 0;
        for _ in 0..10 {
            let stack = stack(&target, &StackRequest { native: true, ..StackRequest::default() });
            for thread in &stack.threads {
                source
                    .check(&told(&thread.frames))
                    .unwrap_or_else(|why| panic!("{python:?}: {why}: {stack:#?}"));
            }
            let frames = &main_thread(&stack, &target).frames;
            let pack = frames.iter().position(|frame| frame.function == "pack");
            let inside = &frames[..pack.unwrap_or(0)];
            // Below the first frame of Python is what started the interpreter.
            let last = frames.last().is_some_and(|last| last.language.is_empty() && last.address > 0);
            let is_native = !inside.is_empty() && inside.iter().all(|frame| frame.language.is_empty());
            joined += usize::from(is_native && last);
        }
        assert!(joined >= 5, "{python:?}: {joined}");
        target.assert_goes_on();
    }
}
