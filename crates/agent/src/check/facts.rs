//! What the rules look at, read once.

use pepo_debug::{
    debugger::{self, Debugger},
    tools::{Entry, Tool, Tools, catalog},
};
use pepo_look::Timer;
use pepo_process::{
    Process,
    headroom::Headroom,
    held,
    permits::{Credentials, Judge, Roots, Verdict},
    runtime::{self, Language, RuntimeFacts},
    status::Status,
};
use pepo_wire::{Failure, FailureExt as _};

use super::CheckEnv;

/// Facts about a process.
pub(super) struct Facts {
    /// The machine and ourselves.
    pub(super) judge: Judge,
    /// What the kernel's checks look at.
    pub(super) theirs: Credentials,
    pub(super) status: Status,
    /// It is held at its first instruction.
    pub(super) held: bool,
    /// May its memory be read; may it be stopped.
    pub(super) look: Verdict,
    pub(super) stop: Verdict,
    pub(super) runtime: RuntimeFacts,
    /// The debugger Pepo would choose and what it warns of, or why there is none.
    pub(super) debugger: Result<(Chosen, Vec<Failure>), Failure>,
    /// What the kernel's timer would show; `None` when nothing may be seen, or the facts are recorded ones.
    pub(super) timer: Option<Result<Timer, Failure>>,
    /// Python or Ruby with its version, if its frames can be read, or why they cannot; `None` where there are none.
    pub(super) python: Option<Result<String, String>>,
    /// The version of the JVM that can be asked, or why it cannot; `None` where there is none.
    pub(super) jvm: Option<Result<String, String>>,
    /// Can its frames be sampled, or why not?
    pub(super) jvm_samples: Option<Result<String, String>>,
    /// Memory left where the debugger would run.
    pub(super) headroom: Option<Headroom>,
    pub(super) read_only_root: Option<bool>,
}

/// A debugger, as far as rules ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) name: &'static str,
    /// Bytes it takes where it runs.
    pub(super) memory: u64,
    /// What has to be installed for it.
    pub(super) tool: Option<String>,
}

impl Facts {
    /// Of a living process.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn of(process: &Process, env: &CheckEnv, asked: &str) -> Result<Facts, Failure> {
        let status = process.status().map_err(|error| error.failure())?;
        let judge = Judge::new(&env.roots);
        let theirs = judge.credentials(&process.proc_path(), &status);
        let facts = Facts::judged(judge, theirs, status);
        if !facts.look.is_yes() {
            // What it runs could only be guessed.
            return Ok(facts);
        }
        let runtime = runtime::detect(process);
        let debugger = choose(asked, &runtime, &env.tools);
        // pydevd lives in the target, other debuggers beside us.
        let place = if runtime.language == Language::Python { None } else { Process::own().ok() };
        let headroom = Headroom::of(place.as_ref().unwrap_or(process)).ok();
        let mounts = process.read("mountinfo", 1 << 20).unwrap_or_default();
        Ok(Facts {
            python: env.roots.is_live().then(|| pepo_look::readable(process, &runtime)).flatten(),
            jvm: env.roots.is_live().then(|| pepo_look::answers(process, &runtime)).flatten(),
            jvm_samples: env.roots.is_live().then(|| pepo_look::samples(process, &runtime)).flatten(),
            held: held::at_first_instruction(process),
            runtime,
            debugger,
            timer: env.roots.is_live().then(pepo_look::timer),
            headroom,
            read_only_root: root_is_read_only(&mounts),
            ..facts
        })
    }

    /// With verdicts, and nothing known about the program.
    pub(super) fn judged(judge: Judge, theirs: Credentials, status: Status) -> Facts {
        let (look, stop) = (judge.look(&theirs), judge.stop(&theirs));
        let unknown =
            stop.denial().or(look.denial()).map_or_else(Failure::default, |denial| denial.failure());
        Facts {
            judge,
            theirs,
            status,
            held: false,
            look,
            stop,
            runtime: RuntimeFacts::default(),
            debugger: Err(unknown),
            timer: None,
            python: None,
            jvm: None,
            jvm_samples: None,
            headroom: None,
            read_only_root: None,
        }
    }

    /// Is it known what the process runs?
    pub(super) fn is_readable(&self) -> bool {
        self.runtime.exe.is_some()
    }
}

fn choose(asked: &str, runtime: &RuntimeFacts, tools: &Tools) -> Result<(Chosen, Vec<Failure>), Failure> {
    debugger::choose(asked, runtime, tools).map(|(one, warnings)| (Chosen::new(one, tools), warnings))
}

impl Chosen {
    fn new(one: &dyn Debugger, tools: &Tools) -> Chosen {
        let facts = one.facts();
        let tool = facts.tool.and_then(|name| tools.find(name));
        let tool = tool.map(|tool| format!("{} {}", tool.path.display(), tool.version_text()));
        Chosen { name: facts.name, memory: facts.memory, tool }
    }
}

/// By the line of mountinfo for `/` (proc_pid_mountinfo(5)); the last one is on top.
fn root_is_read_only(mountinfo: &[u8]) -> Option<bool> {
    let text = String::from_utf8_lossy(mountinfo);
    let root = text.lines().rev().find_map(|line| {
        let mut fields = line.split(' ');
        (fields.nth(4)? == "/").then(|| fields.next()).flatten().map(str::to_owned)
    });
    Some(root?.split(',').any(|option| option == "ro"))
}

/// Facts about the machine the agent is on.
pub(super) struct Machine {
    pub(super) judge: Judge,
    /// `hidepid=` of procfs, when it hides processes.
    pub(super) hidepid: Option<String>,
    /// Each debugger that can be installed, and what was found of it.
    pub(super) tools: Vec<(&'static Entry, Option<Tool>)>,
}

impl Machine {
    pub(super) fn read(roots: &Roots, tools: &Tools) -> Machine {
        let mounts = std::fs::read_to_string(roots.proc.join("self/mountinfo")).unwrap_or_default();
        Machine {
            judge: Judge::new(roots),
            hidepid: hidepid(&mounts),
            tools: catalog().iter().map(|entry| (entry, tools.find(entry.name))).collect(),
        }
    }
}

fn hidepid(mountinfo: &str) -> Option<String> {
    let options =
        mountinfo.lines().filter(|line| line.contains(" - proc ")).flat_map(|line| line.rsplit(' ').next());
    let values =
        options.flat_map(|options| options.split(',')).filter_map(|option| option.strip_prefix("hidepid="));
    values.filter(|value| !matches!(*value, "0" | "off")).map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uppermost_mount_of_the_root_decides() {
        let line = |options: &str| format!("10 1 0:5 / / {options} master:1 - overlay overlay rw\n");
        assert_eq!(root_is_read_only(line("ro,relatime").as_bytes()), Some(true));
        assert_eq!(root_is_read_only((line("ro") + &line("rw,relatime")).as_bytes()), Some(false));
        assert_eq!(root_is_read_only(b"11 10 0:6 / /proc rw - proc proc rw\n"), None);
    }

    #[test]
    fn hidden_processes_are_seen_in_the_mount_of_procfs() {
        assert_eq!(hidepid("22 27 0:21 / /proc rw,relatime - proc proc rw\n"), None);
        assert_eq!(hidepid("22 27 0:21 / /proc rw - proc proc rw,hidepid=2\n").as_deref(), Some("2"));
        assert_eq!(
            hidepid("22 27 0:21 / /proc rw - proc proc rw,hidepid=invisible,gid=4\n").as_deref(),
            Some("invisible")
        );
        assert_eq!(hidepid("22 27 0:21 / /proc rw - proc proc rw,hidepid=off\n"), None);
    }
}
