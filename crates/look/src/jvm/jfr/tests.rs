//! A small recording, made by hand, and what was done to it.

use super::*;

/// Three samples in two threads; the constants stand in two events.
const SMALL: &[u8] = include_bytes!("../../../../fuzz/corpus/a.jfr");

fn samples(bytes: &[u8]) -> Result<Vec<Sample>, Malformed> {
    let mut found = Vec::new();
    read(bytes, &mut |sample| found.push(sample)).map(|()| found)
}

/// Function, file, line.
type Frame<'a> = (&'a str, &'a str, u32);

/// Each with its time after the beginning, in nanoseconds.
fn told(sample: &Sample) -> (u64, u32, &str, Vec<Frame<'_>>, bool) {
    let frames = sample.stack.frames.iter();
    let frames = frames.map(|spot| (&*spot.function, &*spot.file, spot.line)).collect();
    (sample.at - 1_000_000_000_000_000_000, sample.tid, &sample.name, frames, sample.stack.is_cut)
}

#[test]
fn samples_have_their_time_thread_functions_and_lines() {
    let read = samples(SMALL).unwrap();
    let whole = || {
        vec![
            ("a.b.Shop$Inner.run", "Shop.java", 26),
            ("Shop.main{lambda 0}", "Shop.java", 7),
            ("Shop{lambda}.run", "", 0),
        ]
    };
    assert_eq!(
        read.iter().map(told).collect::<Vec<_>>(),
        [
            (500_000, 4711, "main", whole(), false),
            (1_000_000, 4711, "main", vec![("[unknown]", "", 3)], true),
            (1_500_000, 12, "C2", whole(), false),
        ]
    );
    let twice = samples(&[SMALL, SMALL].concat()).unwrap();
    assert_eq!(twice, [&read[..], &read[..]].concat());
}

#[test]
fn what_is_no_recording_or_only_a_part_of_one_is_refused() {
    assert_eq!(samples(b""), Ok(Vec::new()));
    for bytes in [b"beat 1 ticks=2".as_slice(), &SMALL[..HEAD], &SMALL[..SMALL.len() - 1], &SMALL[1..]] {
        assert_eq!(samples(bytes), Err(Malformed));
    }
}

/// A chain of constants that leads to itself, or forward, would never end.
#[test]
fn constants_that_lead_nowhere_are_refused() {
    let mut bytes = SMALL.to_vec();
    let at = usize::try_from(u64::from_be_bytes(SMALL[16..24].try_into().unwrap())).unwrap();
    // Size (4), type, time, duration; then how far back, negative, in nine bytes.
    for to in [[0xff; 9], [0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]] {
        bytes[at + 7..at + 16].copy_from_slice(&to);
        assert_eq!(samples(&bytes), Err(Malformed));
    }
}

/// Time and memory grow with what is there, not with what it says.
#[test]
fn counts_of_more_than_there_is_are_refused() {
    for at in HEAD..SMALL.len() {
        for value in [0x7f, 0xff] {
            let mut bytes = SMALL.to_vec();
            bytes[at] = value;
            let found = samples(&bytes).unwrap_or_default();
            assert!(
                found.len() <= 3 && found.iter().all(|one| one.stack.frames.len() <= SMALL.len()),
                "{at}"
            );
        }
    }
}

#[test]
fn files_are_those_of_outermost_classes() {
    for (class, file) in [
        ("Hot", "Hot.java"),
        ("a/b/Outer$Inner$1", "Outer.java"),
        ("Hot$$Lambda$2+0x00007f/1933863327", ""),
        ("Hot$$Lambda/0x00007f", ""),
        ("a/Hot$$Lambda$2/1933863327", ""),
        ("java/lang/invoke/LambdaForm$DMH+0x0000000800c02000", ""),
        ("jdk/internal/reflect/GeneratedMethodAccessor1", "GeneratedMethodAccessor1.java"),
        ("?", ""),
        ("", ""),
        ("a/$b", ""),
    ] {
        assert_eq!(file_of(class), file, "{class}");
    }
}

#[test]
fn classes_are_named_as_they_are_written() {
    for (class, name) in [
        ("java/lang/String", "java.lang.String"),
        ("[B", "byte[]"),
        ("[[Ljava/util/Map$Entry;", "java.util.Map$Entry[][]"),
        ("Shop$$Lambda$2/1933863327", "Shop$$Lambda$2"),
        ("[", "[]"),
        ("", ""),
    ] {
        assert_eq!(class_name(class), name, "{class}");
    }
}
