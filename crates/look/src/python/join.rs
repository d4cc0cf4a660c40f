//! Python's frames and those of its native code in one stack. Each loop of the interpreter that stands in the native stack is replaced
//! by the frames of Python that it runs.

use std::ops::Range;

use pepo_process::{Process, runtime::python::PythonFacts};

use super::{frames::Entry, interpreter::Placed};
use crate::unwind::Walked;

/// A frame of a joined stack, by its place in the one list or the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Either {
    Native(usize),
    Python(usize),
}

/// Where the code of the interpreter's loop is.
pub(crate) fn eval_loop(process: &Process, facts: &PythonFacts) -> Option<Range<u64>> {
    let symbol = facts.module.open(process)?.symbol("_PyEval_EvalFrameDefault")?;
    let start = symbol.address.wrapping_add(facts.module.bias);
    Some(start..start.checked_add(symbol.size)?)
}

/// The joined stack, innermost first; nothing when the two do not belong together. `code` is the interpreter's loop, where the frames
/// do not say themselves which loops run them; `whole` says that both reach the outermost frame.
pub(crate) fn join(
    native: &[Walked],
    python: &[Placed],
    code: Option<&Range<u64>>,
    whole: bool,
) -> Option<Vec<Either>> {
    let places: Vec<u64> = python
        .iter()
        .filter_map(|frame| if let Entry::At(address) = frame.entry { Some(address) } else { None })
        .collect();
    let is_loop = native.iter().map(|frame| {
        if places.is_empty() {
            code.is_some_and(|code| code.contains(&frame.lookup))
        } else {
            places.iter().any(|place| frame.stack.contains(place))
        }
    });
    let is_entry = python.iter().map(|frame| frame.entry != Entry::No);
    joined(&is_loop.collect::<Vec<_>>(), &is_entry.collect::<Vec<_>>(), whole)
}

/// `is_loop` says of each native frame whether it is the interpreter's loop, `is_entry` of each frame of Python whether a loop begins
/// with it. Where both are whole they are joined from the outermost frame, since a loop that has only just begun, or is about to end,
/// runs nothing yet, or no more.
fn joined(is_loop: &[bool], is_entry: &[bool], whole: bool) -> Option<Vec<Either>> {
    let loops = is_loop.iter().filter(|one| **one).count();
    let entries = is_entry.iter().filter(|one| **one).count();
    if whole && loops.abs_diff(entries) > 1 || loops == 0 && entries > 0 {
        return None;
    }
    // So many of the innermost loops run nothing.
    let mut idle = if whole { loops.saturating_sub(entries) } else { 0 };
    let mut out = Vec::with_capacity(is_loop.len() + is_entry.len());
    let mut next = 0;
    let run = |next: &mut usize, out: &mut Vec<Either>| {
        while *next < is_entry.len() {
            out.push(Either::Python(*next));
            *next += 1;
            if is_entry[*next - 1] {
                break;
            }
        }
    };
    if whole && entries > loops {
        run(&mut next, &mut out);
    }
    for (index, is_loop) in is_loop.iter().enumerate() {
        if !is_loop || idle > 0 {
            out.push(Either::Native(index));
            idle -= usize::from(*is_loop);
        } else {
            run(&mut next, &mut out);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::{Either::*, *};

    #[test]
    fn loops_are_replaced_by_what_they_run() {
        // Innermost first: a C function, a loop, C between, a loop, main.
        let native = [false, true, false, true, false];
        let python = [false, true, true];
        let found = joined(&native, &python, true).unwrap();
        assert_eq!(found, [Native(0), Python(0), Python(1), Native(2), Python(2), Native(4)]);
        // A loop that has only begun stays as it is.
        let found = joined(&native, &[true], true).unwrap();
        assert_eq!(found, [Native(0), Native(1), Native(2), Python(0), Native(4)]);
        // A frame whose loop is not there yet is the innermost.
        let found = joined(&native, &[true, true, true], true).unwrap();
        assert_eq!(found[..3], [Python(0), Native(0), Python(1)]);
        // Cut off at the outer end.
        let found = joined(&native[..2], &python, false).unwrap();
        assert_eq!(found, [Native(0), Python(0), Python(1)]);
    }

    #[test]
    fn what_does_not_belong_together_is_not_joined() {
        assert_eq!(joined(&[true, true, true], &[true], true), None);
        assert_eq!(joined(&[false], &[true], true), None);
        assert_eq!(joined(&[false], &[], true), Some(vec![Native(0)]));
    }
}
