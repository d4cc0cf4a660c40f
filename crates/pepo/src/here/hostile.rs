//! What a target may send must never write outside of the folder that the user named.
#![allow(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use pepo_wire::{
    Code, Failure,
    agent::{TreeEnd, TreeEntry, TreeKind, TreeLeave},
    tree::{Build, LONGEST_NAME, Part, Tally, walk},
};

use super::*;

fn entry(name: &str, kind: TreeKind) -> Part {
    let name = name.into();
    Part::Entry(TreeEntry {
        name,
        kind: kind.into(),
        mode: 0o6755,
        modified_seconds: -9,
        ..TreeEntry::default()
    })
}

fn link(name: &str, to: &str) -> Part {
    let kind = TreeKind::Link.into();
    Part::Entry(TreeEntry { name: name.into(), kind, link: to.into(), ..TreeEntry::default() })
}

fn evil() -> Part {
    Part::Data(b"evil".to_vec())
}

const ROOT: &str = "";
const LEAVE: Part = Part::Leave(TreeLeave {});

/// Two folders beside each other: the one that is written to, and one with a file that must stay as it is.
struct Beside(tempfile::TempDir);

impl Beside {
    fn new() -> Beside {
        let place = tempfile::tempdir().unwrap();
        for name in ["inside", "outside"] {
            fs::create_dir(place.path().join(name)).unwrap();
        }
        fs::write(place.path().join("outside/file"), "good").unwrap();
        Beside(place)
    }

    fn inside(&self) -> PathBuf {
        self.0.path().join("inside")
    }

    fn put(&self, parts: Vec<Part>) -> Result<Tally, Failure> {
        let mut build = Build::new(Here::at(&self.inside()), Some(b"new".to_vec()));
        parts.into_iter().chain([Part::End(TreeEnd {})]).try_for_each(|part| build.take(part))?;
        build.finish()
    }

    #[track_caller]
    fn assert_untouched(&self) {
        let outside = self.0.path().join("outside");
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "good");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read_dir(self.0.path()).unwrap().count(), 2);
        for one in fs::read_dir(self.inside()).unwrap() {
            assert_eq!(one.unwrap().file_name(), "new");
        }
    }
}

#[test]
fn names_lead_nowhere_else() {
    let long = "n".repeat(LONGEST_NAME + 1);
    for name in ["..", ".", "", "/", "/tmp/x", "../x", "a/b", "a\0b", &long] {
        let beside = Beside::new();
        for kind in [TreeKind::File, TreeKind::Folder, TreeKind::Link] {
            let done = beside.put(vec![entry(ROOT, TreeKind::Folder), entry(name, kind), LEAVE, LEAVE]);
            assert_eq!(done.unwrap_err().code(), Code::StreamBroken, "{name:?}");
            assert_eq!(fs::read_dir(beside.inside().join("new")).unwrap().count(), 0, "{name:?}");
            beside.assert_untouched();
        }
    }
}

#[test]
fn links_are_made_as_they_are_and_never_written_through() {
    for to in ["../../outside", "/", "../../outside/file"] {
        for was_there in [false, true] {
            let beside = Beside::new();
            let mut parts = vec![entry(ROOT, TreeKind::Folder)];
            if was_there {
                fs::create_dir(beside.inside().join("new")).unwrap();
                symlink(to, beside.inside().join("new/x")).unwrap();
            } else {
                parts.push(link("x", to));
            }
            let through =
                [parts.clone(), vec![entry("x", TreeKind::Folder), entry("file", TreeKind::File), evil()]];
            let failure = beside.put(through.concat()).unwrap_err();
            assert_eq!(failure.code(), Code::FileDenied, "{failure}");
            assert_eq!(fs::read_link(beside.inside().join("new/x")).unwrap(), Path::new(to));
            beside.assert_untouched();
            // A file of the link's name takes its place.
            let over = [parts, vec![entry("x", TreeKind::File), evil(), LEAVE]];
            beside.put(over.concat()).unwrap();
            assert!(fs::symlink_metadata(beside.inside().join("new/x")).unwrap().is_file());
            beside.assert_untouched();
        }
    }
}

#[test]
fn a_file_that_breaks_off_leaves_what_was_there() {
    let beside = Beside::new();
    let new = beside.inside().join("new");
    fs::write(&new, "old").unwrap();
    let mut build = Build::new(Here::at(&beside.inside()), Some(b"new".to_vec()));
    build.take(entry(ROOT, TreeKind::File)).unwrap();
    build.take(evil()).unwrap();
    let part =
        fs::read_dir(beside.inside()).unwrap().map(|one| one.unwrap()).find(|one| one.file_name() != "new");
    assert_eq!(part.unwrap().metadata().unwrap().mode() & 0o777, 0o600, "nobody else reads half a secret");
    drop(build);
    assert_eq!(fs::read_to_string(&new).unwrap(), "old");
    beside.assert_untouched();
}

#[test]
fn modes_give_nobody_the_rights_of_another_and_names_may_be_as_long_as_can_be() {
    let beside = Beside::new();
    let long = "ö".repeat(LONGEST_NAME / 2);
    beside.put(vec![entry(ROOT, TreeKind::Folder), entry(&long, TreeKind::File), evil(), LEAVE]).unwrap();
    for path in [beside.inside().join("new"), beside.inside().join("new").join(&long)] {
        let found = fs::metadata(path).unwrap();
        assert_eq!((found.mode() & 0o7777, found.mtime()), (0o755, -9));
    }
}

#[test]
fn folders_pipes_and_devices_are_never_replaced() {
    let beside = Beside::new();
    let new = beside.inside().join("new");
    fs::create_dir_all(new.join("folder")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(new.join("socket")).unwrap();
    for name in ["folder", "socket"] {
        for part in [entry(name, TreeKind::File), link(name, "x")] {
            let done = beside.put(vec![entry(ROOT, TreeKind::Folder), part, LEAVE]);
            assert_eq!(done.unwrap_err().code(), Code::FileDenied, "{name}");
        }
    }
    assert!(new.join("folder").is_dir());
    assert_eq!(fs::read_dir(&new).unwrap().count(), 2);
    drop(socket);
}

#[test]
fn what_is_sent_from_here_comes_back_the_same() {
    let beside = Beside::new();
    let outside = beside.0.path().join("outside");
    fs::create_dir(outside.join("sub")).unwrap();
    symlink("../file", outside.join("sub/link")).unwrap();
    fs::set_permissions(outside.join("file"), fs::Permissions::from_mode(0o640)).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(outside.join("socket")).unwrap();
    let mut build = Build::new(Here::at(&beside.inside()), Some(b"new".to_vec()));
    let sent = walk(node(&outside, false).unwrap(), &mut |part| {
        build.take(part).unwrap();
        true
    });
    let sent = sent.unwrap();
    assert_eq!((sent.files, sent.folders, sent.links, sent.skipped.len(), sent.failed), (1, 2, 1, 1, 0));
    assert_eq!(build.finish().unwrap(), sent);
    let new = beside.inside().join("new");
    assert_eq!(fs::read_to_string(new.join("sub/link")).unwrap(), "good");
    let [was, is] = [&outside, &new].map(|folder| fs::metadata(folder.join("file")).unwrap());
    assert_eq!((was.mode(), was.modified().unwrap()), (is.mode(), is.modified().unwrap()));
    drop(socket);
}
