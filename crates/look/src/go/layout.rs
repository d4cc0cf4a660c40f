//! What lies where in `runtime.g`, by the version of Go (runtime2.go), on 64-bit machines.

/// Bytes that are read of a goroutine, of all versions.
pub(super) const SIZE: usize = 320;
/// The garbage collector looks at it; added to a status.
const SCAN: u32 = 0x1000;

/// Offsets that are the same in all versions: `stack`, `m`, `sched.sp`, `sched.pc`, `sched.g`.
const STACK: usize = 0;
const MACHINE: usize = 48;
const STACK_POINTER: usize = 56;
const INSTRUCTION: usize = 64;
const ITSELF: usize = 72;

/// Offsets that are not; what is missing is `None`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// `sched.bp`
    frame: usize,
    /// `syscallsp`; `syscallpc` follows, and then `syscallbp`, where there is one.
    in_call: usize,
    has_frame_in_call: bool,
    /// `atomicstatus`; `goid`, `waitsince` and `waitreason` follow at the same distance in all versions.
    status: usize,
    /// `lockedm`
    locked: usize,
    /// `parentGoid`
    parent: Option<usize>,
    /// `gopc`; `startpc` follows.
    created_at: usize,
}

const GO_1_18: Layout = Layout {
    frame: 104,
    in_call: 112,
    has_frame_in_call: false,
    status: 144,
    locked: 232,
    parent: None,
    created_at: 296,
};
const GO_1_21: Layout = Layout { locked: 208, parent: Some(272), created_at: 280, ..GO_1_18 };
const GO_1_23: Layout = Layout {
    has_frame_in_call: true,
    status: 152,
    locked: 216,
    parent: Some(280),
    created_at: 288,
    ..GO_1_18
};
/// `sched.ret` is gone.
const GO_1_25: Layout = Layout {
    frame: 96,
    in_call: 104,
    status: 144,
    locked: 208,
    parent: Some(272),
    created_at: 280,
    ..GO_1_23
};
/// And of 1.27.
const GO_1_26: Layout = Layout { parent: Some(280), created_at: 288, ..GO_1_25 };

/// What a goroutine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Runnable,
    Running,
    Syscall,
    Waiting,
    CopyStack,
    Preempted,
    Leaked,
    /// It has ended, or not begun.
    Dead,
}

impl Status {
    fn of(number: u32) -> Option<Status> {
        Some(match number & !SCAN {
            1 => Status::Runnable,
            2 => Status::Running,
            3 => Status::Syscall,
            4 => Status::Waiting,
            8 => Status::CopyStack,
            9 => Status::Preempted,
            10 => Status::Leaked,
            0 | 6 | 11 => Status::Dead,
            _ => return None,
        })
    }

    /// As the runtime calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Status::Runnable => "runnable",
            Status::Running => "running",
            Status::Syscall => "syscall",
            Status::Waiting => "waiting",
            Status::CopyStack => "copystack",
            Status::Preempted => "preempted",
            Status::Leaked => "leaked",
            Status::Dead => "dead",
        }
    }
}

/// Where to begin unwinding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) instruction: u64,
    pub(crate) stack: u64,
    pub(crate) frame: Option<u64>,
}

/// A goroutine, as its memory has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Goroutine {
    pub(crate) id: u64,
    pub(crate) status: Status,
    /// Number of what it waits for.
    pub(crate) reason: u8,
    /// Since when it waits, by the machine's clock in nanoseconds; 0 when nobody has noted it.
    pub(crate) since: i64,
    /// From its lowest address to its end.
    pub(crate) stack: std::ops::Range<u64>,
    /// Where it goes on, unless it runs.
    pub(crate) start: Start,
    /// Address of the runtime's `m` that runs it; 0 for none.
    pub(crate) machine: u64,
    pub(crate) is_locked: bool,
    pub(crate) parent: u64,
    pub(crate) created_at: u64,
    pub(crate) entry: u64,
}

impl Layout {
    /// Versions after the last known one are tried with its layout: what does not fit is noticed.
    pub(super) fn of(release: Option<(u32, u32)>) -> Result<Layout, String> {
        match release {
            _ if cfg!(not(target_pointer_width = "64")) => {
                Err("goroutines are only read on 64-bit machines".into())
            }
            None => Err("which version of Go it was built with is not known".into()),
            Some((1, minor @ ..18)) => {
                Err(format!("goroutines are read since Go 1.18, and this is Go 1.{minor}"))
            }
            Some((1, 18..=20)) => Ok(GO_1_18),
            Some((1, 21..=22)) => Ok(GO_1_21),
            Some((1, 23..=24)) => Ok(GO_1_23),
            Some((1, 25)) => Ok(GO_1_25),
            Some(_) => Ok(GO_1_26),
        }
    }

    /// Bytes that must be read of a goroutine.
    pub(super) fn size(&self) -> usize {
        self.created_at + 24
    }

    /// Of `runtime.m`: where the kernel's number of the thread is. An `m` begins with a pointer, a `gobuf` and 8 bytes.
    pub(super) fn thread_number(&self) -> u64 {
        (8 + (self.in_call - STACK_POINTER) + 8) as u64
    }

    /// Reads one; nothing when it cannot be a goroutine.
    pub(super) fn goroutine(&self, address: u64, bytes: &[u8]) -> Option<Goroutine> {
        let word = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
        let status =
            Status::of(u32::from_ne_bytes(bytes.get(self.status..self.status + 4)?.try_into().ok()?))?;
        let stack = word(STACK)?..word(STACK + 8)?;
        if status != Status::Dead && (word(ITSELF)? != address || stack.is_empty()) {
            return None;
        }
        let start = if status == Status::Syscall {
            let frame = if self.has_frame_in_call { Some(word(self.in_call + 16)?) } else { None };
            Start { stack: word(self.in_call)?, instruction: word(self.in_call + 8)?, frame }
        } else {
            let frame = Some(word(self.frame)?);
            Start { stack: word(STACK_POINTER)?, instruction: word(INSTRUCTION)?, frame }
        };
        Some(Goroutine {
            id: word(self.status + 8)?,
            status,
            reason: *bytes.get(self.status + 32)?,
            since: word(self.status + 24)?.cast_signed(),
            stack,
            start,
            machine: word(MACHINE)?,
            is_locked: word(self.locked)? != 0,
            parent: self.parent.map_or(Some(0), word)?,
            created_at: word(self.created_at)?,
            entry: word(self.created_at + 16)?,
        })
    }
}
