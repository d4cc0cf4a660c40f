//! A few tools for images that have none: enough to look around in a held container.

use std::{
    fs,
    io::{self, BufRead, IsTerminal, Read, Write},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::{init::Init, program::Program, sys, tell};

const HELP: &str = "\
ls [PATH]        what is in a folder, or about a file
cat FILE...      what is in files
env              the environment
ps               all processes
cd [FOLDER]      another working folder; pwd says which
run COMMAND ...  a program of the image, in the foreground
exit [STATUS]    leave
";

/// Reads commands until the end of standard input; the last one's status. Another root is entered first.
pub(crate) fn run(root: Option<&Path>) -> u8 {
    if let Some(root) = root
        && let Err(what) = enter(root)
    {
        tell::line(what);
        return 1;
    }
    let prompt = io::stdin().is_terminal();
    if prompt {
        tell::show("a few tools; help lists them\n");
        if let Err(error) = sys::prompt_at_interrupts() {
            tell::line(format!("Ctrl-C leaves: {error}"));
        }
    }
    let mut status = 0;
    let mut lines = io::stdin().lock();
    loop {
        if prompt {
            let folder = working().map(|folder| folder.display().to_string()).unwrap_or_default();
            tell::show(&format!("{folder} $ "));
        }
        let mut line = Vec::new();
        match lines.read_until(b'\n', &mut line) {
            Ok(1..) => {}
            _ => return status,
        }
        let words = split(&String::from_utf8_lossy(&line));
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        if let ["exit", rest @ ..] = words.as_slice() {
            return rest.first().and_then(|status| status.parse().ok()).unwrap_or(status);
        }
        status = match command(&words) {
            Ok(status) => status,
            Err(what) => {
                tell::line(what);
                1
            }
        };
    }
}

/// Where paths begin, if we may not make it our root.
static ROOT: OnceLock<PathBuf> = OnceLock::new();

/// Takes another root; without the right to, what is named is looked for below it.
fn enter(root: &Path) -> Result<(), String> {
    let failed = |error| format!("{} cannot be entered: {error}", root.display());
    std::env::set_current_dir(root).map_err(failed)?;
    match rustix::process::chroot(".") {
        Err(rustix::io::Errno::PERM) => drop(ROOT.set(root.to_owned())),
        entered => entered.map_err(|error| failed(error.into()))?,
    }
    Ok(())
}

/// The path of what is named so. A link that is absolute leads out of a root that is not ours.
fn below(path: &str) -> PathBuf {
    match ROOT.get() {
        Some(root) if path.starts_with('/') => root.join(path.trim_start_matches('/')),
        _ => PathBuf::from(path),
    }
}

/// The working folder, as it is named. In another mount namespace getcwd(2) does not reach it, and the kernel's own link tells it.
fn working() -> io::Result<PathBuf> {
    let folder = match ROOT.get() {
        Some(_) => fs::read_link("/proc/self/cwd")?,
        None => std::env::current_dir()?,
    };
    let inside = ROOT.get().and_then(|root| folder.strip_prefix(root).ok());
    Ok(inside.map_or_else(|| folder.clone(), |inside| Path::new("/").join(inside)))
}

fn command(words: &[&str]) -> Result<u8, String> {
    match words {
        [] => {}
        ["help"] => tell::show(HELP),
        ["ls"] => list(".")?,
        ["ls", paths @ ..] => paths.iter().try_for_each(|path| list(path))?,
        ["cat", files @ ..] => files.iter().try_for_each(|file| cat(file))?,
        ["env"] => std::env::vars_os().for_each(|(name, value)| {
            tell::show(&format!("{}={}\n", name.display(), value.display()));
        }),
        ["ps"] => processes()?,
        ["pwd"] => {
            let folder = working().map_err(|error| format!("pwd: {error}"))?;
            tell::show(&format!("{}\n", folder.display()));
        }
        ["cd", rest @ ..] => {
            let folder = rest.first().unwrap_or(&"/");
            std::env::set_current_dir(below(folder)).map_err(|error| format!("cd: {folder}: {error}"))?;
        }
        ["run", line @ ..] if !line.is_empty() => return program(line),
        [other, ..] => {
            return Err(format!(
                "{other}: not one of ours; run {other} starts a program, help lists the tools"
            ));
        }
    }
    Ok(0)
}

/// Runs a program of the image as its init would.
fn program(line: &[&str]) -> Result<u8, String> {
    let flags = crate::arguments::Flags::default();
    let program = Program::new(line.iter().map(Into::into).collect(), std::env::vars_os().collect());
    let told = |fault: crate::exit::Fault| fault.to_string();
    let mut init = Init::new(&flags).map_err(told)?;
    let status = init.run(&program).map_err(told);
    init.take_terminal();
    init.let_signals_in().map_err(|error| format!("signals stay blocked: {error}"))?;
    status
}

fn list(path: &str) -> Result<(), String> {
    let failed = |error: io::Error| format!("ls: {path}: {error}");
    let real = below(path);
    let metadata = fs::symlink_metadata(&real).map_err(failed)?;
    if !metadata.is_dir() {
        tell::show(&told(&real, &metadata, path));
        return Ok(());
    }
    let entries = fs::read_dir(real).map_err(failed)?.collect::<io::Result<Vec<_>>>().map_err(failed)?;
    let mut lines: Vec<_> = entries
        .iter()
        .filter_map(|entry| {
            let metadata = fs::symlink_metadata(entry.path()).ok()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Some((name.clone(), told(&entry.path(), &metadata, &name)))
        })
        .collect();
    lines.sort();
    lines.iter().for_each(|(_, line)| tell::show(line));
    Ok(())
}

/// `drwxr-xr-x  0:0  4096 name`.
fn told(path: &Path, metadata: &fs::Metadata, name: &str) -> String {
    let kind = metadata.file_type();
    let letter = match kind {
        _ if kind.is_dir() => 'd',
        _ if kind.is_symlink() => 'l',
        _ if kind.is_block_device() => 'b',
        _ if kind.is_char_device() => 'c',
        _ if kind.is_fifo() => 'p',
        _ if kind.is_socket() => 's',
        _ => '-',
    };
    let mode = metadata.mode();
    let bits: String =
        (0..9).rev().map(|bit| if mode >> bit & 1 == 1 { ['x', 'w', 'r'][bit % 3] } else { '-' }).collect();
    let link = fs::read_link(path).map(|link| format!(" -> {}", link.display())).unwrap_or_default();
    let owner = format!("{}:{}", metadata.uid(), metadata.gid());
    format!("{letter}{bits} {owner:>9} {:>12} {}{link}\n", metadata.len(), name.escape_debug())
}

fn cat(file: &str) -> Result<(), String> {
    let failed = |error: io::Error| format!("cat: {file}: {error}");
    let mut bytes = [0; 64 * 1024];
    let mut source = fs::File::open(below(file)).map_err(failed)?;
    loop {
        let count = source.read(&mut bytes).map_err(failed)?;
        if count == 0 {
            return Ok(());
        }
        io::stdout().write_all(&bytes[..count]).map_err(failed)?;
    }
}

fn processes() -> Result<(), String> {
    let entries = fs::read_dir("/proc").map_err(|error| format!("ps: /proc: {error}"))?;
    let mut pids: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    tell::show("    PID S  USER COMMAND\n");
    for pid in pids {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).ok();
        let (Some(status), Some(line)) = (read("status"), read("cmdline")) else { continue };
        let status = String::from_utf8_lossy(&status).into_owned();
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .unwrap_or_default()
                .trim()
        };
        let line = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
        let line = if line.is_empty() { format!("[{}]", field("Name")) } else { line };
        let state: String = field("State").chars().take(1).collect();
        let user = field("Uid").split_whitespace().nth(1).unwrap_or_default();
        tell::show(&format!("{pid:>7} {state} {user:>5} {}\n", line.escape_debug()));
    }
    Ok(())
}

/// Words, with quotes and backslashes as in a shell.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut open, mut quote) = (String::new(), false, None);
    let mut letters = line.trim().chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            (letter, Some(end)) if letter == end => quote = None,
            ('\'' | '"', None) => (quote, open) = (Some(letter), true),
            ('\\', None | Some('"')) => {
                word.extend(letters.next());
                open = true;
            }
            (blank, None) if blank.is_whitespace() => {
                if open {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            (letter, _) => {
                word.push(letter);
                open = true;
            }
        }
    }
    if open {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_words() {
        for (line, expected) in [
            ("ls  /a b", vec!["ls", "/a", "b"]),
            ("run 'a b' \"c 'd\" e\\ f ''", vec!["run", "a b", "c 'd", "e f", ""]),
            ("   ", vec![]),
        ] {
            assert_eq!(split(line), expected, "{line}");
        }
    }
}
