//! Where each thread of JavaScript is at one moment.
//!
//! A thread is asked to evaluate an expression that throws. V8 does so wherever the thread is, on top of what it is running, and says with
//! the exception where it was thrown: the frames of the program below it. So the thread is interrupted for one evaluation and goes on;
//! no breakpoint is set and no profiler started. The program does not see the exception.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Closed, Inspector, To, expression_of, profile::spot};
use crate::python::Spot;

/// How long a thread may take: it may be in a call of the system that blocks it.
const PATIENCE: Duration = Duration::from_secs(2);
/// What our own expression is called in the stack.
const OURS: &str = "pepo-look";

/// How many frames V8 tells where it cannot be told to tell more.
const USUAL: usize = 200;

/// A thread by its session, and by what the program calls it; neither for the main thread.
type Named = (Option<String>, Option<String>);

/// Where a thread is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Its number where the program is; nothing where it cannot be told.
    pub(crate) tid: Option<u32>,
    /// What the program calls it; nothing for the main thread.
    pub(crate) name: Option<String>,
    /// Innermost first; nothing while it waits for events.
    pub(crate) frames: Vec<Spot>,
    /// Are there more, further out?
    pub(crate) is_cut: bool,
    /// No longer than this the thread was interrupted.
    pub(crate) took: Duration,
}

impl Inspector<'_> {
    /// Where the main thread and all workers are, with at most so many frames each; and which do not answer, in words.
    ///
    /// # Errors
    /// As every call to the main thread.
    pub(crate) fn standings(&mut self, most: usize) -> Result<(Vec<Standing>, Vec<String>), Closed> {
        self.watch_workers()?;
        let names =
            self.workers().iter().map(|worker| (Some(worker.session.clone()), Some(worker.name.clone())));
        let all: Vec<Named> = [(None, None)].into_iter().chain(names).collect();
        // Each is told before any is waited for.
        for (to, _) in &all {
            self.ask(to.as_deref(), "Runtime.setMaxCallStackSizeToCapture", &json!({ "size": most + 2 }))?;
        }
        let mut silent = Vec::new();
        let ready = self.each(all, "Runtime.enable", &json!({}), &mut silent)?;
        let ready = ready.into_iter().map(|(thread, ..)| thread).collect();
        let begun = Instant::now();
        let told = self.each(ready, "Runtime.evaluate", &expression_of(&expression()), &mut silent)?;
        let standings = told
            .into_iter()
            .map(|((_, name), answer, at)| standing(&answer, name, most, at.duration_since(begun)));
        Ok((standings.collect(), silent))
    }

    /// The number of a thread where the program is; nothing where it cannot be told.
    pub(crate) fn tid(&mut self, to: To<'_>) -> Option<u32> {
        let answer = self.call(to, "Runtime.evaluate", &expression_of(&expression())).ok()?;
        standing(&answer, None, 0, Duration::ZERO).tid
    }

    /// Calls a method in each thread at once: those that answer, what they say, and when that came; workers that do not are `silent`.
    ///
    /// # Errors
    /// The main thread does not answer.
    fn each(
        &mut self,
        threads: Vec<Named>,
        method: &str,
        parameters: &Value,
        silent: &mut Vec<String>,
    ) -> Result<Vec<(Named, Value, Instant)>, Closed> {
        let end = Instant::now() + PATIENCE;
        let asked: Vec<_> =
            threads.iter().map(|(to, _)| self.ask(to.as_deref(), method, parameters)).collect();
        let mut answers = Vec::with_capacity(threads.len());
        for ((to, name), id) in threads.into_iter().zip(asked) {
            let left = end.saturating_duration_since(Instant::now());
            let answer = id.and_then(|id| self.answer(to.as_deref(), id, method, left));
            match (answer, &name) {
                (Ok(answer), _) => answers.push(((to, name), answer, Instant::now())),
                (Err(why), None) => return Err(why),
                (Err(_), Some(name)) => silent.push(format!("worker thread {name} does not answer")),
            }
        }
        Ok(answers)
    }
}

/// What is thrown says which thread it is.
fn expression() -> String {
    format!(
        "throw (() => {{ try {{ return require('fs').readlinkSync('/proc/thread-self') }} catch {{ return '' }} }})()\n//# sourceURL={OURS}"
    )
}

fn standing(answer: &Value, name: Option<String>, most: usize, took: Duration) -> Standing {
    let thrown = &answer["exceptionDetails"];
    let link = thrown["exception"]["value"].as_str().unwrap_or_default();
    let tid = link.rsplit_once("/task/").and_then(|(_, tid)| tid.parse().ok());
    let calls = thrown["stackTrace"]["callFrames"].as_array().map_or(&[][..], Vec::as_slice);
    let mut frames: Vec<Spot> = calls.iter().skip_while(|call| call["url"] == OURS).map(spot).collect();
    let is_cut = frames.len() > most || calls.len() == USUAL;
    frames.truncate(most);
    Standing { tid, name, frames, is_cut, took }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_frame_is_none_of_the_programs() {
        let call = |function: &str, url: &str, line: u32| json!({"functionName": function, "url": url, "lineNumber": line, "columnNumber": 3});
        let calls =
            [call("", OURS, 0), call("spin", "file:///app/a.js", 4), call("", "node:internal/timers", 580)];
        let answer = |calls: &[Value]| json!({"exceptionDetails": {"exception": {"value": "7/task/9"}, "stackTrace": {"callFrames": calls}}});
        let told = standing(&answer(&calls), Some("cruncher".into()), 2, Duration::ZERO);
        let lines: Vec<_> = told.frames.iter().map(|one| (&*one.function, &*one.file, one.line)).collect();
        assert_eq!(lines, [("spin", "/app/a.js", 5), ("(anonymous)", "node:internal/timers", 581)]);
        assert_eq!((told.tid, told.is_cut), (Some(9), false));
        assert!(standing(&answer(&calls), None, 1, Duration::ZERO).is_cut);
        let idle = standing(&answer(&calls[..1]), None, 2, Duration::ZERO);
        assert_eq!((idle.frames.len(), idle.is_cut), (0, false));
        assert_eq!(standing(&json!({}), None, 2, Duration::ZERO).tid, None);
    }
}
