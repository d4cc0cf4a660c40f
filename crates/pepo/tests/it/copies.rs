//! Files out of targets and into them: the same body wherever the target is.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Stdio,
};

use pepo_testkit::{Image, Life, Variant, fixtures, spawn, wait};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    session::LIMIT,
    support::{Run, Surroundings},
    terminal::Terminal,
};

/// An image without a shell, with files to be copied.
pub(crate) fn image() -> Image {
    Image::of(&fixtures::c(Variant::debug()))
        .named("pepo.test/copy:1")
        .text("/data/text", "hello")
        .text("/data/sub/deep", &"deep ".repeat(100_000))
        .text("/secret", "outside")
        .link("/data/sub/link", "../../secret")
        .link("/data/absolute", "/etc/passwd")
}

/// Copies to and from one target that is named by the first word; the others belong to every command.
pub(crate) struct Copies<'a> {
    pub(crate) surroundings: &'a Surroundings,
    pub(crate) target: &'a str,
    pub(crate) more: &'a [&'a str],
}

impl Copies<'_> {
    pub(crate) fn there(&self, path: &str) -> String {
        format!("{}:{path}", self.target)
    }

    fn run(&self, from: &str, to: &str) -> Run {
        self.surroundings.run(&[&["cp", from, to], self.more].concat())
    }

    pub(crate) fn out(&self, from: &str, to: &str) -> Run {
        self.run(&self.there(from), to)
    }

    pub(crate) fn put(&self, from: &str, to: &str) -> Run {
        self.run(from, &self.there(to))
    }

    fn here(&self, name: &str) -> PathBuf {
        self.surroundings.path(name)
    }

    #[track_caller]
    fn assert_data(&self, folder: &str) {
        let folder = self.here(folder);
        assert_eq!(fs::read_to_string(folder.join("text")).unwrap(), "hello");
        assert_eq!(fs::read_to_string(folder.join("sub/deep")).unwrap().len(), 500_000);
        assert_eq!(fs::read_link(folder.join("sub/link")).unwrap(), Path::new("../../secret"));
        assert_eq!(fs::read_link(folder.join("absolute")).unwrap(), Path::new("/etc/passwd"));
    }

    /// Out: a file, a folder, what is in it, what a link leads to below the target's own root; and what is not there.
    #[track_caller]
    pub(crate) fn come_out(&self, life: &impl Life) {
        life.wait_started();
        let told =
            self.surroundings.run(&[&["cp", &self.there("/data"), "data", "-o", "json"], self.more].concat());
        let told = told.ok().json();
        assert_eq!(
            (&told["files"], &told["folders"], &told["links"]),
            (&2.into(), &2.into(), &2.into()),
            "{told}"
        );
        self.assert_data("data");
        self.out("/data", "data").ok();
        self.assert_data("data/data");
        self.out("/data/.", "data").ok();
        self.assert_data("data");
        self.out("data/text", ".").ok();
        assert_eq!(fs::read_to_string(self.here("text")).unwrap(), "hello");
        let link = self
            .surroundings
            .run(&[&["cp", "-L", &self.there("/data/absolute"), "users"], self.more].concat());
        link.ok();
        assert!(
            fs::read_to_string(self.here("users"))
                .unwrap()
                .starts_with("root:x:0:0:root:/root:/sbin/nologin\napp")
        );
        let missing = self.out("/no/such", ".").fails(3);
        assert!(missing.stderr.contains("P0108") && missing.stderr.contains("/no"), "{}", missing.stderr);
        let kernel = self.out("/proc/1/environ", ".").fails(3);
        assert!(kernel.stderr.contains("the kernel's own"), "{}", kernel.stderr);
        assert!(!self.here("environ").exists() && !self.here("such").exists());
        for (path, folder, data) in
            [("/data", "archive", "archive/data"), ("/data/.", "contents", "contents")]
        {
            fs::create_dir(self.here(folder)).unwrap();
            let mut tar = self.surroundings.other("tar", &["-x", "-C", folder]);
            let mut tar = tar.stdin(Stdio::piped()).spawn().unwrap();
            let mut copy = self.surroundings.command(&[&["cp", &self.there(path), "-"], self.more].concat());
            Run::of(copy.stdout(tar.stdin.take().unwrap()).output().unwrap()).ok();
            // It holds the other end of the pipe.
            drop(copy);
            assert!(tar.wait().unwrap().success());
            self.assert_data(data);
        }
        life.assert_goes_on();
    }

    /// Into a folder that may be written to, and back: contents, modes, times, links, and who owns it there.
    #[track_caller]
    pub(crate) fn go_in(&self, life: &impl Life, folder: &str) {
        let source = self.here("source");
        fs::create_dir_all(source.join("sub")).unwrap();
        fs::write(source.join("sub/file"), "first").unwrap();
        fs::set_permissions(source.join("sub/file"), fs::Permissions::from_mode(0o751)).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 5_000_000);
        fs::File::open(source.join("sub/file")).unwrap().set_modified(time).unwrap();
        symlink("/secret", source.join("link")).unwrap();
        let to = format!("{folder}/source");
        self.put("source", folder).ok();
        self.out(&to, "back").ok();
        let back = self.here("back");
        assert_eq!(fs::read_to_string(back.join("sub/file")).unwrap(), "first");
        assert_eq!(fs::read_link(back.join("link")).unwrap(), Path::new("/secret"));
        let found = fs::metadata(back.join("sub/file")).unwrap();
        assert_eq!((found.mode() & 0o7777, found.modified().unwrap()), (0o751, time));
        // Over it, and through a link in the target: that stays, and what it leads to is as it was.
        fs::write(self.here("new"), "second").unwrap();
        self.put("new", &format!("{to}/sub/file")).ok();
        self.put("new", &format!("{to}/")).ok();
        self.out(&format!("{to}/."), "again").ok();
        let again = self.here("again");
        let [file, new] = ["sub/file", "new"].map(|name| fs::read_to_string(again.join(name)).unwrap());
        assert_eq!((file.as_str(), new.as_str()), ("second", "second"));
        let missing = self.put("new", &format!("{folder}/no/such")).fails(3);
        assert!(missing.stderr.contains("P0108"), "{}", missing.stderr);
        let no_folder = self.put("source", &format!("{to}/new")).fails(3);
        assert!(no_folder.stderr.contains("is no folder"), "{}", no_folder.stderr);
        self.go_in_as_archive(folder);
        self.assert_nothing_begun(life, &to);
        life.assert_goes_on();
    }

    /// What is in an archive, into a folder that is there and into one that is not.
    #[track_caller]
    fn go_in_as_archive(&self, folder: &str) {
        let packed = |to: &str| {
            let mut tar = self.surroundings.other("tar", &["-c", "-C", "source", "link", "sub/file"]);
            let mut tar = tar.stdout(Stdio::piped()).spawn().unwrap();
            let mut copy = self.surroundings.command(&[&["cp", "-", &self.there(to)], self.more].concat());
            let run = Run::of(copy.stdin(tar.stdout.take().unwrap()).output().unwrap());
            drop(copy);
            (run, tar.wait().unwrap())
        };
        for (to, back) in [("packed", "packed"), ("packed", "packed again")] {
            let to = format!("{folder}/{to}");
            let (run, tar) = packed(&to);
            run.ok();
            assert!(tar.success());
            self.out(&to, back).ok();
            let back = self.here(back);
            assert_eq!(fs::read_to_string(back.join("sub/file")).unwrap(), "first");
            assert_eq!(fs::read_link(back.join("link")).unwrap(), Path::new("/secret"));
            let found = fs::metadata(back.join("sub/file")).unwrap();
            assert_eq!((found.mode() & 0o7777, found.mtime()), (0o751, 1_000_000_000));
        }
        let (run, _) = packed(&format!("{folder}/no/such"));
        assert!(run.fails(3).stderr.contains("P0108"));
    }

    /// No part of a file is left in a folder of the target's.
    #[track_caller]
    fn assert_nothing_begun(&self, life: &impl Life, folder: &str) {
        let folder = PathBuf::from(format!("/proc/{}/root{folder}", life.pid()));
        let mut names: Vec<_> = [&folder, &folder.join("sub")]
            .into_iter()
            .flat_map(|folder| fs::read_dir(folder).unwrap())
            .map(|one| one.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["file", "link", "new", "sub"]);
    }

    /// Who owns what was put there, as this machine numbers it.
    pub(crate) fn owner(&self, life: &impl Life, path: &str) -> (u32, u32) {
        let found = fs::symlink_metadata(format!("/proc/{}/root{path}", life.pid())).unwrap();
        (found.uid(), found.gid())
    }
}

/// More than can be copied before somebody interrupts it; it takes no room where it is.
const LARGE: u64 = 3 << 30;

/// Begins a copy of a large file, ends it by a signal once bytes are being written, and gives what is then in the folder it went to.
fn ended_by(signal: Signal, into_the_target: bool) -> (Option<i32>, Vec<String>) {
    let surroundings = Surroundings::new();
    let target = spawn(&fixtures::c(Variant::debug()), &[]);
    let [from, to] = ["from", "to"].map(|name| surroundings.path(name));
    fs::File::create(&from).unwrap().set_len(LARGE).unwrap();
    fs::create_dir(&to).unwrap();
    let there = |path: &Path| format!("pid/{}:{}", target.pid(), path.display());
    let line = match into_the_target {
        true => [from.display().to_string(), there(&to)],
        false => [there(&from), to.display().to_string()],
    };
    let mut child = surroundings.command(&["cp", &line[0], &line[1]]).spawn().unwrap();
    let is_there = |fd: &Path| {
        let is_in = fs::read_link(fd).is_ok_and(|path| path.starts_with(&to));
        is_in && fs::metadata(fd).is_ok_and(|found| found.len() > 0)
    };
    wait::until("bytes are being written", LIMIT, || {
        let fds = fs::read_dir(format!("/proc/{}/fd", child.id())).map_err(|error| error.to_string())?;
        match fds.filter_map(Result::ok).any(|fd| is_there(&fd.path())) {
            true => Ok(()),
            false => Err(format!("{:?}", child.try_wait())),
        }
    });
    kill_process(Pid::from_child(&child), signal).unwrap();
    let status = child.wait().unwrap().code();
    target.assert_goes_on();
    let left = fs::read_dir(&to).unwrap().map(|one| one.unwrap().file_name().into_string().unwrap());
    (status, left.collect())
}

#[test]
fn an_interrupted_copy_leaves_no_half_file_on_either_side() {
    for into_the_target in [false, true] {
        assert_eq!(ended_by(Signal::INT, into_the_target), (Some(8), Vec::new()), "{into_the_target}");
    }
}

/// What is being written there has no name yet.
#[test]
fn a_killed_command_leaves_no_half_file_in_the_target() {
    assert_eq!(ended_by(Signal::KILL, true), (None, Vec::new()));
}

#[test]
fn a_process_of_this_machine_gives_and_takes_files() {
    let surroundings = Surroundings::new();
    let target = spawn(&fixtures::c(Variant::debug()), &[]);
    let data = surroundings.path("there");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("text"), "hello").unwrap();
    let name = format!("pid/{}", target.pid());
    let copies = Copies { surroundings: &surroundings, target: &name, more: &[] };
    let data = data.display().to_string();
    copies.out(&data, "data").ok();
    assert_eq!(fs::read_to_string(surroundings.path("data/text")).unwrap(), "hello");
    copies.go_in(&target, &data);
    // The flag of every verb names the process, too.
    let by_flag =
        ["cp", "--host-pid", &target.pid().to_string(), &format!(":{data}/text"), "flag"].map(str::to_owned);
    surroundings.run(&by_flag.each_ref().map(String::as_str)).ok();
    assert_eq!(fs::read_to_string(surroundings.path("flag")).unwrap(), "hello");
    // Nothing but files is replaced here.
    let device = copies.out(&format!("{data}/text"), "/dev/null").fails(4);
    assert!(
        device.stderr.contains("a device") && !fs::metadata("/dev/null").unwrap().is_file(),
        "{device:?}"
    );
}

#[test]
fn an_archive_goes_to_no_terminal_and_comes_from_none() {
    let surroundings = Surroundings::new();
    for (line, words) in [
        (["cp", "pid/1:/etc", "-"], "not written to a terminal"),
        (["cp", "-", "pid/1:/tmp"], "not read from a terminal"),
    ] {
        let mut terminal = Terminal::of(surroundings.command(&line), 120);
        assert_eq!(terminal.status(), Some(2));
        assert!(terminal.said_in_all().contains(words));
    }
    let json = surroundings.run(&["cp", "pid/1:/etc", "-", "-o", "json"]).fails(2);
    assert!(json.stderr.contains("standard output"), "{}", json.stderr);
}

#[test]
fn whoever_takes_no_more_of_an_archive_ends_it_quietly() {
    let surroundings = Surroundings::new();
    let target = spawn(&fixtures::c(Variant::debug()), &[]);
    let from = surroundings.path("from");
    fs::File::create(&from).unwrap().set_len(LARGE).unwrap();
    let there = format!("pid/{}:{}", target.pid(), from.display());
    let mut child = surroundings.command(&["cp", &there, "-"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut head = [0; 1024];
    child.stdout.take().unwrap().read_exact(&mut head).unwrap();
    assert!(head.starts_with(b"from\0"));
    let run = Run::to_end(child).ok();
    assert_eq!(run.stderr, "");
    target.assert_goes_on();
}

#[test]
fn an_archive_is_not_waited_for_where_it_cannot_go_and_is_refused_where_it_breaks_off() {
    let surroundings = Surroundings::new();
    let target = spawn(&fixtures::c(Variant::debug()), &[]);
    let there = |path: &str| format!("pid/{}:{}", target.pid(), surroundings.path(path).display());
    let begun = |to: &str| {
        let mut child = surroundings.command(&["cp", "-", to]);
        child.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // Its other end stays open, and says nothing more.
    let mut waiting = begun(&there("no/such"));
    let input = waiting.stdin.take();
    let ended = wait::until("it ends", LIMIT, || waiting.try_wait().unwrap().ok_or("it runs".to_owned()));
    assert_eq!(ended.code(), Some(3));
    drop(input);
    let mut broken = begun(&there("new"));
    drop(broken.stdin.take());
    let run = Run::to_end(broken).fails(4);
    assert!(run.stderr.contains("the archive on standard input breaks off"), "{}", run.stderr);
    target.assert_goes_on();
}
