//! `pepo record`: a profile of a process, without stopping it. The result is on the user's own disk.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use pepo_capture::{By, Capture, FORMATS, Format, Unit, rows};
use pepo_platform::Need;
use pepo_wire::{Code, Failure, agent::StartLook};

use crate::{
    arguments::{Output, TargetArgs, To, to_file},
    config::Context,
    duration,
    looking::{Looking, Scope, listen, unless_interrupted},
    new_file::NewFile,
    reach,
    render::{Outcome, capture},
};

const EXAMPLES: &str = "\
Examples:
  pepo record docker/shop -d 10 -o flame.svg
  pepo record shop -d 30 -r 499 -o profile.pb.gz
  pepo record pid/4711 -o page.html            until Ctrl-C
  pepo record shop -d 5                        a table, here
  pepo record shop -d 10 --idle --threads -o waiting.svg
  pepo record shop -d 10 --alloc -o memory.svg
  pepo record shop -d 5 --symbols ./debug -o before.json

The format follows the ending of the file: .svg (flame graph), .html (page), .pb.gz (pprof),
.speedscope.json, .firefox.json, .folded (collapsed stacks), .json (for `pepo diff`).";

/// Rows that are shown.
const ROWS: usize = 30;

/// Arguments of `pepo record`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Record {
    /// The target.
    #[command(flatten)]
    target: TargetArgs,
    /// How long, as in `10`, `30s`, `2m`; without it, until Ctrl-C or the end of the process
    #[arg(short, long, value_name = "TIME", value_parser = duration::parse_seconds)]
    duration: Option<Duration>,
    /// Samples a second: of each thread's CPU time; of Python, of all threads that run
    #[arg(short, long, value_name = "HZ", default_value_t = 99, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Where to: a file, `-` for stdout, or as for every verb: text (a table), wide, json
    #[arg(id = "output", short = 'o', long = "output", value_name = "FILE", default_value = "text", value_parser = to_file)]
    to: To,
    /// The format, whatever the file is called
    #[arg(long, value_name = "FORMAT", value_parser = FORMATS.iter().map(|format| format.name).collect::<Vec<_>>())]
    format: Option<String>,
    /// Folder with split debug files on this machine; may be given several times
    #[arg(long, value_name = "DIR")]
    symbols: Vec<PathBuf>,
    /// How samples are taken: by the kernel's timer, by holding running threads for a moment, Python's frames from memory,
    /// Node's own profiler, or async-profiler in a JVM; without it, the gentlest that works
    #[arg(long, value_name = "HOW", value_parser = ["perf", "hold", "python", "node", "async-profiler"])]
    sampler: Option<String>,
    /// What is looked at.
    #[command(flatten)]
    scope: Scope,
}

/// Where the capture goes.
enum Place {
    /// A table.
    Table,
    /// Bytes on stdout.
    Stdout(&'static Format),
    /// A file.
    File(NewFile, PathBuf, &'static Format),
}

/// Records, names, writes.
pub(crate) async fn run(arguments: &Record, context: &Context) -> Outcome {
    let chosen = arguments.target.chosen()?;
    let place = place(&arguments.to, arguments.format.as_deref())?;
    let mut signals = listen()?;
    let reached = unless_interrupted(&mut signals, reach::reach(context, &chosen, Need::Look)).await?;
    let millis = arguments.duration.map_or(0, |time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
    let request = StartLook {
        rate: arguments.rate,
        duration_millis: millis,
        sampler: arguments.sampler.clone().unwrap_or_default(),
        ..StartLook::default()
    };
    let mut looking =
        Looking::begin(&reached, request, arguments.scope, &arguments.symbols, "record").await?;
    looking.until_the_end(context, &mut signals, arguments.duration).await?;
    context.printer.progress("looking up names");
    let interrupted = tokio::select! {
        () = looking.name() => false,
        _ = signals.next() => true,
    };
    if interrupted {
        looking.collector.builder().meta().notes.push("names were not all looked up: interrupted".to_owned());
    }
    context.printer.progress("");
    let capture = looking.collector.finish();
    write(place, &capture, context)
}

fn write(place: Place, capture: &Capture, context: &Context) -> Outcome {
    let printer = context.printer;
    if capture.samples.is_empty() {
        printer.say(match capture.meta.unit {
            Unit::CpuNanos => "no samples: none of its threads ran meanwhile",
            _ => "no samples: nothing of what was looked for happened meanwhile",
        });
    }
    match place {
        Place::Stdout(format) => printer.bytes(&format.write(capture)),
        Place::Table => {
            let rows = rows(capture, By::Function);
            printer.data(&capture::lines(capture, &rows, ROWS, printer.paint).join("\n"))
        }
        Place::File(file, path, format) => {
            file.finish(&format.write(capture))?;
            printer.say(&format!("{}: {}", path.display(), capture.summary()));
            for note in &capture.meta.notes {
                printer.say(&format!("note: {note}"));
            }
            Ok(())
        }
    }
}

/// Decides before anything is done, and makes sure that the file can be written.
fn place(to: &To, format: Option<&str>) -> Result<Place, Failure> {
    let unknown = |error: pepo_capture::FormatError| Failure::new(Code::Usage, error.to_string());
    let named = format.map(Format::named).transpose().map_err(unknown)?;
    match to {
        To::Shape(Output::Json) => {
            Ok(Place::Stdout(named.unwrap_or(Format::named("json").map_err(unknown)?)))
        }
        To::Shape(_) => Ok(named.map_or(Place::Table, Place::Stdout)),
        To::File(path) => {
            let format = match named {
                Some(format) => format,
                None => of_ending(path)?,
            };
            if path.as_os_str() == "-" {
                return Ok(Place::Stdout(format));
            }
            Ok(Place::File(NewFile::begin(path)?, path.clone(), format))
        }
    }
}

/// The format of a file's ending.
pub(crate) fn of_ending(path: &std::path::Path) -> Result<&'static Format, Failure> {
    Format::of_file(&path.to_string_lossy()).ok_or_else(|| {
        let endings: Vec<_> = FORMATS.iter().map(|format| format.endings[0]).collect();
        Failure::new(Code::Usage, format!("the ending of {} says no format", path.display()))
            .because(format!("known are {}", endings.join(", ")))
            .hint("or name it with `--format`")
    })
}
