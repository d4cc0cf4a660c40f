//! `pepo core`: the memory and threads of a process as a core file on the user's own disk.

use std::{path::Path, time::Duration};

use clap::{ArgAction, Args};
use pepo_client::CoreSaid;
use pepo_platform::Need;
use pepo_wire::{
    Code, Failure,
    agent::{CoreEnded, CorePlan, Right, StartCore},
};
use serde_json::json;

use super::core_file::CoreFile;
use crate::{
    arguments::{Output, TargetArgs, To, to_file},
    config::Context,
    duration,
    reach::{self, Reached},
    render::Outcome,
    session,
};

const EXAMPLES: &str = "\
Examples:
  pepo core docker/shop -o shop.core
  pepo core docker/shop -o shop.core.zst       compressed; open it after `zstd -d`
  pepo core pid/4711 -o a.core --pause-budget 5s
  pepo core pod/cart-7f9c -o cart.core.zst --no-stop
  pepo core docker/shop --output json -o shop.core

The process stands still while its memory is read, and for how long is told. When the pause budget
is spent before the end, it runs again and there is no file. Open it with `gdb PROGRAM FILE`.";

/// Arguments of `pepo core`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Core {
    /// The target.
    #[command(flatten)]
    target: TargetArgs,
    /// Where to: a file; with the ending .zst it stays compressed. Also, before it, as for every verb: text, wide, json
    #[arg(id = "output", short = 'o', long = "output", value_name = "FILE", value_parser = to_file, action = ArgAction::Append)]
    #[arg(default_value = "text")]
    to: Vec<To>,
    /// The longest the target may stand still, as in 30s, or 0 for ever [default: as its health check allows, else 60s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, conflicts_with = "no_stop")]
    pause_budget: Option<Duration>,
    /// Read it while it runs: the file is then not of one moment
    #[arg(long)]
    no_stop: bool,
    /// All mappings, whatever the process's coredump_filter says
    #[arg(long)]
    all: bool,
}

/// Plans, looks whether there is room, reads.
pub(crate) async fn run(arguments: &Core, context: &Context) -> Outcome {
    let path = path(&arguments.to)?;
    let mut file = CoreFile::begin(path)?;
    let chosen = arguments.target.chosen()?;
    let reached = match arguments.no_stop {
        // A server lets nobody take the memory who may only look.
        true if context.global.server().is_some() => reach::reach(context, &chosen, Need::Stop).await?,
        true => reach::reach(context, &chosen, Need::Look).await?,
        false => {
            let to = path.display().to_string();
            reach::reach_to_stop(context, &chosen, true, &["core", "-o", &to]).await?
        }
    };
    let mut core = match reached.agent.core(request(arguments, &reached, context)).await {
        Ok(core) => core,
        Err(failure) => return Err(reach::explained(failure, &reached, "core").await.into()),
    };
    room(path, &core.plan, file.compressed)?;
    core.accept();
    let mut read = 0;
    let ended = loop {
        match core.next().await {
            Ok(CoreSaid::Piece(piece)) => {
                file.piece(&piece)?;
                read += u64::from(piece.length);
                progress(read, &core.plan, context);
            }
            Ok(CoreSaid::Ended(ended)) => break ended,
            Ok(CoreSaid::Plan(_)) => {}
            Err(failure) => return Err(reach::explained(failure, &reached, "core").await.into()),
        }
    };
    context.printer.progress("");
    let (written, compressed) = (file.written, file.compressed);
    file.finish(ended.file_bytes)?;
    tell(&Told { reached: &reached, path, read, written, compressed, ended: &ended }, arguments, context)
}

/// The one file among what stands after `-o`.
fn path(to: &[To]) -> Result<&Path, Failure> {
    let mut files = to.iter().filter_map(|to| match to {
        To::File(path) if path.as_os_str() != "-" => Some(path),
        _ => None,
    });
    match (files.next(), files.next()) {
        (Some(path), None) => Ok(path),
        _ => Err(Failure::new(Code::Usage, "a core needs one file").hint("name it with `-o FILE`")),
    }
}

fn request(arguments: &Core, reached: &Reached, context: &Context) -> StartCore {
    let budget = arguments.pause_budget.or_else(|| reached.located.health_pause_budget());
    StartCore {
        target: Some(reached.target.clone()),
        grant: Some(session::grant(context, vec![Right::Stop.into()], budget)),
        no_stop: arguments.no_stop,
        all: arguments.all,
    }
}

/// Is there room for it? Compressed it takes a quarter or less as a rule; then a full disk is found while writing.
fn room(path: &Path, plan: &CorePlan, compressed: bool) -> Result<(), Failure> {
    let needed = if compressed { plan.memory_bytes / 4 } else { plan.memory_bytes };
    match free(path) {
        Some(free) if free < needed => {
            Err(Failure::new(Code::TooLarge, format!("there is no room for it at {}", path.display()))
                .because(format!("about {} MiB are needed, {} MiB are free", needed >> 20, free >> 20))
                .hint("choose another place with `-o`"))
        }
        _ => Ok(()),
    }
}

/// Bytes that are free where the file will be; nothing where that is not known, or it is no regular file.
#[cfg(unix)]
fn free(path: &Path) -> Option<u64> {
    if std::fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return None;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let stat = rustix::fs::statvfs(folder.unwrap_or(Path::new("."))).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

#[cfg(not(unix))]
fn free(_path: &Path) -> Option<u64> {
    None
}

fn progress(read: u64, plan: &CorePlan, context: &Context) {
    let of = plan.memory_bytes.max(read);
    context.printer.progress(&format!(
        "reading: {} of about {} MiB; Ctrl-C ends it, and there is no file",
        read >> 20,
        of >> 20
    ));
}

/// What there is to tell at the end.
struct Told<'a> {
    reached: &'a Reached,
    path: &'a Path,
    read: u64,
    written: u64,
    compressed: bool,
    ended: &'a CoreEnded,
}

fn tell(told: &Told<'_>, arguments: &Core, context: &Context) -> Outcome {
    let ended = told.ended;
    let pause = Duration::from_micros(ended.stood_still_micros);
    if arguments.to.contains(&To::Shape(Output::Json)) {
        return context.printer.json(&json!({
            "target": told.reached.name,
            "file": told.path.display().to_string(),
            "compressed": told.compressed,
            "file_bytes": ended.file_bytes,
            "written_bytes": told.written,
            "threads": ended.threads,
            "stopped": !arguments.no_stop,
            "stood_still_micros": ended.stood_still_micros,
            "unreadable_bytes": ended.unreadable_bytes,
            "notes": ended.notes,
        }));
    }
    let still = match arguments.no_stop {
        true => "not stopped".to_owned(),
        false => format!("stood still {}", duration::spoken(pause)),
    };
    let printer = context.printer;
    printer.say(&format!(
        "{}: {} threads, {} MiB of memory in {} MiB; {still}",
        told.path.display(),
        ended.threads,
        told.read >> 20,
        told.written >> 20
    ));
    if ended.unreadable_bytes > 0 {
        printer.say(&format!("note: {} KiB could not be read and are zero", ended.unreadable_bytes >> 10));
    }
    for note in &ended.notes {
        printer.say(&format!("note: {note}"));
    }
    Ok(())
}
