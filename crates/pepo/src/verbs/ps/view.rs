//! The table of `pepo ps`, its footnotes, and the same rows as data.

use std::time::Duration;

use serde_json::{Value, json};

use super::rows::{Answer, Row};
use crate::{
    arguments::Output,
    called,
    config::Context,
    duration::spoken,
    render::{
        Outcome, Printer, data,
        style::{Paint, Style},
        table::{Cell, Lean, Table, printable},
        words,
    },
};

/// How the asking went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summary {
    /// Sources that answered.
    pub(super) answered: usize,
    /// Sources that were asked.
    pub(super) asked: usize,
    /// Until the last of them.
    pub(super) took: Duration,
}

impl Summary {
    fn text(&self) -> String {
        let plural = if self.asked == 1 { "" } else { "s" };
        format!(
            "{} of {} source{plural} answered in {:.2} s",
            self.answered,
            self.asked,
            self.took.as_secs_f64()
        )
    }
}

/// Prints the rows in the shape that was asked for.
pub(super) fn show(rows: &[Row], summary: &Summary, context: &Context) -> Outcome {
    let printer: Printer = context.printer;
    if printer.json_wanted() {
        return printer.json(&json!({
            "targets": rows.iter().map(row_data).collect::<Vec<_>>(),
            "sources": { "asked": summary.asked, "answered": summary.answered },
            "took_millis": u64::try_from(summary.took.as_millis()).unwrap_or(u64::MAX),
        }));
    }
    if rows.is_empty() {
        printer.say("nothing to debug was found; `pepo ps --all` also shows this machine's own processes");
    } else {
        printer
            .data(&lines(rows, printer.output == Output::Wide, printer.width(), printer.paint).join("\n"))?;
    }
    printer.say(&summary.text());
    Ok(())
}

fn row_data(row: &Row) -> Value {
    let by_helper = [row.look(), row.stop()].iter().any(|answer| matches!(answer, Answer::ByHelper(_)));
    json!({
        "target": row.target.to_string(),
        "image": row.image,
        "state": row.state,
        "container_id": row.container_id,
        "process": row.process.as_ref().map(data::process),
        "processes": row.processes,
        "by_helper": by_helper,
    })
}

/// What stands behind each "no", and each "yes" that is not this process's own: numbered, each once, with the first target.
#[derive(Debug, Default)]
struct Notes(Vec<(String, String)>);

/// What stands behind a "yes" by other means.
const BY_HELPER: &str = "through a helper container, as this user lacks the right";

impl Notes {
    /// `yes`, `no¹`, or `?` when nobody could say.
    fn cell(&mut self, answer: Answer<'_>, target: &str) -> Cell {
        let (note, style) = match answer {
            Answer::Unknown => (None, Style::Faint),
            Answer::Yes => (None, Style::Good),
            Answer::ByHelper(_) => (Some(BY_HELPER), Style::Good),
            Answer::No(why) => (why.map(|why| why.what.as_str()), Style::Bad),
        };
        let number = note.map(|note| superscript(self.number(note, target))).unwrap_or_default();
        Cell::painted(format!("{}{number}", answer.word()), style)
    }

    /// The same reason holds for many processes: their numbers make no other.
    fn number(&mut self, note: &str, target: &str) -> usize {
        let without_numbers = |text: &str| text.split(|c: char| c.is_ascii_digit()).collect::<String>();
        let index = self.0.iter().position(|(other, _)| without_numbers(other) == without_numbers(note));
        let index = index.unwrap_or_else(|| {
            self.0.push((note.to_owned(), target.to_owned()));
            self.0.len() - 1
        });
        index + 1
    }

    fn lines(&self, paint: Paint) -> Vec<String> {
        let line = |(index, (note, target)): (usize, &(String, String))| {
            let check = paint.over(Style::Command, &called::spelled(&format!("pepo check {target}")));
            format!("{} {}: {check}", superscript(index + 1), printable(note))
        };
        self.0.iter().enumerate().map(line).collect()
    }
}

/// 12 as `¹²`.
fn superscript(number: usize) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    number.to_string().bytes().map(|digit| DIGITS[usize::from(digit - b'0')]).collect()
}

fn lines(rows: &[Row], wide: bool, room: Option<usize>, paint: Paint) -> Vec<String> {
    let mut columns = vec![
        ("TARGET", Lean::Left),
        ("IMAGE", Lean::Cut),
        ("RUNTIME", Lean::Cut),
        ("PID", Lean::Right),
        ("USER", Lean::Cut),
        ("LOOK", Lean::Left),
        ("STOP", Lean::Left),
        ("STATE", Lean::Left),
    ];
    if wide {
        columns.extend([
            ("CONTAINER", Lean::Left),
            ("HOST PID", Lean::Right),
            ("PROCS", Lean::Right),
            ("MEMORY", Lean::Right),
            ("UP", Lean::Cut),
            ("DEBUGGER", Lean::Cut),
            ("COMMAND", Lean::Flow),
        ]);
    }
    let mut table = Table::new(&columns).within(room);
    let mut notes = Notes::default();
    for row in rows {
        let mut cells = narrow(row, wide, &mut notes);
        if wide {
            cells.extend(more(row));
        }
        table.row(cells);
    }
    let mut lines = table.lines(paint);
    lines.extend(notes.lines(paint));
    lines
}

fn narrow(row: &Row, wide: bool, notes: &mut Notes) -> Vec<Cell> {
    let target = row.target.to_string();
    let image = if wide { row.image.clone() } else { words::shortened(&row.image, 40) };
    let image = if image.is_empty() { "-".to_owned() } else { image };
    let process = row.process.as_ref();
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
    let pid = |process: &pepo_wire::agent::Process| match process.container_pid {
        0 => process.agent_pid.to_string(),
        pid => pid.to_string(),
    };
    vec![
        target.as_str().into(),
        image.into(),
        or_unknown(process.map(words::runtime)).into(),
        or_unknown(process.map(pid)).into(),
        or_unknown(process.map(|process| process.uid.to_string())).into(),
        notes.cell(row.look(), &target),
        notes.cell(row.stop(), &target),
        row.state.as_str().into(),
    ]
}

fn more(row: &Row) -> Vec<Cell> {
    let id = match row.container_id.get(..12).unwrap_or(&row.container_id) {
        "" => "-",
        id => id,
    };
    let Some(process) = &row.process else { return vec![id.into()] };
    let debugger = process.runtime.as_ref().map_or("", |runtime| runtime.debugger.as_str());
    vec![
        id.into(),
        process.agent_pid.to_string().into(),
        row.processes.to_string().into(),
        format!("{} MiB", process.resident_bytes >> 20).into(),
        spoken(Duration::from_secs_f64(process.uptime_seconds.max(0.0).floor())).into(),
        if debugger.is_empty() { "-" } else { debugger }.into(),
        words::command_line(process, 60).into(),
    ]
}

#[cfg(test)]
mod tests {
    use pepo_wire::{
        Code, Failure,
        agent::{Runtime, Verdict},
    };

    use super::{
        super::rows::{rows, tests},
        *,
    };

    fn some_rows() -> Vec<Row> {
        let no = |what: &str| Verdict { yes: false, why: Some(Failure::new(Code::NeedsCapability, what)) };
        let yes = || Verdict { yes: true, why: None };
        let of = |pid, id: &str, language: &str, look, stop| {
            let mut process = tests::process(pid, 1, id);
            process.runtime = Some(Runtime {
                language: language.into(),
                version: "3.12".into(),
                debugger: "python".into(),
            });
            (process.uid, process.look, process.stop) = (65534, Some(look), Some(stop));
            (process.uptime_seconds, process.resident_bytes) = (61.0, 5 << 20);
            process
        };
        rows(
            vec![
                tests::listed("docker/shop", "aaaaaaaaaaaaaaaa", 10, "running"),
                tests::listed("docker/far", "ff", 99, "running"),
                tests::listed("podman/cart", "bb", 20, "paused"),
                tests::listed("cri/tea", "cc", 30, "running"),
                tests::listed("cri/milk", "dd", 40, "running"),
            ],
            &[
                of(10, "aaaaaaaaaaaaaaaa", "python", yes(), no("CAP of process 10")),
                of(20, "bb", "python", no("CAP of process 20"), no("CAP of process 20")),
                of(30, "cc", "python", yes(), no("CAP of process 30")),
                of(40, "dd", "python", no("CAP of process 40"), no("CAP of process 40")),
            ],
            false,
        )
    }

    #[test]
    fn the_table_has_footnotes_for_each_reason_once() {
        assert_eq!(
            lines(&some_rows(), false, None, Paint::NEVER),
            [
                "TARGET       IMAGE     RUNTIME      PID  USER   LOOK  STOP  STATE",
                "docker/far   shop:1.4  ?              ?  ?      ?     ?     running",
                "docker/shop  shop:1.4  python 3.12    1  65534  yes   yes¹  running",
                "podman/cart  shop:1.4  python 3.12    1  65534  yes¹  yes¹  paused",
                "cri/milk     shop:1.4  python 3.12    1  65534  no²   no²   running",
                "cri/tea      shop:1.4  python 3.12    1  65534  yes   no²   running",
                "¹ through a helper container, as this user lacks the right: pepo check docker/shop",
                "² CAP of process 40: pepo check cri/milk",
            ]
        );
    }

    #[test]
    fn forty_columns_are_enough_for_what_is_typed_again() {
        let lines = lines(&some_rows(), false, Some(40), Paint::NEVER);
        assert_eq!(
            lines[..2],
            ["TARGET       PID  LOOK  STOP  STATE", "docker/far     ?  ?     ?     running"]
        );
        assert!(lines.contains(&"no room for: IMAGE, RUNTIME, USER".to_owned()), "{lines:?}");
    }

    #[test]
    fn the_wide_table_has_more_columns() {
        let lines = lines(&some_rows(), true, None, Paint::NEVER);
        assert!(
            lines[0].ends_with("CONTAINER     HOST PID  PROCS  MEMORY  UP         DEBUGGER  COMMAND"),
            "{}",
            lines[0]
        );
        assert!(
            lines[2].ends_with("aaaaaaaaaaaa        10      1   5 MiB  1 min 1 s  python    [p10]"),
            "{}",
            lines[2]
        );
    }

    #[test]
    fn the_last_line_counts_the_sources() {
        let summary = Summary { answered: 1, asked: 2, took: Duration::from_millis(214) };
        assert_eq!(summary.text(), "1 of 2 sources answered in 0.21 s");
        assert_eq!(superscript(12), "¹²");
    }
}
