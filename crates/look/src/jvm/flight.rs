//! Java's own frames over a time, by the recorder that every JVM has (Flight Recorder), where async-profiler cannot be: it is asked by its
//! attach protocol alone, and nothing is loaded (the commands are those of `jcmd PID help JFR.start`).
//!
//! It records into memory, never onto a disk: a JVM ends itself when its recorder cannot make or write a file there. Only when it is
//! stopped does it write, into a file that is [put by for it](super::spare); then it is started anew. A recording that is not stopped ends
//! by itself after [`LEASE`], and goes to `/dev/null`.

use std::time::{Duration, Instant};

use pepo_process::{Process, runtime::RuntimeFacts};
use rustix::rand::{GetRandomFlags, getrandom};

use super::{
    attach::{Listener, Unattachable, major},
    jfr::{self, Sample},
    profiler::has_room,
    spare::Spare,
};

/// From this version on it can be asked for nothing but samples.
const OLDEST: u32 = 17;
/// It stops by itself after this time, in seconds.
const LEASE: u64 = 20;
/// The most that a command may take: the first one makes the JVM load its recorder.
const PATIENCE: Duration = Duration::from_secs(20);
/// Memory that the target must have left, in bytes: some 30 MiB are taken.
const NEEDED: u64 = 64 << 20;

/// What it cannot see.
const LIMITS: &str = "JFR samples at most five threads at a time, where they run Java, 64 frames of each: time in native code and in the \
                      JVM's own threads is not told. Files are named after classes, for it knows none";
/// What is left of it.
const STAYS: &str = "the JVM's recorder (JFR) was started, whose threads stay, idle, until the JVM ends";

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
    begun: Instant,
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
        rate: u32,
    ) -> Result<(Flight<'a>, Vec<String>), Unattachable> {
        let listener = foreseen(process, facts)?;
        alone(&listener)?;
        let spare = Spare::prepare(&listener)?;
        // Not when it is too late.
        drop(spare.open(&listener, process)?);
        let mut random = [0; 8];
        getrandom(&mut random, GetRandomFlags::empty())
            .map_err(|error| Unattachable::new(format!("no random name: {error}"), ""))?;
        let name = format!("pepo-{:016x}", u64::from_ne_bytes(random));
        let period = (1000 / rate.max(1)).clamp(1, 1000);
        let mut flight = Flight {
            process,
            listener,
            spare,
            period,
            name,
            number: 0,
            begun: Instant::now(),
            is_running: false,
        };
        flight.begin()?;
        Ok((flight, vec![LIMITS.to_owned(), STAYS.to_owned()]))
    }

    /// Samples a second.
    pub(crate) fn rate(&self) -> u32 {
        1000 / self.period
    }

    fn begin(&mut self) -> Result<(), Unattachable> {
        self.number += 1;
        self.begun = Instant::now();
        let said = ask(
            &self.listener,
            &format!(
                "JFR.start name={} settings=none disk=false duration={LEASE}s filename=/dev/null dumponexit=false \
                 +jdk.ExecutionSample#enabled=true +jdk.ExecutionSample#period={}ms",
                self.called(),
                self.period
            ),
        )?;
        self.is_running = said.contains("Started recording");
        if self.is_running {
            return Ok(());
        }
        Err(Unattachable::new(format!("its recorder (JFR) does not start: {}", said.trim()), ""))
    }

    fn called(&self) -> String {
        format!("{}-{}", self.name, self.number)
    }

    /// Hands on what was seen since the last time, and says whether it had stopped meanwhile.
    ///
    /// # Errors
    /// The JVM does not answer, or there is no room any more for its answer.
    pub(crate) fn fetch(&mut self, hand_on: &mut dyn FnMut(Sample)) -> Result<bool, Unattachable> {
        let is_late = self.begun.elapsed() >= Duration::from_secs(LEASE);
        let bytes = if is_late { None } else { self.stop_and_read()? };
        let has_lapsed = bytes.is_none();
        if has_lapsed {
            self.stop();
        }
        // At once: meanwhile nothing is seen.
        let begun = self.begin();
        jfr::read(&bytes.unwrap_or_default(), hand_on).map_err(|_| unreadable("it is malformed"))?;
        begun?;
        Ok(!has_lapsed)
    }

    /// Nothing when it has stopped already.
    fn stop_and_read(&mut self) -> Result<Option<Vec<u8>>, Unattachable> {
        let file = self.spare.open(&self.listener, self.process)?;
        let said = ask(&self.listener, &format!("JFR.stop name={} filename={}", self.called(), file.path()))?;
        if said.contains("Stopped recording") {
            self.is_running = false;
            return file.read().map(Some).map_err(|error| unreadable(&error.to_string()));
        }
        if said.contains("has been stopped") || said.contains("Could not find") {
            return Ok(None);
        }
        Err(Unattachable::new(format!("its recorder (JFR) does not stop: {}", said.trim()), ""))
    }

    /// Stops it, and what it saw is forgotten.
    pub(crate) fn stop(&mut self) {
        if std::mem::take(&mut self.is_running) {
            let _ = ask(&self.listener, &format!("JFR.stop name={}", self.called()));
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
    let version = facts.version.as_deref().and_then(major);
    if version.is_none_or(|version| version < OLDEST) {
        return Err(Unattachable::new(format!("its recorder (JFR) is asked from version {OLDEST} on"), ""));
    }
    let listener = Listener::open(process, facts)?;
    has_room(process, NEEDED)?;
    Ok(listener)
}

/// Nobody else's recording runs: one that writes onto a disk would make ours do so, too.
fn alone(listener: &Listener<'_>) -> Result<(), Unattachable> {
    let said = ask(listener, "JFR.check")?;
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
