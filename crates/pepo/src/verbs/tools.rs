//! `pepo tools`: the debuggers on this machine, where they were looked for, and how to get those that are missing.

use clap::{Args, Subcommand};

use crate::{config::Context, render::Outcome};

const EXAMPLES: &str = "\
Examples:
  pepo tools                         which debuggers are here, and for what
  pepo tools install delve           install one for this user
  pepo tools install gdb --yes       ask nothing

Debuggers are looked for in PEPO_TOOLS, then $XDG_DATA_HOME/pepo/tools (~/.local/share/pepo/tools), then PATH, where names with
a version (lldb-dap-19) count too and the newest goes first.";

/// Arguments of `pepo tools`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Tools {
    #[command(subcommand)]
    act: Option<Act>,
}

/// What to do with them.
#[derive(Debug, Subcommand)]
enum Act {
    /// Install a debugger for this user
    Install {
        /// Which, named as `pepo tools` lists it
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Lists, or installs one.
pub(crate) async fn run(arguments: &Tools, context: &Context) -> Outcome {
    match &arguments.act {
        None => list(context).await,
        Some(Act::Install { name }) => install(name, context).await,
    }
}

/// Debuggers stand beside Linux processes, and so do their tools.
#[cfg(not(target_os = "linux"))]
async fn list(_context: &Context) -> Outcome {
    Err(crate::local::not_here().into())
}

#[cfg(not(target_os = "linux"))]
async fn install(_name: &str, _context: &Context) -> Outcome {
    Err(crate::local::not_here().into())
}

#[cfg(target_os = "linux")]
use here::{install, list};

#[cfg(target_os = "linux")]
mod here {
    use std::{
        io::{BufRead as _, IsTerminal as _},
        process::Command,
    };

    use pepo_debug::{
        debugger::{self, DebuggerFacts},
        tools::{self, Entry, Install, Tool, Tools, entry, languages, user_toolkit},
    };
    use pepo_wire::{Code, Failure};
    use serde_json::{Value, json};

    use crate::{
        config::Context,
        render::{
            End, Outcome, shell,
            style::{Paint, Style},
            table::{Cell, Lean, Table},
        },
    };

    /// A debugger and what was found of it.
    struct Row {
        facts: &'static DebuggerFacts,
        entry: Option<&'static Entry>,
        tool: Option<Tool>,
    }

    impl Row {
        fn of(facts: &'static DebuggerFacts, tools: &Tools) -> Row {
            let entry = facts.tool.and_then(entry);
            Row { facts, entry, tool: facts.tool.and_then(|name| tools.find(name)) }
        }

        /// One word for how it stands.
        fn state(&self) -> &'static str {
            match (self.entry, &self.tool) {
                (None, _) => "built in",
                (Some(_), None) => "missing",
                (Some(entry), Some(tool)) => match &tool.version {
                    None => "version unknown",
                    Some(version) if version.pair() < entry.minimum => "too old",
                    Some(_) => "ready",
                },
            }
        }
    }

    /// Shows every debugger, found or not.
    pub(super) async fn list(context: &Context) -> Outcome {
        let found = tokio::task::spawn_blocking(|| {
            let tools = Tools::from_env();
            debugger::all().iter().map(|one| Row::of(one.facts(), &tools)).collect::<Vec<_>>()
        });
        let rows = found.await.map_err(|_| End::Panicked)?;
        if context.printer.json_wanted() {
            return context.printer.json(&json!({ "tools": rows.iter().map(data).collect::<Vec<_>>() }));
        }
        context.printer.data(&lines(&rows, context.printer.width(), context.printer.paint).join("\n"))
    }

    fn data(row: &Row) -> Value {
        let languages: Vec<_> = row.facts.languages.iter().map(|language| language.name()).collect();
        json!({
            "debugger": row.facts.name,
            "summary": row.facts.summary,
            "languages": languages,
            "state": row.state(),
            "version": row.tool.as_ref().map(Tool::version_text),
            "path": row.tool.as_ref().map(|tool| tool.path.display().to_string()),
            "minimum": row.entry.map(|entry| format!("{}.{}", entry.minimum.0, entry.minimum.1)),
            "searched": row.entry.map(|entry| Tools::from_env().searched(entry.name)),
        })
    }

    fn lines(rows: &[Row], room: Option<usize>, paint: Paint) -> Vec<String> {
        let mut table = Table::new(&[
            ("DEBUGGER", Lean::Left),
            ("FOR", Lean::Cut),
            ("STATE", Lean::Left),
            ("VERSION", Lean::Cut),
            ("AT LEAST", Lean::Cut),
            ("WHERE", Lean::Flow),
        ])
        .within(room);
        for row in rows {
            let state = row.state();
            let style = if matches!(state, "ready" | "built in") { Style::Good } else { Style::Warning };
            let place = match (&row.tool, row.entry) {
                (Some(tool), _) => tool.path.display().to_string(),
                (None, Some(entry)) => format!("pepo tools install {}", entry.name),
                (None, None) => "-".to_owned(),
            };
            table.row(vec![
                row.facts.name.into(),
                languages(row.facts.languages).into(),
                Cell::painted(state, style),
                row.tool.as_ref().map_or_else(|| "-".to_owned(), Tool::version_text).into(),
                row.entry
                    .map_or_else(
                        || "-".to_owned(),
                        |entry| format!("{}.{}", entry.minimum.0, entry.minimum.1),
                    )
                    .into(),
                place.into(),
            ]);
        }
        table.lines(paint)
    }

    /// Runs the first way that works here; on a terminal it asks before.
    pub(super) async fn install(name: &str, context: &Context) -> Outcome {
        let ways = tools::install(name)?;
        let root = rustix::process::getuid().is_root();
        let way = ways.iter().find(|way| root || !way.root).or_else(|| ways.first());
        let way = way.ok_or_else(|| {
            Failure::new(Code::ToolMissing, format!("how `{name}` is installed here is not known"))
        })?;
        if way.root && !root {
            return Err(Failure::new(Code::FileDenied, format!("only root can install `{name}` here"))
                .try_command("install it", std::iter::once("sudo").chain(way.command.iter().copied()))
                .into());
        }
        context.printer.say(&format!("$ {}", shell::command(way.command)));
        if !context.global.yes && std::io::stdin().is_terminal() && !agreed(context) {
            return Err(Failure::new(Code::Interrupted, "nothing was installed").into());
        }
        run(name, way)?;
        let tool = Tools::from_env().need(name)?;
        context.printer.data(&format!("{name} {} is at {}", tool.version_text(), tool.path.display()))
    }

    /// Enter and `y` mean yes.
    fn agreed(context: &Context) -> bool {
        context.printer.say("run it? [Y/n]");
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        read.is_ok_and(|count| count > 0) && matches!(answer.trim(), "" | "y" | "Y" | "yes")
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the only place where the command starts a program of the system's"
    )]
    fn run(name: &str, way: &Install) -> Result<(), Failure> {
        let failed = |why: String| {
            Failure::new(Code::ToolMissing, format!("`{name}` could not be installed")).because(why)
        };
        let (program, arguments) =
            way.command.split_first().ok_or_else(|| failed("there is no command".into()))?;
        let mut command = Command::new(program);
        command.args(arguments);
        if let Some(variable) = way.folder_variable {
            let folder =
                user_toolkit().ok_or_else(|| failed("HOME is not set".into()))?.join(name).join("bin");
            std::fs::create_dir_all(&folder)
                .map_err(|error| failed(format!("{}: {error}", folder.display())))?;
            command.env(variable, folder);
        }
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(failed(format!("`{}` ended with {status}", shell::command(way.command)))),
            Err(error) => Err(failed(format!("`{program}` does not start: {error}"))),
        }
    }
}
