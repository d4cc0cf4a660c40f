//! Which memory is in the file: as the kernel would choose (core(5), "Controlling which mappings are written"), from
//! `/proc/PID/smaps` (proc_pid_smaps(5)) and `/proc/PID/coredump_filter`.

use pepo_process::{Process, maps::Map};
use pepo_wire::{Failure, FailureExt as _};

/// Most bytes of `smaps`: about 60,000 mappings.
const MOST: usize = 64 << 20;
/// What the kernel takes when a process was not told otherwise.
const USUAL_FILTER: u64 = 0x33;
/// Bits of the filter.
const PRIVATE: u64 = 1;
const SHARED: u64 = 1 << 1;
const PRIVATE_FILE: u64 = 1 << 2;
const SHARED_FILE: u64 = 1 << 3;
const ELF_HEADERS: u64 = 1 << 4;
const PRIVATE_HUGE: u64 = 1 << 5;
const SHARED_HUGE: u64 = 1 << 6;

/// A mapping, and how much of it is in the file.
#[derive(Clone, Debug)]
pub(super) struct Mapping {
    pub(super) map: Map,
    /// Bytes from its beginning on.
    pub(super) dumped: u64,
    /// Bytes in memory, and swapped out.
    resident: u64,
    pub(super) swapped: u64,
    /// Bytes of the process's own, no file's.
    anonymous: u64,
    /// Its pages that are not there are zero, not a file's.
    pub(super) zero_filled: bool,
}

impl Mapping {
    /// About so many bytes are not zero.
    pub(super) fn to_read(&self) -> u64 {
        match self.zero_filled {
            true => self.dumped.min(self.resident + self.swapped),
            false => self.dumped,
        }
    }
}

/// Reads them, in order of their addresses.
pub(super) fn read(process: &Process, all: bool) -> Result<Vec<Mapping>, Failure> {
    let text = process.read("smaps", MOST).map_err(|error| error.failure())?;
    let filter = process.read("coredump_filter", 64).ok().and_then(|text| {
        u64::from_str_radix(String::from_utf8_lossy(&text).trim().trim_start_matches("0x"), 16).ok()
    });
    Ok(parse(&text, if all { u64::MAX } else { filter.unwrap_or(USUAL_FILTER) }))
}

fn parse(text: &[u8], filter: u64) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        if let Some(map) = Map::parse(line) {
            let zero_filled = map.inode == 0 && !map.shared;
            mappings.push(Mapping { map, dumped: 0, resident: 0, swapped: 0, anonymous: 0, zero_filled });
            continue;
        }
        let (Some(mapping), Ok(line)) = (mappings.last_mut(), std::str::from_utf8(line)) else { continue };
        let Some((name, value)) = line.split_once(':') else { continue };
        let bytes = || value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024);
        match name {
            "Rss" => mapping.resident = bytes().unwrap_or(0),
            "Swap" => mapping.swapped = bytes().unwrap_or(0),
            "Anonymous" => mapping.anonymous = bytes().unwrap_or(0),
            // The last line of each.
            "VmFlags" => mapping.dumped = dumped(mapping, value, filter),
            _ => {}
        }
    }
    // Mapped into every process at the same place; not readable through `/proc/PID/mem`.
    mappings
        .retain(|mapping| mapping.map.path.as_deref().is_none_or(|path| path.as_os_str() != "[vsyscall]"));
    mappings
}

/// As the kernel's `vma_dump_size` decides.
fn dumped(mapping: &Mapping, flags: &str, filter: u64) -> u64 {
    let map = &mapping.map;
    let has = |flag: &str| flags.split_ascii_whitespace().any(|one| one == flag);
    let when = |bit: u64| if filter & bit != 0 { map.len() } else { 0 };
    if map.path.as_deref().is_some_and(|path| path.as_os_str() == "[vdso]") {
        return map.len();
    }
    if has("io") || has("pf") || (has("dd") && filter != u64::MAX) {
        return 0;
    }
    match (has("ht"), map.shared) {
        (true, true) => when(SHARED_HUGE),
        (true, false) => when(PRIVATE_HUGE),
        (false, true) => when(if map.deleted { SHARED } else { SHARED_FILE }),
        (false, false) if filter & PRIVATE != 0 && mapping.anonymous + mapping.swapped > 0 => map.len(),
        (false, false) if map.inode == 0 => 0,
        (false, false) if filter & PRIVATE_FILE != 0 => map.len(),
        // The beginning of a program or library, by whose build id debuggers find its file.
        (false, false) if filter & ELF_HEADERS != 0 && map.offset == 0 && map.read => map.len().min(4096),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"400000-402000 r--p 00000000 fd:01 7   /bin/a\nRss:                   8 kB\nAnonymous:             0 kB\nVmFlags: rd mr mw me\n\
500000-900000 rw-p 00000000 00:00 0   [heap]\nRss:                  12 kB\nAnonymous:            12 kB\nSwap:                  4 kB\nVmFlags: rd wr\n\
a00000-b00000 ---p 00000000 00:00 0 \nRss:                   0 kB\nAnonymous:             0 kB\nVmFlags: mr\n\
c00000-c01000 rw-s 00000000 00:01 9   /memfd:x (deleted)\nRss:                   4 kB\nAnonymous:             0 kB\nVmFlags: rd wr sh\n\
d00000-d01000 rw-s 00000000 fd:01 9   /data\nRss:                   4 kB\nAnonymous:             0 kB\nVmFlags: rd wr sh\n\
e00000-e01000 rw-p 00000000 00:00 0 \nRss:                   4 kB\nAnonymous:             4 kB\nVmFlags: rd wr dd\n\
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\nVmFlags: ex\n";

    #[test]
    fn what_the_kernel_would_write_is_written() {
        let dumped = |filter| parse(TEXT, filter).iter().map(|one| one.dumped).collect::<Vec<_>>();
        assert_eq!(dumped(USUAL_FILTER), [0x1000, 0x40_0000, 0, 0x1000, 0, 0]);
        assert_eq!(dumped(0), [0; 6]);
        assert_eq!(dumped(SHARED_FILE | PRIVATE_FILE), [0x2000, 0, 0, 0, 0x1000, 0]);
        assert_eq!(dumped(u64::MAX), [0x2000, 0x40_0000, 0, 0x1000, 0x1000, 0x1000]);
        assert_eq!(parse(TEXT, USUAL_FILTER)[1].to_read(), 16 << 10);
    }

    #[test]
    fn what_is_cut_short_is_left_out() {
        assert!(parse(b"", 1).is_empty());
        assert_eq!(parse(b"1000-2000 rw-p 0 0:0 0\nRss: x kB\nVmFlags", 1)[0].dumped, 0);
    }
}
