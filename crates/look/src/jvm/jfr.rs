//! Samples in what a JVM's own recorder writes (Flight Recorder, "chunks" of version 2; JDK Mission Control's and async-profiler's sources
//! describe them). A chunk tells the types of all that is in it, events by their types, and constants that events name by number.
//!
//! Whoever owns the target may have written it: every count is held against the bytes that are left, and all values together against a
//! budget, so that neither time nor memory grows faster than what was read. Each stack is made once, however many samples share it.

/// Bytes, one after the other.
mod cursor;
/// Of which events there are samples.
mod events;
/// Types, and values of them.
mod types;

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use self::{
    cursor::Cursor,
    events::{EVENTS, Event, Named, Wanted, Weight},
    types::{Types, Value},
};
use super::names::readable;
use crate::python::Spot;

/// Bytes of a chunk's head.
const HEAD: usize = 68;
/// Most frames of a stack: no recorder keeps more.
const DEEPEST: usize = 2048;
/// Most frames of all stacks.
const FRAMES: usize = 2_000_000;
/// Bytes of a name.
const LONGEST: usize = 512;
/// Most chunks that are read.
const CHUNKS: usize = 64;
/// It is not what a recorder writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// When, in nanoseconds since 1970.
    pub(crate) at: u64,
    /// The thread's number, as the JVM counts, and its name.
    pub(crate) tid: u32,
    pub(crate) name: Arc<str>,
    /// The class of what was allocated or waited for.
    pub(crate) class: Option<Arc<str>>,
    /// Bytes or nanoseconds; 0 where each weighs alike.
    pub(crate) weight: u64,
    pub(crate) stack: Stack,
}

/// Where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stack {
    /// Innermost first.
    pub(crate) frames: Arc<[Spot]>,
    /// Is the outermost missing?
    pub(crate) is_cut: bool,
}

/// Hands on the samples of a recording, one chunk after the other.
///
/// # Errors
/// Where the bytes are none; what was handed on before stands.
pub(crate) fn read(bytes: &[u8], hand_on: &mut dyn FnMut(Sample)) -> Result<(), Malformed> {
    // A value takes a byte, but for those that are nothing but others.
    let mut budget = bytes.len().saturating_mul(2);
    let mut rest = bytes;
    for _ in 0..CHUNKS {
        if rest.is_empty() {
            break;
        }
        let chunk = Chunk::of(rest)?;
        chunk.samples(&mut budget, hand_on)?;
        rest = rest.get(chunk.bytes.len()..).unwrap_or_default();
    }
    Ok(())
}

/// A chunk, by its head.
struct Chunk<'a> {
    bytes: &'a [u8],
    constants: usize,
    metadata: usize,
    /// The beginning, by the calendar and by the clock of events, and that clock's ticks in a second.
    start_nanos: u64,
    start_ticks: u64,
    frequency: u64,
}

impl<'a> Chunk<'a> {
    fn of(bytes: &'a [u8]) -> Result<Chunk<'a>, Malformed> {
        let head = bytes.get(..HEAD).ok_or(Malformed)?;
        let word = |at: usize| head[at..at + 8].iter().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        let place = |at: usize| usize::try_from(word(at)).map_err(|_| Malformed);
        // Version 2; numbers of as many bytes as they need.
        if !head.starts_with(b"FLR\0\0\x02") || head[HEAD - 1] & 1 == 0 {
            return Err(Malformed);
        }
        let size = place(8)?;
        let bytes = bytes.get(..size).filter(|_| size >= HEAD).ok_or(Malformed)?;
        Ok(Chunk {
            bytes,
            constants: place(16)?,
            metadata: place(24)?,
            start_nanos: word(32),
            start_ticks: word(48),
            frequency: word(56).max(1),
        })
    }

    fn samples(&self, budget: &mut usize, hand_on: &mut dyn FnMut(Sample)) -> Result<(), Malformed> {
        let types = Types::read(&mut self.event(self.metadata)?)?;
        let mut known = Known::of(&types);
        self.constants(&types, budget, &mut known)?;
        let wanted: HashMap<u64, Wanted> =
            EVENTS.iter().filter_map(|event| Wanted::of(&types, event)).collect();
        for (event, named) in self.named(&types, &wanted, budget)? {
            let class = known.class(named.class);
            if !event.is_of(class.as_deref()) {
                continue;
            }
            let Some(stack) = known.stack(named.stack)? else { continue };
            let (tid, name) = known.threads.get(&named.thread).cloned().unwrap_or_default();
            let weight = match event.weight {
                Weight::Alike => 0,
                Weight::Bytes(_) => named.weight,
                Weight::Time => self.nanos(named.weight),
            };
            let at = self.start_nanos.saturating_add(self.nanos(named.at.saturating_sub(self.start_ticks)));
            hand_on(Sample { at, tid, name, class, weight, stack });
        }
        Ok(())
    }

    /// Ticks as nanoseconds.
    fn nanos(&self, ticks: u64) -> u64 {
        let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(self.frequency);
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// The event at a place, after its size.
    fn event(&self, at: usize) -> Result<Cursor<'a>, Malformed> {
        let rest = self.bytes.get(at..).filter(|_| at >= HEAD).ok_or(Malformed)?;
        let mut cursor = Cursor::new(rest);
        let size = cursor.count()?;
        let body = size.checked_sub(cursor.taken()).ok_or(Malformed)?;
        cursor.part(body)
    }

    /// All events of which samples are made.
    fn named(
        &self,
        types: &Types,
        wanted: &HashMap<u64, Wanted>,
        budget: &mut usize,
    ) -> Result<Vec<(&'static Event, Named)>, Malformed> {
        let mut found = Vec::new();
        let mut at = HEAD;
        while at < self.bytes.len() {
            let mut rest = Cursor::new(&self.bytes[at..]);
            let size = rest.count()?;
            if size < rest.taken() + 1 || size > self.bytes.len() - at {
                return Err(Malformed);
            }
            at += size;
            let kind = rest.number()?;
            let Some(wanted) = wanted.get(&kind) else { continue };
            let mut event = rest.part(size.checked_sub(rest.taken()).ok_or(Malformed)?)?;
            let value = types.value(kind, &mut event, budget)?;
            found.extend(wanted.read(&value).map(|named| (wanted.event, named)));
        }
        Ok(found)
    }

    /// Constants stand in a chain of events, from the last to the first.
    fn constants(&self, types: &Types, budget: &mut usize, known: &mut Known) -> Result<(), Malformed> {
        let mut at = self.constants;
        loop {
            let mut event = self.event(at)?;
            spend(budget)?;
            // Its type, when, for how long, and where the one before stands.
            let [_, _, _, before] =
                [event.number()?, event.number()?, event.number()?, event.number()?].map(u64::cast_signed);
            let _kind = event.byte()?;
            for _ in 0..event.count()? {
                let kind = event.number()?;
                spend(budget)?;
                for _ in 0..event.count()? {
                    let key = event.number()?;
                    let value = types.value(kind, &mut event, budget)?;
                    known.learn(types, kind, key, &value);
                }
            }
            if before == 0 {
                return Ok(());
            }
            // Always further to the beginning, so it ends.
            let before = usize::try_from(before.unsigned_abs()).ok().filter(|_| before < 0);
            at = before.and_then(|before| at.checked_sub(before)).ok_or(Malformed)?;
        }
    }
}

/// One of what may be read.
fn spend(budget: &mut usize) -> Result<(), Malformed> {
    *budget = budget.checked_sub(1).ok_or(Malformed)?;
    Ok(())
}

/// Constants that samples lead to.
#[derive(Default)]
struct Known {
    /// Which fields of a frame are its method and line.
    of_frame: [Option<usize>; 2],
    /// Methods and lines, innermost first, and whether the outermost is missing.
    stacks: HashMap<u64, (Vec<(u64, u32)>, bool)>,
    /// Class and name.
    methods: HashMap<u64, (u64, u64)>,
    /// Name.
    classes: HashMap<u64, u64>,
    symbols: HashMap<u64, String>,
    threads: HashMap<u64, (u32, Arc<str>)>,
    /// Stacks that were made, methods by their names and files, and frames in all.
    made: HashMap<u64, Stack>,
    named: HashMap<u64, (Arc<str>, Arc<str>)>,
    shown: HashMap<u64, Arc<str>>,
    frames: usize,
}

impl Known {
    fn of(types: &Types) -> Known {
        let frame = types.named("jdk.types.StackFrame");
        let of_frame = ["method", "lineNumber"].map(|name| types.field(frame?, name));
        Known { of_frame, ..Known::default() }
    }

    fn learn(&mut self, types: &Types, kind: u64, key: u64, value: &Value) {
        let field = |name: &str| value.at(types.field(kind, name)?);
        let number = |name: &str| field(name).and_then(Value::number).unwrap_or(0);
        match types.name(kind) {
            "jdk.types.StackTrace" => {
                let Some(Value::All(frames)) = field("frames") else { return };
                let [method, line] = self.of_frame;
                let place = |frame: &Value| {
                    let line = line.and_then(|line| frame.at(line)?.number()).unwrap_or(0);
                    // A negative one, in four bytes or in eight, is none.
                    let line = u32::try_from(line).ok().filter(|line| i32::try_from(*line).is_ok());
                    Some((frame.at(method?)?.number()?, line.unwrap_or(0)))
                };
                let places: Vec<_> = frames.iter().filter_map(place).take(DEEPEST).collect();
                let is_cut = number("truncated") != 0 || frames.len() > DEEPEST;
                self.stacks.insert(key, (places, is_cut));
            }
            "jdk.types.Method" => drop(self.methods.insert(key, (number("type"), number("name")))),
            "java.lang.Class" => drop(self.classes.insert(key, number("name"))),
            "jdk.types.Symbol" => {
                if let Some(Value::Text(text)) = field("string") {
                    self.symbols.insert(key, cut(text).to_owned());
                }
            }
            "java.lang.Thread" => {
                let text = |name: &str| match field(name) {
                    Some(Value::Text(text)) if !text.is_empty() => Some(cut(text).into()),
                    _ => None,
                };
                let name = text("javaName").or_else(|| text("osName")).unwrap_or_default();
                let tid = u32::try_from(number("osThreadId")).unwrap_or(0);
                self.threads.insert(key, (tid, name));
            }
            _ => {}
        }
    }

    /// Nothing where it is not known.
    fn stack(&mut self, key: u64) -> Result<Option<Stack>, Malformed> {
        if let Some(made) = self.made.get(&key) {
            return Ok(Some(made.clone()));
        }
        let Some((places, is_cut)) = self.stacks.remove(&key) else { return Ok(None) };
        self.frames += places.len();
        if self.frames > FRAMES {
            return Err(Malformed);
        }
        let frames = places.into_iter().map(|(method, line)| {
            let (function, file) = self.method(method);
            Spot { function, file, line, column: 0 }
        });
        let stack = Stack { frames: frames.collect(), is_cut };
        self.made.insert(key, stack.clone());
        Ok(Some(stack))
    }

    /// What a class is called, where it is known.
    fn class(&mut self, key: u64) -> Option<Arc<str>> {
        if let Some(shown) = self.shown.get(&key) {
            return Some(Arc::clone(shown));
        }
        let name = self.symbols.get(self.classes.get(&key)?)?;
        let shown: Arc<str> = class_name(name).into();
        self.shown.insert(key, Arc::clone(&shown));
        Some(shown)
    }

    /// What it is called, and the file in which Java's compiler looks for its class.
    fn method(&mut self, method: u64) -> (Arc<str>, Arc<str>) {
        let entry = match self.named.entry(method) {
            Entry::Occupied(known) => return known.get().clone(),
            Entry::Vacant(entry) => entry,
        };
        let Some((class, name)) = self.methods.get(&method) else {
            return ("[unknown]".into(), Arc::default());
        };
        let text = |symbol: &u64| self.symbols.get(symbol).map_or("?", String::as_str);
        let class = self.classes.get(class).map_or("?", text);
        let function = readable(&format!("{}.{}", dotted(class), text(name)));
        entry.insert((function.into(), file_of(class).into())).clone()
    }
}

/// No name is longer: many may share one.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(LONGEST)]
}

/// `[[Ljava/lang/String;` as it would be written: `java.lang.String[][]`.
fn class_name(class: &str) -> String {
    let inner = class.trim_start_matches('[');
    let arrays = class.len() - inner.len();
    let element = match inner {
        _ if arrays == 0 => dotted(inner),
        "Z" => "boolean".to_owned(),
        "B" => "byte".to_owned(),
        "C" => "char".to_owned(),
        "S" => "short".to_owned(),
        "I" => "int".to_owned(),
        "J" => "long".to_owned(),
        "F" => "float".to_owned(),
        "D" => "double".to_owned(),
        _ => dotted(inner.strip_prefix('L').unwrap_or(inner).trim_end_matches(';')),
    };
    element + &"[]".repeat(arrays)
}

/// `java/lang/String` with dots.
fn dotted(class: &str) -> String {
    made_up(class).unwrap_or(class).replace('/', ".")
}

/// A class that the JVM has made up, without its address: `Shop$$Lambda$2+0x0000…/1933863327`, `Shop$$Lambda/0x0000…`; or without its
/// number, in version 8: `Shop$$Lambda$2/1933863327`.
fn made_up(class: &str) -> Option<&str> {
    if let Some(at) = class.find("0x") {
        let at = at.checked_sub(1).filter(|at| matches!(class.as_bytes()[*at], b'+' | b'/' | b'.'))?;
        return Some(&class[..at]);
    }
    let (before, number) = class.rsplit_once('/')?;
    let is_number = !number.is_empty() && number.chars().all(|letter| letter.is_ascii_digit());
    (is_number && before.contains("$$Lambda")).then_some(before)
}

/// `a/b/Outer$Inner` is in `Outer.java`; classes that the JVM has made up are in none.
fn file_of(class: &str) -> String {
    let simple = class.rsplit('/').next().unwrap_or_default();
    match simple.split('$').next() {
        Some(outer) if !outer.is_empty() && outer != "?" && made_up(class).is_none() => {
            format!("{outer}.java")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
