//! Java's own frames over a time, by the recorder that every JVM has (Flight Recorder), where async-profiler cannot be: it is asked by its
//! attach protocol alone, and nothing is loaded (the commands are those of `jcmd PID help JFR.start`).
//!
//! It records into memory, never onto a disk: a JVM ends itself when its recorder cannot make or write a file there. Only when it is
//! stopped does it write, into a file for which the room [is taken](super::spare) before; then it is started anew. A recording that is not
//! stopped ends by itself after [`LEASE`], and by then there is no file any more.

use std::time::Duration;

use pepo_process::{Process, runtime::RuntimeFacts};
use rustix::rand::{GetRandomFlags, getrandom};

use super::{
    attach::{Listener, Unattachable, major},
    jfr::{self, Sample},
    profiler::has_room,
    spare::Spare,
};
use crate::record::Mode;

/// From this version on it samples what is allocated. Before, it tells only who took the next piece of the heap, which need not be who took
/// the most.
const SAMPLES_MEMORY: u32 = 16;
/// It stops by itself after this time, in seconds.
const LEASE: u64 = 20;
/// The most that a command may take: the first one makes the JVM load its recorder.
const PATIENCE: Duration = Duration::from_secs(20);
/// Memory that the target must have left, in bytes: some 30 MiB are taken.
const NEEDED: u64 = 64 << 20;

/// What is left of it.
const STAYS: &str = "the JVM's recorder (JFR) was started, whose threads stay, idle, until the JVM ends";

/// What it cannot see.
fn limits(mode: Mode) -> String {
    let sees = match mode {
        Mode::Alloc => "what Java allocates, by a part of it that stands for all",
        Mode::Lock => {
            "waits for monitors, `ReentrantLock`, `ReentrantReadWriteLock` and `Semaphore`, once they are over"
        }
        _ => {
            "at most five threads at a time, where they run Java: time in native code and in the JVM's own threads is not told"
        }
    };
    format!("JFR sees {sees}; 64 frames of each. Files are named after classes, for it knows none")
}

/// What it is to record, as a file of settings says it: an event that is not named is not recorded.
fn settings(mode: Mode, period: u32) -> String {
    let period = format!("{period} ms");
    let stacks = ("stackTrace", "true");
    let events: &[(&str, &[(&str, &str)])] = match mode {
        Mode::Alloc => &[("jdk.ObjectAllocationSample", &[stacks, ("throttle", "300/s")])],
        Mode::Lock => &[
            ("jdk.JavaMonitorEnter", &[stacks, ("threshold", "10 us")]),
            ("jdk.ThreadPark", &[stacks, ("threshold", "10 us")]),
        ],
        _ => &[("jdk.ExecutionSample", &[("period", &period)])],
    };
    let setting = |(name, value): &(&str, &str)| format!("<setting name=\"{name}\">{value}</setting>\n");
    let event = |(name, said): &(&str, &[(&str, &str)])| {
        let said: String = [("enabled", "true")].iter().chain(*said).map(setting).collect();
        format!("<event name=\"{name}\">\n{said}</event>\n")
    };
    let events: String = events.iter().map(event).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<configuration version=\"2.0\">\n{events}</configuration>\n"
    )
}

/// A recorder that runs.
pub(crate) struct Flight<'a> {
    process: &'a Process,
    listener: Listener<'a>,
    spare: Spare,
    /// Milliseconds between two samples.
    period: u32,
    /// What each recording is called, with a number.
    name: String,
    number: u32,
    is_running: bool,
}

impl<'a> Flight<'a> {
    /// Starts it; and what the user should know of that, in words.
    ///
    /// # Errors
    /// Why that cannot be; nothing is recorded then.
    pub(crate) fn start(
        process: &'a Process,
        facts: &RuntimeFacts,
        mode: Mode,
        rate: u32,
    ) -> Result<(Flight<'a>, Vec<String>), Unattachable> {
        let listener = foreseen(process, facts)?;
        let version = facts.version.as_deref().and_then(major).unwrap_or(0);
        if mode == Mode::Alloc && version < SAMPLES_MEMORY {
            let why = format!("its recorder (JFR) samples memory from version {SAMPLES_MEMORY} on");
            return Err(Unattachable::new(why, ""));
        }
        alone(&listener)?;
        let period = (1000 / rate.max(1)).clamp(1, 1000);
        let mut random = [0; 8];
        getrandom(&mut random, GetRandomFlags::empty())
            .map_err(|error| Unattachable::new(format!("no random name: {error}"), ""))?;
        let name = format!("pepo-{:016x}", u64::from_ne_bytes(random));
        let spare = Spare::make(&listener, &settings(mode, period))?;
        let mut flight = Flight { process, listener, spare, period, name, number: 0, is_running: false };
        flight.begin()?;
        Ok((flight, vec![limits(mode), STAYS.to_owned()]))
    }

    /// Samples a second.
    pub(crate) fn rate(&self) -> u32 {
        1000 / self.period
    }

    fn begin(&mut self) -> Result<(), Unattachable> {
        // Without room nothing is begun.
        self.spare.reserve(self.process)?;
        self.number += 1;
        let said = ask(
            &self.listener,
            &format!(
                "JFR.start name={} settings={} disk=false duration={LEASE}s filename={} dumponexit=false",
                self.called(),
                self.spare.settings(),
                self.spare.recording()
            ),
        )?;
        self.is_running = said.contains("Started recording");
        if !self.is_running {
            let why = format!("its recorder (JFR) does not start: {}", said.trim());
            return Err(Unattachable::new(why, ""));
        }
        // It has cut the file, and what was taken for it is free again.
        self.spare.reserve(self.process).inspect_err(|_| self.stop())
    }

    fn called(&self) -> String {
        format!("{}-{}", self.name, self.number)
    }

    /// Hands on what was seen since the last time, and says whether it had stopped meanwhile.
    ///
    /// # Errors
    /// The JVM does not answer, or there is no room any more for its answer.
    pub(crate) fn fetch(&mut self, hand_on: &mut dyn FnMut(Sample)) -> Result<bool, Unattachable> {
        let bytes = self.stop_and_read()?;
        let has_lapsed = bytes.is_none();
        // At once: meanwhile nothing is seen.
        let begun = self.begin();
        jfr::read(&bytes.unwrap_or_default(), hand_on).map_err(|_| unreadable("it is malformed"))?;
        begun?;
        Ok(!has_lapsed)
    }

    /// Nothing when it has stopped already.
    fn stop_and_read(&mut self) -> Result<Option<Vec<u8>>, Unattachable> {
        let said = ask(&self.listener, &format!("JFR.stop name={}", self.called()))?;
        if said.contains("Stopped recording") {
            self.is_running = false;
            return self.spare.read().map(Some).map_err(|error| unreadable(&error.to_string()));
        }
        if ["already stopped", "has been stopped", "Could not find"].iter().any(|words| said.contains(words))
        {
            return Ok(None);
        }
        Err(Unattachable::new(format!("its recorder (JFR) does not stop: {}", said.trim()), ""))
    }

    /// Stops it, and what it saw is forgotten: it finds no place to write to.
    pub(crate) fn stop(&mut self) {
        self.spare.remove(&self.listener);
        if std::mem::take(&mut self.is_running) {
            let _ = ask(&self.listener, &format!("JFR.stop name={} filename=/dev/null", self.called()));
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether it could be asked, as far as can be known while nothing is done.
///
/// # Errors
/// Why it cannot.
pub(super) fn foreseen<'a>(process: &'a Process, facts: &RuntimeFacts) -> Result<Listener<'a>, Unattachable> {
    let listener = Listener::open(process, facts)?;
    has_room(process, NEEDED)?;
    Ok(listener)
}

/// Nobody else's recording runs: one that writes onto a disk would make ours do so, too.
fn alone(listener: &Listener<'_>) -> Result<(), Unattachable> {
    let said = ask(listener, "JFR.check")?;
    if said.contains("Unknown diagnostic command") {
        return Err(Unattachable::new("it has no recorder (JFR)", "8u262, 11 and newer have one"));
    }
    let is_other = |line: &&str| line.starts_with("Recording") && !line.contains("(stopped)");
    match said.lines().find(is_other) {
        Some(other) => Err(Unattachable::new(
            format!("another recording of its recorder (JFR) is under way: {other}"),
            "try again when it is over; `jcmd PID JFR.dump` tells what it has seen",
        )),
        None => Ok(()),
    }
}

fn unreadable(why: &str) -> Unattachable {
    Unattachable::new(format!("what its recorder (JFR) wrote cannot be read: {why}"), "")
}

fn ask(listener: &Listener<'_>, command: &str) -> Result<String, Unattachable> {
    let mut said = String::new();
    listener.ask(&["jcmd", command], PATIENCE, &mut |line| {
        said.push_str(&String::from_utf8_lossy(line));
        said.push('\n');
    })?;
    Ok(said)
}
