//! The text of a thread dump, as HotSpot 8 to 25 print it, line by line.
//!
//! Names of threads are the program's own and may hold anything, lines of a dump too: what it says is believed of its own threads and
//! bounded in number and length, nothing more.

use std::collections::HashMap;

use super::names::readable;

/// Most threads, and bytes of text of all of them together.
const MOST_THREADS: usize = 16 << 10;
const MOST_TEXT: usize = 16 << 20;
/// Most locks that one thread holds.
const MOST_LOCKS: usize = 256;
/// Most deadlocks, and threads in one.
const MOST_DEADLOCKS: usize = 64;

/// A method that a thread is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JavaFrame {
    pub(crate) function: String,
    pub(crate) file: String,
    /// 0 when it is not known.
    pub(crate) line: u32,
}

/// What a thread waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// "monitor" to enter, "notify" that somebody wakes it, "park" for what is built on parking.
    pub(crate) kind: &'static str,
    pub(crate) class: String,
    pub(crate) object: u64,
}

/// A thread of the JVM: one that runs Java, or one of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JavaThread {
    pub(crate) name: String,
    /// By number, as in the container.
    pub(crate) tid: u32,
    /// `BLOCKED (on object monitor)`; empty for the JVM's own.
    pub(crate) state: String,
    pub(crate) frames: Vec<JavaFrame>,
    /// There are more frames.
    pub(crate) is_cut: bool,
    pub(crate) wait: Option<Wait>,
    /// Objects whose monitor or lock it holds.
    holds: Vec<u64>,
}

/// Which part of the text is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Threads,
    Deadlock,
    /// The frames of a deadlock's threads, once more.
    Repeated,
}

/// What was read so far.
#[derive(Debug)]
pub(crate) struct Dump {
    pub(crate) threads: Vec<JavaThread>,
    /// The threads of each, by number: each waits for the next, the last for the first.
    pub(crate) deadlocks: Vec<Vec<u32>>,
    /// Not everything was kept.
    pub(crate) is_cut: bool,
    most_frames: usize,
    part: Part,
    /// Does a thread's header stand before this line?
    in_thread: bool,
    /// Names and the objects they wait for, of each deadlock.
    circles: Vec<Vec<(String, u64)>>,
    text: usize,
    holders: HashMap<u64, usize>,
}

impl Dump {
    /// With so many frames of each thread at most.
    pub(crate) fn new(most_frames: usize) -> Dump {
        Dump {
            threads: Vec::new(),
            deadlocks: Vec::new(),
            is_cut: false,
            most_frames,
            part: Part::Threads,
            in_thread: false,
            circles: Vec::new(),
            text: 0,
            holders: HashMap::new(),
        }
    }

    /// Takes the next line.
    pub(crate) fn line(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        match line.trim_end() {
            "Found one Java-level deadlock:" => {
                self.part = Part::Deadlock;
                self.in_thread = false;
                match self.circles.len() < MOST_DEADLOCKS {
                    true => self.circles.push(Vec::new()),
                    false => self.is_cut = true,
                }
            }
            "Java stack information for the threads listed above:" => self.part = Part::Repeated,
            line => match self.part {
                Part::Threads => self.thread_line(line),
                Part::Deadlock => self.deadlock_line(line),
                Part::Repeated => {}
            },
        }
    }

    /// All was read: who holds what, and who waits for whom.
    pub(crate) fn finish(&mut self) {
        for (index, thread) in self.threads.iter().enumerate() {
            self.holders.extend(thread.holds.iter().map(|&object| (object, index)));
        }
        let circles = std::mem::take(&mut self.circles);
        self.deadlocks = circles.iter().filter_map(|circle| self.circle(circle)).collect();
        // Of locks that are no monitors the holder is told here alone: whom each waits for comes next.
        for circle in &circles {
            for (index, (_, object)) in circle.iter().enumerate() {
                let next = circle.get(index + 1).or(circle.first());
                let holder = next.and_then(|(name, waits)| self.find(name, *waits));
                if let Some(holder) = holder {
                    self.holders.entry(*object).or_insert(holder);
                }
            }
        }
    }

    /// The thread that holds the lock of an object, as far as the dump tells.
    pub(crate) fn holder(&self, object: u64) -> Option<&JavaThread> {
        self.threads.get(*self.holders.get(&object)?)
    }

    fn circle(&self, circle: &[(String, u64)]) -> Option<Vec<u32>> {
        let threads: Option<Vec<u32>> = circle
            .iter()
            .map(|(name, object)| Some(self.threads.get(self.find(name, *object)?)?.tid))
            .collect();
        threads.filter(|threads| threads.len() > 1)
    }

    /// By name and by what it waits for: names need not be unique.
    fn find(&self, name: &str, object: u64) -> Option<usize> {
        let named = || self.threads.iter().enumerate().filter(|(_, thread)| thread.name == name);
        let waits = |thread: &JavaThread| thread.wait.as_ref().is_some_and(|wait| wait.object == object);
        named().find(|(_, thread)| waits(thread)).or(named().next()).map(|(index, _)| index)
    }

    fn thread_line(&mut self, line: &str) {
        if let Some(thread) = header(line) {
            self.in_thread = self.make_room(thread.name.len());
            if self.in_thread {
                self.threads.push(thread);
            }
            return;
        }
        if line.is_empty() || !self.in_thread {
            // A list of locks follows the frames after an empty line.
            return;
        }
        let text = line.trim_start();
        if let Some(frame) = text.strip_prefix("at ") {
            self.frame(frame);
        } else if let Some(lock) = text.strip_prefix("- ") {
            if let Some(thread) = self.threads.last_mut() {
                thread.lock(lock);
            }
        } else if let Some(state) = text.strip_prefix("java.lang.Thread.State: ")
            && let Some(thread) = self.threads.last_mut()
        {
            thread.state = state.chars().take(64).collect();
        }
    }

    fn frame(&mut self, text: &str) {
        let Some(frame) = frame(text) else { return };
        let has_room = self.make_room(frame.function.len() + frame.file.len());
        let Some(thread) = self.threads.last_mut() else { return };
        if !has_room || thread.frames.len() >= self.most_frames {
            thread.is_cut = true;
        } else {
            thread.frames.push(frame);
        }
    }

    fn deadlock_line(&mut self, line: &str) {
        let Some(circle) = self.circles.last_mut().filter(|circle| circle.len() <= MOST_THREADS) else {
            return;
        };
        if let Some(name) = line.strip_prefix('"').and_then(|rest| rest.strip_suffix("\":")) {
            circle.push((name.to_owned(), 0));
        } else if let Some(waits) = line.trim_start().strip_prefix("waiting ")
            && let Some((_, object)) = circle.last_mut()
        {
            // The monitor's own address comes before the object's.
            let at = waits.find("(object 0x").map(|at| at + "(object ".len()).or(waits.find("0x"));
            *object = at.and_then(|at| hexadecimal(&waits[at..])).unwrap_or(0);
        }
    }

    fn make_room(&mut self, bytes: usize) -> bool {
        self.text = self.text.saturating_add(bytes);
        let has_room = self.text <= MOST_TEXT && self.threads.len() < MOST_THREADS;
        self.is_cut |= !has_room;
        has_room
    }
}

impl JavaThread {
    fn lock(&mut self, text: &str) {
        let Some((what, object, class)) = lock(text) else { return };
        let waits = |kind| Some(Wait { kind, class: class.to_owned(), object });
        match what {
            "waiting to lock" => self.wait = waits("monitor"),
            "waiting on" => self.wait = waits("notify"),
            // It was woken, and has to enter again.
            "waiting to re-lock in wait()" => self.wait = waits("monitor"),
            "parking to wait for" => self.wait = waits("park"),
            // In `wait()` it has entered, and let go for the time being.
            "locked" | ""
                if self.holds.len() < MOST_LOCKS
                    && self.wait.as_ref().is_none_or(|wait| wait.object != object) =>
            {
                self.holds.push(object);
            }
            _ => {}
        }
    }
}

/// `"main" #1 [4711] daemon prio=5 os_prio=0 cpu=1.50ms elapsed=2.39s tid=0x00007fad nid=0x4b04 waiting on condition`.
fn header(line: &str) -> Option<JavaThread> {
    let rest = line.strip_prefix('"')?;
    // Neither stands in what follows a name, but may stand in the name.
    let (before, number) = rest.rsplit_once(" nid=")?;
    let (name, _) = before.rsplit_once('"')?;
    let number = number.split(' ').next()?;
    let tid = match number.starts_with("0x") {
        true => u32::try_from(hexadecimal(number)?).ok()?,
        false => number.parse().ok()?,
    };
    Some(JavaThread { name: name.to_owned(), tid, ..JavaThread::default() })
}

/// `java.lang.Thread.sleep(java.base@17.0.15/Native Method)`, `Shop.serve(Shop.java:12)`.
fn frame(text: &str) -> Option<JavaFrame> {
    let (name, place) = text.strip_suffix(')')?.rsplit_once('(')?;
    let place = place.rsplit_once('/').map_or(place, |(_, place)| place);
    let (file, line) = match place.rsplit_once(':') {
        Some((file, line)) => (file, line.parse().unwrap_or(0)),
        None if matches!(place, "Native Method" | "Unknown Source" | "Redefined") => ("", 0),
        None => (place, 0),
    };
    Some(JavaFrame { function: readable(name), file: file.to_owned(), line })
}

/// `locked <0x00000000ffd02f40> (a java.lang.Object)`: what, address, class.
fn lock(text: &str) -> Option<(&str, u64, &str)> {
    let (what, rest) = text.split_once('<')?;
    let (object, rest) = rest.split_once('>')?;
    let class = rest.trim().strip_prefix("(a ").and_then(|class| class.strip_suffix(')')).unwrap_or_default();
    Some((what.trim(), hexadecimal(object)?, class))
}

/// `0x1f`, and what follows it.
fn hexadecimal(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    let end = digits.find(|letter: char| !letter.is_ascii_hexdigit()).unwrap_or(digits.len());
    u64::from_str_radix(&digits[..end], 16).ok()
}

#[cfg(test)]
mod tests;
