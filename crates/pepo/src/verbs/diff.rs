//! `pepo diff`: two captures compared, by the share that each function has.

use std::path::{Path, PathBuf};

use clap::Args;
use pepo_capture::{By, Capture, Diff as Difference, FORMATS, Format, Unit, read};
use pepo_wire::{Code, Failure, failure::Exit};

use crate::{
    arguments::{Output, Rows, To, to_file},
    config::Context,
    new_file::NewFile,
    render::{End, Outcome, capture},
    verbs::record::of_ending,
};

const EXAMPLES: &str = "\
Examples:
  pepo diff before.json after.json
  pepo diff before.pb.gz after.pb.gz -o difference.svg
  pepo diff monday.svg today.html --by line
  pepo diff before.folded after.speedscope.json --fail-above 5

It compares any two of the formats that `pepo record` writes; pprof, speedscope, Firefox Profiler
and collapsed stacks whoever wrote them. With `--fail-above` the exit status is 1 when the own share
of a function has grown by more.";

/// Rows that are shown.
const ROWS: usize = 30;
/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 30;

/// Arguments of `pepo diff`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Diff {
    /// The earlier capture
    #[arg(value_name = "BEFORE")]
    before: PathBuf,
    /// The later capture
    #[arg(value_name = "AFTER")]
    after: PathBuf,
    /// Where to: a file (.svg, .folded, .json), or as for every verb: text, wide, json
    #[arg(id = "output", short = 'o', long = "output", value_name = "FILE", default_value = "text", value_parser = to_file)]
    to: To,
    /// What is compared
    #[arg(long, value_enum, default_value_t = Rows::Function, value_name = "WHAT")]
    by: Rows,
    /// Exit with 1 when the own share of one has grown by more than so many points of a hundred
    #[arg(long, value_name = "POINTS")]
    fail_above: Option<f64>,
}

/// Reads both, compares, tells.
pub(crate) fn run(arguments: &Diff, context: &Context) -> Outcome {
    let (before, after) = (load(&arguments.before)?, load(&arguments.after)?);
    can_be_compared(arguments, &before, &after)?;
    let diff = Difference::of(&before, &after, By::from(arguments.by));
    let printer = context.printer;
    match &arguments.to {
        To::Shape(Output::Json) => printer.json(&capture::diff_json(&diff))?,
        To::Shape(Output::Wide) => {
            printer.data(&capture::diff_lines(&diff, usize::MAX, printer.paint).join("\n"))?
        }
        To::Shape(Output::Text) => {
            printer.data(&capture::diff_lines(&diff, ROWS, printer.paint).join("\n"))?
        }
        To::File(path) => write(path, &diff, context)?,
    }
    let Some(points) = arguments.fail_above else { return Ok(()) };
    let grown: Vec<_> = diff.grown_by_more_than(points / 100.0).collect();
    for change in &grown {
        printer.say(&format!("{} has grown by {:.1} points", change.label, change.own_delta() * 100.0));
    }
    if grown.is_empty() { Ok(()) } else { Err(End::Told(Exit::No)) }
}

/// What one of the two does not tell is not a difference.
fn can_be_compared(arguments: &Diff, before: &Capture, after: &Capture) -> Result<(), Failure> {
    let files = [(&arguments.before, before), (&arguments.after, after)];
    if let Some((file, _)) = files.iter().find(|(_, capture)| !capture.tells(By::from(arguments.by))) {
        let what = match arguments.by {
            Rows::Function => "functions",
            Rows::Line => "lines",
            Rows::Thread => "threads",
            Rows::Process => "processes",
        };
        let [before, after] = files.map(|(path, _)| path.display().to_string());
        return Err(Failure::new(Code::Usage, format!("{} tells no {what}", file.display()))
            .try_command("compare functions", ["pepo", "diff", &before, &after]));
    }
    let bytes = files.map(|(_, capture)| capture.meta.unit == Unit::Bytes);
    let times = files.map(|(_, capture)| matches!(capture.meta.unit, Unit::CpuNanos | Unit::WallNanos));
    if bytes[0] && times[1] || bytes[1] && times[0] {
        return Err(Failure::new(Code::Usage, "one tells of memory and the other of time"));
    }
    Ok(())
}

fn write(path: &Path, diff: &Difference, context: &Context) -> Outcome {
    let to_stdout = path.as_os_str() == "-";
    let format = if to_stdout { named("folded")? } else { of_ending(path)? };
    let bytes = format.write_diff(diff).map_err(|error| {
        Failure::new(Code::Usage, error.to_string()).hint("a difference is written as .svg, .folded or .json")
    })?;
    if to_stdout {
        return context.printer.bytes(&bytes);
    }
    NewFile::begin(path)?.finish(&bytes)?;
    context.printer.say(&format!("{}: {} have changed", path.display(), diff.changes.len()));
    Ok(())
}

fn named(name: &str) -> Result<&'static Format, Failure> {
    FORMATS
        .iter()
        .find(|format| format.name == name)
        .ok_or_else(|| Failure::new(Code::Internal, format!("no format is called {name}")))
}

fn load(path: &Path) -> Result<Capture, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::new(Code::FileNotFound, format!("{} cannot be read", path.display())).because_of(&error)
    };
    let size = std::fs::metadata(path).map_err(cannot)?.len();
    if size > LARGEST {
        return Err(Failure::new(
            Code::TooLarge,
            format!("{} has more than {LARGEST} bytes", path.display()),
        ));
    }
    let bytes = std::fs::read(path).map_err(cannot)?;
    read(&bytes).map_err(|error| {
        Failure::new(Code::Usage, format!("{} cannot be compared", path.display()))
            .because_of(&error)
            .try_command("make one that can", ["pepo", "record", "TARGET", "-d", "10", "-o", "before.json"])
    })
}
