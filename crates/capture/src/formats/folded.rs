//! Stacks as lines of text, as FlameGraph and speedscope read them: `outer;inner 12`. The first line is a comment with the meta
//! data; the usual readers pass over it. Numbers are samples, or where these do not weigh alike (bytes that were allocated, time that was
//! waited) what they weigh. Where several targets were looked at, each stack begins with its own.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{Builder, Capture, Diff, Frame, Process, Sample, StackId, Thread, Tree, Unit};

pub(super) fn write(capture: &Capture) -> Vec<u8> {
    let mut counts: BTreeMap<(&str, StackId), u64> = BTreeMap::new();
    let alike = capture.weighs_alike();
    for sample in &capture.samples {
        let target = capture.process_of(sample.thread).map_or("", |process| process.target.as_str());
        *counts.entry((target, sample.stack)).or_default() +=
            if alike { sample.count } else { sample.weight };
    }
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    for ((target, stack), count) in counts {
        let target = (!target.is_empty()).then(|| name(target));
        let frames = capture.frames_of(stack).map(|frame| name(&capture.label(frame)));
        let frames: Vec<_> = target.into_iter().chain(frames).collect();
        let line = if frames.is_empty() { "[unknown]".to_owned() } else { frames.join(";") };
        *lines.entry(line).or_default() += count;
    }
    let mut text = String::new();
    // A comment: the usual readers pass over lines of this form.
    let _ = writeln!(text, "# {}", name(&capture.summary()));
    for (line, count) in lines {
        let _ = writeln!(text, "{line} {count}");
    }
    text.into_bytes()
}

/// Lines with both counts, as difffolded.pl of FlameGraph writes them.
pub(super) fn write_diff(diff: &Diff) -> Vec<u8> {
    let tree = &diff.tree;
    let mut text = String::new();
    for (index, node) in tree.nodes.iter().enumerate().skip(1) {
        let below = node.children.iter().map(|child| tree.nodes[*child].before).sum::<u64>();
        let before = node.before.saturating_sub(below);
        if before + node.own > 0 {
            let _ = writeln!(text, "{} {before} {}", path(tree, index), node.own);
        }
    }
    text.into_bytes()
}

fn path(tree: &Tree, index: usize) -> String {
    let ancestors = std::iter::successors(Some(index), |at| Some(tree.nodes[*at].parent));
    let mut names: Vec<_> =
        ancestors.take_while(|at| *at != 0).map(|at| name(&tree.name_of(&tree.nodes[at]).label)).collect();
    names.reverse();
    names.join(";")
}

/// A name without what divides names and lines.
fn name(label: &str) -> String {
    label
        .chars()
        .map(|c| {
            if c == ';' {
                ':'
            } else if c.is_control() {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// Nothing when a line is none of a stack and a count.
pub(super) fn read(text: &str) -> Option<Capture> {
    let mut builder = Builder::new();
    builder.meta().unit = Unit::Samples;
    let process = builder.process(Process::default());
    let thread = builder.thread(Thread { process, ..Thread::default() });
    let mut samples = 0_usize;
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let (stack, count) = line.rsplit_once(' ')?;
        let count = count.parse().ok()?;
        let mut locations = Vec::new();
        for function in stack.split(';') {
            let frame = builder.frame(Frame { function: function.to_owned(), ..Frame::default() });
            locations.push(builder.location(None, 0, vec![frame]));
        }
        locations.reverse();
        let stack = builder.stack(locations);
        builder.sample(Sample { stack, thread, at_nanos: 0, count, weight: count });
        samples += 1;
    }
    (samples > 0).then(|| builder.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tests::example;

    #[test]
    fn a_stack_is_a_line() {
        let text = String::from_utf8(write(&example())).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1..], ["main;[libc.so.6] 1", "main;work;hot 6", "main;work;warm<int, \"a\"> 3"]);
    }

    #[test]
    fn names_cannot_divide_lines() {
        let mut capture = example();
        capture.frames[1].function = "a;b\nc 7".into();
        let text = String::from_utf8(write(&capture)).unwrap();
        assert!(text.contains("a:b\u{fffd}c 7 "), "{text}");
        assert!(read(&text).is_some());
    }

    #[test]
    fn a_difference_has_both_counts() {
        let diff = Diff::of(&example(), &example(), crate::By::Function);
        let text = String::from_utf8(write_diff(&diff)).unwrap();
        assert!(text.contains("main;work;hot 600 600\n"), "{text}");
    }
}
