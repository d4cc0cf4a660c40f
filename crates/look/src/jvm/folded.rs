//! Stacks as async-profiler writes them: a line for each, the thread and its frames from the outermost on, and what they count.

use super::names::readable;

/// Most frames of a stack.
const DEEPEST: usize = 4096;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folded<'a> {
    /// The thread's number, as the JVM counts, and its name.
    pub(crate) tid: Option<u32>,
    pub(crate) name: &'a str,
    /// Innermost first.
    pub(crate) frames: Vec<FoldedFrame>,
    /// Is the outermost missing?
    pub(crate) is_cut: bool,
    /// Samples, bytes or nanoseconds.
    pub(crate) count: u64,
}

/// A frame of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FoldedFrame {
    /// Of Java or native code.
    Function(String),
    /// Any number of the kernel's.
    Kernel,
}

/// The stack of a line, which is all but the count, and the count.
pub(crate) fn split(line: &str) -> Option<(&str, u64)> {
    let (stack, count) = line.rsplit_once(' ')?;
    Some((stack, count.parse().ok()?))
}

/// Reads a stack.
pub(crate) fn parse(stack: &str, count: u64) -> Folded<'_> {
    let (thread, rest) = thread(stack).unwrap_or((("", None), stack));
    let mut frames: Vec<FoldedFrame> = Vec::new();
    let mut names = rest.rsplit(';').filter(|name| !name.is_empty());
    for name in names.by_ref().take(DEEPEST) {
        let frame = frame(name);
        if frame != FoldedFrame::Kernel || frames.last() != Some(&FoldedFrame::Kernel) {
            frames.push(frame);
        }
    }
    Folded { tid: thread.1, name: thread.0, frames, is_cut: names.next().is_some(), count }
}

/// `[a name tid=4711];…`; a name may hold anything.
fn thread(stack: &str) -> Option<((&str, Option<u32>), &str)> {
    let inner = stack.strip_prefix('[')?;
    let at = inner.match_indices("tid=").find_map(|(at, mark)| {
        let after = &inner[at + mark.len()..];
        let digits = after.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(after.len());
        let is_end =
            after[digits..].starts_with(']') && matches!(after.as_bytes().get(digits + 1), None | Some(b';'));
        (digits > 0 && is_end).then_some((at, at + mark.len() + digits))
    })?;
    let name = inner[..at.0].trim_end();
    let tid = inner[at.0 + "tid=".len()..at.1].parse().ok();
    Some(((name, tid), inner[at.1 + 1..].trim_start_matches(';')))
}

fn frame(name: &str) -> FoldedFrame {
    if name.ends_with("_[k]") {
        return FoldedFrame::Kernel;
    }
    let of_java = ["_[0]", "_[j]", "_[i]", "_[1]"].iter().find_map(|mark| name.strip_suffix(mark));
    FoldedFrame::Function(match of_java {
        // A class that the JVM has made up has its address after a dot.
        Some(name) => readable(&name.replacen(".0x", "/0x", 1)),
        None => name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, wanted: (Option<u32>, &str, &[&str], u64)) {
        let (stack, count) = split(line).unwrap();
        let folded = parse(stack, count);
        let frames: Vec<&str> = folded
            .frames
            .iter()
            .map(|frame| match frame {
                FoldedFrame::Function(name) => name.as_str(),
                FoldedFrame::Kernel => "[kernel]",
            })
            .collect();
        assert_eq!((folded.tid, folded.name, &frames[..], folded.count), wanted, "{line}");
    }

    #[test]
    fn lines_are_threads_frames_and_counts() {
        check(
            "[main tid=27515];Hot.main_[0];Hot$$Lambda$4.0x00007f9c50002a20.run_[0];Hot.lambda$main$6_[0];Hot.work_[j];Hot.hot_[i] 9",
            (
                Some(27515),
                "main",
                &["Hot.hot", "Hot.work", "Hot.main{lambda 6}", "Hot{lambda}.run", "Hot.main"],
                9,
            ),
        );
        check(
            "[a b] tid=1];c tid=7];Hot$$Lambda.0x000000002b041000.run_[0];asm_call_[k];schedule_[k] 1",
            (Some(1), "a b]", &["[kernel]", "Hot{lambda}.run", "c tid=7]"], 1),
        );
        check(
            "[tid=5];start_thread;JavaThread::run() 2",
            (Some(5), "", &["JavaThread::run()", "start_thread"], 2),
        );
        check("no thread;byte[] 1024", (None, "", &["byte[]", "no thread"], 1024));
        check("[main tid=2] 3", (Some(2), "main", &[], 3));
    }

    #[test]
    fn what_is_no_line_is_none_and_what_is_too_deep_is_cut() {
        for line in ["", "a", "a b", "a -1", "a 99999999999999999999999"] {
            assert_eq!(split(line), None, "{line}");
        }
        let deep = vec!["a"; DEEPEST + 1].join(";");
        let folded = parse(&deep, 1);
        assert!(folded.is_cut && folded.frames.len() == DEEPEST);
    }
}
