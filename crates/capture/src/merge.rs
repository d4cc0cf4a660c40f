//! Captures of several targets as one, in which each target can still be told apart.

use crate::{Builder, Capture, Process};

/// Targets that are named one by one.
const NAMED: usize = 3;

/// All of them as one capture, the earliest first, named in the order given; each process says which target it belongs to. What has no
/// name yet has a frame that says where it lies.
#[must_use]
pub fn merge<'a>(captures: impl IntoIterator<Item = &'a Capture>) -> Capture {
    let mut captures: Vec<&Capture> = captures.into_iter().collect();
    let names: Vec<&str> = captures.iter().map(|one| one.meta.target.as_str()).collect();
    captures.sort_by_key(|one| one.meta.started_millis);
    if let [only] = captures[..] {
        let mut builder = Builder::new();
        builder.add(only);
        return builder.finish();
    }
    let mut builder = Builder::new();
    for one in &captures {
        builder.add(&of_target(one, &captures));
    }
    builder.meta().target = together(&names);
    builder.finish()
}

/// With the target's name at each process, and at each note that is not said of all of them.
fn of_target(capture: &Capture, all: &[&Capture]) -> Capture {
    let target = &capture.meta.target;
    let mut own = capture.clone();
    for Process { target: named, .. } in &mut own.processes {
        named.clone_from(target);
    }
    let of_all = |note: &String| all.iter().all(|one| one.meta.notes.contains(note));
    for note in own.meta.notes.iter_mut().filter(|note| !of_all(note)) {
        *note = format!("{target}: {note}");
    }
    own
}

/// `a + b`, `a + b + c`, `a + b + c + 17 more`.
fn together(names: &[&str]) -> String {
    let named = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(" + ");
    match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} + {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        By, Format, Pauses, Tree,
        formats::tests::{example, pprof_says},
        rows,
    };

    fn of(target: &str, started: u64) -> Capture {
        let mut capture = example();
        capture.meta.target = target.into();
        capture.meta.started_millis = started;
        capture.meta.notes = vec!["held".into(), format!("cut at {started}")];
        capture.meta.pauses = Some(Pauses { count: 2, longest_nanos: started, total_nanos: 10 });
        capture
    }

    fn both() -> Capture {
        merge([&of("pod/b/app", 3000), &of("pod/a/app", 1000)])
    }

    #[test]
    fn one_capture_stays_as_it_is() {
        assert_eq!(merge([&of("pod/a/app", 1000)]), of("pod/a/app", 1000));
    }

    #[test]
    fn targets_are_told_apart_and_what_they_share_is_summed_up() {
        let both = both();
        assert!(both.is_sound());
        assert_eq!(both.meta.target, "pod/b/app + pod/a/app");
        assert_eq!(both.meta.notes, ["held", "pod/a/app: cut at 1000", "pod/b/app: cut at 3000"]);
        let pauses = Pauses { count: 4, longest_nanos: 3000, total_nanos: 20 };
        assert_eq!(both.meta.pauses, Some(pauses));
        let one = example();
        assert_eq!(both.frames.len(), one.frames.len());
        let functions = rows(&both, By::Function);
        assert_eq!((functions[0].label.as_str(), functions[0].own), ("hot", 1200));
        let processes: Vec<_> = rows(&both, By::Process).into_iter().map(|row| row.label).collect();
        assert_eq!(processes, ["pod/a/app shop (7)", "pod/b/app shop (7)"]);
    }

    #[test]
    fn many_targets_are_counted() {
        let all: Vec<Capture> = (0..5).map(|index| of(&format!("pod/{index}"), index)).collect();
        assert_eq!(merge(&all).meta.target, "pod/0 + pod/1 + pod/2 + 2 more");
    }

    #[test]
    fn every_format_names_the_targets() {
        let both = both();
        for format in crate::FORMATS {
            let bytes = format.write(&both);
            let bytes = if format.name == "pprof" { unpacked(&bytes) } else { bytes };
            let text = String::from_utf8_lossy(&bytes);
            // Beside where it stands in the words about all.
            for target in ["pod/a/app", "pod/b/app"] {
                assert!(text.matches(target).count() > 1, "{target} in {}", format.name);
            }
        }
        let tree = Tree::of(&both, false);
        assert_eq!(tree.nodes[0].children.len(), 2);
    }

    fn unpacked(bytes: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(bytes), &mut all).unwrap();
        all
    }

    #[test]
    fn collapsed_stacks_begin_with_their_target() {
        let text = String::from_utf8(Format::named("folded").unwrap().write(&both())).unwrap();
        let hot: Vec<_> = text.lines().filter(|line| line.contains(";hot ")).collect();
        assert_eq!(hot, ["pod/a/app;main;work;hot 6", "pod/b/app;main;work;hot 6"]);
    }

    #[test]
    fn the_pprof_tool_divides_it_by_targets() {
        let text = pprof_says(&["-tags"], &Format::named("pprof").unwrap().write(&both()));
        for line in ["target: Total", "(50.00%): pod/a/app", "(50.00%): pod/b/app"] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
