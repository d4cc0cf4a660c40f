//! What a Node says of its threads of JavaScript: names, frames.

use std::{collections::HashMap, time::Duration};

use pepo_process::{
    Process,
    runtime::{Language, RuntimeFacts},
    threads::Thread as Listed,
};
use pepo_wire::agent::{Frame, StackRequest, Thread};

use super::{MAX_FRAMES, cut_off};
use crate::node::{Closed, Inspector, Standing};

/// What its threads said.
pub(super) struct Node {
    threads: HashMap<u32, Standing>,
    /// For no longer than this one of them was interrupted.
    pub(super) pause: Duration,
}

impl Node {
    /// Nothing when native frames are wanted, or, with a note, when it does not answer.
    pub(super) fn open(
        process: &Process,
        facts: &RuntimeFacts,
        listed: &[Listed],
        request: &StackRequest,
        notes: &mut Vec<String>,
    ) -> Option<Node> {
        if facts.language != Language::Node || request.native {
            return None;
        }
        match Node::ask(process, listed, notes) {
            Ok(node) => Some(node),
            Err(why) => {
                notes.push(format!("native frames only: {}", why.0));
                None
            }
        }
    }

    fn ask(process: &Process, listed: &[Listed], notes: &mut Vec<String>) -> Result<Node, Closed> {
        let mut inspector = Inspector::open(process)?;
        let opened = inspector.opened_port();
        let told = inspector.standings(MAX_FRAMES);
        let left = inspector.close();
        let (standings, mut silent) = told?;
        notes.push("each thread of JavaScript was interrupted to say where it is".to_owned());
        notes.extend(opened.map(|port| {
            format!(
                "its inspector was opened at port {port} of its own loopback for a moment; its log says so"
            )
        }));
        notes.append(&mut silent);
        notes.extend(left);
        let pause = standings.iter().map(|one| one.took).max().unwrap_or_default();
        let mut threads = HashMap::new();
        for one in standings {
            let main = one.name.is_none().then(|| process.pid().get());
            // Where the program sees its threads' numbers as we do, or as its container does.
            let is = |thread: &&Listed| match (main, one.tid) {
                (Some(main), _) => thread.tid.get() == main,
                (None, tid) => tid == Some(thread.container_tid),
            };
            let told = one.name.as_deref().unwrap_or_default();
            match listed.iter().find(is) {
                Some(thread) => drop(threads.insert(thread.container_tid, one)),
                None => notes.push(format!("which of its threads the worker {told} is cannot be told")),
            }
        }
        Ok(Node { threads, pause })
    }

    /// What it says of a thread, but for its frames.
    pub(super) fn tell(&self, out: &mut Thread) {
        let Some(thread) = self.threads.get(&out.container_tid) else { return };
        out.given_name = thread.name.clone().unwrap_or_else(|| "main".to_owned());
    }

    /// The frames of JavaScript: none while it waits for events; nothing for a thread that never runs any.
    pub(super) fn frames(&self, tid: u32) -> Option<Vec<Frame>> {
        let thread = self.threads.get(&tid)?;
        let frames = thread.frames.iter().map(|spot| Frame {
            function: spot.function.to_string(),
            file: spot.file.to_string(),
            line: spot.line,
            language: "javascript".to_owned(),
            ..Frame::default()
        });
        Some(frames.chain(thread.is_cut.then(cut_off)).collect())
    }
}
