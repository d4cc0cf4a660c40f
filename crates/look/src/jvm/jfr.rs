//! Samples in what a JVM's own recorder writes (Flight Recorder, "chunks" of version 2; JDK Mission Control's and async-profiler's sources
//! describe them). A chunk tells the types of all that is in it, events by their types, and constants that events name by number.
//!
//! Whoever owns the target may have written it: every count is held against the bytes that are left, and all values together against a
//! budget, so that neither time nor memory grows faster than what was read.

/// Bytes, one after the other.
mod cursor;
/// Types, and values of them.
mod types;

use std::collections::HashMap;

use self::{
    cursor::Cursor,
    types::{Types, Value},
};
use super::names::readable;

/// Bytes of a chunk's head.
const HEAD: usize = 68;
/// Most frames of a stack: no recorder keeps more.
const DEEPEST: usize = 2048;
/// Events, by what they are called; samples of threads that run Java, and of those that are in native code, running or not.
const RUNNING: &str = "jdk.ExecutionSample";
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
    pub(crate) name: String,
    /// Innermost first.
    pub(crate) frames: Vec<String>,
    /// Is the outermost missing?
    pub(crate) is_cut: bool,
}

/// The samples of a recording, one chunk after the other.
///
/// # Errors
/// Where the bytes are none; what was read before is lost.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Sample>, Malformed> {
    let mut samples = Vec::new();
    // As many values as bytes: each takes one at least, but for those of types without fields.
    let mut budget = bytes.len();
    let mut rest = bytes;
    for _ in 0..CHUNKS {
        if rest.is_empty() {
            break;
        }
        let chunk = Chunk::of(rest)?;
        chunk.samples(&mut budget, &mut samples)?;
        rest = &rest[chunk.bytes.len()..];
    }
    Ok(samples)
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

/// A sample as it stands in a chunk: time, thread and stack by their numbers.
type Named = (u64, u64, u64);

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

    fn samples(&self, budget: &mut usize, out: &mut Vec<Sample>) -> Result<(), Malformed> {
        let types = Types::read(&mut self.event(self.metadata)?)?;
        let mut known = Known::default();
        self.constants(&types, budget, &mut known)?;
        for (ticks, thread, stack) in self.named(&types, budget)? {
            let Some(stack) = known.stacks.get(&stack) else { continue };
            let (tid, name) = known.threads.get(&thread).cloned().unwrap_or_default();
            // Stacks and names are shared in the file: what is made of them is counted, too.
            let cost = stack.methods.len().saturating_add(name.len() / 16);
            *budget = budget.checked_sub(cost).ok_or(Malformed)?;
            let nanos = u128::from(ticks.saturating_sub(self.start_ticks)) * 1_000_000_000;
            let since = u64::try_from(nanos / u128::from(self.frequency)).unwrap_or(u64::MAX);
            out.push(Sample {
                at: self.start_nanos.saturating_add(since),
                tid,
                name,
                frames: stack.methods.iter().map(|method| known.method(*method)).collect(),
                is_cut: stack.is_cut,
            });
        }
        Ok(())
    }

    /// The event at a place, after its size.
    fn event(&self, at: usize) -> Result<Cursor<'a>, Malformed> {
        let rest = self.bytes.get(at..).filter(|_| at >= HEAD).ok_or(Malformed)?;
        let mut cursor = Cursor::new(rest);
        let size = cursor.count()?;
        let body = size.checked_sub(cursor.taken()).ok_or(Malformed)?;
        cursor.part(body)
    }

    /// All samples of threads that run.
    fn named(&self, types: &Types, budget: &mut usize) -> Result<Vec<Named>, Malformed> {
        let mut found = Vec::new();
        let Some(wanted) = types.named(RUNNING) else { return Ok(found) };
        let fields = ["startTime", "sampledThread", "stackTrace"].map(|name| types.field(wanted, name));
        let mut at = HEAD;
        while at < self.bytes.len() {
            let mut rest = Cursor::new(&self.bytes[at..]);
            let size = rest.count()?;
            if size < rest.taken() + 1 || size > self.bytes.len() - at {
                return Err(Malformed);
            }
            at += size;
            if rest.number()? == wanted {
                let mut event = rest.part(size - rest.taken())?;
                let value = types.value(wanted, &mut event, budget)?;
                let [time, thread, stack] = fields.map(|field| value.at(field?)?.number());
                if let (Some(time), Some(thread), Some(stack)) = (time, thread, stack) {
                    found.push((time, thread, stack));
                }
            }
        }
        Ok(found)
    }

    /// Constants stand in a chain of events, from the last to the first.
    fn constants(&self, types: &Types, budget: &mut usize, known: &mut Known) -> Result<(), Malformed> {
        let mut at = self.constants;
        loop {
            let mut event = self.event(at)?;
            // Its type, when, for how long, and where the one before stands.
            let [_, _, _, before] =
                [event.number()?, event.number()?, event.number()?, event.number()?].map(u64::cast_signed);
            let _kind = event.byte()?;
            for _ in 0..event.count()? {
                let kind = event.number()?;
                for _ in 0..event.count()? {
                    let key = event.number()?;
                    let value = types.value(kind, &mut event, budget)?;
                    known.learn(types, kind, key, value);
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

/// A stack: its methods by number, innermost first.
struct Stack {
    methods: Vec<u64>,
    is_cut: bool,
}

/// Constants that samples lead to.
#[derive(Default)]
struct Known {
    stacks: HashMap<u64, Stack>,
    /// Class and name.
    methods: HashMap<u64, (u64, u64)>,
    /// Name.
    classes: HashMap<u64, u64>,
    symbols: HashMap<u64, String>,
    threads: HashMap<u64, (u32, String)>,
}

impl Known {
    fn learn(&mut self, types: &Types, kind: u64, key: u64, value: Value) {
        let field = |name: &str| value.at(types.field(kind, name)?);
        let number = |name: &str| field(name).and_then(Value::number).unwrap_or(0);
        match types.name(kind) {
            "jdk.types.StackTrace" => {
                let Some(Value::All(frames)) = field("frames") else { return };
                let Some(frame) = types.named("jdk.types.StackFrame") else { return };
                let Some(place) = types.field(frame, "method") else { return };
                let methods = frames.iter().filter_map(|frame| frame.at(place)?.number());
                let methods: Vec<u64> = methods.take(DEEPEST).collect();
                let is_cut = number("truncated") != 0 || frames.len() > DEEPEST;
                self.stacks.insert(key, Stack { methods, is_cut });
            }
            "jdk.types.Method" => drop(self.methods.insert(key, (number("type"), number("name")))),
            "java.lang.Class" => drop(self.classes.insert(key, number("name"))),
            "jdk.types.Symbol" => {
                if let Some(Value::Text(text)) = field("string") {
                    self.symbols.insert(key, text.clone());
                }
            }
            "java.lang.Thread" => {
                let text = |name: &str| match field(name) {
                    Some(Value::Text(text)) if !text.is_empty() => Some(text.clone()),
                    _ => None,
                };
                let name = text("javaName").or_else(|| text("osName")).unwrap_or_default();
                let tid = u32::try_from(number("osThreadId")).unwrap_or(0);
                self.threads.insert(key, (tid, name));
            }
            _ => {}
        }
    }

    fn method(&self, method: u64) -> String {
        let Some((class, name)) = self.methods.get(&method) else { return "[unknown]".to_owned() };
        let text = |symbol: &u64| self.symbols.get(symbol).map_or("?", String::as_str);
        let class = self.classes.get(class).map_or("?", text);
        readable(&format!("{}.{}", dotted(class), text(name)))
    }
}

/// `java/lang/String` with dots, and the address of a class that the JVM has made up (`Shop$$Lambda+0x0000…`) as others tell it.
fn dotted(class: &str) -> String {
    class.replace('/', ".").replace("+0x", "/0x").replace(".0x", "/0x")
}
