//! Functions, lines, threads and processes by their share.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::{
    capture::{Capture, FrameId, Sample},
    tree::process_label,
};

/// What rows stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Functions.
    #[default]
    Function,
    /// Lines of source.
    Line,
    /// Threads.
    Thread,
    /// Processes.
    Process,
}

/// One row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What it stands for.
    pub label: String,
    /// The module's short name; empty when unknown or meaningless.
    pub module: String,
    /// A source file it was seen in, and for lines the line.
    pub place: String,
    /// Weight of the samples that ended here.
    pub own: u64,
    /// Weight of the samples that passed here, each once.
    pub total: u64,
}

/// The rows of a capture, those with the most of their own first.
#[must_use]
pub fn rows(capture: &Capture, by: By) -> Vec<Row> {
    let mut rows: HashMap<(String, String), Row> = HashMap::new();
    let keys: Vec<Row> =
        (0..capture.frames.len()).map(|index| frame_row(capture, FrameId::at(index), by)).collect();
    for sample in &capture.samples {
        match by {
            By::Function | By::Line => count_frames(capture, sample, &keys, &mut rows),
            By::Thread | By::Process => {
                let row = add(&mut rows, &branch_row(capture, sample, by));
                row.own += sample.weight;
                row.total += sample.weight;
            }
        }
    }
    let mut rows: Vec<_> = rows.into_values().collect();
    rows.sort_by(|a, b| (b.own, b.total, &a.label, &a.place).cmp(&(a.own, a.total, &b.label, &b.place)));
    rows
}

fn count_frames(capture: &Capture, sample: &Sample, keys: &[Row], rows: &mut HashMap<(String, String), Row>) {
    let mut seen = HashSet::new();
    for (depth, frame) in capture.frames_of(sample.stack).rev().enumerate() {
        let row = add(rows, &keys[frame.index()]);
        if depth == 0 {
            row.own += sample.weight;
        }
        // A function that calls itself is passed once.
        if seen.insert((row.label.clone(), row.place.clone())) {
            row.total += sample.weight;
        }
    }
}

fn add<'a>(rows: &'a mut HashMap<(String, String), Row>, key: &Row) -> &'a mut Row {
    rows.entry((key.label.clone(), key.module.clone() + &key.place)).or_insert_with(|| key.clone())
}

fn frame_row(capture: &Capture, id: FrameId, by: By) -> Row {
    let frame = &capture.frames[id.index()];
    let place = match by {
        By::Line if frame.line > 0 => format!("{}:{}", frame.file, frame.line),
        _ => String::new(),
    };
    Row {
        label: capture.label(id),
        module: capture.module_name(frame.module).to_owned(),
        place,
        ..Row::default()
    }
}

fn branch_row(capture: &Capture, sample: &Sample, by: By) -> Row {
    let thread = capture.threads.get(sample.thread.index());
    let process = thread.and_then(|thread| capture.processes.get(thread.process.index()));
    let process = process.map(process_label).unwrap_or_default();
    match (by, thread) {
        (By::Thread, Some(thread)) => {
            Row { label: format!("{} ({})", thread.name, thread.tid), place: process, ..Row::default() }
        }
        _ => Row { label: process, ..Row::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tests::example;

    fn told(by: By) -> Vec<String> {
        rows(&example(), by).iter().map(|row| format!("{} {} {}", row.label, row.own, row.total)).collect()
    }

    #[test]
    fn rows_have_what_is_their_own_and_what_passes_them() {
        let functions =
            ["hot 600 600", "warm<int, \"a\"> 300 300", "[libc.so.6] 100 100", "main 0 1000", "work 0 900"];
        assert_eq!(told(By::Function), functions);
        assert_eq!(told(By::Thread), ["shop (7) 700 700", "worker (8) 300 300"]);
        assert_eq!(told(By::Process), ["shop (7) 1000 1000"]);
        assert_eq!(rows(&example(), By::Line)[0].place, "/src/hot.c:12");
    }

    #[test]
    fn a_function_that_calls_itself_is_counted_once_a_sample() {
        let mut capture = example();
        for stack in &mut capture.stacks {
            let outermost = *stack.0.last().unwrap();
            stack.0.push(outermost);
        }
        let rows = rows(&capture, By::Function);
        assert_eq!(rows.iter().find(|row| row.label == "main").unwrap().total, 1000);
    }
}
