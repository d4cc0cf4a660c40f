//! The beginning of a core file: ELF header, program headers, and notes, laid out as the kernel does (elf(5); Linux: fs/binfmt_elf.c,
//! include/linux/elfcore.h). There is no NT_SIGINFO: no signal ended the process.

use std::io::Read as _;

use object::elf;
use pepo_process::{Process, maps::Map};
use pepo_wire::{Code, Failure, FailureExt as _};

use super::{mappings::Mapping, stop::Thread};

const HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;
/// As many program headers as the field can count.
const MOST: usize = 65_000;
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

/// The beginning, where each mapping's bytes go, and where the file ends.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) bytes: Vec<u8>,
    pub(super) offsets: Vec<u64>,
    pub(super) end: u64,
}

/// Is it a program of this machine's own kind?
pub(super) fn supported(process: &Process) -> Result<(), Failure> {
    let mut head = [0; 20];
    let mut program = process.open_exe().map_err(|error| error.failure())?;
    let read = program.read_exact(&mut head);
    if read.is_ok() && head[4] == elf::ELFCLASS64.0 && u16::from_le_bytes([head[18], head[19]]) == MACHINE {
        return Ok(());
    }
    Err(Failure::new(
        Code::RuntimeUnsupported,
        "a core is made of 64-bit programs of this machine's own kind alone",
    )
    .hint("use gdb's `gcore` beside it"))
}

/// Lays it out.
pub(super) fn beginning(
    process: &Process,
    threads: &[Thread],
    mappings: &[Mapping],
) -> Result<Beginning, Failure> {
    if mappings.len() > MOST {
        return Err(Failure::new(Code::TooLarge, format!("it has more than {MOST} mappings")));
    }
    let page = rustix::param::page_size() as u64;
    let notes = notes(process, threads, mappings)?;
    let count = mappings.len() as u64 + 1;
    let notes_at = HEADER + count * PROGRAM_HEADER;
    let mut end = (notes_at + notes.len() as u64).next_multiple_of(page);
    let mut bytes = header(count as u16);
    program_header(&mut bytes, [elf::PT_NOTE.0, 0], [notes_at, 0, notes.len() as u64, 0, 4]);
    let mut offsets = Vec::with_capacity(mappings.len());
    for mapping in mappings {
        let map = &mapping.map;
        let flags = u32::from(map.execute) | u32::from(map.write) << 1 | u32::from(map.read) << 2;
        program_header(
            &mut bytes,
            [elf::PT_LOAD.0, flags],
            [end, map.start, mapping.dumped, map.len(), page],
        );
        offsets.push(end);
        end += mapping.dumped;
    }
    bytes.extend(notes);
    Ok(Beginning { bytes, offsets, end })
}

fn header(program_headers: u16) -> Vec<u8> {
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    put(&mut bytes, &[4_u16.to_le_bytes(), MACHINE.to_le_bytes()].concat());
    put(&mut bytes, &1_u32.to_le_bytes());
    // Entry, program headers, section headers.
    for number in [0, HEADER, 0] {
        put(&mut bytes, &number.to_le_bytes());
    }
    put(&mut bytes, &0_u32.to_le_bytes());
    for number in [HEADER as u16, PROGRAM_HEADER as u16, program_headers, 0, 0, 0] {
        put(&mut bytes, &number.to_le_bytes());
    }
    bytes
}

/// Type and flags; offset, address, bytes in the file, bytes in memory, alignment. The physical address is 0.
fn program_header(bytes: &mut Vec<u8>, kind: [u32; 2], [offset, address, file, memory, align]: [u64; 5]) {
    put(bytes, kind.map(u32::to_le_bytes).as_flattened());
    put(bytes, [offset, address, 0, file, memory, align].map(u64::to_le_bytes).as_flattened());
}

fn notes(process: &Process, threads: &[Thread], mappings: &[Mapping]) -> Result<Vec<u8>, Failure> {
    let auxv = process.read("auxv", 64 << 10).map_err(|error| error.failure())?;
    let mut notes = Vec::new();
    for (index, thread) in threads.iter().enumerate() {
        note(&mut notes, elf::NT_PRSTATUS.0, b"CORE\0", &status(thread));
        if index == 0 {
            note(&mut notes, elf::NT_PRPSINFO.0, b"CORE\0", &of_process(process)?);
            note(&mut notes, elf::NT_AUXV.0, b"CORE\0", &auxv);
            note(&mut notes, elf::NT_FILE.0, b"CORE\0", &files(mappings));
        }
        for (kind, set) in &thread.others {
            let owner: &[u8] = if *kind == elf::NT_PRFPREG.0 { b"CORE\0" } else { b"LINUX\0" };
            note(&mut notes, *kind, owner, set);
        }
    }
    Ok(notes)
}

fn note(notes: &mut Vec<u8>, kind: u32, owner: &[u8], bytes: &[u8]) {
    put(notes, [owner.len() as u32, bytes.len() as u32, kind].map(u32::to_le_bytes).as_flattened());
    for part in [owner, bytes] {
        put(notes, part);
        notes.resize(notes.len().next_multiple_of(4), 0);
    }
}

/// `struct elf_prstatus`: no signal, the thread's number at 32, its registers at 112, whether there are floating ones after them.
fn status(thread: &Thread) -> Vec<u8> {
    let mut bytes = vec![0; 112];
    bytes[32..36].copy_from_slice(&thread.container_tid.to_le_bytes());
    bytes.extend(&thread.general);
    put(&mut bytes, &u32::from(!thread.others.is_empty()).to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// `struct elf_prpsinfo`: 136 bytes.
fn of_process(process: &Process) -> Result<Vec<u8>, Failure> {
    let stat = process.stat().map_err(|error| error.failure())?;
    let status = process.status().map_err(|error| error.failure())?;
    let line = process.command_line().unwrap_or_default().join(" ");
    let mut bytes = vec![0; 136];
    bytes[1] = stat.state.letter() as u8;
    bytes[16..20].copy_from_slice(&status.uid[0].to_le_bytes());
    bytes[24..28].copy_from_slice(&status.container_pid().to_le_bytes());
    // Each ends with a zero.
    for (to, from) in [(40..55, stat.name.as_bytes()), (56..135, line.as_bytes())] {
        bytes[to].iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }
    Ok(bytes)
}

/// NT_FILE: how many, the unit of offsets; start, end, offset of each; then their names.
fn files(mappings: &[Mapping]) -> Vec<u8> {
    let page = rustix::param::page_size() as u64;
    let files: Vec<&Map> = mappings.iter().map(|one| &one.map).filter(|map| map.file().is_some()).collect();
    let mut bytes = Vec::new();
    put(&mut bytes, [files.len() as u64, page].map(u64::to_le_bytes).as_flattened());
    for map in &files {
        put(&mut bytes, [map.start, map.end, map.offset / page].map(u64::to_le_bytes).as_flattened());
    }
    for file in files.iter().filter_map(|map| map.file()) {
        put(&mut bytes, file.as_os_str().as_encoded_bytes());
        bytes.push(0);
    }
    bytes
}

fn put(bytes: &mut Vec<u8>, more: &[u8]) {
    bytes.extend_from_slice(more);
}
