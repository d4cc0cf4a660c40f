//! `pepo cp`: files out of a target and into it, as `docker cp` copies them, also where the image has neither shell nor tar.

/// Trees as archives, and archives as trees.
mod archive;

use std::{
    cell::Cell,
    fs,
    io::{self, IsTerminal as _, Read as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use pepo_client::Tree;
use pepo_platform::Need;
use pepo_wire::{
    Code, Failure,
    agent::{ReadTreeRequest, Right, StartWriteTree, TreeKind},
    tree::{self, Build, Cut, Existing, Part, Place, Skipped, Tally, Wanted},
};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::{
    arguments::{ProcessArgs, choose},
    config::Context,
    here::{self, Here},
    reach::{self, Reached},
    render::{End as Ended, Outcome, Printer, table::printable},
    session,
};

const EXAMPLES: &str = "\
Examples:
  pepo cp pod/shop:/etc/app.conf .            a file, into this folder
  pepo cp pod/shop/app:/var/log ./logs        a folder, under another name
  pepo cp docker/shop:/data/. backup          what is in a folder, without the folder itself
  pepo cp ./app.conf docker/shop:/tmp/        into a folder of the target
  pepo cp pod/shop:/var/log - | tar -tv       as a tar archive, to standard output
  tar -c conf | pepo cp - pod/shop:/etc       what is in an archive, into a folder
  pepo cp pid/4711:/tmp/dump . --output json

One side is TARGET:PATH, the other a path of this side, or - for an archive; a path with a colon in
it is written as ./a:b.
Paths are as the target's process sees them. Modes and times are kept, links stay links; what is
brought here is yours, what is put there belongs to the process's user, or to whom it belonged before.
Each file is there whole or not at all.";

/// Parts under way before the reader has to wait.
const WINDOW: usize = 8;
/// So many bytes behind an archive's end are read.
const BEHIND: u64 = 1 << 20;
/// How often progress is told.
const TOLD: Duration = Duration::from_millis(100);
/// How many of what was skipped are told to people.
const MOST_TOLD: usize = 20;

/// Arguments of `pepo cp`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Cp {
    /// What is copied: TARGET:PATH, a path of this side, or - for an archive on standard input
    #[arg(value_name = "FROM")]
    from: String,
    /// Where to: a path of this side, TARGET:PATH, or - for an archive on standard output
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
    Archive,
    Here(&'a str),
    There { target: &'a str, path: &'a str },
}

impl<'a> End<'a> {
    fn read(text: &'a str) -> Result<End<'a>, Failure> {
        if text == "-" {
            return Ok(End::Archive);
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
        (End::There { target, path }, End::Archive) => copy.pack(target, path).await,
        (End::Archive, End::There { target, path }) => copy.unpack(target, path).await,
        (End::There { .. }, End::There { .. }) => {
            Err(usage("both sides are a target's", "copy to this side first, then from here").into())
        }
        (End::Here(_) | End::Archive, End::Here(_) | End::Archive) => {
            Err(usage("neither side is a target's", "one is written as TARGET:PATH").into())
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

    async fn read(&self, reached: &Reached, path: &str) -> Result<Tree, Failure> {
        let request = ReadTreeRequest {
            target: Some(reached.target.clone()),
            path: path.to_owned(),
            follow: self.arguments.follow_link,
        };
        reached.agent.read_tree(request).await
    }

    async fn brought(&self, reached: &Reached, path: &str, to: &str) -> Result<Tally, Failure> {
        let mut tree = self.read(reached, path).await?;
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

    /// Out of the target, as an archive.
    async fn pack(&self, target: &str, path: &str) -> Outcome {
        if self.context.printer.json_wanted() {
            let why = "the archive and the report would both go to standard output";
            return Err(usage("an archive and `--output json` do not go together", why).into());
        }
        if io::stdout().is_terminal() {
            let why = "send it to a file or a program, as in `pepo cp TARGET:PATH - > files.tar`";
            return Err(usage("an archive is not written to a terminal", why).into());
        }
        let reached = self.reach(target, Need::Look).await?;
        match self.packed(&reached, path).await {
            Ok(tally) => self.tell(&reached, tally, &[]),
            Err(Ended::Failed(failure)) => Err(self.explained(*failure, &reached).await.into()),
            Err(ended) => Err(ended),
        }
    }

    async fn packed(&self, reached: &Reached, path: &str) -> Result<Tally, Ended> {
        let mut tree = self.read(reached, path).await?;
        let cut = Cut::of(path);
        let name = cut.name.filter(|_| !cut.contents).map(|name| name.as_bytes().to_vec());
        let (parts, mut taken) = mpsc::channel(WINDOW);
        let (printer, mut progress) = (self.context.printer, Progress::new(self.context));
        // Whoever takes the archive may be slow: the stream from the agent must go on being answered.
        let packing = tokio::task::spawn_blocking(move || {
            let closed = Cell::new(None);
            let parts = std::iter::from_fn(|| taken.blocking_recv());
            let mut each = |tally: &Tally| progress.tell(tally.files, tally.bytes);
            let packed = archive::pack(parts, name, Output { printer, closed: &closed }, &mut each);
            packed.map_err(|failure| closed.take().unwrap_or_else(|| failure.into()))
        });
        let come = loop {
            match tree.next().await {
                Ok(part) => {
                    let is_end = matches!(part, Part::End(_));
                    if parts.send(part).await.is_err() || is_end {
                        break Ok(());
                    }
                }
                Err(failure) => break Err(failure),
            }
        };
        drop(parts);
        let packed = packing.await.map_err(|error| {
            Failure::new(Code::Internal, "the archive could not be written").because_of(&error)
        })?;
        come?;
        packed
    }

    /// Into the target.
    async fn put(&self, from: &str, target: &str, path: &str) -> Outcome {
        // Before anything is reached: is there something to copy?
        let source = Path::new(from);
        let follow =
            self.arguments.follow_link || from.ends_with(std::path::is_separator) || ends_in_dot(from);
        let found = here::node(source, follow).map_err(|error| of_here("read", from, &error))?;
        let name = source.file_name().map(|name| name.as_encoded_bytes().to_vec());
        let start = StartWriteTree {
            path: path.to_owned(),
            name: name.unwrap_or_default(),
            is_folder: matches!(found.1, tree::Node::Folder(_)),
            contents: ends_in_dot(from),
            ..StartWriteTree::default()
        };
        self.send(target, start, move |out| tree::walk(found, out), || {}).await
    }

    /// What is in an archive, into the target.
    async fn unpack(&self, target: &str, path: &str) -> Outcome {
        if io::stdin().is_terminal() {
            let why = "it comes from a file or a program, as in `pepo cp - TARGET:PATH < files.tar`";
            return Err(usage("an archive is not read from a terminal", why).into());
        }
        let start = StartWriteTree {
            path: path.to_owned(),
            is_folder: true,
            contents: true,
            ..StartWriteTree::default()
        };
        let unpack = |out: &mut dyn FnMut(Part) -> bool| archive::unpack(io::stdin().lock(), out);
        // Whoever writes it may still be about to write what fills its last block.
        let rest = || drop(io::copy(&mut io::stdin().lock().take(BEHIND), &mut io::sink()));
        self.send(target, start, unpack, rest).await
    }

    /// Sends what `source` tells in parts; `behind` is done when that was told, and not waited for.
    async fn send(
        &self,
        target: &str,
        start: StartWriteTree,
        source: impl FnOnce(&mut dyn FnMut(Part) -> bool) -> Result<Tally, Failure> + Send + 'static,
        behind: impl FnOnce() + Send + 'static,
    ) -> Outcome {
        let reached = self.reach(target, Need::Write).await?;
        let grant = session::grant(self.context, vec![Right::Modify.into()], None);
        let start = StartWriteTree { target: Some(reached.target.clone()), grant: Some(grant), ..start };
        let (parts, taken) = mpsc::channel(WINDOW);
        let (told, mut walked) = oneshot::channel();
        let mut progress = Progress::new(self.context);
        tokio::task::spawn_blocking(move || {
            let (mut files, mut bytes) = (0, 0);
            let done = source(&mut |part| {
                match &part {
                    Part::Data(data) => bytes += data.len() as u64,
                    Part::Entry(_) => files += 1,
                    _ => {}
                }
                progress.tell(files, bytes);
                parts.blocking_send(part).is_ok()
            });
            // Before the parts end, so that it is known when the other side answers that.
            let _ = told.send(done);
            drop(parts);
            behind();
        });
        let written = reached.agent.write_tree(start, taken).await;
        // Whoever writes no more may have said so while the source was still being waited for.
        let walked = if written.is_ok() { walked.await.ok() } else { walked.try_recv().ok() };
        match (written, walked) {
            (Ok(written), Some(Ok(mut tally))) => {
                // What is there, not what was sent.
                (tally.files, tally.folders, tally.links) = (written.files, written.folders, written.links);
                tally.bytes = written.bytes;
                self.tell(&reached, tally, &written.notes)
            }
            // It broke off, and here is why.
            (_, Some(Err(failure))) if failure.code() != Code::StreamBroken => Err(failure.into()),
            (Err(failure), _) | (Ok(_), Some(Err(failure))) => {
                Err(self.explained(failure, &reached).await.into())
            }
            (Ok(_), None) => Err(Failure::new(Code::Internal, "the files could not be read").into()),
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

/// Standard output, to which an archive goes. Why no more is wanted there is kept.
struct Output<'a> {
    printer: Printer,
    closed: &'a Cell<Option<Ended>>,
}

impl io::Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.printer.bytes(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(ended) => {
                self.closed.set(Some(ended));
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
    printer: Printer,
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
            ("-", Ok(End::Archive)),
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
