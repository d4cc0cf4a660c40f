//! Registers and signal frames of x86-64 Linux: how a call is put into a stopped thread so that the thread finds its own way
//! back. Pure data, no system calls.
//!
//! A call is made the way the kernel delivers a signal. Below the red zone (System V ABI, 3.2.2: 128 bytes) lies a
//! `struct rt_sigframe` (arch/x86/include/asm/sigframe.h) with everything the thread was; the function returns into the C
//! library's own `rt_sigreturn` stub, and the **kernel** puts everything back: registers, vector state, signal mask. Nobody
//! has to be there for that: if the injector dies after the one step that starts the call, the thread still comes back.
//! Several calls are chained by frames that start the next function instead.

/// General registers, in the order of `struct user_regs_struct` (arch/x86/include/asm/user_64.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Registers {
    words: [u64; Registers::WORDS],
}

/// Index of a register in `struct user_regs_struct`.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(super) enum Register {
    R15,
    R14,
    R13,
    R12,
    Bp,
    Bx,
    R11,
    R10,
    R9,
    R8,
    Ax,
    Cx,
    Dx,
    Si,
    Di,
    OriginalAx,
    Ip,
    Cs,
    Flags,
    Sp,
    Ss,
}

/// The red zone: memory below the stack pointer that a leaf function may use.
const RED_ZONE: u64 = 128;
/// The number of rt_sigreturn(2).
pub(super) const RT_SIGRETURN: u64 = 15;
/// The number of restart_syscall(2).
const RESTART_SYSCALL: u64 = 219;
/// The direction flag; clear at every call (System V ABI, 3.2.1).
const DIRECTION: u64 = 1 << 10;
/// Trap and resume flags have no place in a call of ours.
const TRAP_AND_RESUME: u64 = (1 << 8) | (1 << 16);
/// `mov $15, %rax; syscall`: how the C libraries begin the stub that signal handlers return to (glibc's
/// sysdeps/unix/sysv/linux/x86_64/libc_sigaction.c, musl's src/signal/x86_64/restore.s).
pub(super) const RETURN_STUB: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];

impl Registers {
    pub(super) const WORDS: usize = 27;

    pub(super) fn from_words(words: [u64; Registers::WORDS]) -> Registers {
        Registers { words }
    }

    pub(super) fn words(&self) -> [u64; Registers::WORDS] {
        self.words
    }

    pub(super) fn get(&self, register: Register) -> u64 {
        self.words[register as usize]
    }

    fn with(mut self, register: Register, value: u64) -> Registers {
        self.words[register as usize] = value;
        self
    }

    /// The number of the system call the thread was stopped in, if the stop interrupted it.
    ///
    /// The kernel leaves -ERESTARTSYS … -ERESTART_RESTARTBLOCK (512 to 516, include/linux/errno.h) in `rax` until the
    /// thread goes back to user space; a few calls (signal(7): epoll_wait, semop …) end with EINTR by any stop.
    pub(super) fn interrupted_call(&self) -> Option<u64> {
        let number = self.get(Register::OriginalAx);
        let result = self.get(Register::Ax).cast_signed();
        let interrupted = matches!(result, -516 | -514..=-512) || result == i64::from(-libc::EINTR);
        (number.cast_signed() >= 0 && interrupted).then_some(number)
    }

    /// What the kernel would make of them on the way back to user space when no handler runs (arch_do_signal_or_restart in
    /// arch/x86/kernel/signal.c): the system call begins again.
    pub(super) fn as_resumed(&self) -> Registers {
        let again = |number: u64| {
            self.with(Register::Ax, number)
                .with(Register::Ip, self.get(Register::Ip).wrapping_sub(2))
                .with(Register::OriginalAx, u64::MAX)
        };
        let number = self.get(Register::OriginalAx);
        if number.cast_signed() < 0 {
            return *self;
        }
        match self.get(Register::Ax).cast_signed() {
            -514..=-512 => again(number),
            -516 => again(RESTART_SYSCALL),
            _ => self.with(Register::OriginalAx, u64::MAX),
        }
    }

    /// As they are when `call` begins with its frame at `frame`.
    fn entering(&self, call: &Call, frame: u64) -> Registers {
        let mut registers = self
            .with(Register::Ip, call.function)
            .with(Register::Sp, frame)
            .with(Register::Ax, 0)
            .with(Register::OriginalAx, u64::MAX)
            .with(Register::Flags, self.get(Register::Flags) & !(DIRECTION | TRAP_AND_RESUME));
        let places = [Register::Di, Register::Si, Register::Dx, Register::Cx, Register::R8, Register::R9];
        for (place, value) in places.into_iter().zip(call.arguments) {
            registers = registers.with(place, value);
        }
        registers
    }
}

/// One function to be called: address and six integer arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) function: u64,
    pub(super) arguments: [u64; 6],
}

impl Call {
    pub(super) fn new(function: u64, arguments: &[u64]) -> Call {
        let mut call = Call { function, arguments: [0; 6] };
        for (place, value) in call.arguments.iter_mut().zip(arguments) {
            *place = *value;
        }
        call
    }
}

/// A stopped thread, as it was.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    pub(super) registers: Registers,
    /// In the layout of XSAVE.
    pub(super) extended: Vec<u8>,
    pub(super) mask: u64,
    /// Address of [`RETURN_STUB`] in the target's C library.
    pub(super) return_stub: u64,
}

/// Calls ready to be written.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    /// Where [`Chain::image`] goes: all of it is stack below the red zone.
    pub(super) bottom: u64,
    pub(super) image: Vec<u8>,
    /// For each call: the registers it begins with.
    pub(super) entries: Vec<Registers>,
    /// For each call: the stack pointer at which its return makes the system call rt_sigreturn.
    pub(super) returns: Vec<u64>,
}

impl Saved {
    /// The first address, going down, that calls may use: 64-byte aligned, below the red zone.
    pub(super) fn top(&self) -> u64 {
        (self.registers.get(Register::Sp) - RED_ZONE) & !63
    }

    /// Where `data` lies when it is given to [`Saved::chain`].
    pub(super) fn data_address(&self, length: usize) -> u64 {
        (self.top() - length as u64) & !63
    }

    /// Lays out data, vector state and one frame for each call.
    pub(super) fn chain(&self, data: &[u8], calls: &[Call]) -> Chain {
        let data_at = self.data_address(data.len());
        let extended = signal_xstate(&self.extended);
        let extended_at = (data_at - extended.as_ref().map_or(0, Vec::len) as u64) & !63;
        let mut places = Vec::new();
        let mut at = extended_at;
        for _ in calls {
            // A function is entered with the stack 8 bytes off a multiple of 16 (System V ABI, 3.2.2).
            at = ((at - FRAME as u64) & !15) - 8;
            places.push(at);
        }
        // The last call's frame is the highest: what an earlier call uses of the stack lies below its own frame.
        places.reverse();
        let entries: Vec<_> =
            calls.iter().zip(&places).map(|(call, &place)| self.registers.entering(call, place)).collect();
        let bottom = at;
        let mut image = vec![0; usize::try_from(self.top() - bottom).unwrap_or(0)];
        let mut put = |address: u64, bytes: &[u8]| {
            let start = usize::try_from(address - bottom).unwrap_or(0);
            image[start..start + bytes.len()].copy_from_slice(bytes);
        };
        put(data_at, data);
        if let Some(extended) = &extended {
            put(extended_at, extended);
        }
        let resumed = self.registers.as_resumed();
        for (index, &place) in places.iter().enumerate() {
            let frame = match entries.get(index + 1) {
                Some(next) => self.frame(next, 0),
                None => self.frame(&resumed, extended.as_ref().map_or(0, |_| extended_at)),
            };
            put(place, &frame);
        }
        Chain { bottom, image, entries, returns: places.iter().map(|place| place + 8).collect() }
    }

    /// A `struct rt_sigframe` without its siginfo, which rt_sigreturn does not read.
    fn frame(&self, registers: &Registers, extended_at: u64) -> [u8; FRAME] {
        use Register as R;
        let mut words = [0u64; FRAME / 8];
        words[0] = self.return_stub;
        // UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS (arch/x86/include/uapi/asm/ucontext.h).
        words[1] = 7;
        // uc_stack with flags that sigaltstack(2) refuses: the kernel then leaves the alternate stack as it is (restore_altstack
        // in kernel/signal.c passes over every error but EFAULT).
        words[4] = 0x5a5a;
        let order = [
            R::R8,
            R::R9,
            R::R10,
            R::R11,
            R::R12,
            R::R13,
            R::R14,
            R::R15,
            R::Di,
            R::Si,
            R::Bp,
            R::Bx,
            R::Dx,
            R::Ax,
            R::Cx,
            R::Sp,
            R::Ip,
            R::Flags,
        ];
        for (word, register) in words[6..].iter_mut().zip(order) {
            *word = registers.get(register);
        }
        // cs, gs, fs, ss: 16 bits each.
        words[24] = (registers.get(R::Cs) & 0xffff) | ((registers.get(R::Ss) & 0xffff) << 48);
        words[29] = extended_at;
        words[38] = self.mask;
        let mut bytes = [0; FRAME];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// Return address, ucontext up to and with the signal mask.
const FRAME: usize = 8 + 304;

/// Size of the legacy region and the header of XSAVE (Intel SDM 1, 13.4).
const XSAVE_MINIMUM: usize = 576;

/// The XSAVE image as a signal frame has it: with the software bytes at 464 and the closing magic number
/// (arch/x86/include/uapi/asm/sigcontext.h, check_xstate_in_sigframe in arch/x86/kernel/fpu/signal.c).
/// `None` when there is none: rt_sigreturn then sets the initial state.
fn signal_xstate(regset: &[u8]) -> Option<Vec<u8>> {
    if regset.len() < XSAVE_MINIMUM {
        return None;
    }
    // ptrace leaves the mask of what the system enabled at 464 (Documentation of NT_X86_XSTATE in kernel/fpu/xstate.c).
    let enabled = u64::from_le_bytes(regset[464..472].try_into().ok()?) & !AMX;
    let size = xstate_size(enabled).min(regset.len());
    let mut bytes = regset[..size].to_vec();
    let present = u64::from_le_bytes(bytes[512..520].try_into().ok()?) & enabled;
    bytes[512..520].copy_from_slice(&present.to_le_bytes());
    bytes[464..512].fill(0);
    bytes[464..468].copy_from_slice(&0x4650_5853u32.to_le_bytes());
    bytes[468..472].copy_from_slice(&(u32::try_from(size).ok()? + 4).to_le_bytes());
    bytes[472..480].copy_from_slice(&enabled.to_le_bytes());
    bytes[480..484].copy_from_slice(&u32::try_from(size).ok()?.to_le_bytes());
    bytes.extend_from_slice(&0x4650_5845u32.to_le_bytes());
    Some(bytes)
}

/// Tile configuration and data: not in a frame by default, as the kernel gives it only to those who asked.
const AMX: u64 = (1 << 17) | (1 << 18);

/// Is a tile of AMX in use? Such a thread is left alone.
pub(super) fn uses_tiles(regset: &[u8]) -> bool {
    regset
        .get(512..520)
        .and_then(|bytes| bytes.try_into().ok())
        .is_some_and(|bytes| u64::from_le_bytes(bytes) & AMX != 0)
}

/// End of the last of these components in the uncompacted layout (Intel SDM 1, 13.5: CPUID leaf 0xd says where each lies).
#[cfg(target_arch = "x86_64")]
fn xstate_size(components: u64) -> usize {
    (2..63)
        .filter(|bit| components & (1 << bit) != 0)
        .map(|bit| {
            let leaf = std::arch::x86_64::__cpuid_count(0xd, bit);
            (leaf.ebx + leaf.eax) as usize
        })
        .fold(XSAVE_MINIMUM, usize::max)
}

#[cfg(not(target_arch = "x86_64"))]
fn xstate_size(_components: u64) -> usize {
    XSAVE_MINIMUM
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        let mut registers = Registers::default();
        for (index, word) in registers.words.iter_mut().enumerate() {
            *word = 0x1000 + index as u64;
        }
        registers = registers
            .with(Register::Sp, 0x7fff_0000_1234)
            .with(Register::OriginalAx, u64::MAX)
            .with(Register::Cs, 0x33)
            .with(Register::Ss, 0x2b)
            .with(Register::Flags, 0x246 | DIRECTION);
        Saved { registers, extended: Vec::new(), mask: 0xabcd, return_stub: 0x5555 }
    }

    fn word(chain: &Chain, address: u64) -> u64 {
        let start = (address - chain.bottom) as usize;
        u64::from_le_bytes(chain.image[start..start + 8].try_into().unwrap())
    }

    #[test]
    fn calls_are_chained_and_the_last_frame_holds_the_thread_as_it_was() {
        let saved = saved();
        let chain = saved.chain(b"text\0", &[Call::new(0x100, &[1, 2]), Call::new(0x200, &[3])]);
        for (entry, back) in chain.entries.iter().zip(&chain.returns) {
            assert_eq!(entry.get(Register::Sp) % 16, 8);
            assert_eq!(entry.get(Register::Sp) + 8, *back);
            assert_eq!(word(&chain, entry.get(Register::Sp)), 0x5555, "returns to the stub");
            assert_eq!(entry.get(Register::Flags), 0x246);
        }
        assert!(chain.entries[0].get(Register::Sp) < chain.entries[1].get(Register::Sp));
        assert_eq!(chain.entries[0].get(Register::Di), 1);
        let first = chain.entries[0].get(Register::Sp);
        // sigcontext: rdi is word 8, rip word 16, rsp word 15 of those after the five words of the ucontext's head.
        assert_eq!(word(&chain, first + 8 * (6 + 8)), 3);
        assert_eq!(word(&chain, first + 8 * (6 + 16)), 0x200);
        let last = chain.entries[1].get(Register::Sp);
        assert_eq!(word(&chain, last + 8 * (6 + 15)), 0x7fff_0000_1234);
        assert_eq!(word(&chain, last + 8 * (6 + 17)), 0x246 | DIRECTION);
        assert_eq!(word(&chain, last + 8 * 38), 0xabcd);
        let data = saved.data_address(5);
        assert_eq!(&chain.image[(data - chain.bottom) as usize..][..5], b"text\0");
        assert!(chain.bottom + chain.image.len() as u64 <= 0x7fff_0000_1234 - 128);
    }

    #[test]
    fn an_interrupted_call_begins_again() {
        let select = saved().registers.with(Register::OriginalAx, 23).with(Register::Ip, 0x402);
        for (code, number) in [(-512i64, 23), (-513, 23), (-514, 23), (-516, 219)] {
            let stopped = select.with(Register::Ax, code.cast_unsigned());
            assert_eq!(stopped.interrupted_call(), Some(23));
            let resumed = stopped.as_resumed();
            assert_eq!((resumed.get(Register::Ax), resumed.get(Register::Ip)), (number, 0x400));
            assert_eq!(resumed.get(Register::OriginalAx), u64::MAX);
        }
        let done = select.with(Register::Ax, 5);
        assert_eq!((done.interrupted_call(), done.as_resumed().get(Register::Ip)), (None, 0x402));
        let epoll = select.with(Register::Ax, (-4i64).cast_unsigned());
        assert_eq!((epoll.interrupted_call(), epoll.as_resumed().get(Register::Ip)), (Some(23), 0x402));
        let running = saved().registers;
        assert_eq!((running.interrupted_call(), running.as_resumed()), (None, running));
    }

    #[test]
    fn vector_state_becomes_a_signal_frames() {
        let mut regset = vec![0u8; 1088];
        regset[464] = 3; // x87 and SSE only
        regset[512..520].copy_from_slice(&7u64.to_le_bytes());
        let frame = signal_xstate(&regset).unwrap();
        assert_eq!(frame.len(), XSAVE_MINIMUM + 4);
        assert_eq!(&frame[464..468], b"SXPF");
        assert_eq!(&frame[576..], b"EXPF");
        assert_eq!(frame[512], 3, "only what is enabled");
        assert!(!uses_tiles(&regset) && signal_xstate(&regset[..100]).is_none());
    }
}
