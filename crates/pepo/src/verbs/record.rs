//! `pepo record`: a profile of a process, without stopping it. The result is on the user's own disk.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use pepo_capture::{By, Capture, FORMATS, Format, Unit, merge, rows};
use pepo_wire::{Code, Failure, agent::StartLook};

use crate::{
    arguments::{Output, To, to_file},
    config::Context,
    duration,
    looking::{Looking, Progress, Scope, listen},
    many::{One, TargetsArgs},
    new_file::NewFile,
    render::{End, Outcome, capture},
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
  pepo record deploy/shop -d 10 -o flame.svg   all replicas, a branch each
  pepo record docker/web docker/db -d 10 --apart -o '{target}.svg'

The format follows the ending of the file: .svg (flame graph), .html (page), .pb.gz (pprof),
.speedscope.json, .firefox.json, .folded (collapsed stacks), .json. `pepo diff` reads them all.";

/// Rows that are shown.
const ROWS: usize = 30;
/// Stands for a target's name in the name of a file.
const TARGET: &str = "{target}";

/// Arguments of `pepo record`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Record {
    /// The targets.
    #[command(flatten)]
    targets: TargetsArgs,
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
    /// Of several targets: a file each. `{target}` in its name is the target's; without, that stands before the ending
    #[arg(long)]
    apart: bool,
    /// Folder on this machine with debug files, or with programs as they were before they were stripped; may be given several times
    #[arg(long, value_name = "DIR")]
    symbols: Vec<PathBuf>,
    /// How samples are taken: by the kernel's timer, by holding running threads for a moment, Python's or Ruby's frames from memory,
    /// Node's own profiler, or in a JVM async-profiler or its own recorder (JFR); without it, the gentlest that works
    #[arg(long, value_name = "HOW", value_parser = ["perf", "hold", "python", "ruby", "node", "async-profiler", "jfr"])]
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
    // What is wrong with it is told before anything is looked for.
    let merged = if arguments.apart {
        can_be_apart(arguments)?;
        None
    } else {
        Some(place(&arguments.to, arguments.format.as_deref())?)
    };
    let mut signals = listen()?;
    let mut targets = arguments.targets.find(context, &mut signals).await?;
    if arguments.duration.is_none() {
        targets.all_at_once("without `-d` all are recorded at the same time, until Ctrl-C")?;
    }
    let progress = Progress::new(targets.all.len(), arguments.duration);
    let recorded = targets.each(|one| record(arguments, one, &progress, context)).await;
    context.printer.progress("");
    let mut failed = targets.failed;
    match merged {
        Some(_) if recorded.is_empty() => {}
        Some(place) => {
            tell_each(&recorded, context);
            write(place, &merge(recorded.iter().map(|(_, capture)| capture)), context)?;
        }
        None => {
            for (own, capture) in recorded {
                let Some(place) = own else { continue };
                match write(place, &capture, context) {
                    Err(End::Failed(failure)) => failed.add(capture.meta.target, *failure),
                    written => written?,
                }
            }
        }
    }
    failed.outcome()
}

/// A target's capture, and where it goes when it does not go with the others.
async fn record(
    arguments: &Record,
    mut one: One,
    progress: &Progress,
    context: &Context,
) -> Result<(Option<Place>, Capture), Failure> {
    let own = arguments
        .apart
        .then(|| place(&apart(&arguments.to, &one.name), arguments.format.as_deref()))
        .transpose()?;
    let reached = one.reach(context).await?;
    let millis = arguments.duration.map_or(0, |time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
    let request = StartLook {
        rate: arguments.rate,
        duration_millis: millis,
        sampler: arguments.sampler.clone().unwrap_or_default(),
        ..StartLook::default()
    };
    let mut looking =
        Looking::begin(&reached, request, arguments.scope, &arguments.symbols, ("record", context)).await?;
    looking.until_the_end(context, &mut one.signals, progress).await?;
    progress.names(context);
    let interrupted = tokio::select! {
        () = looking.name() => false,
        _ = one.signals.next() => true,
    };
    if interrupted {
        looking.collector.builder().meta().notes.push("names were not all looked up: interrupted".to_owned());
    }
    Ok((own, looking.collector.finish()))
}

/// How many samples each of several has brought.
fn tell_each(recorded: &[(Option<Place>, Capture)], context: &Context) {
    if recorded.len() > 1 {
        for (_, capture) in recorded {
            context.printer.say(&format!("{}: {} samples", capture.meta.target, capture.sample_count()));
        }
    }
}

fn write(place: Place, capture: &Capture, context: &Context) -> Outcome {
    let printer = context.printer;
    if capture.samples.is_empty() {
        let why = match capture.meta.unit {
            Unit::CpuNanos => "none of its threads ran meanwhile",
            _ => "nothing of what was looked for happened meanwhile",
        };
        printer.say(&format!("no samples of {}: {why}", capture.meta.target));
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

/// Bytes of several files on one stdout are nobody's format.
fn can_be_apart(arguments: &Record) -> Result<(), Failure> {
    let named = arguments.format.as_deref();
    let to_file = match &arguments.to {
        To::Shape(shape) => *shape != Output::Json && named.is_none(),
        To::File(path) if path.as_os_str() == "-" => false,
        To::File(path) => named.is_some() || of_ending(path).map(|_| true)?,
    };
    if to_file {
        return Ok(());
    }
    Err(Failure::new(Code::Usage, "`--apart` writes files, or tables")
        .hint("name them with `-o`, as in `-o '{target}.svg'`"))
}

/// The place of one target's own capture: its name instead of `{target}`, else before the ending.
fn apart(to: &To, target: &str) -> To {
    let To::File(path) = to else { return to.clone() };
    let target: String = target
        .chars()
        .map(|c| if c.is_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .collect();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = if name.contains(TARGET) {
        name.replace(TARGET, &target)
    } else {
        // The first point of a name begins its ending, as in `a.pb.gz`; one at its very beginning hides it.
        let at = name.char_indices().skip(1).find(|(_, c)| *c == '.').map_or(name.len(), |(at, _)| at);
        format!("{}-{target}{}", &name[..at], &name[at..])
    };
    To::File(path.with_file_name(name))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_apart_have_the_targets_name() {
        for (file, own) in [
            ("{target}.svg", "pod-web-1-app.svg"),
            ("out/a-{target}.html", "out/a-pod-web-1-app.html"),
            ("out.d/flame.svg", "out.d/flame-pod-web-1-app.svg"),
            ("a.pb.gz", "a-pod-web-1-app.pb.gz"),
            (".a.svg", ".a-pod-web-1-app.svg"),
            ("a", "a-pod-web-1-app"),
        ] {
            let to = apart(&To::File(file.into()), "pod/web-1/app");
            assert_eq!(to, To::File(own.into()), "{file}");
        }
    }
}
