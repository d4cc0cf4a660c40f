//! All threads of a process and where each is, by unwind tables and frame pointers.

/// The goroutines of a program of Go.
mod go;
/// What a JVM says of them.
mod jvm;
/// What a Node says of them.
mod node;
/// What an interpreter says of them.
mod python;

use std::{ops::Range, time::Instant};

use pepo_process::{
    AgentTid, Memory, Process, list,
    runtime::{self, Language, RuntimeFacts},
    threads::SyscallNow,
};
use pepo_wire::{
    Code, Failure, FailureExt as _,
    agent::{Frame, StackRequest, StackResponse, Thread},
};

use self::{jvm::Jvm, node::Node, python::Python};
use crate::{
    go::Go,
    interpreter::Interpreter,
    modules::Modules,
    python::{Either, Placed, eval_loop, join},
    registers::{Registers, sample},
    unwind::{Cache, FRAME_SEARCH, Walked, frame_pointer, walk},
    waits::{self, Waits},
};

/// The most frames of one thread.
const MAX_FRAMES: usize = 512;
/// How often a thread is looked at before it is said that its two stacks do not belong together.
const TRIES: usize = 5;

/// Where every thread is now (or only the one that is asked for, by its number in the container or in the agent's `/proc`).
///
/// Threads that wait are not touched; those that run are held one after the other for one sample each. Threads that an interpreter
/// runs are not held, unless their native frames are wanted too; those of Go only when they run a goroutine.
///
/// # Errors
/// [`Code::ProcessGone`], a missing right, or [`Code::ProcessNotFound`] for a thread that is not there.
pub fn stack(process: &Process, request: &StackRequest) -> Result<StackResponse, Failure> {
    // Whatever ptrace holds is let go by the end of the thread that held it, in every case.
    std::thread::scope(|scope| match scope.spawn(|| read(process, request)).join() {
        Ok(result) => result,
        Err(_) => Err(Failure::new(Code::Internal, "the sampler failed")),
    })
}

fn read(process: &Process, request: &StackRequest) -> Result<StackResponse, Failure> {
    let started = Instant::now();
    let memory = process.memory().map_err(|error| error.failure())?;
    let mut threads = process.threads().map_err(|error| error.failure())?;
    let facts = runtime::detect(process);
    let (python, mut notes) = open_python(process, &facts, &threads, request);
    let waits = Waits::new(process, &memory, &threads);
    let wanted = request.thread;
    let is_wanted = |thread: &pepo_process::threads::Thread| {
        wanted == 0 || thread.container_tid == wanted || thread.tid.get() == wanted
    };
    if !threads.iter().any(is_wanted) {
        return Err(Failure::new(Code::ProcessNotFound, format!("there is no thread {wanted}"))
            .try_command("see all threads", ["pepo", "stack", "TARGET"]));
    }
    let jvm = Jvm::open(process, &facts, request.locks, &mut notes);
    let node = Node::open(process, &facts, &threads, request, &mut notes);
    threads.retain(is_wanted);
    let native = request.native || python.is_none() && jvm.is_none() && node.is_none();
    let modules = if native {
        let maps = process.maps().map_err(|error| error.failure())?;
        Modules::read(process, &maps, true)
    } else {
        Modules::default()
    };
    let eval_loop = facts.python.as_ref().filter(|_| native).and_then(|facts| eval_loop(process, facts));
    let pauses = jvm.as_ref().map(|jvm| jvm.pause).into_iter().chain(node.as_ref().map(|node| node.pause));
    let longest = pauses.max().unwrap_or_default();
    let mut reader =
        Reader { process, memory: &memory, modules, longest, python, jvm, node, waits, native, eval_loop };
    let mut told = go::Told::default();
    if facts.language == Language::Go && wanted == 0 {
        match Go::open(process, &memory, &facts) {
            Ok(go) => told = go::goroutines(&mut reader, &go, &threads),
            Err(unreadable) => notes.push(format!("threads only: {}", unreadable.0)),
        }
    }
    // Goroutines are what a program of Go means by threads: those that carry them are not touched unless they are wanted.
    reader.native &= request.native || told.goroutines.is_empty();
    let threads: Vec<Thread> = threads.iter().map(|thread| reader.thread(thread)).collect();
    let deadlocks = reader.jvm.as_ref().map(Jvm::deadlocks).unwrap_or_default();
    if deadlocks.is_empty() {
        notes.append(&mut waits::deadlocks(&threads));
    }
    notes.append(&mut reader.modules.notes);
    notes.append(&mut told.notes);
    Ok(StackResponse {
        goroutines: told.goroutines,
        goroutine_stacks: told.stacks,
        process: list::describe_as(process, &facts).ok(),
        threads,
        longest_pause_micros: u64::try_from(reader.longest.as_micros()).unwrap_or(u64::MAX),
        total_micros: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        notes,
        deadlocks,
    })
}

/// The interpreter, if there is one and it can be read; else why not.
fn open_python(
    process: &Process,
    facts: &RuntimeFacts,
    threads: &[pepo_process::threads::Thread],
    request: &StackRequest,
) -> (Option<Python>, Vec<String>) {
    // Frames of Ruby and native ones are not joined.
    if !Interpreter::runs(facts) || facts.language == Language::Ruby && request.native {
        return (None, Vec::new());
    }
    let tids = threads.iter().map(|thread| thread.container_tid).collect();
    match Python::open(process, facts, &tids, request.locals) {
        Ok(python) => {
            let has_none = request.locals && facts.language == Language::Ruby;
            (
                Some(python),
                has_none.then(|| "variables of Ruby are not read".to_owned()).into_iter().collect(),
            )
        }
        Err(unreadable) => (None, vec![format!("native frames only: {}", unreadable.0)]),
    }
}

/// What stands for the frames beyond the last that is shown.
fn cut_off() -> Frame {
    Frame { function: "[cut off]".to_owned(), ..Frame::default() }
}

struct Reader<'a> {
    process: &'a Process,
    memory: &'a Memory,
    modules: Modules,
    longest: std::time::Duration,
    python: Option<Python>,
    jvm: Option<Jvm>,
    node: Option<Node>,
    waits: Waits<'a>,
    /// Are native frames wanted?
    native: bool,
    /// The code of the interpreter's loop.
    eval_loop: Option<Range<u64>>,
}

/// Native frames.
#[derive(Default)]
struct Unwound {
    walked: Vec<Walked>,
    /// Was the outermost frame reached?
    whole: bool,
}

/// Frames of Python, if the thread has any, and whether there are more.
type Placing = Option<(Vec<Placed>, bool)>;

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
        self.waits.tell(thread, &mut out);
        if let Some(python) = &self.python {
            python.tell(&mut out);
        }
        if let Some(jvm) = &self.jvm {
            jvm.tell(&mut out);
        }
        if let Some(node) = &self.node {
            node.tell(&mut out);
        }
        out.frames = match (&self.jvm, &self.node, self.native) {
            (Some(_), ..) => self.of_java(thread),
            (None, Some(node), _) => {
                node.frames(thread.container_tid).unwrap_or_else(|| self.none_of_its_own())
            }
            (None, None, true) => self.both(thread),
            (None, None, false) => self.of_python(thread),
        };
        out
    }

    /// The frames of Java, and within them the native ones of a thread that has stood at one place since before the JVM was asked. Threads
    /// of the JVM's own have native ones alone.
    fn of_java(&mut self, thread: &pepo_process::threads::Thread) -> Vec<Frame> {
        let of_java = self.jvm.as_ref().map(|jvm| jvm.frames(thread.container_tid)).unwrap_or_default();
        if !self.native {
            return of_java;
        }
        if of_java.is_empty() {
            return self.both(thread);
        }
        let place = |call: Option<SyscallNow>| match call? {
            SyscallNow::Call { stack_pointer, program_counter, .. }
            | SyscallNow::Blocked { stack_pointer, program_counter } => {
                Some((stack_pointer, program_counter))
            }
            SyscallNow::Running => None,
        };
        let Some((stack, instruction)) = place(thread.syscall) else { return of_java };
        if place(waits::now(self.process, thread.tid)) != Some((stack, instruction)) {
            return of_java;
        }
        let inner = self.waiting(stack, instruction).walked;
        let compiled = inner.iter().take_while(|one| self.modules.place(one.lookup).is_some());
        compiled.map(|one| self.frame(one)).chain(of_java).collect()
    }

    /// The frames of Python alone; a thread that it does not know has none.
    fn of_python(&mut self, thread: &pepo_process::threads::Thread) -> Vec<Frame> {
        let Some(python) = &mut self.python else { return Vec::new() };
        let tid = thread.container_tid;
        if !python.knows(tid) {
            return self.none_of_its_own();
        }
        match python.placed(tid) {
            Some((placed, is_cut)) => python.frames(tid, &placed, is_cut),
            None => {
                self.modules
                    .notes
                    .push(format!("thread {tid} was never at one place long enough to be seen"));
                Vec::new()
            }
        }
    }

    /// No frames, and once a word about it.
    fn none_of_its_own(&mut self) -> Vec<Frame> {
        let note = "threads without frames run nothing of the interpreter's: `--native` shows where they are";
        if !self.modules.notes.iter().any(|known| known == note) {
            self.modules.notes.push(note.to_owned());
        }
        Vec::new()
    }

    /// Native frames, joined with those of Python where the thread has any.
    fn both(&mut self, thread: &pepo_process::threads::Thread) -> Vec<Frame> {
        for _ in 0..TRIES {
            let (Unwound { walked, whole }, placing) = self.look(thread);
            let Some((placed, is_cut)) = placing else {
                let cut_off = (walked.len() >= MAX_FRAMES).then(cut_off);
                return walked.iter().map(|one| self.frame(one)).chain(cut_off).collect();
            };
            let joined = join(&walked, &placed, self.eval_loop.as_ref(), whole && !is_cut);
            let (Some(joined), Some(python)) = (joined, &mut self.python) else { continue };
            let told = python.frames(thread.container_tid, &placed, false);
            return joined
                .into_iter()
                .filter_map(|one| match one {
                    Either::Native(index) => walked.get(index).map(|one| self.frame(one)),
                    Either::Python(index) => told.get(index).cloned(),
                })
                .collect();
        }
        let note =
            format!("thread {}: its native frames do not belong to those of Python", thread.container_tid);
        self.modules.notes.push(note);
        self.of_python(thread)
    }

    /// Both stacks of a thread, of nearly one moment.
    fn look(&mut self, thread: &pepo_process::threads::Thread) -> (Unwound, Placing) {
        // By now it may be elsewhere than when all were listed.
        let now = waits::now(self.process, thread.tid).or(thread.syscall);
        match now {
            Some(
                SyscallNow::Call { stack_pointer, program_counter, .. }
                | SyscallNow::Blocked { stack_pointer, program_counter },
            ) => {
                let placing = self.placing(thread.container_tid);
                (self.waiting(stack_pointer, program_counter), placing)
            }
            Some(SyscallNow::Running) | None => self.running(thread),
        }
    }

    fn placing(&mut self, tid: u32) -> Placing {
        self.python.as_mut().filter(|python| python.knows(tid)).and_then(|python| python.placed(tid))
    }

    fn waiting(&self, stack: u64, instruction: u64) -> Unwound {
        let start = Registers { instruction, stack, frame: None, link: 0 };
        self.unwind(start, &[])
    }

    fn running(&mut self, thread: &pepo_process::threads::Thread) -> (Unwound, Placing) {
        if thread.state.is_zombie() {
            return (Unwound::default(), None);
        }
        if thread.tracer != 0 {
            let note = format!("thread {}: process {} traces it", thread.container_tid, thread.tracer);
            self.modules.notes.push(note);
            return (Unwound::default(), self.placing(thread.container_tid));
        }
        let mut placing = None;
        match self.hold(thread.tid, thread.container_tid, &mut placing) {
            Ok(unwound) => (unwound, placing),
            Err(error) => {
                self.modules.notes.push(format!("thread {}: {error}", thread.container_tid));
                (Unwound::default(), self.placing(thread.container_tid))
            }
        }
    }

    fn hold(&mut self, tid: AgentTid, number: u32, placing: &mut Placing) -> std::io::Result<Unwound> {
        let memory = self.memory;
        let held = sample(tid, memory, &mut || *placing = self.placing(number))?;
        self.longest = self.longest.max(held.pause);
        Ok(self.unwind(held.registers, &held.stack))
    }

    /// Unwinds from the copy of the stack; what it does not hold is read from memory.
    fn unwind(&self, start: Registers, copy: &[u8]) -> Unwound {
        let mut read = |address: u64| self.word(start.stack, copy, address).ok_or(());
        let frame = start.frame.or_else(|| self.find_frame_pointer(start.stack)).unwrap_or(0);
        let (walked, whole) = walk(&self.modules, &mut Cache::new(), (start, frame), MAX_FRAMES, &mut read);
        Unwound { walked, whole }
    }

    fn word(&self, base: u64, copy: &[u8], address: u64) -> Option<u64> {
        let offset = usize::try_from(address.checked_sub(base)?).ok()?;
        match copy.get(offset..offset.checked_add(8)?) {
            Some(bytes) => bytes.try_into().ok().map(u64::from_ne_bytes),
            None => self.memory.read_u64(address).ok(),
        }
    }

    fn find_frame_pointer(&self, stack: u64) -> Option<u64> {
        let bytes = self.memory.read_up_to(stack, FRAME_SEARCH as usize).ok()?;
        frame_pointer(&self.modules, stack, &bytes)
    }

    fn frame(&self, walked: &Walked) -> Frame {
        let address = walked.address;
        let Some(place) = self.modules.place(walked.lookup) else {
            return Frame { address, ..Frame::default() };
        };
        Frame {
            address,
            module_address: place.module_address,
            module: place.module.to_owned(),
            build_id: place.build_id.to_owned(),
            function: place.function,
            ..Frame::default()
        }
    }
}
