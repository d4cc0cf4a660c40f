//! The calls that look, and release.

use std::{collections::BTreeSet, time::Duration};

use pepo_testkit::{Life as _, Variant, fixtures, spawn};
use pepo_wire::{
    Code,
    agent::{CheckRequest, ProcessTarget, Selector, StackRequest, StackResponse, Target, target},
};
use rustix::process::Signal;

use crate::{agent, process};

#[tokio::test]
async fn a_process_is_listed_with_what_it_is() {
    let run = tempfile::tempdir().unwrap();
    let (agent, _served) = agent(run.path()).await;
    let target = spawn(&fixtures::go(Variant::debug()), &[]);
    let listed = agent.list(Some(process(target.pid()))).await.unwrap();
    let [one] = listed.as_slice() else { panic!("one process: {listed:?}") };
    assert_eq!((one.agent_pid, one.container_pid, one.tracer), (target.pid(), target.pid(), 0));
    assert_eq!(one.runtime.as_ref().unwrap().language, "go");
    assert_eq!(one.runtime.as_ref().unwrap().debugger, "delve");
    assert!(one.stop.as_ref().unwrap().yes && one.look.as_ref().unwrap().yes);
    assert!(one.resident_bytes > 0 && one.threads >= 3 && one.start_time > 0);
    let all = agent.list(None).await.unwrap();
    assert!(all.iter().any(|other| other.agent_pid == target.pid()));
}

#[tokio::test]
async fn a_process_that_is_not_there_or_another_one_now_is_an_error() {
    let run = tempfile::tempdir().unwrap();
    let (agent, _served) = agent(run.path()).await;
    let gone = agent.list(Some(process(i32::MAX as u32))).await.unwrap_err();
    assert_eq!(gone.code(), Code::ProcessGone, "{gone}");
    let target = spawn(&fixtures::c(Variant::debug()), &[]);
    let reused = ProcessTarget { agent_pid: target.pid(), start_time: 1, pid_namespace: 0 };
    let reused = Target { kind: Some(target::Kind::Process(reused)), selector: None };
    let error = agent.list(Some(reused)).await.unwrap_err();
    assert!(matches!(error.code(), Code::PidNotProven | Code::ProcessGone), "{error}");
}

/// What looks at one target have shown.
#[derive(Debug, Default)]
struct Shown {
    functions: BTreeSet<String>,
    waits: BTreeSet<String>,
    shortest_pause: Option<u64>,
}

impl Shown {
    fn add(&mut self, stack: &StackResponse) {
        let of_threads = stack.threads.iter().flat_map(|thread| &thread.frames);
        let of_goroutines = stack.goroutine_stacks.iter().flat_map(|one| &one.frames);
        self.functions.extend(of_threads.chain(of_goroutines).map(|frame| frame.function.clone()));
        let waiting = stack.threads.iter().filter(|thread| thread.state == "S" && !thread.syscall.is_empty());
        self.waits.extend(waiting.map(|thread| thread.syscall.clone()));
        let pause = stack.longest_pause_micros;
        self.shortest_pause = Some(self.shortest_pause.map_or(pause, |shortest| shortest.min(pause)));
    }

    fn is_complete(&self) -> bool {
        self.functions.iter().any(|name| name.contains("tick"))
            && !self.waits.is_empty()
            && self.shortest_pause.is_some_and(|micros| micros < 50_000)
    }
}

#[tokio::test]
async fn a_stack_names_the_functions_and_the_target_goes_on() {
    let run = tempfile::tempdir().unwrap();
    let (agent, _served) = agent(run.path()).await;
    for fixture in
        [fixtures::c(Variant::debug()), fixtures::rust(Variant::debug()), fixtures::go(Variant::debug())]
    {
        let target = spawn(&fixture, &["0"]);
        let request =
            StackRequest { target: Some(process(target.pid())), thread: 0, ..StackRequest::default() };
        // Without a pause between the calls a thread is nearly always below `tick`, but one look may meet it in its
        // runtime's scheduler.
        let mut shown = Shown::default();
        for _ in 0..50 {
            let stack = agent.stack(request.clone()).await.unwrap();
            assert!(stack.threads.len() >= 3, "{stack:?}");
            shown.add(&stack);
            if shown.is_complete() {
                break;
            }
        }
        assert!(shown.is_complete(), "{:?}: {shown:?}", fixture.language);
        target.assert_goes_on();
    }
}

#[tokio::test]
async fn one_thread_can_be_asked_for() {
    let run = tempfile::tempdir().unwrap();
    let (agent, _served) = agent(run.path()).await;
    let target = spawn(&fixtures::c(Variant::debug()), &[]);
    let main =
        StackRequest { target: Some(process(target.pid())), thread: target.pid(), ..StackRequest::default() };
    assert_eq!(agent.stack(main).await.unwrap().threads.len(), 1);
    let none = StackRequest { target: Some(process(target.pid())), thread: 1, ..StackRequest::default() };
    assert_eq!(agent.stack(none).await.unwrap_err().code(), Code::ProcessNotFound);
}

#[tokio::test]
async fn files_are_read_as_the_target_sees_them_and_only_files() {
    let run = tempfile::tempdir().unwrap();
    let (agent, _served) = agent(run.path()).await;
    let fixture = fixtures::python(Variant::debug());
    let target = spawn(&fixture, &[]);
    let path = fixture.source.to_str().unwrap();
    let read = agent.read_file(process(target.pid()), path, 0).await.unwrap();
    assert_eq!(read, std::fs::read(path).unwrap());
    for (path, limit, code) in [
        ("/no/such/file", 0, Code::FileNotFound),
        ("/dev/zero", 0, Code::FileNotFound),
        ("/etc", 0, Code::FileNotFound),
        (path, 10, Code::TooLarge),
    ] {
        let error = agent.read_file(process(target.pid()), path, limit).await.unwrap_err();
        assert_eq!(error.code(), code, "{path}: {error}");
    }
    let empty = tempfile::NamedTempFile::new().unwrap();
    let read = agent.read_file(process(target.pid()), empty.path().to_str().unwrap(), 0).await.unwrap();
    assert_eq!(read, b"");
}

#[tokio::test]
async fn a_selector_that_fits_nothing_lists_the_candidates() {
    let run = tempfile::tempdir().unwrap();
    let (agent, _served) = agent(run.path()).await;
    let target = spawn(&fixtures::c(Variant::debug()), &[]);
    let mut asked = process(target.pid());
    asked.selector = Some(Selector { process: "no such name".into(), container_pid: 0 });
    let error = agent.list(Some(asked)).await.unwrap_err();
    assert_eq!(error.code(), Code::ProcessNotFound, "{error}");
}

#[tokio::test]
async fn a_check_of_a_process_and_of_the_machine_answers() {
    let run = tempfile::tempdir().unwrap();
    let (agent, _served) = agent(run.path()).await;
    let target = spawn(&fixtures::c(Variant::debug()), &[]);
    let of_target = CheckRequest { target: Some(process(target.pid())), ..CheckRequest::default() };
    let of_target = agent.check(of_target).await.unwrap();
    assert_eq!(of_target.process.unwrap().agent_pid, target.pid());
    assert!(!of_target.findings.is_empty());
    let machine = agent.check(CheckRequest::default()).await.unwrap();
    assert!(machine.process.is_none() && !machine.findings.is_empty());
}

#[tokio::test]
async fn release_lets_a_stopped_process_run_and_says_so() {
    let run = tempfile::tempdir().unwrap();
    let (agent, _served) = agent(run.path()).await;
    let target = spawn(&fixtures::c(Variant::debug()), &[]);
    target.signal(Signal::STOP);
    target.assert_stands_still(Duration::from_millis(400));
    let released = agent.release(Some(process(target.pid()))).await.unwrap();
    assert!(released[0].repairs.iter().any(|repair| repair.contains("run again")), "{released:?}");
    target.assert_goes_on();
    let held = agent.sessions().await.unwrap();
    let held = held.iter().filter_map(|session| session.process.as_ref());
    assert!(held.into_iter().all(|process| process.agent_pid != target.pid()));
    assert_eq!(agent.release(Some(process(target.pid()))).await.unwrap(), []);
}
