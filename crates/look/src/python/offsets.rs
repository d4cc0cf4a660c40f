//! Where CPython keeps what: for 3.8 to 3.12 as compiled from its public headers, from 3.13 on as the interpreter itself
//! publishes it at the beginning of `_PyRuntime` (`_Py_DebugOffsets`; "pycore_debug_offsets.h").
//!
//! All are of 64-bit builds with the global interpreter lock. What is published is data of the target and bounded before use.

/// Bytes that are believed of the offsets inside the runtime's and an interpreter's state.
const FAR: u64 = 1 << 20;
/// The same inside any object.
const NEAR: u64 = 1 << 12;

/// How the chain of frames is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frames {
    /// Frame objects, one for each call of the interpreter's loop (3.8 to 3.10).
    Objects,
    /// Frames in the thread's own stack, reached through a structure on the C stack; `is_entry` marks the loop's first (3.11).
    Marked,
    /// The same, and the loop's first lies above a frame that is no function's (3.12).
    Shimmed,
    /// As [`Frames::Shimmed`], reached from the thread's state (3.13 on).
    Direct,
}

/// How lines are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    /// `co_lnotab`, 3.8 and 3.9.
    Deltas,
    /// `co_linetable` of 3.10.
    Ranges,
    /// The table of locations, 3.11 on.
    Locations,
}

/// A field: bytes from the beginning of what it is in.
pub(crate) type At = u64;

/// All offsets of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offsets {
    pub(crate) frames: Frames,
    pub(crate) lines: Lines,
    /// Of `_PyRuntime`.
    pub(crate) interpreters: At,
    pub(crate) gil: Gil,
    pub(crate) interpreter: InterpreterAt,
    pub(crate) thread: ThreadAt,
    pub(crate) frame: FrameAt,
    pub(crate) code: CodeAt,
    pub(crate) object: ObjectAt,
}

/// Where the lock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gil {
    /// One, in `_PyRuntime`.
    InRuntime { locked: At, holder: At },
    /// Each interpreter's state points to its own, which several may share.
    OfInterpreter { pointer: At, locked: At, holder: At },
}

/// `PyInterpreterState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InterpreterAt {
    pub(crate) next: At,
    pub(crate) threads: At,
    pub(crate) modules: At,
}

/// `PyThreadState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadAt {
    pub(crate) next: At,
    pub(crate) interpreter: At,
    /// The current frame, or the structure on the C stack that has it.
    pub(crate) frame: At,
    /// The current frame in that structure.
    pub(crate) of_c_frame: At,
    /// `pthread_self()`.
    pub(crate) ident: At,
    /// As the kernel numbers it; not before 3.11.
    pub(crate) native_id: Option<At>,
}

/// `PyFrameObject`, `_PyInterpreterFrame`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameAt {
    pub(crate) code: At,
    pub(crate) back: At,
    /// The instruction: an address, or up to 3.10 an index.
    pub(crate) instruction: At,
    /// Who owns it, in one byte; not before 3.11.
    pub(crate) owner: Option<At>,
    /// `is_entry` of 3.11, a byte.
    pub(crate) is_entry: Option<At>,
    pub(crate) locals: At,
    pub(crate) alive: Alive,
}

/// What in a frame says whether it runs, waits for what it called, or has ended and is only what is left in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alive {
    /// A byte that is this as long as the frame has not ended (3.8 to 3.10).
    Byte(At, u8),
    /// The depth of its stack, an `int`: -1 while it runs or has called C; it waits, or has ended, when it is more (3.11 to 3.13).
    Depth(At),
    /// A pointer into its stack: none while it runs (3.14).
    Pointer(At),
}

impl Alive {
    pub(crate) fn at(self) -> At {
        match self {
            Alive::Byte(at, _) | Alive::Depth(at) | Alive::Pointer(at) => at,
        }
    }
}

/// `PyCodeObject`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodeAt {
    pub(crate) file: At,
    pub(crate) name: At,
    /// The name with its class; not before 3.11.
    pub(crate) qualified: Option<At>,
    pub(crate) first_line: At,
    pub(crate) lines: At,
    /// The bytecode, or up to 3.10 a pointer to it.
    pub(crate) bytecode: At,
    /// Names of variables: of all, or up to 3.10 of the plain ones.
    pub(crate) variables: At,
    /// Up to 3.10, names of those that inner functions share, and of those of outer functions.
    pub(crate) shared: Option<[At; 2]>,
    /// What kind each variable is, a byte each; not before 3.11.
    pub(crate) kinds: Option<At>,
}

/// Objects of the builtin types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ObjectAt {
    /// Text of an ASCII `str`.
    pub(crate) ascii: At,
    /// Text of any other compact `str`.
    pub(crate) compact: At,
    /// Does an `int` carry its sign in a tag (3.12 on)?
    pub(crate) tagged_int: bool,
    pub(crate) digits: At,
    /// Items of a `tuple`.
    pub(crate) items: At,
}

/// Of a type, a `str`, a container: the same in all these versions.
pub(crate) mod fixed {
    use super::At;
    pub(crate) const TYPE: At = 8;
    pub(crate) const SIZE: At = 16;
    pub(crate) const TYPE_NAME: At = 24;
    pub(crate) const TYPE_FLAGS: At = 168;
    pub(crate) const TYPE_DICT_OFFSET: At = 288;
    pub(crate) const STR_STATE: At = 32;
    pub(crate) const BYTES: At = 32;
    pub(crate) const LIST_ITEMS: At = 24;
    pub(crate) const FLOAT: At = 16;
    pub(crate) const DICT_USED: At = 16;
    pub(crate) const DICT_KEYS: At = 32;
    pub(crate) const DICT_VALUES: At = 40;
    pub(crate) const MODULE_DICT: At = 16;
}

impl Offsets {
    /// Of 3.8 to 3.12; nothing for what is not known.
    pub(crate) fn known(minor: u32) -> Option<Offsets> {
        KNOWN.iter().find(|(known, _)| *known == minor).map(|(_, offsets)| offsets.clone())
    }

    /// Bytes of a frame that are looked at.
    pub(crate) fn frame_size(&self) -> u64 {
        let frame = &self.frame;
        let fields = [
            frame.code + 8,
            frame.back + 8,
            frame.instruction + 8,
            frame.owner.unwrap_or(0) + 1,
            frame.alive.at() + 8,
        ];
        fields.into_iter().max().unwrap_or(0)
    }

    /// Bytes of a code object that are looked at.
    pub(crate) fn code_size(&self) -> u64 {
        let code = &self.code;
        let fields =
            [code.file, code.name, code.qualified.unwrap_or(0), code.first_line, code.lines, code.bytecode];
        fields.into_iter().max().unwrap_or(0) + 8
    }

    /// Bytes of a thread's state that are looked at.
    pub(crate) fn thread_size(&self) -> u64 {
        let thread = &self.thread;
        let fields =
            [thread.next, thread.interpreter, thread.frame, thread.ident, thread.native_id.unwrap_or(0)];
        fields.into_iter().max().unwrap_or(0) + 8
    }

    fn is_plausible(&self) -> bool {
        let (interpreter, thread, frame, code) = (&self.interpreter, &self.thread, &self.frame, &self.code);
        let gil = match self.gil {
            Gil::InRuntime { locked, holder } => [locked, holder, 0],
            Gil::OfInterpreter { pointer, locked, holder } => [pointer, locked, holder],
        };
        let far = [self.interpreters, interpreter.next, interpreter.threads, interpreter.modules];
        let near = [
            thread.next,
            thread.interpreter,
            thread.frame,
            thread.ident,
            thread.native_id.unwrap_or(0),
            frame.code,
            frame.back,
            frame.instruction,
            frame.owner.unwrap_or(0),
            frame.is_entry.unwrap_or(0),
            frame.locals,
            frame.alive.at(),
            code.file,
            code.name,
            code.qualified.unwrap_or(0),
            code.first_line,
            code.lines,
            code.bytecode,
            code.variables,
            code.kinds.unwrap_or(0),
            self.object.ascii,
            self.object.compact,
            self.object.digits,
            self.object.items,
        ];
        far.iter().chain(&gil).all(|at| *at < FAR) && near.iter().all(|at| *at < NEAR)
    }
}

/// What is published: its words, each named by its place. 3.14 added some between, so every version has its own places.
struct Published {
    minor: u32,
    interpreters: usize,
    /// `next`, `threads_head`, `imports_modules`, `ceval_gil`, `gil_runtime_state`, `…_locked`, `…_holder`.
    interpreter: [usize; 7],
    /// The first word of `thread_state`, `interpreter_frame`, `code_object`, `tuple_object`, `long_object`, `unicode_object`.
    structures: [usize; 6],
}

const PUBLISHED: &[Published] = &[
    Published {
        minor: 13,
        interpreters: 5,
        interpreter: [8, 9, 11, 14, 15, 17, 18],
        structures: [19, 28, 34, 50, 61, 67],
    },
    Published {
        minor: 14,
        interpreters: 5,
        interpreter: [8, 9, 12, 15, 16, 18, 19],
        structures: [22, 31, 39, 56, 71, 77],
    },
];

/// Bytes of `_PyRuntime` that are read for what it publishes.
pub(crate) const PUBLISHED_SIZE: usize = 704;

/// What the interpreter says of itself; nothing when it is damaged, without the lock, or of another version.
pub(crate) fn published(bytes: &[u8], minor: u32) -> Option<Offsets> {
    let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    let word = |index: usize| words.get(index).copied();
    let places = PUBLISHED.iter().find(|places| places.minor == minor)?;
    let sound =
        bytes.starts_with(b"xdebugpy") && word(1)? >> 16 == u64::from(0x0300 | minor) && word(2)? == 0;
    if !sound {
        return None;
    }
    let [next, threads, modules, pointer, gil, locked, holder] = places.interpreter;
    let [thread, frame, code, tuple, long, unicode] = places.structures;
    let in_gil = |field: usize| word(field)?.checked_sub(word(gil)?);
    let offsets = Offsets {
        frames: Frames::Direct,
        lines: Lines::Locations,
        interpreters: word(places.interpreters)?,
        gil: Gil::OfInterpreter { pointer: word(pointer)?, locked: in_gil(locked)?, holder: in_gil(holder)? },
        interpreter: InterpreterAt { next: word(next)?, threads: word(threads)?, modules: word(modules)? },
        thread: ThreadAt {
            next: word(thread + 2)?,
            interpreter: word(thread + 3)?,
            frame: word(thread + 4)?,
            of_c_frame: 0,
            ident: word(thread + 5)?,
            native_id: Some(word(thread + 6)?),
        },
        frame: FrameAt {
            back: word(frame + 1)?,
            code: word(frame + 2)?,
            instruction: word(frame + 3)?,
            locals: word(frame + 4)?,
            owner: Some(word(frame + 5)?),
            is_entry: None,
            // 3.13 does not publish it.
            alive: if minor == 13 { Alive::Depth(64) } else { Alive::Pointer(word(frame + 6)?) },
        },
        code: CodeAt {
            file: word(code + 1)?,
            name: word(code + 2)?,
            qualified: Some(word(code + 3)?),
            lines: word(code + 4)?,
            first_line: word(code + 5)?,
            variables: word(code + 7)?,
            shared: None,
            kinds: Some(word(code + 8)?),
            bytecode: word(code + 9)?,
        },
        object: ObjectAt {
            ascii: word(unicode + 3)?,
            compact: word(unicode + 3)?.checked_add(16)?,
            tagged_int: true,
            digits: word(long + 2)?,
            items: word(tuple + 1)?,
        },
    };
    offsets.is_plausible().then_some(offsets)
}

const CODE_TO_310: CodeAt = CodeAt {
    file: 104,
    name: 112,
    qualified: None,
    first_line: 40,
    lines: 120,
    bytecode: 48,
    variables: 72,
    shared: Some([88, 80]),
    kinds: None,
};

const fn code_from_311(first_line: At, bytecode: At) -> CodeAt {
    CodeAt {
        file: 112,
        name: 120,
        qualified: Some(128),
        first_line,
        lines: 136,
        bytecode,
        variables: 96,
        shared: None,
        kinds: Some(104),
    }
}

const OBJECT_TO_311: ObjectAt = ObjectAt { ascii: 48, compact: 72, tagged_int: false, digits: 24, items: 24 };

/// Where a frame is an object; `locked` is of the lock, whose holder stands before it.
const fn to_310(
    lines: Lines,
    locked: At,
    modules: At,
    (instruction, locals, alive): (At, At, Alive),
) -> Offsets {
    Offsets {
        frames: Frames::Objects,
        lines,
        interpreters: 32,
        gil: Gil::InRuntime { locked, holder: locked - 8 },
        interpreter: InterpreterAt { next: 0, threads: 8, modules },
        thread: ThreadAt { next: 8, interpreter: 16, frame: 24, of_c_frame: 0, ident: 176, native_id: None },
        frame: FrameAt { code: 32, back: 24, instruction, owner: None, is_entry: None, locals, alive },
        code: CODE_TO_310,
        object: OBJECT_TO_311,
    }
}

const KNOWN: &[(u32, Offsets)] = &[
    (8, to_310(Lines::Deltas, 1168, 56, (104, 360, Alive::Byte(116, 1)))),
    (9, to_310(Lines::Deltas, 368, 856, (104, 360, Alive::Byte(116, 1)))),
    (10, to_310(Lines::Ranges, 368, 856, (96, 352, Alive::Byte(108, 0)))),
    (
        11,
        Offsets {
            frames: Frames::Marked,
            lines: Lines::Locations,
            interpreters: 40,
            gil: Gil::InRuntime { locked: 376, holder: 368 },
            interpreter: InterpreterAt { next: 0, threads: 16, modules: 888 },
            thread: ThreadAt {
                next: 8,
                interpreter: 16,
                frame: 56,
                of_c_frame: 8,
                ident: 152,
                native_id: Some(160),
            },
            frame: FrameAt {
                code: 32,
                back: 48,
                instruction: 56,
                owner: Some(69),
                is_entry: Some(68),
                locals: 72,
                alive: Alive::Depth(64),
            },
            code: code_from_311(72, 184),
            object: OBJECT_TO_311,
        },
    ),
    (
        12,
        Offsets {
            frames: Frames::Shimmed,
            lines: Lines::Locations,
            interpreters: 40,
            gil: Gil::OfInterpreter { pointer: 384, locked: 16, holder: 8 },
            interpreter: InterpreterAt { next: 0, threads: 72, modules: 944 },
            thread: ThreadAt {
                next: 8,
                interpreter: 16,
                frame: 56,
                of_c_frame: 0,
                ident: 136,
                native_id: Some(144),
            },
            frame: FrameAt {
                code: 0,
                back: 8,
                instruction: 56,
                owner: Some(70),
                is_entry: None,
                locals: 72,
                alive: Alive::Depth(64),
            },
            code: code_from_311(68, 192),
            object: ObjectAt { ascii: 40, compact: 56, tagged_int: true, digits: 24, items: 24 },
        },
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_believed_only_where_it_can_be() {
        let sound = |minor: u64| {
            let mut words = vec![0_u64; PUBLISHED_SIZE / 8];
            words[0] = u64::from_ne_bytes(*b"xdebugpy");
            words[1] = (0x0300 | minor) << 16 | 0xf0;
            words
        };
        let bytes = |words: &[u64]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        for minor in [13, 14] {
            assert!(published(&bytes(&sound(minor)), minor as u32).is_some());
            assert!(published(&bytes(&sound(minor)), 15).is_none());
            // Without a lock, of another version, with an offset that leads far away, cut off.
            for (index, wrong) in [(0, 0), (1, 0x030c_00f0), (2, 1), (8, FAR), (41, NEAR), (41, u64::MAX)] {
                let mut words = sound(minor);
                words[index] = wrong;
                assert_eq!(published(&bytes(&words), minor as u32), None, "word {index} of 3.{minor}");
            }
            for length in [0, 8, 24, 300, 520] {
                assert_eq!(published(&bytes(&sound(minor))[..length], minor as u32), None);
            }
        }
    }

    #[test]
    fn every_table_is_plausible_itself() {
        for (minor, offsets) in KNOWN {
            assert!(offsets.is_plausible(), "3.{minor}");
            assert!(offsets.frame_size() < 256 && offsets.code_size() < 256 && offsets.thread_size() < 256);
        }
        assert!(Offsets::known(7).is_none() && Offsets::known(13).is_none());
    }
}
