//! Samples of threads that wait: read without touching them. The kernel tells where they stand; what they stand on is copied, and believed
//! when they have not run meanwhile.

use std::collections::HashMap;

use pepo_process::{AgentTid, Memory, Process, stat::Stat, threads::SyscallNow};

use super::{
    batch::{Batch, Place, monotonic},
    space::{Copied, Spaces},
};
use crate::{registers::Registers, waits};

/// Bytes of stack that are copied.
const STACK: usize = 64 << 10;
/// Bytes of what `/proc` says of a thread.
const TEXT: usize = 4096;
/// The most threads that are remembered.
const MOST: usize = 20_000;

/// Where threads were when they were last looked at.
#[derive(Default)]
pub(super) struct Waiting {
    known: HashMap<AgentTid, (Moment, Vec<Place>)>,
}

/// What stays the same as long as a thread does not run: its times, how often it ran, where it stands.
type Moment = (Vec<u8>, u64, u64);

impl Waiting {
    /// Looks at each of these threads once; those that run by now are left out.
    pub(super) fn round(
        &mut self,
        process: &Process,
        memory: &Memory,
        tids: &[AgentTid],
        spaces: &mut Spaces,
        batch: &mut Batch,
    ) {
        if self.known.len() > MOST {
            self.known.clear();
        }
        let pid = process.pid().get();
        for tid in tids {
            let Some(moment) = moment(process, *tid) else { continue };
            let is_as_before = self.known.get(tid).is_some_and(|(before, _)| *before == moment);
            if !is_as_before {
                let (_, stack, instruction) = moment;
                let copy = memory.read_up_to(stack, STACK).unwrap_or_default();
                if self::moment(process, *tid).as_ref() != Some(&moment) {
                    continue;
                }
                let registers = Registers { instruction, stack, frame: None, link: 0 };
                let chain = spaces.chain(pid, &Copied { registers, stack: &copy }, None, batch);
                self.known.insert(*tid, (moment, chain));
            }
            let Some((_, chain)) = self.known.get(tid) else { continue };
            match batch.is_full() {
                true => batch.lost(1),
                false => batch.sample(pid, tid.get(), monotonic(), chain),
            }
        }
    }
}

/// Nothing for a thread that runs, or is neither running nor waiting.
fn moment(process: &Process, tid: AgentTid) -> Option<Moment> {
    let (stack, instruction) = match waits::now(process, tid)? {
        SyscallNow::Call { stack_pointer, program_counter, .. }
        | SyscallNow::Blocked { stack_pointer, program_counter } => (stack_pointer, program_counter),
        SyscallNow::Running => return None,
    };
    Some((process.read(&format!("task/{tid}/schedstat"), TEXT).ok()?, stack, instruction))
}

/// Does it wait, and for something other than to be let go on?
pub(super) fn is_waiting(process: &Process, tid: AgentTid) -> bool {
    let stat = process.read(&format!("task/{tid}/stat"), TEXT).ok().and_then(|text| Stat::parse(&text));
    stat.is_some_and(|stat| matches!(stat.state.letter(), 'S' | 'D'))
}
