//! From files to parts: what is read of a folder may change while it is read, and is bounded.

use std::io::{self, Read as _};

use super::{Attributes, DEEPEST, LONGEST_LINK, Node, PORTION, Part, Source, Tally, failed, is_name};
use crate::{
    Code, Failure,
    agent::{TreeEnd, TreeEntry, TreeKind, TreeLeave, TreeSkipped},
};

/// Tells a tree in parts, from the source itself to its end. What cannot be read below it is skipped; a file that grows meanwhile is cut
/// at its first size. `out` says whether anybody still wants more.
///
/// # Errors
/// The source itself is nothing that is copied, or there is too much of it; [`Code::StreamBroken`] when nobody wants more.
pub fn walk<S: Source>(
    source: (Attributes, Node<S>),
    out: &mut dyn FnMut(Part) -> bool,
) -> Result<Tally, Failure> {
    if let Node::Other(what) = &source.1 {
        return Err(Failure::new(Code::FileNotFound, format!("it is {what}"))
            .because("only files, folders and links are copied"));
    }
    let mut walk = Walk { out, tally: Tally::default(), path: Vec::new() };
    walk.tally.count()?;
    walk.node(&[], source.0, source.1)?;
    walk.say(Part::End(TreeEnd {}))?;
    Ok(walk.tally)
}

struct Walk<'a> {
    out: &'a mut dyn FnMut(Part) -> bool,
    tally: Tally,
    /// Names from the source down to what is open.
    path: Vec<String>,
}

impl Walk<'_> {
    fn say(&mut self, part: Part) -> Result<(), Failure> {
        match (self.out)(part) {
            true => Ok(()),
            false => Err(Failure::new(Code::StreamBroken, "nobody takes the files any more")),
        }
    }

    fn node<S: Source>(&mut self, name: &[u8], attributes: Attributes, node: Node<S>) -> Result<(), Failure> {
        let entry = |kind: TreeKind| TreeEntry {
            name: name.to_vec(),
            kind: kind.into(),
            mode: attributes.mode & Attributes::MODE,
            modified_seconds: attributes.modified.0,
            modified_nanos: attributes.modified.1,
            ..TreeEntry::default()
        };
        match node {
            Node::File(file, size) => {
                self.say(Part::Entry(TreeEntry { size, ..entry(TreeKind::File) }))?;
                self.file(name, file, size)
            }
            Node::Folder(_) if self.path.len() >= DEEPEST => {
                self.skip(name, format!("more than {DEEPEST} folders in each other"), true)
            }
            Node::Folder(folder) => {
                self.say(Part::Entry(entry(TreeKind::Folder)))?;
                self.path.push(String::from_utf8_lossy(name).into_owned());
                self.folder(&folder)?;
                self.path.pop();
                self.tally.folders += 1;
                self.say(Part::Leave(TreeLeave {}))
            }
            Node::Link(to) if to.is_empty() || to.len() > LONGEST_LINK => {
                self.skip(name, "a link that leads nowhere".to_owned(), true)
            }
            Node::Link(link) => {
                self.tally.links += 1;
                self.say(Part::Entry(TreeEntry { link, ..entry(TreeKind::Link) }))
            }
            Node::Other(what) => self.skip(name, what.to_owned(), false),
        }
    }

    fn folder<S: Source>(&mut self, folder: &S) -> Result<(), Failure> {
        let names = match folder.names() {
            Ok(names) => names,
            Err(error) => return self.skip(b"", words(&error), true),
        };
        for name in names {
            self.tally.count()?;
            match name {
                Ok(name) if !is_name(&name) => {
                    self.skip(&name, "no name that can be sent".to_owned(), true)?
                }
                Ok(name) => match folder.open(&name) {
                    Ok((attributes, node)) => self.node(&name, attributes, node)?,
                    // It was removed since its name was read.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => self.skip(&name, words(&error), true)?,
                },
                Err(error) => return self.skip(b"", words(&error), true),
            }
        }
        Ok(())
    }

    fn file(&mut self, name: &[u8], file: impl io::Read, size: u64) -> Result<(), Failure> {
        let mut file = file.take(size);
        loop {
            let mut data = Vec::with_capacity(PORTION.min(usize::try_from(file.limit()).unwrap_or(PORTION)));
            match file.by_ref().take(PORTION as u64).read_to_end(&mut data) {
                Ok(0) => break,
                Ok(count) => {
                    self.tally.bytes += count as u64;
                    self.say(Part::Data(data))?;
                }
                // Half of it was sent as if it were all: nothing that follows can make it good.
                Err(error) => {
                    let name = self.shown(name);
                    return Err(failed(format!("{name} could not be read to its end"), &error));
                }
            }
        }
        self.tally.files += 1;
        Ok(())
    }

    fn skip(&mut self, name: &[u8], why: String, has_failed: bool) -> Result<(), Failure> {
        self.tally.skip(self.shown(name), why.clone(), has_failed);
        let name = name.get(..name.len().min(super::LONGEST_NAME)).unwrap_or_default().to_vec();
        self.say(Part::Skipped(TreeSkipped { name, why, failed: has_failed }))
    }

    fn shown(&self, name: &[u8]) -> String {
        super::shown(self.path.iter().map(String::as_str), name)
    }
}

fn words(error: &io::Error) -> String {
    error.to_string()
}
