//! The server for editors and the terminal with adapters that do what real ones do only now and then.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pepo_dap::{
    LinkEvent,
    console::{Console, ConsoleOptions, Files, Flow, group::Group, output::Output, plain},
};
use pepo_wire::{
    Code, Failure,
    agent::{BudgetSpent, Closed, PauseReport, Process},
    dap::Message,
};
use serde_json::{Value, json};

use crate::{
    editor::Editor,
    fake::{Fake, event, yes},
};

async fn attached(fake: &Fake, arguments: Value) -> Editor {
    let mut editor = Editor::of(fake.opener());
    editor.attach(json!({"clientID": "test"}), arguments, &[]).await;
    editor
}

fn spent() -> LinkEvent {
    LinkEvent::BudgetSpent(BudgetSpent { stood_still_millis: 60_000, breakpoints_cleared: 2 })
}

#[tokio::test]
async fn an_editor_sees_that_the_budget_is_spent_and_can_arm_again() {
    let fake = Fake::plain();
    let mut editor = attached(&fake, json!({"target": "x"})).await;
    let set =
        json!({"source": {"path": "/a.c"}, "breakpoints": [{"line": 1}, {"line": 2, "condition": "n > 1"}]});
    editor.ask("setBreakpoints", set.clone()).await;
    fake.say(event("stopped", json!({"reason": "breakpoint", "threadId": 1, "allThreadsStopped": true})))
        .await;
    editor.event("stopped").await;
    fake.say(spent()).await;
    assert_eq!(editor.event("continued").await, json!({"threadId": 1, "allThreadsContinued": true}));
    for id in [1, 2] {
        let changed = editor.event("breakpoint").await;
        assert_eq!(
            (&changed["breakpoint"]["id"], &changed["breakpoint"]["verified"]),
            (&json!(id), &json!(false))
        );
    }
    assert_eq!(editor.event("pepo/budgetSpent").await["breakpointsCleared"], 2);
    editor.ask("evaluate", json!({"expression": "rearm", "context": "repl"})).await;
    assert_eq!(editor.event("breakpoint").await["breakpoint"]["verified"], true);
    let sent = fake.seen("setBreakpoints");
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[1]["arguments"], set, "the same again, conditions and all");
    assert!(fake.seen("evaluate").is_empty(), "the word is ours");
}

#[tokio::test]
async fn helix_hears_only_of_events_that_it_knows_and_its_expressions_are_no_commands() {
    let fake = Fake::plain();
    let mut editor = Editor::of(fake.opener());
    editor.attach(json!({"clientID": "hx"}), json!({"target": "x"}), &[]).await;
    fake.say(spent()).await;
    fake.say(event("custom", json!({"x": 1}))).await;
    fake.say(event("stopped", json!({"reason": "breakpoint", "threadId": 1, "allThreadsStopped": true})))
        .await;
    editor.event("stopped").await;
    editor.ask("evaluate", json!({"expression": "1"})).await;
    assert_eq!(fake.seen("evaluate")[0]["arguments"]["context"], "watch");
    let seen = editor.log.join("\n");
    assert!(!seen.contains("pepo/") && !seen.contains("custom"), "{seen}");
}

#[tokio::test]
async fn what_is_not_known_here_passes_unharmed() {
    let fake = Fake::new(json!({"$__ext": {"a": 1}}), |request| match request.command() {
        Some("custom/thing") => vec![yes(request, json!({"answer": [1, {"deep": null}], "$x": true}))],
        _ => Vec::new(),
    });
    let mut editor = attached(&fake, json!({"target": "x"})).await;
    let sent = json!({"anything": {"threadless": 7}, "path": "/not/a/source"});
    let body = editor.ask("custom/thing", sent.clone()).await;
    assert_eq!(body, json!({"answer": [1, {"deep": null}], "$x": true}));
    assert_eq!(fake.seen("custom/thing")[0]["arguments"], sent);
    fake.say(event("customEvent", json!({"whatever": [true], "threadCausedFocus": 1}))).await;
    assert_eq!(editor.event("customEvent").await, json!({"whatever": [true], "threadCausedFocus": 1}));
}

#[tokio::test]
async fn a_request_that_the_adapter_does_not_know_never_reaches_it() {
    let fake = Fake::plain();
    let mut editor = attached(&fake, json!({"target": "x"})).await;
    for command in
        ["setVariable", "setExpression", "dataBreakpointInfo", "stepBack", "restartFrame", "completions"]
    {
        let seq = editor.send(command, json!({"variablesReference": 1, "name": "n", "value": "1"})).await;
        assert_eq!(editor.answer(seq).await["success"], false);
        assert!(fake.seen(command).is_empty(), "{command} was sent");
    }
}

#[tokio::test]
async fn nothing_is_started_on_the_users_machine_and_other_requests_of_the_adapter_pass() {
    let fake = Fake::plain();
    let mut editor = attached(&fake, json!({"target": "x"})).await;
    let ask = |seq, command: &str| {
        LinkEvent::Dap(Message::request(seq, command, json!({"args": ["id"]})).to_bytes())
    };
    fake.say(ask(71, "runInTerminal")).await;
    fake.say(ask(72, "custom/ask")).await;
    let asked = editor.wait("custom/ask", |one| one["command"] == "custom/ask").await;
    assert!(!editor.log.iter().any(|line| line.contains("runInTerminal")));
    let asked = Message { fields: asked.as_object().cloned().expect("a message") };
    editor.send_message(Message::response(900, &asked, json!({"fine": true}))).await;
    editor.ask("threads", Value::Null).await;
    let back = |seq: i64| {
        let all = fake.seen(if seq == 71 { "runInTerminal" } else { "custom/ask" });
        all.into_iter().find(|one| one["request_seq"] == seq).unwrap_or_else(|| panic!("no answer to {seq}"))
    };
    assert_eq!(back(71)["success"], false);
    assert_eq!(back(72)["body"], json!({"fine": true}));
}

#[tokio::test]
async fn a_target_is_never_ended_or_restarted() {
    for last in ["disconnect", "terminate"] {
        let fake =
            Fake::new(json!({"supportsTerminateRequest": true, "supportsRestartRequest": true}), |_| {
                Vec::new()
            });
        let mut editor = attached(&fake, json!({"target": "x"})).await;
        let told = editor.log.join("\n");
        assert!(
            told.contains("\"supportsTerminateRequest\":false")
                && !told.contains("\"supportsTerminateRequest\":true")
        );
        let seq = editor.send("restart", Value::Null).await;
        assert_eq!(editor.answer(seq).await["success"], false);
        editor.ask(last, json!({"terminateDebuggee": true, "restart": true})).await;
        pepo_testkit::wait::until("the disconnect", Duration::from_secs(5), || {
            match fake.seen("disconnect").as_slice() {
                [one] if one["arguments"] == json!({"terminateDebuggee": false}) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        assert!(fake.seen("terminate").is_empty() && fake.seen("restart").is_empty());
    }
}

#[tokio::test]
async fn the_stop_of_attaching_is_passed_on_only_when_it_is_wished_for() {
    let stop = || event("stopped", json!({"reason": "attach", "threadId": 9, "allThreadsStopped": true}));
    let gdb = || {
        let mut fake = Fake::new(json!({"supportsConfigurationDoneRequest": true}), move |request| {
            match request.command() {
                Some("attach") => vec![event("initialized", Value::Null), yes(request, Value::Null), stop()],
                _ => Vec::new(),
            }
        });
        fake.opened.quirks = vec!["continue-after-attach".into()];
        fake
    };
    let fake = gdb();
    let mut editor = attached(&fake, json!({"target": "x"})).await;
    editor.ask("threads", Value::Null).await;
    assert!(!editor.log.iter().any(|line| line.contains("\"stopped\"")), "{:?}", editor.log);
    assert_eq!(fake.seen("continue")[0]["arguments"]["threadId"], 9);
    let fake = gdb();
    let mut editor = attached(&fake, json!({"target": "x", "stopOnEntry": true})).await;
    editor.event("stopped").await;
    assert!(fake.seen("continue").is_empty());
}

#[tokio::test]
async fn what_an_adapter_leaves_out_is_put_in() {
    let fake = Fake::new(json!({"supportsSetVariable": true}), |request| match request.command() {
        Some("setVariable") => vec![yes(request, json!({"type": "int"}))],
        _ => Vec::new(),
    });
    let mut editor = attached(&fake, json!({"target": "shop"})).await;
    let set = json!({"variablesReference": 1, "name": "n", "value": "7"});
    assert_eq!(editor.ask("setVariable", set).await["value"], "7");
    fake.say(event("process", json!({"startMethod": "attach"}))).await;
    assert_eq!(editor.event("process").await["name"], "shop");
}

#[tokio::test]
async fn the_program_is_called_by_its_own_name_and_not_as_a_guard_hands_it_over() {
    let mut fake = Fake::plain();
    let process = Process {
        name: "loop".into(),
        command_line: vec!["/app/loop".into(), "1000".into()],
        ..Process::default()
    };
    fake.opened.process = Some(process);
    let mut editor = attached(&fake, json!({"target": "shop"})).await;
    for told in [json!({"name": "/proc/self/fd/200"}), json!({"startMethod": "attach"})] {
        fake.say(event("process", told)).await;
        assert_eq!(editor.event("process").await["name"], "/app/loop");
    }
    fake.say(event("process", json!({"name": "/usr/bin/python3.11"}))).await;
    assert_eq!(editor.event("process").await["name"], "/usr/bin/python3.11", "what it knows is passed on");
    let module = |path: &str| {
        event("module", json!({"reason": "new", "module": {"id": 1, "name": "200", "path": path}}))
    };
    fake.say(module("/proc/self/fd/200")).await;
    let told = editor.event("module").await;
    assert_eq!((&told["module"]["name"], &told["module"]["path"]), (&json!("loop"), &json!("/app/loop")));
    fake.say(module("/lib/200")).await;
    assert_eq!(editor.event("module").await["module"]["path"], "/lib/200");
}

/// gdb tells the call of a function as if the target had gone on and stopped, and that stop may come after the answer.
#[tokio::test]
async fn after_a_call_the_target_stands_where_it_stood() {
    let fake = Fake::new(json!({"supportsConfigurationDoneRequest": true}), move |request| {
        match request.command() {
            Some("evaluate") => {
                vec![event("continued", json!({"threadId": 1})), yes(request, json!({"result": "7"}))]
            }
            Some("stackTrace") => {
                vec![yes(
                    request,
                    json!({"stackFrames": [{"id": 1, "name": "f", "line": 3}, {"id": 2, "name": "g", "line": 9}]}),
                )]
            }
            _ => Vec::new(),
        }
    });
    let (stops, calls) = (fake.clone(), fake.clone());
    let tells = tokio::spawn(async move {
        for count in 1..=2 {
            while calls.seen("evaluate").len() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            // Long after the answer.
            tokio::time::sleep(Duration::from_millis(200)).await;
            stops.say(event("stopped", json!({"reason": "function call", "threadId": 1}))).await;
        }
    });
    let options = ConsoleOptions { target: "shop".into(), ..ConsoleOptions::default() };
    let mut said = Vec::new();
    let console = Console::start(fake.link(), &fake.opened, options, &mut |one| said.push(one)).await;
    let mut console = Group::from(console.expect("it starts"));
    fake.say(event("stopped", json!({"reason": "breakpoint", "threadId": 1}))).await;
    for line in ["continue", "up", "print f()", "print f()", "bt"] {
        console
            .execute(line, &mut |one| said.push(one))
            .await
            .unwrap_or_else(|failure| panic!("{line}: {failure}"));
    }
    tells.await.expect("it tells both");
    let stopped = said.iter().filter(|one| matches!(one, Output::Stopped(_))).count();
    let text: String = said.iter().map(plain).collect();
    assert_eq!(stopped, 1, "a call is no news: {text}");
    assert_eq!(fake.seen("evaluate")[1]["arguments"]["frameId"], 2, "the frame that was chosen: {text}");
}

#[tokio::test]
async fn a_source_that_is_nowhere_is_told_with_how_to_say_where_it_lies() {
    let mut fake = Fake::new(json!({}), |request| match request.command() {
        Some("stackTrace") => {
            let source = json!({"path": "/build/app/a.c"});
            vec![yes(request, json!({"stackFrames": [{"id": 1, "name": "f", "line": 3, "source": source}]}))]
        }
        _ => Vec::new(),
    });
    fake.files = Some(Arc::new(InTarget));
    let options = ConsoleOptions { files: fake.files.clone(), ..ConsoleOptions::default() };
    let console = Console::start(fake.link(), &fake.opened, options, &mut |_| {}).await;
    let mut console = Group::from(console.expect("it starts"));
    fake.say(event("stopped", json!({"reason": "breakpoint", "threadId": 1}))).await;
    console.execute("continue", &mut |_| {}).await.expect("it stops");
    let failure = console.execute("list", &mut |_| {}).await.expect_err("there is none");
    assert_eq!(failure.code(), Code::FileNotFound);
    let told = format!("{failure:?}");
    assert!(told.contains("/build/app/a.c") && told.contains("--source-map /build/app=LOCAL"), "{told}");
}

/// Files that are in the target alone.
struct InTarget;

#[async_trait]
impl Files for InTarget {
    async fn read(&self, path: &str) -> Result<Vec<u8>, Failure> {
        match path {
            "/usr/lib/python3/json.py" => Ok(b"import sys\n".to_vec()),
            other => Err(Failure::new(Code::FileNotFound, format!("{other} is not there"))),
        }
    }
}

#[tokio::test]
async fn a_source_that_is_only_in_the_target_is_read_there() {
    let mut fake = Fake::new(json!({}), |request| match request.command() {
        Some("stackTrace") => {
            let frame = |id: i64, path: &str| json!({"id": id, "name": "f", "line": 1, "column": 1, "source": {"path": path}});
            let frames = [frame(1, "/usr/lib/python3/json.py"), frame(2, "/gone.py")];
            vec![yes(request, json!({"stackFrames": frames}))]
        }
        _ => Vec::new(),
    });
    fake.files = Some(Arc::new(InTarget));
    let mut editor = attached(&fake, json!({"target": "x"})).await;
    let frames = editor.ask("stackTrace", json!({"threadId": 1})).await["stackFrames"].clone();
    let source = &frames[0]["source"];
    let ask = |source: &Value| json!({"source": source, "sourceReference": source["sourceReference"]});
    assert_eq!(editor.ask("source", ask(source)).await["content"], "import sys\n");
    let seq = editor.send("source", ask(&frames[1]["source"])).await;
    assert_eq!(editor.answer(seq).await["success"], false);
    // A breakpoint in it goes to the adapter under the target's path, without our number.
    editor.ask("setBreakpoints", json!({"source": source, "breakpoints": [{"line": 1}]})).await;
    let sent = fake.seen("setBreakpoints")[0]["arguments"]["source"].clone();
    assert_eq!(sent, json!({"path": "/usr/lib/python3/json.py"}));
}

#[tokio::test]
async fn wrong_arguments_are_told_and_can_be_mended() {
    let fake = Fake::plain();
    let mut editor = Editor::of(fake.opener());
    editor.ask("initialize", json!({"adapterID": "pepo"})).await;
    for (arguments, told) in [(json!({}), "no target"), (json!({"target": "x", "pid": "one"}), "`pid`")] {
        let seq = editor.send("attach", arguments).await;
        let answer = editor.answer(seq).await;
        assert_eq!(answer["success"], false);
        assert!(answer["body"]["error"]["format"].as_str().unwrap().contains(told), "{answer}");
    }
    editor.send("attach", json!({"target": "x", "traget": "y"})).await;
    let said = editor.event("output").await;
    assert!(said["output"].as_str().unwrap().contains("traget"), "{said}");
    editor.event("initialized").await;
}

#[tokio::test]
async fn an_editor_that_stops_reading_holds_the_adapter_not_the_memory() {
    let fake = Fake::plain();
    let _editor = attached(&fake, json!({"target": "x"})).await;
    let text = "x".repeat(256 << 10);
    let mut taken = 0;
    let mut refusals = 0;
    // Each round waits for the server to make room; twenty rounds without any are the bound.
    while refusals < 20 && taken < 4000 {
        if fake.try_say(event("output", json!({"output": text}))) {
            taken += 1;
            refusals = 0;
        } else {
            refusals += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // 1024 wait in the fake itself; of a quarter of a MiB each, the server may hold some 32 MiB and its small queues.
    assert!(taken < 1024 + 350, "{taken} messages were taken");
}

#[tokio::test]
async fn any_message_is_survived() {
    let fake = Fake::plain();
    let mut editor = attached(&fake, json!({"target": "x"})).await;
    let mut seed = 11_u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let words = [
        "stopped",
        "breakpoint",
        "threads",
        "source",
        "path",
        "body",
        "type",
        "event",
        "response",
        "request",
        "id",
    ];
    for _ in 0..300 {
        let mut value = json!({"type": words[7 + random(3)], "event": words[random(11)], "command": words[random(11)], "request_seq": random(9)});
        let inner = [
            json!(null),
            json!([[]]),
            json!(-1),
            json!("x"),
            json!({"source": {"path": 3}}),
            json!({"threadId": "a"}),
        ];
        value["body"] = inner[random(6)].clone();
        value[words[random(11)]] = inner[random(6)].clone();
        fake.say(LinkEvent::Dap(value.to_string().into_bytes())).await;
        fake.say(LinkEvent::Dap(b"[1, 2".to_vec())).await;
    }
    // What came is nonsense; that the server still answers is what counts.
    let seq = editor.send("custom/still-there", Value::Null).await;
    editor.unchecked = true;
    editor.answer(seq).await;
}

async fn console(fake: &Fake, said: &mut Vec<Output>) -> Group {
    Console::start(fake.link(), &fake.opened, ConsoleOptions::default(), &mut |output| said.push(output))
        .await
        .unwrap()
        .into()
}

#[tokio::test]
async fn the_terminal_tells_the_budget_and_arms_again() {
    let fake = Fake::new(json!({"supportsConditionalBreakpoints": true}), |_| Vec::new());
    let mut said = Vec::new();
    let mut console = console(&fake, &mut said).await;
    let mut show = |output: Output| said.push(output);
    console.execute("break /src/a.c:3 if n > 1", &mut show).await.unwrap();
    let report =
        PauseReport { standing: true, this_pause_millis: 1000, window_millis: 31_000, budget_millis: 60_000 };
    fake.say(LinkEvent::Pause(report)).await;
    fake.say(spent()).await;
    for _ in 0..2 {
        assert_eq!(console.idle(&mut show).await, Flow::Stay);
    }
    console.execute("rearm", &mut show).await.unwrap();
    console.execute("detach", &mut show).await.unwrap();
    let text: String = said.iter().map(plain).collect();
    for wanted in ["31.0 s of 60 s", "`rearm` sets them again", "1   breakpoint /src/a.c:3  if n > 1\n"] {
        assert!(text.replace("31 s", "31.0 s").contains(wanted), "no {wanted:?} in {text}");
    }
    assert_eq!(fake.seen("setBreakpoints").len(), 2);
    assert!(text.ends_with("detached · the target stood still 12 ms in all\n"), "{text}");
}

#[tokio::test]
async fn the_terminal_refuses_what_the_adapter_does_not_offer() {
    let fake = Fake::plain();
    let mut said = Vec::new();
    let mut console = console(&fake, &mut said).await;
    for (line, code) in [
        ("break /a.c:1 log \"x\"", Code::NotInDebugger),
        ("break /a.c:1 if n", Code::NotInDebugger),
        ("break tick", Code::NotInDebugger),
        ("raw info", Code::Usage),
        ("print n", Code::NotNow),
        ("frobnicate", Code::Usage),
    ] {
        let failure = console.execute(line, &mut |_| {}).await.expect_err(line);
        assert_eq!(failure.code(), code, "{line}: {failure}");
    }
    assert!(fake.seen("setFunctionBreakpoints").is_empty() && fake.seen("evaluate").is_empty());
}

#[tokio::test]
async fn a_script_ends_with_its_first_error_and_lets_go() {
    let fake = Fake::plain();
    let mut said = Vec::new();
    let mut console = console(&fake, &mut said).await;
    let lines: Vec<String> = ["threads", "print n", "threads"].map(str::to_owned).to_vec();
    let failure = console.run_script(&lines, &mut |output| said.push(output)).await.unwrap_err();
    assert_eq!(failure.code(), Code::NotNow);
    assert_eq!(fake.seen("disconnect").len(), 1);
    let echoed = said.iter().filter(|one| matches!(one, Output::Command { .. })).count();
    assert_eq!(echoed, 2, "the third line was not carried out");
}

#[tokio::test]
async fn a_script_that_a_session_does_not_outlast_says_what_it_did_not_do() {
    for (reason, script, left, code) in [
        ("target exited", &["continue", "bt", "detach"][..], &["bt"][..], Some(Code::ProcessGone)),
        ("target exited", &["continue", "detach"], &[], None),
        ("target exited", &["threads", "locals"], &["`threads`", "`locals`"], Some(Code::ProcessGone)),
        ("released", &["continue", "print n", "bt"], &["`print n`, `bt`"], Some(Code::NotNow)),
    ] {
        let fake = Fake::plain();
        let mut said = Vec::new();
        let mut console = console(&fake, &mut said).await;
        fake.say(LinkEvent::Closed(Closed { reason: reason.into(), ..Closed::default() })).await;
        let lines: Vec<String> = script.iter().map(|line| (*line).to_owned()).collect();
        let result = console.run_script(&lines, &mut |output| said.push(output)).await;
        assert_eq!(result.as_ref().err().map(Failure::code), code, "{script:?}: {result:?}");
        let told = result.err().map(|failure| failure.what).unwrap_or_default();
        assert!(left.iter().all(|line| told.contains(line)) && !told.contains("detach"), "{told}");
        assert_eq!(said.iter().any(|one| matches!(one, Output::Failed(_))), code.is_some(), "{said:?}");
    }
}

#[tokio::test]
async fn ctrl_c_pauses_what_is_waited_for() {
    let fake = Fake::new(json!({}), |request| match request.command() {
        Some("pause") => {
            vec![yes(request, Value::Null), event("stopped", json!({"reason": "pause", "threadId": 1}))]
        }
        Some("stackTrace") => {
            vec![yes(request, json!({"stackFrames": [{"id": 1, "name": "f", "line": 0, "column": 0}]}))]
        }
        _ => Vec::new(),
    });
    let interrupt = Arc::new(tokio::sync::Notify::new());
    let options = ConsoleOptions { interrupt: interrupt.clone(), ..ConsoleOptions::default() };
    let console = Console::start(fake.link(), &fake.opened, options, &mut |_| {}).await.unwrap();
    let mut console = Group::from(console);
    let mut said = Vec::new();
    interrupt.notify_one();
    console.execute("continue", &mut |output| said.push(output)).await.unwrap();
    assert!(matches!(&said[..], [Output::Stopped(stop)] if stop.reason == "pause"), "{said:?}");
}

#[tokio::test]
async fn a_session_that_breaks_ends_with_the_agents_failure() {
    let fake = Fake::plain();
    let mut said = Vec::new();
    let mut console = console(&fake, &mut said).await;
    let failure = Failure::new(Code::ToolDied, "the debugger died");
    fake.say(LinkEvent::Closed(Closed {
        reason: "adapter died".into(),
        failure: Some(failure.clone()),
        ..Closed::default()
    }))
    .await;
    let lines = ["continue".to_owned()];
    assert_eq!(console.run_script(&lines, &mut |output| said.push(output)).await, Err(failure));
    assert!(console.over());
}

#[tokio::test]
async fn a_session_that_ends_before_its_first_stop_is_an_error() {
    let failure = Failure::new(Code::ToolDied, "the debugger died");
    let last = Closed { failure: Some(failure.clone()), ..Closed::default() };
    let mut fake = Fake::new(json!({}), move |request| match request.command() {
        Some("attach") => vec![
            event("initialized", Value::Null),
            yes(request, Value::Null),
            LinkEvent::Closed(last.clone()),
        ],
        _ => Vec::new(),
    });
    fake.opened.quirks = vec!["continue-after-attach".to_owned()];
    let started = Console::start(fake.link(), &fake.opened, ConsoleOptions::default(), &mut |_| {}).await;
    assert_eq!(started.err(), Some(failure));
}

/// When calls that are held for the debugger may come, as it was said to the agent, after each of these lines.
async fn said_ready(scripted: bool, verified: bool, lines: &[&str]) -> Vec<usize> {
    let fake = Fake::new(json!({"supportsConfigurationDoneRequest": true}), move |request| {
        match request.command() {
            Some("setBreakpoints") => {
                vec![yes(request, json!({"breakpoints": [{"id": 1, "verified": verified}]}))]
            }
            _ => Vec::new(),
        }
    });
    let wait = Some(Duration::from_millis(10));
    let options = ConsoleOptions { scripted, wait, ..ConsoleOptions::default() };
    let console = Console::start(fake.link(), &fake.opened, options, &mut |_| {}).await;
    let mut console = Group::from(console.expect("it starts"));
    let mut said = Vec::new();
    for line in lines {
        // `continue` comes to nothing here.
        let _ = console.execute(line, &mut |_| {}).await;
        said.push(fake.seen("ready").len());
    }
    said
}

#[tokio::test]
async fn calls_may_come_when_a_persons_first_breakpoint_stands_or_a_script_waits_for_them() {
    let lines = ["bt", "break a.c:1", "break a.c:2", "continue", "continue"];
    assert_eq!(said_ready(false, true, &lines).await, [0, 1, 1, 1, 1]);
    assert_eq!(said_ready(false, false, &lines).await, [0, 0, 0, 1, 1], "none stands");
    assert_eq!(said_ready(true, true, &lines).await, [0, 0, 0, 1, 1]);
}
