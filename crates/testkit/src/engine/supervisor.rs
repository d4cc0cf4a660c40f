//! The helper process above each engine (`support/supervise.rs`): namespaces, start, restart, and the end of
//! everything when this process ends, however it ends.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};

use crate::{isolated::support, programs::command, wait};

/// Before any engine: private `/etc` and `/var/lib` (what is written there stays in the engine's folder), an
/// empty `/run`, and a network of its own with a loopback. `$0` is the engine's folder.
const SETUP: &str = "
for place in etc var/lib; do
    mkdir -p \"$FOLDER/own/$place/upper\" \"$FOLDER/own/$place/work\"
    mount -t overlay overlay -o \"lowerdir=/$place,upperdir=$FOLDER/own/$place/upper,workdir=$FOLDER/own/$place/work\" /$place
done
mount -t tmpfs -o mode=755 tmpfs /run
ip link set lo up
";

/// A running supervisor.
pub(super) struct Supervisor {
    folder: PathBuf,
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    daemon: u32,
}

/// A number that no other engine, container or folder of this machine's tests has.
pub(super) fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Makes the folder of a new engine; the supervisor removes it. Its name is also that of its control groups.
pub(super) fn folder(engine: &str) -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("pepo-test-{engine}-{}", unique()));
    fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
    Ok(folder)
}

/// The control group below which an engine's containers are put, from the top.
pub(super) fn cgroup(folder: &Path) -> String {
    format!("/{}", folder.file_name().expect("made by folder()").to_string_lossy())
}

impl Supervisor {
    /// Starts `daemon` (a command line) after the shell script `setup`, for which `$FOLDER` is the folder.
    pub(super) fn start(folder: &Path, setup: &str, daemon: &[String]) -> Result<Supervisor> {
        let log = fs::File::create(folder.join("supervise.log"))?;
        let mut child = command(support("supervise"))
            .arg(folder)
            .arg(cgroup(folder).trim_start_matches('/'))
            .arg(format!("{SETUP}{setup}"))
            .args(daemon)
            .env("FOLDER", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("the supervisor does not start")?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("it has an output")?);
        let mut supervisor = Supervisor { folder: folder.to_owned(), child, orders, answers, daemon: 0 };
        supervisor.read_pid().with_context(|| supervisor.log())?;
        Ok(supervisor)
    }

    pub(super) fn daemon(&self) -> u32 {
        self.daemon
    }

    /// The supervisor's own process id: it stays in the engine's namespaces while daemons come and go.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last lines of what supervisor and daemon say.
    pub(super) fn log(&self) -> String {
        let texts = ["supervise.log", "daemon.log"].map(|name| {
            let mut bytes = Vec::new();
            let file = fs::File::open(self.folder.join(name)).ok();
            let _ = file.map(|mut file| file.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let lines: Vec<_> = texts.iter().flat_map(|text| text.lines()).collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Ends the daemon by `restart` or `kill` and starts it again.
    pub(super) fn again(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("an ended engine is not restarted");
        let told = writeln!(orders, "{order}").map_err(anyhow::Error::from);
        told.and_then(|()| self.read_pid()).unwrap_or_else(|error| panic!("{error:#}\n{}", self.log()));
    }

    /// Ends the daemon and every descendant, and waits for the end.
    pub(super) fn end(&mut self) {
        drop(self.orders.take());
        let ended = || match self.child.try_wait() {
            Ok(None) => Err(()),
            _ => Ok(()),
        };
        // If it takes longer, it still ends by itself.
        let _ = wait::try_until(Duration::from_secs(30), ended);
    }

    fn read_pid(&mut self) -> Result<()> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let pid = line.trim().strip_prefix("pid ").and_then(|pid| pid.parse().ok());
        self.daemon = pid.ok_or_else(|| anyhow!("the supervisor said {line:?}"))?;
        Ok(())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.end();
    }
}
