//! Sessions with every real debugger, through an agent in a process of its own.

use std::time::Duration;

use pepo_client::Agent;
use pepo_dap::{
    AgentLink,
    session::{Debuggee, Happening},
};
use pepo_testkit::{Fixture, Life as _, Running, clean::Snapshot, spawn};
use pepo_trials::{
    cells::{By, Cell, DEBUGGERS, Death, Load},
    piped_agent::{PipedAgent, open_request, run_dir},
};
use pepo_wire::{
    Code,
    agent::{Guard, OpenSession, Opened, Right},
};
use serde_json::{Value, json};

/// A target with a debugger on it.
struct Scene {
    fixture: Fixture,
    target: Running,
    before: Snapshot,
    agent: PipedAgent,
    client: Agent,
    run: tempfile::TempDir,
}

impl Scene {
    async fn set(debugger: &'static str) -> Scene {
        let fixture = Cell { debugger, by: By::Guarded, load: Load::Hot, death: Death::Cut }.fixture();
        let target = spawn(&fixture, &["1000"]);
        let before = Snapshot::take(target.pid());
        let run = tempfile::tempdir().unwrap();
        let (agent, stream) = PipedAgent::start(run.path()).unwrap();
        let client = Agent::connect(stream).await.unwrap();
        Scene { fixture, target, before, agent, client, run }
    }

    fn request(&self, debugger: &str) -> OpenSession {
        open_request(self.target.pid(), debugger, Guard::Unspecified, 20)
    }

    /// lldb fails now and then to attach on a loaded machine, with or without Pepo.
    async fn open(&self, request: OpenSession) -> (Debuggee, Opened) {
        let mut last = String::new();
        for _ in 0..4 {
            let session = match self.client.session(request.clone()).await {
                Ok(session) => session,
                Err(error) => {
                    last = format!("{error:?}");
                    continue;
                }
            };
            let opened = session.opened.clone();
            let mut debuggee = Debuggee::new(Box::new(AgentLink::new(session)));
            match debuggee.begin(&opened, false).await {
                Ok(()) => return (debuggee, opened),
                Err(error) => last = format!("{error:?}"),
            }
        }
        panic!("{}: {last}", request.debugger);
    }

    async fn break_at(&self, debuggee: &mut Debuggee, mark: &str) {
        let source = json!({"path": self.fixture.source, "name": self.fixture.source_name()});
        let breakpoints = json!([{"line": self.fixture.line(mark)}]);
        debuggee
            .request("setBreakpoints", json!({"source": source, "breakpoints": breakpoints}))
            .await
            .unwrap();
    }

    /// After everything the target is as it was and goes on.
    async fn strike(self) {
        self.target.assert_goes_on();
        drop(self.client);
        let agent = self.agent;
        tokio::task::spawn_blocking(move || drop(agent)).await.unwrap();
        self.before.assert_same();
        let left: Vec<_> = std::fs::read_dir(run_dir(self.run.path()).join("sessions")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

async fn next(debuggee: &mut Debuggee, what: &str, fits: impl Fn(&Happening) -> bool) -> Happening {
    let mut seen = Vec::new();
    let wait = async {
        loop {
            let happening = debuggee.next().await.expect("the session goes on");
            if fits(&happening) {
                return happening;
            }
            seen.push(format!("{happening:?}"));
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
    waited.unwrap_or_else(|_| panic!("no {what}; seen: {seen:?}"))
}

fn is_event(happening: &Happening, name: &str) -> bool {
    matches!(happening, Happening::Event(event) if event.event_name() == Some(name))
}

async fn stop(debuggee: &mut Debuggee) -> i64 {
    let stopped = next(debuggee, "stop", |happening| is_event(happening, "stopped")).await;
    let Happening::Event(event) = stopped else { unreachable!() };
    event.body().get("threadId").and_then(Value::as_i64).unwrap()
}

/// The top frame of a thread: its id and its line.
async fn top(debuggee: &mut Debuggee, thread: i64) -> (i64, u64) {
    let stack = debuggee.request("stackTrace", json!({"threadId": thread, "levels": 5})).await.unwrap();
    let frame = &stack["stackFrames"][0];
    (frame["id"].as_i64().unwrap(), frame["line"].as_u64().unwrap())
}

/// The variable of this name in the first scope that has it: the scope's reference and the value.
async fn variable(debuggee: &mut Debuggee, frame: i64, name: &str) -> (i64, String) {
    let scopes = debuggee.request("scopes", json!({"frameId": frame})).await.unwrap();
    for scope in scopes["scopes"].as_array().unwrap() {
        let reference = scope["variablesReference"].as_i64().unwrap();
        let variables =
            debuggee.request("variables", json!({"variablesReference": reference})).await.unwrap();
        for one in variables["variables"].as_array().unwrap() {
            if one["name"] == name {
                return (reference, one["value"].as_str().unwrap().to_owned());
            }
        }
    }
    panic!("no variable {name}: {scopes}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_variable_is_read_and_changed_and_the_target_let_go_twice_over() {
    for debugger in DEBUGGERS {
        let scene = Scene::set(debugger).await;
        for _ in 0..2 {
            let (mut debuggee, opened) = scene.open(scene.request(debugger)).await;
            assert_eq!(opened.debugger, debugger);
            scene.break_at(&mut debuggee, "BREAK").await;
            let thread = stop(&mut debuggee).await;
            let (frame, line) = top(&mut debuggee, thread).await;
            assert_eq!(line, u64::from(scene.fixture.line("BREAK")), "{debugger}");
            let (scope, value) = variable(&mut debuggee, frame, "factor").await;
            assert_eq!(value, "2", "{debugger}");
            let set = json!({"variablesReference": scope, "name": "factor", "value": "5"});
            debuggee.request("setVariable", set).await.unwrap();
            let closed = debuggee.detach().await.unwrap();
            assert_eq!(closed.left_behind, Vec::<String>::new(), "{debugger}");
            assert!(closed.failure.is_none(), "{debugger}: {closed:?}");
            scene.target.wait_for_answer(105);
        }
        scene.strike().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_budget_lets_the_target_run_and_the_session_goes_on() {
    for debugger in DEBUGGERS {
        let scene = Scene::set(debugger).await;
        let mut request = scene.request(debugger);
        request.grant.as_mut().unwrap().pause_budget_millis = Some(3_000);
        let (mut debuggee, _) = scene.open(request).await;
        scene.break_at(&mut debuggee, "BREAK").await;
        stop(&mut debuggee).await;
        let spent =
            next(&mut debuggee, "spent budget", |happening| matches!(happening, Happening::BudgetSpent(_)))
                .await;
        let Happening::BudgetSpent(spent) = spent else { unreachable!() };
        assert!(spent.breakpoints_cleared >= 1, "{debugger}: {spent:?}");
        scene.target.assert_goes_on();
        // Armed again, it stops again.
        scene.break_at(&mut debuggee, "BREAK").await;
        stop(&mut debuggee).await;
        debuggee.detach().await.unwrap();
        scene.strike().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_ways_out_of_an_evaluate_are_closed() {
    let ways = [
        ("gdb", "shell touch FILE", "repl"),
        ("gdb", "$_shell(\"touch FILE\")", "watch"),
        ("gdb", "$_shell(\"touch FILE\")", "hover"),
        ("gdb", "python open('FILE', 'w')", "repl"),
        ("gdb", "pipe p 1 | tee FILE", ""),
        ("lldb", "script open('FILE', 'w')", "repl"),
        ("lldb", "`script open('FILE', 'w')", "repl"),
        ("lldb", "`script open('FILE', 'w')", "hover"),
        ("lldb", "platform shell touch FILE", "repl"),
        ("delve", "dlv config -list", "repl"),
    ];
    for debugger in ["gdb", "lldb", "delve"] {
        let scene = Scene::set(debugger).await;
        let mark = scene.run.path().join("escaped");
        let (mut debuggee, _) = scene.open(scene.request(debugger)).await;
        scene.break_at(&mut debuggee, "BREAK").await;
        let thread = stop(&mut debuggee).await;
        let (frame, _) = top(&mut debuggee, thread).await;
        for (_, expression, context) in ways.iter().filter(|(of, ..)| *of == debugger) {
            let expression = expression.replace("FILE", mark.to_str().unwrap());
            let mut arguments = json!({"expression": expression, "frameId": frame, "context": context});
            if context.is_empty() {
                arguments.as_object_mut().unwrap().remove("context");
            }
            let answer = debuggee.request("evaluate", arguments).await;
            assert!(!mark.exists(), "{debugger}: {expression} ran: {answer:?}");
            assert!(answer.is_err(), "{debugger}: {expression} was answered: {answer:?}");
        }
        for condition in ways.iter().filter(|(of, ..)| *of == debugger) {
            let condition = condition.1.replace("FILE", mark.to_str().unwrap());
            let source = json!({"path": scene.fixture.source});
            let breakpoints = json!([{"line": scene.fixture.line("BREAK"), "condition": condition}]);
            // Refused, or taken and never true; it must not run.
            let _ = debuggee
                .request("setBreakpoints", json!({"source": source, "breakpoints": breakpoints}))
                .await;
            assert!(!mark.exists(), "{debugger}: {condition} ran");
        }
        debuggee.detach().await.unwrap();
        assert!(!mark.exists(), "{debugger}");
        scene.strike().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_granted_is_refused_by_the_agent() {
    for debugger in DEBUGGERS {
        let scene = Scene::set(debugger).await;
        let mut request = scene.request(debugger);
        request.grant.as_mut().unwrap().rights = vec![Right::Stop as i32];
        let (mut debuggee, _) = scene.open(request).await;
        scene.break_at(&mut debuggee, "BREAK").await;
        let thread = stop(&mut debuggee).await;
        let (frame, _) = top(&mut debuggee, thread).await;
        let (scope, _) = variable(&mut debuggee, frame, "factor").await;
        let set = json!({"variablesReference": scope, "name": "factor", "value": "5"});
        let refused = format!("{:?}", debuggee.request("setVariable", set).await.unwrap_err());
        assert!(refused.contains("modify"), "{debugger}: {refused}");
        let evaluate = json!({"expression": "factor", "frameId": frame, "context": "watch"});
        assert!(debuggee.request("evaluate", evaluate).await.is_err(), "{debugger}");
        debuggee.detach().await.unwrap();
        assert!(!scene.target.answers().contains(&105));
        scene.strike().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_debugger_is_told_who_holds_the_process() {
    for debugger in ["lldb", "gdb", "delve"] {
        let scene = Scene::set(debugger).await;
        let (mut debuggee, _) = scene.open(scene.request(debugger)).await;
        let second = scene.client.session(scene.request(debugger)).await.unwrap_err();
        assert_eq!(second.code(), Code::AlreadyTraced, "{debugger}: {second}");
        let sessions = scene.client.sessions().await.unwrap();
        assert!(
            sessions.iter().any(|session| session.debugger == debugger && session.state == "live"),
            "{sessions:?}"
        );
        debuggee.detach().await.unwrap();
        scene.strike().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_agent_releases_a_session_that_stands_still() {
    for debugger in DEBUGGERS {
        let scene = Scene::set(debugger).await;
        let (mut debuggee, _) = scene.open(scene.request(debugger)).await;
        scene.break_at(&mut debuggee, "BREAK").await;
        stop(&mut debuggee).await;
        let (other, stream) = PipedAgent::start(scene.run.path()).unwrap();
        let client = Agent::connect(stream).await.unwrap();
        let released = client.release(scene.request(debugger).target).await.unwrap();
        assert!(released.len() == 1 && released[0].failure.is_none(), "{debugger}: {released:?}");
        let closed = next(&mut debuggee, "end", |happening| matches!(happening, Happening::Closed(_))).await;
        assert!(matches!(closed, Happening::Closed(closed) if closed.reason == "released"), "{debugger}");
        drop(client);
        tokio::task::spawn_blocking(move || drop(other)).await.unwrap();
        scene.strike().await;
    }
}

/// The agent itself, at work without an adapter, stays below 64 MiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_at_work_is_small() {
    let scene = Scene::set("delve").await;
    let target = scene.request("").target;
    for _ in 0..5 {
        scene.client.list(None).await.unwrap();
        let request = pepo_wire::agent::StackRequest { target: target.clone(), ..Default::default() };
        scene.client.stack(request).await.unwrap();
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", scene.agent.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 64 << 10, "{kib} KiB");
    scene.strike().await;
}
