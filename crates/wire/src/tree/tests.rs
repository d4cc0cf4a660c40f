//! Trees that are well formed come out as they went in; what is none is refused before anything is made of it.
#![allow(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{self, Write},
    rc::Rc,
};

use super::*;
use crate::agent::{TreeEnd, TreeEntry, TreeKind, TreeLeave, TreeSkipped};

/// Paths and what is there: `dir`, `-> TARGET`, or a file's text.
type Made = Rc<RefCell<BTreeMap<String, String>>>;

/// A folder in memory, as a place to put files and as one to take them from.
#[derive(Clone, Debug)]
struct Memory {
    made: Made,
    path: String,
}

impl Memory {
    fn new() -> Memory {
        Memory { made: Rc::default(), path: String::new() }
    }

    fn at(&self, name: &[u8]) -> String {
        format!("{}/{}", self.path, std::str::from_utf8(name).unwrap())
    }
}

struct Bytes(Vec<u8>);

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Memory {
    type File = Bytes;

    fn enter(&self, name: &[u8], _attributes: Attributes) -> io::Result<(Memory, bool)> {
        let path = self.at(name);
        let made = match self.made.borrow_mut().insert(path.clone(), "dir".to_owned()).as_deref() {
            None => true,
            Some("dir") => false,
            Some(_) => return Err(io::ErrorKind::NotADirectory.into()),
        };
        Ok((Memory { made: Rc::clone(&self.made), path }, made))
    }

    fn create(&self, _name: &[u8], _attributes: Attributes, _size: u64) -> io::Result<Bytes> {
        Ok(Bytes(Vec::new()))
    }

    fn put(&self, file: Bytes, name: &[u8], _attributes: Attributes) -> io::Result<()> {
        self.made.borrow_mut().insert(self.at(name), String::from_utf8(file.0).unwrap());
        Ok(())
    }

    fn link(&self, name: &[u8], to: &[u8]) -> io::Result<()> {
        self.made.borrow_mut().insert(self.at(name), format!("-> {}", String::from_utf8_lossy(to)));
        Ok(())
    }

    fn settle(&self, _attributes: Attributes) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Memory {
    type File = io::Cursor<Vec<u8>>;

    fn names(&self) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>>> {
        let inside = format!("{}/", self.path);
        let all: Vec<String> = self.made.borrow().keys().cloned().collect();
        let names = all.into_iter().filter_map(move |path| {
            let name = path.strip_prefix(&inside)?;
            (!name.contains('/')).then(|| Ok(name.as_bytes().to_vec()))
        });
        Ok(names)
    }

    fn open(&self, name: &[u8]) -> io::Result<(Attributes, Node<Memory>)> {
        let path = self.at(name);
        let text = self.made.borrow()[&path].clone();
        let node = match text.strip_prefix("-> ") {
            Some(to) => Node::Link(to.as_bytes().to_vec()),
            None if text == "dir" => Node::Folder(Memory { made: Rc::clone(&self.made), path }),
            None if text == "pipe" => Node::Other("a pipe"),
            None => Node::File(io::Cursor::new(text.clone().into_bytes()), text.len() as u64),
        };
        Ok((Attributes { mode: 0o7644, modified: (5, 6) }, node))
    }
}

fn entry(name: &str, kind: TreeKind) -> Part {
    Part::Entry(TreeEntry { name: name.into(), kind: kind.into(), mode: 0o644, ..TreeEntry::default() })
}

fn link(name: &str, to: &str) -> Part {
    let kind = TreeKind::Link.into();
    Part::Entry(TreeEntry { name: name.into(), kind, link: to.into(), ..TreeEntry::default() })
}

fn data(text: &str) -> Part {
    Part::Data(text.into())
}

const LEAVE: Part = Part::Leave(TreeLeave {});
const END: Part = Part::End(TreeEnd {});

/// What is made of these parts, below the name `new`.
fn built(parts: impl IntoIterator<Item = Part>) -> (Result<Tally, Failure>, BTreeMap<String, String>) {
    let memory = Memory::new();
    let mut build = Build::new(memory.clone(), Some(b"new".to_vec()));
    let done = parts.into_iter().try_for_each(|part| build.take(part)).and_then(|()| build.finish());
    (done, memory.made.take())
}

#[test]
fn what_is_sent_is_what_comes_out() {
    let source = Memory::new();
    for (path, what) in [
        ("/a", "dir"),
        ("/a/empty", "dir"),
        ("/a/b", "dir"),
        ("/a/b/text", "hello"),
        ("/a/none", ""),
        ("/a/l", "-> ../../x"),
    ] {
        source.made.borrow_mut().insert(path.to_owned(), what.to_owned());
    }
    source.made.borrow_mut().insert("/a/big".to_owned(), "x".repeat(3 * PORTION + 1));
    source.made.borrow_mut().insert("/a/fifo".to_owned(), "pipe".to_owned());
    let mut parts = Vec::new();
    let sent = walk(source.open(b"a").unwrap(), &mut |part| {
        if let Part::Entry(entry) = &part {
            assert_eq!((entry.mode, entry.modified_seconds, entry.modified_nanos), (0o644, 5, 6));
        }
        parts.push(part);
        true
    });
    let sent = sent.unwrap();
    let (got, made) = built(parts);
    assert_eq!(got.unwrap(), sent);
    assert_eq!((sent.files, sent.folders, sent.links, sent.failed), (3, 3, 1, 0));
    assert_eq!(sent.skipped, [Skipped { path: "fifo".to_owned(), why: "a pipe".to_owned() }]);
    let mut expected = source.made.take();
    expected.remove("/a/fifo");
    let expected = expected.into_iter().map(|(path, what)| (path.replacen("/a", "/new", 1), what)).collect();
    assert!(made == expected, "{:?}", made.keys());
}

#[test]
fn names_that_would_lead_elsewhere_are_refused_and_nothing_is_made_of_them() {
    let long = "n".repeat(LONGEST_NAME + 1);
    for name in ["..", ".", "", "/", "/etc", "a/b", "../x", "a/..", "a\0b", &long] {
        for kind in [TreeKind::File, TreeKind::Folder, TreeKind::Link, TreeKind::Unspecified] {
            let (done, made) = built([entry("", TreeKind::Folder), entry(name, kind), LEAVE, LEAVE, END]);
            assert_eq!(done.unwrap_err().code(), Code::StreamBroken, "{name:?} {kind:?}");
            assert_eq!(made.keys().collect::<Vec<_>>(), ["/new"], "{name:?} {kind:?}");
        }
    }
}

/// A source names itself nothing: its new name is the receiver's.
#[test]
fn the_source_cannot_choose_its_own_name() {
    let (done, made) = built([entry("../../etc/passwd", TreeKind::File), data("x"), END]);
    done.unwrap();
    assert_eq!(made.into_iter().collect::<Vec<_>>(), [("/new".to_owned(), "x".to_owned())]);
}

#[test]
fn nothing_goes_through_a_link_of_the_tree() {
    let (done, made) = built([
        entry("", TreeKind::Folder),
        link("out", "/etc"),
        entry("out", TreeKind::Folder),
        entry("passwd", TreeKind::File),
        data("x"),
        LEAVE,
        LEAVE,
        END,
    ]);
    let failure = done.unwrap_err();
    assert_eq!(failure.code(), Code::FileDenied);
    assert!(failure.hints[0].text.contains("no link is followed"), "{failure:?}");
    assert!(!made.keys().any(|path| path.contains("passwd")), "{made:?}");
}

#[test]
fn parts_in_an_order_that_cannot_be_are_refused() {
    let file = || entry("f", TreeKind::File);
    let root = || entry("", TreeKind::Folder);
    for parts in [
        vec![],
        vec![END],
        vec![LEAVE],
        vec![data("x")],
        vec![root()],
        vec![root(), END],
        vec![root(), LEAVE],
        vec![root(), LEAVE, LEAVE, END],
        vec![root(), data("x"), LEAVE, END],
        vec![root(), file(), LEAVE, data("x"), END],
        vec![root(), LEAVE, file(), END],
        vec![root(), LEAVE, root(), LEAVE, END],
        vec![root(), LEAVE, END, END],
        vec![root(), LEAVE, END, file()],
        vec![file(), file(), END],
        vec![root(), link("l", ""), LEAVE, END],
        vec![root(), link("l", "a\0b"), LEAVE, END],
        vec![root(), link("l", &"x".repeat(LONGEST_LINK + 1)), LEAVE, END],
        vec![root(), file(), data(&"x".repeat(LARGEST_PORTION + 1)), LEAVE, END],
    ] {
        let told = format!("{:?}", parts.iter().map(|part| format!("{part:.40?}")).collect::<Vec<_>>());
        assert_eq!(built(parts).0.unwrap_err().code(), Code::StreamBroken, "{told}");
    }
}

#[test]
fn a_file_that_breaks_off_is_not_there() {
    let (done, made) = built([entry("", TreeKind::Folder), entry("f", TreeKind::File), data("half")]);
    assert_eq!(done.unwrap_err().code(), Code::StreamBroken);
    assert_eq!(made.keys().collect::<Vec<_>>(), ["/new"]);
}

#[test]
fn depth_and_number_are_bounded_on_both_sides() {
    let down = (0..=DEEPEST).map(|depth| entry(if depth == 0 { "" } else { "d" }, TreeKind::Folder));
    assert_eq!(built(down).0.unwrap_err().code(), Code::TooLarge);
    let source = Memory::new();
    let mut path = String::new();
    for _ in 0..=DEEPEST {
        path += "/d";
        source.made.borrow_mut().insert(path.clone(), "dir".to_owned());
    }
    let sent = walk(source.open(b"d").unwrap(), &mut |_| true).unwrap();
    assert_eq!((sent.folders, sent.failed), (DEEPEST as u64, 1));

    let skipped = |at| {
        let why = if at < 5000 { "w".repeat(9999) } else { String::new() };
        Part::Skipped(TreeSkipped { name: b"s".to_vec(), why, failed: true })
    };
    let many = [entry("", TreeKind::Folder)].into_iter().chain((0..MOST_ENTRIES).map(skipped));
    let memory = Memory::new();
    let mut build = Build::new(memory, Some(b"new".to_vec()));
    let failure = many.map(|part| build.take(part)).find_map(Result::err).unwrap();
    assert_eq!(failure.code(), Code::TooLarge);
    let kept: usize = build.tally().skipped.iter().map(|one| one.why.len()).sum();
    assert!(kept <= 1000 * 1000 && build.tally().failed == MOST_ENTRIES - 1, "{kept}");
}

#[test]
fn a_kind_that_is_not_known_is_left_out_and_told() {
    let (done, made) = built([entry("", TreeKind::Folder), entry("x", TreeKind::Unspecified), LEAVE, END]);
    assert_eq!(done.unwrap().failed, 1);
    assert_eq!(made.len(), 1);
}

#[test]
fn nobody_to_take_it_ends_the_walk() {
    let source = Memory::new();
    source.made.borrow_mut().insert("/a".to_owned(), "text".to_owned());
    let failure = walk(source.open(b"a").unwrap(), &mut |_| false).unwrap_err();
    assert_eq!(failure.code(), Code::StreamBroken);
}

#[test]
fn a_pipe_alone_is_no_source() {
    let source = Memory::new();
    source.made.borrow_mut().insert("/a".to_owned(), "pipe".to_owned());
    let failure = walk(source.open(b"a").unwrap(), &mut |_| true).unwrap_err();
    assert_eq!((failure.code(), failure.what.as_str()), (Code::FileNotFound, "it is a pipe"));
}

#[test]
fn a_source_goes_where_docker_cp_puts_it() {
    use Existing::{Folder, Nothing, Other};
    let place = |is_folder, contents, to, existing| {
        place(Wanted { is_folder, contents }, to, existing).map_err(|failure| failure.code())
    };
    for (is_folder, contents, to, existing, expected) in [
        (false, false, "new", Nothing, Ok(Place::Itself)),
        (false, false, "new/", Nothing, Err(Code::FileNotFound)),
        (false, false, "old", Other, Ok(Place::Itself)),
        (false, false, "old/", Other, Err(Code::FileNotFound)),
        (false, false, "dir", Folder, Ok(Place::Inside)),
        (true, false, "new", Nothing, Ok(Place::Itself)),
        (true, false, "new/", Nothing, Ok(Place::Itself)),
        (true, true, "new", Nothing, Ok(Place::Itself)),
        (true, false, "old", Other, Err(Code::FileNotFound)),
        (true, false, "dir", Folder, Ok(Place::Inside)),
        (true, true, "dir/", Folder, Ok(Place::Contents)),
    ] {
        assert_eq!(
            place(is_folder, contents, to, existing),
            expected,
            "{is_folder} {contents} {to} {existing:?}"
        );
    }
}

#[test]
fn paths_are_cut_before_their_last_name() {
    for (path, folder, name, is_folder, contents) in [
        ("/etc/hosts", "/etc", Some("hosts"), false, false),
        ("etc/hosts", "etc", Some("hosts"), false, false),
        ("/hosts", "", Some("hosts"), false, false),
        ("hosts", "", Some("hosts"), false, false),
        ("/etc/", "", Some("etc"), true, false),
        ("/etc//", "", Some("etc"), true, false),
        ("/etc/.", "", Some("etc"), true, true),
        ("/etc/./", "", Some("etc"), true, true),
        ("/etc/././", "", Some("etc"), true, true),
        ("/a/..", "/a", None, true, true),
        ("/", "", None, true, true),
        (".", "", None, true, true),
        ("", "", None, true, true),
        ("/.", "", None, true, true),
    ] {
        assert_eq!(Cut::of(path), Cut { folder, name, is_folder, contents }, "{path}");
    }
}
