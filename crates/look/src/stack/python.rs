//! What an interpreter says of a process's threads: names, the lock, frames, variables.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use pepo_process::{Process, runtime::RuntimeFacts};
use pepo_wire::agent::{Frame, Thread, Variable};

use super::{MAX_FRAMES, cut_off};
use crate::{
    interpreter::Interpreter,
    python::{Placed, PythonThread, Shape, Unreadable},
};

/// How long is waited for a thread to be at one place for as long as it takes to copy its frames, or for the interpreter to begin.
const PATIENCE: Duration = Duration::from_millis(50);

/// So many times it is tried to see the innermost calls, too.
const WHOLE: usize = 20;
/// Bytes of names and values that are told of all threads together.
const MOST_TEXT: usize = 16 << 20;

/// An interpreter and its threads.
pub(super) struct Python {
    pub(super) interpreter: Interpreter,
    /// By number, as in the container.
    threads: HashMap<u32, PythonThread>,
    /// By `pthread_self()`.
    names: HashMap<u64, String>,
    with_locals: bool,
    /// Bytes of text that may yet be told.
    room: usize,
}

impl Python {
    /// # Errors
    /// When this interpreter's frames cannot be read.
    pub(super) fn open(
        process: &Process,
        facts: &RuntimeFacts,
        tids: &HashSet<u32>,
        with_locals: bool,
    ) -> Result<Python, Unreadable> {
        let mut interpreter = Interpreter::open(process, facts)?;
        let threads = patiently(|| interpreter.threads().filter(|threads| !threads.is_empty()));
        let mut threads = threads
            .ok_or_else(|| Unreadable("the interpreter has not begun, or is at its end".to_owned()))?;
        interpreter.number(&mut threads, tids);
        let names = interpreter.names(&threads);
        let threads = threads.into_iter().map(|thread| (thread.native_id, thread)).collect();
        Ok(Python { interpreter, threads, names, with_locals, room: MOST_TEXT })
    }

    /// Does the interpreter know this thread?
    pub(super) fn knows(&self, thread: u32) -> bool {
        self.threads.contains_key(&thread)
    }

    /// What it says of a thread, but for its frames.
    pub(super) fn tell(&self, out: &mut Thread) {
        let Some(thread) = self.threads.get(&out.container_tid) else { return };
        out.given_name = self.names.get(&thread.ident).cloned().unwrap_or_default();
        out.holds_lock = thread.holds_gil;
    }

    /// The frames of a thread, and whether there are more; nothing when it never was at one place for long enough.
    pub(super) fn placed(&mut self, thread: u32) -> Option<(Vec<Placed>, bool)> {
        let thread = *self.threads.get(&thread)?;
        let mut shape = Shape::default();
        patiently(|| self.interpreter.frames(&thread, &mut shape, MAX_FRAMES, WHOLE))
    }

    /// As they are told, with variables if these are wanted.
    pub(super) fn frames(&mut self, thread: u32, placed: &[Placed], is_cut: bool) -> Vec<Frame> {
        let mut variables: Vec<Vec<Variable>> = Vec::new();
        if self.with_locals {
            variables = placed.iter().map(|frame| self.variables(frame)).collect();
            // What has been left meanwhile had its place taken by others.
            let now = self.placed(thread).map(|(now, _)| now).unwrap_or_default();
            let same = |at: usize| now.len().checked_sub(placed.len() - at).map(|index| &now[index]);
            for (index, frame) in placed.iter().enumerate() {
                let is_there =
                    same(index).is_some_and(|one| (one.address, one.code) == (frame.address, frame.code));
                if !is_there {
                    variables[index].clear();
                }
            }
        }
        let mut variables = variables.into_iter();
        let language = self.interpreter.language().name();
        let mut frames: Vec<Frame> = placed
            .iter()
            .map(|frame| Frame {
                function: frame.spot.function.to_string(),
                file: frame.spot.file.to_string(),
                line: frame.spot.line,
                language: language.to_owned(),
                variables: variables.next().unwrap_or_default(),
                ..Frame::default()
            })
            .collect();
        let fit = frames.iter().take_while(|frame| self.make_room(frame)).count();
        let all_fit = fit == frames.len();
        frames.truncate(fit);
        if is_cut || !all_fit {
            frames.push(cut_off());
        }
        frames
    }

    /// Is there room for what this frame says?
    fn make_room(&mut self, frame: &Frame) -> bool {
        let of = |one: &Variable| one.name.len() + one.r#type.len() + one.value.len();
        let text = frame.function.len() + frame.file.len() + frame.variables.iter().map(of).sum::<usize>();
        let left = self.room.checked_sub(text);
        self.room = left.unwrap_or(0);
        left.is_some()
    }

    fn variables(&self, frame: &Placed) -> Vec<Variable> {
        let all = self.interpreter.variables(frame).into_iter();
        all.map(|one| Variable { name: one.name, r#type: one.kind, value: one.value }).collect()
    }
}

/// Again and again, for a while.
fn patiently<T>(mut act: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        let done = act();
        if done.is_some() || begun.elapsed() > PATIENCE {
            return done;
        }
        std::thread::yield_now();
    }
}
