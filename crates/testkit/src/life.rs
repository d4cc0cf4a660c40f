//! What a `loop` fixture says of itself on its standard output: heartbeats, ticks, answers. The same words for
//! a process of this machine and for one in a container.

use std::{fs, time::Duration};

use crate::wait;

/// How long a healthy target may take to be heard, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// One heartbeat line (`beat 12 ticks=1180 answer=42`), written each 100 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// Number of the heartbeat, from 1.
    pub beat: u64,
    /// How often `tick` has returned.
    pub ticks: u64,
    /// What `tick` answered last: 42 unless somebody changed a variable.
    pub answer: i64,
}

impl Beat {
    fn parse(line: &str) -> Option<Beat> {
        let mut words = line.strip_prefix("beat ")?.split(' ');
        let beat = words.next()?.parse().ok()?;
        let ticks = words.next()?.strip_prefix("ticks=")?.parse().ok()?;
        let answer = words.next()?.strip_prefix("answer=")?.parse().ok()?;
        Some(Beat { beat, ticks, answer })
    }
}

/// A target whose life is seen from outside, without looking into it.
pub trait Life {
    /// The process id in this machine's `/proc`.
    fn pid(&self) -> u32;

    /// All that it wrote to standard output and standard error so far.
    fn output(&self) -> String;

    /// Whether it has not ended.
    fn is_alive(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }

    /// The last heartbeat, if there was one.
    fn last_beat(&self) -> Option<Beat> {
        self.output().lines().rev().find_map(Beat::parse)
    }

    /// All answers other than the first, in their order: those that a changed variable caused, and 42 after them.
    fn answers(&self) -> Vec<i64> {
        let parse = |line: &str| line.strip_prefix("answer=")?.parse().ok();
        self.output().lines().filter_map(parse).collect()
    }

    /// Waits for a line that contains `text` and gives it.
    fn wait_for_line(&self, text: &str, limit: Duration) -> String {
        let look = || {
            let output = self.output();
            output.lines().find(|line| line.contains(text)).map(str::to_owned).ok_or(())
        };
        let line = wait::try_until(limit, look);
        line.unwrap_or_else(|()| panic!("no line with {text:?} within {limit:?}: {}", self.state()))
    }

    /// Waits for the first heartbeat.
    fn wait_started(&self) -> Beat {
        let beat = wait::try_until(LIMIT, || self.last_beat().ok_or(()));
        beat.unwrap_or_else(|()| panic!("no heartbeat within {LIMIT:?}: {}", self.state()))
    }

    /// Waits until it answered `answer`.
    fn wait_for_answer(&self, answer: i64) {
        let look = || if self.answers().contains(&answer) { Ok(()) } else { Err(()) };
        let seen = wait::try_until(LIMIT, look);
        seen.unwrap_or_else(|()| panic!("no answer {answer} within {LIMIT:?}: {}", self.state()));
    }

    /// Proves that the target goes on: it says three more heartbeats, and has ticked between them.
    fn assert_goes_on(&self) {
        if let Err(state) = self.goes_on(LIMIT) {
            panic!("the target does not go on: {state}");
        }
    }

    /// Waits at most `limit` for three more heartbeats with a tick between them.
    ///
    /// # Errors
    /// The state of its threads and its last lines.
    fn goes_on(&self, limit: Duration) -> Result<(), String> {
        let first = self.last_beat();
        wait::try_until(limit, || match (first, self.last_beat()) {
            (None, Some(now)) if now.beat > 3 && now.ticks > 0 => Ok(()),
            (Some(first), Some(now)) if now.beat >= first.beat + 3 && now.ticks > first.ticks => Ok(()),
            _ => Err(()),
        })
        .map_err(|()| self.state())
    }

    /// Proves that the target stands still: its last heartbeat stays the same for `time`.
    fn assert_stands_still(&self, time: Duration) {
        let first = self.last_beat();
        let moved = wait::try_until(time, || match self.last_beat() {
            now if now != first => Ok(now),
            _ => Err(()),
        });
        assert!(moved.is_err(), "the target moved from {first:?} to {moved:?}");
    }

    /// The state of its threads and its last lines, for messages.
    fn state(&self) -> String {
        let output = self.output();
        let lines: Vec<_> = output.lines().rev().take(8).collect();
        let lines: Vec<_> = lines.into_iter().rev().collect();
        format!("{}\nlast output:\n  {}", threads(self.pid()), lines.join("\n  "))
    }
}

/// Name, state, tracer and signals of each thread of `pid`, one line a thread.
fn threads(pid: u32) -> String {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return format!("process {pid} is gone");
    };
    let keys = ["Name:", "State:", "TracerPid:", "SigPnd:", "ShdPnd:"];
    let mut lines = vec![format!("process {pid}:")];
    for task in tasks.flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let facts: Vec<_> =
            status.lines().filter(|line| keys.iter().any(|key| line.starts_with(key))).collect();
        lines.push(format!(
            "  {} {}",
            task.file_name().to_string_lossy(),
            facts.join(" ").replace('\t', " ")
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_line_is_read() {
        let beat = Beat { beat: 12, ticks: 1180, answer: 42 };
        assert_eq!(Beat::parse("beat 12 ticks=1180 answer=42"), Some(beat));
        for other in ["", "answer=5", "beat 1", "beat x ticks=1 answer=1", "beat 1 ticks=1 answer="] {
            assert_eq!(Beat::parse(other), None, "{other:?}");
        }
    }
}
