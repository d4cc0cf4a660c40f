//! Which stacks a program can have, by its source: the line at which a caller stands names what it calls.

use std::{collections::HashMap, fs};

use anyhow::{Context as _, Result};
use pepo_testkit::Fixture;
use serde_json::Value;

/// The function that the thread which always runs begins its work with.
const WORKING: &str = "call_for_ever";

/// What a profile shows of that thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) samples: u64,
    pub(super) impossible: u64,
}

/// A function at a line of the program; of other files, line 0.
type Frame = (String, usize);

/// The program's source.
pub(super) struct Source {
    lines: Vec<String>,
    name: String,
}

impl Source {
    pub(super) fn read(fixture: &Fixture) -> Result<Source> {
        let text = fs::read_to_string(&fixture.source)?;
        let name = fixture.source_name().to_owned();
        Ok(Source { lines: text.lines().map(str::to_owned).collect(), name })
    }

    /// Pepo's own format: everything once, named by its index.
    pub(super) fn judge_pepo(&self, profile: &str) -> Result<Seen> {
        let data: Value = serde_json::from_str(profile)?;
        let list = |name: &str| data[name].as_array().with_context(|| format!("no {name}"));
        let (frames, locations, stacks) = (list("frames")?, list("locations")?, list("stacks")?);
        let at = |list: &[Value], index: &Value| {
            index.as_u64().and_then(|index| list.get(index as usize).cloned()).unwrap_or_default()
        };
        let mut counts: HashMap<u64, u64> = HashMap::new();
        for sample in list("samples")? {
            *counts.entry(sample["stack"].as_u64().unwrap_or(0)).or_default() +=
                sample["count"].as_u64().unwrap_or(0);
        }
        let mut seen = Seen::default();
        for (stack, count) in counts {
            let stack = stacks.get(stack as usize).and_then(Value::as_array).context("no such stack")?;
            let chain = stack.iter().rev().map(|location| {
                let frame = at(frames, &at(locations, location)["frames"][0]);
                let ours = frame["file"].as_str().unwrap_or("").ends_with(&self.name);
                let line = if ours { frame["line"].as_u64().unwrap_or(0) } else { 0 };
                (frame["function"].as_str().unwrap_or("").to_owned(), line as usize)
            });
            self.count(&mut seen, &chain.collect::<Vec<_>>(), count);
        }
        Ok(seen)
    }

    /// Collapsed stacks: `function (file:line);… count`.
    pub(super) fn judge_raw(&self, profile: &str) -> Seen {
        let mut seen = Seen::default();
        for line in profile.lines() {
            let Some((stack, count)) = line.rsplit_once(' ') else { continue };
            let frame = |text: &str| {
                let (function, place) = text.split_once(" (").unwrap_or((text, ""));
                let place = place.trim_end_matches(')').rsplit_once(':');
                let line = place.filter(|(file, _)| file.ends_with(&self.name)).map_or("0", |(_, line)| line);
                (function.to_owned(), line.parse().unwrap_or(0))
            };
            let chain: Vec<Frame> = stack.split(';').map(frame).collect();
            self.count(&mut seen, &chain, count.parse().unwrap_or(0));
        }
        seen
    }

    /// Counts a chain, outermost first, if it is of the thread that always runs.
    fn count(&self, seen: &mut Seen, chain: &[Frame], count: u64) {
        if chain.iter().any(|(function, _)| function == "beat_for_ever" || function.starts_with("Thread.")) {
            return;
        }
        seen.samples += count;
        let begins = chain.iter().any(|(function, _)| function == WORKING || function == "main");
        if !begins || !chain.windows(2).all(|pair| self.may_call(&pair[0], &pair[1])) {
            seen.impossible += count;
        }
    }

    fn may_call(&self, caller: &Frame, callee: &Frame) -> bool {
        let name = callee.0.rsplit('.').next().unwrap_or_default();
        let Some(text) = caller.1.checked_sub(1).and_then(|index| self.lines.get(index)) else {
            return false;
        };
        if name.starts_with('<') {
            return callee.1 == caller.1 || callee.1 == 0;
        }
        text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|word| word == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_line_does_not_call_is_impossible() {
        let lines = ["def main():", "    a()", "    b()  # call_for_ever", ""].map(str::to_owned).to_vec();
        let source = Source { lines, name: "hot.py".into() };
        let raw = "<module> (hot.py:3);main (hot.py:2);a (hot.py:9) 3\nmain (hot.py:2);a (hot.py:9) 5\n\
                   main (hot.py:2);b (hot.py:9) 7\na (hot.py:2) 1\nbeat_for_ever (hot.py:1) 9\n";
        // The first: nothing calls main from line 3.
        assert_eq!(source.judge_raw(raw), Seen { samples: 16, impossible: 11 });
        let pepo = r#"{"frames": [{"function": "main", "file": "/x/hot.py", "line": 2},
            {"function": "a", "file": "/x/hot.py", "line": 9}, {"function": "b", "file": "/x/hot.py", "line": 9}],
            "locations": [{"frames": [0]}, {"frames": [1]}, {"frames": [2]}], "stacks": [[1, 0], [2, 0]],
            "samples": [{"stack": 0, "count": 2}, {"stack": 1, "count": 1}]}"#;
        assert_eq!(source.judge_pepo(pepo).unwrap(), Seen { samples: 3, impossible: 1 });
    }
}
