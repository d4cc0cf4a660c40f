//! What is run: looked up as `execvp` would, with its arguments and environment.

use std::{
    ffi::{CString, OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use crate::{
    exit::{Exit, Fault},
    sys::Exec,
};

/// Where programs are when there is no PATH, as in musl and glibc.
const DEFAULT_PATH: &str = "/usr/local/bin:/bin:/usr/bin";

/// A program with its arguments and environment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Program {
    /// Its name as it was given, then its arguments.
    pub(crate) command: Vec<OsString>,
    /// Its environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// What the user named, if that is run by another program.
    title: Option<OsString>,
}

impl Program {
    /// `command` has at least one word.
    pub(crate) fn new(command: Vec<OsString>, environment: Vec<(OsString, OsString)>) -> Program {
        Program { command, environment, title: None }
    }

    /// The program as it was named.
    pub(crate) fn name(&self) -> &OsStr {
        self.command.first().map_or(OsStr::new(""), OsString::as_os_str)
    }

    /// The program as its user knows it.
    pub(crate) fn title(&self) -> &OsStr {
        self.title.as_deref().unwrap_or(self.name())
    }

    /// The same program, run by this command line.
    pub(crate) fn run_by(&self, command: Vec<OsString>) -> Program {
        Program { command, environment: self.environment.clone(), title: Some(self.title().to_owned()) }
    }

    /// Another program in the same environment.
    pub(crate) fn other(&self, command: Vec<OsString>) -> Program {
        Program::new(command, self.environment.clone())
    }

    /// The value of a variable.
    pub(crate) fn variable(&self, name: &str) -> Option<&OsStr> {
        let found = self.environment.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_os_str())
    }

    /// The files that may be it, in order: itself if it has a slash, else below each folder of PATH.
    pub(crate) fn candidates(&self) -> Vec<PathBuf> {
        let name = self.name();
        if name.is_empty() {
            return Vec::new();
        }
        if name.as_bytes().contains(&b'/') {
            return vec![PathBuf::from(name)];
        }
        let path = self.variable("PATH").unwrap_or(OsStr::new(DEFAULT_PATH));
        let folders = path.as_bytes().split(|byte| *byte == b':').map(|folder| match folder {
            [] => Path::new("."),
            folder => Path::new(OsStr::from_bytes(folder)),
        });
        folders.map(|folder| folder.join(name)).collect()
    }

    /// The first of them that is a file which may be run.
    pub(crate) fn found(&self) -> Option<PathBuf> {
        let runs =
            |file: &PathBuf| file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok();
        self.candidates().into_iter().find(runs)
    }

    /// Sets a variable.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.into(), value.into()));
    }

    /// Makes runtimes that debuggers enter by a port wait for them there: before the first line of the user's code.
    pub(crate) fn wait_for_debuggers(&mut self) {
        let name = Path::new(self.name()).file_name().unwrap_or_default().to_owned();
        let (variable, value) = match name.as_bytes() {
            b"node" | b"nodejs" => ("NODE_OPTIONS", "--inspect-brk=127.0.0.1:9229"),
            b"java" => (
                "JAVA_TOOL_OPTIONS",
                "-agentlib:jdwp=transport=dt_socket,server=y,suspend=y,address=127.0.0.1:5005",
            ),
            _ => return,
        };
        let mut options = self.variable(variable).map(ToOwned::to_owned).unwrap_or_default();
        if !options.is_empty() {
            options.push(" ");
        }
        options.push(value);
        self.set(variable, options);
    }

    /// All that `exec` needs.
    pub(crate) fn exec(&self) -> Result<Exec, Fault> {
        let candidates = self.candidates().into_iter().map(|path| c(path.into_os_string()));
        let arguments = self.command.iter().cloned().map(c);
        let environment = self.environment.iter().map(|(name, value)| {
            let mut pair = name.clone();
            pair.push("=");
            pair.push(value);
            c(pair)
        });
        Ok(Exec::new(
            candidates.collect::<Result<_, _>>()?,
            arguments.collect::<Result<_, _>>()?,
            environment.collect::<Result<_, _>>()?,
        ))
    }
}

/// The kernel gave us these strings, so they end where C's end.
fn c(text: OsString) -> Result<CString, Fault> {
    CString::new(text.into_vec()).map_err(|_| Fault::new(Exit::Internal, "a word has a zero byte in it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(name: &str, path: Option<&str>) -> Vec<String> {
        let environment = path.map(|path| ("PATH".into(), path.into())).into_iter().collect();
        let program = Program::new(vec![name.into()], environment);
        program.candidates().into_iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn programs_are_looked_up_as_execvp_does() {
        assert_eq!(candidates("x", Some("/a:/b")), ["/a/x", "/b/x"]);
        assert_eq!(candidates("x", Some(":/b")), ["./x", "/b/x"]);
        assert_eq!(candidates("./x", Some("/a")), ["./x"]);
        assert_eq!(candidates("x", None), ["/usr/local/bin/x", "/bin/x", "/usr/bin/x"]);
        assert!(candidates("", Some("/a")).is_empty());
    }
}
