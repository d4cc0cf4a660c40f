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

use crate::program::Program;

/// What stands before each traced line of shells other than bash: script, and line if the shell knows it.
const PROMPT: &str = "+ ${0##*/}${LINENO:+:$LINENO}: ";

/// zsh has a language of its own for prompts: script or function, and line.
const ZSH_PROMPT: &str = "+ %N:%i: ";

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

/// The program with its shell traced, if it is a shell's: a script, or a shell with something to do.
pub(super) fn trace(program: &Program, file: &Path) -> Option<Traced> {
    let header = header(file);
    if let Some(header) = header {
        return script(program, file, &header);
    }
    let name = shell_name(program.name())?;
    let at = usize::from(name == "busybox");
    let applet = if at == 0 { name } else { shell_name(program.command.get(1)?)? };
    // A shell with no operands is a person's.
    program.command.get(at + 1)?;
    let command = switched_on(applet, &program.command, at + 1);
    traced(program, command, applet, "a command line")
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
    let mut command = vec![interpreter];
    command.extend(argument);
    if shell != "bash" {
        let one_word = command.get(1).is_some_and(|word| word.as_bytes().starts_with(b"-S"));
        match command.last_mut().filter(|_| one_word) {
            Some(word) => word.push(" -x"),
            None => command.push("-x".into()),
        }
    }
    command.push(file.as_os_str().to_owned());
    command.extend(program.command.iter().skip(1).cloned());
    traced(program, command, &shell, &file.display().to_string())
}

fn traced(program: &Program, command: Vec<OsString>, shell: &str, what: &str) -> Option<Traced> {
    let environment = program.environment.clone();
    Some(Traced {
        program: Program::new(command, environment),
        shell: format!("{shell} ({what})"),
        anywhere: shell == "bash",
        prompt: if shell == "zsh" { ZSH_PROMPT } else { PROMPT },
    })
}

/// The command line with `-x` at this place, where the shell needs that.
fn switched_on(shell: &str, command: &[OsString], at: usize) -> Vec<OsString> {
    let mut command = command.to_owned();
    if shell != "bash" {
        command.insert(at, "-x".into());
    }
    command
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
    format!("{}{}PS4='{BASH_PROMPT}'\nset -x\n", before.unwrap_or_default(), sink.unwrap_or_default())
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
        for line in ["sh", "python3 x", "busybox ls x", "busybox sh"] {
            assert_eq!(of(None, line), None, "{line}");
        }
    }
}
