//! The formats: which there are, how each is recognised, written and read. A new one is a file here and a line in [`FORMATS`].

/// The Firefox Profiler's.
mod firefox;
/// Stacks as lines of text, as FlameGraph and speedscope read them.
mod folded;
/// A page that needs nothing else.
mod html;
/// Our own: a capture as it is.
mod json;
/// Bytes packed with gzip, and captures within pictures.
mod packed;
/// pprof's protobuf, compressed.
mod pprof;
/// speedscope's JSON.
mod speedscope;
/// A flame graph as a picture that can be searched and zoomed.
mod svg;
/// Text inside XML and JSON inside HTML.
mod text;

use crate::{Capture, Diff};

/// Something of a file that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// No format of ours is called so.
    #[error("no format is called `{name}`")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// What was read is not in a format that can be read again.
    #[error(
        "this is no capture: neither Pepo's JSON, SVG or HTML, nor pprof, nor speedscope's or the Firefox Profiler's, nor collapsed stacks"
    )]
    NotReadable,
    /// It is of ours, but compares two captures.
    #[error("this is a difference of two captures, not a capture")]
    Difference,
    /// A picture or a page of which only what is drawn is known.
    #[error("this picture holds no capture: those that other programs drew hold none, nor do differences")]
    Drawn,
    /// It has more frames than can be held.
    #[error("this has more than {most} frames")]
    TooDeep {
        /// The most that is read.
        most: usize,
    },
    /// It looked like a format but is damaged.
    #[error("this is no sound {format}")]
    Damaged {
        /// The format it looked like.
        format: &'static str,
        /// What the reader says.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A picture of this kind cannot show a difference.
    #[error("{format} cannot show a difference")]
    NoDiff {
        /// The format that was asked for.
        format: &'static str,
    },
}

impl FormatError {
    fn damaged(format: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> FormatError {
        FormatError::Damaged { format, source: Some(Box::new(source)) }
    }
}

/// One format, as data.
#[derive(Clone, Copy)]
pub struct Format {
    /// What it is called on the command line.
    pub name: &'static str,
    /// How the names of its files end, the usual ending first.
    pub endings: &'static [&'static str],
    /// What it is, for help.
    pub what: &'static str,
    write: fn(&Capture) -> Vec<u8>,
    write_diff: Option<fn(&Diff) -> Vec<u8>>,
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Format) -> bool {
        self.name == other.name
    }
}

/// All formats. An ending that is longer is tried before a shorter one it ends in.
pub static FORMATS: &[Format] = &[
    Format {
        name: "svg",
        endings: &[".svg"],
        what: "flame graph, to be searched and zoomed in a browser",
        write: svg::write,
        write_diff: Some(svg::write_diff),
    },
    Format {
        name: "html",
        endings: &[".html", ".htm"],
        what: "one page: flame graph, icicle, callers, table, timeline of threads",
        write: html::write,
        write_diff: None,
    },
    Format {
        name: "pprof",
        endings: &[".pb.gz", ".pprof", ".pb"],
        what: "for `go tool pprof` and all that reads it",
        write: pprof::write,
        write_diff: None,
    },
    Format {
        name: "speedscope",
        endings: &[".speedscope.json", ".speedscope"],
        what: "for speedscope",
        write: speedscope::write,
        write_diff: None,
    },
    Format {
        name: "firefox",
        endings: &[".firefox.json", ".profile.json"],
        what: "for the Firefox Profiler",
        write: firefox::write,
        write_diff: None,
    },
    Format {
        name: "folded",
        endings: &[".folded", ".collapsed"],
        what: "collapsed stacks, one a line",
        write: folded::write,
        write_diff: Some(folded::write_diff),
    },
    Format {
        name: "json",
        endings: &[".json"],
        what: "all that is known",
        write: json::write,
        write_diff: Some(json::write_diff),
    },
];

impl Format {
    /// The format that is called so.
    ///
    /// # Errors
    /// [`FormatError::Unknown`].
    pub fn named(name: &str) -> Result<&'static Format, FormatError> {
        FORMATS
            .iter()
            .find(|format| format.name == name)
            .ok_or_else(|| FormatError::Unknown { name: name.to_owned() })
    }

    /// The format of a file's name; nothing when no ending is known.
    #[must_use]
    pub fn of_file(name: &str) -> Option<&'static Format> {
        let name = name.to_ascii_lowercase();
        FORMATS.iter().find(|format| format.endings.iter().any(|ending| name.ends_with(ending)))
    }

    /// The bytes of a file.
    #[must_use]
    pub fn write(&self, capture: &Capture) -> Vec<u8> {
        (self.write)(capture)
    }

    /// The bytes of a file that shows a difference.
    ///
    /// # Errors
    /// [`FormatError::NoDiff`].
    pub fn write_diff(&self, diff: &Diff) -> Result<Vec<u8>, FormatError> {
        self.write_diff.map(|write| write(diff)).ok_or(FormatError::NoDiff { format: self.name })
    }
}

/// Reads a file of any format in [`FORMATS`], whoever wrote it (pictures: ours), packed with gzip or not. The bytes decide, not the
/// file's name.
///
/// # Errors
/// Every [`FormatError`] but [`FormatError::Unknown`] and [`FormatError::NoDiff`].
pub fn read(bytes: &[u8]) -> Result<Capture, FormatError> {
    let capture = match bytes {
        [0x1f, 0x8b, ..] => read_unpacked(&packed::unpack(bytes)?)?,
        _ => read_unpacked(bytes)?,
    };
    if capture.is_sound() {
        Ok(capture)
    } else {
        Err(FormatError::Damaged { format: "capture", source: None })
    }
}

fn read_unpacked(bytes: &[u8]) -> Result<Capture, FormatError> {
    let Ok(text) = std::str::from_utf8(bytes) else { return pprof::read(bytes) };
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let begins = |start: &str| text.get(..start.len()).is_some_and(|it| it.eq_ignore_ascii_case(start));
    let marked = if begins("{") {
        read_json(text)
    } else if begins("<!doctype html") || begins("<html") {
        html::read(text)
    } else if begins("<?xml") || begins("<svg") {
        svg::read(text)
    } else {
        Err(FormatError::NotReadable)
    };
    // Names of functions may begin so, too.
    marked.or_else(|error| folded::read(text).ok_or(error)).or_else(|error| match error {
        FormatError::NotReadable => pprof::read(bytes),
        error => Err(error),
    })
}

fn read_json(text: &str) -> Result<Capture, FormatError> {
    let value = serde_json::from_str(text).map_err(|error| FormatError::damaged("JSON", error))?;
    match value {
        ours if json::is(&ours) => json::read(ours),
        diff if json::is_diff(&diff) => Err(FormatError::Difference),
        one if speedscope::is(&one) => speedscope::read(one),
        one if firefox::is(&one) => firefox::read(one),
        _ => Err(FormatError::NotReadable),
    }
}

/// The most frames, in all stacks together, of a form in which few bytes can stand for many.
const MOST_FRAMES: usize = 1 << 26;

/// Counts them.
#[derive(Default)]
struct Frames(usize);

impl Frames {
    fn add(&mut self, frames: usize) -> Result<(), FormatError> {
        self.0 = self.0.saturating_add(frames);
        if self.0 > MOST_FRAMES { Err(FormatError::TooDeep { most: MOST_FRAMES }) } else { Ok(()) }
    }
}

/// A number as others write it: it may have a fraction, and what is below nothing is nothing.
fn whole(number: f64) -> u64 {
    // As a cast has it, what is too large is the most and what is no number is nothing.
    number.round() as u64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Builder, Frame, Kind, Module, Process, Sample, Thread, Unit};

    /// What Go's own tool says of a profile.
    pub(crate) fn pprof_says(options: &[&str], profile: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.pb.gz");
        std::fs::write(&file, profile).unwrap();
        let mut command = pepo_testkit::command("go");
        command.args(["tool", "pprof"]).args(options).arg(&file).env("PPROF_TMPDIR", folder.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Ten samples of 100 ns: six in `hot`, three in `warm`, one in a library without symbols.
    pub(crate) fn example() -> Capture {
        let mut builder = Builder::new();
        *builder.meta() = crate::Meta {
            target: "docker/shop".into(),
            made_by: "pepo 0.1.0".into(),
            started_millis: 1_764_078_311_000,
            duration_nanos: 1_000_000,
            sampler: "perf, CPU time".into(),
            unit: Unit::CpuNanos,
            rate: 99,
            achieved_rate: 98.5,
            cpu_nanos: 1000,
            lost: 2,
            ..crate::Meta::default()
        };
        let process = builder.process(Process { pid: 7, name: "shop".into(), ..Process::default() });
        let [main_thread, worker] = [(7, "shop"), (8, "worker")]
            .map(|(tid, name)| builder.thread(Thread { process, tid, name: name.into() }));
        let shop = builder.module(Module { path: "/usr/bin/shop".into(), build_id: "ab12".into() });
        let libc = builder.module(Module { path: "/lib/libc.so.6".into(), ..Module::default() });
        let mut at = |address, functions: &[(&str, u32)]| {
            let last = functions.len();
            let frames = functions.iter().enumerate().map(|(index, (function, line))| Frame {
                function: (*function).to_owned(),
                file: "/src/hot.c".into(),
                line: *line,
                column: 0,
                module: Some(shop),
                kind: Kind::Native,
                inlined: index + 1 < last,
            });
            let frames = frames.map(|frame| builder.frame(frame)).collect();
            builder.location(Some(shop), address, frames)
        };
        let (main, hot) = (at(0x100, &[("main", 30)]), at(0x200, &[("hot", 12), ("work", 20)]));
        let (work, warm) = (at(0x210, &[("work", 21)]), at(0x300, &[("warm<int, \"a\">", 5)]));
        let write = builder.location(Some(libc), 0x55, Vec::new());
        let stacks =
            [vec![hot, main], vec![warm, work, main], vec![write, main]].map(|stack| builder.stack(stack));
        for index in 0..10_u64 {
            let (stack, thread) = match index {
                0..6 => (stacks[0], main_thread),
                6..9 => (stacks[1], worker),
                _ => (stacks[2], main_thread),
            };
            builder.sample(Sample { stack, thread, at_nanos: index * 100_000 + 1, count: 1, weight: 100 });
        }
        builder.finish()
    }

    #[test]
    fn the_format_follows_the_ending() {
        for (file, format) in [
            ("flame.svg", "svg"),
            ("Flame.HTML", "html"),
            ("a.pb.gz", "pprof"),
            ("a.json", "json"),
            ("a.speedscope.json", "speedscope"),
            ("a.profile.json", "firefox"),
            ("a.folded", "folded"),
        ] {
            assert_eq!(Format::of_file(file).unwrap().name, format);
            assert_eq!(Format::named(format).unwrap().name, format);
        }
        assert!(Format::of_file("a.txt").is_none() && Format::named("txt").is_err());
    }

    #[test]
    fn what_is_readable_says_the_same_after_it_was_written() {
        let one = example();
        let told = |capture: &Capture| crate::rows(capture, crate::By::Function);
        for name in ["json", "pprof", "folded"] {
            let written = Format::named(name).unwrap().write(&one);
            let again = read(&written).unwrap_or_else(|error| panic!("{name}: {error}"));
            let shares = |rows: Vec<crate::Row>, whole: u64| -> Vec<_> {
                rows.into_iter()
                    .map(|row| (row.label, row.own * 1000 / whole, row.total * 1000 / whole))
                    .collect()
            };
            assert_eq!(
                shares(told(&again), again.total_weight()),
                shares(told(&one), one.total_weight()),
                "{name}"
            );
            assert_eq!(again.sample_count(), one.sample_count(), "{name}");
        }
        assert_eq!(read(&Format::named("json").unwrap().write(&one)).unwrap(), one);
    }

    #[test]
    fn every_file_says_what_when_how_and_how_many_were_lost() {
        let one = example();
        for format in FORMATS.iter().filter(|format| format.name != "pprof") {
            let text = String::from_utf8(format.write(&one)).unwrap();
            for word in ["docker/shop", "98", "perf"] {
                assert!(text.contains(word), "{word} is not in {}", format.name);
            }
        }
    }

    #[test]
    fn what_is_no_capture_is_refused_with_one_clear_error() {
        for bytes in [
            &b""[..],
            b"\x7fELF\x02\x01\x01",
            b"hello world\n",
            b"{}",
            b"{\"stacks\":[[99]]}",
            b"\x1f\x8b\x08\x00garbage",
            b"{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\"}",
            b"{\"meta\":{\"preprocessedProfileVersion\":55},\"threads\":[{}]}",
            b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
            b"<?xml version=\"1.0\"?><svg><metadata id=\"pepo-capture\">AAAA</metadata></svg>",
            b"<!DOCTYPE html><html></html>",
        ] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_difference_is_told_from_a_capture() {
        let diff = Diff::of(&example(), &example(), crate::By::Function);
        for (name, told) in [("json", "a difference of two captures"), ("svg", "differences")] {
            let written = Format::named(name).unwrap().write_diff(&diff).unwrap();
            assert!(read(&written).unwrap_err().to_string().contains(told), "{name}");
        }
    }

    #[test]
    fn our_own_pictures_hold_what_they_show_and_the_page_all_of_it() {
        let mut one = example();
        one.frames[0].function = "</metadata></script>\"]]>".into();
        let again = |name: &str| read(&Format::named(name).unwrap().write(&one)).unwrap();
        assert_eq!((again("json"), again("html")), (one.clone(), one.clone()));
        let picture = again("svg");
        assert_eq!((&picture.meta, &picture.frames), (&one.meta, &one.frames));
        assert_eq!((picture.samples.len(), picture.total_weight()), (3, 1000));
    }

    #[test]
    fn names_that_begin_as_other_formats_do_are_collapsed_stacks() {
        for text in ["{closure};hot 3\n", "<module>;hot 3\n", "<svgload>;hot 3\n"] {
            let capture = read(text.as_bytes()).unwrap();
            assert_eq!(capture.sample_count(), 3, "{text}");
        }
    }

    #[test]
    fn an_empty_capture_can_be_written_in_every_format() {
        let empty = Builder::new().finish();
        for format in FORMATS {
            assert!(!format.write(&empty).is_empty() || format.name == "folded", "{}", format.name);
        }
    }
}
