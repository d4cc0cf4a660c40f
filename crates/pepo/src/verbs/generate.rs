//! `pepo generate` (hidden): the pages of docs that are made from the code, so that they cannot drift from it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use pepo_dap::{console::words, server::FIELDS};
use pepo_wire::{Code, Failure, failure::Exit};

use crate::{
    arguments,
    config::Context,
    environment,
    render::{End, Outcome},
    verbs::serve::SETTINGS,
};

/// Arguments of `pepo generate`.
#[derive(Args, Debug)]
pub(crate) struct Generate {
    /// Write nothing; fail when a page differs
    #[arg(long)]
    check: bool,
    /// The folder of the pages
    #[arg(long, value_name = "DIR", default_value = "docs")]
    docs: PathBuf,
}

/// Writes or compares the pages.
pub(crate) fn run(arguments: &Generate, context: &Context) -> Outcome {
    let stale = stale(&arguments.docs);
    if arguments.check {
        stale
            .iter()
            .for_each(|(path, _)| context.printer.say(&format!("{} is not as generated", path.display())));
        return if stale.is_empty() { Ok(()) } else { Err(End::Told(Exit::No)) };
    }
    for (path, text) in stale {
        write(&path, text.as_deref())?;
        context.printer.data(&path.display().to_string())?;
    }
    Ok(())
}

/// Pages that differ from what they should be: with their text, or without when they should not be there.
fn stale(docs: &Path) -> Vec<(PathBuf, Option<String>)> {
    let pages: Vec<_> = pages().into_iter().map(|(name, text)| (docs.join(name), text)).collect();
    let errors = fs::read_dir(docs.join("errors")).into_iter().flatten().flatten().map(|entry| entry.path());
    let surplus: Vec<_> = errors.filter(|path| pages.iter().all(|(page, _)| page != path)).collect();
    let differs = |(path, text): &(PathBuf, String)| fs::read_to_string(path).ok().as_ref() != Some(text);
    let wanted = pages.into_iter().filter(differs).map(|(path, text)| (path, Some(text)));
    wanted.chain(surplus.into_iter().map(|path| (path, None))).collect()
}

fn write(path: &Path, text: Option<&str>) -> Result<(), Failure> {
    let written = match text {
        None => fs::remove_file(path),
        Some(text) => path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text)),
    };
    written.map_err(|error| {
        Failure::new(Code::FileDenied, format!("{} cannot be written", path.display())).because(error)
    })
}

/// Every generated page: its path below docs, and its text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = vec![
        (PathBuf::from("reference.md"), reference()),
        (PathBuf::from("configuration.md"), configuration()),
        (PathBuf::from("exit-codes.md"), exit_codes()),
        (PathBuf::from("errors/README.md"), error_index()),
    ];
    pages
        .extend(Code::ALL.iter().map(|&code| (PathBuf::from(format!("errors/{code}.md")), error_page(code))));
    pages
}

/// The lines of a code's page, as they are written in the table of codes.
fn told(code: Code) -> Vec<&'static str> {
    code.page().lines().map(str::trim).collect()
}

fn error_page(code: Code) -> String {
    let exit = code.exit();
    let lines = told(code);
    let (title, advice) = lines.split_first().map_or(("", &[][..]), |(title, advice)| (*title, advice));
    format!(
        "# {code}: {}\n\n{title}\n{}\n\nExit status {} ({}). In JSON: `\"code\": \"{code}\", \"name\": \"{}\"`.\n",
        spaced(code.name()),
        advice.join("\n").trim_end(),
        exit as u8,
        exit_meaning(exit),
        code.name(),
    )
}

/// `NoDebugInfo` as `no debug info`.
fn spaced(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    words
}

fn configuration() -> String {
    let mut text = "# Settings of a server\n\nWhat `pepo serve` is told at its start. A flag goes before the environment, that before the file, \
                    that before what is usual.\n\
                    The file is named by `--config` or `PEPO_SERVE_CONFIG`; it is a JSON object, and what it has beyond these is an error.\n\
                    `pepo serve --print-config` tells what was decided, and from where; with `-o json`, as a file.\n\
                    This list is made by `pepo generate`.\n\n\
                    | in the file | flag | environment | usual | what it is |\n|---|---|---|---|---|\n"
        .to_owned();
    for setting in SETTINGS {
        let usual = if setting.usual.is_empty() { String::new() } else { format!("`{}`", setting.usual) };
        let (key, variable, meaning) = (setting.key, setting.variable, setting.meaning);
        text += &format!("| `{key}` | `--{key}` | `{variable}` | {usual} | {meaning} |\n");
    }
    text
}

fn error_index() -> String {
    let mut text = "# Errors\n\nEach error has a code that never changes its meaning. This list is made by `pepo generate`.\n\n\
                    | code | what it means | exit status |\n|---|---|---|\n"
        .to_owned();
    for &code in Code::ALL {
        let title = told(code).first().copied().unwrap_or_default();
        text += &format!("| [{code}]({code}.md) | {title} | {} |\n", code.exit() as u8);
    }
    text
}

/// Every exit status but 0.
const EXITS: [Exit; 9] = [
    Exit::No,
    Exit::Usage,
    Exit::Target,
    Exit::Permission,
    Exit::Unreachable,
    Exit::Unsupported,
    Exit::Tool,
    Exit::Limit,
    Exit::Internal,
];

fn exit_meaning(exit: Exit) -> &'static str {
    match exit {
        Exit::No => "the answer is no: `pepo check` found something that will not work",
        Exit::Usage => "the command line was not understood",
        Exit::Target => "no target, or more than one, answers to the name",
        Exit::Permission => "a right is missing",
        Exit::Unreachable => "an engine, an agent or a stream could not be reached",
        Exit::Unsupported => "the target cannot be treated so",
        Exit::Tool => "a debugger is missing, too old, or failed",
        Exit::Limit => "time or a budget ran out, or the command was interrupted",
        Exit::Internal => "a fault inside Pepo",
    }
}

fn exit_codes() -> String {
    let mut text = "# Exit statuses\n\nOne table for all verbs, made by `pepo generate`.\n\n\
                    | status | meaning | codes |\n|---|---|---|\n| 0 | done | |\n"
        .to_owned();
    for exit in EXITS {
        let codes: Vec<_> = Code::ALL
            .iter()
            .filter(|code| code.exit() == exit)
            .map(|code| format!("[{code}](errors/{code}.md)"))
            .collect();
        text += &format!("| {} | {} | {} |\n", exit as u8, exit_meaning(exit), codes.join(" "));
    }
    text
}

fn reference() -> String {
    let mut command = arguments::command().term_width(100);
    command.build();
    let mut text = "# Reference\n\nMade by `pepo generate` from the command itself.\n".to_owned();
    text += &help("pepo", &mut command);
    for verb in command.get_subcommands_mut().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
    {
        text += &help(&format!("pepo {}", verb.get_name()), verb);
    }
    text + &terminal_words()
        + &attach_arguments()
        + &variables()
        + "\nExit statuses: [exit-codes.md](exit-codes.md). Errors: [errors](errors/README.md).\n"
}

/// What can be typed in `pepo attach` and behind `-ex`.
fn terminal_words() -> String {
    let mut text = "\n## Words of the debugger in the terminal\n\n| word | also | with | what it does |\n|---|---|---|---|\n".to_owned();
    for word in words::WORDS {
        let short: Vec<_> = word.short.iter().map(|short| format!("`{short}`")).collect();
        let usage = word.usage.replace('|', "\\|");
        text += &format!("| `{}` | {} | {usage} | {} |\n", word.word, short.join(" "), word.summary);
    }
    text
}

/// What an editor's attach request may say.
fn attach_arguments() -> String {
    let mut text =
        "\n## Arguments of an editor's attach request\n\n| name | value | meaning |\n|---|---|---|\n"
            .to_owned();
    for field in FIELDS {
        text += &format!("| `{}` | {} | {} |\n", field.name, field.kind, field.doc.trim());
    }
    text
}

/// The command's own variables and those of the platforms, each once, by name.
fn variables() -> String {
    let mut all: Vec<_> = environment::VARIABLES.iter().chain(pepo_platform::VARIABLES).collect();
    all.sort_by_key(|(name, _)| *name);
    all.dedup_by_key(|(name, _)| *name);
    let line = |(name, meaning): &&(&str, &str)| format!("| `{name}` | {} |\n", meaning.trim());
    let lines: String = all.iter().map(line).collect();
    let sockets: Vec<_> = pepo_platform::CRI_SOCKETS.iter().map(|path| format!("`{path}`")).collect();
    format!(
        "\n## Environment\n\n| variable | meaning |\n|---|---|\n{lines}\n\
         Without `--cri-socket` and `CONTAINER_RUNTIME_ENDPOINT` the first socket that is there is taken of {}.\n",
        sockets.join(", ")
    )
}

fn help(name: &str, command: &mut clap::Command) -> String {
    let help = command.render_long_help().to_string();
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    format!("\n## `{name}`\n\n```text\n{}\n```\n", lines.join("\n").trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_and_flag_has_words_of_help() {
        for verb in arguments::command().get_subcommands() {
            assert!(verb.get_about().is_some(), "{} has none", verb.get_name());
            for argument in verb.get_arguments().filter(|one| !one.is_hide_set()) {
                assert!(
                    argument.get_help().is_some(),
                    "{} of {} has none",
                    argument.get_id(),
                    verb.get_name()
                );
            }
            let examples = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(verb.is_hide_set() || examples.contains("pepo "), "{} has no example", verb.get_name());
        }
    }

    #[test]
    fn the_exit_statuses_cover_every_code() {
        assert!(Code::ALL.iter().all(|code| EXITS.contains(&code.exit())));
    }

    #[test]
    fn names_of_codes_are_words() {
        assert_eq!(spaced("NoDebugInfo"), "no debug info");
    }
}
