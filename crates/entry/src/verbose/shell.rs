//! Whether the program is a shell's, and how that shell is made to trace.
//!
//! bash is told by `BASH_ENV`, which its children inherit, and sets its prompt by itself (as root it takes none from the
//! environment). Every other shell gets `-x` on its command line and the prompt from the environment; for the shells
//! that those start there is no way.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Read,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

use super::wrapper;
use crate::program::Program;

/// What stands before each traced line of shells other than bash: script, and line if the shell knows it.
const PROMPT: &str = "+ ${0##*/}${LINENO:+:$LINENO}: ";

/// zsh has a language of its own for prompts: file and line, and the function (or what is sourced) below the script's own level.
const ZSH_PROMPT: &str = "+ %x:%I: %(1e|%N(): |)";

/// And in bash, which also knows the function.
const BASH_PROMPT: &str = "+ ${BASH_SOURCE-$0}:$LINENO: ${FUNCNAME:+$FUNCNAME(): }";

const SHELLS: [&str; 8] = ["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "ksh93"];

/// A program whose shell traces.
pub(super) struct Traced {
    /// The command line that does it.
    pub(super) program: Program,
    /// Which shell, and what it runs.
    pub(super) shell: String,
    /// Whether it can trace to where it is told.
    pub(super) anywhere: bool,
    /// What stands before each traced line.
    pub(super) prompt: &'static str,
}

/// As many wrappers are looked through.
const MOST_WRAPPERS: usize = 4;

/// The program with its shell traced, if it is a shell's: a script, or a shell with something to do; also behind programs that only
/// start it.
pub(super) fn trace(program: &Program, file: &Path) -> Option<Traced> {
    behind(program, file, MOST_WRAPPERS)
}

fn behind(program: &Program, file: &Path, wrappers: usize) -> Option<Traced> {
    if wrappers > 0
        && let Some(at) = wrapper::inner(&program.command)
    {
        let inner = program.other(program.command[at..].to_owned());
        let traced = behind(&inner, &inner.found()?, wrappers - 1)?;
        let command = [&program.command[..at], &traced.program.command].concat();
        return Some(Traced { program: program.run_by(command), ..traced });
    }
    let header = header(file);
    if let Some(header) = header {
        return script(program, file, &header);
    }
    let name = shell_name(program.name())?;
    let at = usize::from(name == "busybox");
    let applet = if at == 0 { name } else { shell_name(program.command.get(1)?)? };
    // A shell with no operands is a person's.
    let rest = program.command.get(at + 1..).filter(|rest| !rest.is_empty())?;
    let rest: Vec<_> = rest.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let by_settings = is_told_by_settings(applet, &rest, program);
    let mut command = program.command.clone();
    if !by_settings {
        // bash takes long flags only before the others.
        let long = rest.iter().take_while(|word| word.starts_with("--") && word.len() > 2);
        command.insert(at + 1 + long.count(), "-x".into());
    }
    traced(program, command, applet, "a command line", by_settings)
}

/// Whether a shell reads our settings: bash does, unless it is to trust no environment or to be a mere POSIX shell.
fn is_told_by_settings(shell: &str, flags: &[String], program: &Program) -> bool {
    let flags: Vec<_> = flags.iter().take_while(|word| word.starts_with(['-', '+'])).collect();
    let strict = flags.iter().any(|flag| match flag.strip_prefix('-') {
        Some(long) if long.starts_with('-') => long == "-posix",
        Some(letters) => letters.contains('p'),
        None => false,
    });
    // What `-o` takes is no flag, so it ends them.
    let option = flags.iter().any(|flag| !flag.starts_with("--") && flag.contains('o'));
    let posix = program.variable("POSIXLY_CORRECT").is_some();
    shell == "bash" && !strict && !option && !posix && rustix::process::getuid() == rustix::process::geteuid()
}

/// A script becomes what the kernel would make of its header, with `-x` before the script's name.
fn script(program: &Program, file: &Path, header: &[u8]) -> Option<Traced> {
    let (interpreter, argument) = match header.iter().position(u8::is_ascii_whitespace) {
        None => (header, None),
        Some(at) => (&header[..at], Some(header[at..].trim_ascii()).filter(|rest| !rest.is_empty())),
    };
    let interpreter = OsString::from_vec(interpreter.to_owned());
    let argument = argument.map(|argument| OsString::from_vec(argument.to_owned()));
    let shell = shell_of(&interpreter, argument.as_deref())?;
    let words = argument.as_deref().unwrap_or_default().to_string_lossy();
    let mut flags = words.split_ascii_whitespace().map(str::to_owned).peekable();
    // What stands before the shell is for who starts it.
    let is_direct = shell_name(&interpreter).is_some_and(|name| name != "busybox");
    while !is_direct && flags.next().is_some_and(|word| shell_name(OsStr::new(&word)).is_none()) {}
    let by_settings = is_told_by_settings(&shell, &flags.collect::<Vec<_>>(), program);
    let mut command = vec![interpreter];
    command.extend(argument);
    if !by_settings {
        let one_word = command.get(1).is_some_and(|word| word.as_bytes().starts_with(b"-S"));
        match command.last_mut().filter(|_| one_word) {
            Some(word) => word.push(" -x"),
            None => command.push("-x".into()),
        }
    }
    command.push(file.as_os_str().to_owned());
    command.extend(program.command.iter().skip(1).cloned());
    traced(program, command, &shell, &file.display().to_string(), by_settings)
}

fn traced(
    program: &Program,
    command: Vec<OsString>,
    shell: &str,
    what: &str,
    anywhere: bool,
) -> Option<Traced> {
    Some(Traced {
        program: program.run_by(command),
        shell: format!("{shell} ({what})"),
        anywhere,
        prompt: if shell == "zsh" { ZSH_PROMPT } else { PROMPT },
    })
}

/// The shell that a header names: directly, through `env`, or as busybox's.
fn shell_of(interpreter: &OsStr, argument: Option<&OsStr>) -> Option<String> {
    let name = Path::new(interpreter).file_name()?;
    if name != "env" && name != "busybox" {
        return shell_name(interpreter).map(str::to_owned);
    }
    let words = argument?.to_str()?.trim_start_matches("-S").split_ascii_whitespace();
    let mut words = words.skip_while(|word| word.starts_with('-') || word.contains('='));
    shell_name(OsStr::new(words.next()?)).filter(|name| *name != "busybox").map(str::to_owned)
}

/// The name of a shell, or of busybox, which may be one.
fn shell_name(path: &OsStr) -> Option<&str> {
    let name = Path::new(path).file_name()?.to_str()?;
    (name == "busybox" || SHELLS.contains(&name)).then_some(name)
}

/// The line after `#!`, if the file begins so. As the kernel, we look at 256 bytes.
fn header(file: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file).ok()?.take(256).read_to_end(&mut bytes).ok()?;
    let line = bytes.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    Some(line.trim_ascii().to_owned()).filter(|line| !line.is_empty())
}

/// What each bash reads before its script: what it would have read without us, then our settings.
pub(super) fn bash_settings(sink: Option<i32>, before: Option<&OsStr>) -> String {
    let before = before.and_then(OsStr::to_str).filter(|before| !before.is_empty());
    let before = before.map(|before| format!("[ -r \"{before}\" ] && . \"{before}\"\n"));
    let sink = sink.map(|number| format!("BASH_XTRACEFD={number}\n"));
    // A shell that traces already does not show these lines.
    format!(
        "{{ set +x; }} 2>/dev/null\n{}{}PS4='{BASH_PROMPT}'\nset -x\n",
        before.unwrap_or_default(),
        sink.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a command line, with a script of this header as its program.
    fn of(header: Option<&str>, line: &str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, header.map_or("\x7fELF".to_owned(), |header| format!("#!{header}\n"))).unwrap();
        let program = Program::new(line.split(' ').map(OsString::from).collect(), Vec::new());
        let traced = trace(&program, &file)?;
        let line = traced.program.command.join(OsStr::new("|")).into_string().unwrap();
        Some(line.replace(file.to_str().unwrap(), "FILE"))
    }

    #[test]
    fn scripts_are_traced_as_the_kernel_would_run_them() {
        for (header, expected) in [
            ("/bin/sh", "/bin/sh|-x|FILE|a"),
            (" /bin/sh -e", "/bin/sh|-e|-x|FILE|a"),
            ("/bin/bash -eu", "/bin/bash|-eu|FILE|a"),
            ("/usr/bin/env bash", "/usr/bin/env|bash|FILE|a"),
            ("/usr/bin/env dash", "/usr/bin/env|dash|-x|FILE|a"),
            ("/usr/bin/env -S A=b sh -e", "/usr/bin/env|-S A=b sh -e -x|FILE|a"),
            ("/bin/busybox sh", "/bin/busybox|sh|-x|FILE|a"),
            ("/bin/bash -p", "/bin/bash|-p|-x|FILE|a"),
            ("/bin/bash --posix", "/bin/bash|--posix|-x|FILE|a"),
            ("/usr/bin/env -S bash -eup", "/usr/bin/env|-S bash -eup -x|FILE|a"),
        ] {
            assert_eq!(of(Some(header), "prog a").as_deref(), Some(expected), "{header}");
        }
        for header in ["/usr/bin/python3", "/usr/bin/env python3", "/bin/busybox awk -f"] {
            assert_eq!(of(Some(header), "prog a"), None, "{header}");
        }
    }

    #[test]
    fn command_lines_of_shells_are_traced() {
        assert_eq!(of(None, "sh -c x").as_deref(), Some("sh|-x|-c|x"));
        assert_eq!(of(None, "/bin/busybox ash s").as_deref(), Some("/bin/busybox|ash|-x|s"));
        assert_eq!(of(None, "bash -c x").as_deref(), Some("bash|-c|x"));
        assert_eq!(of(None, "bash --posix -c x").as_deref(), Some("bash|--posix|-x|-c|x"));
        assert_eq!(of(None, "bash -pc x").as_deref(), Some("bash|-x|-pc|x"));
        assert_eq!(
            of(None, "tini -- nice /bin/dash -c x").as_deref(),
            Some("tini|--|nice|/bin/dash|-x|-c|x")
        );
        for line in ["sh", "python3 x", "busybox ls x", "busybox sh"] {
            assert_eq!(of(None, line), None, "{line}");
        }
    }
}
