//! What a JVM says of a process's threads: names, states, frames, what each waits for.

use std::{collections::HashMap, time::Duration};

use pepo_process::{
    Process,
    runtime::{Language, RuntimeFacts},
};
use pepo_wire::agent::{Deadlock, Frame, RuntimeWait, Thread, ThreadWaitedFor};

use super::{MAX_FRAMES, cut_off};
use crate::jvm::{self, Dump, JavaFrame, JavaThread};

/// A JVM's answer.
pub(super) struct Jvm {
    dump: Dump,
    /// Where each thread stands in it, by number in the container.
    places: HashMap<u32, usize>,
    /// For how long its threads stood still at most.
    pub(super) pause: Duration,
}

impl Jvm {
    /// Nothing, with a note, when it does not answer.
    pub(super) fn open(
        process: &Process,
        facts: &RuntimeFacts,
        with_locks: bool,
        notes: &mut Vec<String>,
    ) -> Option<Jvm> {
        if facts.language != Language::Jvm {
            return None;
        }
        let (dump, pause) = match jvm::threads(process, facts, with_locks, MAX_FRAMES) {
            Ok(answer) => answer,
            Err(why) => {
                notes.push(format!("native frames only: the JVM cannot be asked: {why}"));
                return None;
            }
        };
        notes.push(
            "the JVM was asked, and held all its threads at once while it took their frames".to_owned(),
        );
        if dump.is_cut {
            notes.push("the JVM says more than is shown".to_owned());
        }
        let places = dump.threads.iter().enumerate().map(|(index, thread)| (thread.tid, index)).collect();
        Some(Jvm { dump, places, pause })
    }

    fn thread(&self, tid: u32) -> Option<&JavaThread> {
        self.dump.threads.get(*self.places.get(&tid)?)
    }

    /// What it says of a thread, but for its frames.
    pub(super) fn tell(&self, out: &mut Thread) {
        let Some(thread) = self.thread(out.container_tid) else { return };
        out.given_name.clone_from(&thread.name);
        out.runtime_state.clone_from(&thread.state);
        // What the kernel sees of it is a futex of the JVM's.
        let holder =
            thread.wait.as_ref().and_then(|wait| Some((self.dump.holder(wait.object)?, wait.object)));
        out.waits_for = holder.filter(|(holder, _)| holder.tid != thread.tid).map(|(holder, object)| {
            let name = holder.name.clone();
            ThreadWaitedFor { container_tid: holder.tid, name, what: "lock".to_owned(), address: object }
        });
        out.runtime_wait = thread.wait.as_ref().map(|wait| RuntimeWait {
            kind: wait.kind.to_owned(),
            r#type: wait.class.clone(),
            object: wait.object,
        });
    }

    /// The frames of Java.
    pub(super) fn frames(&self, tid: u32) -> Vec<Frame> {
        let Some(thread) = self.thread(tid) else { return Vec::new() };
        let frame = |one: &JavaFrame| Frame {
            function: one.function.clone(),
            file: one.file.clone(),
            line: one.line,
            language: "java".to_owned(),
            ..Frame::default()
        };
        thread.frames.iter().map(frame).chain(thread.is_cut.then(cut_off)).collect()
    }

    pub(super) fn deadlocks(&self) -> Vec<Deadlock> {
        self.dump.deadlocks.iter().map(|threads| Deadlock { threads: threads.clone() }).collect()
    }
}
