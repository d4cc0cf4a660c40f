//! `pepo check`: for each verb, will it work; and if not, the one thing that is missing and the smallest change that grants it.

use std::collections::BTreeSet;

use clap::Args;
use pepo_platform::{Found, How, Need};
use pepo_wire::{
    Failure,
    agent::{CheckRequest, CheckResponse, Finding, Level, Target},
    failure::Exit,
    name::Kind,
};

use crate::{
    arguments::{Chosen, Output, ProcessArgs, choose},
    config::Context,
    reach::{self, Reached},
    render::{
        End, Outcome, data, failure,
        style::{Paint, Style},
        table::{Cell, Lean, Table, printable},
        words,
    },
};

const EXAMPLES: &str = "\
Examples:
  pepo check                         this machine
  pepo check docker/shop
  pepo check docker/shop --for attach --debugger gdb
  pepo check pid/4711 --output json

The exit status is 1 when the answer for a verb that was asked for is no.";

/// The verbs that are judged.
const VERBS: [&str; 7] = ["stack", "top", "record", "core", "cp", "attach", "dap"];
/// Those that stop a target.
const STOPPING: [&str; 3] = ["core", "attach", "dap"];

/// Arguments of `pepo check`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Check {
    /// What to check, named as `pepo ps` prints it; without it, this machine
    #[arg(value_name = "TARGET")]
    target: Option<String>,
    /// The process inside.
    #[command(flatten)]
    process: ProcessArgs,
    /// Only these verbs
    #[arg(long = "for", value_name = "VERB", value_delimiter = ',', value_parser = VERBS)]
    verbs: Vec<String>,
    /// Judge this debugger, not the one that would be chosen
    #[arg(long, value_name = "NAME")]
    debugger: Option<String>,
}

/// Asks the agent and shows what it found.
pub(crate) async fn run(arguments: &Check, context: &Context) -> Outcome {
    let request = |target| CheckRequest {
        target,
        verbs: arguments.verbs.clone(),
        debugger: arguments.debugger.clone().unwrap_or_default(),
    };
    let (name, answer) = if arguments.target.is_none()
        && arguments.process.host_pid.is_none()
        && arguments.process.pod.labels.is_none()
    {
        let local = reach::local(context).await?;
        (None, local.check(request(None)).await?)
    } else {
        let chosen = choose(arguments.target.as_deref(), &arguments.process)?;
        judge(arguments, context, &chosen, request).await?
    };
    show(name.as_deref(), &answer, context)?;
    let no = answer.findings.iter().any(|finding| finding.level() == Level::No);
    if no { Err(End::Told(Exit::No)) } else { Ok(()) }
}

/// What the platform foresees, then what the agent finds that would do the work.
async fn judge(
    arguments: &Check,
    context: &Context,
    chosen: &Chosen,
    request: impl Fn(Option<Target>) -> CheckRequest,
) -> Result<(Option<String>, CheckResponse), Failure> {
    let stops =
        arguments.verbs.is_empty() || arguments.verbs.iter().any(|verb| STOPPING.contains(&verb.as_str()));
    let need = if stops { Need::Stop } else { Need::Look };
    let found = reach::locate(context, chosen, need).await?;
    let name = found.located.name.to_string();
    let mut rows = found.foresee().await;
    let is_no = |row: &Finding| row.level() == Level::No;
    let mut answer = CheckResponse::default();
    if !rows.iter().any(is_no) {
        match reach(context, chosen, found, stops).await {
            Ok(reached) => {
                answer =
                    told_here(reached.agent.check(request(Some(reached.target.clone()))).await?, &reached);
            }
            Err(failure) if rows.is_empty() => return Err(failure),
            Err(failure) => rows.push(no_way(failure)),
        }
    }
    for row in &mut rows {
        row.verbs = asked(&arguments.verbs);
    }
    answer.findings.splice(0..0, rows);
    Ok((Some(name), answer))
}

/// For verbs that stop, the way with the right to stop, when there is one.
async fn reach(context: &Context, chosen: &Chosen, found: Found, stops: bool) -> Result<Reached, Failure> {
    let in_pod = found.located.name.kind == Some(Kind::Pod);
    match reach::to(context, chosen, &found).await {
        // In a pod what stops takes any shape of a helper that what looks would take.
        Err(_) if stops && !in_pod => reach::reach(context, chosen, Need::Look).await,
        reached => reached,
    }
}

/// A helper that does not start, in the words of whoever did not start it.
fn no_way(failure: Failure) -> Finding {
    let why = failure.why.join("; ");
    let what = if why.is_empty() { failure.what.clone() } else { format!("{}: {why}", failure.what) };
    Finding {
        level: Level::No.into(),
        rule: "reach".to_owned(),
        what,
        failure: Some(failure),
        ..Finding::default()
    }
}

/// All verbs, when none was asked for.
fn asked(verbs: &[String]) -> Vec<String> {
    if verbs.is_empty() { VERBS.map(str::to_owned).into() } else { verbs.to_vec() }
}

/// With the way to the agent, where it is not this process, and the target named as it is named here.
fn told_here(mut answer: CheckResponse, reached: &Reached) -> CheckResponse {
    for finding in &mut answer.findings {
        finding.failure = finding.failure.take().map(|failure| reached.told_here(failure));
    }
    let way = match &reached.how {
        How::InProcess => None,
        How::Helper { .. } => {
            Some("by a helper container, made from the target's image for the time and removed".to_owned())
        }
        How::Node { server, node } => {
            Some(format!("by the agent of node {node}, through {server}; it allows what the server granted"))
        }
        How::Ephemeral { container } => Some(format!(
            "by the ephemeral container {container}, which ends by itself; Kubernetes keeps it listed in the pod"
        )),
    };
    if let Some(what) = way {
        let verbs: BTreeSet<&String> = answer.findings.iter().flat_map(|finding| &finding.verbs).collect();
        let way = Finding {
            level: Level::Ok.into(),
            verbs: VERBS.iter().map(|verb| (*verb).to_owned()).filter(|verb| verbs.contains(verb)).collect(),
            rule: "reach".to_owned(),
            what,
            failure: None,
        };
        answer.findings.insert(0, way);
    }
    answer
}

fn show(name: Option<&str>, answer: &CheckResponse, context: &Context) -> Outcome {
    if context.printer.json_wanted() {
        return context.printer.json(&data::check(name, answer));
    }
    if context.printer.output == Output::Wide {
        let what = match &answer.process {
            Some(process) => format!("{} · {}", name.unwrap_or("this machine"), words::summary(process)),
            None => name.unwrap_or("this machine").to_owned(),
        };
        context.printer.data(&printable(&what))?;
    }
    let lines = lines(&answer.findings, context.printer.width(), context.printer.paint);
    context.printer.data(&lines.join("\n"))
}

/// One line a finding: level, verbs, what; for a no its code, and the smallest change after an arrow.
pub(crate) fn lines(findings: &[Finding], room: Option<usize>, paint: Paint) -> Vec<String> {
    let mut table = Table::new(&[("", Lean::Left), ("", Lean::Flow), ("", Lean::Flow)]).within(room);
    for finding in findings {
        let style = match finding.level() {
            Level::Ok => Style::Good,
            Level::Lost | Level::Risk | Level::Unspecified => Style::Warning,
            Level::No => Style::Bad,
        };
        let verbs = if finding.verbs.is_empty() { "all".to_owned() } else { finding.verbs.join(", ") };
        table.row(vec![
            Cell::painted(data::level(finding.level()), style),
            verbs.into(),
            told(finding).into(),
        ]);
    }
    table.lines(paint)
}

fn told(finding: &Finding) -> String {
    let Some(failure) = &finding.failure else { return finding.what.clone() };
    let what = if finding.what.is_empty() { &failure.what } else { &finding.what };
    let mut text = match finding.level() {
        Level::No => format!("{} {what}", failure::code(failure)),
        _ => what.clone(),
    };
    for (index, hint) in failure.hints.iter().enumerate() {
        text += if index == 0 { " → " } else { ", or " };
        text += &failure::hint_text(hint, Paint::NEVER);
    }
    text
}

#[cfg(test)]
mod tests {
    use pepo_wire::{Code, Failure};

    use super::*;

    fn finding(level: Level, verbs: &[&str], what: &str, failure: Option<Failure>) -> Finding {
        let verbs = verbs.iter().map(|verb| (*verb).to_owned()).collect();
        Finding { level: level.into(), verbs, rule: "rule".into(), what: what.into(), failure }
    }

    #[test]
    fn findings_are_lines_with_the_smallest_change() {
        let no = Failure::new(Code::NoDebugInfo, "the binary has no debug information")
            .hint("build without `-ldflags=-w`")
            .try_command("give it", ["pepo", "attach", "shop", "--symbols", "./my cart"]);
        let text = lines(
            &[
                finding(Level::Ok, &["stack", "attach"], "same user", None),
                finding(Level::No, &["attach"], "", Some(no)),
                finding(Level::Lost, &[], "kernel frames", None),
            ],
            None,
            Paint::NEVER,
        );
        assert_eq!(
            text,
            [
                "ok    stack, attach  same user",
                "no    attach         P0112 the binary has no debug information → build without `-ldflags=-w`, or give it: \
                 pepo attach shop --symbols './my cart'",
                "lost  all            kernel frames",
            ]
        );
    }
}
