//! Programs whose files are broken: the kernel runs them, for it reads the program headers alone.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
};

use pepo_testkit::{Fixture, Life as _, Variant, clean::Snapshot, command, fixtures, spawn, spawn_command};

use super::{assert_results, each_verb};
use crate::{profiles::name, support::Surroundings};

/// Bytes of no meaning, always the same.
fn garbage(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn number(bytes: &[u8], at: usize, length: usize) -> usize {
    bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// Offset and length of each section that no program header loads, and of the unwinder's tables.
fn sections(bytes: &[u8]) -> Vec<(usize, usize)> {
    let (table, count, names) = (number(bytes, 40, 8), number(bytes, 60, 2), number(bytes, 62, 2));
    let section = |index: usize| table + index * 64;
    let names = number(bytes, section(names) + 24, 8);
    let is_chosen = |at: &usize| {
        let name = &bytes[names + number(bytes, *at, 4)..];
        number(bytes, at + 8, 8) & 2 == 0 || name.starts_with(b".eh_frame")
    };
    let parts = (1..count).map(section).filter(is_chosen);
    parts.map(|at| (number(bytes, at + 24, 8), number(bytes, at + 32, 8))).collect()
}

/// Breaks the bytes of a program.
type Way = fn(&mut Vec<u8>);

/// Each way of breaking a program, by name.
fn ways() -> Vec<(&'static str, Way)> {
    vec![
        ("section headers outside of the file", |bytes| bytes[40..48].copy_from_slice(&[0xf0; 8])),
        ("more section headers than the file has", |bytes| bytes[60..62].copy_from_slice(&[0xff; 2])),
        ("the end is cut off", |bytes| {
            let first =
                sections(bytes).iter().filter(|(_, length)| *length > 0).map(|one| one.0).max().unwrap();
            bytes.truncate(first);
        }),
        ("garbage in all sections that are not loaded, and in the unwinder's", |bytes| {
            for (offset, length) in sections(bytes) {
                bytes[offset..offset + length].copy_from_slice(&garbage(length));
            }
        }),
        ("garbage in the section headers", |bytes| {
            let table = number(bytes, 40, 8);
            let length = bytes.len() - table;
            bytes[table..].copy_from_slice(&garbage(length));
        }),
        ("notes and unwinder's tables of any place", |bytes| {
            let (table, count) = (number(bytes, 32, 8), number(bytes, 56, 2));
            for at in (0..count).map(|index| table + index * 56) {
                match number(bytes, at, 4) {
                    // PT_NOTE: the loader believes where it is in memory.
                    4 => [8, 32].iter().for_each(|field| bytes[at + field..at + field + 8].fill(0xe0)),
                    // PT_GNU_EH_FRAME.
                    0x6474_e550 => bytes[at + 8..at + 48].fill(0xe0),
                    _ => {}
                }
            }
        }),
    ]
}

fn broken(fixture: &Fixture, folder: &Path, way: Way) -> Fixture {
    let copy = fixture.copied_to(folder).unwrap();
    let mut bytes = fs::read(&copy.path).unwrap();
    way(&mut bytes);
    fs::write(&copy.path, bytes).unwrap();
    copy
}

#[test]
fn a_program_that_is_broken_in_its_file() {
    let fixture = fixtures::c(Variant::debug());
    for (what, way) in ways() {
        println!("{what}");
        let surroundings = Surroundings::new();
        let target = spawn(&broken(&fixture, surroundings.folder(), way), &["1000", "worker"]);
        let before = Snapshot::take(target.pid());
        let [stack, ..] = assert_results(each_verb(&surroundings, &name(&target)));
        assert!(stack.stdout.contains("loop"), "{what}: {}", stack.stdout);
        target.assert_goes_on();
        before.assert_same();
    }
}

#[test]
fn a_library_that_is_overwritten_while_it_is_mapped() {
    let surroundings = Surroundings::new();
    let fixture = fixtures::c(Variant::debug());
    let library = surroundings.path("libm.so.6");
    let real = fs::canonicalize(format!("/lib/{}-linux-gnu/libm.so.6", std::env::consts::ARCH)).unwrap();
    fs::copy(real, &library).unwrap();
    let target = spawn_command(command(&fixture.path).args(["1000", "worker"]).env("LD_PRELOAD", &library));
    target.wait_started();
    // Its header, and what is not in memory: nothing that the program needs to run.
    let file = File::options().write(true).open(&library).unwrap();
    let length = fs::metadata(&library).unwrap().len();
    file.write_all_at(&garbage(0x1000), 0).unwrap();
    file.write_all_at(&garbage(0x2000), length - 0x2000).unwrap();
    let before = Snapshot::take(target.pid());
    let [stack, ..] = assert_results(each_verb(&surroundings, &name(&target)));
    assert!(stack.stdout.contains("beat_for_ever"), "{}", stack.stdout);
    target.assert_goes_on();
    before.assert_same();
}
