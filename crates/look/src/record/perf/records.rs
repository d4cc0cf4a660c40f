//! What the kernel writes into the buffers (perf_event_open(2), "MMAP layout"). No IO; every length is checked.

use crate::registers::Registers;

/// What is asked of each sample: address, thread, time, registers, stack.
pub(super) const SAMPLE_TYPE: u64 = (1 << 0) | (1 << 1) | (1 << 2) | (1 << 12) | (1 << 13);

const LOST: u32 = 2;
const COMM: u32 = 3;
const THROTTLE: u32 = 5;
const FORK: u32 = 7;
const SAMPLE: u32 = 9;
const MMAP2: u32 = 10;
const LOST_SAMPLES: u32 = 13;

/// In `misc`: where the processor was, and that a name was changed by execve.
const MODE: u16 = 7;
const MODE_KERNEL: u16 = 1;
const BY_EXEC: u16 = 1 << 13;

/// One record.
#[derive(Debug)]
pub(super) enum Record<'a> {
    Sample(Sample<'a>),
    /// So many were lost.
    Lost(u64),
    /// A thread was born; a process if its number is not its parent's.
    Fork {
        pid: u32,
        parent: u32,
        tid: u32,
    },
    /// Another program runs.
    Exec {
        pid: u32,
    },
    /// More code was mapped.
    Mapped {
        pid: u32,
    },
    /// The kernel has too much to do with us.
    Throttled,
    Other,
}

/// One sample.
#[derive(Debug)]
pub(super) struct Sample<'a> {
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) time: u64,
    /// Was the processor in the kernel?
    pub(super) kernel: bool,
    /// Of the user's code; none for threads of the kernel and for code of another width.
    pub(super) registers: Option<Registers>,
    /// The code is of another width than the kernel's.
    pub(super) narrow: bool,
    /// From the stack pointer upwards.
    pub(super) stack: &'a [u8],
}

/// The records of a buffer's content; what is not whole ends it.
pub(super) fn all(mut bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        let mut fields = Fields(bytes);
        let (kind, misc, size) = (fields.u32()?, fields.u16()?, usize::from(fields.u16()?));
        let body = Fields(bytes.get(8..size)?);
        bytes = bytes.get(size..)?;
        Some(record(kind, misc, body).unwrap_or(Record::Other))
    })
}

fn record(kind: u32, misc: u16, mut body: Fields<'_>) -> Option<Record<'_>> {
    Some(match kind {
        SAMPLE => Record::Sample(sample(misc, body)?),
        LOST => {
            body.u64()?;
            Record::Lost(body.u64()?)
        }
        LOST_SAMPLES => Record::Lost(body.u64()?),
        FORK => {
            let (pid, parent, tid) = (body.u32()?, body.u32()?, body.u32()?);
            Record::Fork { pid, parent, tid }
        }
        COMM if misc & BY_EXEC != 0 => Record::Exec { pid: body.u32()? },
        MMAP2 => Record::Mapped { pid: body.u32()? },
        THROTTLE => Record::Throttled,
        _ => Record::Other,
    })
}

fn sample(misc: u16, mut body: Fields<'_>) -> Option<Sample<'_>> {
    body.u64()?;
    let (pid, tid, time) = (body.u32()?, body.u32()?, body.u64()?);
    let abi = body.u64()?;
    let registers = if abi == 0 { None } else { Some(registers(&mut body)?) };
    let size = usize::try_from(body.u64()?).ok()?;
    let copied = body.bytes(size)?;
    let valid = if size == 0 { 0 } else { usize::try_from(body.u64()?).ok()? };
    Some(Sample {
        pid,
        tid,
        time,
        kernel: misc & MODE == MODE_KERNEL,
        registers: registers.filter(|_| abi == 2),
        narrow: abi == 1,
        stack: copied.get(..valid)?,
    })
}

/// Which registers are copied: bits as in asm/perf_regs.h. They come in the order of the bits.
#[cfg(target_arch = "x86_64")]
pub(super) const REGISTERS: u64 = (1 << 6) | (1 << 7) | (1 << 8);

#[cfg(target_arch = "x86_64")]
fn registers(body: &mut Fields<'_>) -> Option<Registers> {
    let (frame, stack, instruction) = (body.u64()?, body.u64()?, body.u64()?);
    Some(Registers { instruction, stack, frame: Some(frame), link: 0 })
}

#[cfg(target_arch = "aarch64")]
pub(super) const REGISTERS: u64 = (1 << 29) | (1 << 30) | (1 << 31) | (1 << 32);

#[cfg(target_arch = "aarch64")]
fn registers(body: &mut Fields<'_>) -> Option<Registers> {
    let (frame, link, stack, instruction) = (body.u64()?, body.u64()?, body.u64()?, body.u64()?);
    Some(Registers { instruction, stack, frame: Some(frame), link })
}

/// Numbers one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.bytes(2)?.try_into().ok().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes(4)?.try_into().ok().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes(8)?.try_into().ok().map(u64::from_ne_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, misc: u16, body: &[u8]) -> Vec<u8> {
        let size = u16::try_from(body.len() + 8).unwrap();
        [&kind.to_ne_bytes()[..], &misc.to_ne_bytes(), &size.to_ne_bytes(), body].concat()
    }

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_sample_has_its_thread_time_registers_and_the_valid_part_of_its_stack() {
        let ids = (8_u64 << 32) | 7;
        let body = words(&[0x1000, ids, 55, 2, 0xb0, 0xa0, 0x1000, 16, 1, 2, 8]);
        let bytes = record(SAMPLE, MODE_KERNEL, &body);
        let Some(Record::Sample(sample)) = all(&bytes).next() else { panic!("no sample") };
        assert_eq!((sample.pid, sample.tid, sample.time, sample.kernel), (7, 8, 55, true));
        let registers = Registers { instruction: 0x1000, stack: 0xa0, frame: Some(0xb0), link: 0 };
        assert_eq!((sample.registers, sample.stack), (Some(registers), &words(&[1])[..]));
    }

    #[test]
    fn a_sample_without_registers_and_other_records_are_read() {
        let mut bytes = record(SAMPLE, 0, &words(&[0, 7, 55, 0, 0]));
        bytes.extend(record(LOST, 0, &words(&[1, 12])));
        bytes.extend(record(FORK, 0, &words(&[(7 << 32) | 9, 9, 0])));
        bytes.extend(record(COMM, BY_EXEC, &words(&[7, 0])));
        bytes.extend(record(COMM, 0, &words(&[7, 0])));
        let told: Vec<_> =
            all(&bytes).map(|one| format!("{one:?}").split([' ', '(']).next().unwrap().to_owned()).collect();
        assert_eq!(told, ["Sample", "Lost", "Fork", "Exec", "Other"]);
    }

    #[test]
    fn what_is_not_whole_ends_the_reading() {
        let whole = record(SAMPLE, 0, &words(&[0, 7, 55, 2, 1, 2, 3, u64::MAX, 1]));
        assert!(matches!(all(&whole).next(), Some(Record::Other)));
        for length in 0..whole.len() {
            assert_eq!(all(&whole[..length]).count(), 0);
        }
        assert_eq!(all(&record(SAMPLE, 0, &[])[..4]).count(), 0);
    }
}
