//! Many files in new folders: all of them or nothing, by several threads or by one.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use pepo_testkit::{children, wait};
use rustix::process::Signal;

use crate::{
    archive::{Member, tar},
    root::Root,
    support::{LIMIT, run, signal, start},
};

/// So many files in each of several folders, one within the other or beside it; a file's data is its path, some times over.
fn names(each: usize) -> Vec<String> {
    let folders = ["opt/a", "opt/b", "opt/a/deep/er", "srv/new", "opt/b/c"];
    let name = |at: usize| format!("{}/{at}.txt", folders[at % folders.len()]);
    (0..each * folders.len()).map(name).collect()
}

fn data(name: &str) -> String {
    name.repeat(20)
}

fn packed(names: &[String]) -> Vec<u8> {
    let data: Vec<_> = names.iter().map(|name| data(name)).collect();
    let members: Vec<_> = names.iter().zip(&data).map(|(name, data)| Member::file(name, data)).collect();
    tar(&members)
}

/// Folders of the root that only an archive makes, and what waits beside its place.
fn unfinished(root: &Root) -> Vec<PathBuf> {
    let all = root.all().into_keys();
    all.filter(|path| path.to_string_lossy().contains("/.pepo-entry.")).collect()
}

#[test]
fn many_files_are_whole_with_any_number_of_processors() {
    let names = names(700);
    let archive = packed(&names);
    for setup in ["", "taskset -p -c 0 $$ > /dev/null"] {
        let root = Root::new();
        root.write("/archive", &archive);
        let outcome = run(&mut root.command_after(
            setup,
            "fstree=file:///archive#strip=0",
            "find /opt /srv -type f | wc -l",
        ));
        assert_eq!((outcome.code(), outcome.stdout.trim()), (0, "3500"), "{setup}: {outcome:?}");
        for name in &names {
            assert!(root.read(name) == data(name), "{setup}: {name}");
        }
        assert!(outcome.stderr.contains("0 replaced, 3500 new, "), "{setup}: {}", outcome.stderr);
        assert_eq!(unfinished(&root), [] as [PathBuf; 0]);
    }
}

#[test]
fn hard_links_lead_from_and_to_new_folders() {
    let root = Root::new();
    let link =
        |name: &'static str, to: &'static str| Member { kind: b'1', link: to, ..Member::file(name, "") };
    root.write("/etc/there", "old");
    let members = [
        Member::file("opt/new/file", "new"),
        link("opt/new/second", "opt/new/file"),
        link("opt/new/third", "opt/new/second"),
        link("etc/there", "opt/new/third"),
        Member::file("etc/fresh", "fresh"),
        link("srv/fresh", "etc/fresh"),
        link("etc/again", "srv/fresh"),
    ];
    root.write("/archive", tar(&members));
    let outcome = root.run("fstree=file:///archive#strip=0", "echo started");
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "started\n"), "{outcome:?}");
    let file = |path: &str| {
        let metadata = root.at(path).metadata().unwrap();
        (metadata.ino(), metadata.nlink(), root.read(path))
    };
    for path in ["/opt/new/second", "/opt/new/third", "/etc/there"] {
        assert_eq!(file(path), file("/opt/new/file"), "{path}");
    }
    assert_eq!(file("/opt/new/file").1, 4);
    for path in ["/srv/fresh", "/etc/again"] {
        assert_eq!(file(path), file("/etc/fresh"), "{path}");
    }
    assert_eq!((file("/etc/fresh").1, file("/etc/fresh").2.as_str()), (3, "fresh"));
    assert!(outcome.stderr.contains("1 replaced, 6 new, 3 folders made"), "{}", outcome.stderr);
}

#[test]
fn a_folder_has_its_mode_also_when_it_comes_after_its_files() {
    let root = Root::new();
    let folder = |name: &'static str, mode: u32| Member { mode, ..Member::of_kind(name, b'5') };
    let members = [Member::file("opt/late/file", "x"), folder("opt/late/", 0o700), folder("opt/", 0o711)];
    root.write("/archive", tar(&members));
    assert_eq!(root.run("fstree=file:///archive#strip=0", "true").code(), 0);
    for (path, mode) in [("/opt/late", 0o700), ("/opt", 0o711)] {
        let metadata = root.at(path).metadata().unwrap();
        assert_eq!(
            (metadata.permissions().mode() & 0o7777, metadata.mtime()),
            (mode, 1_000_000_000),
            "{path}"
        );
    }
}

/// Two names of the archive are one file where a link of the image makes them so.
#[test]
fn one_file_by_two_paths_is_refused() {
    let root = Root::new();
    fs::create_dir_all(root.at("/usr/lib")).unwrap();
    std::os::unix::fs::symlink("usr/lib", root.at("/lib")).unwrap();
    let paths = ["lib/app/a", "usr/lib/app/in/b", "lib/app/in/b"];
    root.write("/archive", tar(&paths.map(|path| Member::file(path, path))));
    let before = root.all();
    let outcome = root.run("fstree=file:///archive#strip=0", "echo started");
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (6, ""), "{outcome:?}");
    assert!(outcome.stderr.contains("in/b: File exists"), "{}", outcome.stderr);
    assert_eq!(root.all(), before);
}

#[test]
fn where_not_all_has_room_nothing_is_left() {
    let root = Root::new();
    for folder in ["/opt", "/srv"] {
        fs::create_dir(root.at(folder)).unwrap();
    }
    root.write("/archive", packed(&names(700)));
    // The first file system has room for all that goes there, the second has not; then neither has for the number of files.
    for setup in
        ["mount -t tmpfs -o size=1m none $ROOT/srv", "mount -t tmpfs -o nr_inodes=1500 none $ROOT/opt"]
    {
        let command = &mut root.command_after(
            setup,
            "fstree=file:///archive#strip=0,fstree-optional",
            "find /opt /srv -mindepth 1; echo looked",
        );
        let outcome = run(command);
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "looked\n"), "{setup}: {outcome:?}");
        assert!(outcome.stderr.contains("No space left"), "{setup}: {}", outcome.stderr);
    }
}

/// How a signal ended what puts the files.
#[derive(Debug, PartialEq)]
enum Met {
    /// Before anything was in its place.
    Before,
    /// Too late: all is there.
    After,
}

/// Puts many files, and sends a signal as soon as something waits beside its place.
fn interrupted(root: &Root, names: &[String], by: Signal) -> Met {
    let started = start(&mut root.command("fstree=file:///archive#strip=0", "echo started"));
    let seen = wait::try_until(LIMIT, || {
        let waits = |name: &str| name.starts_with(".pepo-entry.");
        let found = fs::read_dir(root.at("/")).unwrap().flatten();
        let mut found = found.filter_map(|entry| entry.file_name().into_string().ok());
        if found.any(|name| waits(&name)) || root.at("/opt").exists() { Ok(()) } else { Err(()) }
    });
    assert!(seen.is_ok(), "nothing comes: {}", started.stderr());
    // unshare, the init, and what puts the files.
    let init = children(started.pid()).first().copied();
    let putting = init.and_then(|init| children(init).first().copied());
    if let Some(pid) = putting
        && Path::new(&format!("/proc/{pid}")).exists()
    {
        signal(pid, by);
    }
    let outcome = started.end();
    let there = names.iter().filter(|name| root.at(name).exists()).count();
    assert!(there == 0 || there == names.len(), "{by:?}: {there} of {} are there: {outcome:?}", names.len());
    if there == 0 { Met::Before } else { Met::After }
}

/// Whenever it is: all is there, or nothing; and of what ends in order nothing is left beside.
#[test]
fn a_signal_leaves_no_half_of_a_folder() {
    let names: Vec<_> = (0..6000).map(|at| format!("opt/{}/{at}.txt", at / 500)).collect();
    let archive = packed(&names);
    for by in [Signal::TERM, Signal::KILL] {
        // The signal may be late on a busy machine; then it is tried again.
        let mut met = Met::After;
        for _ in 0..10 {
            let root = Root::new();
            root.write("/archive", &archive);
            met = interrupted(&root, &names, by);
            if met == Met::Before {
                assert!(!root.at("/opt").exists(), "{by:?}");
                assert!(
                    by == Signal::KILL || unfinished(&root).is_empty(),
                    "{by:?}: {:?}",
                    unfinished(&root)
                );
                // The container is started once more, with what the killed one left.
                let again = root.run("fstree=file:///archive#strip=0", "find /opt -type f | wc -l");
                assert_eq!((again.code(), again.stdout.trim()), (0, "6000"), "{by:?}: {again:?}");
                break;
            }
        }
        assert_eq!(met, Met::Before, "{by:?}: never in time");
    }
}
