//! ELF files as compilers make them, and as an attacker would.

use super::*;

/// This very test program: a static musl executable with debug information.
fn own_bytes() -> Vec<u8> {
    std::fs::read("/proc/self/exe").unwrap()
}

#[test]
fn this_program_is_read_as_what_it_is() {
    let facts = Elf::parse(File::open("/proc/self/exe").unwrap()).unwrap().facts();
    assert_eq!(facts.is_static, cfg!(target_env = "musl"), "{facts:?}");
    assert!(facts.is_64 && facts.has_symtab && facts.has_debug_line, "{facts:?}");
    assert!(facts.go.is_none());
    let producer = facts.producer.unwrap();
    assert!(
        producer.text.contains("rustc") || producer.text.contains("clang") || producer.text.contains("GNU"),
        "{producer:?}"
    );
}

#[test]
fn a_file_and_its_bytes_say_the_same() {
    let file = Elf::parse(File::open("/proc/self/exe").unwrap()).unwrap().facts();
    assert_eq!(inspect(&own_bytes()).unwrap(), file);
}

#[allow(unsafe_code, reason = "only the name is exported, to be looked up")]
#[unsafe(no_mangle)]
extern "C" fn pepo_marked_function() -> u32 {
    std::hint::black_box(0x7e90)
}

#[test]
fn symbols_lead_to_the_addresses_of_this_process() {
    assert_eq!(pepo_marked_function(), 0x7e90);
    let process = crate::Process::own().unwrap();
    let elf = Elf::parse(process.open_exe().unwrap()).unwrap();
    let exe = process.exe_path().unwrap();
    let maps = process.maps().unwrap();
    let map = maps.iter().find(|map| map.file() == Some(&exe)).unwrap();
    let found = elf.symbols(&["pepo_marked_function", "main", "no_such_symbol_at_all"]);
    let expected = pepo_marked_function as *const () as u64;
    assert_eq!(found["pepo_marked_function"].address.wrapping_add(elf.bias(map).unwrap()), expected);
    assert!(found["pepo_marked_function"].is_function && found.contains_key("main"));
    assert!(!found.contains_key("no_such_symbol_at_all"));
    // Every mapping of the file gives the same bias.
    let biases: std::collections::HashSet<_> =
        maps.iter().filter(|map| map.file() == Some(&exe)).filter_map(|map| elf.bias(map)).collect();
    assert_eq!(biases.len(), 1, "{biases:?}");
}

#[test]
fn what_is_no_elf_is_refused() {
    for bytes in [&b""[..], b"\x7fELF", b"#!/bin/sh\n", &[0; 4096], &[0xff; 4096]] {
        assert!(matches!(inspect(bytes), Err(ElfError::NotElf)));
    }
}

/// A small generator of numbers: the same bytes in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// A small dynamic executable, if there is one on this machine, besides our own.
fn samples() -> Vec<Vec<u8>> {
    let others = ["/bin/true", "/bin/cat"].into_iter().filter_map(|path| std::fs::read(path).ok());
    others.filter(|bytes| bytes.len() < 1 << 20).chain([small(&own_bytes())]).collect()
}

/// The headers and tables of a big file with its sections' contents cut off.
fn small(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(256 << 10)].to_vec()
}

#[test]
fn mutated_files_are_neither_a_panic_nor_endless() {
    let mut random = Random(0x5eed_1234_5678_9abc);
    let start = std::time::Instant::now();
    let mut parsed = 0;
    for sample in samples() {
        for round in 0..400 {
            let mut bytes = sample.clone();
            for _ in 0..=random.below(24) {
                // Half of the changes hit the headers, where they hurt most.
                let place = if random.below(2) == 0 { random.below(512) } else { random.below(bytes.len()) };
                let value = [0, 0xff, 0x7f, 0x80, random.next() as u8][random.below(5)];
                bytes[place] = value;
            }
            if round % 5 == 0 {
                bytes.truncate(random.below(bytes.len()));
            }
            parsed += usize::from(inspect(&bytes).is_ok());
            if let Ok(elf) = Elf::parse(bytes.as_slice()) {
                let _ = elf.symbols(&["main", "_start"]);
                let _ = elf.file_offset(random.next());
            }
        }
    }
    assert!(parsed > 100, "only {parsed} files got past the header");
    assert!(start.elapsed().as_secs() < 60, "took {:?}", start.elapsed());
}

/// Changes aimed at the fields that say where tables are and how long.
#[test]
fn headers_with_extreme_numbers_are_survived() {
    let sample = small(&own_bytes());
    for place in 16..64 {
        for value in [0u8, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = sample.clone();
            bytes[place] = value;
            let _ = inspect(&bytes);
            bytes[place..place + 8].fill(value);
            let _ = inspect(&bytes);
        }
    }
}

/// A file of ours with Go's block in the older form: pointers to strings.
#[test]
fn gos_older_pointer_form_is_read() {
    let mut bytes = vec![0u8; 0x400];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[16..20].copy_from_slice(&[2, 0, 62, 0]);
    bytes[32..40].copy_from_slice(&64u64.to_le_bytes());
    bytes[54..58].copy_from_slice(&[56, 0, 1, 0]);
    let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    put(64, 1 | 6 << 32);
    put(64 + 16, 0x40_0000);
    put(64 + 32, 0x400);
    put(64 + 40, 0x400);
    // The block at 0x100, two string headers at 0x200, their texts at 0x300.
    put(0x110, 0x40_0200);
    put(0x118, 0x40_0210);
    put(0x200, 0x40_0300);
    put(0x208, 8);
    put(0x210, 0x40_0310);
    put(0x218, 45);
    bytes[0x100..0x110].copy_from_slice(b"\xff Go buildinf:\x08\x00");
    bytes[0x300..0x308].copy_from_slice(b"go1.17.5");
    bytes[0x310..0x310 + 45].copy_from_slice(b"0123456789abcdefpath\tmain.go\n0123456789abcdef");
    let go = inspect(&bytes).unwrap().go.unwrap();
    assert_eq!((go.version.as_str(), go.path.as_str(), go.optimised()), ("1.17.5", "main.go", None));
}
