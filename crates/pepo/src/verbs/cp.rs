//! `pepo cp`: files out of a target and into it, as `docker cp` copies them, also where the image has neither shell nor tar.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use pepo_platform::Need;
use pepo_wire::{
    Code, Failure,
    agent::{ReadTreeRequest, Right, StartWriteTree, TreeKind},
    tree::{self, Build, Cut, Existing, Part, Place, Skipped, Tally, Wanted},
};
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    arguments::{ProcessArgs, choose},
    config::Context,
    here::{self, Here},
    reach::{self, Reached},
    render::{Outcome, table::printable},
    session,
};

const EXAMPLES: &str = "\
Examples:
  pepo cp pod/shop:/etc/app.conf .            a file, into this folder
  pepo cp pod/shop/app:/var/log ./logs        a folder, under another name
  pepo cp docker/shop:/data/. backup          what is in a folder, without the folder itself
  pepo cp ./app.conf docker/shop:/tmp/        into a folder of the target
  pepo cp pid/4711:/tmp/dump . --output json

One side is TARGET:PATH, the other a path of this side; one with a colon in it is written as ./a:b.
Paths are as the target's process sees them. Modes and times are kept, links stay links; what is
brought here is yours, what is put there belongs to the process's user, or to whom it belonged before.
Each file is there whole or not at all.";

/// Parts under way before the reader has to wait.
const WINDOW: usize = 8;
/// How often progress is told.
const TOLD: Duration = Duration::from_millis(100);
/// How many of what was skipped are told to people.
const MOST_TOLD: usize = 20;

/// Arguments of `pepo cp`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Cp {
    /// What is copied: TARGET:PATH, or a path of this side
    #[arg(value_name = "FROM")]
    from: String,
    /// Where to: a path of this side, or TARGET:PATH
    #[arg(value_name = "TO")]
    to: String,
    /// If FROM is a link, copy what it leads to
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// The process inside.
    #[command(flatten)]
    process: ProcessArgs,
}

/// One end of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End<'a> {
    Here(&'a str),
    There { target: &'a str, path: &'a str },
}

impl<'a> End<'a> {
    fn read(text: &'a str) -> Result<End<'a>, Failure> {
        if text == "-" {
            return Err(usage("`-` is no file", "files are copied as they are, not as an archive"));
        }
        let is_disk = cfg!(windows) && text.as_bytes().get(1) == Some(&b':') && text.is_char_boundary(1);
        match text.split_once(':') {
            Some((target, path)) if !is_disk && !text.starts_with(['.', '/', '~']) => match path {
                "" => Err(usage(
                    &format!("`{text}` names no path"),
                    "behind the colon stands a path of the target's",
                )),
                path => Ok(End::There { target, path }),
            },
            _ if text.is_empty() => Err(usage("a path is empty", "`.` is this folder")),
            _ => Ok(End::Here(text)),
        }
    }
}

fn usage(what: &str, why: &str) -> Failure {
    Failure::new(Code::Usage, what).because(why).try_command("see examples", ["pepo", "help", "cp"])
}

/// Copies one way or the other.
pub(crate) async fn run(arguments: &Cp, context: &Context) -> Outcome {
    let copy = Copy { arguments, context };
    match (End::read(&arguments.from)?, End::read(&arguments.to)?) {
        (End::There { target, path }, End::Here(to)) => copy.bring(target, path, to).await,
        (End::Here(from), End::There { target, path }) => copy.put(from, target, path).await,
        (End::Here(_), End::Here(_)) => {
            Err(usage("neither side is a target's", "one is written as TARGET:PATH").into())
        }
        (End::There { .. }, End::There { .. }) => {
            Err(usage("both sides are a target's", "copy to this side first, then from here").into())
        }
    }
}

struct Copy<'a> {
    arguments: &'a Cp,
    context: &'a Context,
}

impl Copy<'_> {
    async fn reach(&self, target: &str, need: Need) -> Result<Reached, Failure> {
        let target = Some(target).filter(|target| !target.is_empty());
        reach::reach(self.context, &choose(target, &self.arguments.process)?, need).await
    }

    /// Out of the target.
    async fn bring(&self, target: &str, path: &str, to: &str) -> Outcome {
        let reached = self.reach(target, Need::Look).await?;
        match self.brought(&reached, path, to).await {
            Ok(tally) => self.tell(&reached, tally, &[]),
            Err(failure) => Err(self.explained(failure, &reached).await.into()),
        }
    }

    async fn brought(&self, reached: &Reached, path: &str, to: &str) -> Result<Tally, Failure> {
        let request = ReadTreeRequest {
            target: Some(reached.target.clone()),
            path: path.to_owned(),
            follow: self.arguments.follow_link,
        };
        let mut tree = reached.agent.read_tree(request).await?;
        let first = tree.next().await?;
        let is_folder = matches!(&first, Part::Entry(entry) if entry.kind() == TreeKind::Folder);
        let cut = Cut::of(path);
        let mut build = to_here(to, Wanted { is_folder, contents: cut.contents }, cut.name)?;
        let mut progress = Progress::new(self.context);
        let mut next = first;
        loop {
            let is_end = matches!(next, Part::End(_));
            build.take(next)?;
            if is_end {
                break;
            }
            progress.tell(build.tally().files, build.tally().bytes);
            next = tree.next().await?;
        }
        build.finish()
    }

    /// Into the target.
    async fn put(&self, from: &str, target: &str, path: &str) -> Outcome {
        // Before anything is reached: is there something to copy?
        let source = Path::new(from);
        let follow =
            self.arguments.follow_link || from.ends_with(std::path::is_separator) || ends_in_dot(from);
        let found = here::node(source, follow).map_err(|error| of_here("read", from, &error))?;
        let (is_folder, contents) = (matches!(found.1, tree::Node::Folder(_)), ends_in_dot(from));
        let name = source.file_name().map(|name| name.as_encoded_bytes().to_vec());
        let reached = self.reach(target, Need::Write).await?;
        let start = StartWriteTree {
            target: Some(reached.target.clone()),
            grant: Some(session::grant(self.context, vec![Right::Modify.into()], None)),
            path: path.to_owned(),
            name: name.unwrap_or_default(),
            is_folder,
            contents,
        };
        let (parts, taken) = mpsc::channel(WINDOW);
        let mut progress = Progress::new(self.context);
        let walk = tokio::task::spawn_blocking(move || {
            let (mut files, mut bytes) = (0, 0);
            tree::walk(found, &mut |part| {
                match &part {
                    Part::Data(data) => bytes += data.len() as u64,
                    Part::Entry(_) => files += 1,
                    _ => {}
                }
                progress.tell(files, bytes);
                parts.blocking_send(part).is_ok()
            })
        });
        let written = reached.agent.write_tree(start, taken).await;
        let walked = walk.await.map_err(|error| {
            Failure::new(Code::Internal, "the files could not be read").because_of(&error)
        })?;
        match (written, walked) {
            (Ok(written), Ok(mut tally)) => {
                // What is there, not what was sent.
                (tally.files, tally.folders, tally.links) = (written.files, written.folders, written.links);
                tally.bytes = written.bytes;
                self.tell(&reached, tally, &written.notes)
            }
            // It broke off, and here is why.
            (_, Err(failure)) if failure.code() != Code::StreamBroken => Err(failure.into()),
            (Err(failure), _) | (Ok(_), Err(failure)) => Err(self.explained(failure, &reached).await.into()),
        }
    }

    async fn explained(&self, failure: Failure, reached: &Reached) -> Failure {
        self.context.printer.progress("");
        reach::explained(failure, reached, "cp").await
    }

    fn tell(&self, reached: &Reached, tally: Tally, notes: &[String]) -> Outcome {
        let printer = self.context.printer;
        printer.progress("");
        let Cp { from, to, .. } = self.arguments;
        if printer.json_wanted() {
            let skipped = tally.skipped.iter().map(|one| json!({ "path": one.path, "why": one.why }));
            printer.json(&json!({
                "target": reached.name,
                "from": from,
                "to": to,
                "files": tally.files,
                "folders": tally.folders,
                "links": tally.links,
                "bytes": tally.bytes,
                "skipped": skipped.collect::<Vec<_>>(),
                "failed": tally.failed,
                "notes": notes,
            }))?;
        } else {
            printer.say(&format!("{from} → {to}: {}", spoken(&tally)));
            for Skipped { path, why } in tally.skipped.iter().take(MOST_TOLD) {
                printer.say(&printable(&format!("note: not copied: {path}: {why}")));
            }
            for note in notes {
                printer.say(&format!("note: {note}"));
            }
        }
        match tally.failed {
            0 => Ok(()),
            failed => Err(Failure::new(Code::FileDenied, format!("{failed} could not be copied"))
                .because("the others were")
                .into()),
        }
    }
}

/// Does a path of this side mean what is in a folder, not the folder?
fn ends_in_dot(path: &str) -> bool {
    matches!(path.rsplit(std::path::is_separator).find(|part| !part.is_empty()), None | Some("." | ".."))
}

/// Where something is put on this side.
fn to_here(to: &str, wanted: Wanted, name: Option<&str>) -> Result<Build<Here>, Failure> {
    let cannot = |error: std::io::Error| of_here("write to", to, &error);
    let path = Path::new(to);
    let existing = match fs::metadata(path) {
        Ok(there) if there.is_dir() => Existing::Folder,
        Ok(_) => Existing::Other,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Existing::Nothing,
        Err(error) => return Err(cannot(error)),
    };
    let inside = |folder: &Path, name: &[u8]| Build::new(Here::at(folder), Some(name.to_vec()));
    match tree::place(wanted, to, existing)? {
        Place::Contents => Ok(Build::new(Here::at(path), None)),
        Place::Inside => Ok(inside(path, name.unwrap_or_default().as_bytes())),
        Place::Itself => {
            // What a link leads to is replaced, not the link.
            let real = if existing == Existing::Other {
                path.canonicalize().map_err(cannot)?
            } else {
                path.to_owned()
            };
            let folder = real.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_owned);
            if !folder.is_dir() {
                return Err(Failure::new(Code::FileNotFound, format!("{} is no folder", folder.display()))
                    .because(format!("{to} would be in it"))
                    .hint("make it first"));
            }
            let name = real.file_name().unwrap_or_default();
            Ok(inside(&folder, name.as_encoded_bytes()))
        }
    }
}

/// A failure of a path of this side.
fn of_here(act: &str, path: &str, error: &std::io::Error) -> Failure {
    let code = match error.kind() {
        std::io::ErrorKind::NotFound => Code::FileNotFound,
        _ => Code::FileDenied,
    };
    Failure::new(code, format!("cannot {act} {path}")).because(error)
}

/// How far it is, told now and then.
struct Progress {
    printer: crate::render::Printer,
    told: Option<Instant>,
}

impl Progress {
    fn new(context: &Context) -> Progress {
        Progress { printer: context.printer, told: None }
    }

    fn tell(&mut self, files: u64, bytes: u64) {
        if self.told.is_some_and(|told| told.elapsed() < TOLD) {
            return;
        }
        self.told = Some(Instant::now());
        self.printer.progress(&format!("copying: {files} files, {}; Ctrl-C ends it", size(bytes)));
    }
}

fn spoken(tally: &Tally) -> String {
    let some = |count: u64, one: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {one}s")),
    };
    let counts = [some(tally.files, "file"), some(tally.folders, "folder"), some(tally.links, "link")];
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    if counts.is_empty() {
        return "nothing".to_owned();
    }
    format!("{}, {}", counts.join(", "), size(tally.bytes))
}

/// A number of bytes as people say it.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_targets_when_a_colon_says_so() {
        for (text, expected) in [
            ("docker/shop:/etc", Ok(End::There { target: "docker/shop", path: "/etc" })),
            ("pod/shop/app:tmp/x:y", Ok(End::There { target: "pod/shop/app", path: "tmp/x:y" })),
            (":/etc", Ok(End::There { target: "", path: "/etc" })),
            ("./a:b", Ok(End::Here("./a:b"))),
            ("/a:b", Ok(End::Here("/a:b"))),
            (".", Ok(End::Here("."))),
            ("file", Ok(End::Here("file"))),
            ("shop:", Err(Code::Usage)),
            ("-", Err(Code::Usage)),
            ("", Err(Code::Usage)),
        ] {
            assert_eq!(End::read(text).map_err(|failure| failure.code()), expected, "{text}");
        }
    }

    #[test]
    fn a_dot_at_the_end_means_what_is_inside() {
        for (path, expected) in [
            (".", true),
            ("a/.", true),
            ("a/./", true),
            ("..", true),
            ("/", true),
            ("a", false),
            ("a/", false),
            ("a.", false),
        ] {
            assert_eq!(ends_in_dot(path), expected, "{path}");
        }
    }
}
