//! Memory that lies, as Python's readers get it.

use super::{
    code::Codes,
    find,
    frames::{self, Method},
    layout::Layout,
    objects::Symbols,
};
use crate::python::Liar;

#[test]
fn hostile_memory_of_ruby_ends_every_read_within_bounds() {
    let mut of_c = 0;
    for seed in 1..=20 {
        for version in ["2.7.0", "3.0.0", "3.1.0", "3.2.0", "3.3.0", "3.4.0"] {
            let (memory, layout) = (Liar::new(seed), Layout::of(version).unwrap());
            let (mut codes, mut symbols) = (Codes::default(), Symbols::new(Some(0x1000)));
            for machine in (0x1000..0x4000).step_by(0x400) {
                let _ = find::threads(&memory, &layout, machine);
                let copied = frames::copy(&memory, &layout, machine, 50, 3);
                for frame in copied.unwrap_or_default().frames {
                    let _ = codes.spot(&memory, &layout, frame.code, frame.instruction);
                    let _ = symbols.method(&memory, &layout, frame.method);
                    let marked = Method { entry: frame.code, mark: 0x5555_0001 };
                    let _ = symbols.method(&memory, &layout, marked);
                }
                let _ = codes.spot(&memory, &layout, machine, 0x2000);
                of_c += usize::from(
                    symbols.method(&memory, &layout, Method { entry: machine, mark: 0 }).is_some(),
                );
            }
            assert!(memory.reads() < 20_000_000, "seed {seed}, {version}: {} reads", memory.reads());
        }
    }
    assert_eq!(of_c, 0, "a frame of C needs its mark");
}

#[test]
fn versions_that_are_not_known_are_none() {
    for version in ["", "2.6.10", "3.5.0", "4.0.1", "3", "three.one"] {
        assert_eq!(Layout::of(version), None, "{version}");
    }
}
