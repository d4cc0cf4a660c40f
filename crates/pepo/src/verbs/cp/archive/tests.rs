//! What is packed comes out as it went in, also for tar itself; what is no whole archive is refused.
#![allow(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
    process::{Output, Stdio},
};

use pepo_wire::{
    Code, Failure,
    agent::{TreeEnd, TreeEntry, TreeKind, TreeLeave},
    tree::{Build, Part, Tally, walk},
};

use super::*;
use crate::here::{Here, node};

const LEAVE: Part = Part::Leave(TreeLeave {});
const END: Part = Part::End(TreeEnd {});

fn entry(name: &str, kind: TreeKind, size: u64) -> Part {
    Part::Entry(TreeEntry { name: name.into(), kind: kind.into(), mode: 0o640, size, ..TreeEntry::default() })
}

fn data(text: &str) -> Part {
    Part::Data(text.into())
}

fn packed(parts: Vec<Part>, name: Option<&str>) -> (Result<Tally, Failure>, Vec<u8>) {
    let mut archive = Vec::new();
    let name = name.map(|name| name.as_bytes().to_vec());
    (pack(parts.into_iter(), name, &mut archive, &mut |_| {}), archive)
}

fn unpacked(archive: &[u8], to: &Path) -> Result<(Tally, Tally), Failure> {
    let mut build = Build::new(Here::at(to), None);
    let mut failed = None;
    let told = unpack(archive, &mut |part| match build.take(part) {
        Ok(()) => true,
        Err(failure) => {
            failed = Some(failure);
            false
        }
    });
    match failed {
        Some(failure) => Err(failure),
        None => Ok((told?, build.finish()?)),
    }
}

/// tar itself, in this folder.
fn tar(words: &[&str], folder: &Path, input: &[u8]) -> Output {
    let mut tar = pepo_testkit::command("tar");
    let mut tar =
        tar.args(words).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    tar.stdin.take().unwrap().write_all(input).unwrap();
    tar.wait_with_output().unwrap()
}

/// A folder with files of many kinds.
fn files(place: &Path) -> std::path::PathBuf {
    let folder = place.join("source");
    let deep = folder.join("d".repeat(120)).join("ö".repeat(120));
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    fs::write(folder.join("text"), "hello").unwrap();
    fs::write(folder.join("none"), "").unwrap();
    fs::write(folder.join("block"), [7; 1024]).unwrap();
    fs::write(deep.join("large"), vec![b'x'; 300_001]).unwrap();
    fs::set_permissions(folder.join("text"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::set_permissions(folder.join("empty"), fs::Permissions::from_mode(0o711)).unwrap();
    symlink("../../etc/passwd", folder.join("link")).unwrap();
    symlink("l".repeat(300), folder.join("long")).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::open(folder.join("text")).unwrap().set_modified(time).unwrap();
    folder
}

/// Paths with mode, time and contents.
fn told(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for one in fs::read_dir(folder).unwrap() {
        let path = one.unwrap().path();
        let found = fs::symlink_metadata(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let what = if found.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if found.is_dir() {
            all.extend(told(&path).iter().map(|inside| format!("{name}/{inside}")));
            format!("{:o}", found.mode())
        } else {
            format!("{:o} {} {:?}", found.mode(), found.mtime(), fs::read(&path).unwrap())
        };
        all.push(format!("{name} {what}"));
    }
    all.sort();
    all
}

#[test]
fn tar_reads_what_is_packed_and_what_it_packs_is_read() {
    let place = tempfile::tempdir().unwrap();
    let source = files(place.path());
    for name in [Some("new"), None] {
        let mut parts = Vec::new();
        let walked = walk(node(&source, false).unwrap(), &mut |part| {
            parts.push(part);
            true
        });
        let (done, archive) = packed(parts, name);
        assert_eq!(done.unwrap(), walked.unwrap());
        let to = tempfile::tempdir().unwrap();
        assert!(tar(&["-xpf", "-"], to.path(), &archive).status.success());
        assert_eq!(told(&to.path().join(name.unwrap_or(""))), told(&source), "{name:?}");
    }
    for kind in ["--format=gnu", "--format=pax", "--format=ustar"] {
        let left_out = if kind == "--format=ustar" { &["--exclude=d*", "--exclude=long"][..] } else { &[] };
        let words = [&["-c", kind], left_out, &["-f", "-", "."]].concat();
        let archive = tar(&words, &source, b"").stdout;
        let (to, alike) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert!(tar(&["-xpf", "-"], alike.path(), &archive).status.success());
        let (told_of, built) = unpacked(&archive, to.path()).unwrap();
        assert_eq!(told(to.path()), told(alike.path()), "{kind}");
        assert_eq!((told_of.failed, built.links), (0, if left_out.is_empty() { 2 } else { 1 }));
    }
}

#[test]
fn folders_that_an_archive_does_not_name_or_names_again_are_made_once() {
    let place = tempfile::tempdir().unwrap();
    let source = files(place.path());
    fs::create_dir(source.join("empty/in")).unwrap();
    fs::write(source.join("empty/in/one"), "1").unwrap();
    let words = ["-cf", "-", "--no-recursion", "empty/in/one", "text", "./empty", "/dev/null"];
    let archive = tar(&words, &source, b"").stdout;
    let to = tempfile::tempdir().unwrap();
    let (told_of, _) = unpacked(&archive, to.path()).unwrap();
    assert_eq!(fs::read_to_string(to.path().join("empty/in/one")).unwrap(), "1");
    assert_eq!(fs::read_to_string(to.path().join("text")).unwrap(), "hello");
    assert_eq!(told_of.failed, 0);
    assert_eq!(
        told_of.skipped.iter().map(|one| one.why.as_str()).collect::<Vec<_>>(),
        ["a device or a pipe"]
    );
}

/// An archive of one file or link by any name, however it is meant.
fn named(name: &str, kind: tar::EntryType) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.as_gnu_mut().unwrap().linkname[..6].copy_from_slice(b"target");
    header.set_cksum();
    [header.as_bytes().to_vec(), vec![0; 1024]].concat()
}

#[test]
fn nothing_is_put_outside_of_the_folder_and_what_is_left_out_is_told() {
    use tar::EntryType::{Fifo, Link, Regular, Symlink};
    for (name, kind, failed) in [
        ("../out", Regular, 1),
        ("a/../../out", Symlink, 1),
        ("hard", Link, 1),
        ("pipe", Fifo, 0),
        ("odd", tar::EntryType::new(b'Z'), 1),
    ] {
        let place = tempfile::tempdir().unwrap();
        let inside = place.path().join("inside");
        fs::create_dir(&inside).unwrap();
        let (tally, _) = unpacked(&named(name, kind), &inside).unwrap();
        assert_eq!((tally.failed, tally.skipped.len()), (failed, 1), "{name}");
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 0, "{name}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "{name}");
    }
    // As tar has it, a slash at the beginning is none.
    let place = tempfile::tempdir().unwrap();
    unpacked(&named("/etc/file", Regular), place.path()).unwrap();
    assert!(place.path().join("etc/file").is_file());
}

#[test]
fn an_archive_that_breaks_off_anywhere_is_not_taken_for_a_whole_one() {
    let place = tempfile::tempdir().unwrap();
    let source = files(place.path());
    let whole = tar(&["-cf", "-", "-b1", "text", "block", "none"], &source, b"").stdout;
    let heads = 3 * 512 + 512 + 1024;
    for length in (0..=heads).step_by(100).chain([512, 1024, 2560, heads]) {
        let to = tempfile::tempdir().unwrap();
        let failure = unpacked(&whole[..length], to.path()).unwrap_err();
        assert!(matches!(failure.code(), Code::FileDenied | Code::Usage), "{length}: {failure:?}");
        assert!(failure.what.contains("standard input"), "{length}: {failure:?}");
    }
    unpacked(&whole[..heads + 512], tempfile::tempdir().unwrap().path()).unwrap();
    for (bytes, word) in [(&b"\x1f\x8b\x08"[..], "gzip -dc"), (b"\x28\xb5\x2f\xfd", "zstd -dc")] {
        let failure = unpacked(bytes, place.path()).unwrap_err();
        assert!(failure.hints[0].text.contains(word), "{failure:?}");
    }
    let failure = unpacked(&[b'x'; 2000], place.path()).unwrap_err();
    assert_eq!(failure.code(), Code::Usage, "{failure:?}");
}

#[test]
fn a_tree_that_breaks_off_makes_an_archive_without_an_end() {
    let to = tempfile::tempdir().unwrap();
    let root = || entry("", TreeKind::Folder, 0);
    for parts in
        [vec![root()], vec![root(), entry("f", TreeKind::File, 9), data("half")], vec![root(), LEAVE]]
    {
        let (done, archive) = packed(parts, Some("new"));
        assert_eq!(done.unwrap_err().code(), Code::StreamBroken);
        assert!(unpacked(&archive, to.path()).unwrap_err().what.contains("breaks off"));
        assert!(!tar(&["-tf", "-"], to.path(), &archive).stdout.is_empty() && !archive.is_empty());
    }
}

#[test]
fn a_file_of_another_size_than_was_said_is_told_or_ends_it() {
    let parts = |text: &str| {
        vec![entry("", TreeKind::Folder, 0), entry("f", TreeKind::File, 600), data(text), LEAVE, END]
    };
    let (done, archive) = packed(parts("short"), Some("new"));
    let tally = done.unwrap();
    assert_eq!((tally.failed, tally.skipped[0].path.as_str()), (1, "new/f"));
    let to = tempfile::tempdir().unwrap();
    unpacked(&archive, to.path()).unwrap();
    let text = fs::read(to.path().join("new/f")).unwrap();
    assert!(text.starts_with(b"short\0") && text.len() == 600);
    let (done, _) = packed(parts(&"x".repeat(601)), Some("new"));
    assert!(done.unwrap_err().what.contains("cannot write f"));
}
