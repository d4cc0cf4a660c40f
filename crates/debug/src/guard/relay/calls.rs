//! Calls of functions that gdb has begun in the target and not ended.
//!
//! gdb keeps the registers to itself, writes those of the call, and lets the thread return to an address on its stack that holds no code.
//! A call that a breakpoint interrupts is left so; let go of, the thread returns there and the target ends. So the registers are kept
//! here, too, from what gdb reads and writes (`g` and `G` of its remote protocol), and put back when the target is let go.

use std::collections::BTreeMap;

use crate::guard::packet::hex;

/// Where stack pointer and program counter stand among the registers of a `g` packet, in registers of 64 bits (gdb's
/// `features/i386/64bit-core.xml` and `features/aarch64-core.xml`).
#[cfg(target_arch = "x86_64")]
const SP_AND_PC: (usize, usize) = (7, 16);
#[cfg(target_arch = "aarch64")]
const SP_AND_PC: (usize, usize) = (31, 32);

/// What is known of threads' registers, by the threads' names; registers as in a packet.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Whose registers are meant.
    selected: Vec<u8>,
    /// As they were last read or written since the thread stopped.
    now: BTreeMap<Vec<u8>, Vec<u8>>,
    /// As they were before gdb wrote any since then.
    before: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What a write of registers is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A call begins in this thread, whose registers these were.
    Begins(Vec<u8>, Vec<u8>),
    /// It has ended, or was given up by gdb.
    Ends(Vec<u8>),
}

impl Calls {
    /// From now on this thread is meant.
    pub(super) fn select(&mut self, thread: &[u8]) {
        self.selected = thread.to_vec();
    }

    /// The stub told registers.
    pub(super) fn read(&mut self, registers: &[u8]) {
        if stack_and_code(registers).is_some() {
            self.now.insert(self.selected.clone(), registers.to_vec());
        }
    }

    /// gdb writes registers. `begun` holds the calls that have not ended, as [`Change::Begins`] told them.
    pub(super) fn written(&mut self, registers: &[u8], begun: &BTreeMap<Vec<u8>, Vec<u8>>) -> Option<Change> {
        let thread = self.selected.clone();
        let now = self.now.insert(thread.clone(), registers.to_vec())?;
        let (stack, _) = stack_and_code(registers)?;
        if let Some(saved) = begun.get(&thread) {
            let ended = stack_and_code(saved) == stack_and_code(registers);
            return ended.then(|| {
                // The last of what gdb puts back is yet to come.
                self.before.insert(thread.clone(), saved.clone());
                Change::Ends(thread)
            });
        }
        let before = self.before.entry(thread.clone()).or_insert(now);
        let (was, _) = stack_and_code(before)?;
        (stack < was).then(|| Change::Begins(thread, before.clone()))
    }

    /// Threads run: what was known is no longer so.
    pub(super) fn resumed(&mut self) {
        self.now.clear();
        self.before.clear();
    }
}

/// Stack pointer and program counter.
fn stack_and_code(registers: &[u8]) -> Option<(u64, u64)> {
    let register = |index: usize| {
        // The lowest byte comes first.
        Some(hex(registers.get(index * 16..(index + 1) * 16)?)?.swap_bytes())
    };
    register(SP_AND_PC.0).zip(register(SP_AND_PC.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Registers with this stack pointer, program counter, and another.
    fn registers(stack: u64, code: u64, other: u64) -> Vec<u8> {
        let mut all = vec![0_u64; 40];
        (all[SP_AND_PC.0], all[SP_AND_PC.1], all[0]) = (stack, code, other);
        all.iter()
            .flat_map(|one| one.to_le_bytes())
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
            .into()
    }

    /// Follows writes as the relay does.
    fn write(calls: &mut Calls, begun: &mut BTreeMap<Vec<u8>, Vec<u8>>, what: &[u8]) {
        match calls.written(what, begun) {
            Some(Change::Begins(thread, saved)) => drop(begun.insert(thread, saved)),
            Some(Change::Ends(thread)) => drop(begun.remove(&thread)),
            None => {}
        }
    }

    #[test]
    fn a_call_begins_below_the_stack_and_ends_where_it_began() {
        let (mut calls, mut begun) = (Calls::default(), BTreeMap::new());
        calls.select(b"p1.1");
        let saved = registers(0x7000, 0x400, 1);
        calls.read(&saved);
        write(&mut calls, &mut begun, &registers(0x7000, 0x400, 2));
        assert!(begun.is_empty(), "an argument");
        write(&mut calls, &mut begun, &registers(0x6f00, 0x400, 2));
        write(&mut calls, &mut begun, &registers(0x6f00, 0x900, 2));
        assert_eq!(begun, BTreeMap::from([(b"p1.1".to_vec(), saved.clone())]));
        calls.resumed();
        calls.read(&registers(0x6f08, 0x6f20, 3));
        write(&mut calls, &mut begun, &registers(0x6f08, 0x400, 3));
        assert_eq!(begun.len(), 1);
        write(&mut calls, &mut begun, &registers(0x7000, 0x400, 3));
        assert!(begun.is_empty());
        // The next one, in the same stop, begins with the same registers.
        write(&mut calls, &mut begun, &saved);
        write(&mut calls, &mut begun, &registers(0x6f00, 0x400, 4));
        assert_eq!(begun.values().next(), Some(&saved));
    }

    #[test]
    fn a_jump_is_no_call_and_what_is_not_understood_none() {
        let (mut calls, mut begun) = (Calls::default(), BTreeMap::new());
        calls.select(b"p1.1");
        write(&mut calls, &mut begun, &registers(0x6000, 1, 1));
        calls.resumed();
        calls.read(&registers(0x7000, 0x400, 1));
        write(&mut calls, &mut begun, &registers(0x7000, 0x900, 1));
        write(&mut calls, &mut begun, b"xxxx");
        write(&mut calls, &mut begun, b"");
        calls.select(b"p1.2");
        write(&mut calls, &mut begun, &registers(0x6000, 0x900, 1));
        assert!(begun.is_empty());
    }
}
