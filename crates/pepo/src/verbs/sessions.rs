//! `pepo sessions`: who is attached to what on this machine, debuggers that are not ours too.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use pepo_wire::agent::SessionInfo;
use serde_json::json;

use crate::{
    arguments::Output,
    config::Context,
    duration::spoken,
    reach,
    render::{
        Outcome, data,
        style::{Paint, Style},
        table::{Cell, Lean, Table},
        words,
    },
};

const EXAMPLES: &str = "\
Examples:
  pepo sessions
  pepo sessions --output json
  pepo release docker/shop           let go of one of them";

/// Arguments of `pepo sessions`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Sessions {}

/// Asks the agent of this machine and shows what it knows.
pub(crate) async fn run(_arguments: &Sessions, context: &Context) -> Outcome {
    let sessions = reach::local(context).await?.sessions().await?;
    let printer = context.printer;
    if printer.json_wanted() {
        return printer.json(&json!({ "sessions": sessions.iter().map(data::session).collect::<Vec<_>>() }));
    }
    if sessions.is_empty() {
        printer.say("nobody is attached to anything on this machine");
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wide = printer.output == Output::Wide;
    printer.data(&lines(&sessions, now, wide, printer.width(), printer.paint).join("\n"))
}

fn lines(
    sessions: &[SessionInfo],
    now: Duration,
    wide: bool,
    room: Option<usize>,
    paint: Paint,
) -> Vec<String> {
    let mut columns = vec![
        ("TARGET", Lean::Left),
        ("DEBUGGER", Lean::Cut),
        ("PID", Lean::Right),
        ("WHO", Lean::Cut),
        ("SINCE", Lean::Cut),
        ("STOOD STILL", Lean::Cut),
        ("STATE", Lean::Left),
    ];
    if wide {
        columns.extend([("SESSION", Lean::Left), ("COMMAND", Lean::Flow)]);
    }
    let mut table = Table::new(&columns).within(room);
    for session in sessions {
        let process = session.process.clone().unwrap_or_default();
        let since = match session.since {
            0 => "?".to_owned(),
            since => format!("{} ago", spoken(Duration::from_secs(now.as_secs().saturating_sub(since)))),
        };
        let state = Cell::painted(
            session.state.as_str(),
            if session.state == "live" { Style::Good } else { Style::Warning },
        );
        let target = match session.target_name.as_str() {
            "" => format!("pid/{}", process.agent_pid),
            name => name.to_owned(),
        };
        let mut row: Vec<Cell> = vec![
            target.into(),
            session.debugger.as_str().into(),
            process.agent_pid.to_string().into(),
            session.who.as_str().into(),
            since.into(),
            spoken(Duration::from_millis(session.stood_still_millis)).into(),
            state,
        ];
        if wide {
            row.extend([session.session.as_str().into(), words::command_line(&process, 60).into()]);
        }
        table.row(row);
    }
    table.lines(paint)
}

#[cfg(test)]
mod tests {
    use pepo_wire::agent::Process;

    use super::*;

    #[test]
    fn sessions_are_lines() {
        let session = SessionInfo {
            session: "1a2b".into(),
            who: "uid 1000 (ada)".into(),
            debugger: "delve".into(),
            process: Some(Process { agent_pid: 4711, ..Process::default() }),
            target_name: "docker/shop".into(),
            since: 1_000,
            state: "live".into(),
            stood_still_millis: 31,
        };
        assert_eq!(
            lines(&[session], Duration::from_secs(1_065), false, None, Paint::NEVER),
            [
                "TARGET       DEBUGGER   PID  WHO             SINCE          STOOD STILL  STATE",
                "docker/shop  delve     4711  uid 1000 (ada)  1 min 5 s ago  31 ms        live",
            ]
        );
    }
}
