//! Chains of frames that held at one moment, copied while the thread runs on.
//!
//! All frames are read twice by one system call, with the thread's pointer to the current one before, between and after. Frames that
//! are the same in both copies, and that were never beyond the current one, were so in between. A frame that a call is made from has
//! the place of that call in it: where it differs, what it called is of two moments, and counts for it.

use super::layout::{Layout, fixed};
use crate::python::{Memory, Part};

/// How often a chain is copied before it is given up.
const ATTEMPTS: usize = 24;
/// The largest stack of a virtual machine, in words.
const LARGEST: u64 = 1 << 24;
/// So many frames of calls that may be made meanwhile are read, too.
const BEYOND: u64 = 8;
/// Frames outside the program: what the virtual machine begins with has no code.
const ROOM: u64 = 8;

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawFrame {
    pub(super) address: u64,
    /// After the instruction where it is; 0 for functions of C.
    pub(super) instruction: u64,
    /// Its instruction sequence; 0 for functions of C.
    pub(super) code: u64,
    /// The end of its environment.
    environment: u64,
    /// What a function of C says of its method there.
    pub(super) method: Method,
}

/// A method that is a function of C.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Method {
    /// Its method entry, and the mark of the frame.
    pub(super) entry: u64,
    pub(super) mark: u64,
}

/// Where that stands before the end of the environment, and its bytes.
const BEFORE: u64 = 16;
const METHOD: u64 = 24;

/// Frames, innermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) frames: Vec<RawFrame>,
    /// Are there more, further out?
    pub(super) is_cut: bool,
}

/// What an execution context says of its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    stack: u64,
    /// The first address after the frames.
    end: u64,
    current: u64,
}

impl Head {
    fn of(part: &Part, layout: &Layout) -> Option<Head> {
        let word = |at: u64| part.word(part.address.checked_add(at)?);
        let (stack, size, current) = (word(0)?, word(8)?, word(16)?);
        let end = stack.checked_add(Some(size).filter(|size| *size <= LARGEST)?.checked_mul(8)?)?;
        let length = end.checked_sub(current)?;
        (current >= stack && length.is_multiple_of(layout.frame)).then_some(Head { stack, end, current })
    }

    /// Is a place among the values of its calls?
    fn holds(&self, place: u64) -> bool {
        (self.stack..self.current).contains(&place)
    }
}

/// A chain that held at one moment, of at most so many frames; nothing when the thread moves too fast, or has ended. For `whole`
/// attempts the innermost calls are tried to be seen too, however short they are.
pub(super) fn copy(
    memory: &impl Memory,
    layout: &Layout,
    thread: u64,
    most: usize,
    whole: usize,
) -> Option<Chain> {
    let mut part = None;
    for attempt in 0..ATTEMPTS {
        let context = memory.word(thread.checked_add(layout.context)?)?;
        match twice(memory, layout, context, most) {
            Some((chain, true)) => return Some(chain),
            Some((chain, false)) => part = part.or(Some(chain)),
            None => {}
        }
        if attempt >= whole && part.is_some() {
            break;
        }
    }
    part
}

/// What two copies agree in, and whether that is all.
fn twice(memory: &impl Memory, layout: &Layout, context: u64, most: usize) -> Option<(Chain, bool)> {
    let mut head = [Part::new(context, fixed::HEAD)];
    memory.fill(&mut head).then_some(())?;
    let [head] = head;
    let first = Head::of(&head, layout)?;
    let low = first.current.checked_sub(BEYOND * layout.frame)?;
    let length = (first.end - low).min((most as u64 + BEYOND + ROOM) * layout.frame);
    let is_cut = low + length < first.end;
    let mut once = [Part::new(low, length)];
    memory.fill(&mut once).then_some(())?;
    let [frames] = once;
    // What functions of C say of their methods stands elsewhere: it is read after each of the two copies.
    let methods = methods(&chain(&frames, layout, first.current)?, &first);
    let copy = [&[head.clone(), frames][..], &methods].concat();
    let mut parts = [&copy[..], &copy, &[head]].concat();
    memory.fill(&mut parts).then_some(())?;
    let [before, one, rest @ .., after] = &parts[..] else { return None };
    let (first_methods, rest) = rest.split_at_checked(methods.len())?;
    let [between, other, methods @ ..] = rest else { return None };
    let heads = [before, between, after].map(|part| Head::of(part, layout));
    let [Some(before), Some(between), Some(after)] = heads else { return None };
    if [before.end, between.end, after.end].iter().any(|end| *end != first.end) {
        return None;
    }
    let start = before.current.max(between.current).max(after.current);
    let is_still = before == between && between == after;
    let (one, other) = (chain(one, layout, start)?, chain(other, layout, start)?);
    let (mut frames, agrees) = common(&one, &other)?;
    let known = with_methods(&mut frames, &first, first_methods, methods);
    if !is_cut {
        // The outermost is the machine's own, whatever it says of itself.
        frames.pop();
    }
    frames.retain(|frame| frame.code != 0 || frame.environment != 0);
    let is_cut = is_cut || frames.len() > most;
    frames.truncate(most);
    Some((Chain { frames, is_cut }, agrees && is_still && known))
}

/// Where functions of C say what they are, each once: on the same stack.
fn methods(frames: &[RawFrame], head: &Head) -> Vec<Part> {
    let places =
        frames.iter().filter(|frame| frame.code == 0).map(|frame| frame.environment.wrapping_sub(BEFORE));
    let mut places: Vec<u64> = places.filter(|place| head.holds(*place)).collect();
    places.sort_unstable();
    places.dedup();
    places.into_iter().map(|place| Part::new(place, METHOD)).collect()
}

/// Adds the methods of functions of C, if both copies have the same. Of the innermost whose method is not known, which have been called
/// only just now, nothing is kept; false when there were any.
fn with_methods(frames: &mut Vec<RawFrame>, head: &Head, before: &[Part], methods: &[Part]) -> bool {
    let mut unknown = 0;
    for (index, frame) in frames.iter_mut().enumerate().filter(|(_, frame)| frame.code == 0) {
        let at = frame.environment.wrapping_sub(BEFORE);
        let found = methods.binary_search_by_key(&at, |part| part.address).ok();
        match found.filter(|found| methods[*found] == before[*found]).map(|found| &methods[found]) {
            Some(part) => {
                let word = |at| part.word(at).unwrap_or(0);
                frame.method = Method { entry: word(at), mark: word(frame.environment) };
            }
            None if head.holds(at) => unknown = index + 1,
            None => {}
        }
    }
    frames.drain(..unknown);
    unknown == 0
}

/// The frames of a copy from an address on, innermost first.
fn chain(part: &Part, layout: &Layout, start: u64) -> Option<Vec<RawFrame>> {
    let places = (start..part.end()).step_by(usize::try_from(layout.frame).ok()?);
    let frame = |address: u64| {
        let word = |at: usize| part.word(address.checked_add(at as u64)?);
        let (code, environment) = (word(fixed::CODE)?, word(fixed::ENVIRONMENT)?);
        let method = Method::default();
        Some(RawFrame { address, instruction: word(0)?, code, environment, method })
    };
    let all: Vec<RawFrame> = places.map_while(frame).collect();
    (start >= part.address && !all.is_empty()).then_some(all)
}

/// What is the same in both, from the outermost on, with the first that is elsewhere in its code by now, as the other has it; and
/// whether nothing but the place of the innermost differs.
fn common(one: &[RawFrame], other: &[RawFrame]) -> Option<(Vec<RawFrame>, bool)> {
    let same = one.iter().rev().zip(other.iter().rev()).take_while(|(one, other)| one == other).count();
    let next = |of: &[RawFrame]| of.len().checked_sub(same + 1).and_then(|index| of.get(index)).copied();
    let moved = match (next(one), next(other)) {
        (Some(one), Some(other)) => (one.code, one.environment) == (other.code, other.environment),
        _ => false,
    };
    let from = other.len() - same - usize::from(moved);
    (from < other.len()).then(|| (other[from..].to_vec(), from == 0 && one.len() == other.len()))
}
