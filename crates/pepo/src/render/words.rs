//! Words on processes that several verbs share.

use std::time::Duration;

use pepo_wire::agent::Process;

use super::table::printable;
use crate::duration::spoken;

/// `python 3.12.4`, `go 1.26`, `native`, or `?`.
pub(crate) fn runtime(process: &Process) -> String {
    match &process.runtime {
        Some(runtime) if !runtime.version.is_empty() => format!("{} {}", runtime.language, runtime.version),
        Some(runtime) if !runtime.language.is_empty() => runtime.language.clone(),
        _ => "?".to_owned(),
    }
}

/// What a process is doing, by the letter of proc_pid_stat(5).
pub(crate) fn state(letter: &str) -> &str {
    match letter {
        "R" => "running",
        "S" => "sleeping",
        "D" => "waiting",
        "T" => "stopped",
        "t" => "traced",
        "Z" => "zombie",
        "I" => "idle",
        "X" | "x" => "dead",
        "" => "?",
        other => other,
    }
}

/// The command line, cut to some columns.
pub(crate) fn command_line(process: &Process, columns: usize) -> String {
    let text = match process.command_line.as_slice() {
        [] => format!("[{}]", process.name),
        arguments => arguments.join(" "),
    };
    shortened(&printable(&text), columns)
}

/// At most so many characters, with an ellipsis where something was cut.
pub(crate) fn shortened(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(std::iter::once('…')).collect()
}

/// `python 3.12.4 · pid 1 · up 3 d 4 h`.
pub(crate) fn summary(process: &Process) -> String {
    let up = spoken(Duration::from_secs_f64(process.uptime_seconds.max(0.0).floor()));
    let pid = if process.container_pid == 0 { process.agent_pid } else { process.container_pid };
    format!("{} · pid {pid} · up {up}", runtime(process))
}

#[cfg(test)]
mod tests {
    use pepo_wire::agent::Runtime;

    use super::*;

    #[test]
    fn a_process_is_told_in_one_line() {
        let process = Process {
            container_pid: 1,
            uptime_seconds: 273_600.7,
            runtime: Some(Runtime {
                language: "python".into(),
                version: "3.12.4".into(),
                debugger: "python".into(),
            }),
            ..Process::default()
        };
        assert_eq!(summary(&process), "python 3.12.4 · pid 1 · up 3 d 4 h");
    }

    #[test]
    fn long_command_lines_are_cut_where_it_shows() {
        let process = Process {
            command_line: vec!["/bin/serve".into(), "--port".into(), "80".into()],
            ..Process::default()
        };
        assert_eq!(command_line(&process, 40), "/bin/serve --port 80");
        assert_eq!(command_line(&process, 8), "/bin/se…");
    }
}
