//! The server for editors with each real adapter behind.

use pepo_dap::server::Server;
use pepo_testkit::{Fixture, Life as _, Running};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    adapters::{Adapter, lives_on},
    editor::{Bare, Editor},
};

/// The fixture's source as the user has it: in another folder than in the target.
fn own_copy(fixture: &Fixture) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(fixture.source_name());
    std::fs::copy(&fixture.source, &path).expect("a copy");
    let path = path.to_string_lossy().into_owned();
    (folder, path)
}

/// A whole session as an editor has it: breakpoint in the user's own copy, stop, variable read and changed, let go.
async fn a_session(adapter: Adapter) {
    let Some((fixture, mut running)) = adapter.target() else { return };
    let (folder, own) = own_copy(&fixture);
    let mut editor = Editor::of(Bare::one("loop", adapter, &fixture, running.pid()).shared());
    let arguments = json!({"target": "loop", "cwd": folder.path(), "type": "pepo", "request": "attach"});
    editor.attach(json!({"clientID": "test"}), arguments, &[(&own, fixture.line("BREAK"))]).await;
    let stopped = editor.event("stopped").await;
    assert_ne!(stopped["reason"], "attach", "gdb's stop of its own is not the user's");
    let frame = editor.top(&stopped["threadId"]).await;
    assert_eq!(frame["line"], fixture.line("BREAK"));
    assert_eq!(frame["source"]["path"], own.as_str(), "{frame}");
    let (holder, variable) = editor.local(&frame, "factor").await;
    assert_eq!(variable["value"], "2", "{variable}");
    let set = json!({"variablesReference": holder, "name": "factor", "value": "5"});
    assert_eq!(editor.ask("setVariable", set).await["value"], "5");
    editor.ask("setBreakpoints", json!({"source": {"path": own}, "breakpoints": []})).await;
    editor.ask("continue", json!({"threadId": stopped["threadId"]})).await;
    running.assert_goes_on();
    // gdb takes functions only from a target that stands still.
    let functions = json!({"breakpoints": [{"name": fixture.price_of()}]});
    editor.ask("setFunctionBreakpoints", functions).await;
    let stopped = editor.event("stopped").await;
    let frame = editor.top(&stopped["threadId"]).await;
    assert!(frame["name"].as_str().expect("a name").contains("rice"), "{frame}");
    editor.ask("disconnect", json!({"terminateDebuggee": true})).await;
    lives_on(&mut running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_editor_debugs_by_delve() {
    a_session(Adapter::Delve).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_editor_debugs_by_gdb() {
    a_session(Adapter::Gdb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_editor_debugs_by_lldb() {
    a_session(Adapter::Lldb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_editor_debugs_by_python() {
    a_session(Adapter::Python).await;
}

/// An editor that is gone without a word: the target runs on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_editors_stream_lets_go() {
    for adapter in Adapter::ALL {
        let Some((fixture, mut running)) = adapter.target() else { continue };
        let source = fixture.source.display().to_string();
        let mut editor = Editor::of(Bare::one("loop", adapter, &fixture, running.pid()).shared());
        editor.attach(json!({}), json!({"target": "loop"}), &[(&source, fixture.line("BREAK"))]).await;
        editor.event("stopped").await;
        drop(editor);
        lives_on(&mut running);
    }
}

/// Two targets behind one connection, and what an editor needs to tell them apart.
struct Two {
    first: (Fixture, Running),
    second: (Fixture, Running),
}

impl Two {
    fn start() -> Option<Two> {
        Some(Two { first: Adapter::Delve.target()?, second: Adapter::Gdb.target()? })
    }

    fn opener(&self) -> Bare {
        Bare::one("orders", Adapter::Delve, &self.first.0, self.first.1.pid()).and(
            "payments",
            Adapter::Gdb,
            &self.second.0,
            self.second.1.pid(),
        )
    }

    fn points(&self) -> Vec<(String, u32)> {
        let point = |fixture: &Fixture| (fixture.source.display().to_string(), fixture.line("BREAK"));
        vec![point(&self.first.0), point(&self.second.0)]
    }

    fn live_on(&mut self) {
        lives_on(&mut self.first.1);
        lives_on(&mut self.second.1);
    }
}

async fn stopped_target(editor: &mut Editor) -> (String, Value) {
    let stopped = editor.event("stopped").await;
    assert_eq!(stopped["allThreadsStopped"], false, "{stopped}");
    let threads = editor.ask("threads", Value::Null).await;
    let thread =
        threads["threads"].as_array().expect("threads").iter().find(|one| one["id"] == stopped["threadId"]);
    let name =
        thread.unwrap_or_else(|| panic!("{stopped} is none of {threads}"))["name"].as_str().expect("a name");
    (name.split(':').next().expect("a target").to_owned(), stopped["threadId"].clone())
}

/// For an editor without child sessions the threads of all targets stand in one list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_targets_are_threads_of_one_session() {
    let Some(mut two) = Two::start() else { return };
    let mut editor = Editor::of(two.opener().shared());
    let points = two.points();
    let points: Vec<(&str, u32)> = points.iter().map(|(path, line)| (path.as_str(), *line)).collect();
    let set = editor
        .attach(
            json!({"supportsStartDebuggingRequest": true}),
            json!({"targets": ["orders", "payments"]}),
            &points,
        )
        .await;
    assert_ne!(set[0]["id"], set[1]["id"]);
    let (one, thread) = stopped_target(&mut editor).await;
    let (other, other_thread) = stopped_target(&mut editor).await;
    let mut names = [one, other];
    names.sort();
    assert_eq!(names, ["orders", "payments"]);
    assert_ne!(thread, other_thread);
    for thread in [&thread, &other_thread] {
        let frame = editor.top(thread).await;
        assert!(frame["name"].as_str().expect("a name").contains("tick"), "{frame}");
        assert_eq!(editor.local(&frame, "factor").await.1["value"], "2");
    }
    // One thread alone goes on; the breakpoint is met again at once.
    let body = editor.ask("continue", json!({"threadId": thread, "singleThread": true})).await;
    assert_eq!(body["allThreadsContinued"], false);
    assert_eq!(editor.event("stopped").await["threadId"], thread);
    // By the protocol all go on when no single thread is meant.
    let body = editor.ask("continue", json!({"threadId": thread})).await;
    assert_eq!(body["allThreadsContinued"], true);
    let mut again = vec![stopped_target(&mut editor).await.0, stopped_target(&mut editor).await.0];
    again.sort();
    assert_eq!(again, ["orders", "payments"]);
    editor.ask("disconnect", Value::Null).await;
    two.live_on();
}

/// An editor with child sessions gets one for each target; all end with their parent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_end_with_their_parent() {
    let Some(mut two) = Two::start() else { return };
    let server = Server::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a server");
    let (address, stop) = (server.address(), tokio_util::sync::CancellationToken::new());
    let running = tokio::spawn(server.run(two.opener().shared(), stop.clone()));
    let mut parent = Editor::new(TcpStream::connect(address).await.expect("a connection"));
    // Helix opens child sessions but does not say so.
    parent.attach(json!({"clientID": "hx"}), json!({"targets": ["orders", "payments"]}), &[]).await;
    let mut children = Vec::new();
    for _ in 0..2 {
        let asked = parent.wait("startDebugging", |one| one["command"] == "startDebugging").await;
        let configuration = asked["arguments"]["configuration"].clone();
        assert!(configuration.get("type").is_none(), "the type is the parent's: {configuration}");
        let mut child = Editor::new(TcpStream::connect(address).await.expect("a connection"));
        let (path, line) = &two.points()[usize::from(configuration["target"] == "payments")];
        child.attach(json!({"clientID": "hx"}), configuration, &[(path, *line)]).await;
        child.event("stopped").await;
        children.push(child);
    }
    // The same breakpoint comes to the parent too, and must not look broken there.
    let (path, line) = &two.points()[0];
    assert_eq!(parent.set_breakpoint(path, *line).await["verified"], true);
    parent.ask("disconnect", Value::Null).await;
    for child in &mut children {
        child.event("terminated").await;
    }
    two.live_on();
    stop.cancel();
    running.await.expect("the server ends");
}

/// Only one of two has its breakpoint: when it stops the other is let go, and its threads are those of a session that is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_the_first_that_stops_is_kept() {
    let Some(mut two) = Two::start() else { return };
    for (kept, let_go) in [(0, "payments"), (1, "orders")] {
        let mut editor = Editor::of(two.opener().shared());
        let (path, line) = &two.points()[kept];
        let arguments = json!({"targets": ["orders", "payments"], "first": true});
        editor.attach(json!({}), arguments, &[(path, *line)]).await;
        let stopped = editor.event("stopped").await;
        let frame = editor.top(&stopped["threadId"]).await;
        assert!(frame["name"].as_str().expect("a name").contains("tick"), "{frame}");
        let says = |one: &Value| {
            let text = one["body"]["output"].as_str().unwrap_or_default();
            one["event"] == "output" && text.starts_with(&format!("{let_go}: detached"))
        };
        editor.wait("the other's last word", says).await;
        let threads = editor.ask("threads", Value::Null).await;
        let mut threads = threads["threads"].as_array().expect("threads").iter();
        assert!(threads.all(|one| !one["name"].as_str().expect("a name").starts_with(let_go)));
        editor.ask("continue", json!({"threadId": stopped["threadId"]})).await;
        editor.event("stopped").await;
        editor.ask("disconnect", Value::Null).await;
        two.live_on();
    }
}

/// The same with a child session for each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_children_the_first_that_stops_is_kept() {
    let Some(mut two) = Two::start() else { return };
    let server = Server::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a server");
    let (address, stop) = (server.address(), tokio_util::sync::CancellationToken::new());
    let running = tokio::spawn(server.run(two.opener().shared(), stop.clone()));
    let mut parent = Editor::new(TcpStream::connect(address).await.expect("a connection"));
    let arguments = json!({"targets": ["orders", "payments"], "first": true});
    parent.attach(json!({"clientID": "hx"}), arguments, &[]).await;
    let mut children = Vec::new();
    for _ in 0..2 {
        let asked = parent.wait("startDebugging", |one| one["command"] == "startDebugging").await;
        let configuration = asked["arguments"]["configuration"].clone();
        let mut child = Editor::new(TcpStream::connect(address).await.expect("a connection"));
        child.attach(json!({"clientID": "hx"}), configuration.clone(), &[]).await;
        children.push((configuration["target"] == "payments", child));
    }
    children.sort_by_key(|(second, _)| *second);
    let (path, line) = &two.points()[1];
    children[1].1.set_breakpoint(path, *line).await;
    let stopped = children[1].1.event("stopped").await;
    children[0].1.event("terminated").await;
    children[1].1.ask("continue", json!({"threadId": stopped["threadId"]})).await;
    children[1].1.event("stopped").await;
    parent.ask("disconnect", Value::Null).await;
    children[1].1.event("terminated").await;
    two.live_on();
    stop.cancel();
    running.await.expect("the server ends");
}
