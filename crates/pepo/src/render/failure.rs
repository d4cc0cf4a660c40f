//! Failures for people: what failed, why, and what to do next with the exact command.

use pepo_wire::{Failure, Hint};
use serde_json::{Value, json};

use super::{
    shell,
    style::{Paint, Style},
};
use crate::called;

/// `error[P0112]: what`, its causes indented, its hints.
pub(crate) fn text(failure: &Failure, paint: Paint) -> String {
    titled("error", Style::Bad, failure, paint)
}

/// The same for what went on all the same.
pub(crate) fn warning(failure: &Failure, paint: Paint) -> String {
    titled("warning", Style::Warning, failure, paint)
}

fn titled(title: &str, style: Style, failure: &Failure, paint: Paint) -> String {
    let mut lines = vec![format!(
        "{}: {}",
        paint.over(style, &format!("{title}[{}]", code(failure))),
        clean(&failure.what).replace('\n', "\n  ")
    )];
    for why in &failure.why {
        lines.push(format!("  {}", clean(why.trim_end()).replace('\n', "\n  ")));
    }
    for hint in &failure.hints {
        lines.push(format!("{}: {}", paint.over(Style::Strong, "hint"), hint_text(hint, paint)));
    }
    lines.join("\n")
}

/// A hint in one line: its command in backticks-free form at the end, as it can be pasted.
pub(crate) fn hint_text(hint: &Hint, paint: Paint) -> String {
    if hint.command.is_empty() {
        return called::spelled(&clean(&hint.text));
    }
    let command = called::spelled(&clean(&shell::command(&hint.command)));
    let command = paint.over(Style::Command, &command);
    if hint.text.is_empty() { command } else { format!("{}: {command}", clean(&hint.text)) }
}

/// `P0112`, also for a number of a newer side that this build does not know.
pub(crate) fn code(failure: &Failure) -> String {
    format!("P{:04}", failure.code)
}

/// As data; the same shape wherever a failure stands in JSON.
pub(crate) fn json(failure: &Failure) -> Value {
    let hint = |hint: &Hint| json!({ "text": hint.text, "command": called::typed(&hint.command) });
    json!({
        "code": code(failure),
        "name": failure.code().name(),
        "what": failure.what,
        "why": failure.why,
        "hints": failure.hints.iter().map(hint).collect::<Vec<_>>(),
        "exit": failure.code().exit() as u8,
    })
}

/// Words of other programs may hold anything; only line ends pass.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => '\n',
            '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use pepo_wire::Code;

    use super::*;

    fn failure() -> Failure {
        Failure::new(Code::NoDebugInfo, "the binary has no debug information")
            .because("no .debug_info section")
            .hint("build without `-ldflags=-w`")
            .try_command("or give its debug file", ["pepo", "attach", "docker/shop", "--symbols", "my dir"])
    }

    #[test]
    fn a_failure_says_what_why_and_what_next() {
        assert_eq!(
            text(&failure(), Paint::NEVER),
            "error[P0112]: the binary has no debug information\n  no .debug_info section\nhint: build without `-ldflags=-w`\n\
             hint: or give its debug file: pepo attach docker/shop --symbols 'my dir'"
        );
    }

    #[test]
    fn colour_changes_no_word() {
        let painted = text(&failure(), Paint(true));
        assert_ne!(painted, text(&failure(), Paint::NEVER));
        let plain = regex::Regex::new("\x1b\\[[0-9;]*m").unwrap().replace_all(&painted, "").into_owned();
        assert_eq!(plain, text(&failure(), Paint::NEVER));
    }

    #[test]
    fn words_of_other_programs_cannot_steer_the_terminal() {
        let failure = Failure::new(Code::EngineRefused, "it said \x1b]0;title\x07");
        assert!(!text(&failure, Paint::NEVER).contains(['\x1b', '\x07']));
    }

    #[test]
    fn data_has_every_part() {
        let data = json(&failure());
        assert_eq!(data["code"], "P0112");
        assert_eq!(data["name"], "NoDebugInfo");
        assert_eq!(data["exit"], 6);
        assert_eq!(data["hints"][1]["command"][1], "attach");
    }
}
