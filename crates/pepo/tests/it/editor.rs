//! An editor, as far as it debugs: `pepo dap` on its pipes.

use std::{
    io::{Read as _, Write as _},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::mpsc::{self, Receiver, Sender},
    thread,
};

use pepo_testkit::{Fixture, Life, clean, wait};
use pepo_wire::dap::{FrameDecoder, Message, MessageKind, encode_frame};
use serde_json::{Value, json};

use crate::{session::LIMIT, support::Surroundings};

/// A server that was started, and what it said.
struct Editor {
    child: Child,
    stdin: Option<ChildStdin>,
    messages: Receiver<Message>,
    seq: i64,
    /// What came and was not asked for yet.
    heard: Vec<Message>,
}

/// Attaches, stops at a line, changes a variable, and lets go: afterwards nothing is left.
pub(crate) fn changes_a_variable(
    surroundings: &Surroundings,
    mut attach: Value,
    fixture: &Fixture,
    life: &dyn Life,
    before: &clean::Snapshot,
) {
    let mut editor = Editor::start(surroundings);
    let features =
        json!({"adapterID": "pepo", "linesStartAt1": true, "supportsStartDebuggingRequest": false});
    editor.asks("initialize", features);
    // Where the sources are, as an editor's configuration says it.
    attach["cwd"] = json!(fixture.source.parent().unwrap());
    let attaching = editor.sends("attach", attach);
    editor.waits_for("initialized");
    let line = fixture.line("BREAK");
    let lines = json!({"source": {"path": fixture.source}, "breakpoints": [{"line": line}]});
    editor.asks("setBreakpoints", lines);
    editor.asks("configurationDone", json!({}));
    editor.answer_to(attaching);
    let stopped = editor.waits_for("stopped");
    let unknown = editor.sends("nobody/knows", json!({}));
    let answer =
        editor.first(&|one| one.kind() == Some(MessageKind::Response) && one.request_seq() == unknown);
    assert!(!answer.success(), "{answer:?}");
    let thread = stopped.body()["threadId"].clone();
    let stack = editor.asks("stackTrace", json!({"threadId": thread}));
    let top = &stack["stackFrames"][0];
    assert_eq!((&top["line"], &top["source"]["path"]), (&json!(line), &json!(fixture.source)), "{stack}");
    let scopes = editor.asks("scopes", json!({"frameId": top["id"]}));
    let scopes = scopes["scopes"].as_array().unwrap().iter().map(|scope| &scope["variablesReference"]);
    let mut holds = |scope: &&Value| {
        let variables = editor.asks("variables", json!({"variablesReference": scope}));
        variables["variables"].as_array().unwrap().iter().any(|one| one["name"] == "factor")
    };
    let locals = scopes.into_iter().find(|scope| holds(scope)).unwrap_or_else(|| panic!("no factor"));
    editor.asks("setVariable", json!({"variablesReference": locals, "name": "factor", "value": "3"}));
    editor.asks("setBreakpoints", json!({"source": {"path": fixture.source}, "breakpoints": []}));
    editor.asks("continue", json!({"threadId": thread}));
    life.wait_for_answer(63);
    editor.asks("disconnect", json!({"terminateDebuggee": false}));
    editor.ends();
    life.assert_goes_on();
    before.assert_same();
}

impl Editor {
    fn start(surroundings: &Surroundings) -> Editor {
        let mut command = surroundings.command(&["dap"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let (said, messages) = mpsc::channel();
        thread::spawn(move || read(stdout, &said));
        Editor { child, stdin, messages, seq: 0, heard: Vec::new() }
    }

    /// Sends a request and gives its number.
    fn sends(&mut self, command: &str, arguments: Value) -> i64 {
        self.seq += 1;
        let message = Message::request(self.seq, command, arguments).to_bytes();
        self.stdin.as_mut().unwrap().write_all(&encode_frame(&message)).unwrap();
        self.seq
    }

    /// Sends a request and gives the body of its answer.
    #[track_caller]
    fn asks(&mut self, command: &str, arguments: Value) -> Value {
        let number = self.sends(command, arguments);
        self.answer_to(number)
    }

    #[track_caller]
    fn answer_to(&mut self, number: i64) -> Value {
        let answer = self.first(&|message| {
            message.kind() == Some(MessageKind::Response) && message.request_seq() == number
        });
        assert!(answer.success(), "{answer:?}");
        answer.body().clone()
    }

    /// The next event of this name, also one that came before.
    #[track_caller]
    fn waits_for(&mut self, name: &str) -> Message {
        self.first(&|message| message.event_name() == Some(name))
    }

    #[track_caller]
    fn first(&mut self, fits: &dyn Fn(&Message) -> bool) -> Message {
        loop {
            if let Some(at) = self.heard.iter().position(fits) {
                return self.heard.remove(at);
            }
            match self.messages.recv_timeout(LIMIT) {
                Ok(message) => self.heard.push(message),
                Err(_) => panic!("the server said nothing else than {:#?}", self.heard),
            }
        }
    }

    /// Closes the pipe and waits for the server's end.
    #[track_caller]
    fn ends(&mut self) {
        self.stdin = None;
        let ended = wait::try_until(LIMIT, || self.child.try_wait().unwrap().ok_or(()));
        assert_eq!(ended.expect("the server ends").code(), Some(0));
    }
}

fn read(mut stdout: ChildStdout, said: &Sender<Message>) {
    let mut decoder = FrameDecoder::default();
    let mut portion = [0; 4096];
    while let Ok(count @ 1..) = stdout.read(&mut portion) {
        decoder.feed(&portion[..count]);
        while let Some(frame) = decoder.next_frame().unwrap() {
            if said.send(Message::parse(&frame).unwrap()).is_err() {
                return;
            }
        }
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
