//! All threads of a process and where each is, by unwind tables and frame pointers.

use std::time::Instant;

use framehop::{CacheNative, UnwindRegsNative, Unwinder as _};
use pepo_process::{Memory, Process, list, threads::SyscallNow};
use pepo_wire::{
    Code, Failure, FailureExt as _,
    agent::{Frame, StackResponse, Thread},
};

use crate::{
    modules::Modules,
    registers::{Registers, sample},
    syscalls,
};

/// The most frames of one thread.
const MAX_FRAMES: usize = 512;
/// How far above the stack pointer a waiting thread's frame pointer is looked for, in bytes.
const FRAME_SEARCH: u64 = 16 << 10;

/// Where every thread is now (or only the one with this number, as in the container or as in the agent's `/proc`).
///
/// Threads that wait are not touched; those that run are held one after the other for one sample each.
///
/// # Errors
/// [`Code::ProcessGone`], a missing right, or [`Code::ProcessNotFound`] for a thread that is not there.
pub fn stack(process: &Process, thread: u32) -> Result<StackResponse, Failure> {
    // Whatever ptrace holds is let go by the end of the thread that held it, in every case.
    std::thread::scope(|scope| match scope.spawn(|| read(process, thread)).join() {
        Ok(result) => result,
        Err(_) => Err(Failure::new(Code::Internal, "the sampler failed")),
    })
}

fn read(process: &Process, wanted: u32) -> Result<StackResponse, Failure> {
    let started = Instant::now();
    let memory = process.memory().map_err(|error| error.failure())?;
    let maps = process.maps().map_err(|error| error.failure())?;
    let mut threads = process.threads().map_err(|error| error.failure())?;
    threads.retain(|thread| wanted == 0 || thread.container_tid == wanted || thread.tid.get() == wanted);
    if threads.is_empty() {
        return Err(Failure::new(Code::ProcessNotFound, format!("there is no thread {wanted}"))
            .try_command("see all threads", ["pepo", "stack", "TARGET"]));
    }
    let mut reader = Reader {
        process,
        memory: &memory,
        modules: Modules::read(process, &maps, true),
        longest: Default::default(),
    };
    let threads = threads.iter().map(|thread| reader.thread(thread)).collect();
    Ok(StackResponse {
        process: list::describe(process).ok(),
        threads,
        longest_pause_micros: u64::try_from(reader.longest.as_micros()).unwrap_or(u64::MAX),
        total_micros: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        notes: reader.modules.notes,
    })
}

struct Reader<'a> {
    process: &'a Process,
    memory: &'a Memory,
    modules: Modules,
    longest: std::time::Duration,
}

impl Reader<'_> {
    fn thread(&mut self, thread: &pepo_process::threads::Thread) -> Thread {
        let mut out = Thread {
            agent_tid: thread.tid.get(),
            container_tid: thread.container_tid,
            name: thread.name.clone(),
            state: thread.state.to_string(),
            wait_channel: thread.wait_channel.clone().unwrap_or_default(),
            ..Thread::default()
        };
        out.frames = match thread.syscall {
            Some(SyscallNow::Call { number, ref arguments, stack_pointer, program_counter }) => {
                out.syscall = syscalls::describe(self.process, number, arguments);
                self.waiting(stack_pointer, program_counter)
            }
            Some(SyscallNow::Blocked { stack_pointer, program_counter }) => {
                self.waiting(stack_pointer, program_counter)
            }
            Some(SyscallNow::Running) | None => self.running(thread),
        };
        out
    }

    fn waiting(&self, stack: u64, instruction: u64) -> Vec<Frame> {
        let start = Registers { instruction, stack, frame: None, link: 0 };
        self.unwind(start, &[])
    }

    fn running(&mut self, thread: &pepo_process::threads::Thread) -> Vec<Frame> {
        if thread.state.is_zombie() {
            return Vec::new();
        }
        if thread.tracer != 0 {
            let note = format!("thread {}: process {} traces it", thread.container_tid, thread.tracer);
            self.modules.notes.push(note);
            return Vec::new();
        }
        match sample(thread.tid, self.memory) {
            Ok(held) => {
                self.longest = self.longest.max(held.pause);
                self.unwind(held.registers, &held.stack)
            }
            Err(error) => {
                self.modules.notes.push(format!("thread {}: {error}", thread.container_tid));
                Vec::new()
            }
        }
    }

    /// Unwinds from the copy of the stack; what it does not hold is read from memory.
    fn unwind(&self, start: Registers, copy: &[u8]) -> Vec<Frame> {
        let mut read = |address: u64| self.word(start.stack, copy, address).ok_or(());
        let frame = start.frame.or_else(|| self.find_frame_pointer(start.stack)).unwrap_or(0);
        let mut cache = CacheNative::<_>::new();
        let mut frames =
            self.modules.unwinder.iter_frames(start.instruction, native(start, frame), &mut cache, &mut read);
        let mut out = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            if out.len() == MAX_FRAMES || !self.modules.is_code(frame.address_for_lookup()) {
                break;
            }
            out.push(self.frame(frame.address(), frame.address_for_lookup()));
        }
        out
    }

    fn word(&self, base: u64, copy: &[u8], address: u64) -> Option<u64> {
        let offset = usize::try_from(address.checked_sub(base)?).ok()?;
        match copy.get(offset..offset.checked_add(8)?) {
            Some(bytes) => bytes.try_into().ok().map(u64::from_ne_bytes),
            None => self.memory.read_u64(address).ok(),
        }
    }

    /// The kernel does not tell the frame pointer of a waiting thread: the first pair above the stack pointer that looks like a
    /// saved one (it points further up the stack, and a return address into code follows it). Only used by code without unwind tables,
    /// or whose tables count from the frame pointer.
    fn find_frame_pointer(&self, stack: u64) -> Option<u64> {
        let bytes = self.memory.read_up_to(stack, FRAME_SEARCH as usize).ok()?;
        let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        words.windows(2).enumerate().find_map(|(index, pair)| {
            let at = stack + index as u64 * 8;
            let saved_above = pair[0] > at && pair[0] - at < FRAME_SEARCH && pair[0] % 8 == 0;
            (saved_above && self.modules.is_code(pair[1])).then_some(at)
        })
    }

    fn frame(&self, address: u64, lookup: u64) -> Frame {
        let Some(place) = self.modules.place(lookup) else { return Frame { address, ..Frame::default() } };
        Frame {
            address,
            module_address: place.module_address,
            module: place.module.to_owned(),
            build_id: place.build_id.to_owned(),
            function: place.function,
            file: String::new(),
            line: 0,
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn native(start: Registers, frame: u64) -> UnwindRegsNative {
    UnwindRegsNative::new(start.instruction, start.stack, frame)
}

#[cfg(target_arch = "aarch64")]
pub(crate) fn native(start: Registers, frame: u64) -> UnwindRegsNative {
    UnwindRegsNative::new(start.link, start.stack, frame)
}
