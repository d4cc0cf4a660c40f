//! On real files: what is hostile in a folder, and what is hostile in what comes.
#![allow(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    time::{Duration, UNIX_EPOCH},
};

use pepo_wire::{
    Code, Failure,
    agent::{TreeEnd, TreeEntry, TreeKind, TreeLeave},
    tree::{Build, Part, Tally, walk},
};

use super::*;

fn opened(path: &Path) -> Folder {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).unwrap();
    Folder { fd, owner: Arc::default() }
}

fn entry(name: &str, kind: TreeKind) -> Part {
    let name = name.into();
    Part::Entry(TreeEntry {
        name,
        kind: kind.into(),
        mode: 0o640,
        modified_seconds: 7,
        ..TreeEntry::default()
    })
}

fn link(name: &str, to: &str) -> Part {
    let kind = TreeKind::Link.into();
    Part::Entry(TreeEntry { name: name.into(), kind, link: to.into(), ..TreeEntry::default() })
}

const LEAVE: Part = Part::Leave(TreeLeave {});

/// Puts these parts into a folder under the name `new`.
fn put(folder: &Path, parts: Vec<Part>) -> Result<Tally, Failure> {
    let mut build = Build::new(opened(folder), Some(b"new".to_vec()));
    parts.into_iter().chain([Part::End(TreeEnd {})]).try_for_each(|part| build.take(part))?;
    build.finish()
}

fn sent(folder: &Path, name: &str) -> Result<(Vec<Part>, Tally), Failure> {
    let mut parts = Vec::new();
    let tally = walk(opened(folder).open(name.as_bytes()).unwrap(), &mut |part| {
        parts.push(part);
        true
    })?;
    Ok((parts, tally))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_tree_comes_out_with_its_modes_times_and_links() {
    let place = tempfile::tempdir().unwrap();
    let from = place.path().join("from");
    fs::create_dir_all(from.join("sub/empty")).unwrap();
    fs::write(from.join("sub/text"), "hello").unwrap();
    fs::write(from.join("none"), "").unwrap();
    symlink("../../nowhere", from.join("sub/link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, from.join("fifo"), Mode::RUSR).unwrap();
    fs::set_permissions(from.join("sub/text"), Permissions::from_mode(0o4751)).unwrap();
    let time = UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    fs::File::open(from.join("sub/text")).unwrap().set_modified(time).unwrap();
    fs::set_permissions(from.join("sub"), Permissions::from_mode(0o550)).unwrap();
    fs::File::open(from.join("sub")).unwrap().set_modified(time).unwrap();
    let (parts, tally) = sent(place.path(), "from").unwrap();
    assert_eq!((tally.files, tally.folders, tally.links, tally.bytes, tally.skipped.len()), (2, 3, 1, 5, 1));
    let to = place.path().join("to");
    fs::create_dir(&to).unwrap();
    let mut build = Build::new(opened(&to), Some(b"new".to_vec()));
    parts.into_iter().try_for_each(|part| build.take(part)).unwrap();
    assert_eq!(build.finish().unwrap(), tally);
    let new = to.join("new");
    assert_eq!(names(&new), ["none", "sub"]);
    assert_eq!(names(&new.join("sub")), ["empty", "link", "text"]);
    assert_eq!(fs::read_to_string(new.join("sub/text")).unwrap(), "hello");
    assert_eq!(fs::read_link(new.join("sub/link")).unwrap(), Path::new("../../nowhere"));
    let [text, sub] = ["sub/text", "sub"].map(|name| fs::metadata(new.join(name)).unwrap());
    assert_eq!((text.mode() & 0o7777, sub.mode() & 0o7777), (0o751, 0o550));
    assert_eq!((text.modified().unwrap(), sub.modified().unwrap()), (time, time));
    // So that its folder can be removed.
    fs::set_permissions(from.join("sub"), Permissions::from_mode(0o750)).unwrap();
    fs::set_permissions(new.join("sub"), Permissions::from_mode(0o750)).unwrap();
}

/// What was there before the copy, and what the copy itself brings: neither leads it out of its folder.
#[test]
fn links_in_the_way_are_never_written_through() {
    let place = tempfile::tempdir().unwrap();
    let [outside, inside] = ["outside", "inside"].map(|name| place.path().join(name));
    let file = |name: &str| vec![entry(name, TreeKind::File), Part::Data(b"evil".to_vec())];
    for brought in [false, true] {
        for (to, through) in [("../../outside", true), ("../../outside/file", false)] {
            for folder in [&outside, &inside] {
                let _ = fs::remove_dir_all(folder);
                fs::create_dir(folder).unwrap();
            }
            fs::write(outside.join("file"), "good").unwrap();
            let mut parts = vec![entry("", TreeKind::Folder)];
            if brought {
                parts.push(link("x", to));
            } else {
                fs::create_dir(inside.join("new")).unwrap();
                symlink(to, inside.join("new/x")).unwrap();
            }
            if through {
                parts.push(entry("x", TreeKind::Folder));
                parts.extend(file("file"));
                parts.push(LEAVE);
            } else {
                parts.extend(file("x"));
            }
            parts.push(LEAVE);
            let done = put(&inside, parts);
            assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "good", "{brought} {to}");
            assert_eq!(names(&outside), ["file"]);
            if through {
                assert_eq!(done.unwrap_err().code(), Code::FileDenied);
            } else {
                done.unwrap();
                assert!(fs::symlink_metadata(inside.join("new/x")).unwrap().is_file());
            }
        }
    }
}

#[test]
fn what_is_neither_file_nor_link_is_never_replaced() {
    let place = tempfile::tempdir().unwrap();
    let new = place.path().join("new");
    fs::create_dir(&new).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, new.join("fifo"), Mode::RUSR).unwrap();
    fs::create_dir(new.join("folder")).unwrap();
    for name in ["fifo", "folder"] {
        let file =
            vec![entry("", TreeKind::Folder), entry(name, TreeKind::File), Part::Data(b"x".to_vec()), LEAVE];
        assert_eq!(put(place.path(), file).unwrap_err().code(), Code::FileDenied, "{name}");
        assert_eq!(
            put(place.path(), vec![entry("", TreeKind::Folder), link(name, "x"), LEAVE]).unwrap_err().code(),
            Code::FileDenied
        );
        assert!(!fs::symlink_metadata(new.join(name)).unwrap().is_file());
    }
    assert_eq!(names(&new), ["fifo", "folder"]);
}

#[test]
fn a_file_is_replaced_at_once_and_one_that_breaks_off_leaves_the_old() {
    let place = tempfile::tempdir().unwrap();
    let new = place.path().join("new");
    fs::write(&new, "old").unwrap();
    let open = fs::File::open(&new).unwrap();
    let mut build = Build::new(opened(place.path()), Some(b"new".to_vec()));
    build.take(entry("", TreeKind::File)).unwrap();
    build.take(Part::Data(b"half".to_vec())).unwrap();
    assert_eq!((fs::read_to_string(&new).unwrap().as_str(), names(place.path()).len()), ("old", 1));
    drop(build);
    assert_eq!((fs::read_to_string(&new).unwrap().as_str(), names(place.path()).len()), ("old", 1));
    put(place.path(), vec![entry("", TreeKind::File), Part::Data(b"new".to_vec())]).unwrap();
    assert_eq!(fs::read_to_string(&new).unwrap(), "new");
    assert_eq!(io::read_to_string(open).unwrap(), "old");
    assert_eq!((names(place.path()).len(), fs::metadata(&new).unwrap().mode() & 0o7777), (1, 0o640));
}

/// As on file systems that make no files without a name.
#[test]
fn a_part_with_a_name_takes_it_away_or_gives_it_up() {
    let place = tempfile::tempdir().unwrap();
    let folder = opened(place.path());
    let part = || {
        let make = |name: &str| {
            rustix::fs::openat(&folder.fd, name, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY, Mode::RUSR)
        };
        put::testing::named(&folder.fd, make)
    };
    let begun = part();
    assert_eq!(names(place.path()).len(), 1);
    drop(begun);
    assert!(names(place.path()).is_empty());
    pepo_wire::tree::Sink::put(&folder, part(), b"whole", Attributes { mode: 0o600, modified: (1, 2) })
        .unwrap();
    assert_eq!(names(place.path()), ["whole"]);
}

#[test]
fn what_the_kernel_shows_as_files_is_neither_sent_nor_written() {
    let process = Process::own().unwrap();
    for path in ["/proc/self/environ", "/proc/1/maps", "/proc", "/sys/kernel"] {
        let (_, node) = source(&process, path, true).unwrap();
        assert!(matches!(node, Node::Other(_)), "{path}: {node:?}");
    }
    let found = Destination::find(&process, "/proc/new").unwrap();
    assert_eq!(found.open(Arc::default()).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn a_destination_is_found_by_its_links_and_a_source_is_the_link_itself() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    fs::create_dir(place.path().join("dir")).unwrap();
    fs::write(place.path().join("dir/file"), "text").unwrap();
    symlink("dir", place.path().join("to-dir")).unwrap();
    symlink("dir/file", place.path().join("to-file")).unwrap();
    symlink("dir/new", place.path().join("to-new")).unwrap();
    symlink("loop", place.path().join("loop")).unwrap();
    let process = Process::own().unwrap();
    for (name, existing, last) in [
        ("dir", Existing::Folder, None),
        ("dir/", Existing::Folder, None),
        ("dir/..", Existing::Folder, None),
        ("to-dir", Existing::Folder, None),
        ("to-file", Existing::Other, Some("file")),
        ("to-new", Existing::Nothing, Some("new")),
        ("to-dir/file", Existing::Other, Some("file")),
        ("nothing", Existing::Nothing, Some("nothing")),
    ] {
        let found = Destination::find(&process, &at(name)).unwrap();
        assert_eq!((found.existing, found.name.as_deref()), (existing, last), "{name}");
    }
    for name in ["no/such", "dir/file/x", "loop"] {
        let error = Destination::find(&process, &at(name)).unwrap_err();
        assert!(matches!(error, ProcessError::NoFile { .. }), "{name}: {error}");
    }
    for (name, follow, is_link) in [
        ("to-file", false, true),
        ("to-file", true, false),
        ("to-dir/", false, false),
        ("to-dir", false, true),
    ] {
        let (_, node) = source(&process, &at(name), follow).unwrap();
        assert_eq!(matches!(node, Node::Link(_)), is_link, "{name} {follow}");
    }
    assert!(matches!(source(&process, &at("gone"), false), Err(ProcessError::NoFile { .. })));
}

/// Only root may give files away.
#[test]
fn new_files_are_the_given_owners_and_replaced_ones_keep_theirs() {
    if !rustix::process::geteuid().is_root() {
        pepo_testkit::skip("process-permits-root", "only root may give files away");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("old"), "x").unwrap();
    std::os::unix::fs::chown(place.path().join("old"), Some(7), Some(8)).unwrap();
    let owner = Owner::testing(65534, 65533);
    let Folder { fd, .. } = opened(place.path());
    let folder = Folder::to_put(fd, Arc::new(owner)).unwrap();
    let mut build = Build::new(folder, None);
    for part in [
        entry("", TreeKind::Folder),
        entry("old", TreeKind::File),
        entry("file", TreeKind::File),
        link("link", "x"),
        entry("dir", TreeKind::Folder),
        LEAVE,
        LEAVE,
    ] {
        build.take(part).unwrap();
    }
    let owner = |name: &str| {
        let of = fs::symlink_metadata(place.path().join(name)).unwrap();
        (of.uid(), of.gid())
    };
    assert_eq!(
        ["old", "file", "link", "dir"].map(owner),
        [(7, 8), (65534, 65533), (65534, 65533), (65534, 65533)]
    );
}
