//! A few tools for images that have none: enough to look around in a held container.

/// Files, and how full they are on what they lie.
mod list;

use std::{
    fs,
    io::{self, IsTerminal, Read, Write},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::{
    arguments::Flags,
    exit::Fault,
    init::{Ended, Init},
    program::Program,
    tell,
    verbose::facts,
};

const HELP: &str = "\
ls [-la] [PATH]  what is in folders, or about files; ls --help tells more
cat FILE...      what is in files
df [PATH]        how full what is mounted is
id               user, rights, limits, memory, mounts
env              the environment
ps               all processes
cd [FOLDER]      another working folder; pwd says which
run COMMAND ...  a program of the image, in the foreground
exit [STATUS]    leave
";

/// Reads commands until the end of standard input; the last one's status. Another root is entered first.
pub(crate) fn run(root: Option<&Path>) -> u8 {
    let entered = root.map_or(Ok(()), enter);
    let flags = Flags::default();
    let begun = entered.and_then(|()| Init::new(&flags).map_err(told_of));
    let ended = begun.and_then(|init| {
        let mut tools = Tools { init, prompt: io::stdin().is_terminal(), status: 0, leaves: false };
        tools.read().map(|()| tools.status)
    });
    ended.unwrap_or_else(|what| {
        tell::line(what);
        1
    })
}

fn told_of(fault: Fault) -> String {
    fault.to_string()
}

/// Commands are read, and done, with all signals blocked: one that arrives is either ours, or the program's that is run, never lost
/// between the two.
struct Tools<'a> {
    init: Init<'a>,
    prompt: bool,
    /// Of the last command.
    status: u8,
    leaves: bool,
}

impl Tools<'_> {
    fn read(&mut self) -> Result<(), String> {
        if self.prompt {
            tell::show("a few tools; help lists them\n");
        }
        while !self.leaves {
            if self.prompt {
                let folder = working().map(|folder| folder.display().to_string()).unwrap_or_default();
                tell::show(&format!("{folder} $ "));
            }
            let Some(line) = self.line()? else { continue };
            let words = split(&String::from_utf8_lossy(&line));
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            if let ["exit", rest @ ..] = words.as_slice() {
                self.leave(rest.first().and_then(|status| status.parse().ok()).unwrap_or(self.status));
                continue;
            }
            let status = self.command(&words).unwrap_or_else(|what| {
                tell::line(what);
                1
            });
            if !self.leaves {
                self.status = status;
            }
        }
        Ok(())
    }

    fn leave(&mut self, status: u8) {
        (self.leaves, self.status) = (true, status);
    }

    /// The next line; none if Ctrl-C took it back, or it is time to leave. What follows it is left for the program that it runs.
    fn line(&mut self) -> Result<Option<Vec<u8>>, String> {
        let mut line = Vec::new();
        loop {
            let ready = self.init.wait(&[io::stdin().as_fd()], None).map_err(told_of)?;
            if self.interrupted()? {
                tell::show("\n");
                return Ok(None);
            }
            let mut byte = [0];
            match ready.then(|| rustix::io::read(io::stdin(), &mut byte)) {
                None | Some(Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN)) => {}
                Some(Ok(1)) if byte == *b"\n" => return Ok(Some(line)),
                Some(Ok(1)) => line.extend(byte),
                Some(_) if line.is_empty() => {
                    self.leave(self.status);
                    return Ok(None);
                }
                Some(_) => return Ok(Some(line)),
            }
        }
    }

    /// Whether somebody pressed Ctrl-C, or wants us to leave, since this was asked last.
    fn interrupted(&mut self) -> Result<bool, String> {
        let mut interrupted = false;
        while let Some(arrived) = self.init.arrived().map_err(told_of)? {
            match arrived.signal {
                libc::SIGINT if self.prompt => interrupted = true,
                libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT => {
                    self.leave(Ended::Killed { signal: arrived.signal, core: false }.status());
                }
                _ => {}
            }
        }
        Ok(interrupted || self.leaves)
    }

    fn command(&mut self, words: &[&str]) -> Result<u8, String> {
        match words {
            [] => {}
            ["help"] => tell::show(HELP),
            ["ls", words @ ..] => return list::list(words),
            ["df", paths @ ..] => return list::free(paths, &mounts()),
            ["id"] => facts::lines().iter().for_each(|line| tell::show(&format!("{line}\n"))),
            ["cat"] => return Err("cat: of which file? cat FILE...".to_owned()),
            ["cat", files @ ..] => return self.cats(files),
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
            ["run", line @ ..] if !line.is_empty() => return self.program(line),
            [other, ..] => {
                return Err(format!(
                    "{other}: not one of ours; run {other} starts a program, help lists the tools"
                ));
            }
        }
        Ok(0)
    }

    /// Runs a program of the image as its init would.
    fn program(&mut self, line: &[&str]) -> Result<u8, String> {
        let program = Program::new(line.iter().map(Into::into).collect(), std::env::vars_os().collect());
        let status = self.init.run(&program).map_err(told_of);
        self.init.take_terminal();
        status
    }

    /// One that can't be read does not keep from the others.
    fn cats(&mut self, files: &[&str]) -> Result<u8, String> {
        let mut status = 0;
        for file in files {
            match self.cat(file) {
                Ok(true) => {}
                Ok(false) => return Err(format!("cat: {file}: interrupted")),
                Err(what) => {
                    tell::line(what);
                    status = 1;
                }
            }
        }
        Ok(status)
    }

    /// False if it was interrupted.
    fn cat(&mut self, file: &str) -> Result<bool, String> {
        let failed = |error: io::Error| format!("cat: {file}: {error}");
        let mut bytes = [0; 64 * 1024];
        let mut source = fs::File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(below(file))
            .map_err(failed)?;
        loop {
            let ready = self.init.wait(&[source.as_fd()], None).map_err(told_of)?;
            if self.interrupted()? {
                return Ok(false);
            }
            match ready.then(|| source.read(&mut bytes)) {
                Some(Ok(0)) => return Ok(true),
                Some(Ok(count)) => io::stdout().write_all(&bytes[..count]).map_err(failed)?,
                Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Err(failed(error)),
                _ => {}
            }
        }
    }
}

/// Where paths begin, if we may not make it our root.
static ROOT: OnceLock<PathBuf> = OnceLock::new();

/// What is mounted in another root.
static MOUNTS: OnceLock<String> = OnceLock::new();

/// What is mounted, as mountinfo has it.
fn mounts() -> String {
    let own = || String::from_utf8_lossy(&fs::read("/proc/self/mountinfo").unwrap_or_default()).into_owned();
    MOUNTS.get().filter(|mounts| !mounts.is_empty()).cloned().unwrap_or_else(own)
}

/// Takes another root; without the right to, what is named is looked for below it.
fn enter(root: &Path) -> Result<(), String> {
    let failed = |error| format!("{} cannot be entered: {error}", root.display());
    // Of the process whose root it is: what is mounted there is not what is mounted for us.
    let beside = fs::read(root.with_file_name("mountinfo")).unwrap_or_default();
    let _ = MOUNTS.set(String::from_utf8_lossy(&beside).into_owned());
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

fn processes() -> Result<(), String> {
    let entries = fs::read_dir("/proc").map_err(|error| format!("ps: /proc: {error}"))?;
    let mut pids: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    tell::show("    PID   PPID S  USER     MEMORY COMMAND\n");
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
        // What has no memory of its own is a thread of the kernel.
        let memory = field("VmRSS").split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        let memory = facts::size(memory * 1024);
        let user = field("Uid").split_whitespace().nth(1).unwrap_or_default();
        tell::show(&format!(
            "{pid:>7} {:>6} {state} {user:>5} {memory:>10} {}\n",
            field("PPid"),
            line.escape_debug()
        ));
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
