//! The start of a container: as an init beside tini and dumb-init, as a way for files beside `curl | tar`.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use pepo_testkit::{children, command};
use pepo_trials::measure::middle;

use crate::timing::timed;

/// How often each init is started.
const STARTS: usize = 500;
/// Names our program; who runs the benchmark built it.
const PROGRAM: &str = "PEPO_ENTRY_BIN";

/// Starts, then archives of several sizes.
pub(crate) fn run(rounds: usize) -> Result<String> {
    let ours = PathBuf::from(env::var_os(PROGRAM).with_context(|| format!("{PROGRAM} is not set"))?);
    Ok(include_str!("entry.md").to_owned() + &inits(&ours)? + &archives(&ours, rounds)?)
}

/// An init's words before a program.
struct Init<'a> {
    name: &'a str,
    words: Vec<&'a str>,
}

fn inits(ours: &Path) -> Result<String> {
    let ours = ours.to_str().context("a path that is text")?;
    let inits = [
        Init { name: "none: the program alone", words: Vec::new() },
        Init { name: "tini", words: vec!["tini", "--"] },
        Init { name: "dumb-init", words: vec!["dumb-init", "--"] },
        Init { name: "pepo-entry", words: vec![ours, "--"] },
    ];
    let mut times = vec![Vec::new(); inits.len()];
    for _ in 0..STARTS {
        for (init, times) in inits.iter().zip(&mut times) {
            let mut command = init.before("true");
            let started = Instant::now();
            ensure!(command.status()?.success(), "{} does not start `true`", init.name);
            times.push(started.elapsed());
        }
    }
    let medians: Vec<_> = times.iter_mut().map(|times| middle(times)).collect();
    let mut out = String::from(
        "| init | start | of tini's | its own share | resident | size |\n|---|---|---|---|---|---|\n",
    );
    for (init, time) in inits.iter().zip(&medians) {
        let ratio = time.as_secs_f64() / medians[1].as_secs_f64();
        let [share, resident, size] = match init.words.first() {
            Some(program) => [
                format!("{:.2} ms", (time.as_secs_f64() - medians[0].as_secs_f64()) * 1e3),
                kib(init.resident()?),
                kib(fs::metadata(found(program)?)?.len() / 1024),
            ],
            None => Default::default(),
        };
        out += &format!("| {} | {time:.2?} | {ratio:.2} | {share} | {resident} | {size} |\n", init.name);
    }
    Ok(out)
}

impl Init<'_> {
    fn before(&self, program: &str) -> Command {
        let words = [&self.words[..], &[program]].concat();
        let mut command = command(words[0]);
        // A subreaper says nothing of not being PID 1.
        command.args(&words[1..]).env("TINI_SUBREAPER", "1").stdin(Stdio::null());
        command
    }

    /// KiB of memory while its program runs.
    fn resident(&self) -> Result<u64> {
        let mut child = self.before("sleep").arg("60").spawn()?;
        // Its program is there when the init has done all that it does before it waits.
        let ready = pepo_testkit::wait::try_until(Duration::from_secs(10), || {
            let started = children(child.id()).first().copied().ok_or(())?;
            let name = fs::read_to_string(format!("/proc/{started}/comm")).unwrap_or_default();
            if name == "sleep\n" { Ok(()) } else { Err(()) }
        });
        let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&child),
            rustix::process::Signal::TERM,
        )?;
        child.wait()?;
        ensure!(ready.is_ok(), "{} starts no program", self.name);
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

fn found(program: &str) -> Result<PathBuf> {
    let paths = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect::<Vec<_>>();
    let mut files = paths.into_iter().map(|folder| folder.join(program));
    files.find(|file| file.is_file()).with_context(|| format!("{program} is not in PATH"))
}

fn kib(count: u64) -> String {
    format!("{count} KiB")
}

/// An archive: so many files of so many bytes.
struct Content {
    name: &'static str,
    files: usize,
    bytes: usize,
    rounds: usize,
}

const CONTENTS: [Content; 4] = [
    Content { name: "10 MB in 100 files", files: 100, bytes: 100_000, rounds: 9 },
    Content { name: "100 MB in 100 files", files: 100, bytes: 1_000_000, rounds: 5 },
    Content { name: "1,000 MB in 100 files", files: 100, bytes: 10_000_000, rounds: 3 },
    Content { name: "100,000 files of 1 KB", files: 100_000, bytes: 1_000, rounds: 3 },
];

fn archives(ours: &Path, rounds: usize) -> Result<String> {
    let mut out = String::from(
        "\n`fstree` of a `.tar.gz` over HTTP from this machine, into an empty root, beside `curl -sf URL | tar -xz` into a folder. \
         Both in memory. \
         Ours reads the whole archive and judges each entry before it puts anything in. MB are those of the files.\n\n\
         | archive | `curl \\| tar` | `fstree` | throughput, of `curl \\| tar`'s |\n|---|---|---|---|\n",
    );
    for content in &CONTENTS {
        // In memory: what a disk does meanwhile would be measured else.
        let folder = tempfile::tempdir_in("/dev/shm")?;
        let archive = folder.path().join("archive.tar.gz");
        content.pack(&archive)?;
        let url = serve(archive)?;
        let (mut theirs, mut own) = (Vec::new(), Vec::new());
        for _ in 0..content.rounds.min(rounds) {
            theirs.push(content.timed(folder.path(), &mut by_tar(&url, folder.path()))?);
            own.push(content.timed(folder.path(), &mut by_fstree(ours, &url, folder.path())?)?);
        }
        let (theirs, own) = (middle(&mut theirs).as_secs_f64(), middle(&mut own).as_secs_f64());
        let megabytes = (content.files * content.bytes) as f64 / 1e6;
        out += &format!(
            "| {} | {:.0} MB/s | {:.0} MB/s | {:.2} |\n",
            content.name,
            megabytes / theirs,
            megabytes / own,
            theirs / own
        );
    }
    Ok(out)
}

/// The folder that is the root of one unpacking.
fn root(folder: &Path) -> PathBuf {
    folder.join("root")
}

fn by_tar(url: &str, folder: &Path) -> Command {
    let mut command = command("sh");
    command.args(["-c", "curl -sf \"$0\" | tar -xz -C \"$1\" --no-same-owner", url]).arg(root(folder));
    command
}

fn by_fstree(ours: &Path, url: &str, folder: &Path) -> Result<Command> {
    let copy = folder.join("pepo-entry");
    if !copy.exists() {
        fs::copy(ours, &copy)?;
    }
    let mut command = command("chroot");
    command.arg(root(folder)).args(["/pepo-entry", "-s", "--", "/pepo-entry", "--version"]);
    command.env("PEPO_DEBUG", format!("fstree={url}#strip=0"));
    Ok(command)
}

impl Content {
    /// Files of letters, each its own, that gzip makes a third smaller.
    fn pack(&self, archive: &Path) -> Result<()> {
        let source = archive.with_file_name("source");
        let mut letters = Letters(1);
        for file in 0..self.files {
            let folder = source.join(format!("opt/{}", file / 1000));
            fs::create_dir_all(&folder)?;
            fs::write(folder.join(format!("{file}.txt")), letters.take(self.bytes))?;
        }
        let status = command("tar").arg("-czf").arg(archive).arg("-C").arg(&source).arg("opt").status()?;
        ensure!(status.success(), "tar cannot pack {}", self.name);
        Ok(fs::remove_dir_all(source)?)
    }

    /// How long `command` takes to put all files into an empty root.
    fn timed(&self, folder: &Path, command: &mut Command) -> Result<Duration> {
        let root = root(folder);
        fs::create_dir(&root)?;
        let program = folder.join("pepo-entry");
        if program.exists() {
            fs::hard_link(&program, root.join("pepo-entry"))?;
        }
        let time = timed(command).with_context(|| self.name)?;
        let last = root.join(format!("opt/{}/{}.txt", (self.files - 1) / 1000, self.files - 1));
        ensure!(
            fs::metadata(&last)?.len() == self.bytes as u64,
            "{}: {} is not whole",
            self.name,
            last.display()
        );
        fs::remove_dir_all(root)?;
        Ok(time)
    }
}

/// Letters by a xorshift generator: the same in each run.
struct Letters(u64);

impl Letters {
    fn take(&mut self, count: usize) -> Vec<u8> {
        let mut letter = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            b'a' + (self.0 % 26) as u8
        };
        (0..count).map(|_| letter()).collect()
    }
}

/// A server of one file, for as long as this process lives. Gives its URL.
fn serve(file: PathBuf) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/archive.tar.gz", listener.local_addr()?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes early is its own matter.
            let _ = answer(stream, &file);
        }
    });
    Ok(url)
}

fn answer(mut stream: TcpStream, file: &Path) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let mut file = fs::File::open(file)?;
    let length = file.metadata()?.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    io::copy(&mut file, &mut stream).map(drop)
}
