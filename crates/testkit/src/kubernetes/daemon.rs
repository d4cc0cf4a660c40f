//! One program of a cluster: how it is started, in a control group of its own, and what it said when it ended.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{groups, place::Place};
use crate::{programs, wait};

/// Enters its control group before it becomes the daemon, so that no moment is left in which nobody would find it.
/// `setsid`: the terminal's Ctrl-C is not for it.
const ENTER: &str = "echo $$ >\"$0\" && exec setsid \"$@\"";

/// A command of the cluster, whoever starts it: with the folders of root's programs in its PATH, and none of this machine's
/// proxies between the cluster's parts.
pub(super) fn plain(program: impl AsRef<OsStr>) -> Command {
    let mut command = programs::command(program);
    let path = env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).env("NO_PROXY", "*").env("no_proxy", "*");
    command
}

/// A program of the cluster, as data.
pub(super) struct Daemon {
    /// Its name; on a node, `node1/kubelet`. Its log and its control group are named like it.
    pub(super) name: String,
    /// What is typed.
    pub(super) line: Vec<OsString>,
}

impl Daemon {
    pub(super) fn new(name: &str, program: impl AsRef<Path>, arguments: &[String]) -> Daemon {
        let program = program.as_ref().as_os_str().to_owned();
        let line = std::iter::once(program).chain(arguments.iter().map(OsString::from)).collect();
        Daemon { name: name.to_owned(), line }
    }

    /// Starts it; it goes on when this process ends.
    pub(super) fn start(&self, place: &Place) -> Result<Started> {
        let path = place.log(&self.name);
        let log = File::options().create(true).append(true).open(&path)?;
        let mut command = plain("sh");
        command.args(["-c", ENTER]).arg(place.groups().door(&self.name)?).args(&self.line);
        let child = command.stdout(log.try_clone()?).stderr(log).spawn();
        let child = child.with_context(|| format!("{} does not start", self.name))?;
        Ok(Started { name: self.name.clone(), log: path, child })
    }

    /// Its processes, without those that it has started.
    pub(super) fn processes(&self, place: &Place) -> Vec<u32> {
        let own = |pid: &u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            // The kernel keeps 15 bytes of a name.
            name.trim_end() == self.program().get(..15).unwrap_or(self.program())
        };
        place.groups().of(&self.name).into_iter().filter(own).collect()
    }

    /// Kills it and waits for its end; what it has started runs on.
    pub(super) fn kill(&self, place: &Place) -> Result<()> {
        let ended = wait::try_until(Duration::from_secs(10), || {
            let left = self.processes(place);
            groups::kill(&left);
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
        ended.map_err(|left| anyhow::anyhow!("{} does not end: {left:?}", self.name))
    }

    fn program(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }
}

/// A daemon that was just started.
pub(super) struct Started {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Started {
    /// Fails, with the end of its log, if it has ended.
    pub(super) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status})\n{}", self.name, end_of(&self.log)),
        }
    }
}

/// Looks until `look` gives a value, as long as all of `daemons` live.
pub(super) fn until<T>(
    what: &str,
    limit: Duration,
    daemons: &mut [Started],
    mut look: impl FnMut() -> Result<T>,
) -> Result<T> {
    let found = wait::try_until(limit, || {
        let dead = daemons.iter_mut().find_map(|daemon| daemon.check().err());
        match dead {
            Some(dead) => Ok(Err(dead)),
            None => look().map(Ok),
        }
    });
    match found {
        Ok(result) => result,
        Err(last) => {
            let logs = daemons.last().map(|daemon| end_of(&daemon.log)).unwrap_or_default();
            Err(last.context(format!("{what}: not within {limit:?}\n{logs}")))
        }
    }
}

/// The last lines of a log, and where the rest is.
pub(super) fn end_of(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    format!("the end of {}:\n{}", log.display(), lines[lines.len().saturating_sub(15)..].join("\n"))
}
