//! Java's own frames over a time, by async-profiler: a library that is part of this program, and that the JVM loads when it is asked by its
//! attach protocol (async-profiler, `docs/`, "Profiler options"; what it is asked for is its agent's argument).
//!
//! Nothing of it is a file in the target: the library, and what it writes, are lent ([`super::lender`]). It stops by itself when it was not
//! put off for [`LEASE`], so a recorder that is killed leaves nothing that samples on. The library stays in the JVM's memory, idle, for no
//! JVM lets go of one; the next recording finds it there and loads no second.

use std::time::{Duration, Instant};

use pepo_process::{Process, headroom::Headroom, maps::Map, runtime::RuntimeFacts};

use super::{
    attach::{Listener, Unattachable},
    lender::{self, Lender},
};
use crate::record::Mode;

/// The library: empty in a program that was built without it.
const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libasyncProfiler.so"));
/// What its memory file is called, before the number of the lender.
const NAME: &str = concat!("async-profiler-", env!("PEPO_ASYNC_PROFILER"));
/// What all such are called.
const FAMILY: &str = "async-profiler-";
/// It stops by itself after this time, in seconds.
const LEASE: u64 = 10;
/// It is put off this often.
const RENEWED: Duration = Duration::from_secs(4);
/// The most that a command may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Memory that the target must have left, in bytes: it keeps the names of all functions of all libraries, and stacks (`STACKS`).
const NEEDED: u64 = 96 << 20;
/// The most that it takes for stacks.
const STACKS: &str = "memlimit=32m";

/// What is left of it.
const STAYS: &str = "async-profiler was loaded into the JVM, where it stays, idle, until the JVM ends";

/// What is sampled in the profiler's words, from the best; the next is tried where one cannot be.
fn events(mode: Mode, rate: u32) -> Vec<String> {
    let interval = 1_000_000_000 / rate.max(1);
    let each = |event: &str| format!("event={event},interval={interval}");
    match mode {
        Mode::Cpu => vec![each("cpu"), each("ctimer"), each("itimer")],
        Mode::Wall => vec![each("wall")],
        Mode::Alloc => vec!["event=alloc".to_owned()],
        Mode::Lock => vec!["event=lock".to_owned()],
        // It knows none.
        Mode::OffCpu => Vec::new(),
    }
}

/// A profiler that runs.
pub(crate) struct Profiler<'a> {
    listener: Listener<'a>,
    lender: Lender,
    library: String,
    mode: Mode,
    /// What it was started with.
    words: String,
    renewed: Instant,
    is_running: bool,
}

impl<'a> Profiler<'a> {
    /// Loads it and starts it; and what the user should know of that, in words.
    ///
    /// # Errors
    /// Why that cannot be; nothing samples then.
    pub(crate) fn start(
        process: &'a Process,
        facts: &RuntimeFacts,
        mode: Mode,
        rate: u32,
    ) -> Result<(Profiler<'a>, Vec<String>), Unattachable> {
        let (listener, loaded) = foreseen(process, facts)?;
        let lender = Lender::start(process, NAME, LIBRARY).map_err(|error| {
            Unattachable::new(
                format!("nothing can be lent to it: {error}"),
                "run Pepo as root, or as the JVM's user in its PID namespace",
            )
        })?;
        let library = loaded.unwrap_or_else(|| lender.library());
        let (words, renewed) = (String::new(), Instant::now());
        let mut profiler = Profiler { listener, lender, library, mode, words, renewed, is_running: false };
        let mut why = Unattachable::new("it takes no samples", "");
        let mut notes = vec![STAYS.to_owned()];
        for words in events(mode, rate) {
            match profiler.begin(&words) {
                Ok(()) => return Ok((profiler, notes)),
                Err(reason) => {
                    notes.push(reason.to_string());
                    why = reason;
                }
            }
        }
        // So that it writes no more into what is lent.
        let _ = profiler.command("status", "");
        Err(why)
    }

    fn begin(&mut self, words: &str) -> Result<(), Unattachable> {
        let words = format!("{words},threads,{STACKS},timeout={LEASE}");
        let log = self.lender.log();
        self.renewed = Instant::now();
        self.ask(&format!("start,{words},quiet,log={log},loglevel=warn"))?;
        (self.words, self.is_running) = (words, true);
        Ok(())
    }

    /// All that has been seen since the beginning: collapsed stacks.
    ///
    /// # Errors
    /// The JVM does not answer.
    pub(crate) fn fetch(&self) -> Result<Vec<u8>, Unattachable> {
        let counted = if self.mode.is_weighed() { "total" } else { "samples" };
        self.command("dump", &format!("collapsed,ann,dot,{counted}"))?;
        self.lender
            .take_answer()
            .map_err(|error| Unattachable::new(format!("its answer cannot be read: {error}"), ""))
    }

    /// Puts off its end, when it is time; says so if it had stopped meanwhile.
    ///
    /// # Errors
    /// The JVM does not answer.
    pub(crate) fn renew(&mut self) -> Result<bool, Unattachable> {
        if self.renewed.elapsed() < RENEWED {
            return Ok(true);
        }
        let ran_on = self.command("stop", "quiet").is_ok();
        self.renewed = Instant::now();
        let words = self.words.clone();
        self.command("resume", &format!("{words},quiet"))?;
        Ok(ran_on)
    }

    /// Stops it.
    pub(crate) fn stop(&mut self) {
        self.is_running = false;
        let _ = self.command("stop", "quiet");
    }

    /// Says nothing in the target's own log, and holds nothing that is lent any more.
    fn command(&self, action: &str, words: &str) -> Result<(), Unattachable> {
        let comma = if words.is_empty() { "" } else { "," };
        // Only with what is written: to be stopped it must not depend on who lends.
        let writes = matches!(action, "dump" | "status");
        let file = if writes { format!(",file={}", self.lender.answer()) } else { String::new() };
        self.ask(&format!("{action}{comma}{words}{file},log=stderr,loglevel=none"))
    }

    fn ask(&self, words: &str) -> Result<(), Unattachable> {
        let mut said = Vec::new();
        let asked = ["load", &self.library, "true", words];
        self.listener
            .ask(&asked, PATIENCE, &mut |line| said.push(String::from_utf8_lossy(line).into_owned()))?;
        // "return code: 0", or the number alone.
        let code = said.first().and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok());
        if code == Some(0) {
            return Ok(());
        }
        let log = self.lender.take_log();
        let reason = log.lines().find_map(|line| line.strip_prefix("[ERROR] ")).map(str::to_owned);
        let (why, hint) = match reason {
            Some(why) if why.contains("already started") => (
                "another recording of it is under way".to_owned(),
                "it may be over within seconds: try again",
            ),
            Some(why) => (format!("async-profiler says: {why}"), ""),
            None => (format!("it does not load async-profiler: {}", said.join(" ")), ""),
        };
        Err(Unattachable::new(why, hint))
    }
}

impl Drop for Profiler<'_> {
    fn drop(&mut self) {
        if self.is_running {
            self.stop();
        }
    }
}

/// Whether it could be loaded, or has been, as far as can be known while nothing is done: who would be asked, and the path of what is loaded.
///
/// # Errors
/// Why it cannot.
pub(super) fn foreseen<'a>(
    process: &'a Process,
    facts: &RuntimeFacts,
) -> Result<(Listener<'a>, Option<String>), Unattachable> {
    if LIBRARY.is_empty() {
        return Err(Unattachable::new(
            "this program was built without async-profiler",
            "`cargo xtask setup` fetches it; then build again",
        ));
    }
    let listener = Listener::open(process, facts)?;
    let maps = process.maps().map_err(|error| Unattachable::new(error.to_string(), ""))?;
    let loaded = loaded(&maps)?;
    if loaded.is_none() {
        if listener.refuses_agents() {
            return Err(Unattachable::new(
                "it loads no async-profiler, for it was started with -XX:-EnableDynamicAgentLoading",
                "start it without this option",
            ));
        }
        has_room(process, NEEDED)?;
    }
    Ok((listener, loaded))
}

/// The path by which the library was loaded before, when it was: the JVM's loader knows it by that, though nothing is there any more.
fn loaded(maps: &[Map]) -> Result<Option<String>, Unattachable> {
    for map in maps {
        let Some(path) = &map.path else { continue };
        let path = path.to_string_lossy();
        let ours = path.strip_prefix("/memfd:").and_then(|name| name.strip_prefix(FAMILY));
        if let Some(rest) = ours {
            let number = rest.split(' ').next().and_then(|name| name.rsplit('-').next()?.parse().ok());
            return Ok(number.map(lender::library_of));
        }
        if path.contains("asyncProfiler") || path.contains("async-profiler") {
            return Err(Unattachable::new(
                format!("another async-profiler is in it already ({path}), and two would disturb each other"),
                "use that one, or start the JVM anew",
            ));
        }
    }
    Ok(None)
}

/// Has the target so much memory left, in bytes?
///
/// # Errors
/// It has not.
pub(super) fn has_room(process: &Process, needed: u64) -> Result<(), Unattachable> {
    let free = Headroom::of(process).map_or(u64::MAX, |room| room.free);
    if free >= needed {
        return Ok(());
    }
    Err(Unattachable::new(
        format!("{} MiB of its memory are free, and a profiler may need {} MiB", free >> 20, needed >> 20),
        "raise its memory limit",
    ))
}
