//! From registers and a stack to a call chain, by unwind tables and frame pointers.

use std::ops::Range;

use framehop::{CacheNative, FrameAddress, MayAllocateDuringUnwind, UnwindRegsNative, Unwinder as _};

use crate::{modules::Modules, registers::Registers};

/// What speeds up the next stack of the same process.
pub(crate) type Cache = CacheNative<MayAllocateDuringUnwind>;

/// How far above the stack pointer a waiting thread's frame pointer is looked for, in bytes.
pub(crate) const FRAME_SEARCH: u64 = 16 << 10;

/// A frame of native code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Walked {
    /// Where it goes on.
    pub(crate) address: u64,
    /// By what its function is looked up: of a caller, an address inside its call.
    pub(crate) lookup: u64,
    /// Its part of the stack.
    pub(crate) stack: Range<u64>,
}

/// The frames, innermost first, and whether the outermost was reached. The first may lie in code that has no mapping any more; a
/// caller must be code.
pub(crate) fn walk(
    modules: &Modules,
    cache: &mut Cache,
    (start, frame_pointer): (Registers, u64),
    most: usize,
    read: &mut impl FnMut(u64) -> Result<u64, ()>,
) -> (Vec<Walked>, bool) {
    let mut registers = native(start, frame_pointer);
    let mut at = FrameAddress::from_instruction_pointer(start.instruction);
    let mut frames: Vec<Walked> = Vec::new();
    while frames.len() < most && (frames.is_empty() || modules.is_code(at.address_for_lookup())) {
        let low = registers.sp();
        let next = modules.unwinder.unwind_frame(at, &mut registers, cache, read);
        let high = if matches!(next, Ok(Some(_))) { registers.sp() } else { u64::MAX };
        frames.push(Walked { address: at.address(), lookup: at.address_for_lookup(), stack: low..high });
        match next {
            Ok(Some(address)) => match FrameAddress::from_return_address(address) {
                Some(caller) => at = caller,
                None => return (frames, false),
            },
            end => return (frames, end.is_ok()),
        }
    }
    (frames, false)
}

/// The kernel does not tell the frame pointer of a waiting thread: the first pair above the stack pointer that looks like a
/// saved one (it points further up the stack, and a return address into code follows it). Only used by code without unwind tables,
/// or whose tables count from the frame pointer.
pub(crate) fn frame_pointer(modules: &Modules, stack: u64, bytes: &[u8]) -> Option<u64> {
    let bytes = &bytes[..bytes.len().min(FRAME_SEARCH as usize)];
    let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    words.windows(2).enumerate().find_map(|(index, pair)| {
        let at = stack + index as u64 * 8;
        let saved_above = pair[0] > at && pair[0] - at < FRAME_SEARCH && pair[0] % 8 == 0;
        (saved_above && modules.is_code(pair[1])).then_some(at)
    })
}

#[cfg(target_arch = "x86_64")]
fn native(start: Registers, frame: u64) -> UnwindRegsNative {
    UnwindRegsNative::new(start.instruction, start.stack, frame)
}

#[cfg(target_arch = "aarch64")]
fn native(start: Registers, frame: u64) -> UnwindRegsNative {
    UnwindRegsNative::new(start.link, start.stack, frame)
}
